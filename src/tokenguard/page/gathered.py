"""What the page shows, asked of the records once: figures, series, findings, budgets, calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.budgets import Standing
from tokenguard.report.calls import Call, Repeat, calls, repeats
from tokenguard.report.engine import Records
from tokenguard.report.figures import Report, ask
from tokenguard.report.findings import LAST_CALLS, Finding, find
from tokenguard.report.inputs import Part, parts
from tokenguard.report.lookups import LookUps, lookups
from tokenguard.report.measured import altogether, measured
from tokenguard.report.query import CUSTOM, DIMENSIONS, TIMES, Query, newest
from tokenguard.report.revenue import Revenue
from tokenguard.report.trend import Trend, trend
from tokenguard.store.faults import Fault

TOP: Final = 7
"""Keys that have a colour of their own in the chart; the others are one."""
CAUSE: Final = 0.6
"""The part of a change from which on one version or model is called its cause."""
ROWS: Final = 12
LISTED: Final = 8
LOOKED_AT: Final = 20_000
"""So many of the last calls say where the input goes, and what became of look-ups."""
UNITS: Final = (("minute", timedelta(minutes=1), timedelta(hours=1)), ("hour", timedelta(hours=1), timedelta(hours=50)))
"""What a chart is by, how long that is, and up to which time from the first call to the last; else it is by days."""
MIN_STEPS: Final = 12
"""A chart has so many columns at least, idle ones before the first call if need be."""
NS: Final = 10**9
ROUNDING: Final = 1e-9
"""USD below which what is left of a sum is the rounding of its parts."""


class Series(NamedTuple):
    """Spend over time, by one key."""

    times: list[str]
    """Days, or hours, of UTC, each of the period."""
    keys: list[str | None]
    """The dearest first."""
    usd: dict[str | None, list[float]]
    """Of each of the keys, in the order of `times`."""
    other: list[float]
    """Of all the other keys together."""
    calls: list[int]

    @property
    def totals(self) -> list[float]:
        """Of all keys."""
        return [sum(column) for column in zip(*self.usd.values(), self.other, strict=True)]


class Changed(NamedTuple):
    """What changed most against the period before."""

    feature: str | None
    usd: float
    """The change of its cost."""
    cause: str | None
    """The prompt version or model of it that changed as much."""


@dataclass(frozen=True)
class Page:
    """All that one page shows."""

    source: str
    query: Query
    now: datetime
    report: Report
    models: Report
    series: Series
    findings: Sequence[Finding]
    trend: Trend | None
    changed: Changed | None
    dearest: Sequence[Call]
    slowest: Sequence[Call]
    failed: Sequence[Call]
    repeated: Sequence[Repeat]
    inputs: Sequence[Part]
    """The sections that the input was made of."""
    lookups: Sequence[LookUps] = ()
    """What became of calls that answers are kept or shared for."""
    budgets: Sequence[Standing] = ()
    period: str | None = None
    """The one of `PERIODS` that it is of."""
    live: bool = False
    """Whether it is served, so that links lead somewhere."""
    later: Sequence[str] = field(default=())
    """The parts that take longer, as HTML; a served page fetches them when the others are there."""
    faults: Sequence[Fault] = ()
    """What TokenGuard itself has missed in this time."""

    @property
    def by(self) -> str:
        """The key that it is by."""
        return self.query.by[0]


PERIODS: Final = ("24h", "7d", "30d", "month", "all")


def period(name: str, now: datetime) -> int | None:
    """The beginning of one of `PERIODS`, as Unix nanoseconds: days of UTC, today included; `None` for all there is."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {
        "24h": now - timedelta(hours=24),
        "7d": midnight - timedelta(days=6),
        "30d": midnight - timedelta(days=29),
        "month": midnight.replace(day=1),
    }
    return int(begins[name].timestamp()) * NS if name in begins else None


