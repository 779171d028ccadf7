"""`genai-prices`, read: its rates for a model at a time and tier, with what it lacks derived and marked.

Its data is read and its own look-up is not used: that one remembers every name it was ever asked for, without bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.prices import genai
from tokenguard.prices.made import SENT, fees, longer
from tokenguard.prices.models import PROVIDERS, spellings
from tokenguard.prices.rates import PLACE, TEXT_OUTPUT, Rates, complete, without_rates
from tokenguard.prices.sieve import Sieve
from tokenguard.prices.tiers import CONTEXT, Tier, assumed, marks

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, PriceVariant, Provider

KEYS: Final[Mapping[str, str]] = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "cache_audio_read": "cache_audio_read_mtok",
    "output_audio": "output_audio_mtok",
    "input_image": "input_image_mtok",
    "output_image": "output_image_mtok",
    "cache_image_read": "cache_image_read_mtok",
    "characters": "input_mchars",
}
"""Our names of rates to the price list's; all are USD per million, of tokens but for the last."""

PER_THOUSAND: Final[Mapping[str, str]] = {
    "request": "requests_kcount",
    "web_searches": "web_searches_kcount",
    "file_searches": "storage_searches_kcount",
}
"""The same for what is billed by the use, in USD per thousand."""

BY_UNIT: Final[Mapping[str, tuple[str, Decimal]]] = {
    "pages": ("input_document_kpages", Decimal(1000)),
    "annotated_pages": ("input_annotated_document_kpages", Decimal(1000)),
    "input_seconds": ("audio_hours", Decimal(10**6) / 3600),
}
"""The same for other units, with what makes USD per million of ours out of the list's."""

ALL_OUTPUT: Final[Mapping[str, re.Pattern[str]]] = {
    "output_image": lazy(r"gpt-image-"),
    "output_audio": lazy(r"-tts\b"),
}
"""Models that make nothing else: where the list has one rate for their output, it is the rate of that."""

FREE: Final = ":free"
"""How the names of models end that cost nothing; the list has no rates for them. See https://openrouter.ai/docs/faq."""

NOTHING: Final = dict.fromkeys(("input", "output", "cache_read", "cache_write"), Decimal(0))

SATURDAY: Final = 5
"""As `datetime.weekday` has it."""


class Rest(NamedTuple):
    """A seller whose dearer hours are those of weekdays, which the list cannot say."""

    busy: range
    """The hours by UTC that are dearer, and those between them."""
    quiet: int
    """One between them that is not."""


RESTS: Final[Mapping[str, Rest]] = {"deepseek": Rest(range(1, 10), 5)}
"""https://api-docs.deepseek.com/quick_start/pricing: from 1 to 4 and from 6 to 10, and not on holidays in China, which
are not known here."""

_current: Callable[[], DataSnapshot] | None = None
"""Gives the list, once it is in memory: a thread of OpenTelemetry's may ask for its age, and must not import it."""

Price = Mapping[str, tuple[tuple[int, Decimal], ...]]
"""Per rate: (input tokens above which it holds for the whole call, USD per million tokens), ascending from 0."""


def listed(provider_id: str, model: str, tier: Tier, at: datetime) -> Rates | None:
    """The listed rates of a model, or `None`: not sold there as far as the list knows, or not by the token."""
    index = _indexed()
    providers = index.providers
    provider = providers.get(provider_id)
    if provider is None:
        return None
    sieve = index.sieves.get(provider_id) or _sieve(provider)
    for name, basis in spellings(provider_id, model):
        if not sieve.passes(name):
            continue
        found = provider.find_model(name, all_providers=list(providers.values()))
        if found is not None:
            if basis is None and not is_named(found.match, name):
                basis = NEAREST
            return _rates(providers, provider, found, tier, at, basis, name)
    if provider_id == "openrouter" and model.endswith(FREE):
        return Rates(((0, complete(NOTHING, "")[0]),), f"OpenRouter's {FREE} models", f"openrouter/{model}")
    return None


NEAREST: Final = "nearest_model"
"""The basis of a price whose model's name only begins as this one does, or is like it."""
SAME_MODEL: Final = lazy(
    r"(?:[-@.:_]?(?:\d{8}|\d{4}-\d\d-\d\d|\d\d-\d{4}|\d\d-\d\d|\d{3,6}|v1|v\d+:\d+(?::\d+k)?"
    r"|:\d+(?::\d+k)?|latest|preview|exp|experimental|beta|stable|instruct|it|chat|hf|maas|default|global|fp8|bf16|int4|nvfp4))*"
)
"""What may follow a model's name without making it another model: a snapshot, a version, a packing of its weights."""


