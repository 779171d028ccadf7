"""The part of the page that replays calls, and takes longer than the rest: what would save, step by step."""

from __future__ import annotations

from typing import Final

from tokenguard.advice.proposal import Proposal
from tokenguard.advice.shown import WORDS
from tokenguard.advice.suggest import suggestion
from tokenguard.advice.waterfall import Line, Waterfall, waterfall
from tokenguard.facts.errors import PolicyError
from tokenguard.page import charts
from tokenguard.page.markup import Markup, joined, tag
from tokenguard.page.sections import table
from tokenguard.prices import PriceBook
from tokenguard.report.engine import Records
from tokenguard.report.figures import many
from tokenguard.report.numbers import share, usd, usds
from tokenguard.report.query import Query, newest

REPLAYED: Final = 5_000
"""So many of the last calls are replayed: some 0.6 s."""


def advised(records: Records, query: Query) -> list[Markup]:
    """The sections that take longer, as far as there is something to say. The prices are those of the policy."""
    from tokenguard.policy import load

    try:
        prices = PriceBook(load().prices)
    except PolicyError:
        prices = PriceBook({})
    found = what_if(records, query, prices)
    return [] if found is None else [found]


def what_if(records: Records, query: Query, prices: PriceBook) -> Markup | None:
    """The policy whose steps would have paid, and what each of them saves of what the ones before left."""
    query = newest(records, query, REPLAYED)
    proposal, _ = suggestion(records, query, Proposal(), prices)
    fall = waterfall(records, query, proposal, prices)
    if not fall.lines or fall.saved_share is None:
        return None
    assumed = [f"{line.name}, from {line.basis}: {'; '.join(line.assumes)}" for line in fall.lines]
    return tag(
        "section",
        tag("h2", f"What would save, replayed on the last {many(fall.calls, 'call')}"),
        tag(
            "p",
            tag("strong", f"{usd(fall.spent_usd - fall.left_usd)} of {usd(fall.spent_usd)}"),
            f", {share(fall.saved_share)}. ",
            tag("code", "tokenguard whatif --suggest"),
            " writes the policy.",
            class_="sentence",
        ),
        _steps(fall),
        tag("details", tag("summary", "What is assumed"), tag("ul", *(tag("li", each) for each in assumed)))
        if assumed
        else None,
        class_="wide",
    )


def _steps(fall: Waterfall) -> Markup:
    top = max([fall.spent_usd, *(line.left_usd for line in fall.lines)])
    rows = [
        ("spent", "", many(fall.calls, "call"), "", usd(fall.spent_usd), _fall(fall.spent_usd, 0.0, top)),
        *(
            (
                line.name,
                WORDS[line.kind],
                many(line.calls, "call"),
                _saves(line),
                left,
                _fall(line.left_usd, max(0.0, line.saved_usd), top),
            )
            for line, left in zip(fall.lines, usds([line.left_usd for line in fall.lines]), strict=True)
        ),
    ]
    return table(["step", "by", "changes", "saves", "left", ""], rows, (1,))


def _saves(line: Line) -> Markup:
    interval = f" ({usd(line.low_usd)} to {usd(line.high_usd)})" if line.low_usd != line.high_usd else None
    return joined(usd(line.saved_usd), tag("span", interval, class_="dim") if interval else None)


def _fall(left: float, saved: float, top: float) -> Markup:
    """What is left, what this step took from it, and what was gone before."""
    gone = max(0.0, top - left - saved)
    return charts.parts([("c0", left), ("saved", saved), ("empty", gone)])
