"""Cohere's wire formats: chat, embed and rerank, in the two versions of its API.

Cohere reports what it bills (`billed_units`) beside what the model saw (`tokens`, with prompts of its own).
OpenTelemetry wants billable tokens where both are told, and so does the bill. `cached_tokens` is a part of what the
model saw, and often more than all that is billed, so it is not taken for a part of the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.events import TAIL_EVENTS, backwards, decoded, forwards
from tokenguard.providers.openai import chat_last_tool_calls, chat_tool_steps
from tokenguard.providers.reading import Reading, Shape, fields, items, read_usage, text
from tokenguard.providers.units import Units
from tokenguard.providers.words import CONVERSATION, Words

TOKENS: Final = Shape({"input_tokens": "input", "output_tokens": "output", "search_units": "request"})
EMBEDDED: Final = Shape({"input_tokens": "input", "image_tokens": "input_image", "images": "images"})
TOKENS_OF_PICTURE = 5000
"""Of a picture that is embedded, at the most."""


def read(response: object) -> Reading:
    """A chat, embed or rerank response of either version."""
    body = fields(response)
    # v2's chat has `usage`, everything else `meta`; `message` is v2's answer, or the text of an error.
    answer = fields(body.get("message")) or body
    reason = text(body.get("finish_reason"))
    return Reading(
        usage=_usage(body),
        id=text(body.get("id")) or text(body.get("generation_id")) or text(body.get("response_id")),
        finish_reasons=(reason,) if reason else (),
        tool_calls=len(answer.get("tool_calls") or ()),
    )


def _usage(body: Mapping[str, Any]) -> Usage | None:
    said = fields(body.get("usage") or body.get("meta"))
    billed = {key: units for key, units in fields(said.get("billed_units")).items() if units is not None}
    return read_usage({**fields(said.get("tokens")), **billed}, TOKENS)  # what is billed, where that is told


def read_embed(response: object) -> Reading:
    """Vectors: of text by its tokens, of pictures by theirs (v4), or by the picture (v3)."""
    body = fields(response)
    billed = fields(fields(body.get("meta")).get("billed_units"))
    usage = read_usage({key: units for key, units in billed.items() if units is not None}, EMBEDDED)
    if usage is not None and usage.input_image:
        usage = usage._replace(input=(usage.input or 0) + usage.input_image)
    return read(response)._replace(usage=usage)


def most_embedded(body: Mapping[str, Any]) -> Usage:
    """Its pictures, and the tokens that they may take."""
    pieces = [piece for each in items(body.get("inputs")) for piece in items(each.get("content"))]
    given = body.get("images")
    pictures = len(given) if isinstance(given, list | tuple) else 0
    pictures += sum(1 for piece in pieces if str(piece.get("type")).startswith("image"))
    tokens = pictures * TOKENS_OF_PICTURE
    return Usage(input=tokens, input_image=tokens, images=pictures)


def fold(body: bytes) -> Reading:
    """The events of a v2 chat stream: the totals are in `message-end`."""
    reading = Reading(complete=False)
    for n, data in enumerate(backwards(body)):
        event = decoded(data)
        if event.get("type") == "message-end":
            end = fields(event.get("delta"))
            # A stream that failed in the middle ends well, with what it has generated, and says why.
            error = text(end.get("error"))
            reading = read(end)._replace(error=error and "error", complete=error is None)
            break
        if n >= TAIL_EVENTS:
            break
    first = next((event for data in forwards(body) if (event := decoded(data)).get("type") == "message-start"), {})
    return reading._replace(id=text(first.get("id")), tool_calls=body.count(b'"tool-call-start"'))


def fold_v1(body: bytes) -> Reading:
    """The events of a v1 chat stream, lines of JSON or server-sent: `stream-end` carries the whole response."""
    for line in reversed(body.splitlines()):
        event = decoded(line.removeprefix(b"data:").strip())
        if event.get("event_type") == "stream-end":
            whole = {"finish_reason": event.get("finish_reason"), **fields(event.get("response"))}
            failed = whole["finish_reason"] in ("ERROR", "ERROR_TOXIC")
            return read(whole)._replace(error="error" if failed else None, complete=not failed)
    return Reading(complete=False)


def capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A chat request with this output cap."""
    return {**body, "max_tokens": cap}


def v1_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of tool calls and results since the last word of the user: results not in the history come on top."""
    if body.get("message") and not body.get("tool_results"):  # a new word
        return 0
    steps = 1 if body.get("tool_results") else 0
    history = body.get("chat_history")
    for message in reversed(history) if isinstance(history, list) else ():
        role = fields(message).get("role")
        if role == "USER":
            break
        steps += role == "TOOL"
    return steps


def v1_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Tool calls whose results are sent back now."""
    return len(body.get("tool_results") or ())


SEARCH = 100
"""Documents in one search, the unit in which reranking is billed."""
CHUNK = 500
"""Tokens of a document, the query included, above which it counts as several; of no document more than `MOST_CHUNKS`
(https://cohere.com/pricing, and `max_tokens_per_doc` in https://docs.cohere.com/reference/rerank)."""
MOST_CHUNKS = 10


def searches(body: Mapping[str, Any]) -> int:
    """At most how many searches a rerank is billed as: no text has more tokens than bytes."""
    documents = body.get("documents")
    query = _size(body.get("query"))
    sizes = map(_size, documents) if isinstance(documents, list | tuple) else ()
    chunks = sum(min(-(-(query + size) // CHUNK), MOST_CHUNKS) for size in sizes)
    return max(-(-chunks // SEARCH), 1)


def _size(said: object) -> int:
    return len(str(said).encode("utf-8", "replace"))


CHAT = Api(
    "cohere_chat",
    "chat",
    ("/v2/chat",),
    ("max_tokens",),
    read,
    fold,
    CONVERSATION._replace(streamed=(*CONVERSATION.streamed, "tool_plan")),
    chat_tool_steps,
    chat_last_tool_calls,
    capped,
)
CHAT_V1 = Api(
    "cohere_chat_v1",
    "chat",
    ("/v1/chat",),
    ("max_tokens",),
    read,
    fold_v1,
    Words("chat_history", "preamble", said_now="message", results="tool_results", streamed=("text",)),
    v1_tool_steps,
    v1_last_tool_calls,
    capped,
)
EMBED = Api(
    "cohere_embed",
    "embeddings",
    ("/v2/embed", "/v1/embed"),
    (),
    read_embed,
    fold,
    Words(texts=("texts", "inputs")),
    units=Units(most_embedded),
)
RERANK = Api(
    "cohere_rerank",
    "rerank",
    ("/v2/rerank", "/v1/rerank"),
    (),
    read,
    fold,
    Words(texts=("query", "documents")),
    requests=searches,
)
"""Billed by the search, of which a call with many documents can be several."""

APIS = (CHAT, CHAT_V1, EMBED, RERANK)
