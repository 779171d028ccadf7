"""The store's file: its tables, how it is opened, brought up to date from an older version, and added to another.

What reports group and add up by has a column of its own, named in `COLUMNS`; every other attribute of a call is in the
JSON of the column `more`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from tokenguard.facts import names
from tokenguard.process.private import private
from tokenguard.store.sums import prepare, read_older

VERSION: Final = 5
MEMORY: Final = ":memory:"
TEMPORARY: Final = ""
TEMPORARY_KIB: Final = 128 * 1024
"""How much of a temporary store is kept in memory."""
PRIVATE: Final = (MEMORY, TEMPORARY)
"""Paths of stores that are this process's own, and gone when they are closed."""
READER_SECONDS: Final = 5.0
"""How long a reader waits for a writer."""
ATTEMPT_SECONDS: Final = 0.1
"""How long one attempt waits, with the lock that a fork waits for."""
MIGRATION_ROWS: Final = 10_000
"""Rows of an older file that one transaction brings up to date: some 0.1 s, which is what other writers wait."""

COLUMNS: Final[Mapping[str, str]] = {
    # column: attribute
    "operation": names.OPERATION,
    "provider": names.PROVIDER,
    "request_model": names.REQUEST_MODEL,
    "response_model": names.RESPONSE_MODEL,
    "max_tokens": names.REQUEST_MAX_TOKENS,
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cache_read_tokens": names.CACHE_READ_TOKENS,
    "cache_write_tokens": names.CACHE_WRITE_TOKENS,
    "reasoning_tokens": names.REASONING_TOKENS,
    "error_type": names.ERROR_TYPE,
    "resends": names.RESEND_COUNT,
    "code_file": names.CODE_FILE,
    "code_line": names.CODE_LINE,
    "code_function": names.CODE_FUNCTION,
    "cost_usd": names.COST,
    "input_usd": names.COST_INPUT,
    "output_usd": names.COST_OUTPUT,
    "cache_read_usd": names.COST_CACHE_READ,
    "cache_write_usd": names.COST_CACHE_WRITE,
    "cost_status": names.COST_STATUS,
    "saved_usd": names.COST_SAVED,
    "retry_attempt": names.RETRY_ATTEMPT,
    "retry_cost_usd": names.RETRY_COST,
    "tool_steps": names.TOOL_STEPS,
    "guard_action": names.GUARD_ACTION,
    "guard_rule": names.GUARD_RULE,
    "prevented_usd": names.GUARD_PREVENTED,
    "task": names.TASK,
    "temperature": names.REQUEST_TEMPERATURE,
    "first_chunk_s": names.TIME_TO_FIRST_CHUNK,
    "conversation_id": names.CONVERSATION_ID,
    "request_hash": names.REQUEST_HASH,
    **{f"{section}_tokens": names.input_attribute(section) for section in names.INPUT_SECTIONS},
    "toolset": names.INPUT_TOOLSET,
    "answer": names.CACHE_RESULT,
    "answer_reason": names.CACHE_REASON,
    "answer_saved_usd": names.CACHE_SAVED,
    "answer_likeness": names.CACHE_LIKENESS,
    "break_kind": names.BREAK_KIND,
    "break_section": names.BREAK_SECTION,
    "break_index": names.BREAK_INDEX,
    "break_offset": names.BREAK_OFFSET,
    "break_tokens": names.BREAK_TOKENS,
    "break_usd": names.BREAK_USD,
    **{key: names.attribution_attribute(key) for key in names.ATTRIBUTION_KEYS},
}

IN_JSON_BEFORE: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd"),
    3: ("temperature", "first_chunk_s", "conversation_id"),
    4: ("answer", "answer_reason", "answer_saved_usd"),
    5: ("answer_likeness",),
}
"""Columns by the version that brought them: in files of an older one, these attributes are in the JSON."""

_TOOLSETS = "CREATE TABLE IF NOT EXISTS {}toolsets (hash TEXT, name TEXT, share REAL, PRIMARY KEY (hash, name))"
"""How large each tool is in a set of tools that calls name by its hash; since version 3."""

