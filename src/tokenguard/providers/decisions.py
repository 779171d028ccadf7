"""Decisions: questions about one text that are answered by probabilities, billed by tokens and by the question asked.

OpenAI, Perplexity and Google have them at `/decisions`, OpenRouter at `/systemone` as well. Sources: the types of the
SDKs (`Decision`, `DecisionsResponse`, `CreateDecisionResponse`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.google import INTERACTIONS_USAGE, doubt_of, read_google_usage
from tokenguard.providers.openai import LEFT_OUT, RESPONSES_USAGE
from tokenguard.providers.reading import (
    OWN_KEY,
    Reading,
    fields,
    read_usage,
    reading,
    reported_cost,
    text,
    with_total,
)
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

TOKENS_OF_ANSWER: Final = 64
"""Output tokens of an answer, at the most: it is a choice among a few, and no text. No document tells a number."""


def read_decision(response: object) -> Reading:
    """The answers to all questions of a request, and what they took."""
    body = fields(response)
    said = fields(body.get("usage"))
    usage, by_total, doubt = with_total(read_usage(said, RESPONSES_USAGE), said.get("total_tokens"))
    if (charged := reported_cost(said)) is None and said.get("is_byok"):
        doubt = OWN_KEY
    model, own_id = text(body.get("model")), text(body.get("id"))
    return reading(usage, model, own_id, charged=charged, by_total=by_total, basis=doubt)


def read_google_decision(response: object) -> Reading:
    """The same of Google's, which counts as in its interactions and names no model."""
    body = fields(response)
    said = fields(body.get("usage"))
    usage = read_google_usage(said, INTERACTIONS_USAGE)
    refused = text(fields(body.get("prompt_feedback")).get("block_reason"))
    return Reading(
        usage,
        finish_reasons=(refused,) if refused else (),
        basis=doubt_of(said, usage, INTERACTIONS_USAGE),
    )


def most_decisions(body: Mapping[str, Any]) -> Usage:
    """So many answers, in a list or by name."""
    asked = body.get("questions")
    return Usage(output=max(len(asked) if isinstance(asked, list | tuple | Mapping) else 1, 1) * TOKENS_OF_ANSWER)


DECISIONS = Api(
    "decisions",
    "decision",
    ("/decisions", "/systemone"),
    (),
    read_decision,
    lambda events: Reading(),
    Words(texts=("input", "state", "questions")),
    units=Units(most_decisions),
    left_out=LEFT_OUT,
)
GOOGLE = DECISIONS._replace(id="google_decisions", read=read_google_decision)
APIS: Final = (DECISIONS,)
GOOGLE_APIS: Final = (GOOGLE,)
