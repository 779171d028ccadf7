"""`tokenguard init`: look at a project, show what would be written, and write it on yes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenguard.cli.recorded import SOURCE

if TYPE_CHECKING:
    from tokenguard.project.look import Project
    from tokenguard.project.policy import Traffic
    from tokenguard.project.proposals import Proposal


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
@SOURCE
@click.option("--dry-run", is_flag=True, help="Show what would be written; write nothing.")
@click.option("-y", "--yes", is_flag=True, help="Write it without asking.")
def init(directory: Path, source: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Set a project up: a policy in observe mode, the lint hook, CI, ruff's settings.

    Looks at the SDKs and frameworks that DIRECTORY imports, how it is started, its CI and its tools. Budgets are
    suggested from the recorded calls, where there are some. Existing files and settings are not changed, so you can
    run it again.
    """
    from tokenguard.project.look import look
    from tokenguard.project.proposals import Proposal, proposals

    found = look(directory)
    _tell(found)
    todo = proposals(found, seen(source))
    writes = [each for each in todo if isinstance(each, Proposal)]
    for each in todo:
        if isinstance(each, Proposal):
            _show(each)
        else:
            click.echo(f"\n{each.path}: {each.says}")
    click.echo()
    if not writes:
        click.echo("Nothing to write: everything is there.")
    elif dry_run:
        click.echo("Nothing is written (--dry-run).")
    elif yes or (sys.stdin.isatty() and click.confirm(f"Write {', '.join(each.path for each in writes)}?")):
        for each in writes:
            write(directory / each.path, each.then)
        click.echo(f"Written: {', '.join(each.path for each in writes)}.")
    else:
        click.echo("Nothing was written. --yes writes without asking.")
    _next(found)


def seen(source: tuple[str, ...] = ()) -> Traffic:
    """What the recorded calls of the sources, or of the local store, say."""
    from tokenguard.cli.recorded import recorded
    from tokenguard.project.policy import Traffic, traffic

    with recorded(source) as there:
        return Traffic() if there.nothing_yet else traffic(there.records)


def write(path: Path, text: str) -> None:
    """Write a file as it is, its line ends included. Raises `TokenGuardError`."""
    from tokenguard.facts.errors import TokenGuardError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise TokenGuardError(f"cannot write {path}: {error.strerror}. Give a directory you may write to.") from error


def _tell(found: Project) -> None:
    rows = {
        "SDKs": ", ".join(found.sdks) or "none that TokenGuard knows is imported here",
        "frameworks": ", ".join(found.frameworks),
        "policy": found.policy,
        "tools": ", ".join(
            name
            for name, there in (
                ("GitHub workflows", found.workflows),
                ("pre-commit", found.pre_commit),
                ("pytest", found.tests),
                ("ruff", bool(found.ruff)),
            )
            if there
        ),
    }
    click.echo(f"Found in {found.root.resolve().name or found.root.resolve()}:")
    for title, value in rows.items():
        if value:
            click.echo(f"  {title:<11} {value}")


def _show(each: Proposal) -> None:
    import difflib

    click.echo(f"\n{click.style(each.path, bold=True)}{' (new)' if each.now is None else ''}: {each.why}")
    before = [] if each.now is None else each.now.splitlines()
    for line in list(difflib.unified_diff(before, each.then.splitlines(), lineterm="", n=1))[2:]:
        if not line.startswith("@@"):
            click.echo(f"  {click.style(line, fg='green' if line[0] == '+' else None)}")


def _next(found: Project) -> None:
    click.echo("\nNext:")
    start = found.starts[0] if found.starts else "python app.py"
    steps = {
        f"tokenguard-instrument {start}": "measure the program",
        "tokenguard report": "see what it cost",
        "tokenguard lint": "find waste in the source",
    }
    if found.tests:
        steps["pytest --tokenguard"] = "what the tests spend; budgets: @pytest.mark.token_budget(max_cost_usd=0.05)"
    width = max(map(len, steps))
    for command, says in steps.items():
        click.echo(f"  {command.ljust(width)}  {says}")
