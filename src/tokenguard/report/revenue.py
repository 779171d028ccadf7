"""What tenants pay, from a file of the user's, and what is left of it after their calls.

```csv
tenant,revenue_usd,date
acme,1200.00,2026-11
beta,40.00,2026-11-03
```

`date` may be left out: then a row is for whatever period is asked for.
"""

from __future__ import annotations

import csv
import math
import time
from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.query import Query
from tokenguard.store.layout import NS_PER_DAY

COLUMNS: Final = ("tenant", "revenue_usd")
DATE: Final = "date"
FIGURES: Final = ("revenue_usd", "margin_usd", "margin_share")
"""What a tenant pays, what is left of it, and its share of 1. Unknown is null."""


class Earned(NamedTuple):
    """What one tenant paid, for one day, for one month, or for any period."""

    tenant: str
    usd: float
    start_ns: int | None = None
    end_ns: int | None = None

    def within(self, start_ns: int, end_ns: int) -> float:
        """USD of the part that falls into a period: as much as of its time does."""
        if self.start_ns is None or self.end_ns is None:
            return self.usd
        common = max(0, min(self.end_ns, end_ns) - max(self.start_ns, start_ns))
        return self.usd * common / (self.end_ns - self.start_ns)


class Revenue(NamedTuple):
    """What tenants paid, row by row, and where that is from."""

    file: Path
    rows: Sequence[Earned]

    def of(self, query: Query, first_ns: int) -> dict[str, float]:
        """USD of a query's period by tenant; without `--since` it begins with the day of the first call.

        A tenant without a row for any part of it is left out.
        """
        start_ns = first_ns // NS_PER_DAY * NS_PER_DAY if query.since_ns is None else query.since_ns
        end_ns = query.until_ns or query.now_ns or time.time_ns()
        paid: dict[str, list[float]] = {}
        for row in self.rows:
            if row.start_ns is None or row.end_ns is None or (row.start_ns < end_ns and row.end_ns > start_ns):
                paid.setdefault(row.tenant, []).append(row.within(start_ns, end_ns))
        return {tenant: math.fsum(amounts) for tenant, amounts in paid.items()}


def stated(query: Query) -> Revenue | None:
    """What tenants pay by the policy's `[finops] revenue`, where a report is of tenants. Raises `TokenGuardError`."""
    if not fits(query):
        return None
    from tokenguard.policy import load  # takes a while

    policy = load()
    if policy.finops.revenue is None:
        return None
    where, _, _ = policy.origins.get("finops.revenue", "").rpartition(":")
    return read(Path(where).parent / policy.finops.revenue)


def read(file: Path) -> Revenue:
    """The rows of a CSV file with the columns `tenant`, `revenue_usd` and, where it has one, `date` (a day or a month).

    Several rows of a tenant add up; one below zero is a refund. Raises `TokenGuardError`.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            return Revenue(file, list(_rows(file, csv.DictReader(text))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TokenGuardError(f"{file}: the revenue cannot be read: {why}; check [finops] revenue") from error


def _rows(file: Path, reader: csv.DictReader[str]) -> Iterator[Earned]:
    columns = reader.fieldnames or []
    if not set(COLUMNS) <= set(columns):
        raise TokenGuardError(
            f"{file}: its columns are {', '.join(columns) or 'none'}; it needs {' and '.join(COLUMNS)}, "
            f"and may have {DATE}"
        )
    for row in reader:
        try:
            yield _earned(row)
        except ValueError as error:
            raise TokenGuardError(f"{file}:{reader.line_num}: {error}") from None


def _earned(row: Mapping[str, str | None]) -> Earned:
    tenant, amount, date = ((row.get(column) or "").strip() for column in (*COLUMNS, DATE))
    if not tenant:
        raise ValueError("it names no tenant")
    try:
        usd = float(amount)
    except ValueError:
        usd = math.nan
    if not math.isfinite(usd):
        raise ValueError(f"revenue_usd is {amount!r}, and not a number of USD such as 1200.00")
    return Earned(tenant, usd, *_time(date)) if date else Earned(tenant, usd)


def _time(date: str) -> tuple[int, int]:
    """The begin and the end of a day or a month, in UTC, as Unix nanoseconds."""
    for form in ("%Y-%m-%d", "%Y-%m"):
        try:
            start = datetime.strptime(date, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        days = 1 if form.endswith("d") else monthrange(start.year, start.month)[1]
        begin = int(start.timestamp()) * 10**9
        return begin, begin + days * NS_PER_DAY
    raise ValueError(f"date is {date!r}, which is not a day (2026-11-03) or a month (2026-11)")


def fits(query: Query) -> bool:
    """Whether a report is of whole tenants: the cost of a part of one says nothing about its margin."""
    return query.by == ("tenant",) and all(key == "tenant" for key, _ in query.where)


def add(paid: Mapping[str, float], groups: Sequence[tuple[tuple[str | None, ...], dict[str, Any]]]) -> None:
    """Add revenue and margin to the figures of each group, by its tenant."""
    for (tenant,), figures in groups:
        usd = None if tenant is None else paid.get(tenant)
        # Of a tenant some of whose calls have no known cost, the margin is not known.
        cost = None if figures["unpriced_calls"] else figures["cost_usd"]
        figures.update(_figures(usd, None if usd is None or cost is None else usd - cost))


def total(groups: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The sums: the revenue that is known, and the margin where that of every group is."""
    known = [figures["revenue_usd"] for figures in groups if figures["revenue_usd"] is not None]
    margins = [figures["margin_usd"] for figures in groups]
    return _figures(
        math.fsum(known) if known else None, math.fsum(margins) if margins and None not in margins else None
    )


def _figures(usd: float | None, margin: float | None) -> dict[str, float | None]:
    part = margin / usd if margin is not None and usd is not None and usd > 0 else None
    return dict(zip(FIGURES, (usd, margin, part), strict=True))
