"""`PriceBook`: resolves a model's rates once, and multiplies after that."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.prices import listed
from tokenguard.prices.made import ROUTED, made, router
from tokenguard.prices.models import GATEWAYS, MAKERS, PROVIDERS, REQUEST_NAMES_THE_PRICE, passed_on, seller
from tokenguard.prices.rates import (
    FACTOR,
    NO_UNITS,
    Dearest,
    Rates,
    charge,
    charged,
    complete,
    dearest,
    dollars,
    nano,
    without_rates,
    worst_case,
)
from tokenguard.prices.tiers import STANDARD, Tier, assumed, has_factor, marks
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.prices.overrides import Override

log = Log("tokenguard")

ASSUMED_PROVIDER: Final = "assumed_provider"
"""The basis of a price of a model's maker, for a call to somebody else."""
GLOBAL: Final = "assumed_global"
"""The basis of a price of deployments that may work anywhere; those that keep to a zone or a region cost a tenth more.

Which a deployment is, no answer tells: https://learn.microsoft.com/azure/ai-foundry/openai/how-to/deployment-types.
"""
KEEPS_ITS_ZONE: Final = frozenset({"azure"})
"""Whose deployments do, or do not."""
STATED_BY_FACTOR: Final = frozenset({GLOBAL, "assumed_region"})
"""What a factor in `[prices]` settles."""
ESTIMATES: Final = (
    'tokenguard: no price is known for %s at %s; by unpriced = "estimate" it is priced as %s, at its dearest rates. '
    "Update the price list (pip install -U genai-prices), or give its rates under [prices]."
)

Model = str | tuple[str | None, ...] | None
"""A model's name, or several for one call: the model that answered, then the one that was asked for."""

CEILING: Final = "the policy's ceiling for models without a price"

MAX_NAME: Final = 256
"""Characters. No model has a longer name; what is longer is unpriced, and not remembered."""

SELLS_TOKENS: Final = Rates._fields.index("sells_tokens")
SLOT_NS: Final = 1_800 * 10**9
"""Rates hold for half an hour: some depend on the date, and DeepSeek's on the time of day, in half hours."""

UNPRICED: Final = Cost()


