"""The local store: finished calls and tasks in a SQLite file, for `tokenguard report` with nothing else set up.

What reports group and add up by has a column of its own, named in `COLUMNS`; every other attribute of a call is kept as
JSON beside them, so that a record read back equals the one that was written. Several processes may write one file.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from tokenguard import names
from tokenguard.call import COST_ATTRIBUTES, USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost, TaskRecord
from tokenguard.usage import Usage

VERSION: Final = 2
ENV_DAYS: Final = "TOKENGUARD_STORE_DAYS"
DEFAULT_DAYS: Final = 90.0
FOREVER_DAYS: Final = 36_500
NS_PER_DAY: Final = 86_400 * 10**9
MEMORY: Final = ":memory:"
TEMPORARY: Final = ""
TEMPORARY_KIB: Final = 128 * 1024
"""How much of a temporary store is kept in memory."""
PRIVATE: Final = (MEMORY, TEMPORARY)
"""Paths of stores that are this process's own, and gone when they are closed."""
BUSY_SECONDS: Final = 5.0
"""How long a batch waits for other processes to be done with the file."""
EXIT_SECONDS: Final = 0.5
"""The same while the process ends."""
PAUSE_SECONDS: Final = 0.005
ATTEMPT_SECONDS: Final = 0.1
"""How long one attempt waits, with the lock that a fork waits for."""
MAX_WAITING: Final = 10_000
"""Records that are kept for the next batch when the file stayed busy; past it the oldest are dropped."""
MIGRATION_ROWS: Final = 10_000
"""Rows of an older file that one transaction brings up to date: some 0.1 s, which is what other writers wait."""
MIGRATION_SECONDS: Final = 0.25
"""How long one batch goes on with that."""

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
    **{key: names.attribution_attribute(key) for key in names.ATTRIBUTION_KEYS},
}

SINCE_VERSION_2: Final = ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd")
"""Columns that files of version 1 lack: there, these attributes are in the JSON."""

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
PRAGMA user_version = {VERSION};
"""  # columns have no type: a value comes back as what it went in as
_ATTRIBUTES = tuple(COLUMNS.values())
_KNOWN = frozenset(_ATTRIBUTES)
_FIXED = ("start_ns", "duration_ns", "outcome", "trace_id", "span_id")
_INSERT_CALL = (
    f"INSERT INTO calls ({', '.join((*_FIXED, *COLUMNS, 'more'))}) "  # noqa: S608 - our own names
    f"VALUES ({', '.join('?' * (len(_FIXED) + len(COLUMNS) + 1))})"
)
_TASK = ("name", "start_ns", "duration_ns", "outcome", "cost_usd", "calls", "attribution")
_INSERT_TASK = f"INSERT INTO tasks ({', '.join(_TASK)}) VALUES ({', '.join('?' * len(_TASK))})"  # noqa: S608
_SELECT_CALLS = f"SELECT {', '.join((*_FIXED, *COLUMNS, 'more'))} FROM calls"  # noqa: S608
_SELECT_TASKS = f"SELECT {', '.join(_TASK)} FROM tasks"  # noqa: S608


class Store:
    """A store that is written to. Methods raise `sqlite3.Error` or `OSError`; whoever writes contains them.

    `path` is a file, made with its folder on the first write, or `:memory:`, or empty for a temporary file. Records
    older than `TOKENGUARD_STORE_DAYS` (90; 0 keeps all) are deleted when the file is opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._patience = BUSY_SECONDS
        self._waiting: list[CallRecord | TaskRecord] = []
        self._migrated: int | None = None
        """Up to which row a file of an older version is up to date; `None` when all of it is."""
        if self.path not in PRIVATE:
            _files.add(self)

    def write(self, records: Sequence[CallRecord | TaskRecord]) -> None:
        """Keep the records, all or none of them.

        Where other processes keep the file busy for longer than `BUSY_SECONDS`, this raises, and the records are
        written with the next ones.
        """
        with _lock:
            batch, self._waiting = [*self._waiting, *records], []
        began = time.monotonic()
        while True:
            try:
                with _lock:
                    self._insert(batch)
                break
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if time.monotonic() - began > self._patience:
                    with _lock:
                        self._waiting = [*batch, *self._waiting][-MAX_WAITING:]
                    raise
            time.sleep(PAUSE_SECONDS)  # without the lock
        with _lock:
            self._migrate()

    def _insert(self, records: Sequence[CallRecord | TaskRecord]) -> None:
        calls = [record for record in records if isinstance(record, CallRecord)]
        tasks = [_task_row(record) for record in records if isinstance(record, TaskRecord)]
        connection = self.connection()
        try:
            _insert(connection, map(_call_row, calls), tasks)
        except (ValueError, OverflowError, sqlite3.ProgrammingError):  # a value that SQLite or JSON cannot hold
            _insert(connection, map(_careful_row, calls), tasks)

    def connection(self) -> sqlite3.Connection:
        """The connection; another one where the file was deleted or replaced meanwhile."""
        if self._connection is not None and self._inode != _inode(self.path):
            self.close()
        if self._connection is None:
            self._connection = _open(self.path)
            self._inode = _inode(self.path)
            self._migrated = None if _version(self._connection) == VERSION else 0
        return self._connection

    def _migrate(self) -> None:
        """Bring some more rows of an older file up to date: each batch does a bit, so that none takes long."""
        until = time.monotonic() + MIGRATION_SECONDS
        # A process that ends leaves the rest to the next one.
        while self._connection is not None and self._migrated is not None and self._patience == BUSY_SECONDS:
            try:
                self._migrated = _migrate(self._connection, self._migrated)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                return
            if time.monotonic() > until:
                return

    def hurry(self) -> None:
        """The process ends: from now on, even in a batch under way, no other process is waited for long."""
        self._patience = EXIT_SECONDS

    def finish(self) -> None:
        """Write what a busy file refused, and let go of the file."""
        try:
            if self._waiting:
                self.write(())
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file. A later write opens it again."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


