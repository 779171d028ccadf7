"""What a rule says: a finding, where it is, and how it would be mended.

Lines count from 1. Columns count from 0 in UTF-8 bytes, as `ast` counts them; outputs turn them into characters.
"""

from __future__ import annotations

from tokenguard.facts.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:  # reports of kept findings parse nothing
    import ast
    from typing import Literal

    Severity = Literal["error", "warning", "info"]
else:
    Severity = str

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")


class Span(NamedTuple):
    """A stretch of source: first line and column, line and column after the last character."""

    line: int
    column: int
    end_line: int
    end_column: int

    @classmethod
    def of(cls, node: ast.expr | ast.stmt) -> Span:
        """The span of a parsed node."""
        return cls(node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def below(self, lines: int) -> Span:
        """The same stretch so many lines further down."""
        return Span(self.line + lines, self.column, self.end_line + lines, self.end_column)


class Edit(NamedTuple):
    """One change to the expression at `span`, carried out by `fixes` on that expression alone.

    `set` gives the call or dict there the keyword or key `name` with the source text `value`; `unset` removes it;
    `replace` puts `value` in the expression's place; `wrap` makes it `value(expression)`.
    """

    action: Literal["set", "unset", "replace", "wrap"]
    span: Span
    name: str = ""
    value: str = ""


class Fix(NamedTuple):
    """A way to mend a finding. A safe fix keeps what the program does; the others need `--unsafe-fixes`."""

    summary: str
    edits: tuple[Edit, ...]
    safe: bool = False


class Finding(NamedTuple):
    """One report of one rule. `path` is as the user gave it; `cell` is a notebook's cell number, from 1."""

    rule: str
    name: str
    severity: Severity
    message: str
    path: str
    span: Span
    fix: Fix | None = None
    cell: int | None = None

    @property
    def order(self) -> tuple[str, int, Span, str]:
        """The key findings are sorted by: path, cell, place, rule."""
        return (self.path, self.cell or 0, self.span, self.rule)
