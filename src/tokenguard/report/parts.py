"""The table of where the input went."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tokenguard.report import grid
from tokenguard.report.inputs import WORDS, Part, uncached
from tokenguard.report.numbers import UNKNOWN, share, shares, token_counts, usds


def print_parts(found: Sequence[Part], by: str, console: Console) -> None:
    """Sections, or tools, with their tokens, what of them was cached, and their share of what the input cost."""
    cached = [
        UNKNOWN if part.cached_tokens is None else share(part.cached_tokens / part.tokens) if part.tokens else UNKNOWN
        for part in found
    ]
    columns = {
        "calls": [f"{part.calls:,}" for part in found],
        "input": token_counts([part.tokens for part in found]),
        "share": shares([part.share for part in found]),
        "cached": cached,
        "cost": usds([part.usd for part in found]),
        "a day": usds([part.usd_per_day for part in found]),
    }
    if by == "tool":
        del columns["cached"]
    names = [grid.name(WORDS.get(part.name, part.name)) for part in found]
    figures = [grid.Column(title, [Text(cell) for cell in cells]) for title, cells in columns.items()]
    grid.print_grid(console, [grid.Column(by, names, name=True), *figures])
    said = uncached(list(found)) if by == "section" else None
    if said is not None:
        console.print()
        console.print(Text(f"! {said}."), soft_wrap=True)
    console.print()
    console.print(Text("Tokens are the reported input, shared out by the length of the parts of each request."))
