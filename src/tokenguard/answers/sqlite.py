"""The answers of one machine: a SQLite file that its processes share."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tokenguard.answers.store import Item, Stat, Store
from tokenguard.process.forks import leave
from tokenguard.process.native import RLock
from tokenguard.process.private import private

T = TypeVar("T")

VERSION: Final = 2
"""Of the file; what another version has kept is forgotten."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS answer (
    key BLOB PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL,
    used REAL NOT NULL, expires REAL NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL,
    grouped TEXT NOT NULL, put_in REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS answer_grouped ON answer (grouped, put_in) WHERE grouped <> '';
CREATE INDEX IF NOT EXISTS answer_used ON answer (used);
CREATE INDEX IF NOT EXISTS answer_expires ON answer (expires);
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0);
CREATE TRIGGER IF NOT EXISTS answer_in AFTER INSERT ON answer BEGIN
    UPDATE total SET size = size + new.size;
END;
CREATE TRIGGER IF NOT EXISTS answer_out AFTER DELETE ON answer BEGIN
    UPDATE total SET size = size - old.size;
END;
PRAGMA user_version = {VERSION};
"""  # noqa: S608 - our own number
_FORGET: Final = "DROP TABLE IF EXISTS answer; DROP TABLE IF EXISTS total;"
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_TOUCH_S: Final = 60.0
"""How much later than it says an entry may have been used: a read that writes costs ten times as much."""
_EXPIRED: Final = 100
"""Entries whose time is over that go with each new one, at the most."""


class SqliteStore(Store):
    """Entries in a SQLite file (WAL), readable by its owner alone. An entry is there whole, or not at all.

    `timeout_s` is how long an operation waits for other processes.
    """

    def __init__(self, path: Path, max_bytes: int, *, timeout_s: float) -> None:
        super().__init__(max_bytes)
        self.path = path
        self._timeout_s = timeout_s
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def get(self, key: bytes) -> bytes | None:
        """See `Store.get`."""
        now = time.time()
        found = self._read("SELECT data, used, expires FROM answer WHERE key = ?", (key,))
        if not found or found[0][2] <= now:
            return None
        data: bytes = found[0][0]
        if now - found[0][1] > _TOUCH_S:
            self.soon(lambda: self._touch(key, now))
        return data

    def _touch(self, key: bytes, now: float) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._write(lambda db: db.execute("UPDATE answer SET used = ? WHERE key = ?", (now, key)))

    def put(self, key: bytes, item: Item) -> None:
        """See `Store.put`."""
        now = time.time()

        def replace(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM answer WHERE key = ?", (key,))
            db.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, item.rule, item.tenant, now, item.expires, item.size, item.data, item.group, now),
            )
            db.execute(
                "DELETE FROM answer WHERE key IN (SELECT key FROM answer WHERE expires <= ? LIMIT ?)", (now, _EXPIRED)
            )
            while self._size(db) > self.max_bytes:
                db.execute("DELETE FROM answer WHERE key IN (SELECT key FROM answer ORDER BY used LIMIT 16)")

        self._write(replace)

    def group(self, name: str, since: float) -> tuple[list[tuple[bytes, bytes]], float]:
        """See `Store.group`."""
        now = time.time()
        found = self._read(
            "SELECT key, data FROM answer WHERE grouped = ? AND grouped <> '' AND put_in >= ? AND expires > ?",
            (name, since, now),
        )
        return found, now

    def _size(self, db: sqlite3.Connection) -> int:
        size: int = db.execute("SELECT size FROM total").fetchone()[0]
        return size

    def delete(self, key: bytes) -> None:
        """See `Store.delete`."""
        self._write(lambda db: db.execute("DELETE FROM answer WHERE key = ?", (key,)))

    def clear(self, rule: str | None = None, tenant: str | None = None) -> int:
        """See `Store.clear`."""
        given = {"rule": rule, "tenant": tenant}
        named = [name for name, value in given.items() if value is not None]
        where = " AND ".join(f"{name} = :{name}" for name in named) or "1"

        def delete(db: sqlite3.Connection) -> int:
            counted = db.execute(f"SELECT count(*) FROM answer WHERE grouped = '' AND {where}", given)  # noqa: S608
            number: int = counted.fetchone()[0]
            db.execute(f"DELETE FROM answer WHERE {where}", given)  # noqa: S608
            return number

        gone = self._write(delete)
        self._read("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def stats(self) -> list[Stat]:
        """See `Store.stats`."""
        found = self._read(
            "SELECT rule, count(*) FILTER (WHERE grouped = ''), sum(size) FROM answer WHERE expires > ? "
            "GROUP BY rule ORDER BY rule",
            (time.time(),),
        )
        return [Stat(*row) for row in found]

    def __del__(self) -> None:
        """Close the file of a store that another policy has replaced; Python 3.13 warns of one that stays open."""
        self.close()

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _read(self, question: str, given: Sequence[Any] = ()) -> list[Any]:
        """The rows that answer it."""
        with self._lock:
            try:
                return self._open().execute(question, given).fetchall()
            except sqlite3.Error as error:
                raise self._named(error) from error

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in a transaction, whole or not at all."""
        with self._lock:
            try:
                db = self._open()
                try:
                    db.execute("BEGIN IMMEDIATE")
                    done = work(db)
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._named(error) from error
            return done

    def _named(self, error: sqlite3.Error) -> sqlite3.Error:
        """The error, with the file that it is about, and the next step where there is but one."""
        if str(self.path) in str(error):
            return error
        if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED):
            self.close()  # the next one may be in its place by then
            told = f"{self.path} is damaged, or no SQLite file ({error}). Delete it, and a new one is made."
        else:
            told = f"{self.path}: {error}"
        return type(error)(told)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        if self._connection is not None:
            leave(self._connection)
        private(self.path)
        db = sqlite3.connect(
            self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._connection, self._owner = db, os.getpid()
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "answer" not in tables:
            raise sqlite3.DatabaseError(
                f"{self.path} has the tables of something else: {', '.join(sorted(tables))}. Name another file in url "
                "under [answers]."
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = FAST")
        if (found := db.execute("PRAGMA user_version").fetchone()[0]) != VERSION:
            db.executescript(f"BEGIN IMMEDIATE;{_FORGET if found else ''}{_SCHEMA}COMMIT;")