class PriceBook:
    """Prices calls. Its methods are safe from any thread and raise nothing for whatever a provider reports.

    `overrides` maps globs of `provider/model` to `"provider/model"` (priced like that one) or to a table of USD per
    million tokens by the names of `Usage`; the first match wins. A table of fees for hosted tools alone, or a factor,
    is laid over the price that holds otherwise. A glob's provider is OpenTelemetry's name or the price list's
    (`azure.ai.openai` or `azure`). `origin` is where they stand, for messages and sources. `ceiling`, USD per million
    input and output tokens, is what ledgers assume for a model without a price; its cost stays unknown.
    With `estimates`, such a model is priced as the one most like it, marked `nearest_model`.
    At most `size` resolved models are remembered. Raises `PolicyError` for overrides that cannot be used.

    >>> book = PriceBook({"azure/my-gpt4o-prod": "openai/gpt-4o"})
    >>> book.cost("azure.ai.openai", "my-gpt4o-prod", Usage(input=1_000_000, output=0)).total
    2.5
    """

    def __init__(
        self,
        overrides: Mapping[str, str | Mapping[str, float]] | None = None,
        ceiling: tuple[float, float] | None = None,
        *,
        origin: str = "[prices]",
        size: int = 1024,
        estimates: bool = False,
    ) -> None:
        stated: tuple[Override, ...] = ()
        if overrides:
            from tokenguard.prices.overrides import read

            stated = read(overrides, origin)
        self._overrides = tuple(each for each in stated if not each.of_fees)
        self._fees = tuple(each for each in stated if each.of_fees)
        self._ceiling = None if ceiling is None else _ceiling(*ceiling)
        self._estimates = estimates
        self._say_estimate = lru_cache(maxsize=size)(partial(log.warning, ESTIMATES))
        self._resolve = lru_cache(maxsize=size)(self._look_up)
        self._dearest = lru_cache(maxsize=size)(self._look_up_dearest)

    def warm(self, provider: str = "") -> None:
        """Load the price list now, and what this provider sells, so that no call has to.

        In the calling thread: another thread's imports beside the application's own can leave either with half a
        module.
        """
        listed.load(PROVIDERS.get(provider, provider))

    @staticmethod
    def newest() -> float | None:
        """When the newest price in the list took effect, in Unix seconds; `None` before the list is needed."""
        return listed.newest()

    # --- rates ------------------------------------------------------------------------------------------------------

    def rates(self, provider: str, model: Model, tier: Tier = STANDARD, at_ns: int | None = None) -> Rates | None:
        """The rates of a model at a time (Unix nanoseconds; now) and tier; `None` when it has no known price.

        Of several names, an override for the last counts most: an Azure deployment's or an alias's name is what
        overrides are written for. After them comes the price list, for the model that answered first.
        """
        try:
            slot = (time.time_ns() if at_ns is None else at_ns) // SLOT_NS
            return self._resolve(provider, model, tier, slot, listed.edition())
        except LookupError:
            return None

    def _look_up(self, provider: str, model: Model, tier: Tier, slot: int, edition: int) -> Rates | None:
        """By this edition of the list; raises `LookupError` for what no list can know, so that no cache keeps it."""
        given = model if isinstance(model, tuple) else (model,)
        if any(len(text) > MAX_NAME for text in (provider, *given, *tier) if text):
            raise LookupError("a name is too long")
        models = [name.strip().lower() for name in given if name]
        at = datetime.fromtimestamp(slot * SLOT_NS / 1e9, UTC)
        rates = self._priced(provider, models, tier, at)
        if rates is None:
            return None
        over = [each for name in reversed(models) for each in self._fees if each.covers(provider, name)]
        stated: dict[str, Decimal] = {}
        for each in reversed(over):  # of two that say the same the first counts
            if not isinstance(each.value, str):
                stated |= each.value
        if over:
            rates = rates.with_fees(stated, over[0].source)
        if FACTOR in stated and rates.basis in STATED_BY_FACTOR:
            rates = rates._replace(basis=None)
        return rates.looked_through()

    def _priced(self, provider: str, models: list[str], tier: Tier, at: datetime) -> Rates | None:
        for name in reversed(models):
            for override in self._overrides:
                if override.covers(provider, name):
                    return self._overridden(override, name, tier, at)
        asked_first = PROVIDERS.get(provider, provider) in REQUEST_NAMES_THE_PRICE
        models = [*reversed(models)] if asked_first else models
        found = (_sold(provider, name, tier, at) for name in models)
        rates = next((rates for rates in found if rates is not None), None)
        if rates is None and self._estimates:
            name, rates = next(
                ((name, near) for name in models if (near := _like(provider, name, tier, at)) is not None), ("", None)
            )
            if rates is not None:
                self._say_estimate(name, provider, rates.model)
        chose = next((way for name in models if (way := router(PROVIDERS.get(provider, provider), name))), None)
        if rates is not None and chose is not None:
            rates = rates.with_surcharge(chose.usd_per_mtok, ROUTED, chose.source)
        if rates is not None and PROVIDERS.get(provider, provider) in KEEPS_ITS_ZONE and rates.bands[0][1].input:
            rates = rates._replace(basis=rates.basis or GLOBAL)
        return rates

    def _look_up_dearest(
        self,
        provider: str,
        model: Model,
        tier: Tier,
        slot: int,
        edition: int,
        writes: tuple[str, ...] | None,
        media: bool,
    ) -> Dearest | None:
        rates = self._resolve(provider, model, tier, slot, edition) or self._ceiling
        return None if rates is None else dearest(rates, writes, media=media)

    def _overridden(self, override: Override, model: str, tier: Tier, at: datetime) -> Rates | None:
        """The rates that an override gives; `None` when it names a model that nobody knows."""
        rates, source, unused = override.value, override.source, list(self._overrides)
        while isinstance(rates, str):  # an alias may name what another override is for; each is used once
            unused.remove(override)
            provider, _, model = rates.partition("/")
            following = next((each for each in unused if each.covers(provider, model)), None)
            if following is None:
                found = _sold(provider, model, tier, at)
                return None if found is None else found._replace(source=f"{source}; {found.source}")
            override, rates, source = following, following.value, f"{source}; {following.source}"
        provider_id, _ = seller(override.key.partition("/")[0], model)
        known = [mark for mark in marks(tier, provider_id, model) if mark != "region" or has_factor(mark, provider_id)]
        factor, basis = assumed(known, provider_id)  # what is stated holds where the region's factor is not known
        card, derived = complete(rates, model, factor)
        return Rates(((0, card),), source, override.key, basis, tuple(derived.items()), without_rates(rates))

    # --- money ------------------------------------------------------------------------------------------------------

    def cost(
        self,
        provider: str,
        model: Model,
        usage: Usage,
        *,
        tier: Tier = STANDARD,
        at_ns: int | None = None,
        basis: str | None = None,
    ) -> Cost:
        """What a call costs, in USD; `basis` says that the usage itself is an estimate.

        `Cost()`, unpriced, without a known price or without any known count. `input` holds a fee per request, if any.
        """
        try:  # `rates`, written out for each call
            slot = (time.time_ns() if at_ns is None else at_ns) // SLOT_NS
            rates = self._resolve(provider, model, tier, slot, listed.edition())
        except LookupError:
            return UNPRICED
        if rates is None or not ((rates[SELLS_TOKENS] and usage[0] is not None) or rates.covers(usage)):
            return UNPRICED
        return dollars(charged(rates, usage, basis))

    def cost_nano(
        self, provider: str, model: Model, usage: Usage, *, tier: Tier = STANDARD, at_ns: int | None = None
    ) -> int | None:
        """What a call costs, in nano-dollars rounded up, for ledgers: exact integers, and the ceiling for unknown."""
        rates = self.rates(provider, model, tier=tier, at_ns=at_ns) or self._ceiling
        return None if rates is None or not rates.covers(usage) else nano(charge(rates, usage))

    def worst_case_nano(
        self,
        provider: str,
        model: Model,
        input_tokens: int,
        output_tokens: int,
        *,
        tier: Tier = STANDARD,
        at_ns: int | None = None,
        writes: tuple[str, ...] | None = None,
        media: bool = True,
        requests: int = 1,
        made: Usage | None = None,
    ) -> int | None:
        """The most a call can cost, in nano-dollars: all input at the dearest rate it could be billed at.

        `input_tokens` and `output_tokens` are upper bounds. `writes` are the cache writes that the request can cause,
        as counts of `Usage` (`("cache_write",)`; `()` for none); by default any, if the model has a listed write rate.
        `media=False` says that the request has no audio or images. `requests` is how many it is billed as. `made` is
        what comes on top of the tokens: pictures, seconds, and tokens of them. `None`: no known price, and no ceiling.
        """
        slot = (time.time_ns() if at_ns is None else at_ns) // SLOT_NS
        try:
            bands = self._dearest(provider, model, tier, slot, listed.edition(), writes, media)
        except LookupError:
            bands = None if self._ceiling is None else dearest(self._ceiling, writes, media=media)
        if bands is None:
            return None
        most = worst_case(bands, input_tokens, output_tokens, requests)
        if made is None:
            return most
        rates = self.rates(provider, model, tier=tier, at_ns=at_ns) or self._ceiling
        if rates is None or not rates.covers(made):
            return None
        return most + nano(charge(rates, made._replace(request=0)))


