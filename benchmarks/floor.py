"""The floor: what a careful developer writes by hand to meter the calls, and nothing more.

One CLIENT span a call, current while the SDK sends; 12 attributes in one `set_attributes`; a duration histogram, and a
token histogram recorded for input and output, in the span's context so that exemplars can link to it. A stream's span
ends with the stream, whose type is kept. No price, no cache or reasoning tokens, no attribution, no retries.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import context, metrics, trace

TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


class Call:
    """One call: its span, and what is written when it ends."""

    def __init__(self, meters: Meters, operation: str, provider: str, host: str, request: dict[str, Any]) -> None:
        self.meters, self.operation, self.provider, self.host, self.request = meters, operation, provider, host, request
        self.started = time.perf_counter()
        self.span = meters.tracer.start_span(f"{operation} {request['model']}", kind=trace.SpanKind.CLIENT)

    def finish(self, answer: Any, finish_reason: str | None, tokens_in: int, tokens_out: int) -> None:
        span, request, model = self.span, self.request, self.request["model"]
        span.set_attributes(
            {
                "gen_ai.operation.name": self.operation,
                "gen_ai.provider.name": self.provider,
                "gen_ai.request.model": model,
                "gen_ai.request.max_tokens": request.get("max_tokens") or request.get("max_output_tokens") or 0,
                "gen_ai.request.temperature": request.get("temperature", 1.0),
                "server.address": self.host,
                "server.port": 443,
                "gen_ai.response.model": answer.model,
                "gen_ai.response.id": getattr(answer, "id", ""),
                "gen_ai.response.finish_reasons": (finish_reason or "",),
                "gen_ai.usage.input_tokens": tokens_in,
                "gen_ai.usage.output_tokens": tokens_out,
                **self.meters.more,
            }
        )
        labels = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": model,
            "gen_ai.response.model": answer.model,
        }
        where = trace.set_span_in_context(span, context.get_current())
        self.meters.duration.record(time.perf_counter() - self.started, labels, context=where)
        self.meters.tokens.record(tokens_in, labels | {"gen_ai.token.type": "input"}, context=where)
        self.meters.tokens.record(tokens_out, labels | {"gen_ai.token.type": "output"}, context=where)
        span.end()


class Meters:
    """The tracer and the two histograms; `more` attributes go on each span."""

    def __init__(self, more: dict[str, Any]) -> None:
        self.more = more
        meter = metrics.get_meter("floor")
        self.tracer = trace.get_tracer("floor")
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Duration", explicit_bucket_boundaries_advisory=SECONDS
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens", explicit_bucket_boundaries_advisory=TOKENS
        )


def openai_answer(call: Call, answer: Any) -> None:
    """Finish from a chat completion."""
    usage = answer.usage
    call.finish(answer, answer.choices[0].finish_reason, usage.prompt_tokens, usage.completion_tokens)


def responses_answer(call: Call, answer: Any) -> None:
    """Finish from a response of the Responses API."""
    call.finish(answer, answer.status, answer.usage.input_tokens, answer.usage.output_tokens)


def embeddings_answer(call: Call, answer: Any) -> None:
    """Finish from embeddings."""
    call.finish(answer, None, answer.usage.prompt_tokens, 0)


def anthropic_input(usage: Any) -> int:
    """All input tokens, the cache's included."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)


def anthropic_answer(call: Call, answer: Any) -> None:
    """Finish from a message."""
    call.finish(answer, answer.stop_reason, anthropic_input(answer.usage), answer.usage.output_tokens)


def openai_chunks(call: Call, chunks: Any) -> Any:
    """Pass the chunks of a chat completion on, and finish with the usage of the last."""
    last = usage = None
    reason = None
    try:
        for chunk in chunks:
            if chunk.usage is not None:
                last, usage = chunk, chunk.usage
            elif chunk.choices and chunk.choices[0].finish_reason:
                reason = chunk.choices[0].finish_reason
            yield chunk
    finally:
        if usage is not None:
            call.finish(last, reason, usage.prompt_tokens, usage.completion_tokens)


def anthropic_chunks(call: Call, events: Any) -> Any:
    """Pass the events of a message on, and finish with the usage of its first and last."""
    message = reason = None
    tokens_out = 0
    try:
        for event in events:
            if event.type == "message_start":
                message = event.message
            elif event.type == "message_delta":
                reason, tokens_out = event.delta.stop_reason, event.usage.output_tokens
            yield event
    finally:
        if message is not None:
            call.finish(message, reason, anthropic_input(message.usage), tokens_out)


def wrap(
    owner: Any,
    start: Callable[[dict[str, Any]], Call],
    answered: Callable[..., None],
    chunks: Callable[..., Any] | None,
) -> None:
    """Wrap `owner.create` (sync)."""
    send = owner.create

    @functools.wraps(send)
    def create(self: Any, **request: Any) -> Any:
        call = start(request)
        with trace.use_span(call.span):
            answer = send(self, **request)
        if request.get("stream") and chunks:
            answer._iterator = chunks(call, answer._iterator)
        else:
            answered(call, answer)
        return answer

    owner.create = create


def wrap_async(owner: Any, start: Callable[[dict[str, Any]], Call], answered: Callable[..., None]) -> None:
    """Wrap `owner.create` (async, whole answers only: no scenario streams asynchronously)."""
    send = owner.create

    @functools.wraps(send)
    async def create(self: Any, **request: Any) -> Any:
        call = start(request)
        with trace.use_span(call.span):
            answer = await send(self, **request)
        answered(call, answer)
        return answer

    owner.create = create


@functools.cache
def meters() -> Meters:
    """Those of this process."""
    return Meters(MORE)


MORE: dict[str, Any] = {}
"""Attributes that go on each span beside the 12."""


def install(more: dict[str, Any] | None = None) -> None:
    """Wrap the methods that the scenarios call."""
    from anthropic.resources.messages import Messages
    from openai.resources import Embeddings
    from openai.resources.chat.completions import AsyncCompletions, Completions
    from openai.resources.responses import Responses

    MORE.update(more or {})
    chat = functools.partial(Call, meters(), "chat", "openai", "api.openai.com")
    embeddings = functools.partial(Call, meters(), "embeddings", "openai", "api.openai.com")
    messages = functools.partial(Call, meters(), "chat", "anthropic", "api.anthropic.com")
    wrap(Completions, chat, openai_answer, openai_chunks)
    wrap_async(AsyncCompletions, chat, openai_answer)
    wrap(Responses, chat, responses_answer, None)
    wrap(Embeddings, embeddings, embeddings_answer, None)
    wrap(Messages, messages, anthropic_answer, anthropic_chunks)
