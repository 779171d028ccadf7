"""What is at the other end of standard output, and how much it can show."""

from __future__ import annotations

import os

from rich.console import Console

PIPE_WIDTH = 120


def is_utf8(encoding: str | None) -> bool:
    """Whether an encoding has every character."""
    return encoding is None or encoding.lower().startswith("utf")


def is_fancy(console: Console) -> bool:
    """Whether to draw with colours, lines and bars: on a terminal that has them, unless `NO_COLOR` asks for plain text.

    A terminal whose encoding is not UTF-8 would show other characters in their place (https://no-color.org for the
    rest). Where this is false, what we print is ASCII but for the names that callers gave.
    """
    plain = console.is_dumb_terminal or console.no_color or not is_utf8(console.encoding)
    return console.is_terminal and not plain


def console(*, markup: bool = False) -> Console:
    """Standard output: a terminal as wide as it is, and a pipe as wide as `COLUMNS` says, or 120."""
    out = Console(highlight=False, markup=markup, emoji=False)
    if is_fancy(out):
        return out
    width = None if out.is_terminal or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(highlight=False, markup=markup, emoji=False, color_system=None, width=width)
