"""What a report is asked: keys to group by, a period, conditions; and the SQL of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.report.engine import Dialect, Records
from tokenguard.store.layout import COLUMNS as STORED
from tokenguard.store.sums import KEYS, SERVED

COLUMNS: Final = {
    **KEYS,
    "request_model": "request_model",
    "trace": "nullif(trace_id, '')",
    "conversation": "conversation_id",
    "request": "request_hash",
    "task_run": "task_run",
}
"""Keys that have columns, with their SQL."""
IDENTIFIED: Final = frozenset({"trace", "request", "task_run"})
"""Those that are identifiers, which a relation may have as bytes (`Dialect.packed`)."""
TIMES: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%d %H:00", "minute": "%Y-%m-%d %H:%M"}
"""Keys that are parts of a call's time: their groups read best in their own order, and a limit keeps the last."""
ATTRIBUTES: Final = {
    "cost_basis": names.COST_BASIS,
    "resource": names.RESOURCE,
    "route_arm": names.ROUTE_ARM,
    "route_rule": names.ROUTE_RULE,
    "cache_rule": names.CACHE_RULE,
    "cache_result": names.CACHE_RESULT,
    "cache_reason": names.CACHE_REASON,
    "route_version": names.ROUTE_VERSION,
}
"""Keys that are span attributes without a column."""
OWN_COLUMN: Final = {attribute: column for column, attribute in STORED.items()}
"""The attributes that are not in the JSON `more`, with their columns."""
DIMENSIONS: Final = (*COLUMNS, *TIMES, *ATTRIBUTES)
"""What calls can be grouped by; any other word is a custom attribution key, also with `CUSTOM` before it."""
CUSTOM: Final = "attr."
INDEXED_PART: Final = 8
"""One in so many calls at most is found by its time: to go through the index for more takes longer than to read all."""
RECENT: Final = 1000
"""So many of the last calls are looked at for the keys that there are, when one is asked for that there is not."""


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
    now_ns: int | None = None
    """When it is asked, where a trend is asked for too."""
    only: tuple[str | int | None, ...] | None = None
    """The groups that are asked for, by the first of their keys, as texts or all as numbers; all of them without it."""
    scan: bool = True
    """Whether all calls are read to find those of the period, or their index by time; `reads_all` says."""

    def before(self) -> Query | None:
        """The same of the period before, of the same length; `None` without a beginning, or where nobody asks."""
        until = self.now_ns if self.until_ns is None else self.until_ns
        if self.since_ns is None or self.now_ns is None or until is None:
            return None
        return replace(self, since_ns=max(0, 2 * self.since_ns - until), until_ns=self.since_ns)


def expression(dimension: str, dialect: Dialect) -> str:
    """The SQL of a dimension."""
    if dimension in COLUMNS:
        return COLUMNS[dimension]
    if dimension in TIMES:
        return dialect.stamp("start_ns", TIMES[dimension])
    return attribute(dialect, "more", ATTRIBUTES.get(dimension) or _custom(dimension))


def _custom(dimension: str) -> str:
    return names.attribution_attribute(dimension.removeprefix(CUSTOM))


def attribute(dialect: Dialect, column: str, key: str) -> str:
    """The SQL of a value in a JSON column. Raises `TokenGuardError` for what can be no key."""
    if re.search(r"""['"\\?\x00-\x1f]""", key):
        raise TokenGuardError(f"{key!r} is no key: use one of {', '.join(DIMENSIONS)}, or an attribution key of yours")
    own = OWN_COLUMN.get(key) if column == "more" else None
    return f'"{own}"' if own else dialect.attribute(column, key)


def answered(dialect: Dialect) -> str:
    """The condition of a request that the program made and the provider answered.

    It is not one that was sent again after a failure, none whose answer was kept, and none that a cascade made because
    the first answer failed a check.
    """
    return (
        f"outcome = 'ok' AND retry_attempt IS NULL AND request_hash IS NOT NULL AND ({SERVED}) IS NOT TRUE "
        f"AND {attribute(dialect, 'more', names.ROUTE_ESCALATION)} IS NULL"
    )


def conditions(query: Query, dialect: Dialect) -> tuple[str, list[int | str]]:
    """The WHERE clause of a query, with its values."""
    tests, values = period(query)
    for dimension, glob in query.where:
        tests.append(dialect.glob(f"coalesce({expression(dimension, dialect)}, '')"))
        values.append(dialect.pattern(glob))
    if query.only is not None:
        tests.append(among(expression(query.by[0], dialect), query.only))
        values.extend(value for value in query.only if value is not None)
    return " AND ".join(tests), values


