"""The steps that no rule of a policy takes: shorter requests, batches, a prompt cache that holds, other prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenguard.advice.proposal import Batch, Shorten
from tokenguard.advice.replay import Replayed
from tokenguard.advice.steps import Step, applies
from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.prices import PriceBook


class Batched(Step):
    """Calls that wait for a batch."""

    kind = "batch"
    basis = "recorded tokens; the price list's batch rates"

    def __init__(self, batch: Batch, book: PriceBook) -> None:
        super().__init__(batch.name)
        self._for = applies(batch)
        self._book = book

    def _change(self, call: Replayed) -> None:
        if self._for(call):
            call.batched(self._book)

    def _assumes(self) -> list[str]:
        return ["nobody waits for these answers: a batch may take a day"]


class Shortened(Step):
    """Requests and answers that the application makes shorter."""

    kind = "shorten"
    basis = "the proposal's own word"

    def __init__(self, shorten: Shorten, book: PriceBook) -> None:
        super().__init__(shorten.name)
        self._shorten = shorten
        self._for = applies(shorten)
        self._book = book

    def _change(self, call: Replayed) -> None:
        if not self._for(call):
            return
        usage, stays = call.usage, self._shorten
        sent = None if usage.input is None else round(usage.input * stays.input)
        generated = None if usage.output is None else round(usage.output * stays.output)
        held = {
            field: min(count, sent or 0)
            for field in ("cache_read", "cache_write")
            if (count := getattr(usage, field)) is not None
        }
        reasoning = None if usage.reasoning is None else min(usage.reasoning, generated or 0)
        call.changed(self._book, usage._replace(input=sent, output=generated, reasoning=reasoning, **held))

    def _assumes(self) -> list[str]:
        stays = self._shorten
        parts = [f"{share:.0%} of the {what}" for what, share in (("input", stays.input), ("output", stays.output))]
        return [f"{' and '.join(parts)} is enough for as good an answer"]


HOLDS: Final = "prompt cache holds"
LASTS: Final = "cached for an hour"
MENDABLE: Final = frozenset({"changed", "shortened", "model", "unmarked"})
"""The breaks that the program itself can mend."""
Group = tuple[str | None, ...]


def group_of(call: Replayed) -> Group:
    """What prompts are told apart by."""
    fact = call.fact
    return fact.provider, fact.request_model, fact.tenant, fact.feature, fact.prompt_version


class Held(Step):
    """Input that the provider's cache would have had, if the prompt did not break it."""

    kind = "prompt_cache"
    basis = "what the break finder found of each prompt; reported cache reads and writes"

    def __init__(self, book: PriceBook, unmarked: Mapping[Group, int]) -> None:
        super().__init__(HOLDS)
        self._book = book
        self._unmarked = unmarked
        """Prompts that nobody marks for the cache, and their tokens: marked, they have to be written first."""

    def _change(self, call: Replayed) -> None:
        fact = call.fact
        if fact.break_kind in MENDABLE and fact.break_tokens:
            read_instead(call, self._book, fact.break_tokens)
        elif self._unmarked and fact.break_kind is None and fact.outcome == names.OK:
            usage, tokens = call.usage, self._unmarked.get(group_of(call))
            if tokens and (usage.input or 0) >= tokens and not usage.cache_read and not usage.cache_write:
                call.changed(self._book, usage._replace(cache_write=tokens, cache_read=usage.cache_read or 0))

    def _assumes(self) -> list[str]:
        return ["what never changes stands first and is marked where the provider wants that; the provider keeps it"]


class Lifetime(Step):
    """Prompts that stay in the provider's cache for an hour, at an hour's price of writing."""

    kind = "lifetime"
    basis = "prompts that the break finder found expired; reported cache writes"

    def __init__(self, book: PriceBook) -> None:
        super().__init__(LASTS)
        self._book = book

    def _change(self, call: Replayed) -> None:
        if call.fact.break_kind == "expired" and call.fact.break_tokens:
            read_instead(call, self._book, call.fact.break_tokens)
        written = call.usage.cache_write
        if written:
            call.changed(self._book, call.usage._replace(cache_write_1h=written))

    def _assumes(self) -> list[str]:
        return ["every write to the cache is paid at the rate of an hour"]


def read_instead(call: Replayed, book: PriceBook, tokens: int) -> None:
    """So many tokens of a call's input were read from the cache, and not sent or written anew."""
    usage = call.usage
    read, written = usage.cache_read or 0, usage.cache_write or 0
    more = min(tokens, (usage.input or 0) - read)
    if more > 0:
        left = max(0, written - more)
        call.changed(book, usage._replace(cache_read=read + more, cache_write=left if usage.cache_write else None))


class Priced(Step):
    """Other rates: an offer of the provider's, or a machine of one's own."""

    kind = "prices"
    basis = "recorded tokens"

    def __init__(self, book: PriceBook, now: PriceBook) -> None:
        super().__init__("[prices]")
        self._book = book
        self._now = now
        self.new_calls = 0
        self.new_usd = 0.0
        """Calls that had no known price, and what they come to."""

    def _change(self, call: Replayed) -> None:
        fact = call.fact
        key = (fact.provider or "", call.model)
        offered = self._book.rates(*key, at_ns=fact.start_ns)
        known = self._now.rates(*key, at_ns=fact.start_ns)
        if offered is None or (known is not None and known.bands == offered.bands):
            return
        if call.priced:
            call.repriced(self._book)
        elif fact.outcome != names.BLOCKED and any(fact.usage):
            cost = self._book.cost(*key, fact.usage, at_ns=fact.start_ns)
            self.new_calls += 1
            self.new_usd += cost.total or 0.0

    def _assumes(self) -> list[str]:
        says = ["the rates of [prices] are all there is to pay"]
        if self.new_calls:
            says.append(
                f"{self.new_calls:,} calls without a price would come to {dollars(self.new_usd)}, not counted here"
            )
        return says
