"""Ranks of documents, as Together, Voyage, Jina and Fireworks give them: billed by tokens or searches, as told."""

from __future__ import annotations

from typing import Final

from tokenguard.providers.api import Api
from tokenguard.providers.cohere import searches
from tokenguard.providers.reading import Reading, Shape, fields, read_usage, text
from tokenguard.providers.words import Words

SEARCHES: Final = Shape({"search_units": "request"})
USAGE: Final = Shape({"total_tokens": "input", "prompt_tokens": "input"})


def read_rank(response: object) -> Reading:
    """A rank; nothing is generated."""
    body = fields(response)
    billed = fields(fields(body.get("meta")).get("billed_units"))  # Cohere's models at other sellers
    usage = read_usage(body.get("usage"), USAGE) or read_usage(billed, SEARCHES)
    return Reading(usage, text(body.get("model")), text(body.get("id")))


RERANK = Api(
    "rerank",
    "rerank",
    ("/rerank",),
    (),
    read_rank,
    lambda events: Reading(),
    Words(texts=("query", "documents")),
    requests=searches,
)
