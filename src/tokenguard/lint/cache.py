"""Remembers the findings of files by their content, so that an unchanged file costs one read.

One JSON file per combination of linter, rules and settings, replaced in one step: runs side by side may lose each
other's news, never read half of it. An answer lapses when the file, or a file it consulted, has other bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenguard.lint.config import Config
from tokenguard.lint.finding import Edit, Finding, Fix, Span

if TYPE_CHECKING:
    from tokenguard.lint.run import Result

_FORMAT = "1"
_KEPT = 8  # caches of other settings kept beside this one


def digest(source: bytes) -> str:
    """The key of a file's bytes."""
    return hashlib.blake2b(source, digest_size=16).hexdigest()


class Cache:
    """The answers kept for one configuration, in `folder`."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.file = folder / f"{_fingerprint(config)}.json"
        self._fresh: dict[str, list[Any]] = {}
        self._digests: dict[str, str] = {}
        self._known = self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            loaded = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def get(self, path: str) -> list[Finding] | None:
        """The findings of `path` as it is on disk now, if known."""
        entry = self._known.get(os.path.abspath(path))
        try:
            if entry is None or entry[0] != self._digest(path):
                return None
            if any(self._digest(name) != key for name, key in entry[2]):
                return None
            return [_finding(row, path) for row in entry[1]]
        except (IndexError, TypeError, ValueError):
            return None

    def put(self, result: Result) -> None:
        """Remember a result."""
        consulted = [(name, self._digest(name)) for name in result.consulted]
        self._fresh[os.path.abspath(result.path)] = [result.key, [tuple(f) for f in result.findings], consulted]

    def save(self) -> None:
        """Write what was learnt; a folder that cannot be written to is no one's problem."""
        if not self._fresh:
            return
        try:
            folder = self.file.parent
            folder.mkdir(parents=True, exist_ok=True)
            ignore = folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({**self._load(), **self._fresh}, out, separators=(",", ":"))
            os.replace(name, self.file)
            old = sorted(folder.glob("*.json"), key=lambda f: f.stat().st_mtime)
            for file in old[:-_KEPT]:
                file.unlink(missing_ok=True)
        except OSError:
            pass

    def _digest(self, path: str) -> str:
        known = self._digests.get(path)
        if known is None:
            try:
                with open(path, "rb") as file:
                    known = digest(file.read())
            except OSError:
                known = ""
            self._digests[path] = known
        return known


def _finding(row: list[Any], path: str) -> Finding:
    rule, name, severity, message, _, span, fix, cell = row
    mended = Fix(fix[0], tuple(Edit(e[0], Span(*e[1]), e[2], e[3]) for e in fix[1]), fix[2]) if fix else None
    return Finding(rule, name, severity, message, path, Span(*span), mended, cell)


def _fingerprint(config: Config) -> str:
    """Changes with the settings, the interpreter's grammar, and every byte of the linter and its rules."""
    import sys

    import tokenguard.lint
    import tokenguard.rules

    state = hashlib.blake2b(repr((_FORMAT, sys.version_info[:2], config)).encode(), digest_size=12)
    folders = [*tokenguard.lint.__path__, *tokenguard.rules.__path__, *(str(config.root / p) for p in config.plugins)]
    for folder in folders:
        for file in sorted(Path(folder).glob("*.py")):
            status = file.stat()
            state.update(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    return state.hexdigest()