def is_named(clause: MatchLogic, name: str) -> bool:
    """Whether a name that `clause` matches is this model's, and not one that only begins with it.

    `gpt-5-nano-2026-01-01` is gpt-5-nano; `gpt-5-nano-next` may be anything.
    """
    name = name.lower()
    if name.startswith("ft:") or not clause.is_match(name):
        return name.startswith("ft:")
    for part in getattr(clause, "or_", ()):
        if is_named(part, name):
            return True
    if hasattr(clause, "or_"):
        return False
    if parts := getattr(clause, "and_", ()):  # a beginning, and a pattern that leaves some out
        return all(is_named(part, name) for part in parts)
    if (pattern := getattr(clause, "regex", None)) is not None and not str(pattern).endswith("$"):
        return SAME_MODEL.fullmatch(_past(pattern, name)) is not None
    begins = getattr(clause, "starts_with", None) or getattr(clause, "contains", None)
    if begins is None:
        return True  # an exact name, a pattern of the list's own, or an end
    rest = name.rpartition(begins.lower())[2]
    return SAME_MODEL.fullmatch(rest) is not None


def _past(pattern: str, name: str) -> str:
    r"""What of a name is behind what an open pattern asks for, with the number that this ends in.

    >>> _past(r"^gemini-3\.5-flash-\d", "gemini-3.5-flash-8b"), _past("^(?!.*-tts)", "gemini-2.5-pro")
    ('-8b', '')
    """
    found = re.search(pattern, name)
    if found is None or found.end() == 0:
        return ""  # it only leaves names out
    number = re.search(r"[-@.:_]?\d*$", name[: found.end()])
    return name[number.start() if number else found.end() :]


def nearest(provider_id: str | None, model: str, count: int = 5) -> list[str]:
    """The known models with names most like `model`, as `provider/model`, at one seller or at all known ones."""
    from difflib import get_close_matches

    providers = _providers()
    ours = [each for each in dict.fromkeys(PROVIDERS.values()) if each in providers]
    names: dict[str, str] = {}
    for each in [provider_id] if provider_id in providers else dict.fromkeys([*ours, *providers]):
        for known in providers[each].models:
            names.setdefault(known.id.lower(), f"{each}/{known.id}")
    return [names[name] for name in get_close_matches(model.lower(), names, n=count, cutoff=0.5)]


def sellers() -> list[str]:
    """The ids of all sellers of the list."""
    return list(_providers())


def sellers_of(glob: str, among: Sequence[str]) -> list[str]:
    """Those sellers of the list who have a model whose name matches a glob, or is this name.

    >>> sellers_of("gpt-4o*", ["openai", "anthropic"])
    ['openai']
    """
    providers = _providers()
    return [
        each
        for each in among
        if each in providers
        and any(fnmatchcase(model.id, glob) or is_named(model.match, glob) for model in providers[each].models)
    ]


def load(provider_id: str) -> None:
    """Have the list, and what one of its sellers has, in memory."""
    provider = _providers().get(provider_id)
    if provider is not None:
        _sieve(provider)


def version() -> str:
    """The price list's name and version, and when it was updated if the application has it update itself."""
    snapshot = _snapshot()
    updated = f", updated {snapshot.timestamp:%Y-%m-%d %H:%M}" if snapshot.from_auto_update else ""
    return f"genai-prices {genai.version()}{updated}"


def edition() -> int:
    """Another number whenever the application has updated the list; 0 until it is loaded."""
    return 0 if _current is None else id(_current())


def newest() -> float | None:
    """When the newest price of the list took effect, in Unix seconds: the list is that recent at least.

    The list itself has no date, unless the application has it update itself. `None` while nobody has loaded it: it is
    not loaded for this.
    """
    if _current is None:
        return None
    snapshot = _snapshot()
    if snapshot.from_auto_update:
        return snapshot.timestamp.timestamp()
    return _newest_start(datetime.now(UTC).date())


@lru_cache(maxsize=1)
def _newest_start(today: date) -> float | None:
    starts = [start for start in genai.starts(_snapshot()) if start <= today]
    return datetime.combine(max(starts), datetime.min.time(), UTC).timestamp() if starts else None


class _Index(NamedTuple):
    """What is made of the list once."""

    snapshot: DataSnapshot
    providers: dict[str, Provider]
    sieves: dict[str, Sieve]


_index: _Index | None = None


def _indexed() -> _Index:
    global _index
    snapshot, index = _snapshot(), _index
    if index is None or index.snapshot is not snapshot:
        index = _index = _Index(snapshot, {provider.id: provider for provider in snapshot.providers}, {})
    return index


def _providers() -> dict[str, Provider]:
    return _indexed().providers


def _sieve(provider: Provider) -> Sieve:
    """Of the names that a seller's models, and those that it sells besides, can have."""
    index = _indexed()
    sieve = index.sieves.get(provider.id)
    if sieve is None:
        sieve = index.sieves[provider.id] = Sieve(_sells(index.providers, provider))
    return sieve


def _sells(providers: Mapping[str, Provider], provider: Provider) -> list[Provider]:
    """A seller, and those whose models it sells besides its own."""
    others = map(providers.get, provider.fallback_model_providers or ())
    return [provider, *(each for each in others if each is not None)]


