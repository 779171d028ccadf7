"""The store's file: how it is made, opened, brought up to date from an older version, and added to another.

`layout` says what is in it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from tokenguard.facts import names
from tokenguard.process.private import private
from tokenguard.store.layout import (
    CALL_COLUMNS,
    CALLS,
    COLUMNS,
    FIXED,
    IN_JSON_BEFORE,
    TABLES,
    TASK_COLUMNS,
    insert,
    packed,
    written,
)
from tokenguard.store.sums import prepare, read_older

VERSION: Final = 6
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

_TOOLSETS = "CREATE TABLE IF NOT EXISTS {}toolsets (hash TEXT, name TEXT, share REAL, PRIMARY KEY (hash, name))"
"""How large each tool is in a set of tools that calls name by its hash; since version 3."""

_TASKS = """CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
    outcome TEXT NOT NULL, cost_usd REAL NOT NULL, calls INTEGER NOT NULL, attribution TEXT NOT NULL
)"""
_SCHEMA = (
    *(*TABLES, f"CREATE VIEW calls AS {CALLS}"),
    *(_TASKS, "CREATE INDEX tasks_by_start ON tasks (start_ns)", _TOOLSETS.format("")),
    f"PRAGMA user_version = {VERSION}",
)


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
        current = _check_version(version(target, "source"), path) == VERSION
        calls = "source.calls" if current else _as_current(target, "calls", "source")
        added = 0
        target.create_function("packed", 1, packed, deterministic=True)
        with target:
            target.execute("CREATE INDEX IF NOT EXISTS call_rows_by_span ON call_rows (trace_id, span_id)")
            (last,) = target.execute("SELECT coalesce(max(id), 0) FROM main.call_rows").fetchone()
            rows = target.execute(
                f"SELECT NULL, {', '.join(CALL_COLUMNS)} FROM {calls} AS new WHERE new.span_id = '' OR NOT EXISTS ("  # noqa: S608
                "SELECT 1 FROM main.call_rows AS had WHERE had.trace_id = packed(new.trace_id) AND "
                "had.span_id = packed(new.span_id) AND had.id <= ?)",
                (last,),
            )
            while some := rows.fetchmany(MIGRATION_ROWS):
                insert(target, map(written, some))
                added += len(some)
            (there,) = target.execute("SELECT count(*) FROM source.calls").fetchone()
            columns = ", ".join(TASK_COLUMNS)
            same = " AND ".join(f"had.{column} = new.{column}" for column in TASK_COLUMNS)
            target.execute(
                f"INSERT INTO main.tasks ({columns}) SELECT {columns} FROM source.tasks AS new "  # noqa: S608
                f"WHERE NOT EXISTS (SELECT 1 FROM main.tasks AS had WHERE {same})"
            )
            if _has_table(target, "toolsets", "source"):
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
            connection.execute(f"CREATE TEMP VIEW calls AS SELECT * FROM {_as_current(connection, 'calls', 'main')}")  # noqa: S608
            if not _has_table(connection, "toolsets"):
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
            private(ignore)
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
            _lay_out_anew(connection)
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
            for statement in _SCHEMA:
                connection.execute(statement)


# An older file gets the new tables at once, which takes a million calls no longer, and its calls go over bit by bit.
# Until all have, the view `calls` has both.

BEFORE: Final = "calls_before"
"""The table of calls of an older file, until they all lie as those of this version do."""


def is_migrating(connection: sqlite3.Connection) -> bool:
    """Whether there are calls left that `migrate` has to move."""
    return _has_table(connection, BEFORE)


def migrate(connection: sqlite3.Connection) -> None:
    """Move the next calls of an older version to where those of this one lie. Raises `sqlite3.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if not is_migrating(connection):
            return  # another process has moved the last
        some = f"(SELECT id FROM {BEFORE} ORDER BY id LIMIT {MIGRATION_ROWS})"  # noqa: S608
        ((last,),) = connection.execute(f"SELECT max(id) FROM {some}").fetchall()  # noqa: S608 - our own names
        rows = connection.execute(
            f"SELECT id, {', '.join(CALL_COLUMNS)} FROM {_as_current(connection, BEFORE)} WHERE id <= ?",  # noqa: S608
            (last,),
        )
        insert(connection, map(written, rows.fetchall()))
        connection.execute(f"DELETE FROM {BEFORE} WHERE id <= ?", (last,))  # noqa: S608
        if connection.execute(f"SELECT 1 FROM {BEFORE} LIMIT 1").fetchone() is None:  # noqa: S608
            connection.execute("DROP VIEW calls")
            connection.execute(f"DROP TABLE {BEFORE}")
            connection.execute(f"CREATE VIEW calls AS {CALLS}")


def _lay_out_anew(connection: sqlite3.Connection) -> None:
    """Give an older file the tables of this version."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if version(connection) == VERSION:
            return
        connection.execute(f"ALTER TABLE calls RENAME TO {BEFORE}")
        for statement in (*TABLES, _TOOLSETS.format("")):
            connection.execute(statement)
        before = _as_current(connection, BEFORE)
        connection.execute(f"CREATE VIEW calls AS {CALLS} UNION ALL SELECT * FROM {before}")  # noqa: S608 - our names
        connection.execute(f"INSERT INTO sqlite_sequence SELECT 'call_rows', coalesce(max(id), 0) FROM {BEFORE}")  # noqa: S608
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _as_current(connection: sqlite3.Connection, table: str, schema: str | None = None) -> str:
    """The SQL of the calls of an older file, with the columns of this version."""
    there = {row[1] for row in connection.execute(f"PRAGMA {schema or 'main'}.table_info({table})")}
    in_json = {column for columns in IN_JSON_BEFORE.values() for column in columns}

    def value(column: str) -> str:
        own = column if column in there else "NULL"
        return f"""coalesce({own}, json_extract(more, '$."{COLUMNS[column]}"'))""" if column in in_json else own

    columns = ", ".join(f"{value(column)} AS {column}" for column in COLUMNS)
    of = f"{schema}.{table}" if schema else table
    return f"(SELECT {', '.join(('id', *FIXED))}, {columns}, more, more AS own, NULL AS shared FROM {of})"  # noqa: S608


def _has_table(connection: sqlite3.Connection, name: str, schema: str = "main") -> bool:
    query = f"SELECT count(*) FROM {schema}.sqlite_master WHERE name = ?"  # noqa: S608 - our own names
    return bool(connection.execute(query, (name,)).fetchone()[0])


def is_busy(error: Exception) -> bool:
    """Whether another process has the file. SQLite itself does not wait for some changes, that to a WAL among them."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
    )
