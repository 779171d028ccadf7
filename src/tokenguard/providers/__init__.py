"""The providers, as rows: which SDK speaks to them, on which hosts, and in which wire formats.

One table serves the meter and the guard. A new OpenAI-compatible host is one line in `HOSTS`; a new SDK of a known
family is one line in `facts.sdks`; a new wire format is an `Api` in a file of its provider's name, listed in `APIS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib import import_module
from itertools import chain
from typing import Final

from tokenguard.facts.sdks import SDKS, Sdk
from tokenguard.providers.api import Api
from tokenguard.providers.headers import ByHeaders, Headers, by_headers, tells
from tokenguard.providers.hosts import HOSTS, Endpoint, endpoint_of, geo_of, know_hosts, located
from tokenguard.providers.reading import Reading

__all__ = [
    "APIS",
    "HOSTS",
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
    "formats",
    "geo_of",
    "know_hosts",
    "load",
    "located",
    "operations",
    "tells",
]


MOST: Final = ("openai.APIS", "anthropic.APIS")
"""Where the wire formats stand that nearly all calls are in."""
APIS: Final = (*MOST, "google.APIS", "media.APIS", "ranks.APIS", "decisions.APIS", "rented.APIS")
"""Where the wire formats stand that many hosts speak, known by the path of a request; what is asked is loaded."""

OWN_APIS: Final[Mapping[str, tuple[str, ...]]] = {
    "mistral_ai": ("mistral.APIS",),
    "cohere": ("cohere.APIS",),
    "ollama": ("ollama.APIS",),
    "writer": ("writer.APIS",),
    "portkey": ("portkey.APIS",),
    "x_ai": ("xai.APIS",),
    "groq": ("media.GROQ",),
    "voyage_ai": ("voyage.APIS",),
    "github-copilot": ("beside.COPILOT",),
    "fireworks": ("beside.FIREWORKS",),
    "alibaba": ("beside.ALIBABA",),
    "gcp.gemini": ("google_caches.APIS", "decisions.GOOGLE_APIS"),
    # At paths of their own.
    "sambanova": ("anthropic.SAMBANOVA",),
    "openrouter": ("media.OPENROUTER",),
    "perplexity": ("openai.PERPLEXITY",),
}
"""Where those stand that one provider alone speaks, or speaks in its own way, by its name; they go first there."""
BY_SESSION: Final = {"openai": ("realtime.APIS",), "gcp.gemini": ("google_live.APIS",)}
"""Where those of sessions over websockets stand, which have no paths of their own."""
BY_OPERATION: Final = {"aws.bedrock": ("bedrock.APIS", "bedrock_media.APIS")}
"""Where Bedrock's stand, which are known by their operation and body."""
KEPT: Final = "/presets/"
"""In the paths at which OpenRouter keeps a request as a preset and runs no model; a call by one names it as `model`."""


@cache
def _at(place: str) -> tuple[Api, ...]:
    module, _, name = place.partition(".")
    found: tuple[Api, ...] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def formats(places: Iterable[str] = APIS) -> Iterator[Api]:
    """The wire formats that stand at some places, each loaded when it is its turn."""
    for place in places:
        yield from _at(place)


def load(provider: str) -> None:
    """Have those in memory that calls to a provider are mostly in, so that no call waits for them."""
    for place in (*OWN_APIS.get(provider, ()), *MOST):
        _at(place)


def every_api() -> tuple[Api, ...]:
    """Every wire format there is."""
    own = chain(OWN_APIS.values(), BY_SESSION.values(), BY_OPERATION.values())
    return tuple(formats((*APIS, *chain.from_iterable(own))))


@cache
def operations() -> frozenset[str]:
    """`gen_ai.operation.name` of everything that is a call to a model."""
    return frozenset(api.operation for api in every_api())


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
    known = formats((*OWN_APIS.get(provider, ()), *APIS))
    return next((api for api in known for end in api.paths if _ends(path, end)), None)


def _ends(path: str, end: str) -> bool:
    if "*" not in end:
        return path.endswith(end)
    return re.search(re.escape(end).replace(r"\*", "[^/]+") + "$", path) is not None