def _sold(provider: str, model: str, tier: Tier, at: datetime) -> Rates | None:
    """The listed rates of a model at its seller; behind a gateway or an unknown host its maker's, as a guess."""
    rates = _listed(*seller(provider, model), tier, at)
    if rates is not None or provider not in GATEWAYS:
        return rates
    for each, name in passed_on(model):
        rates = _listed(each, name, tier, at)
        if rates is not None:
            return rates._replace(basis=rates.basis or ASSUMED_PROVIDER)
    return None


def _listed(provider_id: str, model: str, tier: Tier, at: datetime) -> Rates | None:
    """By the price list, or where that does not know it, by what it makes."""
    return listed.listed(provider_id, model, tier, at) or made(provider_id, model, tier)


def _like(provider: str, model: str, tier: Tier, at: datetime) -> Rates | None:
    """The dearest listed rates of the model that is most like one that nobody lists, of the same family."""
    provider_id, name = seller(provider, model)
    family = re.match(r"[a-z]+", name.rpartition("/")[2])
    sellers = MAKERS if provider in GATEWAYS else (provider_id,)
    candidates = [near for each in sellers for near in listed.nearest(each, name)] if family else []
    for near in candidates:
        seller_id, _, its = near.partition("/")
        if family is not None and its.rpartition("/")[2].lower().startswith(family[0]):
            rates = listed.listed(seller_id, its.lower(), tier, at)
            if rates is not None and seller_id in sellers:
                return rates._replace(bands=((0, rates.bands[-1][1]),), basis=listed.NEAREST)
    return None


def _ceiling(input_per_mtok: float, output_per_mtok: float) -> Rates:
    card, _ = complete({"input": Decimal(str(input_per_mtok)), "output": Decimal(str(output_per_mtok))}, "")
    return Rates(((0, card),), CEILING, "", "assumed_ceiling", unlisted=NO_UNITS)
