"""`tokenguard policy check|init|schema|show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.recorded import SOURCE
from tokenguard.facts.errors import PolicyError

if TYPE_CHECKING:
    from tokenguard.policy import Policy


@click.group(cls=Suggesting)
def policy() -> None:
    """Validate the policy file, write a first one, or print it with every default filled in."""


@policy.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Validate FILE, or the policy that is found from here. Exit code 2 says that it is wrong."""
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
    click.echo(f'{file} is written, with mode = "observe". Check it: tokenguard policy check {file}')


@policy.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of the policy file, for editors: put `#:schema ./FILE` into its first line (taplo)."""
    import json

    from tokenguard.cli.init import write
    from tokenguard.policy.schema import schema as policy_schema

    text = json.dumps(policy_schema(), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text)


def loaded(file: str | None) -> Policy:
    """The policy of a file, or the one that is found from here; a wrong one ends the command with exit code 2."""
    from tokenguard.policy import load

    try:
        return load(file)
    except PolicyError as error:
        click.echo(error, err=True)
        raise click.exceptions.Exit(2) from error
