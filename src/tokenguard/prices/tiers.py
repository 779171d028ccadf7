"""`Tier`: what changes a model's rates besides the model, and what is assumed where no price list says by how much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.prices.models import PROVIDERS


class Tier(NamedTuple):
    """What changes a model's rates, in the provider's own words as the response has them; `None` is the standard."""

    service: str | None = None
    """`service_tier`: `batch`, `flex`, `priority`, `fast`, or one of the many names of the standard."""
    speed: str | None = None
    """Anthropic's `speed`: `fast`; Bedrock's `performanceConfig.latency`: `optimized`."""
    geo: str | None = None
    """Anthropic's `inference_geo`, or where a host keeps the work: `regional`, `sovereign`, `abroad`.

    See `providers.geo_of`.
    """
    variant: str | None = None
    """The size and quality of what is made, where that has a price by them: `hd-1024x1792`, `1080p` (`prices.made`)."""


STANDARD: Final = Tier()

SERVICES: Final[Mapping[str, str]] = {
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
    "fast": "fast",
    **dict.fromkeys(("", "default", "standard", "auto", "on_demand", "standard_only"), ""),
    # Vertex AI's `usageMetadata.trafficType`
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
    # Capacity that is paid by the hour or month: the list price is only what it would have cost.
    **dict.fromkeys(("scale", "provisioned", "provisioned_throughput", "reserved"), "prepaid"),
}
"""Providers' words for a service tier, in ours. A word that is not here is priced as the standard, as an estimate."""
STANDARD_SERVICES: Final = frozenset(word for word, meant in SERVICES.items() if not meant)
"""What the standard is called, as providers spell it."""

CONTEXT: Final[Mapping[str, tuple[str, str]]] = {
    "batch": ("processing", "batch"),
    "flex": ("service_tier", "flex"),
    "priority": ("service_tier", "priority"),
    "fast": ("service_tier", "fast"),
    "speed_fast": ("speed", "fast"),
}
"""What `genai-prices` calls each, in its `price_context`."""

FACTORS: Final[Mapping[tuple[str, str], Decimal]] = {
    # Half the standard rates, wherever batches are sold: https://developers.openai.com/api/docs/guides/batch,
    # https://platform.claude.com/docs/en/build-with-claude/batch-processing#pricing, https://ai.google.dev/pricing,
    # https://docs.mistral.ai/capabilities/batch, https://aws.amazon.com/bedrock/pricing, and Azure's global batch.
    ("batch", ""): Decimal("0.5"),
    ("flex", "openai"): Decimal("0.5"),  # https://developers.openai.com/api/docs/guides/flex-processing
    ("flex", "google"): Decimal("0.5"),  # https://ai.google.dev/gemini-api/docs/pricing
    ("flex", "aws"): Decimal("0.5"),  # https://aws.amazon.com/bedrock/pricing
    # Listed priority rates are 1.67 to 2 times the standard; the dearer is assumed.
    ("priority", "openai"): Decimal(2),  # https://developers.openai.com/api/docs/pricing
    ("fast", "openai"): Decimal(2),
    ("priority", "google"): Decimal("1.8"),  # https://ai.google.dev/gemini-api/docs/pricing
    ("priority", "aws"): Decimal("1.75"),  # https://aws.amazon.com/bedrock/pricing
    ("priority", "x-ai"): Decimal(2),  # https://docs.x.ai/developers/pricing
    ("priority", "fireworks"): Decimal("1.25"),  # of Kimi K3: https://docs.fireworks.ai/serverless/pricing
    ("speed_fast", "anthropic"): Decimal(2),  # https://platform.claude.com/docs/en/about-claude/pricing
    # https://platform.claude.com/docs/en/about-claude/pricing: 1.1x for inference that stays in one geography.
    ("region", "anthropic"): Decimal("1.1"),
    ("region", "google"): Decimal("1.1"),  # https://cloud.google.com/vertex-ai/generative-ai/pricing
    ("region", "openai"): Decimal("1.1"),  # https://openai.com/api/pricing, regional processing
    ("region", "together"): Decimal("1.25"),  # https://docs.together.ai/docs/geographic-endpoints
    ("region", "x-ai"): Decimal("1.1"),  # https://docs.x.ai/developers/pricing, of the US regional endpoint
    ("latency", "aws"): Decimal("1.25"),  # https://aws.amazon.com/bedrock/pricing: Nova Pro $1 / $4 for $0.80 / $3.20
}
"""What a tier does to the standard rates of a seller (empty: of any), in the price list's ids. Not here: nothing."""

BY_CONTRACT: Final = frozenset({("priority", "mistral"), ("priority", "cerebras"), ("flex", "cerebras")})
"""Tiers that a seller has for some, by agreement, and at no price that it publishes; an answer need not say that it was
given: https://docs.mistral.ai/inference/priority-tier, https://inference-docs.cerebras.ai/capabilities/service-tiers"""

