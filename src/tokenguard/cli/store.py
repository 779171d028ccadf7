"""`tokenguard store`: what becomes of the recorded calls."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from tokenguard.cli.group import Suggesting
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError

PRUNING_SECONDS = 3600.0
"""How long one command goes on adding up what it deletes."""


@click.group(cls=Suggesting)
def store() -> None:
    """Prune or export the local store, or print the tables of a fleet's store in ClickHouse."""


@store.command()
@click.option("--keep", metavar="DAYS", default="90d", show_default=True, help="How many days of calls to keep: 90d.")
@click.option("--store", "path", metavar="PATH", help="The store. Default: the local one.")
def prune(keep: str, path: str | None) -> None:
    """Delete calls and tasks that are older, by whole UTC days, and give their room back.

    Their daily sums stay: reports by feature, tenant, model and the like still have them.
    """
    from tokenguard.report.figures import many
    from tokenguard.report.labels import when
    from tokenguard.store import retention
    from tokenguard.store.file import is_migrating, migrate, open_for_writing

    days = re.fullmatch(r"(\d{1,6})d?", keep.strip())
    if days is None:
        raise TokenGuardError(f"--keep {keep!r} is no number of days: write 90d")
    file = _there(path)
    bound = retention.before(float(days[1]))
    connection = open_for_writing(str(file))
    try:
        while is_migrating(connection):
            migrate(connection)
        gone = retention.prune(connection, bound, PRUNING_SECONDS)
        if gone.calls or gone.tasks:
            connection.execute("VACUUM")
    finally:
        connection.close()
    click.echo(
        f"{file}: {many(gone.calls, 'call')} and {many(gone.tasks, 'task')} before {when(bound)} UTC deleted; "
        f"their daily sums are kept. It has {file.stat().st_size / 1e6:,.1f} MB now"
    )


@store.command()
@click.option("--to", "form", type=click.Choice(["parquet"]), default="parquet", show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("usage-parquet"), show_default=True
)
@click.option("--store", "path", metavar="PATH", help="The store. Default: the local one.")
def export(form: str, out: Path, path: str | None) -> None:
    """Write calls and tasks as Parquet files by day, for DuckDB, a data lake, or reports over many stores.

    What the folder has already is not written again: run it as often as you like. A report reads such a folder with
    --source.
    """
    from tokenguard.report.duck import MISSING
    from tokenguard.report.figures import many
    from tokenguard.store import parquet
    from tokenguard.store.file import open_for_reading

    file = _there(path)
    connection = open_for_reading(file)
    try:
        written = parquet.export(connection, file, out)
    except ModuleNotFoundError as error:
        raise TokenGuardError(MISSING) from error
    finally:
        connection.close()
    click.echo(
        f"{out}: {many(written.calls, 'call')} and {many(written.tasks, 'task')} in {many(written.files, 'new file')}, "
        f"{written.bytes / 1e6:,.1f} MB. Report on it:  tokenguard report --source {out}"
    )


@store.command()
@click.argument("engine", type=click.Choice(["clickhouse"]))
@click.option(
    "--attributes",
    type=click.Choice(["map", "json"]),
    default="map",
    show_default=True,
    help="How the collector's exporter keeps attributes: map, or json where it is set so.",
)
@click.option("--table", default="otel_traces", show_default=True, help="The collector's table.")
def ddl(engine: str, attributes: str, table: str) -> None:
    """Print the tables that make reports on a collector's ClickHouse fast, and what fills them.

    They are narrow, stand beside the collector's own, and are filled by materialized views as spans come. Without them
    a report asks the collector's table.
    """
    from tokenguard.report import clickhouse

    if not re.fullmatch(r"\w+(\.\w+)?", table):
        raise TokenGuardError(f"--table {table!r} is no name of a table")
    click.echo({"clickhouse": clickhouse.ddl}[engine](attributes, table), nl=False)


def _there(path: str | None) -> Path:
    """The store that is meant, which must exist."""
    file = Path(path or names.store_path(os.environ.get(names.ENV_STORE)) or names.DEFAULT_STORE)
    if not file.is_file():
        raise TokenGuardError(f"{file}: no store there. Name one with --store PATH")
    return file
