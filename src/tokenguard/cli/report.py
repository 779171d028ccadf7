"""`tokenguard report`."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import click

from tokenguard import names

NOTHING_YET = """No calls are recorded at {} yet. Run a program under TokenGuard first:

    tokenguard-instrument python app.py

or see what a report looks like:  tokenguard demo"""
NOTHING_THERE = "{} holds no call that matches; without --since, --until and --where all are shown."


@click.command()
@click.option("--by", multiple=True, metavar="KEY[,KEY]", help="What to group by; feature unless said.")
@click.option("--since", metavar="TIME", help="30m, 24h, 7d before now, or a date as 2026-11-01.")
@click.option("--until", metavar="TIME", help="Before this time, in the same words.")
@click.option("--where", multiple=True, metavar="KEY=GLOB", help="Only calls whose key matches; repeatable.")
@click.option("--sort", metavar="FIGURE", help="The figure, or the key, to sort by; cost_usd unless said.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N groups.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--source", metavar="PATH", help="A store, or OTLP-JSON lines: a file or a folder.")
def report(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    sort: str | None,
    limit: int | None,
    form: str,
    source: str | None,
) -> None:
    """Show what was spent, on what, what caching saved, what retries cost, and what was blocked.

    KEY is tenant, feature, route, prompt_version, team, user, a key of your own, model, provider, operation, call_site,
    day, hour, task, outcome, error, rule or action.
    """
    from tokenguard.report import figures, findings, layout, sources

    now = datetime.now(UTC)
    query = figures.Query(
        by=tuple(dict.fromkeys(key.strip() for group in by for key in group.split(",") if key.strip())) or ("feature",),
        since_ns=figures.moment(since, now) if since else None,
        until_ns=figures.moment(until, now) if until else None,
        where=figures.wheres(where),
        sort=sort,
        limit=limit,
    )
    path = Path(source or os.environ.get(names.ENV_STORE) or names.DEFAULT_STORE)
    nothing_yet = source is None and not path.exists()
    connection = sources.empty() if nothing_yet else sources.open_source(path)
    try:
        found = figures.ask(connection, query)
        insights = [] if form == "csv" else findings.find(connection, found)
    except sqlite3.Error as error:
        raise sources.SourceError(f"{path}: cannot be read: {error}. {sources.WOULD_DO}") from error
    finally:
        connection.close()
    if form == "csv":
        click.echo(layout.as_csv(found), nl=False)
    elif form == "json":
        click.echo(layout.as_json(found, insights))
    elif found.total.figures["calls"]:
        layout.print_table(found, insights, str(path), layout.console())
    if not found.total.figures["calls"]:
        click.echo(NOTHING_YET.format(path) if nothing_yet else NOTHING_THERE.format(path), err=form != "table")
