"""Sessions over a websocket, as OpenAI's realtime API has them: each response in one is a call of its own.

A request is what `response.create` says, with what the session is set up with; `context_tokens` is what the
conversation has come to so far, which the provider keeps and bills as input again
(https://developers.openai.com/api/docs/guides/realtime-costs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.events import backwards, decoded, forwards
from tokenguard.providers.media import AUDIO_TOKENS, SPOKEN_TOKENS, TRANSCRIPT_USAGE
from tokenguard.providers.openai import INPUT_DETAILS, OUTPUT_DETAILS
from tokenguard.providers.reading import Reading, Shape, count, fields, items, read_usage, text, whole
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "input_token_details": INPUT_DETAILS,
        "output_token_details": OUTPUT_DETAILS,
        "input_tokens_details": INPUT_DETAILS,  # LiteLLM's proxy, before Gemini
        "output_tokens_details": OUTPUT_DETAILS,
        "billable_audio_seconds": "input_seconds",  # xAI
    }
)
WRITTEN = "input_text_messages"
"""How many texts were sent to xAI, each for a fee (https://docs.x.ai/developers/pricing, "Voice Pricing")."""
CONTEXT = "context_tokens"
"""The key of a request with the tokens of the conversation so far, or of the sound that is to be written down."""


def read_response(event: object) -> Reading:
    """The event that ends a response, or the response in it; xAI has the usage beside an empty one in the response."""
    told = fields(event)
    body = fields(told.get("response")) or told
    said = fields(body.get("usage")) or fields(told.get("usage"))
    status = text(body.get("status"))
    failure = fields(fields(body.get("status_details")).get("error"))
    return Reading(
        usage=read_usage(said, USAGE),
        id=text(body.get("id")),
        finish_reasons=(status,) if status else (),
        tool_calls=sum(item.get("type") == "function_call" for item in items(body.get("output"))),
        error=(text(failure.get("code")) or text(failure.get("type")) or "failed") if status == "failed" else None,
        complete=status != "in_progress",
        extra_fees=bool(count(said.get(WRITTEN))),
        conversation=text(body.get("conversation_id")),
    )


def fold_response(events: bytes) -> Reading:
    """The events of a response, as a stream: the last one has all of it."""
    for data in backwards(events):
        event = decoded(data)
        if event.get("type") == "response.done":
            return read_response(event)
    first = next((event for data in forwards(events) if (event := decoded(data)).get("response")), {})
    return read_response(first)._replace(usage=None, finish_reasons=(), complete=False)


def response_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A response with this output cap."""
    return {**body, "max_output_tokens": cap}


def most_of_context(body: Mapping[str, Any]) -> Usage:
    """What the conversation holds, all of it sound: the dearest that it can be."""
    held = whole(body.get(CONTEXT)) or 0
    return Usage(input=held, input_audio=held)


REALTIME = Api(
    "realtime",
    "chat",
    (),
    ("max_output_tokens", "max_response_output_tokens"),
    read_response,
    fold_response,
    Words("input", "instructions", streamed=("delta",)),
    capped=response_capped,
    changes=True,
    units=Units(most_of_context),
)


def read_transcription(event: object) -> Reading:
    """What the words of the user were written down for, by a model of its own, at its own price."""
    return Reading(read_usage(fields(event).get("usage"), TRANSCRIPT_USAGE), id=text(fields(event).get("item_id")))


def most_transcription(body: Mapping[str, Any]) -> Usage:
    """The sound that is to be written down, by tokens and by seconds."""
    seconds = -(-(whole(body.get(CONTEXT)) or 0) // AUDIO_TOKENS)
    heard = seconds * AUDIO_TOKENS
    return Usage(input=heard, input_audio=heard, output=seconds * SPOKEN_TOKENS, input_seconds=seconds)


HEARD = Api(
    "realtime_transcript",
    "transcription",
    (),
    (),
    read_transcription,
    lambda events: Reading(),
    Words(texts=("prompt",)),
    changes=True,
    units=Units(most_transcription),
)

APIS = (REALTIME, HEARD)
