"""`tokenguard policy check|show` and `tokenguard budgets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from tokenguard.facts.errors import PolicyError

if TYPE_CHECKING:
    from tokenguard.ledger import Balance, Ledger
    from tokenguard.policy import Policy


@click.group()
def policy() -> None:
    """Validate the policy file, or print it with every default filled in."""


@policy.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Validate FILE, or the policy that is found from here. Exit code 2 says that it is wrong."""
    found = _load(file)
    if not found.source:
        click.echo("There is no policy here: nothing is limited. Write a tokenguard.toml, or name a file.")
        return
    counts = {
        "limit": len(found.limits),
        "budget": len(found.budgets),
        "breaker": len(found.breakers),
        "share": len(found.shares),
    }
    rules = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count)
    click.echo(f"{found.source}: valid; {rules or 'no rules'}; mode {found.mode}")


@policy.command()
@click.argument("file", required=False)
def show(file: str | None) -> None:
    """Print the effective policy as TOML: FILE, or the policy that is found from here. Secrets in URLs are masked."""
    from tokenguard.policy.page import render

    found = _load(file)
    click.echo(f"# {found.source or 'no policy file: these are the defaults'}\n{render(found)}", nl=False)


@click.command()
@click.option("--reset", metavar="NAME", help="Set what this budget has spent to 0, in all its accounts.")
@click.option("--policy", "file", metavar="FILE", help="The policy file; without it, the one that is found from here.")
def budgets(reset: str | None, file: str | None) -> None:
    """List each budget's limit, spent, reserved and remaining, or reset one."""
    from tokenguard.ledger import LedgerError, open_ledger

    found = _load(file)
    if found.ledger.url == "memory:":
        click.echo('The ledger is "memory:", which each process keeps to itself: it cannot be seen from here.')
        return
    ledger = open_ledger(found.ledger, found.source)
    try:
        if reset is None:
            _print(list(_lines(found, _accounts(ledger))))
        else:
            _reset(ledger, reset, found)
    except LedgerError as error:
        click.echo(f"{error}. Is [ledger] url right, and does it run?", err=True)
        raise click.exceptions.Exit(1) from error
    finally:
        ledger.close()


def _load(file: str | None) -> Policy:
    from tokenguard.policy import load

    try:
        return load(file)
    except PolicyError as error:
        click.echo(error, err=True)
        raise click.exceptions.Exit(2) from error


def _reset(ledger: Ledger, name: str, found: Policy) -> None:
    from tokenguard.policy.kinds import nearest

    known = [budget.name for budget in found.budgets] + [balance.budget for balance in _accounts(ledger)]
    if name not in known:
        names = ", ".join(f'"{known_name}"' for known_name in dict.fromkeys(known)) or "none"
        click.echo(f'There is no budget "{name}"{nearest(name, known)} Budgets: {names}', err=True)
        raise click.exceptions.Exit(2)
    count = ledger.reset(name)
    click.echo(f'"{name}": {count} account{"s" * (count != 1)} set to 0; calls in flight stay reserved')


def _accounts(ledger: Ledger) -> list[Balance]:
    """What the ledger holds; a SQLite file that nobody made yet is not made by looking."""
    from pathlib import Path

    shared = ledger
    while (inner := getattr(shared, "inner", None)) is not None:
        shared = inner
    path = getattr(shared, "path", None)
    return [] if isinstance(path, Path) and not path.exists() else ledger.accounts()


class _Line(NamedTuple):
    budget: str
    key: str
    window: str
    limit: str
    spent: str
    reserved: str
    remaining: str
    orphaned: str


_TITLES: Final = _Line("budget", "key", "window ends", "limit", "spent", "reserved", "remaining", "orphaned")


def _lines(found: Policy, balances: list[Balance]) -> Iterator[_Line]:
    """A line per account and unit; budgets that nobody used yet have theirs, too."""
    from tokenguard.ledger import NANO, Balance
    from tokenguard.policy.windows import FOREVER, utc

    rules = {budget.name: budget for budget in found.budgets}
    unused = [Balance(name, "", 0, 0) for name in rules.keys() - {balance.budget for balance in balances}]
    for it in sorted([*balances, *unused]):
        rule = rules.get(it.budget)
        limit_usd, limit_tokens = (rule.limit_usd, rule.limit_tokens) if rule else (None, None)
        ends = "unused" if not it.window_end else "never" if it.window_end >= FOREVER else utc(it.window_end)
        first = (it.budget if rule else f"{it.budget} (not in the policy)", it.key, ends)
        if limit_usd is not None or limit_tokens is None:
            spent, reserved = it.spent_nano / NANO, it.reserved_nano / NANO
            left = None if limit_usd is None else limit_usd - spent - reserved
            yield _Line(*first, *map(_usd, (limit_usd, spent, reserved, left, it.orphaned_nano / NANO)))
        if limit_tokens is not None:
            left_tokens = limit_tokens - it.spent_tokens - it.reserved_tokens
            counts = (limit_tokens, it.spent_tokens, it.reserved_tokens, left_tokens, it.orphaned_tokens)
            yield _Line(*first, *(f"{count:,} tokens" for count in counts))


def _usd(amount: float | None) -> str:
    return "" if amount is None else f"{'-' * (amount < 0)}${abs(amount):,.4f}"


def _print(lines: list[_Line]) -> None:
    """A table on a terminal, plain columns with a tab between them anywhere else."""
    from tokenguard.report.terminal import console, is_fancy

    if not lines:
        click.echo("No budget is defined, and none has spent anything.")
        return
    out = console()
    if not is_fancy(out):
        for line in (_TITLES, *lines):
            click.echo("\t".join(line))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(*_TITLES)
    for column in table.columns[3:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*[Text(cell, "red" if cell.startswith("-") else "") for cell in line])
    out.print(table)
