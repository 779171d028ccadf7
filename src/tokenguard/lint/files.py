"""Finds the files to lint, with the settings that hold for each.

Python files, stubs and notebooks, minus what is excluded or ignored by git.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from tokenguard.lint.config import FILES, Config, Settings

SUFFIXES = (".py", ".pyi", ".ipynb")
_NEVER = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", ".venvs", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache",
     "__pycache__", "node_modules", ".eggs", ".tokenguard", ".ipynb_checkpoints"}
)  # fmt: skip


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


@lru_cache(maxsize=256)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{glob_pattern(g).pattern})" for g in globs))


def matches(relative: str, globs: tuple[str, ...]) -> bool:
    """Whether a relative path, or a folder it is in, matches one of `globs`."""
    return bool(globs) and _any_of(globs).fullmatch(relative) is not None


class _Rule(NamedTuple):
    """A line of a .gitignore: where it holds, and what."""

    base: str  # the folder it starts from, with a separator behind
    negated: bool
    folders_only: bool
    pattern: re.Pattern[str]


class _Ignores:
    """The .gitignore rules that hold in a folder: those of its parents, then its own; the last match decides."""

    def __init__(self, rules: tuple[_Rule, ...] = ()) -> None:
        self.rules = rules

    def within(self, folder: str) -> _Ignores:
        try:
            with open(os.path.join(folder, ".gitignore"), encoding="utf-8", errors="replace") as lines:
                new = [r for line in lines if (r := _rule(folder, line))]
        except OSError:
            return self
        return _Ignores((*self.rules, *new))

    def ignored(self, path: str, is_folder: bool) -> bool:
        for rule in reversed(self.rules):
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(_below(rule.base, path)):
                return not rule.negated
        return False


def _rule(folder: str, line: str) -> _Rule | None:
    line = line.rstrip("\n").rstrip()
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[negated:].removeprefix("\\")
    base = folder.rstrip(os.sep) + os.sep
    return _Rule(base, negated, line.endswith("/"), glob_pattern(line)) if line.strip("/") else None


def _below(base: str, path: str) -> str:
    """An absolute path relative to a folder above it, with `/` between its parts."""
    return path[len(base) :].replace(os.sep, "/")


def relative(path: str, config: Config) -> str:
    """A path relative to the root of the settings, with `/` between its parts, as their patterns see it."""
    return os.path.relpath(path, config.root).replace(os.sep, "/")


def from_here(path: str) -> str:
    """A path as the services read it: relative to the working directory where it is in it, with `/`."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here).replace(os.sep, "/")


class Found(NamedTuple):
    """A file to lint, as its path was given, and its settings."""

    path: str
    config: Config


def discover(
    paths: tuple[str, ...], settings: Settings, *, gitignore: bool = True, force: bool = False
) -> Iterator[Found]:
    """The files under `paths`, each once, in order.

    A file named outright is taken whatever the excludes say, unless `force` (pre-commit names every file). Raises
    FileNotFoundError for a path that does not exist, and ConfigError for settings that cannot be followed.
    """
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            found = _walk(path, settings, gitignore)
        elif os.path.exists(path):
            config = settings.of(os.path.dirname(path) or ".")
            excluded = force and config.exclude and matches(relative(path, config), config.exclude)
            found = iter([] if excluded else [Found(os.path.normpath(path), config)])
        else:
            raise FileNotFoundError(path)
        for file in found:
            place = os.path.abspath(file.path) if len(paths) > 1 else file.path
            if place not in seen:
                seen.add(place)
                yield file


class _Folder(NamedTuple):
    """A folder to look into: its path as given and absolute, what holds in it, and the folders it is in."""

    path: str
    absolute: str
    config: Config
    ignores: _Ignores
    above: frozenset[tuple[int, int]]


def _walk(top: str, settings: Settings, gitignore: bool) -> Iterator[Found]:
    ignores = _Ignores()
    absolute = os.path.abspath(top)
    config = settings.of(top)
    if gitignore and config.respect_gitignore:
        for parent in reversed(_up_to_repository(absolute)):
            ignores = ignores.within(parent)
    pending = [_Folder(os.path.normpath(top), absolute, config, ignores, frozenset())]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder.path)
            with os.scandir(folder.path) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError:
            continue
        here = (status.st_dev, status.st_ino)
        if here in folder.above:  # a loop of symbolic links
            continue
        names = {entry.name for entry in listed}
        if (
            "pyvenv.cfg" in names and folder.above
        ):  # a virtual environment, whatever it is called; unless it is asked for
            continue
        config = settings.of(folder.path) if not names.isdisjoint(FILES) else folder.config
        ignores = folder.ignores
        if gitignore and config.respect_gitignore and ".gitignore" in names:
            ignores = ignores.within(folder.absolute)
        folders = []
        prefix = "" if folder.path == "." else os.path.join(folder.path, "")
        for entry, is_folder in _kept(listed, folder._replace(config=config, ignores=ignores)):
            path = prefix + entry.name
            if is_folder:
                absolute = os.path.join(folder.absolute, entry.name)
                folders.append(_Folder(path, absolute, config, ignores, folder.above | {here}))
            else:
                yield Found(path, config)
        pending.extend(reversed(folders))


def _kept(entries: list[os.DirEntry[str]], folder: _Folder) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """The folders and the files to lint among `entries`, and which they are."""
    exclude = folder.config.exclude
    prefix = relative(folder.absolute, folder.config) if exclude else ""
    for entry in entries:
        name = entry.name
        try:
            is_folder = entry.is_dir()
        except OSError:
            continue
        if name in _NEVER or not (is_folder or name.endswith(SUFFIXES)):
            continue
        if folder.ignores.rules and folder.ignores.ignored(os.path.join(folder.absolute, name), is_folder):
            continue
        if exclude and matches(name if prefix == "." else f"{prefix}/{name}", exclude):
            continue
        yield entry, is_folder


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
