"""Charts as SVG, made here: they need no script, can be printed, and are readable as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenguard.page.gathered import Series
from tokenguard.page.markup import Markup, joined, tag
from tokenguard.report.labels import NO_VALUE
from tokenguard.report.numbers import share, usd, usds

HEIGHT: Final = 200
STEPS: Final = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""What the top of an axis is a multiple of."""
FULL: Final = 0.8


def spend(series: Series) -> Markup:
    """Spend over time, stacked by key: a column for each day or hour, each with its numbers."""
    totals = series.totals
    top = nice(max(totals, default=0.0))
    count = len(series.times)
    columns = [
        tag(
            "g",
            tag("title", _told(series, n)),
            _stack([*(series.usd[key][n] for key in series.keys), series.other[n]], n, top),
            tag("rect", class_="touch", x=n, y=0, width=1, height=HEIGHT),
            class_="column",
            tabindex=0,
            role="img",
            aria_label=_told(series, n),
        )
        for n in range(count)
    ]
    lines = [tag("line", x1=0, x2=count, y1=y, y2=y, class_="grid") for y in (0.5, HEIGHT / 2, HEIGHT - 0.5)]
    drawn = tag("svg", *lines, *columns, viewBox=f"0 0 {count} {HEIGHT}", preserveAspectRatio="none", class_="stack")
    marks = [*(mark.removesuffix(".00") for mark in usds([top, top / 2])), "$0"]
    return tag(
        "figure",
        tag("div", *(tag("span", mark) for mark in marks), class_="y", aria_hidden="true"),
        drawn,
        tag("div", *(tag("span", time) for time in _ends(series.times)), class_="x", aria_hidden="true"),
        tag("p", _told(series, count - 1) if count else "", class_="readout", aria_live="polite"),
        class_="chart",
    )


def _stack(values: Sequence[float], n: int, top: float) -> list[Markup]:
    bars, base = [], float(HEIGHT)
    for color, value in enumerate(values):
        if value > 0:
            height = value / top * HEIGHT
            base -= height
            name = f"c{color}" if color < len(values) - 1 else "c-other"
            bars.append(tag("rect", class_=name, x=n + 0.08, y=round(base, 2), width=0.84, height=round(height, 2)))
    return bars


def _told(series: Series, n: int) -> str:
    """A column in words."""
    parts = [(series.usd[key][n], NO_VALUE if key is None else key) for key in series.keys]
    parts = sorted([*parts, (series.other[n], "others")], key=lambda part: -part[0])
    named = ", ".join(f"{key} {usd(value)}" for value, key in parts[:4] if value)
    total = f"{series.times[n]}: {usd(sum(value for value, _ in parts))} in {series.calls[n]:,} calls"
    return f"{total} ({named})" if named else total


def _ends(times: Sequence[str]) -> list[str]:
    """The first, the middle and the last time."""
    if len(times) < 3:
        return list(times)
    return [times[0], times[len(times) // 2], times[-1]]


def nice(most: float) -> float:
    """The top of an axis: the next round number.

    >>> nice(3.2), nice(0.0071), nice(0.0)
    (4.0, 0.008, 1.0)
    """
    if most <= 0:
        return 1.0
    size = 10.0 ** len(str(int(most))) / 10 if most >= 1 else 1.0
    while size > most:
        size /= 10
    return next(round(step * size, 12) for step in STEPS if step * size >= most)


def legend(series: Series) -> Markup:
    """The keys with their colours."""
    keys = [(f"c{n}", NO_VALUE if key is None else key) for n, key in enumerate(series.keys)]
    if any(series.other):
        keys.append(("c-other", "others"))
    return tag("ul", *(tag("li", swatch(color), name) for color, name in keys), class_="legend")


def swatch(color: str) -> Markup:
    """A small square of a colour."""
    return tag(
        "svg",
        tag("rect", width=10, height=10, rx=2, class_=color),
        viewBox="0 0 10 10",
        class_="swatch",
        aria_hidden="true",
    )


def bar(part: float | None, color: str = "c0", title: str | None = None) -> Markup:
    """A share of 1 as a bar."""
    full = 0.0 if part is None else min(1.0, max(0.0, part))
    return tag(
        "svg",
        tag("title", title) if title else None,
        tag("rect", width=100, height=8, rx=0, class_="empty"),
        tag("rect", width=round(full * 100, 2), height=8, rx=0, class_=color),
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=title or share(part),
    )


def spark(values: Sequence[float], color: str = "c0") -> Markup:
    """A series in the size of a word."""
    top = max(values, default=0.0)
    width = len(values) or 1
    bars = [
        tag(
            "rect",
            x=n + 0.1,
            y=round(20 - value / top * 20, 2),
            width=0.8,
            height=round(value / top * 20, 2),
            class_=color,
        )
        for n, value in enumerate(values)
        if top and value
    ]
    return tag("svg", *bars, viewBox=f"0 0 {width} 20", preserveAspectRatio="none", class_="spark", aria_hidden="true")


def used(part: float | None) -> Markup:
    """How much of a budget is used, as a bar whose colour says how near its end is."""
    color = "fine" if part is None or part < FULL else "near" if part < 1 else "over"
    return bar(part, color, f"{share(part)} used")


def parts(values: Sequence[tuple[str, float]]) -> Markup:
    """Several shares of one whole as one bar, each with its colour's class."""
    total = sum(value for _, value in values) or 1.0
    at, drawn = 0.0, []
    for color, value in values:
        width = value / total * 100
        drawn.append(tag("rect", x=round(at, 3), width=round(width, 3), height=8, class_=color))
        at += width
    return tag("svg", joined(*drawn), viewBox="0 0 100 8", preserveAspectRatio="none", class_="bar", aria_hidden="true")
