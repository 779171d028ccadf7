"""Parquet folders as records, asked by DuckDB: a hundred million calls by feature in some two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.errors import TokenGuardError
from tokenguard.report.engine import Dialect
from tokenguard.store.layout import COLUMNS, IN_JSON_BEFORE
from tokenguard.store.parquet import TABLES, connect, sql_type

DUCKDB: Final = Dialect(
    calls="calls",
    tasks="tasks",
    stamp=lambda ns, pattern: f"strftime(make_timestamp_ns({ns}), '{pattern}')",
    quantile=lambda value, q: f"quantile_cont({value}, {q})",
    glob=lambda text: f"{text} GLOB ?",
    attribute=lambda column, key: f"""json_extract_string({column}, '$."{key}"')""",
)
IN_JSON: Final = tuple(column for columns in IN_JSON_BEFORE.values() for column in columns)
"""Columns that older files have not: what they would hold is in the JSON there."""
MISSING: Final = "Parquet is read with DuckDB. Install it: pip install 'tokenguard-otel[parquet]'"


class DuckRecords:
    """The calls and tasks in some Parquet files, each file's by the names of its columns."""

    dialect = DUCKDB
    summed: int | None = None
    toolsets = False

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            self._connection = connect()
        except ModuleNotFoundError:
            raise TokenGuardError(MISSING) from None
        import duckdb

        self._error = duckdb.Error
        for table in TABLES:
            some = [str(file) for file in files if (file.parent.parent.name == "tasks") == (table.name == "tasks")]
            self._run(f"CREATE VIEW {table.name} AS {self._selected(table.columns, some)}")

    def _selected(self, columns: Sequence[str], files: Sequence[str]) -> str:
        """The columns of some files. One that a file has not is null, or what the JSON of an older file has of it."""
        empty = ", ".join(f'NULL::{sql_type(column)} AS "{column}"' for column in columns)
        none = f"SELECT {empty} WHERE false"
        if not files:
            return none
        listed = ", ".join("'{}'".format(file.replace("'", "''")) for file in files)
        in_all = self._run(
            f"SELECT name FROM parquet_schema([{listed}]) GROUP BY 1 HAVING count(*) = {len(files)}"  # noqa: S608
        )
        lacking = [column for column in IN_JSON if column in columns and (column,) not in set(in_all.fetchall())]
        there = f"SELECT * FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"  # noqa: S608
        found = f"{none} UNION ALL BY NAME {there}"
        if not lacking:
            return found
        instead = ", ".join(
            f'coalesce("{column}", TRY_CAST({DUCKDB.attribute("more", COLUMNS[column])} AS {sql_type(column)})) '
            f'AS "{column}"'
            for column in lacking
        )
        return f"SELECT * REPLACE ({instead}) FROM ({found})"  # noqa: S608 - our own names

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
