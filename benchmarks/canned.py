"""What the in-process provider answers, and what the scenarios ask: bodies in the shape of the real APIs, no network.

Streams are sent one server-sent event per chunk of the transport, as providers do. Token counts are made up but
consistent: 1,200 in (1,024 of them read from a cache), 300 out (128 of them reasoning, where the API says so).
"""

from __future__ import annotations

import array
import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

LONG = 200
"""Chunks of a long stream."""
SHORT = 8
"""Chunks of a short stream: what a stream costs before its chunks do."""

SYSTEM = "You are the support assistant of a shop for bicycles. Answer from the policy below, briefly and kindly. " * 24
QUESTION = "My rear derailleur arrived bent. Order 48121. What are my options, and who pays for the return?"
ANSWER = "We are sorry about the bent derailleur. You can have a replacement or a refund, and the return is free. " * 11

OPENAI_MODEL, OPENAI_SNAPSHOT = "gpt-4o-mini", "gpt-4o-mini-2024-07-18"
EMBEDDING_MODEL = "text-embedding-3-small"
ANTHROPIC_MODEL = "claude-sonnet-4-6"

# --- what the scenarios ask ------------------------------------------------------------------------------------------

HISTORY = [
    {"role": "user", "content": "Hello, I have a question about an order."},
    {"role": "assistant", "content": "Of course. What is its number, and what went wrong?"},
]
_asked = itertools.count()


def question() -> str:
    """A question that was not asked before, so that nobody can remember the last one's work."""
    return f"{QUESTION} (Ticket {next(_asked)}.)"


def turns() -> list[dict[str, str]]:
    """A conversation that ends in a question."""
    return [*HISTORY, {"role": "user", "content": question()}]


def chat(**more: Any) -> dict[str, Any]:
    """A request for a chat completion."""
    messages = [{"role": "system", "content": SYSTEM}, *turns()]
    return {"model": OPENAI_MODEL, "messages": messages, "max_tokens": 800, "temperature": 0.2, **more}


def chat_stream(chunks: int) -> dict[str, Any]:
    """A request for a streamed chat completion of so many chunks."""
    return chat(stream=True, stream_options={"include_usage": True}, extra_headers={"x-chunks": str(chunks)})


def responses() -> dict[str, Any]:
    """A request of the Responses API."""
    return {
        "model": OPENAI_MODEL,
        "instructions": SYSTEM,
        "input": turns(),
        "max_output_tokens": 800,
        "temperature": 0.2,
    }


def embeddings() -> dict[str, Any]:
    """A request for an embedding."""
    return {"model": EMBEDDING_MODEL, "input": question()}


def message(**more: Any) -> dict[str, Any]:
    """A request for an Anthropic message (anthropic 2 has no temperature)."""
    return {"model": ANTHROPIC_MODEL, "system": SYSTEM, "messages": turns(), "max_tokens": 800, **more}


def message_stream(events: int) -> dict[str, Any]:
    """A request for a streamed Anthropic message of so many events."""
    return message(stream=True, extra_headers={"x-chunks": str(events)})


# --- what the provider answers ---------------------------------------------------------------------------------------

CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
ANTHROPIC_USAGE = {
    "input_tokens": 76,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1024,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 300,
    "service_tier": "standard",
}


def chat_body() -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-C1KMEUDb1vVwsROQUCZTgG6A6vtWo",
        "object": "chat.completion",
        "created": 1790000000,
        "model": OPENAI_SNAPSHOT,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_ff25b2783a",
    }


def chat_events(chunks: int) -> list[bytes]:
    """The events of a streamed chat completion of so many chunks (the last one carries the usage), then `[DONE]`."""

    def chunk(delta: dict[str, Any] | None, finish: str | None = None, usage: Any = None) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        body = chat_body() | {"object": "chat.completion.chunk", "choices": choices, "usage": usage}
        return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"

    words = [chunk({"content": f" word{n}"}) for n in range(chunks - 3)]
    first = chunk({"role": "assistant", "content": "", "refusal": None})
    return [first, *words, chunk({}, "stop"), chunk(None, usage=CHAT_USAGE), b"data: [DONE]\n\n"]


def responses_body() -> dict[str, Any]:
    """A response of the Responses API."""
    text = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
    return {
        "id": "resp_68a1c2d3e4f5061728394a5b6c7d8e9f",
        "object": "response",
        "created_at": 1790000000,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": SYSTEM,
        "max_output_tokens": 800,
        "model": OPENAI_SNAPSHOT,
        "output": [{"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [text]}],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 0.2,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 1200,
            "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 128},
            "total_tokens": 1500,
        },
        "user": None,
        "metadata": {},
    }


def embeddings_body() -> dict[str, Any]:
    """One embedding of 1,536 numbers, base64 as the SDK asks for by default."""
    vector = base64.b64encode(array.array("f", (n / 1536 for n in range(1536))).tobytes()).decode()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": EMBEDDING_MODEL,
        "usage": {"prompt_tokens": 24, "total_tokens": 24},
    }


def message_body() -> dict[str, Any]:
    """An Anthropic message."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": ANTHROPIC_MODEL,
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def message_events(events: int) -> list[bytes]:
    """So many events of a streamed Anthropic message."""

    def event(body: dict[str, Any]) -> bytes:
        return f"event: {body['type']}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n".encode()

    start = message_body() | {"content": [], "stop_reason": None, "usage": ANTHROPIC_USAGE | {"output_tokens": 1}}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {key: value for key, value in ANTHROPIC_USAGE.items() if key.endswith("_tokens")}
    words = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" word{n}"}}
        for n in range(events - 5)
    ]
    return [
        event(body)
        for body in (
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *words,
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": usage},
            {"type": "message_stop"},
        )
    ]


def transport(http: ModuleType) -> Any:
    """A transport for `http` (httpx or httpx2, whichever the SDK uses) that answers from memory, sync and async.

    A request for a stream says how long in the header `x-chunks`. The async side yields to the loop once per request,
    as a socket would, so that concurrent calls do interleave.
    """
    bodies = {
        "/chat/completions": chat_body(),
        "/responses": responses_body(),
        "/embeddings": embeddings_body(),
        "/messages": message_body(),
    }
    whole = {path: json.dumps(body).encode() for path, body in bodies.items()}
    streams = {
        (path, n): events(n)
        for path, events in (("/chat/completions", chat_events), ("/messages", message_events))
        for n in (SHORT, LONG)
    }
    json_headers = {"content-type": "application/json", "x-request-id": "req_1", "request-id": "req_1"}
    sse_headers = json_headers | {"content-type": "text/event-stream; charset=utf-8"}

    class Events(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __init__(self, events: list[bytes]) -> None:
            self.events = events

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.events)

        async def __aiter__(self) -> Any:
            for event in self.events:
                yield event

    class Canned(http.BaseTransport, http.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        def handle_request(self, request: Any) -> Any:
            request.read()
            path = request.url.path.removeprefix("/v1")
            if chunks := request.headers.get("x-chunks"):
                return http.Response(200, headers=sse_headers, stream=Events(streams[path, int(chunks)]))
            return http.Response(200, headers=json_headers, content=whole[path])

        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            await asyncio.sleep(0)
            return self.handle_request(request)

    return Canned()
