"""Where spend is going: the month's end at the present rate, and days that stand out against a feature's own past."""

from __future__ import annotations

import calendar
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.measured import measured
from tokenguard.report.query import Query

HISTORY_DAYS: Final = 28
"""The past that a day is held against: four weeks, so that each weekday is in it as often."""
MIN_HISTORY: Final = 7
"""Days of a past below which nothing is usual."""
RATE_DAYS: Final = 7
"""Complete days whose mean is the present rate: each weekday once."""
MIN_RATE_DAYS: Final = 3
SPREADS: Final = 5.0
"""How many times the usual spread (1.4826 times the median absolute deviation, a standard deviation where days are
normal) a day is above the median when it stands out; half as much again as the median at least."""
LEAST_FACTOR: Final = 1.5
LEAST_SHARE: Final = 0.02
"""The part of all the day's spend below which an excess is not worth a line."""
LEAST_USD: Final = 0.01

Days = dict[date, float]


class Outlier(NamedTuple):
    """A day on which a feature cost far more than it usually does."""

    feature: str | None
    day: date
    usd: float
    usual_usd: float
    """The median of its days before."""
    days: int
    """How many days that is of."""


class Trend(NamedTuple):
    """Where it is going. Unknown is `None`."""

    month_usd: float
    """Spent since the first of the month, UTC."""
    forecast_usd: float | None
    """What the month will have cost if its rest goes on as the last complete days did."""
    per_day_usd: float | None
    """The mean of those days."""
    outliers: list[Outlier]


def trend(records: Records, query: Query, now: datetime) -> Trend | None:
    """The trend of a query's calls, whatever its period; `None` where no call is recorded this month."""
    today = now.astimezone(UTC).date()
    first = min(today.replace(day=1), today - timedelta(days=HISTORY_DAYS + 1))
    by_feature = _days(records, query, first)
    total: Days = {}
    for days in by_feature.values():
        for day, usd in days.items():
            total[day] = total.get(day, 0.0) + usd
    if not any(day >= today.replace(day=1) for day in total):
        return None
    month = math.fsum(usd for day, usd in total.items() if day >= today.replace(day=1))
    rate = _rate(total, today)
    left = _days_left(now)
    outliers = [
        outlier
        for feature, days in by_feature.items()
        for outlier in _outliers(feature, days, total, today, min(total))
    ]
    outliers.sort(key=lambda outlier: outlier.usual_usd - outlier.usd)
    return Trend(month, None if rate is None else month + rate * left, rate, outliers)


def _days(records: Records, query: Query, first: date) -> dict[str | None, Days]:
    """What each feature cost, by UTC day."""
    since = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 10**9
    groups = measured(
        records, replace(query, by=("feature", "day"), since_ns=since, until_ns=None), ("priced_usd",)
    ).groups
    found: dict[str | None, Days] = {}
    for (feature, day), group in groups.items():
        found.setdefault(feature, {})[date.fromisoformat(str(day))] = group.measures["priced_usd"] or 0.0
    return found


def _rate(total: Mapping[date, float], today: date) -> float | None:
    """The mean of the last complete days since the first recorded one, idle ones included; `None` where few are."""
    count = min(RATE_DAYS, (today - min(total)).days)
    if count < MIN_RATE_DAYS:
        return None
    return math.fsum(total.get(today - timedelta(days=n), 0.0) for n in range(1, count + 1)) / count


def _days_left(now: datetime) -> float:
    """How much of the month is to come, in days."""
    now = now.astimezone(UTC)
    length = calendar.monthrange(now.year, now.month)[1]
    end = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=length)
    return (end - now) / timedelta(days=1)


def _outliers(
    feature: str | None, days: Days, total: Mapping[date, float], today: date, recorded: date
) -> Iterator[Outlier]:
    """The last complete day and today so far, where they are far above what was usual."""
    begun = max(min(days), recorded)
    for day in (today - timedelta(days=1), today):
        past = [
            days.get(before, 0.0)
            for n in range(1, HISTORY_DAYS + 1)
            if (before := day - timedelta(days=n)) >= begun and before != today
        ]
        usd = days.get(day, 0.0)
        if len(past) < MIN_HISTORY:
            continue
        usual = median(past)
        spread = 1.4826 * median([abs(each - usual) for each in past])
        excess = usd - usual
        if excess > max(
            SPREADS * spread, (LEAST_FACTOR - 1) * usual, LEAST_USD, LEAST_SHARE * total[day] if day in total else 0.0
        ):
            yield Outlier(feature, day, usd, usual, len(past))


def as_facts(found: Trend) -> dict[str, Any]:
    """The trend for programs."""
    return {
        **found._asdict(),
        "outliers": [{**outlier._asdict(), "day": outlier.day.isoformat()} for outlier in found.outliers],
    }


def median(values: Sequence[float]) -> float:
    """The middle one of some values, or what is between the middle two; to import `statistics` takes 3 ms."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
