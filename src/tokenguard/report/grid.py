"""A table that fits a terminal: names are cut where they are long, numbers never; what has no room is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.labels import clean
from tokenguard.report.terminal import is_fancy

MIN_NAME: Final = 12
"""Characters that a name keeps, however narrow the terminal."""
NAMES_PART: Final = 0.4
"""The part of the width that names may take before the last of the figures."""
GAP: Final = 2
ALWAYS: Final = 100
"""The worth of a column that is shown however narrow it gets."""


class Column(NamedTuple):
    """One column, from top to bottom."""

    title: str
    cells: Sequence[Text]
    worth: int = ALWAYS
    """How much it is missed where room is short."""
    name: bool = False
    """Whether it holds names: flush left, and cut where they are long. Numbers are flush right."""


def print_grid(console: Console, columns: Sequence[Column], *, total: bool = False) -> None:
    """Print the columns there is room for, and which there was none for. With `total` the last row is a sum."""
    fancy = is_fancy(console)
    widths = _fitted(columns, console.width)
    table = Table(
        box=box.SIMPLE_HEAD if fancy else None,
        pad_edge=False,
        header_style="bold" if fancy else "",
        show_edge=False,
        padding=(0, GAP - 1 if fancy else GAP, 0, 0),  # the box adds a space of its own
    )
    kept = []
    for column, width in zip(columns, widths, strict=True):
        if width is None:
            continue
        kept.append([_cut(cell, width, fancy) for cell in column.cells] if column.name else column.cells)
        if column.name:
            table.add_column(Text(column.title), overflow="crop", no_wrap=True, width=width)
        else:
            table.add_column(Text(column.title), justify="right", no_wrap=True, min_width=width)
    rows = list(zip(*kept, strict=True))
    for n, row in enumerate(rows, 1):
        last = total and n == len(rows)
        if last:
            table.add_section()
        table.add_row(*row, style="bold" if last and fancy else "")
    console.print(table)
    hidden = [column.title for column, width in zip(columns, widths, strict=True) if width is None and column.title]
    if hidden:
        said = f"No room at {console.width} columns for {', '.join(hidden)}: a wider terminal shows them"
        console.print(Text(f"{said}, as --format json does", style="dim" if fancy else ""), soft_wrap=not fancy)


def _fitted(columns: Sequence[Column], room: int) -> list[int | None]:
    """The width of each column; `None` where there is no room for it. What is left goes to the names that want it."""
    wanted = [max(cell_len(column.title), *(cell.cell_len for cell in column.cells), 0) for column in columns]
    least = max(MIN_NAME, int(room * NAMES_PART) // max(1, sum(column.name for column in columns)))
    widths: list[int | None] = [None] * len(columns)
    for n in sorted(range(len(columns)), key=lambda n: -columns[n].worth):
        width = min(wanted[n], least) if columns[n].name else wanted[n]
        if width + GAP <= room or columns[n].worth >= ALWAYS:
            widths[n] = width
            room -= width + GAP
    for n, given in enumerate(widths):
        if given is not None:
            more = min(wanted[n] - given, max(0, room))
            room -= more
            widths[n] = given + more
    return widths


def name(text: str) -> Text:
    """A name as a cell: of a path, what is shorter, from here or from the root."""
    if text.startswith(os.sep):
        text = min(os.path.relpath(text), text, key=len)
    return Text(clean(text))


def _cut(cell: Text, width: int, fancy: bool) -> Text:
    """A name that is too long loses its end; a path its beginning, as file and line are at its end."""
    if cell.cell_len <= width:
        return cell
    dots = "…" if fancy else "..."
    if os.sep not in cell.plain:
        return Text(f"{set_cell_size(cell.plain, width - len(dots))}{dots}", cell.style)
    kept = cell.plain
    while cell_len(kept) > width - len(dots):
        kept = kept[1:]
    return Text(f"{dots}{kept}", cell.style)
