"""A store's calls and tasks as Parquet files by day, which DuckDB and whatever else reads Parquet can ask.

`FOLDER/calls/day=2026-11-20/STORE-FIRST-LAST.parquet` holds the rows FIRST to LAST of that day; tasks likewise. What is
in a folder is not written again: the next export goes on after the last row that a name there has. DuckDB writes them,
from text that keeps an empty value and none apart. Needs the extra `parquet`.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.store.layout import CALL_COLUMNS, NS_PER_DAY, TASK_COLUMNS

NONE: Final = "\\N"
REALS: Final = re.compile(r".*_(usd|s)|temperature|answer_likeness")
WHOLES: Final = re.compile(r".*_(tokens|ns)|id|resends|code_line|retry_attempt|tool_steps|break_(index|offset)|calls")


class Exported(NamedTuple):
    """What was written."""

    calls: int
    tasks: int
    files: int
    bytes: int


class _Table(NamedTuple):
    name: str
    columns: tuple[str, ...]


TABLES: Final = (_Table("calls", ("id", *CALL_COLUMNS)), _Table("tasks", ("id", *TASK_COLUMNS)))


def sql_type(column: str) -> str:
    """The type that a column has in Parquet; a store's columns have none."""
    if WHOLES.fullmatch(column):
        return "BIGINT"
    return "DOUBLE" if REALS.fullmatch(column) else "VARCHAR"


def connect() -> Any:
    """A DuckDB that asks nobody for anything. Raises `ModuleNotFoundError` without it."""
    import duckdb

    connection = duckdb.connect(":memory:")
    for setting in ("autoinstall_known_extensions = false", "autoload_known_extensions = false", "TimeZone = 'UTC'"):
        connection.execute(f"SET {setting}")
    return connection


def export(connection: sqlite3.Connection, store: str | os.PathLike[str], folder: Path) -> Exported:
    """Write the rows of a store that the folder has not yet. Raises `OSError`, `sqlite3.Error`, DuckDB's errors."""
    duck = connect()
    prefix = sha256(f"{socket.gethostname()}:{Path(store).resolve()}".encode()).hexdigest()[:8]
    counts = dict.fromkeys((table.name for table in TABLES), 0)
    files = size = 0
    try:
        for table in TABLES:
            after = _last(folder / table.name, prefix)
            columns = ", ".join(f'"{column}"' for column in table.columns)
            day = f"start_ns / {NS_PER_DAY}"
            rows = connection.execute(
                f"SELECT {day}, {columns} FROM {table.name} WHERE id > ? ORDER BY {day}, id",  # noqa: S608 - our own
                (after,),
            )
            for number, group in groupby(rows, key=lambda row: int(row[0])):
                written, path = _write(duck, folder, table, prefix, number, (row[1:] for row in group))
                counts[table.name] += written
                files, size = files + 1, size + path.stat().st_size
    finally:
        duck.close()
    return Exported(counts["calls"], counts["tasks"], files, size)


def _last(folder: Path, prefix: str) -> int:
    """The last row that is there, by the names of the files."""
    names = (re.fullmatch(rf"{prefix}-\d+-(\d+)\.parquet", path.name) for path in folder.glob("day=*/*.parquet"))
    return max((int(name[1]) for name in names if name), default=0)


def _write(
    duck: Any, folder: Path, table: _Table, prefix: str, day: int, rows: Iterable[Sequence[Any]]
) -> tuple[int, Path]:
    """Write one day's rows; the file is there when it is whole."""
    types = [sql_type(column) for column in table.columns]
    there = folder / table.name / f"day={_date(day)}"
    there.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=there) as made:
        text = Path(made) / "rows.csv"
        with text.open("w", encoding="utf-8", errors="replace", newline="") as file:
            first, last, count = _write_text(file, types, rows)
        half = Path(made) / "half.parquet"
        columns = dict(zip(table.columns, types, strict=True))
        read = (
            "read_csv(?, columns = ?, header = false, nullstr = ?, quote = '\"', escape = '\"', "
            "allow_quoted_nulls = false, auto_detect = false, new_line = '\\n', parallel = false, "
            "max_line_size = 33554432)"
        )
        duck.execute(
            f"COPY (SELECT * FROM {read}) TO '{_quoted(half)}' (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
            [str(text), columns, NONE],
        )
        path = there / f"{prefix}-{first}-{last}.parquet"
        half.replace(path)
    return count, path


def _date(day: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _write_text(file: IO[str], types: Sequence[str], rows: Iterable[Sequence[Any]]) -> tuple[int, int, int]:
    first = last = count = 0
    for row in rows:
        first = first or row[0]
        last = max(last, row[0])
        count += 1
        file.write(",".join(map(_field, types, row)))
        file.write("\n")
    return first, last, count


def _field(kind: str, value: Any) -> str:
    """A value as CSV; what does not fit the column's type is none."""
    if value is None:
        return NONE
    if kind == "VARCHAR":
        text = str(value)
        return f'"{text.replace(chr(34), chr(34) * 2)}"'
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NONE
    return str(int(value)) if kind == "BIGINT" else repr(float(value))
