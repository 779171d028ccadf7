"""Ranks of documents, as Together, Voyage, Jina and Fireworks give them: billed by tokens or searches, as told."""

from __future__ import annotations

from typing import Final

from tokenguard.providers.api import Api
from tokenguard.providers.cohere import searches
from tokenguard.providers.reading import Reading, Shape, fields, read_usage, reported_cost, text
from tokenguard.providers.words import Words

USAGE: Final = Shape(
    {"total_tokens": "input", "prompt_tokens": "input", "input_tokens": "input", "search_units": "request"}
)


def read_rank(response: object) -> Reading:
    """A rank; nothing is generated."""
    body = fields(response)
    meta = fields(body.get("meta"))  # Cohere's way, also of vLLM, and of sellers who count tokens
    said = fields(body.get("usage")) or {**fields(meta.get("tokens")), **fields(meta.get("billed_units"))}
    usage = read_usage({key: units for key, units in said.items() if units}, USAGE)
    return Reading(usage, text(body.get("model")), text(body.get("id")), reported_cost=reported_cost(said))


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

APIS: Final = (RERANK,)
