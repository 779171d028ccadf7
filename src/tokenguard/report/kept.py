"""OTLP-JSON that was read before, kept as a store in the user's cache: what has not changed is not read again.

To read a collector's files takes some 45 microseconds a span; a store with its daily sums answers at once. One store is
kept for each choice of files and folders. A file that has grown, or is new, is read, and spans that are known are left
out; where one is gone or has become smaller, all are read again. What nobody has asked for a month is deleted.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process import caches
from tokenguard.store.store import Store
from tokenguard.store.sums import fold

LEAST: Final = 4 * 2**20
"""Bytes of files that are worth being kept: fewer are read in a fraction of a second."""
KEPT_S: Final = 30 * 86_400
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS read_files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "repeated INTEGER NOT NULL)"
)

Read = Callable[[Store, Sequence[Path], int], int]
"""Reads files into a store, each span once after a row; returns how many calls were left out."""


class Stamp(NamedTuple):
    """What tells whether a file has changed."""

    size: int
    mtime_ns: int


def place(given: Sequence[Path], files: Sequence[Path]) -> Path | None:
    """Where what was given is kept; `None` where it is not worth it, or there is no place."""
    from tokenguard import __version__

    with suppress(OSError, RuntimeError):  # no home, no room; and what is missing is told where it is read
        from hashlib import sha256  # three milliseconds, that a store of its own needs not

        if sum(file.stat().st_size for file in files) < LEAST:
            return None
        if not (ours := caches.folder()):
            return None
        folder = Path(ours)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tidy(folder)
        named = "\n".join([__version__, *sorted(str(path.resolve()) for path in given)])
        return folder / f"otlp-{sha256(named.encode()).hexdigest()[:16]}.db"
    return None


def bring_up_to_date(at: Path, files: Sequence[Path], read: Read) -> int:
    """Have in the store at this path what is in the files; returns how many calls were left out as repeated.

    Raises what `read` raises, `OSError` and `sqlite3.Error`.
    """
    now = {str(file.resolve()): Stamp(*_stamp(file)) for file in files}
    by_path = {str(file.resolve()): file for file in files}
    store = Store(str(at), tidies=False)
    try:
        connection = store.connection()
        connection.execute(_TABLE)
        known = {
            path: (Stamp(size, mtime), repeated)
            for path, size, mtime, repeated in connection.execute("SELECT * FROM read_files")
        }
        if any(path not in now or now[path].size < stamp.size for path, (stamp, _) in known.items()):
            store.close()
            forget(at)
            connection = store.connection()
            connection.execute(_TABLE)
            known = {}
        grown = [path for path, (stamp, _) in known.items() if stamp != now[path]]
        new = [path for path in now if path not in known]
        for some in (grown, new):
            if some:
                (after,) = connection.execute("SELECT id FROM summed").fetchone()
                left_out = read(store, [by_path[path] for path in some], after)
                _note(store, {path: now[path] for path in some}, {p: known[p][1] for p in grown}, left_out)
                while fold(store.connection()):  # now, and not before: repeated calls are out
                    pass
        ((repeated,),) = connection.execute("SELECT coalesce(sum(repeated), 0) FROM read_files")
    finally:
        store.close()
    os.utime(at)
    return int(repeated)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _note(store: Store, stamps: Mapping[str, Stamp], before: Mapping[str, int], left_out: int) -> None:
    """Note that files have been read. Of one that was read before, what is left out is what was known."""
    counts = [before.get(path, 0 if n else left_out) for n, path in enumerate(stamps)]
    rows = [(path, *stamp, count) for (path, stamp), count in zip(stamps.items(), counts, strict=True)]

    def note(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR REPLACE INTO read_files VALUES (?, ?, ?, ?)", rows)

    store.run(note)


def forget(at: Path) -> None:
    """Delete a store with what SQLite has beside it."""
    for end in ("", "-wal", "-shm"):
        Path(f"{at}{end}").unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    before = time.time() - KEPT_S
    for file in folder.glob("otlp-*.db"):
        if file.stat().st_mtime < before:
            forget(file)
