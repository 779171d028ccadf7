"""`tokenguard schema`: what the JSON of each command looks like."""

from __future__ import annotations

import json

import click

from tokenguard.cli.group import unknown


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def schema(words: tuple[str, ...]) -> None:
    """Print the JSON Schema of what COMMAND prints with --format json; without COMMAND, list the commands.

    Every such document has the version of its schema in it: keys may be added to a version, but none is changed or
    removed. The policy file's own schema is printed by: tokenguard policy schema.
    """
    from tokenguard.cli.schemas import SCHEMAS, published

    command = " ".join(words)
    if not command:
        click.echo("\n".join(SCHEMAS))
    elif command in SCHEMAS:
        click.echo(json.dumps(published(command), indent=2))
    else:
        raise click.UsageError(unknown("command", command, SCHEMAS))
