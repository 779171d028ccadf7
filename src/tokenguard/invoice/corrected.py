"""What a cost comes to as it is billed, by the factors that `reconcile` found, where a report is asked for it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.lines import alike
from tokenguard.report.engine import Records
from tokenguard.report.figures import Report
from tokenguard.report.query import conditions, expression

FIGURE: Final = "as_billed_usd"


class Factors(NamedTuple):
    """Billed over measured, by provider and the words of a model's name."""

    of: Mapping[tuple[str, tuple[str, ...]], float]
    file: str
    since: str
    until: str
    """The days of the bills, the last one exclusive."""
    written: float
    """Unix seconds."""

    def factor(self, provider: str | None, model: str | None) -> float | None:
        """What a measured cost is to be multiplied by; `None` where no bill says."""
        return self.of.get((provider or "", alike(model)))


def read(file: Path) -> Factors:
    """The factors in what `tokenguard reconcile --format json` has written. Raises `TokenGuardError`."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        of = {
            (str(row["provider"]), alike(row["model"])): float(row["billed_over_measured"]) for row in said["factors"]
        }
        found = Factors(of, str(file), str(said["since"]), str(said["until"]), file.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenGuardError(
            f"{file}: no factors can be read ({type(error).__name__}: {error}). Write it with "
            "tokenguard reconcile --format json > FILE"
        ) from error
    if not all(math.isfinite(factor) and factor >= 0 for factor in of.values()):
        raise TokenGuardError(f"{file}: a factor is no number. Write it again with tokenguard reconcile --format json")
    return found


def add(records: Records, report: Report, factors: Factors, now: float) -> str:
    """Put the cost as it is billed beside that of each group; returns where it is from, how old it is, and of what."""
    query, dialect = report.query, records.dialect
    where, values = conditions(query, dialect)
    keys = [expression(key, dialect) for key in (*query.by, "provider", "model")]
    groups = ", ".join(str(n + 1) for n in range(len(keys)))
    rows = records.rows(
        f"SELECT {', '.join(keys)}, sum(cost_usd) FROM {dialect.calls} "  # noqa: S608 - our own names
        f"WHERE {where} AND cost_usd IS NOT NULL GROUP BY {groups}",
        values,
    )
    sums: dict[tuple[Any, ...], float] = defaultdict(float)
    known = all_of_it = 0.0
    for *group, provider, model, usd in rows:
        factor = factors.factor(provider, model)
        sums[tuple(group)] += usd * (1.0 if factor is None else factor)
        known += 0.0 if factor is None else usd
        all_of_it += usd
    for row in report.rows:
        row.figures[FIGURE] = sums.get(row.keys)
    report.total.figures[FIGURE] = math.fsum(sums.values()) if sums else None
    days = max(0, round((now - factors.written) / 86_400))
    return (
        f"As billed: the cost times billed over measured, by provider and model, of the bills from {factors.since} to "
        f"{factors.until} in {factors.file}, written {_ago(days)}. "
        f"{dollars(known)} of {dollars(all_of_it)} has such a factor; the rest is as measured"
    )


def _ago(days: int) -> str:
    return "today" if not days else f"{days} day{'' if days == 1 else 's'} ago"