def among(key: str, only: tuple[str | int | None, ...]) -> str:
    """The SQL of whether a key has one of some values, each a `?` but for the missing one."""
    known = [value for value in only if value is not None]
    marks = ", ".join("?" * len(known))
    text = key if all(isinstance(value, int) for value in known) else f"CAST({key} AS TEXT)"
    tests = [f"{text} IN ({marks})"] if known else []
    tests += [f"{key} IS NULL"] if None in only else []
    return f"({' OR '.join(tests) or '1 = 0'})"


def period(query: Query) -> tuple[list[str], list[int | str]]:
    """The conditions on time. The plus sign keeps SQLite from the index."""
    start = "+start_ns" if query.scan else "start_ns"
    bounds = ((f"{start} >= ?", query.since_ns), (f"{start} < ?", query.until_ns))
    asked = [(test, value) for test, value in bounds if value is not None]
    return ["1 = 1", *(test for test, _ in asked)], [value for _, value in asked]


def reads_all(records: Records, query: Query) -> bool:
    """Whether a query's period holds so many of the calls that it is quicker to read them all."""
    if query.since_ns is None and query.until_ns is None:
        return True
    if not records.dialect.indexed:
        return False
    tests, values = period(Query(since_ns=query.since_ns, until_ns=query.until_ns, scan=False))
    calls = records.dialect.times or records.dialect.calls
    row = f"SELECT id FROM {calls} ORDER BY id"  # noqa: S608 - our own SQL; the view has no quick max(id)
    ((all_calls,),) = records.rows(f"SELECT ({row} DESC LIMIT 1) - ({row} LIMIT 1)")
    few = (all_calls or 0) // INDEXED_PART
    ((inside,),) = records.rows(
        f"SELECT count(*) FROM (SELECT 1 FROM {calls} WHERE {' AND '.join(tests)} LIMIT ?) AS few",  # noqa: S608
        (*values, few + 1),
    )
    return bool(inside > few)


def newest(records: Records, query: Query, calls: int) -> Query:
    """The query, of about so many of the last calls that are recorded at most: what looks at each call takes time."""
    dialect = records.dialect
    some = f"{dialect.times or dialect.calls} ORDER BY {dialect.came} DESC LIMIT 1 OFFSET {calls}"
    ((first,),) = records.rows(f"SELECT (SELECT start_ns FROM {some})")  # noqa: S608 - our own SQL
    if first is not None and first > (query.since_ns or 0):
        query = replace(query, since_ns=first)
    return replace(query, scan=reads_all(records, query))


def may_be(records: Records, condition: str) -> bool:
    """Whether calls may meet a condition on what calls have in common: it is quick to say that none does."""
    if records.dialect.kinds is None:
        return True
    ((found,),) = records.rows(f"SELECT EXISTS (SELECT 1 FROM {records.dialect.kinds} AS kinds WHERE {condition})")  # noqa: S608
    return bool(found)


def check_keys(records: Records, query: Query) -> None:
    """Raise `TokenGuardError` for a key that no call has, with the nearest that some have."""
    for dimension in (*query.by, *(dimension for dimension, _ in query.where)):
        if dimension in DIMENSIONS:
            continue
        calls = records.dialect.calls
        found = expression(dimension, records.dialect)
        if records.rows(f"SELECT 1 FROM {calls} WHERE {found} IS NOT NULL LIMIT 1"):  # noqa: S608
            continue
        if records.rows(f"SELECT 1 FROM {calls} LIMIT 1"):  # noqa: S608
            raise TokenGuardError(_no_such_key(dimension, _own_keys(records)))


def _no_such_key(dimension: str, own: list[str]) -> str:
    known = [*DIMENSIONS, *own]
    near = get_close_matches(dimension.replace("-", "_"), known, 1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"no call has a key {dimension!r}.{meant} Keys are {', '.join(known)}"


def _own_keys(records: Records) -> list[str]:
    """The custom attribution keys of the last calls."""
    import json

    prefix = _custom("")
    rows = records.rows(
        f"SELECT more FROM {records.dialect.calls} WHERE more IS NOT NULL ORDER BY start_ns DESC LIMIT {RECENT}"  # noqa: S608
    )
    keys = {key.removeprefix(prefix) for (more,) in rows for key in json.loads(more) if key.startswith(prefix)}
    return sorted(key for key in keys if key)


SPAN: Final = re.compile(r"(\d+)(m|h|d|w)")
UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


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
