"""What TokenGuard itself has missed, kept in the store beside the calls: a table that is made with the first fault."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from tokenguard.facts.record import FAULTS, FaultRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.store.file import open_for_reading

_TABLE: Final = "CREATE TABLE IF NOT EXISTS faults (at_ns INTEGER, kind TEXT, count INTEGER, said TEXT)"
_MOST: Final = 1000
"""Rows that are kept: a program that fails all the time must not fill the store with it."""


class Fault(NamedTuple):
    """All faults of one kind in some time."""

    kind: str
    times: int
    last_ns: int
    """When the last one was told: Unix time, nanoseconds."""
    said: str
    """The last error, in words; may be empty."""

    @property
    def text(self) -> str:
        """In a sentence without an end: `3 calls were not measured (looking at a request failed ...)`."""
        return f"{self.times:,} {FAULTS.get(self.kind, self.kind)}{f' ({self.said})' if self.said else ''}"


def insert(connection: sqlite3.Connection, faults: Sequence[FaultRecord]) -> None:
    """Add them, in the transaction that is open."""
    if faults:
        connection.execute(_TABLE)
        rows = [(fault.at_ns, fault.kind, fault.count, fault.said[:500]) for fault in faults]
        connection.executemany("INSERT INTO faults VALUES (?, ?, ?, ?)", rows)
        connection.execute("DELETE FROM faults WHERE rowid <= (SELECT max(rowid) FROM faults) - ?", (_MOST,))


def read(path: Path, since_ns: int | None = None, until_ns: int | None = None) -> list[Fault]:
    """The faults in a store by kind, the worst first; none where it is no store, or has none."""
    try:
        with closing(open_for_reading(path)) as connection:
            rows = connection.execute(
                "SELECT kind, sum(count), max(at_ns), said FROM faults WHERE at_ns >= ? AND at_ns < ? GROUP BY kind",
                (since_ns or 0, 2**63 - 1 if until_ns is None else until_ns),
            ).fetchall()
    except (OSError, sqlite3.Error):
        return []
    kinds = list(FAULTS)
    return sorted((Fault(*row) for row in rows if row[0] in FAULTS), key=lambda fault: kinds.index(fault.kind))