REGIONAL: Final[Mapping[tuple[str, str], re.Pattern[str]]] = {
    ("anthropic", "us"): lazy(r"claude-(?:opus|sonnet|haiku|fable)-(?:4-[5-9]|4\.[5-9]|[5-9])"),
    ("google", "regional"): lazy(r"claude-\w+-(?:4-[5-9]|[5-9])|gemini-(?:3\.[5-9]|[4-9])"),
    ("openai", "regional"): lazy(r"gpt-(?:5\.[4-9]|[6-9])"),
    ("together", "regional"): lazy(""),
    ("x-ai", "regional"): lazy("grok-"),
    ("openai", "sovereign"): lazy(""),
    ("azure", "sovereign"): lazy(""),
    ("aws", "sovereign"): lazy(""),
    # The list has what Bedrock asks in the US; but Claude costs the same everywhere: https://aws.amazon.com/bedrock/pricing
    ("aws", "abroad"): lazy(r"^(?!.*claude)"),
    # Shops in China, with prices in yuan
    ("moonshotai", "sovereign"): lazy(""),
    ("minimax", "sovereign"): lazy(""),
    ("alibaba", "sovereign"): lazy(""),  # in Beijing, Hong Kong, Frankfurt and Virginia, as it is in Singapore here
}
"""Where inference that stays in one geography costs more, by seller and geography, and the models it is so for.

By how much it does in a cloud that is apart, or by Bedrock outside the US, is in no list: there the standard rates are
assumed.
"""
ABROAD: Final = lazy(r"(?:^|/)(?:eu|apac|jp|au|ca|sa|me|af|il|in)\.|^arn:[^:/]+:bedrock:(?!us-)[a-z]")
"""In names of Bedrock's inference profiles and ARNs that keep the work in a geography other than the US."""


def marks(tier: Tier, provider_id: str, model: str = "", asked: str = "") -> list[str]:
    """What of the tier is not the standard for a model, in the words of `FACTORS`; `asked` is the name it was found by.

    >>> marks(STANDARD, "aws", "amazon.nova-pro-v1:0", "eu.amazon.nova-pro-v1:0")
    ['region']
    """
    service = SERVICES.get((tier.service or "").lower(), "tier")
    found = [service] if service else []
    if (tier.speed or "").lower() == "fast":
        found.append("speed_fast")
    if (tier.speed or "").lower() == "optimized":
        found.append("latency")
    geo = tier.geo.lower() if tier.geo else _named(asked) if provider_id == "aws" else None
    dearer = REGIONAL.get((provider_id, geo)) if geo else None
    if dearer is not None and dearer.search(model):
        found.append("region")
    return found


def _named(model: str) -> str | None:
    """Where Bedrock keeps the work, as the name of a profile says it.

    >>> _named("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0")
    'sovereign'
    """
    if "us-gov" in model:
        return "sovereign"
    return "abroad" if ABROAD.search(model) else None


SILENT: Final = frozenset({"fireworks"})
"""Who serves a call in the tier that was asked for, or not at all, and never says so
(https://docs.fireworks.ai/serverless/serverless-modes; theopenco/llmgateway#3332)."""


def wanted(request: Mapping[str, Any]) -> str | None:
    """The tier that a request asks for, in the provider's words: as text, or in an object of its own (Bedrock).

    >>> wanted({"service_tier": "flex"}), wanted({"serviceTier": {"type": "priority"}}), wanted({})
    ('flex', 'priority', None)
    """
    asked = request.get("service_tier") or request.get("serviceTier")
    if asked is None:  # most requests, and ahead of what takes longer
        return None
    if isinstance(asked, Mapping):
        asked = asked.get("type")
    return asked if isinstance(asked, str) else None


def unanswered(asked: str, provider: str) -> bool:
    """Whether a tier was asked for that has, or may have, a price of its own at the provider, if no answer tells of it.

    >>> unanswered("flex", "openai"), unanswered("auto", "openai"), unanswered("flex", "groq")
    (True, False, False)
    >>> unanswered("priority", "mistral_ai"), unanswered("priority", "cerebras")
    (True, True)
    """
    named = SERVICES.get(asked.lower(), ""), PROVIDERS.get(provider, provider)
    return named in FACTORS or named in BY_CONTRACT


def has_factor(mark: str, provider_id: str) -> bool:
    """Whether it is known what a mark does to the standard rates of a seller."""
    return (mark, provider_id) in FACTORS or (mark, "") in FACTORS


def assumed(unlisted: Iterable[str], provider_id: str) -> tuple[Decimal, str | None]:
    """The factor on the standard rates for marks that no price list covers, and the basis to say so."""
    factor, basis = Decimal(1), None
    for mark in unlisted:
        factor *= FACTORS.get((mark, provider_id), FACTORS.get((mark, ""), Decimal(1)))
        basis = basis or f"assumed_{mark.removeprefix('speed_')}"
    return factor, basis
