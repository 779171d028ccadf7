"""Where the input went: by section of the requests, and by tool; and how the provider's prompt cache was broken.

Tokens by section are shares of the reported input, by length. What the provider's cache had is taken from the beginning
of a prompt: tools, then system, then history.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, conditions, reads_all
from tokenguard.store.layout import NS_PER_DAY

IN_ORDER: Final = ("tools", "system", "history")
"""The sections that come again, as they stand in a prompt."""
WORDS: Final = {
    "system": "system prompt",
    "tools": "tools' definitions",
    "history": "earlier turns",
    "tool_results": "results of tools",
    "last": "last turn",
    "media": "pictures and the like",
}
BY: Final = ("section", "tool")
"""What `--by` can say that is no key of a call: a call has several."""


class Part(NamedTuple):
    """One section, or one tool."""

    name: str
    calls: int
    tokens: int
    cached_tokens: int | None
    """How many of them the provider's cache had; `None` where that is not known, as of a single tool."""
    usd: float | None
    """Its share of what the input cost."""
    usd_per_day: float | None
    share: float
    """Of all the input that was looked at."""


def parts(records: Records, query: Query) -> list[Part]:
    """The sections, or the tools, of a query's calls, the largest first.

    Raises `TokenGuardError` where the records do not know which tools there were.
    """
    if query.by == ("tool",) and not records.toolsets:
        raise TokenGuardError("which tools a call offered is known in a local store alone: ask it with --by tool")
    query = replace(query, scan=reads_all(records, query))
    found = _tools(records, query) if query.by == ("tool",) else _sections(records, query)
    days = _days(records, query)
    whole = sum(tokens for _, _, tokens, *_ in found) if query.by == ("section",) else _all_input(records, query)
    return sorted(
        (
            Part(name, calls, round(tokens), cached, usd, None if usd is None else usd / days, tokens / whole)
            for name, calls, tokens, cached, usd in found
            if tokens
        ),
        key=lambda part: -part.tokens,
    )


_COST: Final = "(coalesce(input_usd, 0.0) + coalesce(cache_read_usd, 0.0) + coalesce(cache_write_usd, 0.0))"
"""What the input of a call cost."""
_Found = tuple[str, int, float, int | None, float | None]


def _sections(records: Records, query: Query) -> list[_Found]:
    where, values = conditions(query, records.dialect)
    wanted = []
    for section in names.INPUT_SECTIONS:
        own = f"coalesce({section}_tokens, 0)"
        wanted += [
            f"count({section}_tokens)",
            f"sum({own})",
            f"sum({_cached(section)}) FILTER (WHERE cache_read_tokens IS NOT NULL)" if section in IN_ORDER else "NULL",
            f"sum({_COST} * {own} / input_tokens) FILTER (WHERE cost_usd IS NOT NULL)",
        ]
    (row,) = records.rows(
        f"SELECT {', '.join(wanted)} FROM {records.dialect.calls} WHERE {where} AND input_tokens > 0 "  # noqa: S608
        f"AND ({' OR '.join(f'{section}_tokens IS NOT NULL' for section in names.INPUT_SECTIONS)})",
        values,
    )
    fours = [row[n : n + 4] for n in range(0, len(row), 4)]
    return [(name, *four) for name, four in zip(names.INPUT_SECTIONS, fours, strict=True) if four[1]]


def _cached(section: str) -> str:
    """The tokens of a section that the cache had: what it read, less the sections before, and no more than its own."""
    before = " + ".join(f"coalesce({each}_tokens, 0)" for each in IN_ORDER[: IN_ORDER.index(section)]) or "0"
    left = f"(cache_read_tokens - ({before}))"
    own = f"coalesce({section}_tokens, 0)"
    return f"CASE WHEN {left} <= 0 THEN 0 WHEN {left} < {own} THEN {left} ELSE {own} END"


def _tools(records: Records, query: Query) -> list[_Found]:
    where, values = conditions(query, records.dialect)
    size = "tools_tokens * share"
    return [
        (name, calls, tokens, None, usd)
        for name, calls, tokens, usd in records.rows(
            f"SELECT toolsets.name, count(*), sum({size}), "  # noqa: S608
            f"sum({_COST} * {size} / input_tokens) FILTER (WHERE cost_usd IS NOT NULL) "
            f"FROM (SELECT * FROM {records.dialect.calls} WHERE {where}) AS chosen "
            "JOIN toolsets ON toolsets.hash = chosen.toolset WHERE input_tokens > 0 AND tools_tokens IS NOT NULL "
            "GROUP BY 1",
            values,
        )
    ]


