"""The figures of a report, each defined once, as SQL over the store's columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tokenguard import names
from tokenguard.errors import TokenGuardError

NO_VALUE = "(none)"

DIMENSIONS = {
    **{key: key for key in names.ATTRIBUTION_KEYS},
    "model": "coalesce(response_model, request_model)",
    "request_model": "request_model",
    "provider": "provider",
    "operation": "operation",
    "call_site": "code_file || ':' || code_line",
    "day": "strftime('%Y-%m-%d', start_ns / 1000000000, 'unixepoch')",
    "hour": "strftime('%Y-%m-%d %H:00', start_ns / 1000000000, 'unixepoch')",
    "task": "task",
    "outcome": "outcome",
    "error": "error_type",
    "rule": "guard_rule",
    "action": "guard_action",
}
"""What calls can be grouped by, in SQL; any other word is a custom attribution key."""

FIGURES = {
    "calls": "count(*)",
    "input_tokens": "coalesce(sum(input_tokens), 0)",
    "output_tokens": "coalesce(sum(output_tokens), 0)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    # Over the calls that report it: those that do not are unknown, not misses.
    "cache_hit_share": "sum(cache_read_tokens) * 1.0 / sum(iif(cache_read_tokens IS NULL, NULL, input_tokens))",
    # Nothing but calls without a price is not nothing: it is unknown.
    "cost_usd": "iif(count(cost_usd) = 0 AND sum(cost_status = 'unpriced') > 0, NULL, coalesce(sum(cost_usd), 0.0))",
    "estimated_usd": "coalesce(sum(iif(cost_status = 'estimated', cost_usd, 0)), 0.0)",
    "unpriced_calls": "coalesce(sum(cost_status = 'unpriced'), 0)",
    "saved_usd": "coalesce(sum(saved_usd), 0.0)",
    "retries": "coalesce(sum(coalesce(resends, 0) + (retry_attempt IS NOT NULL)), 0)",
    "retry_cost_usd": "coalesce(sum(retry_cost_usd), 0.0)",
    "errors": "coalesce(sum(outcome = 'error'), 0)",
    "abandoned": "coalesce(sum(outcome = 'abandoned'), 0)",
    "blocked": "coalesce(sum(outcome = 'blocked'), 0)",
    "prevented_usd": "coalesce(sum(iif(outcome = 'blocked', prevented_usd, 0)), 0.0)",
    "cost_per_1000_calls_usd": "sum(cost_usd) * 1000.0 / nullif(sum(cost_usd IS NOT NULL), 0)",
}
"""Each with its unit in its name: tokens, USD, a share of 1, or a count. Unknown is null."""


def many(count: int, thing: str) -> str:
    """A count with its noun: `1 call`, `2,000 calls`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


class Row(NamedTuple):
    """One group: its keys, in the order asked for, and its figures by name."""

    keys: tuple[str, ...]
    figures: dict[str, Any]


class TaskRow(NamedTuple):
    """One kind of task: a unit of business work."""

    task: str
    succeeded: int
    failed: int
    cost_usd: float
    cost_per_success_usd: float | None


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    by: tuple[str, ...] = ("feature",)
    since_ns: int = 0
    until_ns: int = 2**63 - 1
    where: tuple[tuple[str, str], ...] = ()
    """Dimensions with the glob that their value must match."""
    sort: str = "cost_usd"
    limit: int | None = None


class Report(NamedTuple):
    """What was found."""

    query: Query
    total: Row
    rows: list[Row]
    more: int
    """Groups that the limit left out."""
    tasks: list[TaskRow]
    unpriced: list[tuple[str, int]]
    """Models without a price, as provider/model, with their calls."""
    first_ns: int | None
    last_ns: int | None


def expression(dimension: str) -> str:
    """The SQL of a dimension."""
    if dimension in DIMENSIONS:
        return DIMENSIONS[dimension]
    if not re.fullmatch(r"[A-Za-z0-9_.\-]+", dimension):
        raise TokenGuardError(
            f"{dimension!r} is no key: use one of {', '.join(DIMENSIONS)}, or a custom attribution key"
        )
    return f"""json_extract(more, '$."tokenguard.attr.{dimension}"')"""


