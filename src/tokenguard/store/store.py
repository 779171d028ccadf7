"""The local store: finished calls and tasks in a SQLite file, for `tokenguard report` with nothing else set up.

A record read back equals the one that was written. Several processes may write one file; `file` has its tables.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from tokenguard.facts.names import ENV_STORE
from tokenguard.facts.record import (
    COST_ATTRIBUTES,
    USAGE_ATTRIBUTES,
    AttributeValue,
    CallRecord,
    Cost,
    FaultRecord,
    Record,
    TaskRecord,
    ToolsetRecord,
)
from tokenguard.facts.usage import Usage
from tokenguard.process.forks import at_fork
from tokenguard.process.native import RLock, sleep
from tokenguard.store.faults import insert as insert_faults
from tokenguard.store.file import PRIVATE, is_busy, is_migrating, migrate, open_for_reading, open_for_writing
from tokenguard.store.layout import CALL_COLUMNS, COLUMNS, TASK_COLUMNS, TOOLSET_COLUMNS, Row
from tokenguard.store.layout import insert as insert_calls
from tokenguard.store.retention import DEFAULT_DAYS, EVERY_SECONDS, before, kept_days, prune
from tokenguard.store.sums import FOLD_ROWS, fold

BUSY_SECONDS: Final = 5.0
"""How long a batch waits for other processes to be done with the file."""
EXIT_SECONDS: Final = 0.7
"""How long all batches together do, once the process ends."""
PAUSE_SECONDS: Final = 0.005
MAX_WAITING: Final = 10_000
"""Records that are kept for the next batch when the file stayed busy; past it the oldest are dropped."""
ASKED: Final = 10
"""How often a process that fills the sums' next step by itself asks whether it is full."""
TIDYING_SECONDS: Final = 0.25
"""How long one batch goes on with what the file needs beside its records."""

_ATTRIBUTES = tuple(COLUMNS.values())
_KNOWN = frozenset(_ATTRIBUTES)
_INSERT_TASK = f"INSERT INTO tasks ({', '.join(TASK_COLUMNS)}) VALUES ({', '.join('?' * len(TASK_COLUMNS))})"  # noqa: S608
_INSERT_TOOL = f"INSERT OR IGNORE INTO toolsets ({', '.join(TOOLSET_COLUMNS)}) VALUES (?, ?, ?)"  # noqa: S608
_SELECT_CALLS = f"SELECT {', '.join(CALL_COLUMNS)} FROM calls"  # noqa: S608
_SELECT_TASKS = f"SELECT {', '.join(TASK_COLUMNS)} FROM tasks"  # noqa: S608


_NOTHING: Final[Mapping[str, Any]] = {}
T = TypeVar("T")


