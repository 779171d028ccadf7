"""`tokenguard lint` and `tokenguard explain`."""

from __future__ import annotations

import sys

import click


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lint(arguments: tuple[str, ...]) -> None:
    """Find the waste in Python files and notebooks."""
    from tokenguard.lint.arguments import main

    main(arguments)


@click.command()
@click.argument("rule", required=False)
def explain(rule: str | None) -> None:
    """Print a rule's page: why it matters, bad and good code, its options. Without RULE, list all rules."""
    from tokenguard.lint.config import Config, ConfigError
    from tokenguard.lint.engine import Linter
    from tokenguard.lint.explain import BUILT_IN, page

    try:
        rules = Linter(Config(root="."), everything=True).all_rules
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if rule is None:
        for code, (name, _) in BUILT_IN.items():
            click.echo(f"{code}  {name}")
        for known in rules.values():
            click.echo(f"{known.id}  {known.name}: {known.page.partition(chr(10))[0]}")
        return
    wanted = rule.upper()
    found = rules.get(wanted) or next((r for r in rules.values() if r.name == rule.lower()), None)
    if found is not None:
        click.echo(page(found), nl=False)
    elif wanted in BUILT_IN:
        name, text = BUILT_IN[wanted]
        click.echo(f"{wanted} {name} (error)\n\n{text}", nl=False)
    else:
        click.echo(f"error: There is no rule {rule!r}. Rules: {', '.join([*BUILT_IN, *rules])}", err=True)
        sys.exit(2)
