"""What a price list may call a provider and a model, as two tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "aws.bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "gcp.gen_ai": "google",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "mistral_ai": "mistral",
    "groq": "groq",
    "deepseek": "deepseek",
    "x_ai": "x-ai",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "moonshot_ai": "moonshotai",
    "z_ai": "zai",
    "minimax": "minimax",
    "cerebras": "cerebras",
    "fireworks": "fireworks",
    "together": "together",
    "together_ai": "together",
    "openrouter": "openrouter",
    "novita": "novita",
    "baseten": "baseten",
    "databricks": "databricks",
    "cloudflare": "cloudflare",
    "voyage_ai": "voyageai",
    "voyageai": "voyageai",
    "huggingface": "huggingface",
    "hugging_face": "huggingface",
}
"""OpenTelemetry's `gen_ai.provider.name`, and our names for hosts it does not know, to the ids of `genai-prices`.

In the order in which a model named alone is looked for. A name that is not here is taken for an id itself, by exact
match: a proxy that is called `my-openai` is nobody's list price.
"""

MAKERS: Final = tuple(
    PROVIDERS[name]
    for name in ("openai", "anthropic", "gcp.gemini", "mistral_ai", "deepseek", "x_ai", "cohere", "moonshot_ai", "z_ai")
)
"""Sellers of models of their own, in the order in which a model behind an unknown host is looked for."""
GATEWAYS: Final = frozenset(
    {"unknown", "litellm", "vercel", "requesty", "llmgateway", "cloudflare", "helicone", "portkey", "snowflake"}
)
"""Providers that pass calls on: what they do not sell themselves is priced as its maker does, as an estimate."""

PREFIXES: Final[Mapping[str, str]] = {
    **PROVIDERS,
    **dict.fromkeys(("azure", "azure_ai", "azure-openai"), "azure"),
    **dict.fromkeys(("bedrock", "amazon-bedrock", "aws-bedrock", "amazon"), "aws"),
    **dict.fromkeys(("vertex_ai", "vertex", "google-vertex-ai", "google-ai-studio", "gemini", "google"), "google"),
    **dict.fromkeys(("xai", "grok"), "x-ai"),
    "fireworks_ai": "fireworks",
    "mistral": "mistral",
    "moonshotai": "moonshotai",
    "zai": "zai",
}
"""What gateways put before a model's name to say who is to serve it, to the price list's ids.

