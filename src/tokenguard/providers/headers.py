"""What is told of an answer in its headers alone: that a gateway had kept it, its cost, its tier, what was cached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.hosts import UNKNOWN, Endpoint, listed
from tokenguard.providers.reading import REPORTED_ESTIMATE, Reading, amount, believed, count, with_cached

KEEPERS: Final = frozenset({"cloudflare", "helicone", "openrouter", "portkey"})
"""Gateways that keep answers, and give one again for nothing. So may any proxy that nobody knows."""
KEPT: Final = {
    "cf-aig-cache-status": ("hit",),  # https://developers.cloudflare.com/ai-gateway/features/caching
    "x-portkey-cache-status": ("hit", "semantic hit"),  # https://portkey.ai/docs/api-reference/response-schema
    "helicone-cache": ("hit",),  # https://docs.helicone.ai/features/advanced-usage/caching
    "x-openrouter-cache-status": ("hit",),  # https://openrouter.ai/docs/guides/features/response-caching
    "x-litellm-cache-hit": ("true",),  # https://docs.litellm.ai/docs/proxy/caching
    "x-cache-status": ("hit",),  # https://developer.konghq.com/plugins/ai-semantic-cache
}
"""The headers by which they say so, with what each has then, in lower case."""

LITELLM: Final = "litellm"
"""What `[hosts]` may call a proxy of LiteLLM's; one that nobody has named is known by its headers."""
OF_LITELLM: Final = ("x-litellm-call-id", "x-litellm-version", "x-litellm-model-id", "x-litellm-response-cost")
COST: Final = "x-litellm-response-cost"
"""USD by LiteLLM's own list and its operator's settings (https://docs.litellm.ai/docs/proxy/response_headers)."""
CACHED: Final = "fireworks-cached-prompt-tokens"
"""https://docs.fireworks.ai/guides/prompt-caching"""
SERVICE_TIER: Final = {
    "aws.bedrock": "x-amzn-bedrock-service-tier",  # of `InvokeModel`: Converse has it in the answer
    "gcp.gemini": "x-gemini-service-tier",  # https://ai.google.dev/gemini-api/docs/priority-inference
}
"""By provider: the header with the tier that a call was served in."""
SPEED: Final = "x-amzn-bedrock-performanceconfig-latency"
"""The same of Bedrock's latency."""
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""By name in any case, or as pairs."""


class ByHeaders(NamedTuple):
    """What the headers of an answer say."""

    kept: bool = False
    """That a gateway had kept the answer, which is free then."""
    reckons: bool = False
    """That the gateway says what it takes a call to cost; it need not be what its operator is charged."""
    cost: float | None = None
    """USD, where it says so there: not of a stream, whose headers are sent before there is an answer."""
    cached: int | None = None
    """The tokens that were read from a cache."""
    service_tier: str | None = None
    speed: str | None = None
    """As `Reading` has them."""

    def into(self, reading: Reading) -> Reading:
        """What an answer says, with what its headers do."""
        reading = with_cached(reading, self.cached)
        if self.service_tier is not None or self.speed is not None:
            tier, speed = self.service_tier or reading.service_tier, self.speed or reading.speed
            reading = reading._replace(service_tier=tier, speed=speed)
        if not self.reckons:
            return reading
        # Zero is what LiteLLM says of a model whose price it does not know
        cost = self.cost or reading.reported_cost or None
        return reading._replace(reported_cost=cost, basis=reading.basis if cost is None else REPORTED_ESTIMATE)


@lru_cache(maxsize=512)
def tells(endpoint: Endpoint) -> bool:
    """Whether who answers may say more in headers: a gateway, somebody's proxy, or one of a few providers.

    >>> tells(Endpoint("openai", "api.openai.com", 443)), tells(Endpoint("unknown", "llm.internal", 443))
    (False, True)
    """
    provider = listed(endpoint.host)
    return provider is None or provider in KEEPERS or provider == "fireworks" or provider in SERVICE_TIER


def by_headers(endpoint: Endpoint, headers: Headers, *, stream: bool) -> ByHeaders | None:
    """What the headers of an answer say; `None`: nothing. Of pairs the last of a name counts.

    A host that `[hosts]` gives to a provider is priced as that; its word on costs counts if it is called `litellm`.

    >>> by_headers(Endpoint("unknown", "llm.internal", 443), {"x-litellm-response-cost": "0.5"}, stream=False).cost
    0.5
    >>> by_headers(Endpoint("unknown", "kong.internal", 443), {"x-cache-status": "HIT"}, stream=True).kept
    True
    >>> by_headers(Endpoint("unknown", "kong.internal", 443), [("X-Cache-Status", "Hit")], stream=True).kept
    True
    >>> bedrock = Endpoint("aws.bedrock", "bedrock-runtime.us-east-1.amazonaws.com", 443)
    >>> by_headers(bedrock, {"x-amzn-bedrock-service-tier": "flex"}, stream=True).service_tier
    'flex'
    """
    if not tells(endpoint):
        return None
    if not isinstance(headers, Mapping):
        headers = {name.lower(): value for name, value in headers}
    if (tier := SERVICE_TIER.get(endpoint.provider)) is not None:
        served, speed = headers.get(tier), headers.get(SPEED)
        return ByHeaders(service_tier=served, speed=speed) if served or speed else None
    reckons = endpoint.provider in (UNKNOWN, LITELLM) and any(headers.get(name) is not None for name in OF_LITELLM)
    told = ByHeaders(
        kept=any(str(headers.get(name, "")).lower() in words for name, words in KEPT.items()),
        reckons=reckons,
        cost=believed(amount(headers.get(COST))) if reckons and not stream else None,
        cached=count(headers.get(CACHED)) if endpoint.provider == "fireworks" else None,
    )
    return told if any(told) else None
