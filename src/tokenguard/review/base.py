"""The base of a change, as git has it: its files, in a folder of their own that goes away again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple


class Base(NamedTuple):
    """Where a change began."""

    commit: str
    """Its hash, shortened by git."""
    folder: Path
    """The working directory as it was then; it may be empty."""


@contextmanager
def base(ref: str) -> Iterator[Base]:
    """The commit at which the checked-out one left `ref`, written to a folder for as long as it is looked at.

    Neither the index nor the work tree of the repository is touched. Raises `TokenGuardError`.
    """
    root = _git("rev-parse", "--show-toplevel", otherwise="run it in a git repository")
    inside = _git("rev-parse", "--show-prefix")
    _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", otherwise=_unknown(ref))
    commit = _git("merge-base", ref, "HEAD", otherwise=_unrelated(ref))
    with TemporaryDirectory(prefix="tokenguard-") as folder:
        tree = Path(folder, "tree")
        # An index of our own; `git archive` would leave out what `export-ignore` names, tests above all.
        own = {"GIT_INDEX_FILE": str(Path(folder, "index")), "GIT_LFS_SKIP_SMUDGE": "1"}
        _git("-C", root, "read-tree", commit, environment=own)
        _git("-C", root, "checkout-index", "--all", f"--prefix={tree}/", environment=own)
        there = tree / inside
        there.mkdir(parents=True, exist_ok=True)
        yield Base(_git("rev-parse", "--short", commit), there)


def _unknown(ref: str) -> str:
    return f"there is no commit {ref!r} here; fetch it, or name the base with --base"


def _unrelated(ref: str) -> str:
    return (
        f"HEAD and {ref!r} have no commit in common here; a shallow clone has too little history: "
        "git fetch --unshallow, or fetch-depth: 0 for actions/checkout"
    )


def _git(*arguments: str, environment: Mapping[str, str] | None = None, otherwise: str = "") -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments; the ref is verified first
            ["git", *arguments],  # noqa: S607 - git is where PATH has it
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise TokenGuardError("git is not on PATH, and the base of a change comes from it; install git") from error
    if done.returncode:
        said = otherwise or f"git {' '.join(arguments)}"
        raise TokenGuardError(": ".join(part for part in (said, done.stderr.strip()) if part))
    return done.stdout.strip("\r\n")
