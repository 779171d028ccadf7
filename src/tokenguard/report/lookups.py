"""Which calls got kept answers, and why the others did not: by rule, result and reason."""

from __future__ import annotations

from typing import Final

from tokenguard.facts import names
from tokenguard.facts.lookups import why
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, attribute, conditions, may_be, newest

LAST_CALLS: Final = 50_000
"""So many of the last calls are looked at: no sum tells this."""


class LookUps(NamedTuple):
    """The calls of one rule that ended alike."""

    rule: str | None
    result: str
    """`hit`, `miss`, `skip` or `shared`."""
    reason: str | None
    calls: int
    cost_usd: float | None
    """What was sent for them all the same."""
    saved_usd: float | None
    why: str
    """The reason in words."""


def lookups(records: Records, query: Query) -> list[LookUps]:
    """What became of the calls that a `[[cache]]` or `[[share]]` applied to: by rule, the most calls first."""
    dialect = records.dialect
    if not may_be(records, f"{attribute(dialect, 'more', names.CACHE_RESULT)} IS NOT NULL"):
        return []
    query = newest(records, query, LAST_CALLS)
    where, values = conditions(query, dialect)
    rule, told, because, spared = (
        attribute(dialect, "more", name)
        for name in (names.CACHE_RULE, names.CACHE_RESULT, names.CACHE_REASON, names.CACHE_SAVED)
    )
    rows = records.rows(
        f"SELECT {rule}, {told}, {because}, count(*), sum(cost_usd), sum({spared}) FROM {dialect.calls} "  # noqa: S608
        f"WHERE {where} AND {told} IS NOT NULL GROUP BY 1, 2, 3",
        values,
    )
    found = [
        LookUps(name, result, reason, calls, usd, saved, why(result, reason))
        for name, result, reason, calls, usd, saved in rows
    ]
    return sorted(found, key=lambda each: (each.rule or "", -each.calls, each.result, each.reason or ""))
