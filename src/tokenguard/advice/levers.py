"""The steps that are no refusals: cached answers, other models, batches, a prompt cache that holds, other prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenguard.advice.proposal import Batch, Shorten
from tokenguard.advice.replay import Replayed
from tokenguard.advice.steps import Step, applies, exceeds, matcher
from tokenguard.facts import names
from tokenguard.policy import Cache, Limit, Policy, Route, Share
from tokenguard.prices import PriceBook
from tokenguard.report.figures import many

STOPPED: Final = frozenset({"stop", "end_turn", "stop_sequence", "completed", "complete", "STOP", "COMPLETE"})
"""Finish reasons of whole answers, which are what a cache keeps."""
SHORTER, LONGER = 0.7, 1.5
"""How much shorter or longer another model's answers are taken to be at most."""


class Cached(Step):
    """Requests that are equal to an earlier one, and get its answer."""

    kind = "cache"

    def __init__(self, cache: Cache) -> None:
        super().__init__(cache.name)
        self._cache = cache
        self._match = matcher(Policy(shares=(Share(name=cache.name, when=cache.when, per=cache.per),)))
        self._kept: dict[tuple[str, str], int] = {}
        self.unknown = 0
        """Calls that it is for, of whose request no hash is recorded."""
        self.sampled_calls = 0
        self.sampled_usd = 0.0
        """What it would answer, were sampled answers kept too."""

    def _change(self, call: Replayed) -> None:
        fact, cache = call.fact, self._cache
        matched = self._match(call)
        if matched.share is None or any(not call.attribution.get(key) for key in cache.per):
            return
        if fact.request_hash is None:
            self.unknown += fact.outcome == names.OK
            return
        if fact.toolset is not None and not cache.tools:
            return
        key = (matched.share_key, fact.request_hash)
        kept = self._kept.get(key)
        if kept is not None and 0 <= fact.start_ns - kept < cache.ttl * 1e9:
            if fact.operation == "embeddings" or fact.temperature == 0 or cache.sampled:
                call.gone = True
            else:
                self.sampled_calls += 1
                self.sampled_usd += call.usd
        elif fact.outcome == names.OK and whole(call):
            self._kept[key] = fact.start_ns + fact.duration_ns

    def _assumes(self) -> list[str]:
        says = [f"answers are kept for {_duration(self._cache.ttl)}, as soon as they are there"]
        if self._cache.match != "exact":
            says.append("only requests that are equal to the letter are counted: what is recorded holds no words")
        if self.sampled_calls and not self._cache.sampled:
            says.append(
                f"{many(self.sampled_calls, 'more repeat')} (${self.sampled_usd:,.4f}) at a temperature that is not 0: "
                "sampled = true would answer these too, each time in the same words"
            )
        if self.unknown:
            says.append(f"{many(self.unknown, 'call')} without a hash of the request: whether they repeat is not known")
        return says


def whole(call: Replayed) -> bool:
    """Whether an answer ended by itself; unknown is taken as yes for what generates nothing."""
    if call.fact.operation == "embeddings":
        return True
    reasons = call.fact.attributes.get(names.FINISH_REASONS) or ()
    return bool(reasons) and STOPPED.issuperset(reasons)


NOT_RECORDED: Final = ("max_turns", "images", "schema", "decide")
"""Facts of a route that the store does not have of a call."""


class Routed(Step):
    """Calls that another model answers."""

    kind = "route"

    def __init__(self, route: Route, books: tuple[PriceBook, PriceBook], length: float = 1.0) -> None:
        super().__init__(route.name)
        self._route = route
        self._for = applies(route)
        self._books = books
        self._length = length
        """How long its answers are, beside those that are recorded."""
        self._due = 0.0
        self.unpriced = 0

    def _fits(self, call: Replayed) -> bool:
        route = self._route
        past = ((route.max_input_tokens, call.usage.input), (route.max_output_tokens, call.fact.max_tokens))
        if call.routed or any(most is not None and (value is None or value > most) for most, value in past):
            return False
        if route.tools is not None and (call.fact.toolset is not None) is not route.tools:
            return False
        call.routed = bool(self._for(call))  # of several, the first one counts
        return call.routed

    def _change(self, call: Replayed) -> None:
        if not call.priced or self._route.to in call.model or not self._fits(call):
            return
        self._due += self._route.share
        if self._due < 1 - 1e-9:
            return
        self._due -= 1
        self._send(call)

    def _send(self, call: Replayed) -> None:
        usage = call.usage
        if self._length != 1.0 and usage.output is not None:
            output = round(usage.output * self._length)
            if call.fact.max_tokens is not None:
                output = min(output, max(call.fact.max_tokens, usage.output))
            reasoning = None if usage.reasoning is None else min(usage.reasoning, output)
            usage = usage._replace(output=output, reasoning=reasoning)
        if not any(call.changed(book, usage, self._route.to) for book in self._books):
            self.unpriced += 1

    def _assumes(self) -> list[str]:
        says = [
            f"{self._route.to} reads and writes as many tokens, and its answers do as well; between "
            f"{SHORTER:g} and {LONGER:g} times the output is the interval"
        ]
        unknown = [name for name in NOT_RECORDED if getattr(self._route, name) is not None]
        if unknown:
            says.append(f"{' and '.join(unknown)} taken as met: requests do not record it")
        if self._route.escalate_to is not None:
            says.append(f"no answer fails and is asked again of {self._route.escalate_to}")
        if self.unpriced:
            says.append(
                f"{many(self.unpriced, 'call')} not routed: no price is known for {self._route.to} at their provider"
            )
        return says


class Downgraded(Routed):
    """Calls past a limit whose answer to that is a cheaper model."""

    def __init__(self, limit: Limit, books: tuple[PriceBook, PriceBook], length: float = 1.0) -> None:
        super().__init__(Route(name=limit.name, when=limit.when, to=str(limit.downgrade_to)), books, length)
        self._limit = limit

    def _fits(self, call: Replayed) -> bool:
        return bool(self._for(call)) and exceeds(self._limit, call, self._books[0])


class Batched(Step):
    """Calls that wait for a batch."""

    kind = "batch"

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
                f"{self.new_calls:,} calls without a price would come to ${self.new_usd:,.4f}, not counted here"
            )
        return says


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
