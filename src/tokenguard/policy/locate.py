"""On which line of a TOML file is a key? `tomllib` does not say, and an error without a line is half an error.

This reads only what it needs of TOML's shape (headers, keys, brackets, strings), of text that `tomllib` has already
accepted. Where it does not know, `Lines.of` answers with the nearest table around the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}=,.\n]"
    r"|[^\s\[\]{}=,.\"'\#]+",
    re.DOTALL,
)


class Lines:
    """The line of every key and list element, counted from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._words = _words(text)
        self._table: Path = ()
        self._next()
        while self._word:
            self._statement()

    def of(self, path: Path) -> int:
        """The line of `path`, or of the innermost table around it that is written down; 1 if none is."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _next(self) -> None:
        self._word, self._line = next(self._words, ("", 0))

    def _statement(self) -> None:
        """One `[header]`, one `key = value`, or nothing but an end of line."""
        if self._word == "\n":
            self._next()
        elif self._word == "[":
            line = self._line
            self._next()
            many = self._word == "["
            if many:
                self._next()
            keys = self._key("]")
            self._next()
            if many:
                self._next()
            self._table = self._open(keys, many=many)
            self._lines.setdefault(self._table, line)
        else:
            self._pair(self._table)

    def _open(self, keys: list[str], *, many: bool) -> Path:
        """The path of a header: a name that stands for an array of tables means its last element."""
        path: Path = ()
        for key in keys[:-1]:
            path += (key,)
            if path in self._arrays:
                path += (self._arrays[path],)
        path += (keys[-1],)
        if many:
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path += (self._arrays[path],)
        return path

    def _key(self, end: str) -> list[str]:
        keys = []
        while self._word and self._word not in (end, "\n"):
            if self._word != ".":
                keys.append(_unquoted(self._word))
            self._next()
        return keys or [""]

    def _pair(self, table: Path) -> None:
        line = self._line
        path = table
        for key in self._key("="):
            path += (key,)
            self._lines.setdefault(path, line)
        self._next()
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._word == "{":
            self._next()
            while self._word and self._word != "}":
                if self._word in (",", "\n"):
                    self._next()
                else:
                    self._pair(path)
            self._next()
        elif self._word == "[":
            self._next()
            index = 0
            while self._word and self._word != "]":
                if self._word in (",", "\n", "}", "="):  # the last two never stand here; so that this ends at all
                    self._next()
                else:
                    self._lines.setdefault((*path, index), self._line)
                    self._value((*path, index))
                    index += 1
            self._next()
        else:
            while self._word and self._word not in (",", "]", "}", "\n"):
                self._next()


def _words(text: str) -> Iterator[tuple[str, int]]:
    line, at = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if not match[0].startswith("#"):
            yield match[0], line


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    try:
        return str(tomllib.loads(f"k = {key}")["k"])
    except tomllib.TOMLDecodeError:
        return key.strip("\"'")