LiteLLM (https://docs.litellm.ai/docs/providers), Cloudflare
(https://developers.cloudflare.com/ai-gateway/usage/chat-completion), Vercel (https://vercel.com/ai-gateway/models),
Portkey (`@name-of-an-integration/gpt-4o`, https://portkey.ai/docs/product/model-catalog). Helicone has it behind, in a
list of which the first is tried first: `gpt-4o/azure,gpt-4o/openai` (https://docs.helicone.ai/gateway/provider-routing).
"""

REQUEST_NAMES_THE_PRICE: Final = frozenset({"aws"})
"""Sellers where the model that was asked for says more about the price than the one that answered.

Bedrock prices a cross-region profile (`global.anthropic...`) apart; the response has only `claude-...`.
"""


class Spelling(NamedTuple):
    """A rewriting of model names."""

    provider_ids: str
    """Whose names it rewrites, by the price list's ids; empty for all."""
    pattern: re.Pattern[str]
    replacement: str
    basis: str | None = None
    """What a price found under the rewritten name is marked with; `None` where the two name the same thing."""


SNAPSHOT: Final = r"\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{4}|latest"
"""How providers mark a model's snapshots: 20250929, 2024-08-06, 08-2024, 05-06, 2411."""

SPELLINGS: Final = (
    # arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-...; the other kinds are opaque.
    Spelling("aws", lazy(r"^arn:[^:/]+:bedrock:[^:/]*:[^:/]*:(?:foundation-model|inference-profile)/"), ""),
    # models/gemini-2.5-pro, publishers/anthropic/models/claude-..., projects/p/locations/l/publishers/google/models/...
    Spelling("google", lazy(r"^(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?models/"), ""),
    # google/gemini-2.5-pro: Vertex AI's OpenAI-compatible endpoint
    Spelling("google", lazy(r"^[a-z0-9_-]+/(?=[^/]+$)"), ""),
    Spelling("fireworks", lazy(r"^(?!accounts/)(?=[^/]+$)"), "accounts/fireworks/models/"),
    # openai/gpt-4o:nitro chooses a route, not a price list; `:free` does, and stays.
    Spelling("openrouter", lazy(r":(?:nitro|floor|online|exacto|extended|thinking|beta)$"), ""),
    # ft:gpt-4.1-2025-04-14:org::id as people write it in overrides; the price list knows only dated ones.
    Spelling("openai azure", lazy(r"^(ft:[^:]+?)-\d{4}-\d{2}-\d{2}(?=:|$)"), r"\1"),
    # openai.gpt-oss-120b, as Bedrock's OpenAI-compatible endpoint has it (litellm#39866: at the same rates)
    Spelling("aws", lazy(r"^(openai\.gpt-oss-(?:safeguard-)?\d+b)$"), r"\1-1:0"),
    # A Bedrock region that the price list lacks: the model's regional rate.
    Spelling("aws", lazy(r"^(?:us|eu|apac|jp|au|ca|sa|me|af|il|in|us-gov)\."), "", "assumed_region"),
    # From here on it is a guess: the snapshot of a known model, priced as the model.
    Spelling("aws", lazy(r"-v\d+(?::\d+)*(?::\d+k)?$"), "", names.ASSUMED_MODEL),
    Spelling("", lazy(rf"^(?!ft:)(.+?)[-@](?:{SNAPSHOT})$"), r"\1", names.ASSUMED_MODEL),
)
"""Applied one after the other; every step is a name to look for. A fine-tune never becomes its base model."""
_SPELLINGS: Final = {
    seller: tuple(each for each in SPELLINGS if not each.provider_ids or seller in each.provider_ids.split())
    for seller in ("", *(seller for each in SPELLINGS for seller in each.provider_ids.split()))
}
"""Those of a seller; under no name those of all others."""


def seller(provider: str, model: str) -> tuple[str, str]:
    """The price list's id of who sells the model, and the model's name there.

    >>> seller("huggingface", "deepseek-ai/deepseek-r1:together")
    ('huggingface_together', 'deepseek-ai/deepseek-r1')
    """
    provider_id = PROVIDERS.get(provider, provider)
    if provider_id == "huggingface":  # a router: the suffix says who serves it
        model, _, host = model.partition(":")
        provider_id = f"huggingface_{host}"
    return provider_id, model


def passed_on(model: str) -> Sequence[tuple[str, str]]:
    """Who may sell what is called so behind a gateway, by the price list's ids, and what it is called there.

    >>> passed_on("azure/gpt-4o")[:2]
    [('azure', 'gpt-4o'), ('openai', 'gpt-4o')]
    >>> passed_on("anthropic/claude-sonnet-4-5")
    [('anthropic', 'claude-sonnet-4-5')]
    """
    name = model.partition(",")[0]
    if name.startswith("@"):
        name = name.partition("/")[2] or name
    first, _, rest = name.partition("/")
    before, _, last = name.rpartition("/")
    named, name = next(
        ((PREFIXES[by], other) for by, other in ((first, rest), (last, before)) if other and by in PREFIXES),
        ("", name),
    )
    if named in MAKERS:
        return [(named, name)]
    return [(each, name) for each in (named, *MAKERS) if each]


def spellings(provider_id: str, model: str) -> Sequence[tuple[str, str | None]]:
    """The names to look for, the given one first, each with the basis of a price that is found under it.

    >>> spellings("google", "models/gemini-2.5-pro")
    (('models/gemini-2.5-pro', None), ('gemini-2.5-pro', None))
    """
    return _spelt(provider_id if provider_id in _SPELLINGS else "", model)


@lru_cache(maxsize=64)
def _spelt(seller: str, model: str) -> tuple[tuple[str, str | None], ...]:
    """What several places ask for one after the other, and nearly all sellers have the same of."""
    found: list[tuple[str, str | None]] = [(model, None)]
    basis = None
    for spelling in _SPELLINGS[seller]:
        rewritten = spelling.pattern.sub(spelling.replacement, found[-1][0], count=1)
        if rewritten != found[-1][0]:
            basis = basis or spelling.basis
            found.append((rewritten, basis))
    return tuple(found)
