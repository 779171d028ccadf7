"""Remembers the findings of files, so that an unchanged file costs one look at its times and size.

One file per root and combination of linter, rules and settings, replaced in one step: runs side by side may lose each
other's news, never read half of it. A file has a line: its path, its stamp, and as JSON its findings and what it
consulted, if there are any, so that one of many is looked up without taking the others apart. An answer lapses when the
file, or a file it consulted, has other times (of its content, or of its entry in the file system) or another size.
"""

from __future__ import annotations

import os
from contextlib import suppress

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.config import Config
from tokenguard.lint.finding import Edit, Finding, Fix, Span
from tokenguard.lint.kept import own_code
from tokenguard.lint.sources import Stamp, stamp
from tokenguard.process import caches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 3
_SUFFIX = ".cache"
_KEPT = 8  # caches of other settings kept beside this one
_PRIME = (1 << 61) - 1


class Result(NamedTuple):
    """One file's outcome: its findings, what it was when it was read (None: not to be kept), and what it consulted."""

    path: str
    findings: list[Finding]
    stamp: Stamp | None = None
    consulted: tuple[str, ...] = ()


class Cache:
    """The answers kept for one configuration, beside it."""

    def __init__(self, config: Config, code: list[str]) -> None:
        """`code` holds the files of third-party rules."""
        self._settings = _fingerprint(config, code)
        self._folder = os.path.join(config.root, ".tokenguard", "lint")
        self._file = os.path.join(self._folder, f"{_short(self._settings)}{_SUFFIX}")
        self._fresh: dict[str, str] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._here = os.path.join(os.getcwd(), "")
        self._known = self._load()

    def _load(self) -> dict[str, str]:
        """What is known of each file: its stamp, and behind a tab its findings and what it consulted."""
        try:
            with open(self._file, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                settings, *lines = file.read().split("\n")
        except OSError:
            return {}
        return dict(line.partition("\t")[::2] for line in lines) if settings == self._settings else {}

    def get(self, path: str) -> list[Finding] | None:
        """The findings of `path` as it is on disk now, if known."""
        entry = self._known.get(self._key(path))
        if not entry:
            return None
        before, _, more = entry.partition("\t")
        if before != _spelled(stamp(path)):
            return None
        if not more:  # no findings, nothing consulted
            return []
        import json

        try:
            findings, consulted = json.loads(more)
            if any(self._stamp(name) != (known and tuple(known)) for name, known in consulted):
                return None
            return [_finding(row, path) for row in findings]
        except (IndexError, TypeError, ValueError):
            return None

    def put(self, result: Result) -> None:
        """Remember a result."""
        key = self._key(result.path)
        if result.stamp is None or "\n" in key or "\t" in key:
            return
        entry = _spelled(result.stamp)
        if result.findings or result.consulted:
            import json

            consulted = [(name, self._stamp(name)) for name in map(self._key, result.consulted)]
            entry += "\t" + json.dumps([[tuple(f) for f in result.findings], consulted], separators=(",", ":"))
        self._fresh[key] = entry

    def save(self) -> None:
        """Write what was learnt; a folder that cannot be written to is no one's problem."""
        if not self._fresh:
            return
        known = {**self._load(), **self._fresh}
        if len(known) > 2 * len(self._fresh):
            known = {path: entry for path, entry in known.items() if path in self._fresh or os.path.exists(path)}
        lines = (f"{path}\t{entry}" for path, entry in known.items())
        with suppress(OSError):
            caches.put(self._file, "\n".join((self._settings, *lines)).encode("utf-8", "surrogateescape"))
            ignore = os.path.join(self._folder, ".gitignore")
            if not os.path.exists(ignore):
                caches.put(ignore, b"*\n")
            with os.scandir(self._folder) as entries:
                old = sorted((e for e in entries if e.name.endswith(_SUFFIX)), key=lambda e: e.stat().st_mtime)
            for file in old[:-_KEPT]:
                os.unlink(file)

    def _key(self, path: str) -> str:
        return path if os.path.isabs(path) else self._here + path

    def _stamp(self, path: str) -> Stamp | None:
        if path not in self._stamps:
            self._stamps[path] = stamp(path)
        return self._stamps[path]


def _spelled(state: Stamp | None) -> str:
    return " ".join(map(str, state)) if state else ""


def _finding(row: list[Any], path: str) -> Finding:
    rule, name, severity, message, _, span, fix, cell = row
    mended = Fix(fix[0], tuple(Edit(e[0], Span(*e[1]), e[2], e[3]) for e in fix[1]), fix[2]) if fix else None
    return Finding(rule, name, severity, message, path, Span(*span), mended, cell)


def _fingerprint(config: Config, code: list[str]) -> str:
    """Changes with the settings, the interpreter's grammar, and every byte of the linter and its rules."""
    import sys

    states = [*own_code(), *(f"{os.path.basename(file)} {stamp(file)}" for file in code)]
    return f"{_FORMAT} {sys.version_info[:2]} {config!r} {' '.join(states)}"


def _short(text: str) -> str:
    """A file name for a fingerprint; the file holds the whole of it."""
    return f"{int.from_bytes(text.encode()) % _PRIME:016x}"  # a module for hashes takes longer to import
