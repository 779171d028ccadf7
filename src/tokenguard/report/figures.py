"""The figures of a report, each defined once.

A measure is SQL that adds up over calls, whatever they are grouped by; a figure is made of measures. So the total is
the sum of the groups, and sums that were kept of calls long gone give the figures that the calls would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.providers import NOT_GENERATING
from tokenguard.report.engine import Dialect, Records
from tokenguard.report.query import (
    COLUMNS,
    CUSTOM,
    DIMENSIONS,
    TIMES,
    Query,
    attribute,
    check_keys,
    conditions,
    expression,
    period,
    reads_all,
)

GENERATES: Final = f"operation NOT IN ({', '.join(map(repr, sorted(NOT_GENERATING)))})"
"""Whether a call's answer has a length that its request could cap."""
_ANSWERED: Final = f"{GENERATES} AND outcome <> 'blocked'"
MEASURES: Final = {
    "calls": "count(*)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "counted_calls": "count(*) FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    # Over the calls that report it: those that do not are unknown, not misses.
    "cacheable_tokens": "sum(input_tokens) FILTER (WHERE cache_read_tokens IS NOT NULL)",
    "priced_calls": "count(cost_usd)",
    "priced_usd": "sum(cost_usd)",
    "estimated_usd": "sum(cost_usd) FILTER (WHERE cost_status = 'estimated')",
    # Calls that were answered, at a price nobody knows.
    "unpriced_calls": (
        "count(*) FILTER (WHERE cost_usd IS NULL AND outcome <> 'blocked' AND (cost_status = 'unpriced' OR "
        "input_tokens IS NOT NULL OR output_tokens IS NOT NULL))"
    ),
    "saved_usd": "sum(saved_usd)",
    "resends": "sum(resends)",
    "repeats": "count(retry_attempt)",
    "retry_cost_usd": "sum(retry_cost_usd)",
    "errors": "count(*) FILTER (WHERE outcome = 'error')",
    "abandoned": "count(*) FILTER (WHERE outcome = 'abandoned')",
    "abandoned_usd": "sum(cost_usd) FILTER (WHERE outcome = 'abandoned')",
    "blocked": "count(*) FILTER (WHERE outcome = 'blocked')",
    "prevented_usd": "sum(prevented_usd) FILTER (WHERE outcome = 'blocked')",
    "generations": f"count(*) FILTER (WHERE {_ANSWERED})",
    "uncapped": f"count(*) FILTER (WHERE max_tokens IS NULL AND {_ANSWERED})",
    "uncapped_usd": f"sum(cost_usd) FILTER (WHERE max_tokens IS NULL AND {GENERATES})",
}
"""SQL aggregates whose values add up over groups: tokens, USD or counts; null where no call says."""

Measures = Mapping[str, Any]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _cost(of: Measures) -> float | None:
    return None if not of["priced_calls"] and of["unpriced_calls"] else of["priced_usd"] or 0.0


def _tokens(of: Measures) -> int | None:
    counts = [count for count in (of["input_tokens"], of["output_tokens"]) if count is not None]
    return sum(counts) if counts else None


def _same(measure: str) -> Callable[[Measures], Any]:
    return lambda of: of[measure]


def _or_nothing(measure: str) -> Callable[[Measures], Any]:
    return lambda of: of[measure] or 0.0


FIGURES: Final[Mapping[str, Callable[[Measures], Any]]] = {
    **{
        name: _same(name)
        for name in ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    },
    "tokens_per_call": lambda of: _ratio(_tokens(of), of["counted_calls"]),
    "cache_hit_share": lambda of: _ratio(of["cache_read_tokens"], of["cacheable_tokens"]),
    "cost_usd": _cost,
    "estimated_usd": _or_nothing("estimated_usd"),
    "estimated_share": lambda of: _ratio(of["estimated_usd"] or 0.0, of["priced_usd"]),
    "unpriced_calls": _same("unpriced_calls"),
    "saved_usd": _same("saved_usd"),
    "retries": lambda of: (of["resends"] or 0) + of["repeats"],
    "resends": lambda of: of["resends"] or 0,
    "retry_cost_usd": _or_nothing("retry_cost_usd"),
    "errors": _same("errors"),
    "abandoned": _same("abandoned"),
    "abandoned_usd": _or_nothing("abandoned_usd"),
    "blocked": _same("blocked"),
    "prevented_usd": _or_nothing("prevented_usd"),
    "generations": _same("generations"),
    "uncapped": _same("uncapped"),
    "uncapped_usd": _or_nothing("uncapped_usd"),
    "cost_per_1000_calls_usd": lambda of: _ratio((of["priced_usd"] or 0.0) * 1000, of["priced_calls"]),
}
"""Each with its unit in its name: tokens, USD, a share of 1, or a count. Unknown is null.

`cost_per_1000_calls_usd` is over the calls whose cost is known, `tokens_per_call` over those that report tokens. `ask`
adds to these the `QUANTILES`, `cost_share`, the part of the total cost, and `change_usd`, against the period before.
"""
_LATENCY: Final = "CASE WHEN outcome = 'ok' THEN duration_ns / 1000000000.0 END"
QUANTILES: Final = {
    "latency_p50_s": (_LATENCY, 0.5),
    "latency_p95_s": (_LATENCY, 0.95),
    "first_chunk_p50_s": ("first_chunk_s", 0.5),
    "first_chunk_p95_s": ("first_chunk_s", 0.95),
}
"""Figures in seconds, over the calls that were answered. They do not add up: each group, and the total, has its own."""


