"""`tokenguard grafana`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenguard.cli.group import Suggesting


@click.group(cls=Suggesting)
def grafana() -> None:
    """Dashboards, alert rules and the files to run them."""


@grafana.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--runbooks", metavar="URL", help="Where you publish the runbooks; alerts then link there.")
@click.option("--grafana", metavar="URL", default="http://localhost:3000", help="Where your Grafana is.")
def export(directory: Path, runbooks: str | None, grafana: str) -> None:
    """Write dashboards, alert rules, collector and provisioning files to DIRECTORY."""
    from tokenguard.facts.errors import TokenGuardError
    from tokenguard.grafana import export as write

    try:
        written = write(directory, runbooks, grafana)
    except OSError as error:
        raise TokenGuardError(f"cannot write to {directory}: {error}. Give a directory you may write to.") from error
    click.echo(f"{len(written)} files in {directory}. {directory / 'README.md'} says what to do with them.")
