"""`tokenguard report`."""

from __future__ import annotations

import os
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from tokenguard.facts import names

NOTHING_YET = """No calls are recorded at {} yet. Run a program under TokenGuard first:

    tokenguard-instrument python app.py

or see what a report looks like:  tokenguard demo"""
STORE_IS_OFF = """No calls are recorded: {}={} switches the local store off. To read one all the same:

    tokenguard report --source {}"""
TOP = 20
"""How many groups a table shows unless `--limit` says."""
NOTHING_THERE = "{} holds no call that matches; without --since, --until and --where all are shown."


@click.command()
@click.option("--by", multiple=True, metavar="KEY[,KEY]", help="What to group by; feature unless said.")
@click.option("--since", metavar="TIME", help="30m, 24h, 7d before now, or a date as 2026-11-01.")
@click.option("--until", metavar="TIME", help="Before this time, in the same words.")
@click.option("--where", multiple=True, metavar="KEY=GLOB", help="Only calls whose key matches; repeatable.")
@click.option("--sort", metavar="FIGURE", help="The figure, or the key, to sort by; cost_usd unless said.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"At most N groups; a table shows {TOP} unless said."
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--source", multiple=True, metavar="PATH", help="A store, or OTLP-JSON lines: a file or a folder; repeatable."
)
def report(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    sort: str | None,
    limit: int | None,
    form: str,
    source: tuple[str, ...],
) -> None:
    """Show what was spent, on what, what caching saved, what retries cost, and what was blocked.

    KEY is tenant, feature, route, prompt_version, team, user, a key of your own, model, provider, operation, call_site,
    day, hour, task, outcome, error, rule or action. attr.KEY is a key of your own that is named as another is.
    """
    from tokenguard.report import figures, findings, layout, sources, terminal

    now = datetime.now(UTC)
    query = figures.Query(
        by=tuple(dict.fromkeys(key.strip() for group in by for key in group.split(",") if key.strip())) or ("feature",),
        since_ns=figures.moment(since, now) if since else None,
        until_ns=figures.moment(until, now) if until else None,
        where=figures.wheres(where),
        sort=sort,
        limit=limit or (TOP if form == "table" else None),
    )
    paths = [Path(path) for path in source or [names.store_path(os.environ.get(names.ENV_STORE)) or ""] if path]
    shown = " + ".join(map(str, paths))
    nothing_yet = not source and not any(path.exists() for path in paths)
    opened = sources.Source(sources.empty()) if nothing_yet else sources.open_sources(paths)
    try:
        found = figures.ask(opened.connection, query)
        insights = [] if form == "csv" else findings.find(opened.connection, found)
    except sqlite3.Error as error:
        raise sources.SourceError(f"{shown}: cannot be read: {error}. {sources.WOULD_DO}") from error
    finally:
        opened.connection.close()
    if form == "csv":
        click.echo(layout.as_csv(found), nl=False)
    elif form == "json":
        click.echo(layout.as_json(found, insights, utf8=terminal.is_utf8(sys.stdout.encoding)))
    elif found.total.figures["calls"]:
        layout.print_table(found, insights, shown, terminal.console(), _repeated(opened.repeated))
    if not found.total.figures["calls"]:
        click.echo(_nothing(nothing_yet, shown), err=form != "table")


def _repeated(calls: int) -> list[str]:
    return [f"Found more than once in the sources, by trace and span id, and counted once: {calls:,}"] if calls else []


def _nothing(nothing_yet: bool, shown: str) -> str:
    if not nothing_yet:
        return NOTHING_THERE.format(shown)
    if not shown:
        return STORE_IS_OFF.format(names.ENV_STORE, os.environ[names.ENV_STORE], names.DEFAULT_STORE)
    return NOTHING_YET.format(shown)
