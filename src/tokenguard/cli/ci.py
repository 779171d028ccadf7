"""`tokenguard ci`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.recorded import SOURCE, asked, recorded
from tokenguard.facts.errors import TokenGuardError

if TYPE_CHECKING:
    from tokenguard.report.query import Query
    from tokenguard.review.base import Base
    from tokenguard.review.section import Section

NO_BASE = "the base of the change is not known: name it, as in --base origin/main (GITHUB_BASE_REF is not set)"
SQLITE = b"SQLite format 3\0"
"""The beginning of a store: https://www.sqlite.org/fileformat.html."""


@click.group(cls=Suggesting)
def ci() -> None:
    """Report what a pull request makes more expensive."""


@ci.command()
@click.argument("paths", nargs=-1)
@click.option("--base", "ref", metavar="REF", help="What the change goes into. Default: GITHUB_BASE_REF of origin.")
@click.option("--baseline", metavar="FILE", help="The tests' baseline. Default: .tokenguard/baseline.json.")
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="A proposal to replay: see whatif.")
@SOURCE
@click.option("--since", metavar="TIME", default="30d", show_default=True, help="Recorded calls since then: 24h, 4w.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where the change makes something dearer.")
def comment(
    paths: tuple[str, ...],
    ref: str | None,
    baseline: str | None,
    policy: Path | None,
    source: tuple[str, ...],
    since: str,
    output: Path | None,
    exit_code: bool,
) -> None:
    """Compare what is checked out with its base, and write one comment in Markdown for the pull request.

    It has the tests whose calls, tokens or cost differ between the two baselines of pytest; lint findings of PATHS
    that are new, with what their calls have cost where a store is there; and what a proposal that changed would have
    saved. What has nothing to say is left out. The base is the commit at which HEAD left REF.
    """
    from tokenguard.review.base import base
    from tokenguard.review.comment import comment as written

    query = asked(since, None, ())
    with base(ref or _target()) as before:
        sections = [
            section
            for section in (
                _tests(before, baseline),
                _lint(before, paths or (".",), source, since),
                _proposal(before, policy, source, query) if policy is not None else None,
            )
            if section is not None
        ]
        text = written(before.commit, sections)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise TokenGuardError(f"{output} cannot be written: {error.strerror or error}") from error
    if exit_code and any(section.worse for section in sections):
        sys.exit(1)


def _target() -> str:
    target = os.environ.get("GITHUB_BASE_REF")
    if not target:
        raise TokenGuardError(NO_BASE)
    return f"origin/{target}"


def _tests(before: Base, baseline: str | None) -> Section | None:
    from tokenguard.review.baselines import section
    from tokenguard.testing.baseline import CorruptBaseline, read
    from tokenguard.testing.options import BASELINE

    file = _inside(baseline or BASELINE)
    try:
        return section(read(before.folder / file), read(file))
    except CorruptBaseline as error:
        raise TokenGuardError(str(error)) from error


def _lint(before: Base, paths: tuple[str, ...], source: tuple[str, ...], since: str) -> Section | None:
    from tokenguard.review.findings import changed, section

    inside = tuple(str(_inside(path)) for path in paths)
    with recorded(source) as there:
        stores = [path for path in there.paths if _is_store(path)]
    return section(changed(inside, before.folder, stores, since))


def _is_store(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _proposal(before: Base, policy: Path, source: tuple[str, ...], query: Query) -> Section | None:
    from tokenguard.review import proposals

    file = _inside(str(policy))
    try:
        if not proposals.is_new(file, before.folder / file):
            return None
    except OSError as error:
        raise TokenGuardError(f"{policy}: the proposal cannot be read: {error.strerror or error}") from error
    with recorded(source) as there:
        section = proposals.section(there.records, query, file, before.folder / file)
    if section is None:
        click.echo(f"{policy} is not replayed: {there.nothing()}", err=True)
    return section


def _inside(path: str) -> Path:
    """A path from the working directory, which the base has too. Raises `TokenGuardError`."""
    relative = Path(os.path.relpath(path))
    if relative.parts[:1] == ("..",):
        raise TokenGuardError(f"{path} is not in the working directory, of which the base is looked at; run it above")
    return relative
