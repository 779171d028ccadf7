"""`tokenguard lint` and `tokenguard explain`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


def _codes(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(code.strip() for text in value for code in text.split(",") if code.strip()) or None


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--fix", is_flag=True, help="Mend what can be mended without changing what the program does.")
@click.option("--unsafe-fixes", is_flag=True, help="Mend also what changes behaviour: add a cap, lower a k.")
@click.option("--diff", is_flag=True, help="Show what the fixes would change; write nothing.")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif", "github", "junit"]), default="text")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the report to a file.")
@click.option("--select", multiple=True, callback=_codes, help="Rules, or beginnings of their ids; comma-separated.")
@click.option("--ignore", multiple=True, callback=_codes, help="Rules to leave out.")
@click.option("--exclude", multiple=True, help="Glob of files to leave out, beside those of the settings.")
@click.option("--force-exclude", is_flag=True, help="Apply excludes to files named on the command line, too.")
@click.option(
    "--baseline", type=click.Path(dir_okay=False, path_type=Path), help="Report only findings not in this file."
)
@click.option(
    "--write-baseline", type=click.Path(dir_okay=False, path_type=Path), help="Write today's findings to this file."
)
@click.option("--add-ignore", is_flag=True, help="Add an ignore comment to each finding's line.")
@click.option("--statistics", is_flag=True, help="Count the findings by rule instead of listing them.")
@click.option("--stdin-filename", default="-", help="The name of what `-` reads, for reports and settings.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The settings file.")
@click.option(
    "--fail-on", type=click.Choice(["info", "warning", "error"]), default="warning", help="Exit 1 from here on."
)
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache.")
@click.option("--no-gitignore", is_flag=True, help="Lint files that git ignores, too.")
@click.option("-j", "--jobs", type=click.IntRange(min=0), default=0, help="Processes; 0: one per CPU.")
@click.option("--color/--no-color", "colour", default=None, help="Colour the text; by default on a terminal.")
def lint(paths: tuple[str, ...], **options: object) -> None:
    """Find the waste in Python files and notebooks: PATHS, or the working directory; `-` reads standard input.

    Exit status: 0 clean, 1 findings, 2 a usage or settings error.
    """
    from tokenguard.lint.config import ConfigError
    from tokenguard.lint.session import Options, run

    try:
        sys.exit(run(paths or (".",), Options(**options)))  # type: ignore[arg-type]
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@click.command()
@click.argument("rule", required=False)
def explain(rule: str | None) -> None:
    """Print a rule's page: why it matters, bad and good code, its options. Without RULE, list all rules."""
    from tokenguard.lint.config import ConfigError, load
    from tokenguard.lint.engine import Linter
    from tokenguard.lint.explain import BUILT_IN, page

    try:
        rules = Linter(load(), everything=True).all_rules
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
