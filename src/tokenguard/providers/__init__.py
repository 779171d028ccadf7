"""The providers, as rows: which SDK speaks to them, on which hosts, and in which wire formats.

One table serves the meter and the guard. A new OpenAI-compatible host is one line in `HOSTS`; a new SDK of a known
family is one line in `facts.sdks`; a new wire format is an `Api` in a file of its provider's name, listed in `APIS`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tokenguard.facts.sdks import SDKS, Sdk
from tokenguard.providers import (
    beside,
    cohere,
    decisions,
    google_caches,
    google_live,
    media,
    mistral,
    ollama,
    portkey,
    ranks,
    realtime,
    rented,
    voyage,
    writer,
    xai,
)
from tokenguard.providers.anthropic import MESSAGES
from tokenguard.providers.api import Api
from tokenguard.providers.google import EMBED, EMBED_MULTIMODAL, GENERATE, INTERACTIONS
from tokenguard.providers.google_media import IMAGEN, VEO
from tokenguard.providers.headers import ByHeaders, Headers, by_headers, tells
from tokenguard.providers.hosts import HOSTS, Endpoint, endpoint_of, geo_of, know_hosts, located
from tokenguard.providers.openai import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from tokenguard.providers.reading import Reading

__all__ = [
    "APIS",
    "HOSTS",
    "NOT_GENERATING",
    "OPERATIONS",
    "OWN_APIS",
    "SDKS",
    "Api",
    "ByHeaders",
    "Endpoint",
    "Headers",
    "Reading",
    "Sdk",
    "api_of",
    "by_headers",
    "endpoint_of",
    "every_api",
    "geo_of",
    "know_hosts",
    "located",
    "tells",
]


APIS = (
    *(CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, GENERATE, IMAGEN, VEO, EMBED_MULTIMODAL, EMBED, INTERACTIONS),
    *(*media.APIS, ranks.RERANK, decisions.DECISIONS, *rented.APIS),
)
"""The wire formats that many hosts speak, known by the path of a request, the longer paths first."""

OWN_APIS = {
    "mistral_ai": mistral.APIS,
    "cohere": cohere.APIS,
    "ollama": ollama.APIS,
    "writer": writer.APIS,
    "portkey": portkey.APIS,
    "x_ai": xai.APIS,
    "groq": media.GROQ,
    "voyage_ai": voyage.APIS,
    "github-copilot": beside.COPILOT,
    "fireworks": beside.FIREWORKS,
    "alibaba": beside.ALIBABA,
    # Of sessions over websockets, which have no paths of their own.
    "openai": realtime.APIS,
    "gcp.gemini": (google_live.LIVE, google_caches.CACHE, decisions.GOOGLE),
    # At paths of their own.
    "sambanova": (MESSAGES._replace(paths=("/messages",)),),
    "openrouter": (media.IMAGES._replace(paths=("/images",)),),
    "perplexity": (EMBEDDINGS._replace(paths=("/contextualizedembeddings",)),),
}
"""The wire formats that one provider alone speaks, or speaks in its own way, by its name; they go first there."""

KEPT = "/presets/"
"""In the paths at which OpenRouter keeps a request as a preset and runs no model; a call by one names it as `model`."""

_KNOWN = (*APIS, *(api for apis in OWN_APIS.values() for api in apis))
OPERATIONS = frozenset(api.operation for api in _KNOWN)
"""`gen_ai.operation.name` of everything that is a call to a model."""
NOT_GENERATING = OPERATIONS - {api.operation for api in _KNOWN if api.generates}
"""The operations whose answers have no length that a request could cap: embeddings, ranks."""


def every_api() -> tuple[Api, ...]:
    """Every wire format there is: those known by their path, and Bedrock's, known by their operation and body."""
    from tokenguard.providers import bedrock, bedrock_media

    return (
        *_KNOWN,
        bedrock.CONVERSE,
        *(api for _, api in bedrock.FAMILIES),
        bedrock.TEXT,
        *bedrock_media.APIS,
    )


@lru_cache(maxsize=512)
def api_of(url: str, provider: str = "") -> Api | None:
    """The wire format spoken at a request path, in this provider's own way if it has one; `None`: no model call.

    >>> api_of("/openai/v1/chat/completions").id
    'chat'
    >>> api_of("/v1/rerank", "cohere").operation
    'rerank'
    >>> api_of("/threads/t1/messages") is None
    True
    """
    path = url.partition("?")[0]
    if KEPT in path:
        return None
    known = (*OWN_APIS.get(provider, ()), *APIS)
    return next((api for api in known for end in api.paths if _ends(path, end)), None)


def _ends(path: str, end: str) -> bool:
    if "*" not in end:
        return path.endswith(end)
    return re.search(re.escape(end).replace(r"\*", "[^/]+") + "$", path) is not None
