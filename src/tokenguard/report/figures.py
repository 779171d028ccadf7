"""The figures of a report, each defined once, as SQL over the store's columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError

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
"""What calls can be grouped by, in SQL; any other word is a custom attribution key, also with `CUSTOM` before it."""

CUSTOM = "attr."

CHRONOLOGICAL = ("day", "hour")
"""Dimensions whose groups read best in their own order, and of which a limit keeps the last."""

INDEXED_PART = 8
"""One in so many calls at most is found by its time: to go through the index for more takes longer than to read all."""

_PRICED = "count(cost_usd)"
_UNPRICED = (
    "count(iif(cost_usd IS NULL AND outcome <> 'blocked' AND (cost_status = 'unpriced' OR "
    "input_tokens IS NOT NULL OR output_tokens IS NOT NULL), 1, NULL))"
)
"""Calls that were answered, at a price nobody knows."""

FIGURES = {
    "calls": "count(*)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    # Over the calls that report it: those that do not are unknown, not misses.
    "cache_hit_share": "sum(cache_read_tokens) * 1.0 / sum(iif(cache_read_tokens IS NULL, NULL, input_tokens))",
    "cost_usd": f"iif({_PRICED} = 0 AND {_UNPRICED} > 0, NULL, coalesce(sum(cost_usd), 0.0))",
    "estimated_usd": "coalesce(sum(iif(cost_status = 'estimated', cost_usd, NULL)), 0.0)",
    "estimated_share": "coalesce(sum(iif(cost_status = 'estimated', cost_usd, NULL)), 0.0) / nullif(sum(cost_usd), 0)",
    "unpriced_calls": _UNPRICED,
    "saved_usd": "sum(saved_usd)",
    "retries": "coalesce(sum(coalesce(resends, 0) + (retry_attempt IS NOT NULL)), 0)",
    "resends": "coalesce(sum(resends), 0)",
    "retry_cost_usd": "coalesce(sum(retry_cost_usd), 0.0)",
    "errors": "count(iif(outcome = 'error', 1, NULL))",
    "abandoned": "count(iif(outcome = 'abandoned', 1, NULL))",
    "abandoned_usd": "coalesce(sum(iif(outcome = 'abandoned', cost_usd, NULL)), 0.0)",
    "blocked": "count(iif(outcome = 'blocked', 1, NULL))",
    "prevented_usd": "coalesce(sum(iif(outcome = 'blocked', prevented_usd, NULL)), 0.0)",
    "generations": "count(iif(operation <> 'embeddings' AND outcome <> 'blocked', 1, NULL))",
    "uncapped": "count(iif(max_tokens IS NULL AND operation <> 'embeddings' AND outcome <> 'blocked', 1, NULL))",
    "uncapped_usd": "coalesce(sum(iif(max_tokens IS NULL AND operation <> 'embeddings', cost_usd, NULL)), 0.0)",
    "cost_per_1000_calls_usd": f"sum(cost_usd) * 1000.0 / nullif({_PRICED}, 0)",
}
"""Each with its unit in its name: tokens, USD, a share of 1, or a count. Unknown is null.

`cost_per_1000_calls_usd` is over the calls whose cost is known; `cost_share`, the part of the total cost, is added to
these once the total is known.
"""


def many(count: int, thing: str) -> str:
    """A count with its noun: `1 call`, `2,000 calls`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


class Row(NamedTuple):
    """One group: its keys, in the order asked for, and its figures by name."""

    keys: tuple[str | None, ...]
    """`None` where the calls do not say."""
    figures: dict[str, Any]


class TaskRow(NamedTuple):
    """One kind of task: a unit of business work. `None` is unknown: calls that came by OTLP do not say how it ended."""

    task: str
    succeeded: int | None
    failed: int | None
    cost_usd: float | None
    cost_per_success_usd: float | None


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    by: tuple[str, ...] = ("feature",)
    since_ns: int | None = None
    until_ns: int | None = None
    """Unix times: from the first on, before the second."""
    where: tuple[tuple[str, str], ...] = ()
    """Dimensions with the glob that their value must match."""
    sort: str | None = None
    """A figure, largest first, or a dimension of `by`; unless said, time where `by` starts with it, or else cost."""
    limit: int | None = None
    scan: bool = True
    """Whether all calls are read to find those of the period, or their index by time; `ask` decides."""


