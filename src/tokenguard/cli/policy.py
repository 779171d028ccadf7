"""`tokenguard policy check|init|schema|show|try`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.recorded import SOURCE
from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import PolicyError
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.guard.trial import Trial
    from tokenguard.policy import Policy


@click.group(cls=Suggesting)
def policy() -> None:
    """Validate the policy file, write a first one, print it with every default filled in, or try it on one call."""


@policy.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Validate FILE, or the nearest policy. Exit code 2 if it is invalid."""
    found = loaded(file)
    if not found.source:
        click.echo(
            "No policy file was found: nothing is limited. Write one with tokenguard policy init, or name a file."
        )
        return
    counts = {
        "limit": len(found.limits),
        "budget": len(found.budgets),
        "breaker": len(found.breakers),
        "share": len(found.shares),
        "route": len(found.routes),
        "cache": len(found.caches),
    }
    rules = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count)
    click.echo(f"{found.source}: valid; {rules or 'no rules'}; mode {found.mode}")
    _say_untaken(found)
    for doubt in _doubts(found):
        click.echo(f"warning: {doubt}", err=True)


@policy.command()
@click.argument("file", required=False)
def show(file: str | None) -> None:
    """Print the effective policy as TOML: FILE, or the nearest policy. Secrets in URLs are masked.

    Comments say which file each value is from; what has none is the default.
    """
    from tokenguard.policy.page import render

    found = loaded(file)
    click.echo(f"# {found.source or 'no policy file: these are the defaults'}\n{render(found, origins=True)}", nl=False)
    _say_untaken(found)


def _say_untaken(found: Policy) -> None:
    for said in found.untaken:
        click.echo(f"warning: {said}", err=True)


@policy.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("tokenguard.toml"))
@SOURCE
def init(file: Path, source: tuple[str, ...]) -> None:
    """Write a first policy to FILE (tokenguard.toml): observe mode, with budgets from the recorded calls, if any."""
    from tokenguard.cli.init import seen, write
    from tokenguard.facts.errors import TokenGuardError
    from tokenguard.project.policy import first_policy

    if file.exists():
        raise TokenGuardError(f"{file} exists already and is left as it is. Name another file, or edit this one.")
    write(file, first_policy(seen(source)))
    click.echo(f'Wrote {file} with mode = "observe". Check it: tokenguard policy check {file}')


@policy.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of the policy file, for editors: put `#:schema ./FILE` into its first line (taplo)."""
    from tokenguard.cli.init import write
    from tokenguard.policy.schema import schema as policy_schema

    text = json.dumps(policy_schema(), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text)


def _attribution(function: Callable[..., None]) -> Callable[..., None]:
    for key in reversed(names.ATTRIBUTION_KEYS):
        function = click.option(f"--{key.replace('_', '-')}", key, metavar="TEXT", help="Whose call it is.")(function)
    return function


@policy.command(name="try")
@click.argument("file", required=False)
@click.option("--model", required=True, help="The model that the call asks for.")
@click.option("--provider", default="", help="Its provider. Default: the model's maker.")
@click.option("--operation", default="chat", show_default=True)
@click.option("--input", "input_tokens", type=click.IntRange(0), default=1000, show_default=True, help="Input tokens.")
@click.option("--system", "system_tokens", type=click.IntRange(0), default=0, help="Of these, the system prompt's.")
@click.option("--tools-tokens", type=click.IntRange(0), default=0, help="Of these, the tools'.")
@click.option("--history", "history_tokens", type=click.IntRange(0), default=0, help="Of these, the history's.")
@click.option(
    "--tool-result", "tool_result_tokens", type=click.IntRange(0), default=0, help="The largest tool result's."
)
@click.option("--output-cap", type=click.IntRange(0), help="The output cap of the request; none, unless said.")
@click.option("--turns", type=click.IntRange(1), default=1, show_default=True, help="User turns so far.")
@click.option("--tool-steps", type=click.IntRange(0), default=0, help="Tool rounds since the last user turn.")
@click.option("--tools", is_flag=True, help="It offers tools.")
@click.option("--images", is_flag=True, help="It has pictures, sound or files.")
@click.option("--schema", is_flag=True, help="It asks for JSON.")
@_attribution
@click.option("--attr", multiple=True, metavar="KEY=VALUE", help="A key of your own.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def try_(file: str | None, attr: tuple[str, ...], form: str, **facts: Any) -> None:
    """Try FILE, or the nearest policy, on one call: what each rule decides, and why.

    Nothing is sent, and no ledger is touched: a budget is judged as if nothing had been spent. Exit code 1: the call
    would be refused.
    """
    from tokenguard.guard.trial import Asked, try_call
    from tokenguard.prices import PriceBook

    found = loaded(file)
    whose = {key: value for key in names.ATTRIBUTION_KEYS if (value := facts.pop(key)) is not None}
    for pair in attr:
        key, sign, value = pair.partition("=")
        if not (sign and key):
            raise click.UsageError(f"--attr {pair}: write KEY=VALUE")
        whose[key] = value
    sys.path.insert(0, os.getcwd())  # a route may ask a function of the application's, as when that runs here
    tried = try_call(found, PriceBook(found.prices), Asked(attribution=whose, **facts))
    if form == "json":
        click.echo(document({**tried._asdict(), "decisions": [one._asdict() for one in tried.decisions]}))
    else:
        _print(tried, found)
    if tried.action == "block" and found.mode == "enforce":
        raise click.exceptions.Exit(1)


def _print(tried: Trial, found: Policy) -> None:
    from rich.table import Table
    from rich.text import Text

    from tokenguard.report.labels import clean
    from tokenguard.report.terminal import console

    out = console()
    table = Table(box=None, pad_edge=False)
    for title in ("rule", "decides", "why"):
        table.add_column(title, overflow="fold")
    for one in tried.decisions:
        style = {"block": "red", "-": "dim"}.get(one.action, "")
        table.add_row(
            Text(f"[[{one.kind}]] {clean(one.rule)}", style), Text(one.action, style), Text(clean(one.why), style)
        )
    if tried.decisions:
        out.print(table)
        out.print()
    what = "refused" if tried.action == "block" else f"sent to {tried.model}"
    cap = "no output cap" if tried.output_cap is None else f"at most {tried.output_cap:,} output tokens"
    cost = "no known price" if tried.worst_usd is None else f"at most {dollars(tried.worst_usd, least=6)}"
    watching = "" if found.mode == "enforce" else "; the policy only observes, and changes no call"
    out.print(Text(f"{clean(what)}, {cap}, {cost}{watching}", "bold"), soft_wrap=True)


def _doubts(found: Policy) -> list[str]:
    from tokenguard.policy.doubts import doubts
    from tokenguard.prices import PriceBook

    return doubts(found, PriceBook(found.prices))


def loaded(file: str | None) -> Policy:
    """The policy of a file, or the one that is found from here; a wrong one ends the command with exit code 2."""
    from tokenguard.policy import load

    try:
        found = load(file)
    except PolicyError as error:
        click.echo(error, err=True)
        raise click.exceptions.Exit(2) from error
    # The functions that it names are the program's, which is started from one of these.
    sys.path += [folder for folder in (os.getcwd(), str(Path(found.source).parent.resolve())) if folder not in sys.path]
    return found
