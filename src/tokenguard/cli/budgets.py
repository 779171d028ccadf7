"""`tokenguard budgets`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import click

from tokenguard.cli.policy import loaded
from tokenguard.facts.dollars import account
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from rich.text import Text

    from tokenguard.ledger import Ledger
    from tokenguard.policy import Policy
    from tokenguard.report.budgets import Standing

BAR: Final = 10
FULL: Final = 0.8
"""The share used from which on a budget is to be noticed, as the first alert of most policies."""


@click.command()
@click.option("--reset", metavar="NAME", help="Set what this budget has spent to 0, in all its accounts.")
@click.option("--policy", "file", metavar="FILE", help="The policy file. Default: the nearest one, here or above.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def budgets(reset: str | None, file: str | None, form: str) -> None:
    """List the utilisation of each budget, what is left, and when it runs out; or reset one."""
    from tokenguard.ledger import LedgerError, open_ledger
    from tokenguard.report.budgets import accounts, as_facts, standings

    found = loaded(file)
    if found.ledger.url == "memory:":
        said = 'The ledger is "memory:", which each process keeps to itself: it cannot be seen from here.'
        click.echo(said, err=form == "json")
        if form == "json":
            click.echo(document({"budgets": []}))
        return
    ledger = open_ledger(found.ledger, found.source)
    try:
        if reset is not None:
            _reset(ledger, reset, found)
            return
        there = standings(found, accounts(ledger))
    except LedgerError as error:
        click.echo(f"{error}. Is [ledger] url right, and does it run?", err=True)
        raise click.exceptions.Exit(1) from error
    finally:
        ledger.close()
    if form == "json":
        click.echo(document({"budgets": [as_facts(each) for each in there]}))
    elif there:
        _print(there)
    else:
        click.echo("No budget is defined, and none has spent anything.")


def standing() -> Sequence[Standing]:
    """How the budgets of the policy that is found from here stand; none where they cannot be read from here."""
    from tokenguard.facts.errors import PolicyError
    from tokenguard.ledger import LedgerError, open_ledger
    from tokenguard.policy import load
    from tokenguard.report.budgets import accounts, standings

    try:
        found = load()
        if not found.budgets or found.ledger.url == "memory:":
            return ()
        ledger = open_ledger(found.ledger, found.source)
        try:
            return standings(found, accounts(ledger))
        finally:
            ledger.close()
    except (PolicyError, LedgerError):
        return ()


def _reset(ledger: Ledger, name: str, found: Policy) -> None:
    from tokenguard.policy.kinds import nearest
    from tokenguard.report.budgets import accounts

    known = [budget.name for budget in found.budgets] + [balance.budget for balance in accounts(ledger)]
    if name not in known:
        names = ", ".join(f'"{known_name}"' for known_name in dict.fromkeys(known)) or "none"
        click.echo(f'There is no budget "{name}"{nearest(name, known)} Budgets: {names}', err=True)
        raise click.exceptions.Exit(2)
    count = ledger.reset(name)
    click.echo(f'"{name}": {count} account{"s" * (count != 1)} set to 0; calls in flight stay reserved')


def _print(there: Sequence[Standing]) -> None:
    from rich.text import Text

    from tokenguard.policy.windows import utc
    from tokenguard.report.grid import Column, name, print_grid
    from tokenguard.report.labels import NO_VALUE
    from tokenguard.report.numbers import shares
    from tokenguard.report.terminal import console, is_fancy

    out = console()
    fancy = is_fancy(out)
    now = time.time()

    def amounts(values: Sequence[float | None]) -> list[Text]:
        return [Text(_amount(value, each.unit)) for value, each in zip(values, there, strict=True)]

    used = [
        Text(shown, _style(each.used_share) if fancy else "")
        for shown, each in zip(shares([each.used_share for each in there]), there, strict=True)
    ]
    bars = [Column("", [_bar(each.used_share or 0.0) for each in there], 40)] if fancy else []
    ends = ["unused" if each.window_start is None else _at(each.window_end, utc, "never") for each in there]
    columns = [
        Column("budget", [name(_name(each)) for each in there], name=True),
        Column("key", [name(each.key or NO_VALUE) for each in there], name=True),
        Column("used", used),
        *bars,
        Column("limit", amounts([each.limit for each in there]), 90),
        Column("spent", amounts([each.spent for each in there]), 80),
        Column("reserved", amounts([each.reserved for each in there]), 50),
        Column("remaining", amounts([each.remaining for each in there]), 95),
        Column("window ends (UTC)", [Text(end) for end in ends], 70),
        Column("runs out (UTC)", [Text(_at(each.runs_out(now), utc, "")) for each in there], 60),
    ]
    if any(each.orphaned for each in there):
        columns.append(Column("orphaned", amounts([each.orphaned for each in there]), 30))
    print_grid(out, columns)


def _name(each: Standing) -> str:
    return each.budget if each.then is not None else f"{each.budget} (not in the policy)"


def _at(at: float | None, utc: Callable[[int], str], otherwise: str) -> str:
    return otherwise if at is None else utc(int(at))


def _style(used: float | None) -> str:
    return "" if used is None or used < FULL else "magenta" if used < 1 else "bold red"


def _bar(used: float) -> Text:
    from rich.text import Text

    full = min(BAR, round(used * BAR))
    return Text.assemble(("█" * full, _style(used) or "cyan"), ("░" * (BAR - full), "dim"))


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "usd":
        return account(value)
    return f"{value:,.0f} {unit}"
