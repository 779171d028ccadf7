"""What was measured of groups of calls: from the daily sums where they will do, else from the calls themselves.

Sums will do where they are kept by all the keys that a query has. Then its whole days come from the sums, and from the
calls only what is newer than these, and the parts of days at the ends of its period.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any, Final

from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Dialect, Records
from tokenguard.report.query import TIMES, Query, among, conditions, expression, reads_all
from tokenguard.store.layout import NS_PER_DAY, WORDS
from tokenguard.store.sums import KEPT, LATENCIES, MEASURES, PLACES, TIMED, merged, quantile, shown

QUANTILES: Final[Mapping[str, tuple[str, float]]] = {
    "latency_p50_s": ("latency", 0.5),
    "latency_p95_s": ("latency", 0.95),
    "first_chunk_p50_s": ("first_chunk", 0.5),
    "first_chunk_p95_s": ("first_chunk", 0.95),
}
"""Figures in seconds, over the calls that were answered. They do not add up: each group, and the total, has its own."""

FIRST: Final = "CASE WHEN count(*) > 0 THEN min(start_ns) END"
"""When the first call began: ClickHouse has zero for the least of nothing."""

Keys = tuple[str | None, ...]
Measures = Mapping[str, Any]


class Group(NamedTuple):
    """What was measured of one group of calls."""

    measures: dict[str, Any]
    quantiles: dict[str, float | None]
    first_ns: int
    last_ns: int


class _Part(NamedTuple):
    """A group as far as one part of the records has it, with histograms of `LATENCIES`."""

    measures: dict[str, Any]
    histograms: tuple[str | None, ...]
    first_ns: int
    last_ns: int


class Measured(NamedTuple):
    """The groups of a query's calls."""

    groups: dict[Keys, Group]
    quantiles: dict[str, float | None]
    """Of all the calls together, where not only some groups were asked for."""
    summed: bool = False
    """Whether it is from daily sums: then quantiles are within 5 %, or not known."""


def measured(
    records: Records, query: Query, measures: Sequence[str] = tuple(MEASURES), *, timed: bool = False, sums: bool = True
) -> Measured:
    """Some measures of a query's calls, and with `timed` how long they took. Raises `TokenGuardError` for bad money.

    Without `sums` all of it is asked of the calls.
    """
    if sums and (kept := kept_by(records, query)) is not None:
        return _from_sums(records, query, kept, measures, timed)
    query = replace(query, scan=reads_all(records, query))
    numbered = _by_numbers(records, query)
    groups = _from_calls(*(numbered or (records, query)), measures, timed)
    if numbered is not None:
        groups = dict(zip(numbered[0].told(groups), groups.values(), strict=True))
    everything = _quantiles_of_calls(records, query) if timed and query.only is None else {}
    return Measured(groups, everything)


def altogether(
    records: Records, query: Query, calls: int, measures: Sequence[str] = tuple(MEASURES), *, timed: bool = False
) -> Measured:
    """The measures of groups that were asked of the calls by more keys, and were of so many `calls`.

    From the sums where these are of as many: they may have kept calls that are gone.
    """
    found = measured(records, query, tuple(dict.fromkeys(("calls", *measures))), timed=timed)
    if found.summed and sum(group.measures["calls"] for group in found.groups.values()) != calls:
        return measured(records, query, measures, timed=timed, sums=False)
    return found


def kept_by(records: Records, query: Query) -> int | None:
    """Which of the kept sums answer a query; `None` where none do."""
    keys = {*query.by, *(key for key, _ in query.where)} - {"day"}
    if records.summed is None:
        return None
    return next((n for n, kept in enumerate(KEPT) if keys <= set(kept)), None)


def first_recorded(records: Records) -> int | None:
    """When the first call that is known of began, deleted ones included, as Unix nanoseconds."""
    found = records.rows(f"SELECT start_ns FROM {records.dialect.calls} ORDER BY start_ns LIMIT 1")  # noqa: S608
    if records.summed is not None:
        found += records.rows("SELECT min(first_ns) FROM sums WHERE kept = 0")
    return min((first for (first,) in found if first is not None), default=None)