def _insert(connection: sqlite3.Connection, calls: Iterable[tuple[Any, ...]], tasks: Iterable[tuple[Any, ...]]) -> None:
    with connection:
        connection.executemany(_INSERT_CALL, calls)
        connection.executemany(_INSERT_TASK, tasks)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    """Whether another process has the file. SQLite itself does not wait for some changes, that to a WAL among them."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


# SQLite keeps what it knows of its file locks per process, and the locks themselves do not survive a fork: a child
# would take locks for held that are not (https://www.sqlite.org/howtocorrupt.html, section 2.6). So no connection
# crosses a fork: all are closed before, and each process opens its own at its next write.
_files: weakref.WeakSet[Store] = weakref.WeakSet()
_lock = threading.RLock()


def _before_fork() -> None:
    _lock.acquire()
    for store in list(_files):
        with suppress(sqlite3.Error):
            store.close()


def _after_fork_in_child() -> None:
    for store in list(_files):
        store._waiting = []  # the parent writes them
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)


def _inode(path: str) -> int:
    """The file's identity; 0 where there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def read_store(path: str | os.PathLike[str], since_ns: int | None = None) -> Iterator[CallRecord | TaskRecord]:
    """The records of a store, as they were written, since a Unix time in nanoseconds: calls first, then tasks.

    Raises `FileNotFoundError`, and `sqlite3.DatabaseError` for a file that is no store.
    """
    connection = open_for_reading(path)
    try:
        since = 0 if since_ns is None else since_ns
        for row in connection.execute(f"{_SELECT_CALLS} WHERE start_ns >= ? ORDER BY start_ns", (since,)):
            yield _call(row)
        for row in connection.execute(f"{_SELECT_TASKS} WHERE start_ns >= ? ORDER BY start_ns", (since,)):
            facts = dict(zip(_TASK, row, strict=True))
            yield TaskRecord(**{**facts, "attribution": json.loads(facts["attribution"])})
    finally:
        connection.close()


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
        if _check_version(_version(target, "source"), path) == VERSION:
            calls = "source.calls"
        else:
            calls = _as_current(target, "source")
        with target:
            target.execute("CREATE INDEX IF NOT EXISTS calls_by_span ON calls (trace_id, span_id)")
            (last,) = target.execute("SELECT coalesce(max(id), 0) FROM main.calls").fetchone()
            columns = ", ".join((*_FIXED, *COLUMNS, "more"))
            added = target.execute(
                f"INSERT INTO main.calls ({columns}) SELECT {columns} FROM {calls} AS new WHERE new.span_id = '' OR "  # noqa: S608
                "NOT EXISTS (SELECT 1 FROM main.calls AS had WHERE had.trace_id = new.trace_id AND "
                "had.span_id = new.span_id AND had.id <= ?)",
                (last,),
            ).rowcount
            (there,) = target.execute("SELECT count(*) FROM source.calls").fetchone()
            columns = ", ".join(_TASK)
            same = " AND ".join(f"had.{column} = new.{column}" for column in _TASK)
            target.execute(
                f"INSERT INTO main.tasks ({columns}) SELECT {columns} FROM source.tasks AS new "  # noqa: S608
                f"WHERE NOT EXISTS (SELECT 1 FROM main.tasks AS had WHERE {same})"
            )
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
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)
    try:
        if _check_version(_version(connection), path) != VERSION:
            connection.execute(f"CREATE TEMP VIEW calls AS SELECT * FROM {_as_current(connection)}")  # noqa: S608
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: str) -> sqlite3.Connection:
    if path not in PRIVATE:
        folder = Path(path).parent
        folder.mkdir(parents=True, exist_ok=True)
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
        if _version(connection) == 0:
            _create(connection)
        if _check_version(_version(connection), path) != VERSION:
            _add_columns(connection)
        _prune(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, schema: str = "main") -> int:
    (version,) = connection.execute(f"PRAGMA {schema}.user_version").fetchone()
    return int(version)