def many(count: int, thing: str) -> str:
    """A count with its noun: `1 call`, `2,000 calls`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


class Row(NamedTuple):
    """One group: its keys, in the order asked for, and its figures by name."""

    keys: tuple[str | None, ...]
    """`None` where the calls do not say."""
    figures: dict[str, Any]

    def figure(self, name: str) -> Any:
        """A figure by its name; `change` is what it changed by, and what it was before, in USD, where that is known."""
        if name != "change":
            return self.figures[name]
        change = self.figures["change_usd"]
        return None if change is None else (change, self.figures["cost_usd"] - change)


class TaskRow(NamedTuple):
    """One kind of task: a unit of business work. `None` is unknown: calls that came by OTLP do not say how it ended."""

    task: str
    succeeded: int | None
    failed: int | None
    cost_usd: float | None
    cost_per_success_usd: float | None


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


def ask(records: Records, query: Query) -> Report:
    """The figures for a query. Raises `TokenGuardError` where it makes no sense, or a cost is none."""
    _check_sort(query)
    check_keys(records, query)
    query = replace(query, scan=reads_all(records, query))
    groups = measured(records, query)
    sums = added(group.measures for group in groups.values())
    spent = _cost(sums)
    before = _spent_before(records, query)
    rows = [
        Row(keys, _figures(group.measures, group.quantiles, spent, None if before is None else before.get(keys, 0.0)))
        for keys, group in groups.items()
    ]
    kept, rest = _limited(_sorted(rows, query), query)
    all_before = None if before is None else math.fsum(before.values())
    return Report(
        query,
        Row((), _figures(sums, _quantiles(records, query), spent, all_before)),
        kept,
        len(rest),
        math.fsum(row.figures["cost_usd"] or 0.0 for row in rest),
        _tasks(records, query),
        _unpriced(records, query) if sums["unpriced_calls"] else [],
        min((group.first_ns for group in groups.values()), default=None),
        max((group.last_ns for group in groups.values()), default=None),
    )


class Group(NamedTuple):
    """What was measured of one group of calls."""

    measures: dict[str, Any]
    quantiles: dict[str, float | None]
    first_ns: int
    last_ns: int


Keys = tuple[str | None, ...]


def measured(records: Records, query: Query) -> dict[Keys, Group]:
    """The groups of a query's calls."""
    dialect = records.dialect
    where, values = conditions(query, dialect)
    count, quantiles = len(query.by), _quantile_sql(dialect)
    wanted = [*(expression(key, dialect) for key in query.by), *MEASURES.values(), *quantiles]
    groups: dict[Keys, Group] = {}
    for row in records.rows(
        f"SELECT {', '.join(wanted)}, min(start_ns), max(start_ns), min(cost_usd) FROM {dialect.calls} "  # noqa: S608
        f"WHERE {where} GROUP BY {', '.join(str(n + 1) for n in range(count))}",
        values,
    ):
        *found, first, last, lowest = row
        measures = dict(zip(MEASURES, found[count:], strict=False))
        _check_money(lowest, measures["priced_usd"])
        keys = tuple(None if key is None else str(key) for key in found[:count])
        groups[keys] = Group(measures, dict(zip(QUANTILES, found[count + len(MEASURES) :], strict=True)), first, last)
    return groups


def added(parts: Iterable[Measures]) -> dict[str, Any]:
    """The measures of several groups together."""
    parts = list(parts)
    total: dict[str, Any] = {}
    for name, sql in MEASURES.items():
        values = [part[name] for part in parts if part[name] is not None]
        exact = sum if sql.startswith("count") or not name.endswith("_usd") else math.fsum
        total[name] = exact(values) if values or sql.startswith("count") else None
    return total


def _check_money(*amounts: float | None) -> None:
    for amount in amounts:
        if amount is not None and not 0 <= amount < math.inf:
            raise TokenGuardError(
                f"a call has a cost of {amount} USD, which is none: no sum is shown. Find it with "
                "tokenguard calls --sort cost, and leave its source out"
            )


def _figures(measures: Measures, quantiles: Measures, spent: float | None, before_usd: float | None) -> dict[str, Any]:
    figures = {name: figure(measures) for name, figure in FIGURES.items()}
    cost = figures["cost_usd"]
    change = None if cost is None or before_usd is None else cost - before_usd
    return {**figures, **quantiles, "change_usd": change, "cost_share": _ratio(cost, spent)}


def _quantile_sql(dialect: Dialect) -> list[str]:
    return [dialect.quantile(value, q) for value, q in QUANTILES.values()]


