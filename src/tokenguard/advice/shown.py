"""A waterfall on paper: a table for people, Markdown for a pull request, JSON for programs, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from rich.console import Console
from rich.text import Text

from tokenguard.advice.waterfall import Line, Waterfall
from tokenguard.facts.printed import document
from tokenguard.report import grid
from tokenguard.report.labels import clean, iso, markdown, when
from tokenguard.report.numbers import share, usd, usds
from tokenguard.report.terminal import is_fancy

WORDS: Final = {
    "shorten": "shorter",
    "share": "shared with one under way",
    "block": "refused by a limit",
    "trim": "histories cut",
    "clamp": "answers cut at a cap",
    "cache": "answered from a cache",
    "route": "another model",
    "budget": "refused by a budget",
    "batch": "in batches",
    "prompt_cache": "prompt cache",
    "lifetime": "prompt cache, longer",
    "prices": "other prices",
}
"""What each kind of step does, in a few words."""
BAR: Final = 16


def print_table(fall: Waterfall, source: str, console: Console) -> None:
    """The waterfall for people: each step with what it saves and what is left."""
    fancy = is_fancy(console)
    head = f"What if: {clean(source)}  {when(fall.first_ns)} to {when(fall.last_ns)} UTC, {fall.calls:,} calls"
    console.print(Text(head, "bold" if fancy else ""), soft_wrap=True)
    console.print()
    named = ["spent", *(clean(line.name) for line in fall.lines), "would be"]
    columns = [
        grid.Column("step", [grid.name(name) for name in named], name=True),
        grid.Column("by", [Text(by) for by in ("", *(WORDS[line.kind] for line in fall.lines), "")], 2, name=True),
        _column("calls", [f"{fall.calls:,}", *(f"{line.calls:,}" for line in fall.lines), ""], 5),
        _column("saves", ["", *(_saved(fall)), _total(fall)]),
        _column("between", ["", *map(_between, fall.lines), _interval(fall)], 4),
        _column("left", usds([fall.spent_usd, *(line.left_usd for line in fall.lines), fall.left_usd])),
    ]
    if fancy:
        bars = [_bar(fall.spent_usd, fall), *(_drop(line, fall) for line in fall.lines), _bar(fall.left_usd, fall)]
        columns.append(grid.Column("", bars, 3))
    grid.print_grid(console, [column for column in columns if any(cell.plain for cell in column.cells)], total=True)
    _say("Assumed", list(_assumptions(fall)), console)
    _say("Not known", list(_unknown(fall)), console)


def _column(title: str, cells: list[str], worth: int = grid.ALWAYS) -> grid.Column:
    return grid.Column(title, [Text(cell) for cell in cells], worth)


def _saved(fall: Waterfall) -> list[str]:
    return usds([line.saved_usd for line in fall.lines])


def _between(line: Line) -> str:
    return "" if line.low_usd == line.high_usd else f"{usd(line.low_usd)} to {usd(line.high_usd)}"


def _interval(fall: Waterfall) -> str:
    if fall.low_usd == fall.high_usd:
        return ""
    return f"{usd(fall.spent_usd - fall.high_usd)} to {usd(fall.spent_usd - fall.low_usd)}"


def _say(title: str, sentences: list[str], console: Console) -> None:
    if sentences:
        console.print()
        console.print(f"{title}:")
    for sentence in sentences:
        console.print(Text(f"- {sentence}"), soft_wrap=not is_fancy(console))


def _saves(line: Line) -> str:
    if line.low_usd == line.high_usd:
        return usd(line.saved_usd)
    return f"{usd(line.saved_usd)} ({usd(line.low_usd)} to {usd(line.high_usd)})"


def _total(fall: Waterfall) -> str:
    saved = fall.spent_usd - fall.left_usd
    return f"{usd(saved)}, {_percent(fall)}"


def _percent(fall: Waterfall) -> str:
    part = fall.saved_share
    if part is None:
        return share(None)
    return share(part) if part >= 0 else f"-{share(-part)}"


def _bar(left: float, fall: Waterfall) -> Text:
    return Text("█" * _blocks(left, fall), "cyan")


def _drop(line: Line, fall: Waterfall) -> Text:
    left = _blocks(line.left_usd, fall)
    gone = max(0, _blocks(line.left_usd + line.saved_usd, fall) - left)
    return Text.assemble(("█" * left, "cyan"), ("░" * gone, "green"))


def _blocks(amount: float, fall: Waterfall) -> int:
    top = max([fall.spent_usd, *(line.left_usd for line in fall.lines)])
    return round(BAR * max(0.0, amount) / top) if top > 0 else 0


def _assumptions(fall: Waterfall) -> Iterator[str]:
    for line in fall.lines:
        yield f"{clean(line.name)}, from {line.basis}: {'; '.join(line.assumes)}"


def _unknown(fall: Waterfall) -> Iterator[str]:
    if fall.unpriced:
        yield f"{fall.unpriced:,} calls have no known price: they are in no sum"
    yield from map(clean, fall.notes)


def as_json(fall: Waterfall, source: str) -> str:
    """The waterfall for programs. Money is USD, shares are of 1, unknown is null."""
    return (
        document(
            {
                "proposal": source,
                "calls": fall.calls,
                "unpriced_calls": fall.unpriced,
                "spent_usd": fall.spent_usd,
                "steps": [line._asdict() for line in fall.lines],
                "left_usd": fall.left_usd,
                "left_usd_interval": [fall.low_usd, fall.high_usd],
                "saved_usd": fall.spent_usd - fall.left_usd,
                "saved_share": fall.saved_share,
                "first_call": iso(fall.first_ns),
                "last_call": iso(fall.last_ns),
                "notes": list(fall.notes),
            }
        )
        + "\n"
    )


def as_markdown(fall: Waterfall, source: str) -> str:
    """The waterfall as a Markdown table, with what it assumes below."""
    lines = [
        f"**What if: {markdown(source)}** {when(fall.first_ns)} to {when(fall.last_ns)} UTC, {fall.calls:,} calls",
        "",
        "| step | by | calls | saves | left |",
        "|---|---|---:|---:|---:|",
        f"| spent | | {fall.calls:,} | | {usd(fall.spent_usd)} |",
        *(
            f"| {markdown(line.name)} | {WORDS[line.kind]} | {line.calls:,} | {_saves(line)} | {usd(line.left_usd)} |"
            for line in fall.lines
        ),
        f"| **would be** | | | **{_total(fall)}** | **{usd(fall.left_usd)}** |",
    ]
    for title, sentences in (("Assumed", _assumptions(fall)), ("Not known", _unknown(fall))):
        told = [f"- {markdown(sentence)}" for sentence in sentences]
        lines += ["", f"{title}:", "", *told] if told else []
    return "\n".join([*lines, ""])


# --- the picture -----------------------------------------------------------------------------------------------------

WIDTH: Final = 760
ROW: Final = 34
LEFT: Final = 250
RIGHT: Final = 150
TOP: Final = 56
STYLE: Final = """
svg { font: 13px system-ui, sans-serif; color-scheme: light dark; }
.ground { fill: #ffffff; } text { fill: #1f2328; } .dim { fill: #59636e; } .head { font-size: 16px; font-weight: 600; }
.left { fill: #0969da; } .saved { fill: #1a7f37; } .more { fill: #bc4c00; } .rule { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
 .ground { fill: #0d1117; } text { fill: #e6edf3; } .dim { fill: #9198a1; } .rule { stroke: #3d444d; }
 .left { fill: #4493f8; } .saved { fill: #3fb950; } .more { fill: #db6d28; }
}
"""


def as_svg(fall: Waterfall, source: str) -> str:
    """The waterfall as a picture of its own, light and dark, with nothing from elsewhere."""
    top = max([fall.spent_usd, *(line.left_usd for line in fall.lines), 1e-12])
    scale = (WIDTH - LEFT - RIGHT) / top
    rows = [_bar_svg(0, "spent", "", 0.0, fall.spent_usd, "left", usd(fall.spent_usd), scale)]
    for n, line in enumerate(fall.lines, 1):
        before = line.left_usd + line.saved_usd
        low, high = sorted((max(0.0, line.left_usd), max(0.0, before)))
        kind = "saved" if line.saved_usd >= 0 else "more"
        told = f"-{usd(line.saved_usd)}" if line.saved_usd > 0 else f"+{usd(-line.saved_usd)}"
        told = told if line.saved_usd else "nothing"
        rows.append(_bar_svg(n, line.name, WORDS[line.kind], low, high, kind, told, scale))
    last = len(fall.lines) + 1
    told = f"{usd(fall.left_usd)} ({_percent(fall)} less)"
    rows.append(_bar_svg(last, "would be", "", 0.0, max(0.0, fall.left_usd), "left", told, scale))
    height = TOP + ROW * (last + 1) + 12
    title = f"What if: {clean(source)}"
    period = f"{fall.calls:,} calls, {when(fall.first_ns)} to {when(fall.last_ns)} UTC"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>'
        f'<text class="head" x="16" y="26">{escape(title)}</text>'
        f'<text class="dim" x="16" y="45">{period}</text>'
        f"{''.join(rows)}</svg>\n"
    )


def _bar_svg(n: int, name: str, by: str, low: float, high: float, kind: str, told: str, scale: float) -> str:
    y = TOP + ROW * n
    x, width = LEFT + low * scale, max(1.0, (high - low) * scale)
    label = clean(name)
    label = label if len(label) <= 34 else f"{label[:33]}…"
    beside = f'<text class="dim" x="16" y="{y + 27}" font-size="11">{escape(by)}</text>' if by else ""
    return (
        f'<line class="rule" x1="16" x2="{WIDTH - 16}" y1="{y}" y2="{y}"/>'
        f'<text x="16" y="{y + (14 if by else 21)}">{escape(label)}</text>{beside}'
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 8}" width="{width:.1f}" height="{ROW - 16}" rx="2"/>'
        f'<text x="{x + width + 8:.1f}" y="{y + 21}">{escape(told)}</text>'
    )