def conditions(query: Query) -> tuple[str, list[Any]]:
    """The WHERE clause of a query, with its values."""
    tests = ["start_ns >= ?", "start_ns < ?"]
    values: list[Any] = [query.since_ns, query.until_ns]
    for dimension, glob in query.where:
        tests.append(f"coalesce({expression(dimension)}, '') GLOB ?")
        values.append(glob)
    return " AND ".join(tests), values


def ask(connection: sqlite3.Connection, query: Query) -> Report:
    """The figures for a query."""
    if query.sort not in FIGURES:
        raise TokenGuardError(f"cannot sort by {query.sort!r}: use one of {', '.join(FIGURES)}")
    where, values = conditions(query)
    figures = ", ".join(f"{sql} AS {name}" for name, sql in FIGURES.items())
    (*total, first, last) = connection.execute(
        f"SELECT {figures}, min(start_ns), max(start_ns) FROM calls WHERE {where}",  # noqa: S608 - our own SQL
        values,
    ).fetchone()
    keys = ", ".join(f"coalesce({expression(dimension)}, '{NO_VALUE}')" for dimension in query.by)
    count = len(query.by)
    found = connection.execute(
        f"SELECT {keys}, {figures} FROM calls WHERE {where} "  # noqa: S608
        f"GROUP BY {', '.join(str(n + 1) for n in range(count))} ORDER BY {query.sort} DESC, calls DESC, 1",
        values,
    ).fetchall()
    rows = [Row(tuple(map(str, row[:count])), dict(zip(FIGURES, row[count:], strict=True))) for row in found]
    kept = rows if query.limit is None else rows[: query.limit]
    return Report(
        query,
        Row((), dict(zip(FIGURES, total, strict=True))),
        kept,
        len(rows) - len(kept),
        _tasks(connection, query),
        connection.execute(
            f"SELECT provider || '/' || {DIMENSIONS['model']}, count(*) FROM calls "  # noqa: S608
            f"WHERE {where} AND cost_status = 'unpriced' GROUP BY 1 ORDER BY 2 DESC",
            values,
        ).fetchall(),
        first,
        last,
    )


def _tasks(connection: sqlite3.Connection, query: Query) -> list[TaskRow]:
    tests = ["start_ns >= ?", "start_ns < ?"]
    values: list[Any] = [query.since_ns, query.until_ns]
    for dimension, glob in query.where:
        if dimension == "task":
            tests.append("name GLOB ?")
        elif dimension in DIMENSIONS and dimension not in names.ATTRIBUTION_KEYS:
            return []  # a task has no model and no call site
        else:
            tests.append(f"""coalesce(json_extract(attribution, '$."{dimension}"'), '') GLOB ?""")
        values.append(glob)
    return [
        TaskRow(*row)
        for row in connection.execute(
            "SELECT name, sum(outcome = 'ok'), sum(outcome <> 'ok'), sum(cost_usd), "  # noqa: S608
            "sum(cost_usd) / nullif(sum(outcome = 'ok'), 0) "
            f"FROM tasks WHERE {' AND '.join(tests)} GROUP BY name ORDER BY 4 DESC",
            values,
        )
    ]


SPAN = re.compile(r"(\d+)(m|h|d|w)")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def moment(text: str, now: datetime) -> int:
    """`24h`, `7d` before now, or a date or time in ISO 8601 (UTC unless it says), as Unix nanoseconds."""
    if span := SPAN.fullmatch(text):
        at = now - int(span[1]) * UNITS[span[2]]
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise TokenGuardError(
                f"{text!r} is no time: use 30m, 24h, 7d or 2w before now, or a date as 2026-11-01"
            ) from None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp() * 10**9)


def wheres(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`feature=support_*` and its like as dimensions and globs."""
    pairs = []
    for text in texts:
        dimension, sign, glob = text.partition("=")
        if not sign or not dimension:
            raise TokenGuardError(f"{text!r} is no condition: write key=glob, as in feature=support_*")
        pairs.append((dimension.strip(), glob))
    return tuple(pairs)