def _quantiles(records: Records, query: Query) -> dict[str, float | None]:
    """The quantiles of all the calls together."""
    dialect = records.dialect
    where, values = conditions(query, dialect)
    (row,) = records.rows(
        f"SELECT {', '.join(_quantile_sql(dialect))} FROM {dialect.calls} WHERE {where}",  # noqa: S608
        values,
    )
    return dict(zip(QUANTILES, row, strict=True))


def _spent_before(records: Records, query: Query) -> dict[Keys, float] | None:
    """What each group cost in the period before, of the same length; `None` where its calls are not all recorded."""
    before = query.before()
    if before is None or set(query.by) & set(TIMES):
        return None
    ((first,),) = records.rows(f"SELECT min(start_ns) FROM {records.dialect.calls}")  # noqa: S608
    if first is None or first > (before.since_ns or 0):
        return None
    dialect = records.dialect
    where, values = conditions(before, dialect)
    count = len(query.by)
    keys = ", ".join(expression(key, dialect) for key in query.by)
    return {
        tuple(None if key is None else str(key) for key in found): cost or 0.0
        for *found, cost in records.rows(
            f"SELECT {keys}, sum(cost_usd) FROM {dialect.calls} WHERE {where} "  # noqa: S608
            f"GROUP BY {', '.join(str(n + 1) for n in range(count))}",
            values,
        )
    }


def _limited(rows: list[Row], query: Query) -> tuple[list[Row], list[Row]]:
    """The groups that the limit keeps, and the others."""
    if query.limit is None:
        return rows, []
    if in_time(query):
        return rows[-query.limit :], rows[: -query.limit]
    return rows[: query.limit], rows[query.limit :]


def in_time(query: Query) -> bool:
    """Whether the groups are in the order of time, so that a limit keeps the last ones."""
    return _sort(query) in TIMES


def _sort(query: Query) -> str:
    return query.sort or (query.by[0] if query.by[0] in TIMES else "cost_usd")


def _check_sort(query: Query) -> None:
    figures = (*FIGURES, *QUANTILES, "change_usd")
    if query.sort is not None and query.sort not in (*query.by, *figures):
        raise TokenGuardError(
            f"cannot sort by {query.sort!r}: use one of {', '.join(figures)}, or a key of --by ({', '.join(query.by)})"
        )


def _sorted(rows: list[Row], query: Query) -> list[Row]:
    """In the order asked for: largest first, unknown last; equal ones by their calls, then their keys."""
    sort = _sort(query)
    rows = sorted(rows, key=lambda row: [(key is not None, key or "") for key in row.keys])
    if sort in query.by:
        n = query.by.index(sort)
        return sorted(rows, key=lambda row: (row.keys[n] is not None, row.keys[n] or ""))

    def largest(row: Row) -> tuple[bool, float, int]:
        value = row.figures[sort]
        return value is None, -(value or 0), -row.figures["calls"]

    return sorted(rows, key=largest)


def _unpriced(records: Records, query: Query) -> list[tuple[str, int]]:
    dialect = records.dialect
    where, values = conditions(query, dialect)
    found = records.rows(
        f"SELECT coalesce(provider || '/', '') || coalesce({COLUMNS['model']}, '?'), {MEASURES['unpriced_calls']} "  # noqa: S608
        f"FROM {dialect.calls} WHERE {where} AND cost_usd IS NULL GROUP BY 1 ORDER BY 2 DESC, 1",
        values,
    )
    return [(model, calls) for model, calls in found if calls]


def _tasks(records: Records, query: Query) -> list[TaskRow]:
    dialect = records.dialect
    tests, values = period(query)
    for dimension, glob in query.where:
        if dimension == "task":
            tests.append(dialect.glob("name"))
        elif dimension in DIMENSIONS and dimension not in names.ATTRIBUTION_KEYS:
            return []  # a task has no model and no call site
        else:
            key = attribute(dialect, "attribution", dimension.removeprefix(CUSTOM))
            tests.append(dialect.glob(f"coalesce({key}, '')"))
        values.append(glob)
    ended = [
        TaskRow(name, succeeded, failed, cost, _ratio(cost, succeeded))
        for name, succeeded, failed, cost in records.rows(
            "SELECT name, count(*) FILTER (WHERE outcome = 'ok'), count(*) FILTER (WHERE outcome <> 'ok'), "  # noqa: S608
            f"sum(cost_usd) FROM {dialect.tasks} WHERE {' AND '.join(tests)} GROUP BY 1",
            values,
        )
    ]
    where, values = conditions(query, dialect)
    untold = [
        TaskRow(name, None, None, cost, None)
        for name, cost in records.rows(
            f"SELECT task, sum(cost_usd) FROM {dialect.calls} WHERE {where} AND task IS NOT NULL "  # noqa: S608
            f"AND task NOT IN (SELECT name FROM {dialect.tasks}) GROUP BY 1",
            values,
        )
    ]
    return [
        task
        for kind in (ended, untold)
        for task in sorted(kind, key=lambda task: (task.cost_usd is None, -(task.cost_usd or 0.0), task.task))
    ]
