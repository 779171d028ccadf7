"""`tokenguard whatif`: what a policy would have saved on the calls that are recorded."""

from __future__ import annotations

from pathlib import Path

import click

from tokenguard.cli.recorded import asked, chosen, recorded
from tokenguard.facts.errors import TokenGuardError

PROPOSE = "give a proposal with --policy FILE, or have one written: tokenguard whatif --suggest -o proposal.toml"


@click.command()
@click.option("--policy", type=click.Path(path_type=Path), help="The proposal: a policy file.")
@click.option(
    "--suggest", is_flag=True, help="Write a policy from the steps that would have saved money, with their assumptions."
)
@chosen
@click.option("--format", "form", type=click.Choice(["table", "json", "md", "svg"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def whatif(
    policy: Path | None,
    suggest: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    source: tuple[str, ...],
    form: str,
    output: Path | None,
) -> None:
    """Replay the recorded calls through a policy, and show what each of its steps would have saved.

    Besides limits and budgets the file may contain [[cache]], [[route]] and [whatif]: see docs/advice.md. Nothing is
    sent, and no call is changed. With --suggest the table is a policy file; --format shows what it comes to.
    """
    from tokenguard.advice import shown
    from tokenguard.advice.proposal import Proposal, load
    from tokenguard.advice.suggest import as_toml, suggestion
    from tokenguard.advice.waterfall import waterfall
    from tokenguard.policy import load as load_policy
    from tokenguard.prices import PriceBook
    from tokenguard.report.terminal import console

    if policy is None and not suggest:
        raise TokenGuardError(PROPOSE)
    prices = PriceBook(load_policy().prices)
    proposal = load(policy) if policy is not None else Proposal()
    reasons: dict[str, list[str]] = {}
    query = asked(since, until, where)
    with recorded(source) as there:
        if suggest:
            proposal, reasons = suggestion(there.records, query, proposal, prices)
        fall = waterfall(there.records, query, proposal, prices)
    if not fall.calls:
        raise TokenGuardError(there.nothing())
    title = policy.name if policy is not None else "what is suggested"
    if form == "table" and not suggest and output is None:
        shown.print_table(fall, title, console())
        return
    if form == "table":
        text = as_toml(proposal, reasons, fall) if suggest else shown.as_markdown(fall, title)
    else:
        text = {"json": shown.as_json, "md": shown.as_markdown, "svg": shown.as_svg}[form](fall, title)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
