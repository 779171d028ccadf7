"""What tokens cost: the user's overrides first, then the price book of `genai-prices`.

Rates are resolved once for a provider, a model, a tier and half an hour (some prices depend on the time of day), and
multiplied after that. `genai-prices` is imported at the first look-up, its own unbounded caches are never touched, and
its auto-update is off unless the application itself starts it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from tokenguard import names
from tokenguard.call import Cost
from tokenguard.errors import PolicyError
from tokenguard.usage import Usage

MTOK = 1_000_000
NANO = 1_000_000_000
BUCKET_NS = 1800 * NANO
MAX_MODEL_LENGTH = 300


class Tier(NamedTuple):
    """What changes a model's rates, as the response says it; `None` is the standard."""

    service: str | None = None
    """`batch`, `flex`, `priority`, `fast`; `default`, `standard`, `auto` and unknown ones are the standard."""
    speed: str | None = None
    """Anthropic's `fast`."""


STANDARD = Tier()


class Rates(NamedTuple):
    """USD per million tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    """Writes with the provider's usual lifetime: 5 minutes at Anthropic, 30 at OpenAI."""
    cache_write_1h: float
    cache_write_12h: float
    input_audio: float
    cache_audio_read: float
    output_audio: float
    input_image: float

    def scaled(self, factor: float) -> Rates:
        """All rates times `factor`."""
        return Rates(*(rate * factor for rate in self))


class Price(NamedTuple):
    """The rates of one model, by size of the input: past a threshold the dearer rates hold for the whole call."""

    bands: tuple[tuple[int, Rates], ...]
    """(input tokens above which they hold, rates), ascending; the first is 0."""
    source: str
    """Where the rates come from."""
    basis: str | None = None
    """What was assumed about the whole price."""
    assumed: frozenset[str] = frozenset()
    """The rates that the price book lacks and that were derived: a call that uses one is estimated."""
    model: str = ""
    """The model as the price book names it."""

    def at(self, input_tokens: int) -> Rates:
        """The rates for a call with this much input."""
        bands = self.bands
        rates = bands[0][1]
        for start, dearer in bands[1:]:
            if input_tokens > start:
                rates = dearer
        return rates


PROVIDER_IDS = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "moonshot_ai": "moonshotai",
    "z_ai": "zai",
}
"""OpenTelemetry's provider names where the price book has another."""

ASSUMED_TIERS = {
    # Half price for batches: OpenAI, Anthropic, Google, Mistral and Groq, each on its pricing page.
    "batch": 0.5,
    "flex": 0.5,
    # https://openai.com/api/pricing: priority processing is 1.7 to 2 times the standard; the dearer is assumed.
    "priority": 2.0,
    "fast": 2.0,
}
"""What a tier does to the standard rates where the price book has no rates of its own for it."""

DERIVED_WRITES = {
    # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing
    "claude": {"cache_write": 1.25, "cache_write_1h": 2.0},
    # https://openai.com/api/pricing, models with priced writes: 30 minutes 1.25x, 12 hours 2.5x.
    "gpt": {"cache_write_12h": 2.5},
}
"""Multiples of the input rate for cache writes, by a part of the model's name, where the price book is silent."""