def _check_version(version: int, path: str | os.PathLike[str]) -> int:
    if version not in (1, VERSION):
        raise sqlite3.DatabaseError(
            f"{path} is no store of this TokenGuard (version {version}, not {VERSION}): move it away, or set "
            f"{names.ENV_STORE} to another file"
        )
    return version


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, once: another process may be doing the same."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if _version(connection) == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)


# A file of version 1 gets its new columns at once, which takes a million rows no longer, and their values bit by bit.
# It is of version 2 when all are in. Until then, readers take from the JSON what the columns do not have yet.


def _in_json(column: str) -> str:
    return f"""json_extract(more, '$."{COLUMNS[column]}"')"""


def _add_columns(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        there = _columns(connection)
        for column in SINCE_VERSION_2:
            if column not in there:
                connection.execute(f"ALTER TABLE calls ADD COLUMN {column}")


def _columns(connection: sqlite3.Connection, schema: str = "main") -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA {schema}.table_info(calls)")}


def _migrate(connection: sqlite3.Connection, done: int) -> int | None:
    """Fill the new columns of the rows that follow row `done`; returns the last one, or `None` when that was all."""
    last = done + MIGRATION_ROWS
    values = ", ".join(map(_in_json, SINCE_VERSION_2))
    with connection:
        connection.execute(
            f"UPDATE calls SET ({', '.join(SINCE_VERSION_2)}) = ({values}) "  # noqa: S608
            f"WHERE id > ? AND id <= ? AND more IS NOT NULL AND {SINCE_VERSION_2[0]} IS NULL",
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
    same = ", ".join(("id", *_FIXED, *(column for column in COLUMNS if column not in SINCE_VERSION_2), "more"))
    new = ", ".join(
        f"{f'coalesce({column}, {_in_json(column)})' if column in there else _in_json(column)} AS {column}"
        for column in SINCE_VERSION_2
    )
    return f"(SELECT {same}, {new} FROM {schema}.calls)"  # noqa: S608


def _prune(connection: sqlite3.Connection) -> None:
    try:
        days = float(os.environ.get(ENV_DAYS, ""))
    except ValueError:
        days = DEFAULT_DAYS
    if not 0 < days < FOREVER_DAYS:
        return  # all are kept
    before = time.time_ns() - int(days * NS_PER_DAY)
    with connection:
        for table in ("calls", "tasks"):
            connection.execute(f"DELETE FROM {table} WHERE start_ns < ?", (before,))  # noqa: S608


def _call_row(record: CallRecord) -> tuple[Any, ...]:
    attributes = record.attributes
    more = {key: value for key, value in attributes.items() if key not in _KNOWN}
    return _row(record, attributes, more)


def _careful_row(record: CallRecord) -> tuple[Any, ...]:
    """The row of a record with odd values: what no column can hold goes to the JSON; what is no number is unknown."""
    known = {key: value for key, value in record.attributes.items() if not _is_no_number(value)}
    columns = {key: value for key, value in known.items() if key in _KNOWN and _fits(value)}
    return _row(record, columns, {key: value for key, value in known.items() if key not in columns})


def _row(record: CallRecord, columns: Mapping[str, Any], more: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        record.start_ns,
        record.duration_ns,
        record.outcome,
        record.trace_id,
        record.span_id,
        *map(columns.get, _ATTRIBUTES),
        json.dumps(more, allow_nan=False) if more else None,
    )


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _fits(value: object) -> bool:
    """Whether a column gives the value back as it was."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _task_row(record: TaskRecord) -> tuple[Any, ...]:
    return (
        record.name.encode(errors="replace").decode(),
        record.start_ns,
        record.duration_ns,
        record.outcome,
        record.cost_usd,
        record.calls,
        json.dumps(dict(record.attribution)),
    )


def _call(row: tuple[Any, ...]) -> CallRecord:
    start_ns, duration_ns, outcome, trace_id, span_id, *values, more = row
    attributes: dict[str, AttributeValue] = {
        attribute: value for attribute, value in zip(_ATTRIBUTES, values, strict=True) if value is not None
    }
    for key, value in json.loads(more).items() if more else ():
        attributes[key] = tuple(value) if isinstance(value, list) else value
    read = attributes.get
    counts: dict[str, Any] = {
        field: count for field, name in USAGE_ATTRIBUTES.items() if (count := read(name)) is not None
    }
    cost: tuple[Any, ...] = tuple(map(read, COST_ATTRIBUTES))
    return CallRecord(
        start_ns,
        duration_ns,
        outcome,
        attributes,
        trace_id,
        span_id,
        Usage(**counts) if counts else None,
        Cost(*cost) if cost[0] is not None else None,
    )
