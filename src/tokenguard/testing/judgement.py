"""Whether a test spent too much: more than it may, or more than it used to. In words that a terminal shows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.testing.baseline import Entry
from tokenguard.testing.figures import Figures, cost_text, figures_of, many, table, usd
from tokenguard.testing.spending import Spending

MAX_CALLS: Final = 25
"""Calls that a failure lists; of more, the first ones and the last."""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share as a percentage with no needless digit.

    >>> percent(0.1), percent(0.125), percent(3)
    ('10%', '12.5%', '300%')
    """
    return f"{value * 100:.1f}".removesuffix(".0") + "%"


class Bound(NamedTuple):
    """A key of the marker that limits a figure from above."""

    figure: str
    words: str
    show: Callable[[float], str]
    advice: str
    unknown: str | None = None
    """The figure that counts the calls for which this one is not known."""


LIMITS: Final = {
    "max_cost_usd": Bound("cost_usd", "cost", usd, "Send less, cap the output, use a cheaper model", "unpriced"),
    "max_input_tokens": Bound("input_tokens", "input tokens", _count, "Send less", "unreported"),
    "max_output_tokens": Bound("output_tokens", "output tokens", _count, "Cap the output", "unreported"),
    "max_calls": Bound("calls", "calls", _count, "Make fewer calls"),
    "max_retries": Bound("retries", "retries", _count, "See why requests fail"),
    "max_tool_steps": Bound("tool_steps", "tool steps", _count, "Stop the agent sooner"),
}
UNKNOWN: Final = {
    "unpriced": "has no known price. Add its model under [prices] in tokenguard.toml",
    "unreported": "came back without token counts. Have the answer, or its recording, report usage",
}


class Passed(NamedTuple):
    """A limit that was passed."""

    says: str
    """In a few words, for the first line."""
    more: str
    """The whole sentence."""
    call: int | None = None
    """The call that went over, from 1."""


def over_budget(spending: Spending, allowed: Mapping[str, Any]) -> str | None:
    """Why a test fails that may spend what `allowed` says; `None` when it is within."""
    records = list(spending.records)
    running = list(itertools.accumulate(map(figures_of, records), Figures.plus, initial=Figures()))
    passed = [
        found for key, limit in LIMITS.items() if key in allowed and (found := _over(key, limit, allowed[key], running))
    ]
    if "min_cache_hit" in allowed and (found := _missed(allowed["min_cache_hit"], running[-1])):
        passed.append(found)
    if not passed:
        return None
    calls = {each.call for each in passed if each.call is not None}
    return "\n".join(
        [
            f"token budget: {'; '.join(each.says for each in passed)}",
            *(f"  {each.more}" for each in passed),
            "",
            *call_table(records, calls),
        ]
    )


def _over(key: str, limit: Bound, most: float, running: list[Figures]) -> Passed | None:
    values = [float(getattr(figures, limit.figure)) for figures in running]
    first = next((at for at, value in enumerate(values) if value > most * (1 + 1e-9)), None)
    if first is not None:
        spent, may = limit.show(values[-1]), limit.show(most)
        at = f"call {first} went over. " if first else ""
        return Passed(
            f"{limit.words} {spent} of {may}",
            f"{limit.words}: {spent} spent, {may} allowed by {key}; {at}{limit.advice}, or raise {key}.",
            first or None,
        )
    if limit.unknown is not None and getattr(running[-1], limit.unknown):
        call = next(at for at, figures in enumerate(running) if getattr(figures, limit.unknown))
        return Passed(
            f"{limit.words} not known",
            f"{limit.words}: at least {limit.show(values[-1])} spent, {limit.show(most)} allowed by {key}, and call "
            f"{call} {UNKNOWN[limit.unknown]}.",
            call,
        )
    return None


def _missed(least: float, figures: Figures) -> Passed | None:
    hit = figures.cache_hit
    if hit is None:
        if not figures.input_tokens:
            return None
        return Passed(
            "cache hit not known",
            f"cache hit: {percent(least)} wanted by min_cache_hit, and no answer says what came from the prompt cache.",
        )
    if hit >= least - 1e-9:
        return None
    return Passed(
        f"cache hit {percent(hit)} of at least {percent(least)}",
        f"cache hit: {figures.cache_read_tokens:,} of {figures.cacheable_tokens:,} input tokens came from the prompt "
        f"cache, {percent(hit)}; min_cache_hit wants {percent(least)}. Put the constant part of the prompt first.",
    )


def call_table(records: list[CallRecord], marked: set[int]) -> list[str]:
    """The calls one by one; those in `marked` (from 1) went over."""
    if not records:
        return ["  no calls"]
    rows: list[tuple[str, ...]] = [("", "call", "model", "where", "input", "cached", "output", "cost")]
    for number, record in enumerate(records, 1):
        if len(records) > MAX_CALLS and MAX_CALLS - 5 < number <= len(records) - 5 and number not in marked:
            continue
        one = figures_of(record)
        usage = record.usage
        known = ("?", "?", "?") if usage is None else tuple(map(_tokens, (usage.input, usage.cache_read, usage.output)))
        cost = "-" if record.cost is None else cost_text(one)
        if record.outcome != names.OK:
            said = record.attributes.get(names.ERROR_TYPE, "")
            cost = f"{cost} {record.outcome} {str(said).rpartition('.')[2]}".rstrip()
        # The texts first, as numbers line up to the right.
        model = record.model or "?"
        rows.append((">" if number in marked else "", str(number), model, _where(record), *known, cost))
    lines = table(rows, 4)
    left_out = len(records) + 1 - len(lines)
    if left_out:
        lines.append(f"     and {many(left_out, 'call')} between them")
    return lines


def _tokens(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _where(record: CallRecord) -> str:
    """The call site, from the working directory if that is shorter."""
    site = record.call_site
    if site is None:
        return "-"
    relative = os.path.relpath(site)
    return site if relative.startswith("..") else Path(relative).as_posix()


GROWS: Final = {
    "calls": ("calls", _count),
    "input_tokens": ("input tokens", _count),
    "output_tokens": ("output tokens", _count),
    "cost_usd": ("cost", usd),
}
"""What is compared with the baseline."""


def growth(before: Entry, now: Entry, tolerance: float) -> str | None:
    """What has grown beyond the tolerance since the baseline, in one line; `None` if nothing has."""
    grown = []
    for figure, (words, show) in GROWS.items():
        was, is_ = getattr(before, figure), getattr(now, figure)
        if was is None:
            continue
        if is_ is None:
            grown.append(f"{words} {show(was)} -> not known")
        elif is_ > was * (1 + tolerance) * (1 + 1e-9):
            by = f" (+{percent(is_ / was - 1)})" if was else ""
            grown.append(f"{words} {show(was)} -> {show(is_)}{by}")
    return ", ".join(grown) or None


def moved(before: Entry, now: Entry) -> str | None:
    """What became of the prompt prefixes; `None` when they are the same, or one of the two has none."""
    gone, new = set(before.prefixes) - set(now.prefixes), set(now.prefixes) - set(before.prefixes)
    if not gone or not new:
        return None
    return (
        f"the prompt prefix changed ({', '.join(sorted(gone))} -> {', '.join(sorted(new))}): "
        "what providers have cached of the old one is of no use to the new one"
    )
