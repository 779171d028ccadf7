"""Google's explicit caches: their tokens are written once, and kept by the hour until they expire or are deleted.

https://ai.google.dev/gemini-api/docs/caching
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api, Rental
from tokenguard.providers.reading import Reading, Rent, count, fields, text
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

TTL_SECONDS = 3600.0
"""How long a cache is kept, where a request does not say."""
FRACTION = lazy(r"\.\d+")
"""Of a second: Google writes nine digits of it."""


def _moment(value: object) -> float | None:
    """A time in ISO 8601, as Unix seconds."""
    try:
        return datetime.fromisoformat(FRACTION.sub("", str(value))).timestamp()
    except ValueError:
        return None


def read_cache(response: object) -> Reading:
    """A cache that was made, or is given another lifetime: its tokens, and how long they are kept."""
    body = fields(response)
    tokens = count(fields(body.get("usageMetadata")).get("totalTokenCount"))
    made, until = _moment(body.get("updateTime")) or _moment(body.get("createTime")), _moment(body.get("expireTime"))
    seconds = TTL_SECONDS if made is None or until is None else max(until - made, 0.0)
    return Reading(
        None if tokens is None else Usage(input=tokens, output=0),
        resource=text(body.get("name")),
        until=until,
        rent=None if tokens is None else Rent(tokens, seconds),
    )


def most_of_cache(body: Mapping[str, Any]) -> Usage:
    """The request's length bounds its tokens; a cache until a fixed time is taken to be kept for a day."""
    ttl = body.get("ttl")
    seconds = 86_400.0 if body.get("expireTime") else TTL_SECONDS
    if isinstance(ttl, str) and re.fullmatch(r"\d+(\.\d+)?s", ttl):
        seconds = float(ttl[:-1])
    return Usage(token_hours=math.ceil(len(repr(dict(body)).encode()) * seconds / 3600))


CACHE = Api(
    "caches",
    "create_cache",
    ("/cachedContents",),
    (),
    read_cache,
    lambda events: Reading(),
    Words(texts=("contents", "systemInstruction")),
    changes=True,
    units=Units(most_of_cache),
    rental=Rental("cachedContents", "token_hours", 1 / 3600),
)

APIS = (CACHE,)
