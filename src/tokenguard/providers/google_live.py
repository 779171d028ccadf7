"""Gemini's live sessions: each turn of the model is a call, which its last message tells the usage of.

https://ai.google.dev/gemini-api/docs/live
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.facts.usage import UNCAPPED_OUTPUT, Usage
from tokenguard.providers.api import Api
from tokenguard.providers.google import Counts, doubt_of, kinds, read_google_usage, with_searches
from tokenguard.providers.reading import Reading, fields, items, text, whole
from tokenguard.providers.realtime import CONTEXT
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

USAGE = Counts(
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "responseTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
    ("promptTokensDetails", "toolUsePromptTokensDetails"),
    "cacheTokensDetails",
    "responseTokensDetails",
)


def read_turn(message: object) -> Reading:
    """A message with usage: what the turn came to. Pictures and film cost the same.

    `model` and `grounds`, all grounding metadata of the turn, are put into it by the seam.
    """
    said = fields(fields(message).get("usageMetadata"))
    usage = read_google_usage(said, USAGE)
    if usage is not None and (filmed := kinds(said, *USAGE.heard).get("VIDEO")):
        usage = usage._replace(input_image=(usage.input_image or 0) + filmed)
    grounds = items(fields(message).get("grounds"))
    doubt = doubt_of(said, usage, USAGE)
    turn = Reading(usage, text(fields(message).get("model")), complete=usage is not None, basis=doubt)
    return with_searches(turn, grounds)._replace(model=None)


def most_of_turn(body: Mapping[str, Any]) -> Usage:
    """What the conversation holds, and what a turn may be, all of it as sound."""
    held = whole(body.get(CONTEXT)) or 0
    cap = whole(fields(body.get("generationConfig")).get("maxOutputTokens")) or UNCAPPED_OUTPUT
    return Usage(input=held, input_audio=held, output=cap, output_audio=cap)


LIVE = Api(
    "live",
    "live",
    (),
    (),
    read_turn,
    lambda events: Reading(complete=False),
    Words(texts=("turns",)),
    changes=True,
    units=Units(most_of_turn),
)

APIS = (LIVE,)
