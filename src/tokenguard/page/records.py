"""The part of the page that is about single calls: the dearest, the slowest, the failed, the repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenguard.facts import names
from tokenguard.page.gathered import Page
from tokenguard.page.markup import Markup, tag
from tokenguard.page.sections import table
from tokenguard.report.calls import SHORT, Call, Repeat, sections, shown
from tokenguard.report.findings import LAST_CALLS
from tokenguard.report.labels import NO_VALUE, when
from tokenguard.report.numbers import durations, plain, seconds, token_counts, usd, usds

FEATURE = names.attribution_attribute("feature")


def single_calls(page: Page) -> Markup | None:
    """Lists of calls, one at a time; each call opens all its facts, which are no content."""
    lists = [
        ("Most expensive", page.dearest, "dearest"),
        ("Slowest", page.slowest, "slowest"),
        ("Failed", page.failed, "failed"),
    ]
    there = [(title, _table(found, name), len(found)) for title, found, name in lists if found]
    if page.repeated:
        there.append(("Repeated", _repeats(page.repeated), len(page.repeated)))
    if not there:
        return None
    parts = [
        tag("details", tag("summary", title), content, name="calls", open=n == 0)
        for n, (title, content, _) in enumerate(there)
    ]
    among = f", of the last {LAST_CALLS:,}" if page.report.total.figures["calls"] > LAST_CALLS else ""
    facts = {f"{name}-{n}": call for _, found, name in lists for n, call in enumerate(found)}
    return tag(
        "section",
        tag("h2", f"Calls{among}"),
        *parts,
        *(_facts(ident, call) for ident, call in facts.items()),
        class_="wide calls",
    )


def _table(found: Sequence[Call], name: str) -> Markup:
    def read(attribute: str) -> list[Any]:
        return [each.record.attributes.get(attribute) for each in found]

    cells = zip(
        (tag("button", each.id[:SHORT], popovertarget=f"{name}-{n}", class_="open") for n, each in enumerate(found)),
        (when(each.record.start_ns)[5:] for each in found),
        (str(value or NO_VALUE) for value in read(FEATURE)),
        (each.record.model or NO_VALUE for each in found),
        token_counts(read(names.INPUT_TOKENS)),
        token_counts(read(names.OUTPUT_TOKENS)),
        durations([each.record.duration_ns / 1e9 for each in found]),
        usds(read(names.COST)),
        (str(each.record.attributes.get(names.ERROR_TYPE) or each.record.outcome) for each in found),
        strict=True,
    )
    return table(
        ["call", "time", "feature", "model", "input", "output", "latency", "cost", "outcome"], cells, (1, 2, 3, 8)
    )


def _repeats(found: Sequence[Repeat]) -> Markup:
    cells = zip(
        (each.feature or NO_VALUE for each in found),
        (each.model or NO_VALUE for each in found),
        plain([each.times for each in found]),
        usds([each.usd for each in found]),
        usds([each.repeats_usd for each in found]),
        (when(each.last_ns)[5:] for each in found),
        (each.call_site or "" for each in found),
        strict=True,
    )
    return table(["feature", "model", "times", "cost", "of repeats", "last", "call site"], cells, (1, 5, 6))


def _facts(ident: str, call: Call) -> Markup:
    """A panel with all that is recorded of a call."""
    record = call.record
    took = seconds(record.duration_ns / 1e9)
    parts = [
        tag(
            "section",
            tag("h3", title),
            tag("dl", *(tag("div", tag("dt", label), tag("dd", shown(label, value))) for label, value in pairs)),
        )
        for title, pairs in sections(record)
    ]
    return tag(
        "div",
        tag("button", "Close", popovertarget=ident, popovertargetaction="hide", class_="close"),
        tag("h2", f"Call {call.id}"),
        tag("p", f"{when(record.start_ns)} UTC · {record.outcome} · {usd(record.cost_usd)} · {took}"),
        tag("p", f"trace {record.trace_id}", class_="dim") if record.trace_id else None,
        *parts,
        popover=True,
        id=ident,
        class_="panel",
    )
