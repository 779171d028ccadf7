"""What was measured, by day, provider and model, in the kinds that bills have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.lines import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, conditions, expression

_PARTS = {INPUT: "input_usd", OUTPUT: "output_usd", CACHE_READ: "cache_read_usd", CACHE_WRITE: "cache_write_usd"}


class Measured(NamedTuple):
    """The calls of one day to one model."""

    calls: int = 0
    usd: float = 0.0
    """Of those whose price is known; hosted tools are in it."""
    tools_usd: float = 0.0
    estimated_usd: float = 0.0
    """The part of `usd` that is estimated."""
    unpriced: int = 0
    """Answered calls without a known price."""
    tokens: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    parts: dict[str, float] = {}  # noqa: RUF012
    """USD of each kind."""


def measured(records: Records, query: Query, keys: Sequence[str]) -> dict[tuple[str | None, ...], Measured]:
    """The calls that may be on a bill, by some keys of reports: refused ones are on none."""
    dialect = records.dialect
    where, values = conditions(query, dialect)
    tools = f"CAST({dialect.attribute('more', names.COST_TOOLS)} AS DOUBLE PRECISION)"
    sums = (
        "count(*)",
        "sum(cost_usd)",
        f"sum({tools})",
        "sum(cost_usd) FILTER (WHERE cost_status = 'estimated')",
        "count(*) FILTER (WHERE cost_usd IS NULL AND cost_status = 'unpriced')",
        "sum(coalesce(input_tokens, 0) - coalesce(cache_read_tokens, 0) - coalesce(cache_write_tokens, 0))",
        "sum(output_tokens)",
        "sum(cache_read_tokens)",
        "sum(cache_write_tokens)",
        *(f"sum({column})" for column in _PARTS.values()),
    )
    wanted = [*(expression(key, dialect) for key in keys), *sums]
    groups = ", ".join(str(n + 1) for n in range(len(keys)))
    rows = records.rows(
        f"SELECT {', '.join(wanted)} FROM {dialect.calls} WHERE {where} AND outcome <> 'blocked' GROUP BY {groups}",  # noqa: S608
        values,
    )
    return {tuple(row[: len(keys)]): _measured(row[len(keys) :]) for row in rows}


def _measured(row: Sequence[Any]) -> Measured:
    calls, usd, tools, estimated, unpriced, *rest = row
    tokens = {kind: int(count or 0) for kind, count in zip(_PARTS, rest[:4], strict=True)}
    parts = {kind: float(part or 0.0) for kind, part in zip(_PARTS, rest[4:], strict=True)}
    return Measured(calls, usd or 0.0, tools or 0.0, estimated or 0.0, unpriced, tokens, parts)


def both(one: Measured, other: Measured) -> Measured:
    """Two groups together."""
    return Measured(
        one.calls + other.calls,
        one.usd + other.usd,
        one.tools_usd + other.tools_usd,
        one.estimated_usd + other.estimated_usd,
        one.unpriced + other.unpriced,
        {kind: one.tokens.get(kind, 0) + other.tokens.get(kind, 0) for kind in _PARTS},
        {kind: one.parts.get(kind, 0.0) + other.parts.get(kind, 0.0) for kind in _PARTS},
    )
