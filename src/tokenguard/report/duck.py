"""Parquet folders as records, asked by DuckDB: a hundred million calls by feature in some two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.errors import TokenGuardError
from tokenguard.report.engine import Dialect
from tokenguard.store.parquet import TABLES, connect, sql_type

DUCKDB: Final = Dialect(
    calls="calls",
    tasks="tasks",
    stamp=lambda ns, pattern: f"strftime(make_timestamp_ns({ns}), '{pattern}')",
    quantile=lambda value, q: f"quantile_cont({value}, {q})",
    glob=lambda text: f"{text} GLOB ?",
    attribute=lambda column, key: f"""json_extract_string({column}, '$."{key}"')""",
)
MISSING: Final = "Parquet is read with DuckDB. Install it: pip install 'tokenguard-otel[parquet]'"


class DuckRecords:
    """The calls and tasks in some Parquet files, each file's by the names of its columns."""

    dialect = DUCKDB
    summed: int | None = None

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            self._connection = connect()
        except ModuleNotFoundError:
            raise TokenGuardError(MISSING) from None
        import duckdb

        self._error = duckdb.Error
        for table in TABLES:
            some = [str(file) for file in files if (file.parent.parent.name == "tasks") == (table.name == "tasks")]
            self._run(f"CREATE VIEW {table.name} AS {_selected(table.columns, some)}")

    def _run(self, sql: str, values: Sequence[Any] = ()) -> Any:
        try:
            return self._connection.execute(sql, list(values))
        except self._error as error:
            said = str(error).partition("\n")[0]
            raise TokenGuardError(f"the Parquet files cannot be read: {said}") from error

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        found: list[tuple[Any, ...]] = self._run(sql, values).fetchall()
        return found

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()


def _selected(columns: Sequence[str], files: Sequence[str]) -> str:
    """The columns of some files; those that a file has not are null."""
    empty = ", ".join(f'NULL::{sql_type(column)} AS "{column}"' for column in columns)
    none = f"SELECT {empty} WHERE false"
    if not files:
        return none
    names = ", ".join("'{}'".format(file.replace("'", "''")) for file in files)
    there = f"SELECT * FROM read_parquet([{names}], union_by_name = true, hive_partitioning = false)"  # noqa: S608
    return f"{none} UNION ALL BY NAME {there}"
