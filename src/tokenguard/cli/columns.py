"""Text in columns, for the few lines that are not worth loading rich for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import click


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[int, Mapping[str, bool]], *, line: bool
) -> Iterator[str]:
    """The head in bold and the rows, the first and last columns left, those between right; `styles` by column.

    `line` draws one under the head. Nothing is cut or broken: who has a narrow terminal sees it wrapped.

    >>> print(*columns(("USD", "rate", ""), [("input", "2.5", ""), ("output", "10", "USD")], {}, line=False), sep="|")
    USD     rate|input    2.5|output    10  USD
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    yield _line(head, widths, {place: {"bold": True} for place in range(len(head))})
    if line:
        yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    for row in rows:
        yield _line(row, widths, styles)


def _line(cells: Sequence[str], widths: Sequence[int], styles: Mapping[int, Mapping[str, bool]]) -> str:
    last = max((place for place, cell in enumerate(cells) if cell), default=0)
    placed = []
    for place, (cell, width) in enumerate(zip(cells[: last + 1], widths, strict=False)):
        middle = 0 < place < len(widths) - 1
        text = cell.rjust(width) if middle else cell if place == last else cell.ljust(width)
        placed.append(click.style(text, **styles[place]) if place in styles else text)
    return "  ".join(placed)