def added(parts: Iterable[Measures], names: Iterable[str] = MEASURES) -> dict[str, Any]:
    """The measures of several groups together."""
    parts = list(parts)
    total: dict[str, Any] = {}
    for name in names:
        values = [part[name] for part in parts if part[name] is not None]
        exact = math.fsum if name.endswith("_usd") else sum
        total[name] = exact(values) if values else 0 if MEASURES[name].startswith("count") else None
    return total


def _keys(row: Sequence[Any]) -> Keys:
    return tuple([None if key is None else str(key) for key in row])


def _grouped(count: int) -> str:
    return f" GROUP BY {', '.join(str(n + 1) for n in range(count))}" if count else ""


# --- from the calls --------------------------------------------------------------------------------------------------


def _from_calls(records: Records, query: Query, measures: Sequence[str], timed: bool) -> dict[Keys, Group]:
    dialect = records.dialect
    where, values = conditions(query, dialect)
    quantiles = _quantile_sql(dialect) if timed else []
    groups: dict[Keys, Group] = {}
    for keys, row in _rows(records, query, measures, [*quantiles, "min(cost_usd)", "sum(cost_usd)"], where, values):
        *times, lowest, usd = row[len(measures) + 2 :]
        _check_money(lowest, usd)
        found = dict(zip(measures, row, strict=False))
        first, last = row[len(measures) : len(measures) + 2]
        groups[keys] = Group(found, dict(zip(QUANTILES, times, strict=True)) if timed else {}, first, last)
    return groups


class _Numbered:
    """Records whose calls have numbers in the place of words; `places` is where such are in a query's keys."""

    def __init__(self, records: Records, relation: str, places: Sequence[int]) -> None:
        self.dialect = records.dialect._replace(calls=relation)
        self.summed, self.toolsets = records.summed, records.toolsets
        self.rows, self.close = records.rows, records.close
        self._places = places

    def told(self, groups: Iterable[Keys]) -> list[Keys]:
        """The keys of groups, with words."""
        groups = list(groups)
        wanted = sorted({int(number) for keys in groups for n in self._places if (number := keys[n]) is not None})
        marks = ", ".join("?" * len(wanted)) if len(wanted) < MANY else "SELECT id FROM words"
        told = self.rows(
            f"SELECT id, word FROM words WHERE id IN ({marks})",  # noqa: S608
            wanted if len(wanted) < MANY else (),
        )
        words = {str(number): str(word) for number, word in told}
        return [
            tuple(words.get(key, key) if n in self._places and key is not None else key for n, key in enumerate(keys))
            for keys in groups
        ]


def _by_numbers(records: Records, query: Query) -> tuple[_Numbered, Query] | None:
    """To be asked by the numbers of its words, which takes two thirds of the time; `None` where there are none."""
    places = [n for n, key in enumerate(query.by) if key in WORDS]
    if not places or records.dialect.numbered is None or any(key in WORDS for key, _ in query.where):
        return None
    only = query.only
    if only is not None and query.by[0] in WORDS:
        named = [value for value in only if value is not None]
        marks = ", ".join("?" * len(named))
        numbers = records.rows(f"SELECT id FROM words WHERE CAST(word AS TEXT) IN ({marks})", named)  # noqa: S608
        only = (*(None for value in only if value is None), *(int(number) for (number,) in numbers))
    return _Numbered(records, records.dialect.numbered, places), replace(query, only=only)


class Ranked(NamedTuple):
    """The groups that are shown, the first of them first, and what is known of all."""

    shown: list[Keys]
    groups: int
    calls: int
    more_usd: float
    """What the others cost, as far as it is known."""


