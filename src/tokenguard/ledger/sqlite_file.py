"""The file of the SQLite ledger: its tables, how it is opened, and what is said to it.

`account` has what is spent and reserved. A new reservation is a row of `loose`, and no account is written for it: what
an account holds is what its row says and the loose rows that name it. Most calls end while theirs is loose. When there
are many, they move to `held`, and the accounts' rows say so.
"""

from __future__ import annotations

import sqlite3
import time
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenguard.ledger.entry import LedgerError
from tokenguard.process.native import sleep
from tokenguard.process.private import private

_VERSION: Final = 2
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS account (
        id TEXT PRIMARY KEY, budget TEXT NOT NULL, key TEXT NOT NULL,
        window_start INTEGER NOT NULL, window_end INTEGER NOT NULL,
        spent_nano INTEGER NOT NULL DEFAULT 0, spent_tokens INTEGER NOT NULL DEFAULT 0,
        reserved_nano INTEGER NOT NULL DEFAULT 0, reserved_tokens INTEGER NOT NULL DEFAULT 0,
        orphaned_nano INTEGER NOT NULL DEFAULT 0, orphaned_tokens INTEGER NOT NULL DEFAULT 0,
        alerted REAL NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS held (
        id TEXT PRIMARY KEY, expires REAL NOT NULL, nano INTEGER NOT NULL, tokens INTEGER NOT NULL,
        orphaned INTEGER NOT NULL DEFAULT 0, accounts TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS reservation_lease ON held (orphaned, expires)",
    """CREATE TABLE IF NOT EXISTS loose (
        id TEXT PRIMARY KEY, expires REAL NOT NULL, nano INTEGER NOT NULL, tokens INTEGER NOT NULL,
        accounts TEXT NOT NULL
    ) WITHOUT ROWID""",
)
_ADDED: Final = {"refused": "INTEGER NOT NULL DEFAULT 0"}
"""Columns of `account` that files of the first version lack."""
JOIN: Final = "\x1e"
"""Between the ids in `accounts`."""

BALANCE: Final = (
    "budget, key, window_start, window_end, spent_nano, spent_tokens, reserved_nano, reserved_tokens,"
    " orphaned_nano, orphaned_tokens"
)
HOLD: Final = (
    "INSERT OR IGNORE INTO loose (id, expires, nano, tokens, accounts)"
    " SELECT ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM held WHERE id = ?)"
)
IS_HELD: Final = "SELECT 1 FROM loose WHERE id = ? UNION ALL SELECT 1 FROM held WHERE id = ?"
LOOSE: Final = "SELECT id, nano, tokens, accounts FROM loose"
MOVE: Final = (
    "INSERT INTO held (id, expires, nano, tokens, accounts) SELECT id, expires, nano, tokens, accounts FROM loose"
)
ORPHANS: Final = "UPDATE held SET orphaned = 1 WHERE orphaned = 0 AND expires <= ? RETURNING nano, tokens, accounts"


def connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """Open the file, or make it. Raises `LedgerError` for one of a later version."""
    private(path)
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise LedgerError(
                f"the ledger {path} has format {version}, and this TokenGuard reads up to {_VERSION}: update TokenGuard"
            )
        db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a crash of the process loses nothing
        if version < _VERSION:
            _use_wal(db, timeout_s)
            _make(db)
        db.execute("PRAGMA busy_timeout = 0")  # from here on the ledger waits by itself
    except BaseException:
        db.close()
        raise
    return db


def _make(db: sqlite3.Connection) -> None:
    """Make the tables, or have those of an older version be as they are now.

    Processes of a version that knows of no loose rows must not write on: they find no `reservation` any more.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == 1:
            db.execute("ALTER TABLE reservation RENAME TO held")
        for statement in _SCHEMA:
            db.execute(statement)
        known = {row[1] for row in db.execute("PRAGMA table_info(account)")}
        for column in _ADDED.keys() - known:
            db.execute(f"ALTER TABLE account ADD COLUMN {column} {_ADDED[column]}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.rollback()


def _use_wal(db: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the file to WAL. SQLite does not wait when several processes do this at once, so this does."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            sleep(0.01)
        else:
            return


@lru_cache(maxsize=64)
def select(count: int) -> str:
    """What so many accounts hold."""
    return (
        "SELECT id, spent_nano, spent_tokens, reserved_nano, reserved_tokens FROM account"  # noqa: S608 - question marks
        f" WHERE id IN ({_marks(count)})"
    )


@lru_cache(maxsize=64)
def reserve(count: int) -> str:
    """Reserve nano-dollars and tokens in so many accounts."""
    return (
        "UPDATE account SET reserved_nano = reserved_nano + ?, reserved_tokens = reserved_tokens + ?"  # noqa: S608
        f" WHERE id IN ({_marks(count)})"
    )


@lru_cache(maxsize=64)
def charge(count: int) -> str:
    """Change what is spent, reserved and orphaned in so many accounts.

    Never below 0, where a reset came between an orphan's charge and its settle.
    """
    return (
        "UPDATE account SET spent_nano = max(0, spent_nano + ?), spent_tokens = max(0, spent_tokens + ?),"  # noqa: S608
        " reserved_nano = reserved_nano + ?, reserved_tokens = reserved_tokens + ?,"
        " orphaned_nano = max(0, orphaned_nano + ?), orphaned_tokens = max(0, orphaned_tokens + ?)"
        f" WHERE id IN ({_marks(count)}) RETURNING id, spent_nano, spent_tokens, alerted"
    )


@lru_cache(maxsize=128)
def take(table: str, count: int) -> str:
    """End so many reservations of `loose` or `held`."""
    orphaned = ", orphaned" if table == "held" else ""
    return f"DELETE FROM {table} WHERE id IN ({_marks(count)}) RETURNING id, nano, tokens{orphaned}"  # noqa: S608


def _marks(count: int) -> str:
    return ",".join("?" * count)
