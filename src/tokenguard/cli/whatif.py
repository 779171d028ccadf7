"""`tokenguard whatif`: what a policy would have saved on the calls that are recorded."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError

NOTHING_TO_REPLAY = "{}: no recorded call to replay. Run a program under TokenGuard first, or give --source."
PROPOSE = """Give a proposal with --policy FILE, or let one be written:  tokenguard whatif --suggest > proposal.toml"""


@click.command()
@click.option("--policy", type=click.Path(path_type=Path), help="The proposal: a policy file.")
@click.option("--suggest", is_flag=True, help="Write the policy whose steps pay, and what each of them assumes.")
@click.option("--since", metavar="TIME", help="30m, 24h, 7d before now, or a date as 2026-11-01.")
@click.option("--until", metavar="TIME", help="Before this time, in the same words.")
@click.option("--where", multiple=True, metavar="KEY=GLOB", help="Only calls whose key matches; repeatable.")
@click.option("--format", "form", type=click.Choice(["table", "json", "md", "svg"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
@click.option(
    "--source", multiple=True, metavar="PATH", help="A store, or OTLP-JSON lines: a file or a folder; repeatable."
)
def whatif(
    policy: Path | None,
    suggest: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    form: str,
    output: Path | None,
    source: tuple[str, ...],
) -> None:
    """Replay the recorded calls through a policy, and show what each of its steps would have saved.

    Beside the policy's own rules the file may hold [[cache]], [[route]] and [whatif]: see the page on advice. Nothing
    is sent, and no call is changed.
    """
    from tokenguard.advice import shown
    from tokenguard.advice.proposal import Proposal, load
    from tokenguard.advice.suggest import as_toml, suggestion
    from tokenguard.advice.waterfall import waterfall
    from tokenguard.policy import load as load_policy
    from tokenguard.prices import PriceBook
    from tokenguard.report import figures
    from tokenguard.report.sources import open_sources
    from tokenguard.report.terminal import console

    if policy is None and not suggest:
        raise TokenGuardError(PROPOSE)
    now = datetime.now(UTC)
    query = figures.Query(
        since_ns=figures.moment(since, now) if since else None,
        until_ns=figures.moment(until, now) if until else None,
        where=figures.wheres(where),
    )
    paths = [Path(path) for path in source or [names.store_path(os.environ.get(names.ENV_STORE)) or ""] if path]
    prices = PriceBook(load_policy().prices)
    proposal = load(policy) if policy is not None else Proposal()
    with closing(open_sources(paths).connection) as connection:
        if suggest:
            proposal, reasons = suggestion(connection, query, proposal, prices)
        fall = waterfall(connection, query, proposal, prices)
    if not fall.calls:
        raise TokenGuardError(NOTHING_TO_REPLAY.format(" + ".join(map(str, paths)) or "the local store is off"))
    title = str(policy) if policy is not None else "what is suggested"
    if suggest and form == "table":
        text = as_toml(proposal, reasons, fall)
    elif form == "table":
        if output is None:
            shown.print_table(fall, title, console())
            return
        text = shown.as_markdown(fall, title)
    elif form == "json":
        text = shown.as_json(fall) + "\n"
    else:
        text = shown.as_svg(fall, title) if form == "svg" else shown.as_markdown(fall, title)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