def gathered(
    records: Records,
    query: Query,
    source: str,
    now: datetime,
    budgets: Sequence[Standing] = (),
    *,
    period: str | None = None,
    live: bool = False,
    later: Sequence[str] = (),
    faults: Sequence[Fault] = (),
    paid: Revenue | None = None,
) -> Page:
    """All the page shows of a query that is by one key. Raises `TokenGuardError` where the query makes no sense.

    With what tenants have `paid`, a page by tenant has their margins.
    """
    query = replace(query, by=query.by[:1], limit=ROWS, sort=None)
    shown = replace(query, by=("feature",) if query.by[0] in TIMES else query.by)
    report = ask(records, shown, paid, reasons=False)
    going = trend(records, query, now)
    listed = replace(query, limit=LISTED)
    return Page(
        source=source,
        query=report.query,
        now=now,
        report=report,
        models=ask(records, replace(query, by=("model",), limit=TOP), reasons=False),
        series=_series(records, report),
        findings=find(records, report, going.outliers if going else ()),
        trend=going,
        changed=None if report.total.figures["change_usd"] is None else _changed(records, query),
        dearest=calls(records, listed, "cost", last=LAST_CALLS),
        slowest=calls(records, listed, "latency", last=LAST_CALLS),
        failed=calls(records, listed, "time", failed=True, last=LAST_CALLS),
        repeated=repeats(records, listed, last=LAST_CALLS),
        inputs=parts(records, replace(newest(records, query, LOOKED_AT), by=("section",))),
        lookups=lookups(records, newest(records, query, LOOKED_AT)),
        budgets=budgets,
        period=period,
        live=live,
        later=later,
        faults=faults,
    )


def _series(records: Records, report: Report) -> Series:
    query, first, last = report.query, report.first_ns, report.last_ns
    if first is None or last is None:
        return Series([], [], {}, [], [])
    lasted = timedelta(microseconds=(last - first) / 1000)
    unit, step = next(((unit, step) for unit, step, most in UNITS if lasted <= most), ("day", timedelta(days=1)))
    key = query.by[0]
    times = _steps(first, last, query.since_ns, unit, step)
    place = {time: n for n, time in enumerate(times)}
    keys = [row.keys[0] for row in report.rows]
    keys = keys[: TOP if len(keys) + report.more > TOP + 1 else TOP + 1]
    usd = {value: [0.0] * len(times) for value in keys}
    other, calls = [0.0] * len(times), [0] * len(times)
    shown = measured(records, replace(query, by=(key, unit), only=tuple(keys)), ("priced_usd",))
    for (value, time), group in shown.groups.items():
        if (n := place.get(str(time))) is not None:
            usd[value][n] = group.measures["priced_usd"] or 0.0
    every = altogether(records, replace(query, by=(unit,)), report.total.figures["calls"], ("calls", "priced_usd"))
    for (time,), group in every.groups.items():
        if (n := place.get(str(time))) is not None:
            calls[n] = group.measures["calls"]
            rest = (group.measures["priced_usd"] or 0.0) - sum(usd[value][n] for value in keys)
            other[n] = rest if len(keys) < len(report.rows) + report.more and rest > ROUNDING else 0.0
    return Series(times, keys, usd, other, calls)


def _steps(first_ns: int, last_ns: int, since_ns: int | None, unit: str, step: timedelta) -> list[str]:
    """The days, hours or minutes from the first to the last, and some before, but none before the period."""
    size = int(step.total_seconds())
    first, last, since = (ns // NS // size for ns in (first_ns, last_ns, since_ns or 0))
    first = min(first, max(since, last - MIN_STEPS + 1))
    return [datetime.fromtimestamp(n * size, UTC).strftime(TIMES[unit]) for n in range(first, last + 1)]


def _changed(records: Records, query: Query) -> Changed | None:
    """The feature whose cost changed most, and the version of its prompt, or its model, that did."""
    before = query.before()
    if before is None:
        return None
    keys = ("feature", "prompt_version", "model")
    parts: dict[tuple[str | None, ...], float] = {}
    for part, sign in ((query, 1), (before, -1)):
        for group, found in measured(records, replace(part, by=keys), ("priced_usd",)).groups.items():
            parts[group] = parts.get(group, 0.0) + sign * (found.measures["priced_usd"] or 0.0)

    def summed(place: int, of: str | None = None) -> dict[str | None, float]:
        sums: dict[str | None, float] = {}
        for group, usd in parts.items():
            if place == 0 or group[0] == of:
                sums[group[place]] = sums.get(group[place], 0.0) + usd
        return sums

    features = summed(0)
    if not features:
        return None
    feature = max(features, key=lambda each: abs(features[each]))
    total = features[feature]
    causes = [
        (usd / total, f"{what} {value}")
        for place, what in ((1, "prompt"), (2, "model"))
        for value, usd in summed(place, feature).items()
        if total and value is not None and usd / total >= CAUSE
    ]
    return Changed(feature, total, max(causes)[1] if causes else None)


def choices(own: Sequence[str] = ()) -> list[str]:
    """The keys that the page can be by."""
    left_out = {*TIMES, "trace", "request", "conversation", "request_model", "action"}
    return [*(key for key in DIMENSIONS if key not in left_out), *(f"{CUSTOM}{key}" for key in own)]