class PriceBook:
    """Prices calls. Its methods are safe from any thread, and `cost` never raises for anything a provider reports.

    `overrides` maps globs of `provider/model` to `"provider/model"` (priced like that one) or to a table of USD per
    million tokens (`input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`, `cache_write_12h`); the first
    match wins. The provider may be OpenTelemetry's name or the price book's (`azure.ai.openai` or `azure`).
    """

    def __init__(self, overrides: Mapping[str, str | Mapping[str, float]] | None = None) -> None:
        self._overrides = [(glob.lower(), _checked(glob, value)) for glob, value in (overrides or {}).items()]
        self._resolve = lru_cache(maxsize=1024)(self._resolve_uncached)
        self._warming = False

    def warm(self) -> None:
        """Load the price book in the background, while the first request is on its way."""
        if not self._warming:
            self._warming = True
            threading.Thread(target=_providers, name="tokenguard-prices", daemon=True).start()

    # --- looking up ----------------------------------------------------------------------------------------------

    def price(
        self, provider: str, models: Sequence[str | None], *, tier: Tier = STANDARD, at_ns: int | None = None
    ) -> Price | None:
        """The price of the first of `models` that has one (the model that answered, then the one asked for)."""
        at = datetime.now(UTC).timestamp() * NANO if at_ns is None else at_ns
        return self._resolve(provider, tuple(models), tier, int(at // BUCKET_NS))

    def _resolve_uncached(self, provider: str, models: tuple[str | None, ...], tier: Tier, bucket: int) -> Price | None:
        known = [model.lower() for model in models if model and len(model) <= MAX_MODEL_LENGTH]
        at = datetime.fromtimestamp(bucket * BUCKET_NS / NANO, UTC)
        provider_id = PROVIDER_IDS.get(provider, provider)
        # The request's name goes first here: an Azure deployment or an alias is what an override is written for.
        for model in reversed(known):
            for glob, value in self._overrides:
                if fnmatchcase(f"{provider}/{model}", glob) or fnmatchcase(f"{provider_id}/{model}", glob):
                    if isinstance(value, Rates):
                        factor, basis = _assumed_tier(tier)
                        return Price(((0, value.scaled(factor)),), f'override "{glob}"', basis, model=model)
                    alias_provider, _, alias = value.partition("/")
                    found = _book_price(PROVIDER_IDS.get(alias_provider, alias_provider), alias, tier, at)
                    return found and found._replace(source=f'override "{glob}" = "{value}", {found.source}')
        for model in known:
            if found := _book_price(provider_id, model, tier, at):
                return found
        return None

    # --- pricing -------------------------------------------------------------------------------------------------

    def cost(
        self,
        provider: str,
        models: Sequence[str | None],
        usage: Usage,
        *,
        tier: Tier = STANDARD,
        at_ns: int,
        basis: str | None = None,
    ) -> Cost:
        """What the usage costs; `basis` says that the usage itself is an estimate."""
        price = self._resolve(provider, tuple(models), tier, at_ns // BUCKET_NS)
        if price is None:
            return UNPRICED
        sent = usage.input or 0
        rates = price.bands[0][1] if len(price.bands) == 1 else price.at(sent)
        read = usage.cache_read or 0
        written = usage.cache_write or 0
        generated = usage.output or 0
        plain = sent - read - written
        basis = basis or price.basis
        if plain < 0:
            plain, basis = 0, basis or "inconsistent_usage"
        input_cost = plain * rates.input / MTOK
        output_cost = generated * rates.output / MTOK
        read_cost = read * rates.cache_read / MTOK
        write_cost = written * rates.cache_write / MTOK
        if usage.cache_write_1h or usage.cache_write_12h:
            one, twelve = usage.cache_write_1h or 0, usage.cache_write_12h or 0
            usual = max(written - one - twelve, 0)
            write_cost = (
                usual * rates.cache_write + one * rates.cache_write_1h + twelve * rates.cache_write_12h
            ) / MTOK
        if usage.input_audio or usage.output_audio or usage.input_image:
            heard = min(usage.input_audio or 0, plain)
            seen = min(usage.input_image or 0, plain - heard)
            spoken = min(usage.output_audio or 0, generated)
            input_cost += (heard * (rates.input_audio - rates.input) + seen * (rates.input_image - rates.input)) / MTOK
            output_cost += spoken * (rates.output_audio - rates.output) / MTOK
        if price.assumed and basis is None:
            basis = _assumption(price.assumed, usage)
        return Cost(
            names.ESTIMATED if basis else names.EXACT,
            basis,
            input_cost + output_cost + read_cost + write_cost,
            input_cost,
            output_cost,
            read_cost,
            write_cost,
            (read + written) * rates.input / MTOK - read_cost - write_cost,
        )

    def worst_case(self, price: Price, input_tokens: int, output_tokens: int) -> float:
        """USD that a call can cost at the most: all of its input at the dearest rate it could be billed at."""
        rates = price.at(input_tokens)
        dearest = max(rates.input, rates.cache_write, rates.cache_write_1h, rates.input_audio, rates.input_image)
        return (input_tokens * dearest + output_tokens * max(rates.output, rates.output_audio)) / MTOK


UNPRICED = Cost()


def as_reported(cost: Cost, usd: float) -> Cost:
    """The cost that the provider itself reports; its parts in the proportions of the price book, where it has any."""
    if cost.total is None or cost.input is None or not cost.total:
        return Cost(names.EXACT, None, usd)
    share = usd / cost.total
    output, read, written, saved = ((part or 0.0) * share for part in cost[4:])
    return Cost(names.EXACT, None, usd, usd - output - read - written, output, read, written, saved)


def nano(usd: float) -> int:
    """USD as whole nano-dollars, rounded up; what ledgers add."""
    return math.ceil(round(usd * NANO, 3))


def _assumption(assumed: frozenset[str], usage: Usage) -> str | None:
    """The derived rate that this usage needs, if any, as a basis."""
    usual = (usage.cache_write or 0) - (usage.cache_write_1h or 0) - (usage.cache_write_12h or 0)
    for rate, tokens in (
        ("cache_read", usage.cache_read),
        ("cache_write", usual),
        ("cache_write_1h", usage.cache_write_1h),
        ("cache_write_12h", usage.cache_write_12h),
        ("input_audio", usage.input_audio),
        ("output_audio", usage.output_audio),
    ):
        if tokens and rate in assumed:
            return f"assumed_{rate}"
    return None


# --- overrides -------------------------------------------------------------------------------------------------------

OVERRIDE_KEYS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "cache_write_12h")


def _checked(glob: str, value: str | Mapping[str, float]) -> str | Rates:
    """An override's value, ready to use; raises `PolicyError` when it is none."""
    if "/" not in glob:
        raise PolicyError(f'[prices] "{glob}": the key is "provider/model", as in "azure/my-gpt4o-prod"')
    if isinstance(value, str):
        if "/" not in value:
            raise PolicyError(f'[prices] "{glob}" = "{value}": the value is "provider/model", as in "openai/gpt-4o"')
        return value.lower()
    for key, rate in value.items():
        if key not in OVERRIDE_KEYS:
            raise PolicyError(f'[prices] "{glob}": unknown rate "{key}"; known are {", ".join(OVERRIDE_KEYS)}')
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
            raise PolicyError(f'[prices] "{glob}": {key} = {rate!r} is no rate; give USD per million tokens, 0 or more')
    if "input" not in value:
        raise PolicyError(f'[prices] "{glob}": "input" is missing; give USD per million input tokens')
    rates, _ = _rates(dict(value), glob.lower())
    return rates


# --- the price book --------------------------------------------------------------------------------------------------


def _providers() -> list[Any]:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot().providers


def _book_price(provider_id: str, model: str, tier: Tier, at: datetime) -> Price | None:
    from genai_prices.data_snapshot import find_provider_by_id

    # Not `find_provider_model`: it remembers every name it is ever asked for.
    providers = _providers()
    provider = find_provider_by_id(providers, provider_id)
    if provider is None:
        return None
    for name in _spellings(provider_id, model):
        found = provider.find_model(name, all_providers=providers)
        if found is not None:
            return _price_of(provider, found, tier, at)
    if provider_id == "openrouter" and model.endswith(":free"):
        return Price(((0, Rates(*[0.0] * 10)),), 'openrouter ":free"', model=model)
    return None


def _spellings(provider_id: str, model: str) -> list[str]:
    """The names under which the price book may know a model, the given one first."""
    spellings = [model]
    if "/" in model and provider_id not in ("openrouter", "together", "fireworks"):
        # models/gemini-2.5-pro; publishers/google/models/...; arn:aws:bedrock:...:inference-profile/us.anthropic...
        spellings.append(model.rsplit("/", 1)[1])
    if provider_id == "openrouter" and ":" in model:
        spellings.append(model.rsplit(":", 1)[0])  # :nitro, :floor, :exacto choose a route, not a price list
    if provider_id == "aws":
        spellings += [name.split(".", 1)[1] for name in tuple(spellings) if name.startswith(REGIONS)]
    return spellings if not model.endswith(":free") else [model]


REGIONS = ("us.", "eu.", "apac.", "jp.", "au.", "ca.", "us-gov.", "global.")
"""Prefixes of Bedrock's cross-region inference profiles."""

PRICE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "cache_audio_read": "cache_audio_read_mtok",
    "output_audio": "output_audio_mtok",
    "input_image": "input_image_mtok",
}


def _price_of(provider: Any, model: Any, tier: Tier, at: datetime) -> Price | None:
    context = _context(tier)
    own = any(model is each for each in provider.models)
    applied = own and any(
        (variant.constraint is None or variant.constraint.active(at))
        and all(context.get(key) == value for key, value in variant.when.items())
        for variant in model.price_variants or ()
    )
    listed = model.get_prices(at, context if applied else None)
    prices = {ours: getattr(listed, theirs, None) for ours, theirs in PRICE_KEYS.items()}
    if prices["input"] is None and prices["output"] is None:
        return None  # priced by something that is not tokens
    starts = sorted({t.start for price in prices.values() if hasattr(price, "tiers") for t in price.tiers})
    bands = []
    assumed: frozenset[str] = frozenset()
    factor, basis = (1.0, None) if applied or not context else _assumed_tier(tier)
    for start in (0, *starts):
        given = {ours: _rate_above(price, start) for ours, price in prices.items() if price is not None}
        rates, assumed = _rates(given, model.id)
        bands.append((start, rates.scaled(factor) if factor != 1.0 else rates))
    from genai_prices import __version__

    return Price(tuple(bands), f"genai-prices {__version__}, {provider.id}", basis, assumed, model.id)


def _context(tier: Tier) -> dict[str, str]:
    if tier.service == "batch":
        return {"processing": "batch"}
    if tier.service in ASSUMED_TIERS:
        return {"service_tier": str(tier.service)}
    return {"speed": "fast"} if tier.speed == "fast" else {}


def _assumed_tier(tier: Tier) -> tuple[float, str | None]:
    name = tier.service if tier.service in ASSUMED_TIERS else tier.speed if tier.speed in ASSUMED_TIERS else None
    return (ASSUMED_TIERS[name], f"assumed_{name}") if name else (1.0, None)


def _rate_above(price: Any, start: int) -> float:
    if not hasattr(price, "tiers"):
        return float(price)
    rate = price.base
    for each in price.tiers:
        if each.start <= start and start > 0:
            rate = each.price
    return float(rate)


def _rates(given: dict[str, float], model: str) -> tuple[Rates, frozenset[str]]:
    """All rates from those that are listed, and the names of those that had to be assumed."""
    plain, out = given.get("input", 0.0), given.get("output", 0.0)
    derived = next((factors for part, factors in DERIVED_WRITES.items() if part in model), {})
    assumed = set()

    def rate(name: str, otherwise: float, *, certain: bool = False) -> float:
        if name in given:
            return given[name]
        if not certain:
            assumed.add(name)
        return derived[name] * plain if name in derived else otherwise

    read = rate("cache_read", plain)
    # A model with no price for writing charges the plain rate for it, unless its family is known for a premium.
    write = rate("cache_write", plain, certain="cache_write" not in derived)
    rates = Rates(
        plain,
        out,
        read,
        write,
        rate("cache_write_1h", write),
        rate("cache_write_12h", write),
        rate("input_audio", plain),
        rate("cache_audio_read", read),
        rate("output_audio", out),
        rate("input_image", plain, certain=True),
    )
    return rates, frozenset(assumed)
