"""A text that is being edited: its last findings, and its places in the units of an editor's protocol.

Lines count from 0 there, and columns in the units that the client chose: bytes, UTF-16 code units, or characters.
"""

from __future__ import annotations

import io
import tokenize
from typing import Literal

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.engine import BROKEN, Linter
from tokenguard.lint.finding import Finding, Span
from tokenguard.lint.fixes import apply_edits
from tokenguard.lint.sources import lines_of, shared

Units = Literal["utf-8", "utf-16", "utf-32"]
Place = tuple[int, int]  # line and column


class Change(NamedTuple):
    """A replacement of what is between two places."""

    start: Place
    end: Place
    text: str


Changes = dict[str, Change]
"""The change of each document, by its URI."""


class Document:
    """One open text with the findings of its last version that could be parsed."""

    def __init__(self, uri: str, path: str, units: Units) -> None:
        self.uri = uri
        self.path = path
        self.units = units
        self.findings: list[Finding] = []
        self.current = False
        """Whether the findings are those of the text as it is now."""
        self._text = ""
        self._lines: list[str] = []

    def lint(self, text: str, linter: Linter) -> bool:
        """Take a new text; whether there is news of its findings. While it is broken, the last ones stay."""
        found = linter.lint(encoded(text), self.path)
        self.current = not any(finding.rule == BROKEN for finding in found)
        if not self.current:
            return self.follow(text)
        self.take(text, found)
        return True

    def take(self, text: str, findings: list[Finding]) -> None:
        """Keep a text with its findings."""
        self.findings, self._text, self._lines = findings, text, lines_of(text)

    def follow(self, text: str) -> bool:
        """Move the findings with their lines in a text that is not linted; whether any has moved."""
        before, after = self._lines, lines_of(text)
        self._lines = after
        down = len(after) - len(before)
        if not down:
            return False
        head = shared(before, after)
        tail = len(before) - min(shared(before[::-1], after[::-1]), len(before) - head, len(after) - head)
        moved = [f._replace(span=f.span.below(down)) if f.span.line > tail else f for f in self.findings]
        news = moved != self.findings
        self.findings = moved
        return news

    def at(self, line: int, last: int | None = None) -> list[Finding]:
        """The findings on the lines from `line` to `last`."""
        end = line if last is None else last
        return [f for f in self.findings if f.span.line - 1 <= end and f.span.end_line - 1 >= line]

    def ends(self, span: Span) -> tuple[Place, Place]:
        """The first place of a span, and the one behind it or its first line: editors underline all that is between."""
        if span.end_line > span.line <= len(self._lines):
            first = self._lines[span.line - 1].rstrip()
            return self._place(span.line, span.column), (span.line - 1, _width(first, self.units))
        return self._place(span.line, span.column), self._place(span.end_line, span.end_column)

    def _place(self, line: int, column: int) -> Place:
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return line - 1, _width(text.encode()[:column].decode(errors="replace"), self.units)

    def fixed(self, findings: list[Finding]) -> Changes:
        """What carries out the fixes of `findings`; nothing where they cannot be, or where one is in another's way."""
        source = encoded(self._text)
        after, done = apply_edits(source, findings)
        if not done or after == source:
            return {}
        return {self.uri: self.change(after.decode(_encoding(self._text), "replace"))}

    def ignored(self, finding: Finding) -> Changes:
        """What puts a comment behind a finding that silences it; nothing where no comment can stand."""
        from tokenguard.lint.mending import commented

        after, added = commented(self._text.encode(), {finding.span.line: {finding.rule}})
        return {self.uri: self.change(after.decode())} if added else {}

    def change(self, after: str) -> Change:
        """The smallest change of the text into `after`."""
        before = self._text
        most = min(len(before), len(after))
        start = next((i for i in range(most) if before[i] != after[i]), most)
        tail = next((i for i in range(most - start) if before[-1 - i] != after[-1 - i]), most - start)
        return Change(self._offset(start), self._offset(len(before) - tail), after[start : len(after) - tail])

    def _offset(self, offset: int) -> Place:
        above = lines_of(self._text[:offset])
        return len(above) - 1, _width(above[-1], self.units)


def _width(text: str, units: Units) -> int:
    if units == "utf-8":
        return len(text.encode())
    return len(text) if units == "utf-32" else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _encoding(text: str) -> str:
    """What the coding comment of a text says."""
    try:
        return tokenize.detect_encoding(io.BytesIO(text[:400].encode()).readline)[0]
    except (SyntaxError, LookupError):
        return "utf-8"


def encoded(text: str) -> bytes:
    """The bytes that the parser reads as `text`."""
    try:
        return text.encode(_encoding(text))
    except UnicodeEncodeError:
        return text.encode(errors="replace")