def _snapshot() -> DataSnapshot:
    global _current
    snapshot: DataSnapshot = genai.snapshot()
    _current = genai.snapshot
    return snapshot


def _rates(
    providers: Mapping[str, Provider],
    provider: Provider,
    model: ModelInfo,
    tier: Tier,
    at: datetime,
    basis: str | None,
    name: str,
) -> Rates | None:
    """The rates of a listed model, which was asked for by this name."""
    unlisted = marks(tier, provider.id, model.id, name)
    context = dict(CONTEXT[mark] for mark in unlisted if mark in CONTEXT)
    owner = next((each for each in _sells(providers, provider) if any(model is own for own in each.models)), provider)
    # A seller may ask other than the owner for a tier, so the owner's variants say nothing here.
    variants = list(_variants(model, context, at)) if owner is provider else []
    covered = set(variants[0].when) if variants else set()  # of two, the first has its way
    unlisted = [mark for mark in unlisted if mark not in CONTEXT or CONTEXT[mark][0] not in covered]
    factor, tier_basis = assumed(unlisted, provider.id)

    listed_price = model.get_prices(_hour(owner.id, at), context if variants else None)
    price = _price(listed_price, free=model.id.endswith(FREE))
    if not price:
        return None  # sold by something that we do not count
    price = _longer(price, provider.id, model.id)
    asked = fees(provider.id, name, model.id)
    price |= {name: ((0, Decimal(fee.usd) * 10**6),) for name, fee in asked.items() if fee.usd is not None}
    starts = sorted({start for steps in price.values() for start, _ in steps})
    cards = [complete(_above(price, start), model.id, factor) for start in starts]
    derived = cards[0][1]
    if getattr(listed_price, "output_image_mtok", None) is not None:
        derived[PLACE["output"]] = TEXT_OUTPUT
    derived |= {PLACE[name]: fee.basis for name, fee in asked.items() if fee.basis is not None and name in price}
    for kind, models in ALL_OUTPUT.items():
        if kind not in price and models.search(model.id):
            derived.pop(PLACE[kind], None)
    sold = "" if owner is provider else f", sold by {provider.id}"
    return Rates(
        tuple((start, card) for start, (card, _) in zip(starts, cards, strict=True)),
        f"{version()}, {owner.id}{sold}",
        f"{provider.id}/{model.id}",
        basis or tier_basis,
        tuple(derived.items()),
        without_rates(price),
    )


def _hour(seller: str, at: datetime) -> datetime:
    """The time by whose rates a seller bills a call: the list has its dearer hours on all days."""
    rest = RESTS.get(seller)
    return at if rest is None or at.weekday() < SATURDAY or at.hour not in rest.busy else at.replace(hour=rest.quiet)


def _variants(model: ModelInfo, context: Mapping[str, str], at: datetime) -> Iterator[PriceVariant]:
    """The variants of a price that hold for this context at this time."""
    for variant in model.price_variants or ():
        if variant.constraint is not None and not variant.constraint.active(at):
            continue
        if all(context.get(key) == value for key, value in variant.when.items()):
            yield variant


def _price(listed_price: ModelPrice, *, free: bool) -> dict[str, tuple[tuple[int, Decimal], ...]]:
    if free and not listed_price.__dict__:
        return {name: ((0, usd),) for name, usd in NOTHING.items()}
    price: dict[str, tuple[tuple[int, Decimal], ...]] = {}
    for ours, theirs in KEYS.items():
        value = getattr(listed_price, theirs, None)
        if isinstance(value, Decimal):
            price[ours] = ((0, value),)
        elif value is not None:
            price[ours] = ((0, value.base), *((step.start, step.price) for step in value.tiers))
    for ours, theirs in PER_THOUSAND.items():
        per_thousand = getattr(listed_price, theirs, None)
        if isinstance(per_thousand, Decimal):
            price[ours] = ((0, per_thousand * 1000),)
    for ours, (theirs, factor) in BY_UNIT.items():
        usd = getattr(listed_price, theirs, None)
        if isinstance(usd, Decimal):
            price[ours] = ((0, usd * factor),)
    return price


def _longer(price: Price, provider_id: str, model: str) -> dict[str, tuple[tuple[int, Decimal], ...]]:
    """A price with what the seller asks for long calls, if the list has left it out."""
    row = longer(provider_id, model)
    if row is None or any(len(steps) > 1 for steps in price.values()):
        return dict(price)
    factors = {**dict.fromkeys(SENT, row.sent), "output": row.generated}
    return {
        name: (*steps, (row.above, steps[0][1] * factors[name])) if name in factors else steps
        for name, steps in price.items()
    }


def _above(price: Price, start: int) -> dict[str, Decimal]:
    """USD per million tokens of each rate for a call with more than `start` input tokens."""
    return {name: next(usd for step, usd in reversed(steps) if step <= start) for name, steps in price.items()}