def ranked(records: Records, query: Query, limit: int, *, by_calls: bool) -> Ranked:
    """The groups of the calls that cost most, or have most calls; of equal ones those with more calls, then by keys.

    Of the other groups nothing is made but a row, and no word is looked up. Raises `TokenGuardError` for bad money.
    """
    query = replace(query, scan=reads_all(records, query))
    numbered = _by_numbers(records, query)
    asked, query = numbered or (records, query)
    where, values = conditions(query, asked.dialect)
    count = len(query.by)
    wanted = [*(expression(key, asked.dialect) for key in query.by), *(MEASURES[name] for name in RANKED)]
    rows = records.rows(
        f"SELECT {', '.join((*wanted, 'min(cost_usd)'))} FROM {asked.dialect.calls} WHERE {where}{_grouped(count)}",  # noqa: S608
        values,
    )
    costs, ranks = [], []
    for *_, calls, priced, unpriced, usd, lowest in rows:
        if usd is not None:
            _check_money(lowest, usd)
        known = cost(priced, unpriced, usd)
        value = calls if by_calls else known
        costs.append(known or 0.0)
        ranks.append((value is None, -(value or 0), -calls))
    last = max(nsmallest(limit, ranks), default=None)
    first = [n for n, rank in enumerate(ranks) if last is not None and rank <= last]  # more where some are equal
    keys = [_keys(rows[n][:count]) for n in first]
    told = zip(first, keys if numbered is None else numbered[0].told(keys), strict=True)
    shown = sorted(told, key=lambda each: (ranks[each[0]], in_order(each[1])))[:limit]
    for n, _ in shown:
        costs[n] = 0.0
    return Ranked([keys for _, keys in shown], len(rows), -sum(rank[2] for rank in ranks), math.fsum(costs))


RANKED: Final = ("calls", "priced_calls", "unpriced_calls", "priced_usd")
"""The measures by which groups are told that are shown: those that cost most, or have most calls."""


def cost(priced_calls: int, unpriced_calls: int, priced_usd: float | None) -> float | None:
    """What some calls cost, in USD; `None` where none of them has a price that is known."""
    return None if not priced_calls and unpriced_calls else priced_usd or 0.0


def in_order(keys: Keys) -> list[tuple[bool, str]]:
    """What groups are sorted by that are equal in all else: a key that calls do not say comes first."""
    return [(key is not None, key or "") for key in keys]


MANY: Final = 1000
"""Of more words than this, all are looked up."""


def _rows(
    records: Records, query: Query, measures: Sequence[str], more: Sequence[str], where: str, values: Sequence[Any]
) -> Iterable[tuple[Keys, list[Any]]]:
    """The groups, with the measures, the first and the last time, and more; nothing where there is no call."""
    dialect = records.dialect
    count = len(query.by)
    wanted = [expression(key, dialect) for key in query.by]
    wanted += [
        *(MEASURES[name] for name in measures),
        "CASE WHEN count(*) > 0 THEN min(start_ns) END",
        "max(start_ns)",
        *more,
    ]
    sql = f"SELECT {', '.join(wanted)} FROM {dialect.calls} WHERE {where}{_grouped(count)}"  # noqa: S608 - our own SQL
    for row in records.rows(sql, values):
        if row[count + len(measures)] is not None:
            yield _keys(row[:count]), list(row[count:])


def _check_money(*amounts: float | None) -> None:
    for amount in amounts:
        if amount is not None and not 0 <= amount < math.inf:
            raise TokenGuardError(
                f"a call has a cost of {amount} USD, which is none: no sum is shown. Find it with "
                "tokenguard calls --sort cost, and leave its source out"
            )


def _quantile_sql(dialect: Dialect) -> list[str]:
    return [dialect.quantile(LATENCIES[of], q) for of, q in QUANTILES.values()]


def _quantiles_of_calls(records: Records, query: Query) -> dict[str, float | None]:
    dialect = records.dialect
    where, values = conditions(query, dialect)
    sql = f"SELECT {', '.join(_quantile_sql(dialect))} FROM {dialect.calls} WHERE {where}"  # noqa: S608
    (row,) = records.rows(sql, values)
    return dict(zip(QUANTILES, row, strict=True))


# --- from the sums ---------------------------------------------------------------------------------------------------


