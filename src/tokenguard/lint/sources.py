"""The texts of files: their bytes, their encoding, their lines."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tokenguard.lint.finding import Finding


def read(path: str) -> bytes | str:
    """The bytes of a file, or a sentence why there are none. Devices and pipes are never opened."""
    try:
        if not os.path.isfile(path):
            return "Not a regular file."
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return f"Cannot be read: {error.strerror or error}"


def decode(source: bytes) -> str:
    """The text of a Python source, by its byte order mark or coding comment; the BOM is dropped."""
    encoding = "utf-8"
    if b"coding" in b"\n".join(source.split(b"\n", 2)[:2]):
        import contextlib
        import io
        import tokenize

        with contextlib.suppress(SyntaxError, LookupError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return source.decode(encoding, "replace").removeprefix("\ufeff")


def lines_of(text: str) -> list[str]:
    """The lines of a text as the parser counts them: only line feeds and carriage returns end one."""
    return re.split(r"\r\n|\r|\n", text)


class Sources:
    """The lines of the files that findings are in, read once; `given` holds texts that are not on disk."""

    def __init__(self, given: Mapping[str, bytes] | None = None) -> None:
        self._bytes = dict(given or {})
        self._lines: dict[tuple[str, int | None], list[str]] = {}

    def line(self, finding: Finding) -> str:
        """The line a finding starts in; empty when the file cannot be read."""
        lines = self.lines(finding.path, finding.cell)
        return lines[finding.span.line - 1] if 0 < finding.span.line <= len(lines) else ""

    def lines(self, path: str, cell: int | None = None) -> list[str]:
        """All lines of a file, or of one cell of a notebook."""
        key = (path, cell)
        if key not in self._lines:
            source: bytes | str = self._bytes[path] if path in self._bytes else read(path)
            if isinstance(source, str):
                self._lines[key] = []
            elif cell is not None:
                from tokenguard.lint.notebooks import cell_lines

                self._lines[key] = cell_lines(source, cell)
            else:
                self._lines[key] = lines_of(decode(source))
        return self._lines[key]

    def column(self, finding: Finding) -> int:
        """The finding's column in characters, from 1."""
        return len(self.line(finding).encode()[: finding.span.column].decode(errors="replace")) + 1
