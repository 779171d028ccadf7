"""`Rates`: what each token of one model costs, and the arithmetic from a `Usage` to money.

Money is counted in whole femto-dollars (1e-15 USD). One USD per million tokens is 1e9 of them per token, so every
published rate is a whole number and sums are exact; floats and nano-dollars are made from the sums, at the very end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from operator import attrgetter, mul
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.record import Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNITS, Usage

FEMTO_PER_USD: Final = 10**15
FEMTO_PER_TOKEN: Final = 10**9
"""Femto-dollars per token in one USD per million tokens."""
FEMTO_PER_NANO: Final = 10**6
"""Femto-dollars in a nano-dollar, the unit of ledgers."""

TEXT_OUTPUT: Final = "assumed_text_output"
"""The model also makes pictures, at another rate, and the provider does not say how much of the output they are."""
FREE_QUOTA: Final = "free_quota"
"""The provider charges for a use only after so many of a day or a month, and does not tell how many there were."""
FEES_EXCLUDED: Final = "tool_fees_excluded"
"""Something was billed by the use that no price is known for."""

WRITES: Final = ("cache_write", "cache_write_30m", "cache_write_1h", "cache_write_12h")


class Card(NamedTuple):
    """Femto-dollars for one of each thing that is billed at a rate of its own. No two of them overlap."""

    input: int
    input_audio: int
    input_image: int
    request: int
    """For one call, whatever its tokens; for one search, where the provider counts those."""
    input_seconds: int
    characters: int
    pages: int
    annotated_pages: int
    token_hours: int
    megabyte_days: int
    trained_tokens: int
    output: int
    reasoning: int
    output_audio: int
    output_image: int
    images: int
    output_seconds: int
    cache_read: int
    cache_audio_read: int
    cache_image_read: int
    cache_write: int
    """Writes whose lifetime nobody names: 5 minutes at Anthropic, 30 at OpenAI."""
    cache_write_30m: int
    cache_write_1h: int
    cache_write_12h: int
    web_searches: int
    map_searches: int
    file_searches: int

    def times(self, factor: Decimal) -> Card:
        """The same with all but what tools cost multiplied."""
        if factor == 1:
            return self
        rates: tuple[int, ...] = self
        made = [int((rate * factor).to_integral_value(ROUND_HALF_EVEN)) for rate in rates[: TOOLS.start]]
        return Card(*made, *rates[TOOLS])


INPUT: Final = slice(0, 11)
OUTPUT: Final = slice(11, 17)
READ: Final = slice(17, 20)
WRITE: Final = slice(20, 24)
TOOLS: Final = slice(24, 27)
"""The parts of a cost, as places in a `Card`."""
PLAIN: Final = 0
"""The place of the plain input."""
PLACE: Final = {name: place for place, name in enumerate(Card._fields)}
_new: Final = tuple.__new__
"""Makes a named tuple of all its values in order, in a fifth of the time that its own constructor takes."""


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
    "cache_image_read": Derived("cache_read", None),
    "output_image": Derived("output", "assumed_output_image"),
    "web_searches": Derived(None, FEES_EXCLUDED),
    "map_searches": Derived(None, FEES_EXCLUDED),
    "file_searches": Derived(None, FEES_EXCLUDED),
    "request": Derived(None, None),
    **{unit: Derived(None, None) for unit in UNITS},  # see `Rates.unlisted`
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

FIRST_MEDIUM: Final = Usage._fields.index("input_audio")
"""The counts of a `Usage` before it are of text."""
OF_TEXT: Final = frozenset(map(PLACE.__getitem__, ("input", "request", "output", "reasoning", "cache_read")))
"""What text is billed by that writes nothing to a cache, as places in a `Card`."""
NO_MEDIA: Final = tuple(int(name == "request") for name in Card._fields)
"""What there is in a call of text besides its text, by the places of a `Card`: one request."""
FIRST_UNIT: Final = Usage._fields.index(UNITS[0])
REQUEST: Final = Usage._fields.index("request")
TEXT: Final = ("request", "input", "cache_read", *WRITES, "output", "reasoning")
"""What text is billed by."""
_of_text: Final = attrgetter(*TEXT)
"""Those of a `Card`."""
_UNIT_PLACES: Final = tuple((name, PLACE[name]) for name in (*UNITS, "request"))
NO_UNITS: Final = frozenset(place for _, place in _UNIT_PLACES)
BY_USE: Final = frozenset(Card._fields[TOOLS])
"""What is billed by the use of a hosted tool: USD per million uses, in tables of rates."""
FACTOR: Final = "factor"
"""In a table of fees, what all other rates are multiplied by: a zone's surcharge, a contract's discount."""
OF_INPUT: Final = ("input", "input_audio", "input_image", *Card._fields[READ], *Card._fields[WRITE])
"""The rates of tokens that are sent."""
NAMES_A_PRICE: Final = frozenset({"input", "request", *UNITS})
"""Of these a table of rates has one, unless it is of fees alone."""

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
    unlisted: frozenset[int] = frozenset()
    """The units without a rate (places in `Card`): free where tokens are billed, and else not known.

    Of tokens it is `input`, where something else is billed and not they.
    """
    sells_tokens: bool = False
    """Whether tokens have a price; as the next, it is told of what a book has looked through."""
    of_text: tuple[str | None, bool, tuple[int, ...] | None] | None = None
    """What a call of text needs: `basis`, whether nothing of what it is billed by was assumed but for writes to a
    cache, and what it is billed by (`TEXT`), where that is the same for any length."""

    def card(self, input_tokens: int) -> Card:
        """The rates of a call with this much input."""
        bands = self.bands
        card = bands[0][1]
        for above, dearer in bands[1:]:
            if input_tokens > above:
                card = dearer
        return card

    def covers(self, usage: Usage) -> bool:
        """Whether they say what this comes to: who sells pictures may have no price for tokens, or none but that."""
        tokens = usage.input is not None or usage.output is not None
        if tokens and PLAIN not in self.unlisted:
            return True
        told = [place for name, place in _UNIT_PLACES if getattr(usage, name) is not None]
        return any(place not in self.unlisted for place in told) if told else not tokens and any(usage)

    def looked_through(self) -> Rates:
        """The same, with what follows from the rest told."""
        return self._replace(
            sells_tokens=PLAIN not in self.unlisted,
            of_text=(
                self.basis,
                OF_TEXT.isdisjoint(place for place, _ in self.assumed),
                _of_text(self.bands[0][1]) if len(self.bands) == 1 else None,
            ),
        )

    def with_fees(self, given: Mapping[str, Decimal], source: str) -> Rates:
        """The same with other fees of hosted tools, in USD per million uses, and times a factor, if one is given."""
        factor = given.get(FACTOR, Decimal(1))
        fees = {name: usd for name, usd in given.items() if name != FACTOR}
        femto = {name: int((usd * FEMTO_PER_TOKEN).to_integral_value(ROUND_HALF_EVEN)) for name, usd in fees.items()}
        stated = {PLACE[name] for name in fees}
        return self._replace(
            bands=tuple((above, card.times(factor)._replace(**femto)) for above, card in self.bands),
            source=f"{source}; {self.source}",
            assumed=tuple(each for each in self.assumed if each[0] not in stated),
        )

    def with_surcharge(self, usd_per_mtok: Decimal, basis: str, source: str) -> Rates:
        """The same with so much more for each token of input, of whatever kind."""
        more = int(usd_per_mtok * FEMTO_PER_TOKEN)
        return self._replace(
            bands=tuple(
                (above, card._replace(**{k: getattr(card, k) + more for k in OF_INPUT})) for above, card in self.bands
            ),
            source=f"{source}; {self.source}",
            basis=self.basis or basis,
        )

    def usd_per_mtok(self, rate: str, input_tokens: int = 0) -> Decimal:
        """One rate in USD per million tokens, by its name in `Card`, for a call with this much input."""
        return Decimal(getattr(self.card(input_tokens), rate)) / FEMTO_PER_TOKEN


def complete(given: Mapping[str, Decimal], model: str, factor: Decimal = Decimal(1)) -> tuple[Card, dict[int, str]]:
    """All rates from those `given` in USD per million tokens, times `factor`, and the basis of each derived one.

    `given` is by the names of `Card`; `request` is USD per million calls. `model` tells the family.
    """
    family = next((each for each in FAMILIES if each in model), "")
    usd = dict(given)
    by_unit = not given.keys() & {"input", "output"} and any(unit in given for unit in UNITS)
    assumed: dict[int, str] = {}
    for name, (source, basis) in DERIVED.items():
        if name in usd:
            continue
        multiple = MULTIPLES.get((family, name))
        usd[name] = usd["input"] * multiple if multiple else usd[source] if source else Decimal(0)
        if basis and not (by_unit and name in ("input", "output")):
            assumed[PLACE[name]] = basis
    # A tier and a region change what tokens cost, and not what a tool does.
    femto = {
        name: int((rate * (1 if name in BY_USE else factor) * FEMTO_PER_TOKEN).to_integral_value(ROUND_HALF_EVEN))
        for name, rate in usd.items()
    }
    return Card(**femto), assumed


def without_rates(given: Collection[str]) -> frozenset[int]:
    """The units that are not among the rates `given`, as places in `Card`."""
    tokens = () if {"input", "output", "request"} & set(given) else (PLACE["input"],)
    return frozenset((*tokens, *(place for name, place in _UNIT_PLACES if name not in given)))


OF_TEXT_ALONE: Final = Rates._fields.index("of_text")
Charged = tuple[int, int, int, int, int, int, str | None]
"""The parts of a `Charge`."""


class Charge(NamedTuple):
    """What was charged, in femto-dollars, and the basis of an estimate."""

    input: int
    """With the fee per request."""
    output: int
    cache_read: int
    cache_write: int
    tools: int
    saved: int
    basis: str | None

    @property
    def total(self) -> int:
        """All of it; what was saved is no part of it."""
        return self.input + self.output + self.cache_read + self.cache_write + self.tools


def charge(rates: Rates, usage: Usage, basis: str | None = None) -> Charge:
    """What `usage` costs at `rates`; `basis` says that the usage itself is an estimate.

    Counts that contradict each other never make a part negative: they are mended first, and the basis becomes
    `inconsistent_usage`.
    """
    return _new(Charge, charged(rates, usage, basis))


def charged(rates: Rates, usage: Usage, basis: str | None = None) -> Charged:
    """The same as a plain tuple, which is taken apart in a third of the time."""
    of_text, others = usage[:FIRST_MEDIUM], usage[FIRST_MEDIUM:]
    sent = of_text[0]
    if sent is None or of_text[1] is None:
        basis = basis or _uncounted(rates, usage)
    if not any(others) and others[REQUEST - FIRST_MEDIUM] is None:
        found = _text(rates, usage, of_text, basis)
        if found is not None:
            return found
    card = rates.card(sent or 0)
    counts = billed(usage)
    if min(counts) < 0:
        # Where only lifetimes of writes are told, what they sum to is no contradiction.
        untold = usage.cache_write is None and min(counts._replace(cache_write=0)) >= 0
        usage = mended(usage)
        counts = billed(usage)
        basis = basis or (None if untold else names.INCONSISTENT_USAGE)
        card = rates.card(usage.input or 0)
    amounts: tuple[int, ...] = counts
    costs: list[int] = [*map(mul, amounts, card)]
    read, written = sum(costs[READ]), sum(costs[WRITE])
    unsaved = 0
    if read or written:
        unsaved = (
            (counts.cache_read + sum(amounts[WRITE])) * card.input
            + counts.cache_audio_read * card.input_audio
            + counts.cache_image_read * card.input_image
        )
    basis = basis or rates.basis or _assumed(rates, usage, counts)
    return sum(costs[INPUT]), sum(costs[OUTPUT]), read, written, sum(costs[TOOLS]), unsaved - read - written, basis


def _text(rates: Rates, usage: Usage, of_text: tuple[Any, ...], basis: str | None) -> Charged | None:
    """`charged` for text alone, as nearly all calls are; `None` where the counts contradict each other."""
    known: Any = rates[OF_TEXT_ALONE]
    own_basis, is_sure, billed_by = known or (rates.basis, False, None)
    sent, made, read, written, for_30m, for_1h, for_12h, reasoned = of_text
    per_call, per_input, per_read, per_write, per_30m, per_1h, per_12h, per_output, per_reasoned = (
        billed_by or _of_text(rates.card(sent or 0))
    )
    read, written, reasoned = read or 0, written or 0, reasoned or 0
    plain, told = (sent or 0) - read - written, (made or 0) - reasoned
    if plain < 0 or told < 0 or read < 0 or reasoned < 0 or written < 0:
        return None
    was_read, was_written, short = read * per_read if read else 0, 0, 0
    wrote = written or for_30m or for_1h or for_12h
    if wrote:
        for_30m, for_1h, for_12h = for_30m or 0, for_1h or 0, for_12h or 0
        short = written - for_30m - for_1h - for_12h
        if min(short, for_30m, for_1h, for_12h) < 0:
            return None
        was_written = short * per_write + for_30m * per_30m + for_1h * per_1h + for_12h * per_12h
    saved = (read + written) * per_input - was_read - was_written if was_read or was_written else 0
    if basis is None and (basis := own_basis) is None and (wrote or not is_sure):
        counts = [*NO_MEDIA]
        counts[INPUT.start], counts[READ.start], counts[OUTPUT.start : OUTPUT.start + 2] = plain, read, (told, reasoned)
        counts[WRITE] = short, for_30m or 0, for_1h or 0, for_12h or 0
        basis = _assumed_rate(rates, usage, counts)
    generated = told * per_output
    if reasoned:
        generated += reasoned * per_reasoned
    return plain * per_input + per_call, generated, was_read, was_written, 0, saved, basis


def billed(usage: Usage) -> Card:
    """How much there is of each thing that has a rate of its own; negative where counts contradict each other."""
    counts = [count or 0 for count in usage]
    sent, made, read, written, for_30m, for_1h, for_12h, reasoned = counts[:8]
    all_heard, reheard, spoken, shown, drawn, web, maps, files, asked = counts[8:17]
    reshown, images, listened, played, characters, pages, annotated, kept, stored, trained = counts[17:]
    plain = sent - read - written
    heard = all_heard - reheard
    # Of pictures that were read from the cache, few say which: what is left of the plain input are pictures.
    pictured = shown - reshown
    seen = min(pictured, plain - heard) if pictured > 0 else pictured
    return _new(
        Card,
        (
            plain - heard - seen,
            heard,
            seen,
            1 if usage.request is None else asked,
            listened,
            characters,
            pages,
            annotated,
            kept,
            stored,
            trained,
            made - reasoned - spoken - drawn,
            reasoned,
            spoken,
            drawn,
            images,
            played,
            read - reheard - reshown,
            reheard,
            reshown,
            written - for_30m - for_1h - for_12h,
            for_30m,
            for_1h,
            for_12h,
            web,
            maps,
            files,
        ),
    )


def _uncounted(rates: Rates, usage: Usage) -> str | None:
    """The basis of a cost that lacks a count: unknown is not zero."""
    if usage.input is None and usage.output is None and (usage.request is not None or any(usage[FIRST_UNIT:])):
        return None  # billed by the request, the picture, the second
    free_output = any(place == PLACE["output"] for place, _ in rates.assumed)
    return names.MISSING_USAGE if usage.input is None or (usage.output is None and not free_output) else None


def _assumed_rate(rates: Rates, usage: Usage, counts: Sequence[int]) -> str | None:
    """What was assumed of a rate that the call makes use of; `counts` by the places of a `Card`."""
    for place, basis in rates.assumed:
        if counts[place] and not (basis == TEXT_OUTPUT and usage.output_image is not None):
            return basis
    return None


def _assumed(rates: Rates, usage: Usage, counts: Card) -> str | None:
    """What was assumed of a rate that the call makes use of, or of one that is not known."""
    if (basis := _assumed_rate(rates, usage, counts)) is not None:
        return basis
    if usage.token_hours and PLACE["token_hours"] in rates.unlisted:
        return FEES_EXCLUDED
    if (
        usage.input is None
        and usage.output is None
        and any(getattr(usage, Card._fields[place]) for place in rates.unlisted)
    ):
        return FEES_EXCLUDED  # of several units, one has no price
    return None


def mended(usage: Usage) -> Usage:
    """Counts that fit into each other: none negative, totals raised to their parts, other kinds cut to what is left.

    >>> mended(Usage(input=100, output=5, cache_read=300)).input
    300
    """
    n: Any = Usage(*(max(count or 0, 0) for count in usage))
    written = max(n.cache_write, n.cache_write_30m + n.cache_write_1h + n.cache_write_12h)
    sent = max(n.input, n.cache_read + written)
    plain = sent - n.cache_read - written
    reheard = min(n.cache_audio_read, n.cache_read, n.input_audio)
    spoken = min(n.output_audio, n.output)
    drawn = min(n.output_image, n.output - spoken)
    reseen = min(n.cache_image_read, n.cache_read - reheard, n.input_image)
    fitted: Usage = n._replace(
        input=sent,
        cache_write=written,
        reasoning=min(n.reasoning, n.output - spoken - drawn),
        input_audio=min(n.input_audio - reheard, plain) + reheard,
        cache_audio_read=reheard,
        cache_image_read=reseen,
        output_audio=spoken,
        output_image=drawn,
        request=usage.request,
    )
    return fitted


def dollars(charge: tuple[Any, ...]) -> Cost:
    """In USD. `total` is input + output + cache_read + cache_write + tools, added as floats in this order."""
    plain, output, read, write, tools, saved, basis = charge
    plain, output = plain / FEMTO_PER_USD, output / FEMTO_PER_USD
    read = read / FEMTO_PER_USD if read else 0.0
    write = write / FEMTO_PER_USD if write else 0.0
    tools = tools / FEMTO_PER_USD if tools else 0.0
    saved = saved / FEMTO_PER_USD if saved else 0.0
    status = names.ESTIMATED if basis else names.EXACT
    return _new(
        Cost, (status, basis, plain + output + read + write + tools, plain, output, read, write, saved, tools or None)
    )


def as_reported(cost: Cost, usd: float) -> Cost:
    """The cost that the provider itself reports; its parts in the proportions of `cost`, if known."""
    if not cost.total:
        return Cost(names.EXACT, None, usd)
    plain, output, read, write, saved, tools = ((part or 0.0) * usd / cost.total for part in cost[3:])
    total = plain + output + read + write + tools
    return Cost(names.EXACT, None, total, plain, output, read, write, saved, tools or None)


def nano(charged: Charge) -> int:
    """The total in whole nano-dollars, rounded up."""
    return -(-charged.total // FEMTO_PER_NANO)


Dearest = tuple[tuple[int, int, int, int], ...]
"""(input tokens, femto-dollars per input token, per output token, per call): the most in each band of some rates."""


def dearest(rates: Rates, writes: Collection[str] | None, *, media: bool) -> Dearest:
    """The dearest that tokens can be billed at: see `PriceBook.worst_case_nano`."""
    if writes is None:
        writes = () if any(place == PLACE["cache_write"] for place, _ in rates.assumed) else WRITES
    sent = ("input", "cache_read", *writes, *(("input_audio", "cache_audio_read", "input_image") if media else ()))
    generated = ("output", "reasoning", "output_image", *(("output_audio",) if media else ()))
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
    return -(-most // FEMTO_PER_NANO)
