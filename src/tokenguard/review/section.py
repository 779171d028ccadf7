"""A part of the comment, and how much of it GitHub takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.figures import many

ROWS: Final = 20
"""Rows that a table has at most."""
LETTERS: Final = 160
"""Characters that a name or a message has at most."""


class Section(NamedTuple):
    """A part of the comment, in Markdown."""

    title: str
    text: str
    worse: bool
    """Whether the change makes something dearer."""


def cut(text: str) -> str:
    """A text that is not too long for a table."""
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def listed(rows: Sequence[str], what: str) -> list[str]:
    """The first of the rows, and how many there are besides."""
    rest = len(rows) - ROWS
    return list(rows) if rest <= 0 else [*rows[:ROWS], "", f"and {many(rest, f'more {what}')}."]
