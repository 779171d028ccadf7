"""The engines that hold records, behind one small interface: what a figure means is written once, in common SQL.

Every statement of a report is in the subset that SQLite, DuckDB, PostgreSQL and ClickHouse share (`count(*) FILTER
(WHERE ...)`, `CASE`, `coalesce`, `||`, `GROUP BY 1, 2`, no division of integers), with `?` for a value. What differs is
a `Dialect`. An engine gives two relations, `calls` and `tasks`, with the columns of `storefile`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tokenguard.facts.tuples import NamedTuple
from tokenguard.store.file import VERSION, is_migrating
from tokenguard.store.layout import NUMBERED, PACKED
from tokenguard.store.sums import summed_to, teach

QUANTILES: Final = (0.5, 0.95)
"""The quantiles that reports ask for."""


class Dialect(NamedTuple):
    """What an engine says in its own words. Each member takes SQL, and gives SQL."""

    calls: str
    """The relation of calls."""
    tasks: str
    stamp: Callable[[str, str], str]
    """A Unix time in nanoseconds as text in UTC, by a pattern of strftime that has %Y, %m, %d, %H and %M."""
    quantile: Callable[[str, float], str]
    """The interpolated quantile of the values that are not null."""
    glob: Callable[[str], str]
    """Whether a text matches the glob that is the next value, as `pattern` has it: case counts."""
    attribute: Callable[[str, str], str]
    """The value of a key in a column of JSON, null where it has none."""
    pattern: Callable[[str], str] = str
    """A glob as the value that `glob` compares with."""
    came: str = "id"
    """The column by which calls are in the order in which they came."""
    indexed: bool = False
    """Whether the engine has to be told when to go through the index of the calls' time."""
    numbered: str | None = None
    """The relation of calls that has numbers in the place of words (`store.layout.NUMBERED`); `None` without one."""
    packed: str | None = None
    """The relation of calls whose identifiers are as they lie (`store.layout.PACKED`); `None` without one."""
    times: str | None = None
    """The relation of calls that has their own numbers and times, and is quicker to count; `None` without one."""
    kinds: str | None = None
    """The small relation of what calls have in common (`store.layout.KIND`, `SHARED`); `None` without one."""


class Records(Protocol):
    """Recorded calls and tasks, whichever engine holds them."""

    dialect: Dialect
    summed: int | None
    """The last row of the calls that the daily sums have (`store.sums`); `None` where there are no sums."""

    toolsets: bool
    """Whether it knows which tools a call's set of tools has."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


def _stamp(ns: str, pattern: str) -> str:
    return f"strftime('{pattern}', {ns} / 1000000000, 'unixepoch')"


def _attribute(column: str, key: str) -> str:
    """What is in `more` is looked up where it lies."""
    lies = [f"""json_extract({part}, '$."{key}"')""" for part in (("own", "shared") if column == "more" else (column,))]
    return f"coalesce({', '.join(lies)})" if len(lies) > 1 else lies[0]


SQLITE: Final = Dialect(
    calls="calls",
    tasks="tasks",
    stamp=_stamp,
    quantile=lambda value, q: f"json_extract(quantiles({value}), '$[{QUANTILES.index(q)}]')",  # SQLite runs it once
    glob=lambda text: f"{text} GLOB ?",
    attribute=_attribute,
    indexed=True,
    numbered=f"({NUMBERED})",
    packed=f"({PACKED})",
    times="call_rows",
    kinds="(SELECT *, NULL AS own FROM kinds)",
)


class SqliteRecords:
    """A store, or a temporary one."""

    dialect = SQLITE
    toolsets = True

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        connection.text_factory = _lenient
        teach(connection)
        self.summed = summed_to(connection)
        if connection.execute("PRAGMA main.user_version").fetchone()[0] != VERSION or is_migrating(connection):
            self.dialect = SQLITE._replace(numbered=None, packed=None, times=None, kinds=None)
        aggregate: type = Quantiles  # typeshed would have it give an int
        connection.create_aggregate("quantiles", 1, aggregate)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self.connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the store."""
        self.connection.close()


def _lenient(text: bytes) -> str:
    """One odd text is no reason to stop."""
    return text.decode(errors="replace")


class Quantiles:
    """The aggregate that SQLite lacks: all the `QUANTILES`, as JSON."""

    def __init__(self) -> None:
        self.values: list[float | None] = []
        self.step = self.values.append  # SQLite calls it for each row: the list's own method is the fastest

    def finalize(self) -> str:
        """What SQLite gets."""
        values = sorted(value for value in self.values if value is not None)
        return json.dumps([interpolated(values, q) for q in QUANTILES])


def interpolated(values: Sequence[float], q: float) -> float | None:
    """A quantile of sorted values, between the two nearest ranks, as `quantile_cont` of DuckDB has it.

    >>> interpolated([1.0, 2.0, 4.0], 0.75), interpolated([], 0.5)
    (3.0, None)
    """
    if not values:
        return None
    whole, part = divmod(q * (len(values) - 1), 1)
    low = values[int(whole)]
    return low if not part else low + (values[int(whole) + 1] - low) * part
