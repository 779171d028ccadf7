"""The lines that findings are in, for the reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tokenguard.lint.finding import Finding
from tokenguard.lint.sources import cell_texts, decode, lines_of, read

if TYPE_CHECKING:  # of those who ask for it
    from tokenguard.lint.notebooks import Notebook
    from tokenguard.lint.spent import Spent


class Sources:
    """The lines of the files that findings are in, read once; `given` holds texts that are not on disk."""

    def __init__(self, given: Mapping[str, bytes] | None = None) -> None:
        self.spent: Mapping[Finding, Spent] = {}
        """What the lines of findings cost, where that was asked."""
        self._bytes = dict(given or {})
        self._lines: dict[tuple[str, int | None], list[str]] = {}
        self._notebooks: dict[str, Notebook] = {}

    def line(self, finding: Finding) -> str:
        """The line a finding starts in; empty when the file cannot be read."""
        lines = self.lines(finding.path, finding.cell)
        return lines[finding.span.line - 1] if 0 < finding.span.line <= len(lines) else ""

    def lines(self, path: str, cell: int | None = None) -> list[str]:
        """All lines of a file, or of one cell of a notebook."""
        key = (path, cell)
        if key not in self._lines:
            source: bytes | str = self._bytes[path] if path in self._bytes else read(path)
            self._lines[key] = []
            if isinstance(source, bytes):
                texts = [(None, decode(source))] if cell is None else _cells(source)
                self._lines |= {(path, number): lines_of(text) for number, text in texts}
        return self._lines[key]

    def line_of_file(self, finding: Finding, line: int) -> int:
        """The line of the file that a line of a finding's cell is in; the line itself outside of notebooks."""
        if finding.cell is None:
            return line
        from tokenguard.lint.notebooks import Notebook

        try:
            if finding.path not in self._notebooks:
                self._notebooks[finding.path] = Notebook(self.source(finding.path))
            return self._notebooks[finding.path].line(finding.cell, line)
        except (ValueError, KeyError):  # changed since, or gone
            return 1

    def source(self, path: str) -> bytes:
        """The bytes of a file; none when it cannot be read."""
        source: bytes | str = self._bytes[path] if path in self._bytes else read(path)
        return source if isinstance(source, bytes) else b""

    def column(self, finding: Finding) -> int:
        """The finding's column in characters, from 1."""
        return len(self.line(finding).encode()[: finding.span.column].decode(errors="replace")) + 1


def _cells(source: bytes) -> Iterable[tuple[int | None, str]]:
    """The numbers and texts of a notebook's code cells; none when it cannot be read."""
    try:
        return cell_texts(source).items()
    except ValueError:
        return ()
