"""What a call can come to at the most, before it is made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

from tokenguard.call.call import Call
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNCAPPED_OUTPUT, Usage
from tokenguard.ledger import NANO
from tokenguard.prices import STANDARD, PriceBook, Tier
from tokenguard.tokens import Bound, count_request, is_exact, remembered, upper_bound_request

N = TypeVar("N", int, float)
SAFETY = 1.1
"""What a count that is not exact is multiplied by, until reported usage has told the true ratio."""

REMEMBERED = 4096
"""Models whose ratios are kept, and names of what providers hold."""


class Worst(NamedTuple):
    """What a call can come to at the most."""

    input: int
    output: int
    nano: int | None
    """Nano-dollars; `None` when the model has no known price."""
    counted: bool
    """Whether the input was counted; otherwise it is the upper bound."""

    @property
    def usd(self) -> float | None:
        """The same in USD."""
        return None if self.nano is None else self.nano / NANO


class Cases(Protocol):
    """Tells what calls can come to."""

    def of(self, call: Call, *, counted: bool) -> Worst:
        """What the call can come to, from its bound or from its count."""
        ...

    def count(self, call: Call) -> int:
        """Count its input tokens, which may take a while, and note that in `call.counted`."""
        ...


class WorstCase:
    """Bounds, counts and prices requests. It learns from reported usage how far its counts are off."""

    def __init__(self, prices: PriceBook, after: WorstCase | None = None) -> None:
        self._prices = prices
        self._ratios: dict[tuple[str, str], float] = {} if after is None else after._ratios
        """Reported over counted input tokens, by provider and model, where the count is not exact."""
        self._beyond: dict[tuple[str, str], float] = {} if after is None else after._beyond
        """Reported output over the cap, by provider and model, where reasoning is not under the cap (xAI's)."""
        self._held: dict[tuple[str, str], int] = {} if after is None else after._held
        """Tokens that the provider adds to a request, by provider and the name of what it holds, or the model."""

    def input(self, call: Call, enough: int) -> int:
        """The input tokens of a call: its upper bound where that is no more than `enough`, else the count."""
        bound = self.bound(call)
        if bound.complete and bound.tokens <= enough:
            return bound.tokens
        return self.count(call)

    def bound(self, call: Call) -> Bound:
        """What the input tokens cannot pass."""
        if call.bound is None:
            call.bound = upper_bound_request(call.request, call.size, call.said, call.written)
        return call.bound

    def count(self, call: Call) -> int:
        """The input tokens as counted; where the count is not exact, by the ratio that was learnt."""
        if call.counted is None:
            count = count_request(call.api.words, call.request, call.model)
            call.counted = count.tokens
            if not count.exact or not is_exact(call.model):
                ratio = self._ratios.get(_model(call), SAFETY)
                call.corrected = int(count.tokens * ratio) + 1 + self._added(call)
        return call.counted if call.corrected is None else call.corrected

    def of(self, call: Call, *, counted: bool) -> Worst:
        """What the call can come to, from its bound or from its count."""
        bound = self.bound(call)
        counted = counted or not bound.complete  # pictures, say, are not in the bound
        sent = self.count(call) if counted else bound.tokens
        output = 0
        if call.api.generates:
            cap = UNCAPPED_OUTPUT if call.output_cap is None else call.output_cap
            output = math.ceil(cap * call.api.answers(call.request) * self._beyond.get(_model(call), 1.0))
            call.most_output = output
        units, made, tier = call.api.units, None, STANDARD
        if units is not None:
            made, variant = units.most(call.request), units.variant(call.request)
            tier = STANDARD if variant is None else Tier(variant=variant)
            made = None if made == Usage() else made
        worst = self._prices.worst_case_nano(
            call.endpoint.provider,
            call.priced_as,
            sent,
            output,
            tier=tier,
            at_ns=call.start_ns,
            writes=() if call.api.marks_cache and not bound.marked else None,
            requests=call.api.requests(call.request),
            made=made,
        )
        if made is None:
            return Worst(sent, output, worst, counted)
        return Worst(sent + (made.input or 0), output + (made.output or 0), worst, counted)

    def _added(self, call: Call) -> int:
        """Tokens that the provider is known to add to a request; where that is not known, those of the last like it."""
        names = remembered(call.request)
        known = [held for name in names if (held := self._held.get((call.endpoint.provider, name))) is not None]
        return sum(known) if known or not names else self._held.get(_model(call), 0)

    def learn(self, call: Call, usage: Usage, answered: Iterable[str | None] = ()) -> None:
        """Compare what was counted, and the cap, with what the provider reports; `answered` are names of the answer.

        Where the provider adds what it holds, that is learnt by its name, and not as a ratio of what was sent: a
        following request is as small, and comes with all before it.
        """
        key, names = _model(call), remembered(call.request)
        if usage.input and names:
            added = max(usage.input - (call.counted or 0), 0)
            for whose in (key, *((call.endpoint.provider, name) for name in names)):
                before = self._held.get(whose, added)
                _keep(self._held, whose, max(math.ceil(added * 1.02), int(before * 0.9 + added * 0.1)))
        if usage.input and (names or call.api.goes_on_from):
            for name in filter(None, answered):
                _keep(self._held, (call.endpoint.provider, name), usage.input + (usage.output or 0))
        # A little above what was seen, moving with it: an estimate that is short would let a budget be overspent.
        if call.corrected is not None and call.counted and usage.input and not names:
            ratio, known = usage.input / call.counted, self._ratios.get(key)
            _keep(self._ratios, key, ratio * 1.02 if known is None else max(ratio * 1.02, known * 0.9 + ratio * 0.1))
        if call.output_cap and usage.output:
            most, known = call.output_cap * call.api.answers(call.request), self._beyond.get(key, 1.0)
            if usage.output > most or known > 1.0:
                _keep(self._beyond, key, max(usage.output / most, known * 0.9, 1.0))


def _model(call: Call) -> tuple[str, str]:
    return call.endpoint.provider, call.model or ""


def _keep(known: dict[tuple[str, str], N], key: tuple[str, str], learnt: N) -> None:
    while key not in known and len(known) >= REMEMBERED:
        known.pop(next(iter(known)), None)  # the one that was learnt first
    known[key] = learnt
