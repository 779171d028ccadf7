"""`Rates`: what each token of one model costs, and the arithmetic from a `Usage` to money.

Money is counted in whole femto-dollars (1e-15 USD). One USD per million tokens is 1e9 of them per token, so every
published rate is a whole number and sums are exact; floats and nano-dollars are made from the sums, at the very end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NamedTuple

from tokenguard.facts import names
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage

USD: Final = 10**15
"""Femto-dollars in a dollar."""
PER_MTOK: Final = 10**9
"""Femto-dollars per token in one USD per million tokens."""
NANO: Final = 10**6
"""Femto-dollars in a nano-dollar, the unit of ledgers."""

INCONSISTENT: Final = "inconsistent_usage"
MISSING: Final = "missing_usage"

WRITES: Final = ("cache_write", "cache_write_30m", "cache_write_1h", "cache_write_12h")


class Card(NamedTuple):
    """Femto-dollars per token: a rate for each count of `Usage`, by the same name and in the same order."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    """Writes whose lifetime nobody names: 5 minutes at Anthropic, 30 at OpenAI."""
    cache_write_30m: int
    cache_write_1h: int
    cache_write_12h: int
    reasoning: int
    input_audio: int
    cache_audio_read: int
    output_audio: int
    input_image: int
    request: int = 0
    """Femto-dollars per call, whatever its tokens; per search, where the provider counts those."""


OUTPUT: Final = Card._fields.index("output")
CACHE_WRITE: Final = Card._fields.index("cache_write")


class Derived(NamedTuple):
    """What stands in for a rate that nobody lists."""

    source: str | None
    """The rate that is used instead; `None` is no charge."""
    basis: str | None
    """What a call that uses it is marked with; `None` where this is how the provider bills it."""


DERIVED: Final[Mapping[str, Derived]] = {
    "input": Derived(None, "assumed_free_input"),
    "output": Derived(None, "assumed_free_output"),  # embeddings list none, and report no output
    "cache_read": Derived("input", "assumed_cache_read"),
    "cache_write": Derived("input", "assumed_cache_write"),
    "cache_write_30m": Derived("cache_write", None),
    "cache_write_1h": Derived("cache_write", "assumed_1h_write"),
    "cache_write_12h": Derived("cache_write", "assumed_12h_write"),
    "reasoning": Derived("output", None),
    "input_audio": Derived("input", "assumed_input_audio"),
    "cache_audio_read": Derived("input_audio", "assumed_cache_audio_read"),
    "output_audio": Derived("output", "assumed_output_audio"),
    "input_image": Derived("input", None),
}
"""In this order, so that a stand-in is known before it is needed."""

MULTIPLES: Final[Mapping[tuple[str, str], Decimal]] = {
    # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
    ("claude", "cache_write"): Decimal("1.25"),
    ("claude", "cache_write_1h"): Decimal(2),
    # https://developers.openai.com/api/docs/pricing: 30 minutes 1.25x, 12 hours 2.5x, where writes are priced at all.
    ("gpt", "cache_write"): Decimal("1.25"),
    ("gpt", "cache_write_12h"): Decimal("2.5"),
}
"""Multiples of the input rate that a family's documentation states, for cache writes that the price list lacks."""

FAMILIES: Final = tuple({family for family, _ in MULTIPLES})


class Rates(NamedTuple):
    """The rates of one model at one time and tier."""

    bands: tuple[tuple[int, Card], ...]
    """(input tokens, rates), ascending: past so many input tokens the rates hold for the whole call. First is 0."""
    source: str
    """Where they come from: the override and its file, or the price list and its version."""
    model: str
    """`provider/model`, as the source names it."""
    basis: str | None = None
    """What was assumed about all of them, such as `assumed_batch`."""
    assumed: tuple[tuple[int, str], ...] = ()
    """The rates that were derived (places in `Card`), with what a call is marked with that uses one."""

    def card(self, input_tokens: int) -> Card:
        """The rates of a call with this much input."""
        bands = self.bands
        card = bands[0][1]
        for above, dearer in bands[1:]:
            if input_tokens > above:
                card = dearer
        return card

    def usd_per_mtok(self, rate: str, input_tokens: int = 0) -> Decimal:
        """One rate in USD per million tokens, by its name in `Card`, for a call with this much input."""
        return Decimal(getattr(self.card(input_tokens), rate)) / PER_MTOK


def complete(given: Mapping[str, Decimal], model: str, factor: Decimal = Decimal(1)) -> tuple[Card, dict[int, str]]:
    """All rates from those `given` in USD per million tokens, times `factor`, and the basis of each derived one.

    `given` is by the names of `Card`; `request` is USD per million calls. `model` tells the family.
    """
    family = next((each for each in FAMILIES if each in model), "")
    usd = dict(given)
    assumed: dict[int, str] = {}
    for name, (source, basis) in DERIVED.items():
        if name in usd:
            continue
        multiple = MULTIPLES.get((family, name))
        usd[name] = usd["input"] * multiple if multiple else usd[source] if source else Decimal(0)
        if basis:
            assumed[Card._fields.index(name)] = basis
    femto = {name: int((rate * factor * PER_MTOK).to_integral_value(ROUND_HALF_EVEN)) for name, rate in usd.items()}
    return Card(**femto), assumed


Charge = tuple[int, int, int, int, int, str | None]
"""Femto-dollars of input (with the fee per request), output, cache reads and cache writes; saved; and the basis."""