def _all_input(records: Records, query: Query) -> float:
    where, values = conditions(query, records.dialect)
    ((tokens,),) = records.rows(
        f"SELECT sum(input_tokens) FROM {records.dialect.calls} WHERE {where}",  # noqa: S608
        values,
    )
    return float(tokens or 1)


def _days(records: Records, query: Query) -> float:
    """The days from the first of the calls to the last, or those that were asked for; one at least."""
    where, values = conditions(query, records.dialect)
    ((first, last),) = records.rows(
        f"SELECT min(start_ns), max(start_ns) FROM {records.dialect.calls} WHERE {where}",  # noqa: S608
        values,
    )
    if first is None:
        return 1.0
    return max(1.0, ((query.until_ns or last) - (query.since_ns or first)) / NS_PER_DAY)


def uncached(found: list[Part]) -> str | None:
    """What is to be said of the section that could come from the provider's cache, and does not most of the time."""
    could = [part for part in found if part.name in IN_ORDER and part.cached_tokens is not None]
    worst = max(could, key=lambda part: part.tokens - (part.cached_tokens or 0), default=None)
    if worst is None or worst.tokens - (worst.cached_tokens or 0) < 0.5 * worst.tokens:
        return None
    cold = 1 - (worst.cached_tokens or 0) / worst.tokens
    return (
        f"{cold:.0%} of the {WORDS[worst.name]} did not come from the provider's cache, though they come again and "
        "again: put them first, unchanged, and mark them where the provider wants that"
    )


# --- breaks ----------------------------------------------------------------------------------------------------------


class Broken(NamedTuple):
    """Calls whose prompt the provider's cache did not have, for one reason."""

    kind: str
    """`changed`, `expired`, `shortened`, `model`, `unmarked` or `provider`."""
    feature: str | None
    version: str | None
    section: str | None
    number: int | None
    offset: int | None
    site: str | None
    """Where the code makes the call, as `path:line`."""
    calls: int
    tokens: int
    usd: float | None

    def says(self) -> str:
        """What is so, in a sentence."""
        name = " ".join(filter(None, (self.feature, self.version))) or "a prompt with no feature"
        times = f"{self.calls:,} time{'' if self.calls == 1 else 's'}"
        what = SAYS[self.kind].format(at=self.place())
        return f"{name}: {what}, {times}; {self.tokens:,} tokens did not come from the provider's cache"

    def place(self) -> str:
        """Where the prompts part."""
        if self.section is None:
            return "an unknown place"
        where = {
            "tools": f"tool {self.number}",
            "settings": "the settings",
            "system": f"the system prompt (message {self.number})",
        }.get(self.section, f"message {self.number}")
        return f"{where}, character {self.offset}"

    def next_step(self) -> str:
        """What to do about it."""
        at = f" ({self.site})" if self.site else ""
        return f"{NEXT[self.kind]}{at}"


SAYS: Final = {
    "changed": "the prompt changes at {at}",
    "shortened": "the history is cut, from {at} on",
    "expired": "the prompt came again after it had left the cache, and within an hour",
    "model": "the prompt went to another model",
    "unmarked": "the prompt is not marked for the cache",
    "provider": "the prompt was the same and young, and was not there: the provider does not say why",
}
NEXT: Final = {
    "changed": "put what changes behind what does not",
    "shortened": "cut the history seldom and by much: each cut breaks the cache",
    "expired": "keep it for an hour, where the provider sells that: tokenguard whatif tells whether it pays",
    "model": "stay with one model for a conversation",
    "unmarked": "set cache_control on what never changes",
    "provider": "nothing here can be mended; a prompt_cache_key may keep calls on one machine",
}


def broken(records: Records, query: Query, most: int) -> Iterator[Broken]:
    """The breaks that cost most."""
    where, values = conditions(query, records.dialect)
    rows: list[tuple[Any, ...]] = records.rows(
        "SELECT break_kind, feature, prompt_version, break_section, min(break_index), min(break_offset), "  # noqa: S608
        "min(code_file || ':' || code_line), count(*), sum(break_tokens), sum(break_usd) "
        f"FROM {records.dialect.calls} WHERE {where} AND break_kind IS NOT NULL GROUP BY 1, 2, 3, 4 "
        f"ORDER BY 10 DESC NULLS LAST, 9 DESC, 1, 2, 3, 4 LIMIT {most}",
        values,
    )
    for row in rows:
        found = Broken(*row)
        if found.usd is None or math.isfinite(found.usd):
            yield found
