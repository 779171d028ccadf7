"""Mistral's wire formats: OpenAI's chat shape, but streams tell their usage unasked, and the asking is refused.

On Azure and Vertex AI the formats are the same, at paths of theirs. Agents and connectors are behind `/conversations`:
what was said before, and to whom, is the provider's to know, and an answer is a list of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers import openai
from tokenguard.providers.api import Api
from tokenguard.providers.events import TAIL_EVENTS, backwards, decoded, forwards
from tokenguard.providers.reading import Reading, Shape, count, fields, items, read_usage, text
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

CHAT = openai.CHAT._replace(
    paths=("/chat/completions", "/agents/completions", "/rawPredict", "/streamRawPredict"),
    caps=("max_tokens",),
    include_usage=False,
    chosen_by=("agent_id",),
)
FIM = openai.COMPLETIONS._replace(
    paths=("/fim/completions", "/rawPredict#fim", "/streamRawPredict#fim"), include_usage=False
)
"""Fill in the middle: a prompt and a suffix, answered in chat's shape."""
EMBEDDINGS = openai.EMBEDDINGS._replace(read=openai.read_chat)
"""They tell of zero tokens of output."""

# --- conversations ----------------------------------------------------------------------------------------------------

ANSWERS = ("message.output", "function.call")
"""How the types of those entries begin, whole or in a stream's pieces, that the model has written for the caller."""
CONVERSATION = lazy(r"/conversations/([^/]+)(?:/restart)?$")


def conversation_of(path: str) -> str | None:
    """The conversation that a request at this path goes on with.

    >>> conversation_of("/v1/conversations/conv_1/restart")
    'conv_1'
    """
    found = CONVERSATION.search(path)
    return found[1] if found else None


def _reading(usage: object, entries: Iterable[Mapping[str, Any]], conversation: object) -> Reading:
    """What the entries of an answer say of the call.

    Connectors (web search, code, documents) feed the model tokens that are counted apart from the prompt, and are
    themselves billed by the call (https://mistral.ai/pricing).
    """
    said = fields(usage)
    counted = read_usage(said, openai.CHAT_USAGE)
    connectors = count(said.get("connector_tokens")) or 0
    if counted is not None and counted.input is not None:
        counted = counted._replace(input=counted.input + connectors)
    answers = [entry for entry in entries if str(entry.get("type")).startswith(ANSWERS)]
    last: Mapping[str, Any] = answers[-1] if answers else {}
    calls = {entry["tool_call_id"] for entry in answers if "tool_call_id" in entry}  # of a stream, in pieces
    return Reading(
        usage=counted,
        model=text(last.get("model")),
        id=text(last.get("id")),
        tool_calls=len(calls),
        extra_fees=bool(connectors or said.get("connectors")),
        conversation=text(conversation),
    )


def read_conversation(response: object) -> Reading:
    """The answer to new entries of a conversation."""
    body = fields(response)
    return _reading(body.get("usage"), items(body.get("outputs")), body.get("conversation_id"))


def fold_conversation(body: bytes) -> Reading:
    """The events of a conversation's stream: the last one carries the usage, and those of the answer the model."""
    usage: object = None
    error: str | None = None
    said: Mapping[str, Any] = {}
    for n, data in enumerate(backwards(body)):
        event = decoded(data)
        kind = event.get("type")
        if kind == "conversation.response.done":
            usage = event.get("usage")
        elif kind == "conversation.response.error":
            error = str(event.get("code") or "error")
        elif kind == "message.output.delta":
            said = event
        if said or n >= TAIL_EVENTS:
            break
    first = next((event for data in forwards(body) if (event := decoded(data)).get("conversation_id")), {})
    calls = [decoded(data) for data in forwards(body) if b'"function.call.delta"' in data]
    reading = _reading(usage, [*calls, said], first.get("conversation_id"))
    return reading._replace(error=error, complete=usage is not None)


def _is_result(kind: str) -> bool:
    return kind == "function.result"


def conversation_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of function calls since the last word of the user; those of earlier requests are the caller's to add."""
    return openai.result_rounds(body.get("inputs"), _is_result)


def conversation_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Function calls in the model's latest turn: the results that are sent back now."""
    return openai.results_sent(body.get("inputs"), _is_result)


def conversation_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap."""
    return {**body, "completion_args": {**fields(body.get("completion_args")), "max_tokens": cap}}


CONVERSATIONS = Api(
    "conversations",
    "invoke_agent",
    ("/conversations", "/conversations/*", "/conversations/*/restart"),
    ("max_tokens",),
    read_conversation,
    fold_conversation,
    Words("inputs", "instructions", streamed=("content", "text", "arguments")),
    conversation_tool_steps,
    conversation_last_tool_calls,
    conversation_capped,
    settings="completion_args",
    goes_on_from="conversation_id",
    chosen_by=("conversation_id", "agent_id"),
    changes=True,
)

# --- documents: https://docs.mistral.ai/capabilities/document_ai -----------------------------------------------------

OCR_USAGE: Final = Shape({"pages_processed": "pages", "pages_processed_annotation": "annotated_pages"})
MOST_PAGES = 1000
"""Of a document, at the most that are taken."""
ANNOTATES = ("bbox_annotation_format", "document_annotation_format")
"""The keys of a request that have its pages annotated, which has a price of its own."""


def read_pages(response: object) -> Reading:
    """The pages that were read."""
    body = fields(response)
    return Reading(read_usage(body.get("usage_info"), OCR_USAGE), text(body.get("model")))


def _pages(body: Mapping[str, Any], number: int) -> Usage:
    annotated = any(body.get(key) for key in ANNOTATES)
    return Usage(annotated_pages=number) if annotated else Usage(pages=number)


def most_pages(body: Mapping[str, Any]) -> Usage:
    """The pages that are asked for; a picture is one."""
    asked = body.get("pages")
    if isinstance(asked, list):
        return _pages(body, len(asked))
    return _pages(body, 1 if fields(body.get("document")).get("type") == "image_url" else MOST_PAGES)


def told_pages(body: Mapping[str, Any], reading: Reading) -> Reading:
    """As they are told apart, by Foundry (BerriAI/litellm#38546); else annotated, where that was asked for."""
    usage = reading.usage
    if usage is None or usage.pages is None:
        return reading
    if usage.annotated_pages is None:
        return reading._replace(usage=_pages(body, usage.pages))
    return reading._replace(
        usage=usage._replace(pages=usage.pages or None) if usage.annotated_pages else Usage(pages=usage.pages)
    )


OCR = Api(
    "ocr",
    "ocr",
    ("/ocr",),
    (),
    read_pages,
    lambda events: Reading(),
    Words(texts=("document_annotation_prompt",)),
    units=Units(most_pages, told_pages),
)

APIS = (CHAT, FIM, EMBEDDINGS, CONVERSATIONS, OCR)