class Store:
    """A store that is written to. Methods raise `sqlite3.Error` or `OSError`; whoever writes contains them.

    `path` is a file, made with its folder on the first write, or `:memory:`, or empty for a temporary file. Records
    older than `TOKENGUARD_STORE_DAYS`, or else `days` (0 keeps all), are deleted in time; their daily sums are kept.
    Where it does not tidy, nothing is deleted, and calls come into the daily sums by whoever folds them.
    """

    def __init__(self, path: str | os.PathLike[str], days: float = DEFAULT_DAYS, *, tidies: bool = True) -> None:
        self.path = str(path)
        self._days = days
        self._tidies = tidies
        self._prune_at = 0.0
        self._unasked = FOLD_ROWS
        """Records since it was asked how many calls are not in the daily sums yet."""
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._until = math.inf
        """When waiting for other processes ends, by the monotonic clock: in a moment, once the process ends."""
        self._waiting: list[Record] = []
        self.dropped = 0
        """Records that are in no file and never will be."""
        self._migrating = False
        """Whether the file is of an older version, and has calls that lie as they did in it."""
        if self.path not in PRIVATE:
            _files.add(self)

    def write(self, records: Sequence[Record]) -> None:
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
            except Exception as error:
                if not is_busy(error):
                    self.dropped += len(batch)
                    if isinstance(error, OSError | sqlite3.OperationalError):
                        error.add_note(self._lost())
                    raise
                if time.monotonic() > min(began + BUSY_SECONDS, self._until):
                    with _lock:
                        kept = [*batch, *self._waiting]
                        self._waiting = kept[-MAX_WAITING:]
                        self.dropped += len(kept) - len(self._waiting)
                    raise
            sleep(PAUSE_SECONDS)  # without the lock
        self._unasked += len(batch)
        with _lock:
            self._tidy()

    def _lost(self) -> str:
        lost = "1 record is" if self.dropped == 1 else f"{self.dropped:,} records are"
        return f"{lost} lost: {self.path} cannot be written. Set {ENV_STORE} to a file that can be, or to off"

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the file in one transaction of its own, once other processes are done with it."""
        began = time.monotonic()
        while True:
            try:
                with _lock:
                    connection = self.connection()
                    with connection:  # around its beginning, too: a signal handler may raise right after it
                        connection.execute("BEGIN IMMEDIATE")
                        return operation(connection)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > min(began + BUSY_SECONDS, self._until):
                    raise
            sleep(PAUSE_SECONDS)  # without the lock

    def _insert(self, records: Sequence[Record]) -> None:
        kept: dict[type, list[Any]] = {CallRecord: [], TaskRecord: [], ToolsetRecord: [], FaultRecord: []}
        for record in records:
            kept[type(record)].append(record)
        connection = self.connection()
        try:
            _insert(connection, kept, _call_row)
        except (ValueError, OverflowError, sqlite3.ProgrammingError):  # a value that SQLite or JSON cannot hold
            _insert(connection, kept, _careful_row)

    def connection(self) -> sqlite3.Connection:
        """The connection; another one where the file was deleted or replaced meanwhile."""
        if self._connection is not None and self._inode != _inode(self.path):
            self.close()
        if self._connection is None:
            self._connection = open_for_writing(self.path)
            self._inode = _inode(self.path)
            self._migrating = is_migrating(self._connection)
            self._prune(self._connection)
        return self._connection

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Delete what is too old: when the file is opened, and every hour."""
        days = kept_days(self._days)
        if days is not None and not self._migrating:
            prune(connection, before(days), TIDYING_SECONDS)
        self._prune_at = time.monotonic() + EVERY_SECONDS

    def _tidy(self) -> None:
        """What a file needs beside its records, a bit with each batch, so that none takes long.

        Rows of an older file are brought up to date, then calls are added to the daily sums, and what is too old is
        deleted. A process that ends leaves the rest to the next one.
        """
        connection = self._connection
        if connection is None or self.path in PRIVATE or not self._tidies or self._until != math.inf:
            return
        until = time.monotonic() + TIDYING_SECONDS
        try:
            while self._migrating:
                migrate(connection)
                self._migrating = is_migrating(connection)
                if time.monotonic() > until:
                    return
            while self._unasked >= FOLD_ROWS // ASKED and fold(connection, least=FOLD_ROWS):
                if time.monotonic() > until:
                    return
            self._unasked %= FOLD_ROWS // ASKED
            if time.monotonic() >= self._prune_at:
                self._prune(connection)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise

    def hurry(self) -> None:
        """The process ends: from now on, even in a batch under way, no other process is waited for long, all in all."""
        self._until = min(self._until, time.monotonic() + EXIT_SECONDS)

    def finish(self) -> None:
        """Write what a busy file refused, and let go of the file."""
        try:
            if self._waiting:
                self.write(())
        finally:
            self.close()

    def detached(self) -> sqlite3.Connection:
        """The connection, which is the caller's to close from now on."""
        connection, self._connection = self.connection(), None
        return connection

    def __del__(self) -> None:
        """Let go of the file where nobody holds the store any more; Python 3.13 warns of one that stays open."""
        if (connection := getattr(self, "_connection", None)) is not None:  # without the lock: it may be held here
            connection.close()

    def close(self) -> None:
        """Let go of the file. A later write opens it again."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


def _insert(connection: sqlite3.Connection, kept: Mapping[type, list[Any]], row: Callable[[CallRecord], Row]) -> None:
    with connection:  # around its beginning, too: a signal handler may raise right after it
        connection.execute("BEGIN IMMEDIATE")
        insert_calls(connection, map(row, kept[CallRecord]))
        if tasks := kept[TaskRecord]:
            connection.executemany(_INSERT_TASK, map(_task_row, tasks))
        if tools := kept[ToolsetRecord]:
            connection.executemany(_INSERT_TOOL, (row for record in tools for row in _tool_rows(record)))
        insert_faults(connection, kept[FaultRecord])


# SQLite keeps what it knows of its file locks per process, and the locks themselves do not survive a fork: a child
# would take locks for held that are not (https://www.sqlite.org/howtocorrupt.html, section 2.6). So no connection
# crosses a fork: all are closed before, and each process opens its own at its next write.
_files: weakref.WeakSet[Store] = weakref.WeakSet()
_lock = RLock()


def _before_fork() -> None:
    _lock.acquire()
    for store in list(_files):
        with suppress(sqlite3.Error):
            store.close()


def _after_fork_in_child() -> None:
    global _lock
    for store in list(_files):
        store._waiting = []  # the parent writes them
        store.dropped = 0
    _lock = RLock()


def _after_fork_in_parent() -> None:
    _lock.release()


at_fork(_after_fork_in_child, before=_before_fork, in_parent=_after_fork_in_parent)


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
            yield call_of(row)
        for row in connection.execute(f"{_SELECT_TASKS} WHERE start_ns >= ? ORDER BY start_ns", (since,)):
            facts = dict(zip(TASK_COLUMNS, row, strict=True))
            yield TaskRecord(**{**facts, "attribution": json.loads(facts["attribution"])})
    finally:
        connection.close()


def _call_row(record: CallRecord) -> Row:
    return _row(record, record.attributes, _NOTHING)


def _careful_row(record: CallRecord) -> Row:
    """The row of a record with odd values: what no column can hold goes to the JSON; what is no number is unknown."""
    known = {key: value for key, value in record.attributes.items() if not _is_no_number(value)}
    columns = {key: value for key, value in known.items() if key in _KNOWN and _fits(value)}
    return _row(record, columns, {key: value for key, value in known.items() if key not in columns})


def _row(record: CallRecord, attributes: Mapping[str, Any], more: Mapping[str, Any]) -> Row:
    ids = record.trace_id, record.span_id
    return (None, record.start_ns, record.duration_ns, record.outcome, *ids, attributes, more)


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


def _tool_rows(record: ToolsetRecord) -> Iterator[tuple[Any, ...]]:
    for name, share in record.shares.items():
        yield record.hash, name.encode(errors="replace").decode(), share


def call_of(row: Sequence[Any]) -> CallRecord:
    """The record of a row of `CALL_COLUMNS`."""
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