def charge(rates: Rates, usage: Usage, basis: str | None = None) -> Charge:
    """What `usage` costs at `rates`; `basis` says that the usage itself is an estimate.

    Counts that contradict each other never make a part negative: they are mended first, and the basis becomes
    `inconsistent_usage`.
    """
    sent, generated, read, written, w30m, w1h, w12h, reasoning, heard, reheard, spoken, seen, requests = usage
    by_request = requests is not None and sent is None and generated is None
    uncounted = sent is None or (generated is None and not any(index == OUTPUT for index, _ in rates.assumed))
    if uncounted and not by_request:
        basis = basis or MISSING
    sent, generated, read, written = sent or 0, generated or 0, read or 0, written or 0
    plain = sent - read - written
    if plain < 0 or generated < 0 or read < 0 or written < 0:
        return charge(rates, mended(usage), basis or INCONSISTENT)
    card = rates.card(sent)
    input_cost = plain * card.input + (1 if requests is None else requests) * card.request
    output_cost = generated * card.output
    read_cost = read * card.cache_read
    write_cost = written * card.cache_write
    unsaved = (read + written) * card.input
    unnamed = written
    if w30m or w1h or w12h:
        w30m, w1h, w12h = w30m or 0, w1h or 0, w12h or 0
        unnamed -= w30m + w1h + w12h
        if unnamed < 0 or w30m < 0 or w1h < 0 or w12h < 0:
            return charge(rates, mended(usage), basis or (None if usage.cache_write is None else INCONSISTENT))
        write_cost = (
            unnamed * card.cache_write
            + w30m * card.cache_write_30m
            + w1h * card.cache_write_1h
            + w12h * card.cache_write_12h
        )
    if heard or spoken or seen or (reasoning and card.reasoning != card.output):
        heard, reheard, spoken, seen, reasoning = heard or 0, reheard or 0, spoken or 0, seen or 0, reasoning or 0
        heard -= reheard
        if not (0 <= heard <= plain and 0 <= reheard <= read and seen >= 0 and 0 <= reasoning <= generated - spoken):
            return charge(rates, mended(usage), basis or INCONSISTENT)
        seen = min(seen, plain - heard)  # the rest of the images was read from the cache
        input_cost += heard * (card.input_audio - card.input) + seen * (card.input_image - card.input)
        output_cost += spoken * (card.output_audio - card.output) + reasoning * (card.reasoning - card.output)
        read_cost += reheard * (card.cache_audio_read - card.cache_read)
        unsaved += reheard * (card.input_audio - card.input)
    basis = basis or rates.basis
    if basis is None:
        for index, assumption in rates.assumed:
            if usage[index] and (unnamed or index != CACHE_WRITE):
                basis = assumption
                break
    return input_cost, output_cost, read_cost, write_cost, unsaved - read_cost - write_cost, basis


def mended(usage: Usage) -> Usage:
    """Counts that fit into each other: none negative, totals raised to their parts, other kinds cut to what is left.

    >>> mended(Usage(input=100, output=5, cache_read=300)).input
    300
    """
    counts = Usage(*(max(count or 0, 0) for count in usage))
    sent, generated, read, written, w30m, w1h, w12h, reasoning, heard, reheard, spoken, seen, _ = (
        n or 0 for n in counts
    )
    written = max(written, w30m + w1h + w12h)
    sent = max(sent, read + written)
    plain = sent - read - written
    reheard = min(reheard, read, heard)
    heard = min(heard - reheard, plain) + reheard
    spoken = min(spoken, generated)
    reasoning = min(reasoning, generated - spoken)
    return Usage(
        sent, generated, read, written, w30m, w1h, w12h, reasoning, heard, reheard, spoken, seen, usage.request
    )


def dollars(charged: Charge) -> Cost:
    """In USD. `total` is input + output + cache_read + cache_write, added as floats in this order."""
    in_femto, out_femto, read_femto, write_femto, saved, basis = charged
    plain, output, read, write = in_femto / USD, out_femto / USD, read_femto / USD, write_femto / USD
    status = names.ESTIMATED if basis else names.EXACT
    return Cost(status, basis, plain + output + read + write, plain, output, read, write, saved / USD)


def as_reported(cost: Cost, usd: float) -> Cost:
    """The cost that the provider itself reports (OpenRouter does); its parts in the proportions of `cost`, if known."""
    if not cost.total:
        return Cost(names.EXACT, None, usd)
    plain, output, read, write, saved = ((part or 0.0) * usd / cost.total for part in cost[3:])
    return Cost(names.EXACT, None, plain + output + read + write, plain, output, read, write, saved)


def nano(charged: Charge) -> int:
    """The total in whole nano-dollars, rounded up."""
    return -(-sum(charged[:4]) // NANO)


Dearest = tuple[tuple[int, int, int, int], ...]
"""(input tokens, femto-dollars per input token, per output token, per call): the most in each band of some rates."""


def dearest(rates: Rates, writes: Collection[str] | None, *, media: bool) -> Dearest:
    """The dearest that tokens can be billed at: see `PriceBook.worst_case_nano`."""
    if writes is None:
        writes = () if any(index == CACHE_WRITE for index, _ in rates.assumed) else WRITES
    sent = ("input", "cache_read", *writes, *(("input_audio", "cache_audio_read", "input_image") if media else ()))
    generated = ("output", "reasoning", *(("output_audio",) if media else ()))
    return tuple(
        (above, max(getattr(card, name) for name in sent), max(getattr(card, name) for name in generated), card.request)
        for above, card in rates.bands
    )


def worst_case(bands: Dearest, input_tokens: int, output_tokens: int, requests: int = 1) -> int:
    """The most that so many tokens can cost, in nano-dollars, rounded up."""
    most = 0
    for above, sent, generated, request in bands:
        if above == 0 or input_tokens > above:
            most = max(most, input_tokens * sent + output_tokens * generated + requests * request)
    return -(-most // NANO)
