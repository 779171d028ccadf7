"""Finds the files to lint, with the settings that hold for each.

Python files, stubs and notebooks, minus what is excluded or ignored by git.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from operator import attrgetter

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.config import FILES, Config, Settings

SUFFIXES = (".py", ".pyi", ".ipynb")
_NEVER = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", ".venvs", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache",
     "__pycache__", "node_modules", ".eggs", ".tokenguard", ".ipynb_checkpoints"}
)  # fmt: skip


@lru_cache(maxsize=1024)
def glob_pattern(glob: str, within: str = "(?:/.*)?") -> re.Pattern[str]:
    """A gitignore-style glob as a pattern over a path relative to the glob's folder, with `/` between its parts.

    It matches what is in a folder that it matches as well, unless `within` is empty.
    """
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
        elif text[i] == "\\" and i + 1 < len(text):
            out, i = out + re.escape(text[i + 1]), i + 2
        elif text[i] == "[" and "]" in text[i + 2 :]:
            end = text.index("]", i + 2)
            inner = text[i + 1 : end].replace("\\", "\\\\")
            out, i = out + f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", end + 1
        else:
            out, i = out + re.escape(text[i]), i + 1
    try:
        return re.compile(out + within)
    except re.error:
        return re.compile(re.escape(text))


@lru_cache(maxsize=256)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{glob_pattern(g).pattern})" for g in globs))


def matches(relative: str, globs: tuple[str, ...]) -> bool:
    """Whether a relative path, or a folder it is in, matches one of `globs`."""
    return bool(globs) and _any_of(globs).fullmatch(relative) is not None


class _Rule(NamedTuple):
    """A line of a .gitignore: what it is about, and whether it takes that out or, `negated`, in again."""

    base: str  # the folder that `glob` starts from, with a separator behind; empty where it is about names
    glob: str
    folders_only: bool
    negated: bool
    literal: bool  # no character of `glob` stands for others
    ending: str  # what names must end in, where that is all

    def matches(self, name: str, path: str) -> bool:
        """Whether it is about an absolute path with that name."""
        if self.ending:
            return name.endswith(self.ending)
        text = path[len(self.base) :].replace(os.sep, "/") if self.base else name
        if self.literal:
            return text == self.glob
        return glob_pattern(f"/{self.glob}" if self.base else self.glob, "").fullmatch(text) is not None


class _Ignores:
    """The .gitignore rules that hold in a folder: those of its parents, then its own; the last match decides.

    A folder that is ignored is not looked into, so a rule is asked about a path itself, never about what is in it.
    """

    def __init__(self, rules: tuple[_Rule, ...] = ()) -> None:
        self.rules = rules
        self._named: dict[str, list[int]] = {}  # the rules that are about one name
        self._others: list[int] = []
        self._others_of_files: list[int] = []
        for number in range(len(rules) - 1, -1, -1):
            rule = rules[number]
            if rule.literal and not rule.base:
                self._named.setdefault(rule.glob, []).append(number)
                continue
            self._others.append(number)
            ending = rule.glob.rpartition("*")[2]
            if not rule.folders_only and (not _SPECIAL.isdisjoint(ending) or _may_end(ending)):
                self._others_of_files.append(number)

    def within(self, folder: str) -> _Ignores:
        try:
            with open(os.path.join(folder, ".gitignore"), encoding="utf-8", errors="replace") as lines:
                new = [r for line in lines if (r := _rule(folder, line))]
        except OSError:
            return self
        last: dict[tuple[str, str, bool], _Rule] = {}
        for rule in (*self.rules, *new):  # of rules about the same, the last one decides
            last.pop(rule[:3], None)
            last[rule[:3]] = rule
        return _Ignores(tuple(last.values()))

    def ignored(self, path: str, name: str, is_folder: bool) -> bool:
        """Whether an absolute path is, which is a folder or a file to lint."""
        last = next((n for n in self._named.get(name, ()) if is_folder or not self.rules[n].folders_only), -1)
        for number in self._others if is_folder else self._others_of_files:
            if number < last:
                break
            if self.rules[number].matches(name, path):
                last = number
                break
        return last >= 0 and not self.rules[last].negated


_SPECIAL = frozenset("*?[\\")


def _may_end(ending: str) -> bool:
    """Whether the path of a file to lint may end so."""
    return any(suffix.endswith(ending) or ending.endswith(suffix) for suffix in SUFFIXES)


def _rule(folder: str, line: str) -> _Rule | None:
    line = line.rstrip("\n").rstrip()
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[negated:]
    glob = line.strip("/")
    base = folder.rstrip(os.sep) + os.sep if "/" in line.rstrip("/") else ""
    ending = glob[1:] if not base and glob[:1] == "*" and _SPECIAL.isdisjoint(glob[1:]) else ""
    return _Rule(base, glob, line.endswith("/"), negated, _SPECIAL.isdisjoint(glob), ending) if glob else None


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
    """A folder to look into: its path, also as the beginning of others, and absolute; what holds there; if asked."""

    path: str
    prefix: str
    absolute: str
    config: Config
    ignores: _Ignores
    asked: bool


def _walk(top: str, settings: Settings, gitignore: bool) -> Iterator[Found]:
    ignores = _Ignores()
    absolute = os.path.abspath(top)
    config = settings.of(top)
    if gitignore and config.respect_gitignore:
        for parent in reversed(_up_to_repository(absolute)):
            ignores = ignores.within(parent)
    path = os.path.normpath(top)
    pending = [_Folder(path, "" if path == "." else os.path.join(path, ""), absolute, config, ignores, True)]
    while pending:
        path, prefix, absolute, config, ignores, asked = pending.pop()
        try:
            with os.scandir(path) as entries:
                listed = sorted(entries, key=_BY_NAME)
        except OSError:
            continue
        names = {entry.name for entry in listed}
        if "pyvenv.cfg" in names and not asked:  # a virtual environment, whatever it is called
            continue
        if not names.isdisjoint(FILES):
            config = settings.of(path)
        if gitignore and config.respect_gitignore and ".gitignore" in names:
            ignores = ignores.within(absolute)
        folders = []
        above = os.path.join(absolute, "")
        for entry, is_folder in _kept(listed, above, config, ignores):
            if not is_folder:
                yield Found(prefix + entry.name, config)
            elif not (entry.is_symlink() and _loops(above + entry.name)):
                at = prefix + entry.name
                folders.append(_Folder(at, at + os.sep, above + entry.name, config, ignores, False))
        pending.extend(reversed(folders))


_BY_NAME = attrgetter("name")


def _loops(link: str) -> bool:
    """Whether a link, given as an absolute path, leads to a folder that it is in."""
    try:
        target = os.stat(link)
        at = os.path.dirname(link)
        while not os.path.samestat(os.stat(at), target):
            link, at = at, os.path.dirname(at)
            if at == link:
                return False
    except OSError:
        return False
    return True


def _kept(
    entries: list[os.DirEntry[str]], above: str, config: Config, ignores: _Ignores
) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """The folders and the files to lint among `entries`, which are in the folder `above`, and which they are."""
    exclude = config.exclude
    prefix = relative(above, config) if exclude else ""
    for entry in entries:
        name = entry.name
        try:
            is_folder = entry.is_dir()
        except OSError:
            continue
        if name in _NEVER or not (is_folder or name.endswith(SUFFIXES)):
            continue
        if ignores.rules and ignores.ignored(above + name, name, is_folder):
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
