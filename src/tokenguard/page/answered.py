"""The part of the page that is about answers nobody paid for again: of each `[[cache]]` and `[[share]]`."""

from __future__ import annotations

from itertools import groupby

from tokenguard.facts import names
from tokenguard.page import charts
from tokenguard.page.gathered import LOOKED_AT, Page
from tokenguard.page.markup import Markup, tag
from tokenguard.page.sections import table
from tokenguard.report.labels import NO_VALUE
from tokenguard.report.lookups import LookUps
from tokenguard.report.numbers import plain, share, usd, usds

SERVED = frozenset({names.HIT, names.SHARED})


def served(found: LookUps) -> bool:
    """Whether these calls got an answer that was there, all or a part of it; a rule that only watches gives none."""
    return found.result in SERVED and found.reason != names.OBSERVED


def answers(page: Page) -> Markup | None:
    """By rule: look-ups, hits, what they saved; and what became of each call, with the reason in words."""
    if not page.lookups:
        return None
    rules = [(rule, list(found)) for rule, found in groupby(page.lookups, key=lambda each: each.rule)]
    sums = [_row(rule or NO_VALUE, found) for rule, found in rules]
    told = page.lookups
    reasons = zip(
        (each.rule or NO_VALUE for each in told),
        (each.result for each in told),
        (each.why for each in told),
        plain([each.calls for each in told]),
        usds([each.cost_usd for each in told]),
        usds([each.saved_usd for each in told]),
        strict=True,
    )
    among = f", of the last {LOOKED_AT:,} calls" if page.report.total.figures["calls"] > LOOKED_AT else ""
    whys = table(["rule", "result", "why", "calls", "cost", "saved"], reasons, (1, 2))
    return tag(
        "section",
        tag("h2", f"Answers kept and shared{among}"),
        table(["rule", "calls", "served", "", "share", "missed", "not looked up", "cost", "saved"], sums),
        tag("details", tag("summary", "Why"), whys, open=True),
        class_="wide",
    )


def _row(rule: str, found: list[LookUps]) -> tuple[str, ...]:
    """One rule."""
    calls, hits = (sum(each.calls for each in some) for some in (found, filter(served, found)))
    missed, skipped = (
        sum(each.calls for each in found if each.result == result) for result in (names.MISS, names.SKIP)
    )
    part = hits / calls
    return (
        rule,
        f"{calls:,}",
        f"{hits:,}",
        charts.bar(part, "fine", f"{share(part)} served"),
        share(part),
        f"{missed:,}",
        f"{skipped:,}",
        usd(_sum([each.cost_usd for each in found])),
        usd(_sum([each.saved_usd for each in found if served(each)])),
    )


def _sum(amounts: list[float | None]) -> float | None:
    """The sum of those that are known; `None` where none is."""
    known = [each for each in amounts if each is not None]
    return sum(known) if known else None
