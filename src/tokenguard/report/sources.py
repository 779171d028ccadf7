"""Where a report's records come from: a local store, or OTLP-JSON as OpenTelemetry's collector writes it to files.

Both become a store, on disk or in memory, so that every figure has one definition, in SQL. That of large files is kept.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report import kept
from tokenguard.report.engine import Records, SqliteRecords
from tokenguard.report.lines import GZIP_MAGIC, WOULD_DO, SourceError, begins, is_address
from tokenguard.store.file import MEMORY, TEMPORARY, gather, open_for_reading
from tokenguard.store.store import Store

BATCH = 2000
SQLITE_MAGIC = b"SQLite format 3\x00"
PARQUET_MAGIC = b"PAR1"


class Source(NamedTuple):
    """The records that were asked for."""

    records: Records
    repeated: int = 0
    """Calls that were left out because an earlier source, or an earlier line of OTLP-JSON, has their span."""


def open_sources(given: Sequence[Path | str]) -> Source:
    """The records in what is given: each a store, OTLP-JSON lines (maybe gzipped), Parquet, or a folder of any of them.

    Or one address of a table in ClickHouse.

    A span that several of them hold is counted once, by trace id and span id; a store's record goes before that of a
    file, as it knows more. Parquet is asked where it is, and is not read together with others. Raises `SourceError`.
    """
    tables = [source for source in given if isinstance(source, str) and is_address(source)]
    if tables:
        if len(given) > 1:
            raise SourceError("a table in ClickHouse cannot be read together with others. Ask one after the other")
        from tokenguard.report.clickhouse import ClickRecords

        return Source(ClickRecords(tables[0]))
    paths = [Path(source) for source in given]
    packed = [file for path in paths for file in _parquet_in(path)]
    if packed:
        if other := [path for path in paths if not _parquet_in(path)]:
            raise SourceError(
                f"{other[0]}: is no Parquet, and cannot be read together with it. Ask one after the other"
            )
        from tokenguard.report.duck import DuckRecords

        return Source(DuckRecords(packed))
    stores: dict[Path, Path] = {}
    files: dict[Path, Path] = {}
    for path in paths:
        with _told(path):
            store = path / Path(names.DEFAULT_STORE).name if path.is_dir() else path
            if begins(store, SQLITE_MAGIC):
                stores[store.resolve()] = store
            else:
                files |= {file.resolve(): file for file in (_lines_in(path) if path.is_dir() else [path])}
    if len(stores) == 1 and not files:
        return Source(_opened(*stores.values()))
    if not stores and (kept_at := kept.place(paths, list(files.values()))) is not None:
        with suppress(sqlite3.Error, PermissionError):  # a cache that cannot be used is no reason to stop
            repeated = kept.bring_up_to_date(kept_at, list(files.values()), _read)
            return Source(_opened(kept_at), repeated)
    together = Store(TEMPORARY)
    try:
        return _gathered(together, list(stores.values()), list(files.values()))
    except BaseException:
        together.close()
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a source names it, and says what would do."""
    try:
        yield
    except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"{path}: cannot be read: {said}. {WOULD_DO}") from error


def _opened(store: Path) -> Records:
    with _told(store):
        connection = open_for_reading(store)
        connection.execute("BEGIN")  # all statements see one state of it: programs add calls, and calls to the sums
        return SqliteRecords(connection)


def empty() -> Records:
    """No records at all."""
    return SqliteRecords(Store(MEMORY).detached())


def _gathered(together: Store, stores: list[Path], files: list[Path]) -> Source:
    """All the records in one temporary store, each span once."""
    connection = together.connection()
    repeated = 0
    for path in stores:
        with _told(path):
            repeated += gather(connection, path)
    if files:
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM call_rows").fetchone()
        repeated += _read(together, files, last)
    return Source(SqliteRecords(together.detached()), repeated)


def _read(together: Store, files: Sequence[Path], after: int) -> int:
    """Read OTLP-JSON lines into a store; returns how many calls after a row were left out, as their span is known."""
    from tokenguard.report.otlp import Lines  # knows the providers, which take a while to load

    connection = together.connection()
    lines = Lines(connection.execute("SELECT name, start_ns FROM tasks"))
    for path in files:
        with _told(path):
            records = lines.records(path)
            while batch := list(islice(records, BATCH)):
                together.write(batch)
    lines.add_late(connection)
    return _forget_repeated(connection, after)


def _forget_repeated(connection: sqlite3.Connection, last: int) -> int:
    """Delete the calls after row `last` whose span an earlier row has; returns how many.

    They are from files, and a collector may write a line again: there is no span twice in one of them either.
    """
    with connection:
        connection.execute("CREATE INDEX IF NOT EXISTS call_rows_by_span ON call_rows (trace_id, span_id)")
        return connection.execute(
            "DELETE FROM call_rows WHERE id > ? AND span_id <> '' AND EXISTS (SELECT 1 FROM call_rows AS earlier WHERE "
            "earlier.trace_id = call_rows.trace_id AND earlier.span_id = call_rows.span_id AND "
            "earlier.id < call_rows.id)",
            (last,),
        ).rowcount


def _parquet_in(path: Path) -> list[Path]:
    """The Parquet files of a source, by their beginning and their names."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*.parquet") if each.is_file())
    with suppress(OSError):
        return [path] if begins(path, PARQUET_MAGIC) else []
    return []


def _lines_in(folder: Path) -> list[Path]:
    """The files in a folder, and in those in it, that hold JSON lines, maybe gzipped: the collector's, rotated ones."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and begins(each, b"{", GZIP_MAGIC))
    if not files:
        raise SourceError(f"{folder}: holds no store, no OTLP-JSON lines and no Parquet. {WOULD_DO}")
    return files