_SCHEMA = f"""
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, outcome TEXT NOT NULL,
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, {", ".join(COLUMNS)}, more TEXT
);
CREATE INDEX calls_by_start ON calls (start_ns);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
    outcome TEXT NOT NULL, cost_usd REAL NOT NULL, calls INTEGER NOT NULL, attribution TEXT NOT NULL
);
CREATE INDEX tasks_by_start ON tasks (start_ns);
{_TOOLSETS.format("")};
PRAGMA user_version = {VERSION};
"""  # columns have no type: a value comes back as what it went in as
_FIXED = ("start_ns", "duration_ns", "outcome", "trace_id", "span_id")
CALL_COLUMNS: Final = (*_FIXED, *COLUMNS, "more")
TOOLSET_COLUMNS: Final = ("hash", "name", "share")
TASK_COLUMNS: Final = ("name", "start_ns", "duration_ns", "outcome", "cost_usd", "calls", "attribution")
"""What a record is made of: all columns but the row's id."""


def open_for_reading(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """A connection to an existing store; raises `FileNotFoundError`, or `sqlite3.DatabaseError` if it is none."""
    return _at(path, partial(_reader, path=path))


def gather(target: sqlite3.Connection, path: str | os.PathLike[str]) -> int:
    """Add the rows of the store at `path` to a temporary one, less those that it has already.

    A call is had where its span is: those without one are all added. Returns how many calls were left out; raises as
    `open_for_reading` does.
    """

    def attach(uri: str) -> None:
        target.execute("ATTACH ? AS source", (uri,))

    _at(path, attach)
    try:
        if _check_version(version(target, "source"), path) == VERSION:
            calls = "source.calls"
        else:
            calls = _as_current(target, "source")
        with target:
            target.execute("CREATE INDEX IF NOT EXISTS calls_by_span ON calls (trace_id, span_id)")
            (last,) = target.execute("SELECT coalesce(max(id), 0) FROM main.calls").fetchone()
            columns = ", ".join(CALL_COLUMNS)
            added = target.execute(
                f"INSERT INTO main.calls ({columns}) SELECT {columns} FROM {calls} AS new WHERE new.span_id = '' OR "  # noqa: S608
                "NOT EXISTS (SELECT 1 FROM main.calls AS had WHERE had.trace_id = new.trace_id AND "
                "had.span_id = new.span_id AND had.id <= ?)",
                (last,),
            ).rowcount
            (there,) = target.execute("SELECT count(*) FROM source.calls").fetchone()
            columns = ", ".join(TASK_COLUMNS)
            same = " AND ".join(f"had.{column} = new.{column}" for column in TASK_COLUMNS)
            target.execute(
                f"INSERT INTO main.tasks ({columns}) SELECT {columns} FROM source.tasks AS new "  # noqa: S608
                f"WHERE NOT EXISTS (SELECT 1 FROM main.tasks AS had WHERE {same})"
            )
            if _has_toolsets(target, "source"):
                target.execute("INSERT OR IGNORE INTO main.toolsets SELECT hash, name, share FROM source.toolsets")
    finally:
        target.execute("DETACH source")
    return int(there - added)


Opened = TypeVar("Opened")


def _at(path: str | os.PathLike[str], open_at: Callable[[str], Opened]) -> Opened:
    """What `open_at` makes of the URI of an existing store."""
    if not Path(path).is_file():
        raise FileNotFoundError(2, "no store there", str(path))
    uri = Path(path).resolve().as_uri()
    try:
        return open_at(f"{uri}?mode=rw")  # with mode=ro, the log that a reader makes beside the file would stay
    except sqlite3.OperationalError:
        # Readers of a WAL file make files beside it; where the folder cannot be written, nobody else writes either.
        if os.access(Path(path).resolve().parent, os.W_OK):
            raise
        return open_at(f"{uri}?mode=ro&immutable=1")


def _reader(uri: str, path: str | os.PathLike[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=READER_SECONDS)
    try:
        if _check_version(version(connection), path) != VERSION:
            connection.execute(f"CREATE TEMP VIEW calls AS SELECT * FROM {_as_current(connection)}")  # noqa: S608
            if not _has_toolsets(connection):
                connection.execute(_TOOLSETS.format("temp."))
            read_older(connection)
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_writing(path: str) -> sqlite3.Connection:
    """A connection to a store, made where there is none; raises `sqlite3.Error` or `OSError`.

    Does not wait for other processes: `is_busy` tells when to try again.
    """
    if path not in PRIVATE:
        folder = Path(path).parent
        private(Path(path))
        ignore = folder / ".gitignore"
        if folder.name == Path(names.DEFAULT_STORE).parent.name and not ignore.exists():
            ignore.write_text("*\n")
    # One connection, used under the lock, from whichever thread drains. A transaction that writes says so when it
    # begins: one that began as a reader's cannot wait for another writer.
    connection = sqlite3.connect(
        path, timeout=ATTEMPT_SECONDS, isolation_level="IMMEDIATE", check_same_thread=False, uri=path in PRIVATE
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if path == TEMPORARY:
            connection.execute(f"PRAGMA cache_size = -{TEMPORARY_KIB}")
        if version(connection) == 0:
            _create(connection)
        if _check_version(version(connection), path) != VERSION:
            _add_columns(connection)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def version(connection: sqlite3.Connection, schema: str = "main") -> int:
    """The version of the file; 0 of one that is new."""
    (number,) = connection.execute(f"PRAGMA {schema}.user_version").fetchone()
    return int(number)


def _check_version(found: int, path: str | os.PathLike[str]) -> int:
    if not 1 <= found <= VERSION:
        raise sqlite3.DatabaseError(
            f"{path} is no store of this TokenGuard (version {found}, not {VERSION}): move it away, or set "
            f"{names.ENV_STORE} to another file"
        )
    return found


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, once: another process may be doing the same."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if version(connection) == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)


# An older file gets its new columns at once, which takes a million rows no longer, and their values bit by bit. It is
# of this version when all are in. Until then, readers take from the JSON what the columns do not have yet.


def _in_json(column: str) -> str:
    return f"""json_extract(more, '$."{COLUMNS[column]}"')"""


def _in_json_of(version: int) -> tuple[str, ...]:
    """The columns whose values a file of this version has in the JSON."""
    return tuple(column for since, columns in IN_JSON_BEFORE.items() if since > version for column in columns)


def _has_toolsets(connection: sqlite3.Connection, schema: str = "main") -> bool:
    query = f"SELECT count(*) FROM {schema}.sqlite_master WHERE name = 'toolsets'"  # noqa: S608 - our own names
    return bool(connection.execute(query).fetchone()[0])


def _add_columns(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        there = _columns(connection)
        for column in COLUMNS:
            if column not in there:
                connection.execute(f"ALTER TABLE calls ADD COLUMN {column}")
        connection.execute(_TOOLSETS.format(""))


def _columns(connection: sqlite3.Connection, schema: str = "main") -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA {schema}.table_info(calls)")}


def migrate(connection: sqlite3.Connection, done: int) -> int | None:
    """Fill the new columns of the rows that follow row `done`; returns the last one, or `None` when that was all."""
    last = done + MIGRATION_ROWS
    columns = _in_json_of(version(connection))
    values = ", ".join(f"coalesce({column}, {_in_json(column)})" for column in columns)
    with connection:
        connection.execute(
            f"UPDATE calls SET ({', '.join(columns)}) = ({values}) "  # noqa: S608
            "WHERE id > ? AND id <= ? AND more IS NOT NULL",
            (done, last),
        )
        (rest,) = connection.execute("SELECT max(id) > ? FROM calls", (last,)).fetchone()
        if rest:
            return last
        connection.execute(f"PRAGMA user_version = {VERSION}")
    return None


def _as_current(connection: sqlite3.Connection, schema: str = "main") -> str:
    """The SQL of the calls of an older file, with the columns of this version."""
    there = _columns(connection, schema)
    in_json = _in_json_of(version(connection, schema))

    def value(column: str) -> str:
        own = column if column in there else "NULL"
        return f"coalesce({own}, {_in_json(column)})" if column in in_json else own

    columns = ", ".join(f"{value(column)} AS {column}" for column in COLUMNS)
    return f"(SELECT {', '.join(('id', *_FIXED))}, {columns}, more FROM {schema}.calls)"  # noqa: S608


def is_busy(error: Exception) -> bool:
    """Whether another process has the file. SQLite itself does not wait for some changes, that to a WAL among them."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
    )
