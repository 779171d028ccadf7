"""`tokenguard report`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from tokenguard import names


@click.command()
@click.option("--by", multiple=True, metavar="KEY[,KEY]", help="What to group by; feature unless said.")
@click.option("--since", metavar="TIME", help="30m, 24h, 7d before now, or a date as 2026-11-01.")
@click.option("--until", metavar="TIME", help="The end, in the same words.")
@click.option("--where", multiple=True, metavar="KEY=GLOB", help="Only calls whose key matches; repeatable.")
@click.option("--sort", default="cost_usd", metavar="FIGURE", show_default=True, help="The figure to sort by.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N groups.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--source", metavar="PATH", help="A store, or OTLP-JSON lines: a file or a folder.")
def report(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    sort: str,
    limit: int | None,
    form: str,
    source: str | None,
) -> None:
    """Show what was spent, on what, what caching saved, what retries cost, and what was blocked.

    KEY is tenant, feature, route, prompt_version, team, user, a key of your own, model, provider, operation, call_site,
    day, hour, task, outcome, error, rule or action.
    """
    from tokenguard.report import figures, findings, layout, sources

    path = Path(source or os.environ.get(names.ENV_STORE) or names.DEFAULT_STORE)
    if source is None and not path.exists():
        click.echo(
            f"There are no records at {path} yet. Run a program under TokenGuard first:\n\n"
            "    tokenguard-instrument python app.py\n\n"
            "or see what it looks like: tokenguard demo",
        )
        return
    now = datetime.now(UTC)
    query = figures.Query(
        by=tuple(key for group in by for key in group.split(",") if key) or ("feature",),
        since_ns=figures.moment(since, now) if since else 0,
        until_ns=figures.moment(until, now) if until else 2**63 - 1,
        where=figures.wheres(where),
        sort=sort,
        limit=limit,
    )
    connection = sources.open_source(path)
    try:
        found = figures.ask(connection, query)
        if form == "csv":
            click.echo(layout.as_csv(found), nl=False)
            return
        insights = findings.find(connection, query)
    finally:
        connection.close()
    if form == "json":
        click.echo(layout.as_json(found, insights))
    elif not found.total.figures["calls"]:
        click.echo(f"{path} has no calls that match. Without --since and --where all are shown.")
    else:
        from rich.console import Console

        layout.print_table(found, insights, str(path), Console(highlight=False))