class Report(NamedTuple):
    """What was found."""

    query: Query
    total: Row
    rows: list[Row]
    more: int
    """Groups that the limit left out."""
    more_usd: float
    """What those cost, as far as it is known."""
    tasks: list[TaskRow]
    unpriced: list[tuple[str, int]]
    """Models without a price, as provider/model, with their calls."""
    first_ns: int | None
    last_ns: int | None


def expression(dimension: str) -> str:
    """The SQL of a dimension."""
    if dimension in DIMENSIONS:
        return DIMENSIONS[dimension]
    return _custom("more", names.attribution_attribute(dimension.removeprefix(CUSTOM)))


def conditions(query: Query) -> tuple[str, list[int | str]]:
    """The WHERE clause of a query, with its values."""
    tests, values = _period(query)
    for dimension, glob in query.where:
        tests.append(f"coalesce({expression(dimension)}, '') GLOB ?")
        values.append(glob)
    return " AND ".join(tests), values


def ask(connection: sqlite3.Connection, query: Query) -> Report:
    """The figures for a query. Raises `TokenGuardError` where it makes no sense."""
    query = replace(query, scan=_is_large(connection, query))
    where, values = conditions(query)
    figures = ", ".join(f"{sql} AS {name}" for name, sql in FIGURES.items())
    order = _order(query)
    (*total, first, last) = connection.execute(
        f"SELECT {figures}, min(start_ns), max(start_ns) FROM calls WHERE {where}",  # noqa: S608 - our own SQL
        values,
    ).fetchone()
    keys = ", ".join(map(expression, query.by))
    count = len(query.by)
    found = connection.execute(
        f"SELECT {keys}, {figures} FROM calls WHERE {where} "  # noqa: S608
        f"GROUP BY {', '.join(str(n + 1) for n in range(count))} ORDER BY {order}",
        values,
    ).fetchall()
    sums = dict(zip(FIGURES, total, strict=True))
    spent = sums["cost_usd"]
    kept, rest = _limited(found, query)
    rows = [
        Row(
            tuple(None if key is None else str(key) for key in row[:count]),
            _with_share(dict(zip(FIGURES, row[count:], strict=True)), spent),
        )
        for row in kept
    ]
    cost = count + list(FIGURES).index("cost_usd")
    return Report(
        query,
        Row((), _with_share(sums, spent)),
        rows,
        len(rest),
        sum(row[cost] or 0.0 for row in rest),
        _tasks(connection, query),
        _unpriced(connection, query) if sums["unpriced_calls"] else [],
        first,
        last,
    )


def _with_share(figures: dict[str, Any], spent: float | None) -> dict[str, Any]:
    cost = figures["cost_usd"]
    return {**figures, "cost_share": cost / spent if spent and cost is not None else None}


def _limited(rows: list[Any], query: Query) -> tuple[list[Any], list[Any]]:
    """The groups that the limit keeps, and the others."""
    if query.limit is None:
        return rows, []
    if in_time(query):
        return rows[-query.limit :], rows[: -query.limit]
    return rows[: query.limit], rows[query.limit :]


def in_time(query: Query) -> bool:
    """Whether the groups are in the order of time, so that a limit keeps the last ones."""
    return _sort(query) in CHRONOLOGICAL


def _sort(query: Query) -> str:
    return query.sort or (query.by[0] if query.by[0] in CHRONOLOGICAL else "cost_usd")


def _order(query: Query) -> str:
    sort = _sort(query)
    if sort in query.by:
        return str(query.by.index(sort) + 1)
    if sort not in FIGURES:
        raise TokenGuardError(
            f"cannot sort by {sort!r}: use one of {', '.join(FIGURES)}, or a key of --by ({', '.join(query.by)})"
        )
    return f"{sort} DESC NULLS LAST, calls DESC, {', '.join(str(n + 1) for n in range(len(query.by)))}"


