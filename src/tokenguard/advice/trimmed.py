"""The step in which a conversation loses its oldest turns."""

from __future__ import annotations

import math
from typing import Final

from tokenguard.advice.replay import Replayed
from tokenguard.advice.steps import Outlook, Step, applies
from tokenguard.policy import Limit
from tokenguard.prices import PriceBook
from tokenguard.report.figures import many
from tokenguard.store.sums import CACHEABLE

HELD: Final = 0.5
"""The share of the input that was read from the cache, from which on the guard leaves a conversation whole."""
SLACK: Final = 0.1
"""The part by which a section may be smaller than its share by length, or larger."""


class Trimmed(Step):
    """Histories past a ceiling, cut in steps of half of what is allowed, by whole turns, as the guard does it."""

    kind = "trim"
    basis = "the history's share of the recorded input, by length"
    open_ended = True

    def __init__(self, limit: Limit, book: PriceBook, outlook: Outlook) -> None:
        super().__init__(limit.name)
        self._most = limit.max_history_tokens or 0
        self._for = applies(limit)
        self._book = book
        self._outlook = outlook
        self.unknown = 0
        """Calls that it is for, of whose input no sections are recorded."""
        self.cached = 0
        """Calls past the ceiling that the provider's cache holds, so that the guard leaves them whole."""

    def _change(self, call: Replayed) -> None:
        usage = call.usage
        if usage.input is None or not self._for(call):
            return
        history = call.section("history")
        if history is None:
            self.unknown += all(call.section(name) is None for name in ("system", "tools", "tool_results"))
            return
        if history <= self._most:
            return
        if self._held(call, history):
            self.cached += 1
            return
        gone = self._gone(call, history)
        results = call.section("tool_results") or 0
        sent = usage.input - gone - round(results * gone / history * self._outlook.trimmed)
        begins = (call.section("system") or 0) + (call.section("tools") or 0)
        read = None if usage.cache_read is None else min(usage.cache_read, begins if begins >= CACHEABLE else 0, sent)
        call.changed(self._book, usage._replace(input=sent, cache_read=read))

    def _held(self, call: Replayed, history: int) -> bool:
        """Whether the provider's cache has had the conversation before it came to the ceiling."""
        usage, part = call.usage, self._outlook.trimmed
        if usage.cache_write:
            return True  # it is marked
        read, sent = usage.cache_read or 0, usage.input or 0
        if read < HELD * sent:
            return False
        return part == 0 or (part < 1 and sent - history + self._most >= CACHEABLE)

    def _gone(self, call: Replayed, history: int) -> int:
        """The tokens of the history that are left out."""
        part = self._outlook.trimmed
        if not part and call.fact.tool_steps:
            return 0  # it may all be of the turn that goes on
        step = max(1, self._most // 2)
        excess = history * (1 + SLACK * (2 * part - 1)) - self._most
        must = max(0, math.ceil(excess / step)) * step
        turn = (call.section("last") or 0) + (call.usage.output or 0)
        return min(history, round(must + part * turn)) if must else 0

    def _assumes(self) -> list[str]:
        says = [
            "answers are as good and as long without the oldest turns; these go whole, so that up to a turn as long as "
            "the last one more goes than must, which is the interval"
        ]
        if self.cached:
            says.append(f"{many(self.cached, 'call')} left whole: the provider's cache holds them")
        if self.unknown:
            says.append(f"{many(self.unknown, 'call')} whose input's sections are not recorded are left whole")
        return says
