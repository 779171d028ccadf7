"""Canned answers in the providers' wire formats, and the real SDKs on an in-process transport that gives them.

The numbers: OpenAI 1,200 in (1,024 cached), 300 out (128 reasoning) on gpt-4o-mini, $0.0002832; Anthropic 100 plain +
500 written (200 for an hour) + 2,000 read, 150 out on Sonnet, $0.005475.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx2
import openai

OPENAI_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
}
OPENAI_COST = 0.0002832
RESPONSES_USAGE = {
    "input_tokens": 1200,
    "output_tokens": 300,
    "total_tokens": 1500,
    "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 128},
}
ANTHROPIC_USAGE = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 500,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 150,
    "service_tier": "standard",
}
ANTHROPIC_COST = 0.005475
SONNET = "claude-sonnet-4-6"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def chat_body():
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": OPENAI_USAGE,
    }


def chat_events(*, usage=True, words=("Pa", "ris", ".")):
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    nulls = {"usage": None} if usage else {}
    yield {
        **base,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        **nulls,
    }
    for word in words:
        yield {**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}], **nulls}
    yield {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **nulls}
    if usage:
        yield {**base, "choices": [], "usage": OPENAI_USAGE}


def responses_body(status="completed"):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-4o-mini-2024-07-18",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Paris.", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES_USAGE,
    }


def responses_events():
    begun = {**responses_body("in_progress"), "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": begun}
    yield {"type": "response.in_progress", "sequence_number": 1, "response": begun}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", "sequence_number": 3, **where, "part": part}
    for n, delta in enumerate(("Pa", "ris", ".")):
        yield {
            "type": "response.output_text.delta",
            "sequence_number": 4 + n,
            **where,
            "delta": delta,
            "logprobs": [],
        }
    yield {"type": "response.completed", "sequence_number": 7, "response": responses_body()}


def embeddings_body():
    return {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25] * 8}],
        "usage": {"prompt_tokens": 10_000, "total_tokens": 10_000},
    }


def message_body():
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": SONNET,
        "content": [{"type": "text", "text": "Paris."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def message_events():
    start = {**message_body(), "content": [], "stop_reason": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for word in ("Pa", "ris", "."):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 150},
    }
    yield {"type": "message_stop"}


def sse(events, *, done=False):
    """Server-sent events as chunks of bytes, one each; Anthropic's and the Responses API's carry their type."""
    for event in events:
        kind = f"event: {event['type']}\n" if "type" in event else ""
        yield f"{kind}data: {json.dumps(event)}\n\n".encode()
    if done:
        yield b"data: [DONE]\n\n"


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A response body from chunks; `error` is raised after the last of them."""

    def __init__(self, chunks, error=None):
        self.chunks = list(chunks)
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error

    def close(self):
        self.closed += 1

    async def aclose(self):
        self.closed += 1


def event_stream(chunks, error=None):
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(chunks, error))


def canned(request: httpx2.Request) -> httpx2.Response:
    """The answer that belongs to the request's path."""
    asked = json.loads(request.content)
    path = request.url.path
    streamed = asked.get("stream")
    if path.endswith("/messages"):
        return event_stream(sse(message_events())) if streamed else httpx2.Response(200, json=message_body())
    if path.endswith("/embeddings"):
        return httpx2.Response(200, json=embeddings_body())
    if path.endswith("/responses"):
        return event_stream(sse(responses_events())) if streamed else httpx2.Response(200, json=responses_body())
    if streamed:
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        return event_stream(sse(chat_events(usage=usage), done=True))
    return httpx2.Response(200, json=chat_body())


class Script:
    """A handler that gives scripted answers first (responses, or exceptions to raise) and canned ones after."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests: list[dict] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(json.loads(request.content))
        answer = self.answers.pop(0) if self.answers else canned(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def asynchronously(self, request: httpx2.Request) -> httpx2.Response:
        return self(request)


def openai_client(handler=canned, **options):
    return openai.OpenAI(
        **{"api_key": "k", "http_client": httpx2.Client(transport=httpx2.MockTransport(handler)), **options}
    )


def async_openai_client(handler=canned, **options):
    return openai.AsyncOpenAI(
        **{"api_key": "k", "http_client": httpx2.AsyncClient(transport=httpx2.MockTransport(handler)), **options}
    )


def anthropic_client(handler=canned, **options):
    import anthropic

    return anthropic.Anthropic(
        **{"api_key": "k", "http_client": httpx2.Client(transport=httpx2.MockTransport(handler)), **options}
    )


def async_anthropic_client(handler=canned, **options):
    import anthropic

    return anthropic.AsyncAnthropic(
        **{"api_key": "k", "http_client": httpx2.AsyncClient(transport=httpx2.MockTransport(handler)), **options}
    )
