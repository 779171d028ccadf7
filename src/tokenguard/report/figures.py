"""The figures of a report, each defined once.

A measure is SQL that adds up over calls, whatever they are grouped by; a figure is made of measures. So the total is
the sum of the groups, and sums that were kept of calls long gone give the figures that the calls would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report import revenue
from tokenguard.report.engine import Records
from tokenguard.report.lookups import LookUps, lookups
from tokenguard.report.measured import (
    QUANTILES,
    Group,
    Keys,
    Measures,
    added,
    altogether,
    cost,
    first_recorded,
    in_order,
    kept_by,
    measured,
    ranked,
)
from tokenguard.report.query import TIMES, Query, check_keys, conditions, expression, reads_all
from tokenguard.report.tasks import TaskRow, tasks
from tokenguard.report.units import Rented, UnitRow, rented, units


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _cost(of: Measures) -> float | None:
    return cost(of["priced_calls"], of["unpriced_calls"], of["priced_usd"])


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
    "served": _same("served"),
    "served_usd": _or_nothing("served_usd"),
    "watched": lambda of: of["watched"] or 0,
    "watched_usd": _or_nothing("watched_usd"),
    "likeness": lambda of: _ratio(of["likeness"], of["compared"]),
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
            return self.figures.get(name)
        change = self.figures["change_usd"]
        return None if change is None else (change, self.figures["cost_usd"] - change)


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
    estimated: list[tuple[str | None, float]]
    """What was assumed (`tokenguard.cost.basis`) with the USD that were estimated by it, of calls that are kept."""
    first_ns: int | None
    last_ns: int | None
    units: Sequence[UnitRow] = ()
    """What was billed by other than tokens."""
    rented: Sequence[Rented] = ()
    """What is still rented, as far as it is known."""
    summed: bool = False
    """Whether it is from daily sums: then latencies are within 5 %, or not known."""
    lookups: Sequence[LookUps] = ()
    """What became of looking calls up among kept answers, as far as the last calls tell."""


def ask(records: Records, query: Query, paid: revenue.Revenue | None = None, *, reasons: bool = True) -> Report:
    """The figures for a query. Raises `TokenGuardError` where it makes no sense, or a cost is none.

    With what tenants have `paid`, a report by tenant has their revenue and margin. Without `reasons` it is not asked
    why costs are estimates, nor what became of look-ups: the calls themselves say that, and there may be many.
    """
    paid = paid if revenue.fits(query) else None
    _check_sort(query, () if paid is None else revenue.FIGURES)
    check_keys(records, query)
    found = _found(records, query, few=paid is None)
    sums = found.total
    spent = _cost(sums)
    before, all_before = _spent_before(records, found.query)
    rows = [
        Row(keys, _figures(group.measures, group.quantiles, spent, None if before is None else before.get(keys, 0.0)))
        for keys, group in found.groups.items()
    ]
    if paid is not None and found.first_ns is not None:
        revenue.add(paid.of(query, found.first_ns), [(row.keys, row.figures) for row in rows])
    kept, rest = _limited(_sorted(rows, query), query)
    earned = {} if paid is None else revenue.total([row.figures for row in rows])
    return Report(
        query,
        Row((), {**_figures(sums, found.quantiles, spent, all_before), **earned}),
        kept,
        len(rest) + found.more,
        math.fsum([*(row.figures["cost_usd"] or 0.0 for row in rest), found.more_usd]),
        tasks(records, query),
        _unpriced(records, query) if sums["unpriced_calls"] else [],
        _estimated(records, query) if reasons and sums["estimated_usd"] else [],
        found.first_ns,
        found.last_ns,
        units(records, query),
        rented(records, query),
        found.summed,
        lookups(records, query) if reasons else (),
    )


class _Found(NamedTuple):
    """The groups of a report that may be shown, and what is known of the others."""

    query: Query
    """Of these groups."""
    groups: Mapping[Keys, Group]
    total: dict[str, Any]
    """The measures of all the groups."""
    quantiles: dict[str, float | None]
    """Of all the calls together."""
    first_ns: int | None
    last_ns: int | None
    more: int = 0
    """Groups that were left out."""
    more_usd: float = 0.0
    summed: bool = False


MOST: Final = 200
"""So many groups at the most are asked for by name."""


def _found(records: Records, query: Query, *, few: bool) -> _Found:
    """The groups of a query. Of many of which few are shown, the few are found first, and only they are measured."""
    limit = query.limit
    if not few or limit is None or limit > MOST or _sort(query) not in ("cost_usd", "calls"):
        return _all(records, query)
    if kept_by(records, query) is None:
        return _few_of_calls(records, query, limit)
    return _few_of_sums(records, query, limit)


def _few_of_calls(records: Records, query: Query, limit: int) -> _Found:
    shown, count, calls, more_usd = ranked(records, query, limit, by_calls=_sort(query) == "calls")
    some = replace(query, only=tuple(dict.fromkeys(keys[0] for keys in shown)))
    groups = measured(records, some, timed=True).groups
    whole = altogether(records, replace(query, by=()), calls, timed=True)
    return _Found(
        some,
        {keys: groups[keys] for keys in shown},
        added(group.measures for group in whole.groups.values()),
        whole.quantiles,
        *_times(whole.groups),
        more=count - len(shown),
        more_usd=more_usd,
        summed=whole.summed,
    )


def _few_of_sums(records: Records, query: Query, limit: int) -> _Found:
    groups, _, summed = measured(records, query)
    if len(groups) <= limit:
        times, quantiles, _ = measured(records, query, (), timed=True)
        return _Found(
            query,
            {keys: times[keys]._replace(measures=group.measures) for keys, group in groups.items()},
            added(group.measures for group in groups.values()),
            quantiles,
            *_times(groups),
            summed=summed,
        )
    ranks = [Row(keys, {"cost_usd": _cost(group.measures), **group.measures}) for keys, group in groups.items()]
    shown, rest = _limited(_sorted(ranks, query), query)
    some = replace(query, only=tuple(dict.fromkeys(row.keys[0] for row in shown)))
    timed = measured(records, some, (), timed=True).groups
    calls = sum(row.figures["calls"] for row in ranks)
    whole = altogether(records, replace(query, by=()), calls, (), timed=True)
    return _Found(
        some,
        {row.keys: timed[row.keys]._replace(measures=groups[row.keys].measures) for row in shown},
        added(group.measures for group in groups.values()),
        whole.quantiles,
        *_times(groups),
        more=len(rest),
        more_usd=math.fsum(row.figures["cost_usd"] or 0.0 for row in rest),
        summed=summed or whole.summed,
    )


def _all(records: Records, query: Query) -> _Found:
    """All the groups of a query, each with all of its measures."""
    groups, quantiles, summed = measured(records, query, timed=True)
    sums = added(group.measures for group in groups.values())
    return _Found(query, groups, sums, quantiles, *_times(groups), summed=summed)


def _times(groups: Mapping[Keys, Group]) -> tuple[int | None, int | None]:
    """When the first call of some groups began, and the last."""
    found = groups.values()
    return min((group.first_ns for group in found), default=None), max((group.last_ns for group in found), default=None)


def _figures(measures: Measures, quantiles: Measures, spent: float | None, before_usd: float | None) -> dict[str, Any]:
    figures = {name: figure(measures) for name, figure in FIGURES.items()}
    cost = figures["cost_usd"]
    change = None if cost is None or before_usd is None else cost - before_usd
    return {**figures, **quantiles, "change_usd": change, "cost_share": _ratio(cost, spent)}


def _spent_before(records: Records, query: Query) -> tuple[dict[Keys, float] | None, float | None]:
    """What each group cost in the period before, of the same length, and all of them together.

    `None` where its calls are not all recorded.
    """
    before = query.before()
    if before is None or set(query.by) & set(TIMES):
        return None, None
    first = first_recorded(records)
    if first is None or first > (before.since_ns or 0):
        return None, None
    found = measured(records, before, ("priced_usd",))
    spent = {keys: group.measures["priced_usd"] or 0.0 for keys, group in found.groups.items()}
    if query.only is None:
        return spent, math.fsum(spent.values())
    whole = measured(records, replace(before, by=(), only=None), ("priced_usd",), sums=found.summed).groups
    return spent, math.fsum(group.measures["priced_usd"] or 0.0 for group in whole.values())


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


def _check_sort(query: Query, more: Sequence[str]) -> None:
    figures = (*FIGURES, *QUANTILES, "change_usd", *more)
    if query.sort is not None and query.sort not in (*query.by, *figures):
        raise TokenGuardError(
            f"cannot sort by {query.sort!r}: use one of {', '.join(figures)}, or a key of --by ({', '.join(query.by)})"
        )


def _sorted(rows: list[Row], query: Query) -> list[Row]:
    """In the order asked for: largest first, unknown last; equal ones by their calls, then their keys."""
    sort = _sort(query)
    rows = sorted(rows, key=lambda row: in_order(row.keys))
    if sort in query.by:
        n = query.by.index(sort)
        return sorted(rows, key=lambda row: (row.keys[n] is not None, row.keys[n] or ""))

    def largest(row: Row) -> tuple[bool, float, int]:
        value = row.figures[sort]
        return value is None, -(value or 0), -row.figures["calls"]

    return sorted(rows, key=largest)


def _unpriced(records: Records, query: Query) -> list[tuple[str, int]]:
    found = measured(records, replace(query, by=("provider", "model")), ("unpriced_calls",)).groups
    models = [
        (f"{provider}/{model or '?'}" if provider else model or "?", group.measures["unpriced_calls"])
        for (provider, model), group in found.items()
        if group.measures["unpriced_calls"]
    ]
    return sorted(models, key=lambda each: (-each[1], each[0]))


def _estimated(records: Records, query: Query) -> list[tuple[str | None, float]]:
    dialect = records.dialect
    where, values = conditions(replace(query, scan=reads_all(records, query)), dialect)
    return records.rows(
        f"SELECT {expression('cost_basis', dialect)}, sum(cost_usd) FROM {dialect.calls} "  # noqa: S608 - our own names
        f"WHERE {where} AND cost_status = '{names.ESTIMATED}' GROUP BY 1 HAVING sum(cost_usd) > 0 ORDER BY 2 DESC",
        values,
    )
