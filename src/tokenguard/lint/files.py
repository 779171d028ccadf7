"""Finds the files to lint: `.py`, `.pyi`-free, and notebooks, minus what is excluded or ignored by git."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SUFFIXES = (".py", ".ipynb")
_NEVER = frozenset(
    [
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        ".venvs",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        "__pycache__",
        "node_modules",
        ".eggs",
        ".tokenguard",
        ".ipynb_checkpoints",
    ]
)


@lru_cache(maxsize=1024)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """A gitignore-style glob as a pattern over a path relative to the glob's folder, with `/` between its parts."""
    text = glob.strip("/")
    out = "" if "/" in glob.rstrip("/") else "(?:.*/)?"
    i = 0
    while i < len(text):
        if text.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        elif text[i] == "[" and "]" in text[i + 2 :]:
            end = text.index("]", i + 2)
            inner = text[i + 1 : end].replace("\\", "\\\\")
            out, i = out + f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", end + 1
        else:
            out, i = out + re.escape(text[i]), i + 1
    try:
        return re.compile(f"{out}(?:/.*)?")
    except re.error:
        return re.compile(re.escape(text))


def matches(relative: str, globs: tuple[str, ...]) -> bool:
    """Whether a relative path, or a folder it is in, matches one of `globs`."""
    return any(glob_pattern(g).fullmatch(relative) for g in globs)


class _Ignores:
    """The .gitignore rules that hold in a folder: those of its parents, then its own; the last match decides."""

    def __init__(self, rules: tuple[tuple[str, bool, bool, re.Pattern[str]], ...] = ()) -> None:
        self.rules = rules

    def within(self, folder: str) -> _Ignores:
        try:
            with open(os.path.join(folder, ".gitignore"), encoding="utf-8", errors="replace") as lines:
                new = [r for line in lines if (r := _rule(folder, line))]
        except OSError:
            return self
        return _Ignores((*self.rules, *new))

    def ignored(self, path: str, is_folder: bool) -> bool:
        verdict = False
        for base, negated, folders_only, pattern in self.rules:
            if (is_folder or not folders_only) and pattern.fullmatch(os.path.relpath(path, base).replace(os.sep, "/")):
                verdict = not negated
        return verdict


def _rule(folder: str, line: str) -> tuple[str, bool, bool, re.Pattern[str]] | None:
    line = line.rstrip("\n").rstrip()
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[negated:].removeprefix("\\")
    return (folder, negated, line.endswith("/"), glob_pattern(line)) if line.strip("/") else None


def discover(
    paths: tuple[str, ...], root: Path, exclude: tuple[str, ...], gitignore: bool, *, force: bool = False
) -> Iterator[str]:
    """The files under `paths`, each once, in order.

    A file named outright is taken whatever the excludes say, unless `force` (pre-commit names every file). Raises
    FileNotFoundError for a path that does not exist.
    """
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            found: Iterator[str] = _walk(path, root, exclude, gitignore)
        elif os.path.exists(path):
            found = iter([] if force and _excluded(path, root, exclude) else [path])
        else:
            raise FileNotFoundError(path)
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _excluded(path: str, root: Path, exclude: tuple[str, ...]) -> bool:
    return bool(exclude) and matches(os.path.relpath(path, root).replace(os.sep, "/"), exclude)


def _walk(top: str, root: Path, exclude: tuple[str, ...], gitignore: bool) -> Iterator[str]:
    start = _Ignores()
    if gitignore:
        for parent in reversed(_up_to_repository(os.path.abspath(top))):
            start = start.within(parent)
    pending = [(top, start, frozenset[tuple[int, int]]())]
    while pending:
        folder, ignores, above = pending.pop()
        try:
            status = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in above:  # a loop of symbolic links
            continue
        inside = above | {(status.st_dev, status.st_ino)}
        ignores = ignores.within(os.path.abspath(folder)) if gitignore else ignores
        folders = []
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue
            if entry.name in _NEVER or not (is_folder or entry.name.endswith(SUFFIXES)):
                continue
            if ignores.rules and ignores.ignored(os.path.abspath(entry.path), is_folder):
                continue
            if _excluded(entry.path, root, exclude):
                continue
            if is_folder:
                folders.append((entry.path, ignores, inside))
            else:
                yield os.path.normpath(entry.path)
        pending.extend(reversed(folders))


def _up_to_repository(folder: str) -> list[str]:
    """The parents of `folder` from the nearest up to the repository's root; none when there is no repository."""
    parents = []
    at = folder
    while not os.path.exists(os.path.join(at, ".git")):
        above = os.path.dirname(at)
        if above == at:
            return []
        parents.append(above)
        at = above
    return parents
