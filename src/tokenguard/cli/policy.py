"""`tokenguard policy check|show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tokenguard.facts.errors import PolicyError

if TYPE_CHECKING:
    from tokenguard.policy import Policy


@click.group()
def policy() -> None:
    """Validate the policy file, or print it with every default filled in."""


@policy.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Validate FILE, or the policy that is found from here. Exit code 2 says that it is wrong."""
    found = loaded(file)
    if not found.source:
        click.echo("There is no policy here: nothing is limited. Write a tokenguard.toml, or name a file.")
        return
    counts = {
        "limit": len(found.limits),
        "budget": len(found.budgets),
        "breaker": len(found.breakers),
        "share": len(found.shares),
        "route": len(found.routes),
    }
    rules = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count)
    click.echo(f"{found.source}: valid; {rules or 'no rules'}; mode {found.mode}")


@policy.command()
@click.argument("file", required=False)
def show(file: str | None) -> None:
    """Print the effective policy as TOML: FILE, or the policy that is found from here. Secrets in URLs are masked."""
    from tokenguard.policy.page import render

    found = loaded(file)
    click.echo(f"# {found.source or 'no policy file: these are the defaults'}\n{render(found)}", nl=False)


def loaded(file: str | None) -> Policy:
    """The policy of a file, or the one that is found from here; a wrong one ends the command with exit code 2."""
    from tokenguard.policy import load

    try:
        return load(file)
    except PolicyError as error:
        click.echo(error, err=True)
        raise click.exceptions.Exit(2) from error