def _period(query: Query) -> tuple[list[str], list[int | str]]:
    """The conditions on time. The plus sign keeps SQLite from the index."""
    start = "+start_ns" if query.scan else "start_ns"
    bounds = ((f"{start} >= ?", query.since_ns), (f"{start} < ?", query.until_ns))
    asked = [(test, value) for test, value in bounds if value is not None]
    return ["1", *(test for test, _ in asked)], [value for _, value in asked]


def _is_large(connection: sqlite3.Connection, query: Query) -> bool:
    """Whether a query's period holds so many of the calls that it is quicker to read them all."""
    if query.since_ns is None and query.until_ns is None:
        return True
    where, values = conditions(Query(since_ns=query.since_ns, until_ns=query.until_ns, scan=False))
    (all_calls,) = connection.execute("SELECT (SELECT max(id) FROM calls) - (SELECT min(id) FROM calls)").fetchone()
    few = (all_calls or 0) // INDEXED_PART
    (inside,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM calls WHERE {where} LIMIT ?)",  # noqa: S608
        (*values, few + 1),
    ).fetchone()
    return bool(inside > few)


def _custom(column: str, key: str) -> str:
    """The SQL of a value in a JSON column."""
    if re.search(r"""['"\\\x00-\x1f]""", key):
        raise TokenGuardError(f"{key!r} is no key: use one of {', '.join(DIMENSIONS)}, or an attribution key of yours")
    return f"""json_extract({column}, '$."{key}"')"""


def _unpriced(connection: sqlite3.Connection, query: Query) -> list[tuple[str, int]]:
    where, values = conditions(query)
    return connection.execute(
        f"SELECT coalesce(provider || '/', '') || coalesce({DIMENSIONS['model']}, '?'), {_UNPRICED} AS unpriced "  # noqa: S608
        f"FROM calls WHERE {where} AND cost_usd IS NULL GROUP BY 1 HAVING unpriced > 0 ORDER BY 2 DESC, 1",
        values,
    ).fetchall()


def _tasks(connection: sqlite3.Connection, query: Query) -> list[TaskRow]:
    tests, values = _period(query)
    for dimension, glob in query.where:
        if dimension == "task":
            tests.append("name GLOB ?")
        elif dimension in DIMENSIONS and dimension not in names.ATTRIBUTION_KEYS:
            return []  # a task has no model and no call site
        else:
            tests.append(f"coalesce({_custom('attribution', dimension.removeprefix(CUSTOM))}, '') GLOB ?")
        values.append(glob)
    ended = [
        TaskRow(*row)
        for row in connection.execute(
            "SELECT name, sum(outcome = 'ok'), sum(outcome <> 'ok'), sum(cost_usd), "  # noqa: S608
            "sum(cost_usd) / nullif(sum(outcome = 'ok'), 0) "
            f"FROM tasks WHERE {' AND '.join(tests)} GROUP BY name ORDER BY 4 DESC, 1",
            values,
        )
    ]
    where, values = conditions(query)
    untold = [
        TaskRow(*row)
        for row in connection.execute(
            f"SELECT task, NULL, NULL, sum(cost_usd), NULL FROM calls WHERE {where} AND task IS NOT NULL "  # noqa: S608
            "AND task NOT IN (SELECT name FROM tasks) GROUP BY 1 ORDER BY 4 DESC NULLS LAST, 1",
            values,
        )
    ]
    return ended + untold


SPAN = re.compile(r"(\d+)(m|h|d|w)")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def moment(text: str, now: datetime) -> int:
    """`24h`, `7d` before now, or a time in ISO 8601 (UTC unless it says), as Unix nanoseconds of a whole second."""
    try:
        span = SPAN.fullmatch(text)
        at = now - int(span[1]) * UNITS[span[2]] if span else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise TokenGuardError(
            f"{text!r} is no time: use 30m, 24h, 7d or 2w before now, or a date as 2026-11-01"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, int(at.timestamp())) * 10**9


def wheres(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """`feature=support_*` and its like as dimensions and globs."""
    pairs = []
    for text in texts:
        dimension, sign, glob = text.partition("=")
        if not sign or not dimension:
            raise TokenGuardError(f"{text!r} is no condition: write key=glob, as in feature=support_*")
        pairs.append((dimension.strip(), glob))
    return tuple(pairs)