def _from_sums(records: Records, query: Query, kept: int, measures: Sequence[str], timed: bool) -> Measured:
    first, last = _whole_days(query)
    parts: dict[Keys, list[_Part]] = {}
    histograms = timed and KEPT[kept] in TIMED
    for keys, part in _summed(records, query, kept, measures, histograms, (first, last)):
        parts.setdefault(keys, []).append(part)
    ends = [("id > ?", query)]
    if query.since_ns is not None and first is not None:
        ends.append(("id <= ?", replace(query, until_ns=min(first, query.until_ns or first), scan=False)))
    if query.until_ns is not None and last is not None and (first is None or last >= first):
        ends.append(("id <= ?", replace(query, since_ns=last, scan=False)))
    for test, end in ends:
        if end.since_ns is not None and end.since_ns == end.until_ns:
            continue
        for keys, part in _parts_of_calls(records, end, measures, histograms, test):
            parts.setdefault(keys, []).append(part)
    groups = {keys: _together(of, measures, histograms) for keys, of in parts.items()}
    everything = [part for of in parts.values() for part in of]
    quantiles = _together(everything, measures, histograms).quantiles if everything else dict.fromkeys(QUANTILES)
    return Measured(groups, quantiles, summed=True)


def _whole_days(query: Query) -> tuple[int | None, int | None]:
    """The first whole day of a query's period, and the end of the last, as Unix nanoseconds; `None` without an end."""
    first = None if query.since_ns is None else -(-query.since_ns // NS_PER_DAY) * NS_PER_DAY
    last = None if query.until_ns is None else query.until_ns // NS_PER_DAY * NS_PER_DAY
    return first, last


def _summed(
    records: Records,
    query: Query,
    kept: int,
    measures: Sequence[str],
    histograms: bool,
    days: tuple[int | None, int | None],
) -> Iterable[tuple[Keys, _Part]]:
    """What the sums of the whole days say."""
    places = dict(zip(KEPT[kept], PLACES, strict=False))
    tests = ["kept = ?"]
    values: list[int | str] = [kept]
    for bound, test in zip(days, ("day >= ?", "day < ?"), strict=True):
        if bound is not None:
            tests.append(test)
            values.append(f"{datetime.fromtimestamp(bound // 10**9, UTC):{TIMES['day']}}")
    for key, glob in query.where:
        place = "day" if key == "day" else f"coalesce({shown(places[key])}, '')"
        tests.append(records.dialect.glob(place))
        values.append(glob)
    if query.only is not None:
        key = query.by[0]
        tests.append(among("day" if key == "day" else shown(places[key]), query.only))
        values.extend(value for value in query.only if value is not None)
    timed = [f"merged({name})" if histograms else "NULL" for name in LATENCIES]
    wanted = [*("day" if key == "day" else shown(places[key]) for key in query.by)]
    wanted += [*(f"sum({name})" for name in measures), *timed, "min(first_ns)", "max(last_ns)"]
    count = len(query.by)
    sql = f"SELECT {', '.join(wanted)} FROM sums WHERE {' AND '.join(tests)}{_grouped(count)}"  # noqa: S608
    for row in records.rows(sql, values):
        if row[-1] is not None:
            found = dict(zip(measures, row[count:], strict=False))
            yield _keys(row[:count]), _Part(found, tuple(row[-4:-2]), *row[-2:])


def _parts_of_calls(
    records: Records, query: Query, measures: Sequence[str], histograms: bool, test: str
) -> Iterable[tuple[Keys, _Part]]:
    where, values = conditions(query, records.dialect)
    more = [f"histogram({sql})" if histograms else "NULL" for sql in LATENCIES.values()]
    rows = _rows(
        records,
        query,
        measures,
        [*more, "min(cost_usd)", "sum(cost_usd)"],
        f"{test} AND {where}",
        [records.summed, *values],
    )
    for keys, row in rows:
        first, last, *counted, lowest, usd = row[len(measures) :]
        _check_money(lowest, usd)
        yield keys, _Part(dict(zip(measures, row, strict=False)), tuple(counted), first, last)


def _together(parts: Sequence[_Part], measures: Sequence[str], histograms: bool) -> Group:
    quantiles: dict[str, float | None] = dict.fromkeys(QUANTILES)
    if histograms:
        both = {name: merged([part.histograms[n] for part in parts]) for n, name in enumerate(LATENCIES)}
        quantiles = {name: quantile(both[of], q) for name, (of, q) in QUANTILES.items()}
    return Group(
        added((part.measures for part in parts), measures),
        quantiles,
        min(part.first_ns for part in parts),
        max(part.last_ns for part in parts),
    )
