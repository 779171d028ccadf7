"""The traps that instrumentations of these SDKs fall into, one by one, and ways out of a call that are not its end."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle

import anthropic
import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import tokenguard
from canned import (
    ANTHROPIC_COST,
    MESSAGES,
    OPENAI_COST,
    SONNET,
    Body,
    Script,
    anthropic_client,
    async_anthropic_client,
    async_openai_client,
    canned,
    chat_body,
    chat_events,
    event_stream,
    message_events,
    openai_client,
    sse,
)
from exported import metric_points
from tokenguard.inputs.request import fingerprint, snapshot
from tokenguard.process.hashes import marshalled

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
MESSAGE = {"model": SONNET, "messages": MESSAGES, "max_tokens": 200}


def last(installed):
    return installed.records[-1]


# --- streams that are not read to their end --------------------------------------------------------------------------


def test_break_then_close(installed, spans):
    """Breaking out of a stream and closing it ends the span at once, as abandoned, with an estimate that says so."""
    stream = openai_client().chat.completions.create(**CHAT, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content == "ris":
            break
    assert len(spans) == 0
    stream.close()
    attributes = spans.attributes
    assert last(installed).outcome == "abandoned"
    assert attributes["tokenguard.cost.status"] == "estimated"
    assert attributes["tokenguard.cost.basis"] == "abandoned_stream"
    assert attributes["tokenguard.cost.usd"] > 0
    assert "gen_ai.usage.output_tokens" not in attributes
    assert spans.one.status.status_code is StatusCode.UNSET
    stream.close()
    assert len(spans) == 1


def test_break_then_garbage(installed, spans):
    """A stream that is dropped half-read ends its span when it is collected."""
    stream = openai_client().chat.completions.create(**CHAT, stream=True)
    next(iter(stream))
    del stream
    gc.collect()
    assert last(installed).outcome == "abandoned"
    assert spans.attributes["tokenguard.cost.basis"] == "abandoned_stream"


def test_never_read(installed, spans):
    """A stream that nobody reads ends its span when it is collected."""
    stream = openai_client().chat.completions.create(**CHAT, stream=True)
    assert len(spans) == 0
    del stream
    gc.collect()
    assert last(installed).outcome == "abandoned"
    assert len(spans) == 1


def test_break_after_the_last_event(installed, spans):
    """Everything was said when the reader stopped: the call is a whole one."""
    stream = openai_client().chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.usage:
            break
    stream.close()
    assert last(installed).outcome == "ok"
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(OPENAI_COST)


def test_anthropic_helper_break(installed, spans):
    """The input of an abandoned message is known from its start; the placeholder for the output is not believed."""
    with anthropic_client().messages.stream(**MESSAGE) as stream:
        for text in stream.text_stream:
            if text == "ris":
                break
    attributes = spans.attributes
    assert last(installed).outcome == "abandoned"
    assert attributes["gen_ai.usage.input_tokens"] == 2600
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 2000
    assert "gen_ai.usage.output_tokens" not in attributes
    assert attributes["tokenguard.cost.basis"] == "abandoned_stream"
    # 100*3 + 300*3.75 + 200*6 + 2000*0.3 = $0.003225, and a few tokens of output at 15.
    assert 0.003225 < attributes["tokenguard.cost.usd"] < 0.003325


def test_network_error_mid_stream(installed, spans):
    """A stream that breaks is an error, with what is known, and the caller gets the SDK's own exception."""
    broken = event_stream(list(sse(chat_events()))[:3], httpx2.ReadError("connection reset"))
    stream = openai_client(Script(broken)).chat.completions.create(**CHAT, stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert last(installed).outcome == "error"
    assert spans.attributes["error.type"].endswith("ReadError")
    assert spans.attributes["tokenguard.cost.status"] == "estimated"
    assert spans.one.status.status_code is StatusCode.ERROR


def test_error_event_mid_stream(installed, spans):
    """An error that the provider reports inside a good stream is an error."""
    events = [*list(message_events())[:4], {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}]
    stream = anthropic_client(Script(event_stream(sse(events)))).messages.create(**MESSAGE, stream=True)
    with pytest.raises(anthropic.APIStatusError):
        list(stream)
    assert last(installed).outcome == "error"
    assert spans.attributes["error.type"] == "overloaded_error"


async def test_cancelled_create(installed, spans):
    """A cancelled request ends its span; it may be on the bill, so its input is priced as an estimate."""

    async def never(request):
        await asyncio.sleep(60)

    task = asyncio.ensure_future(async_openai_client(never).chat.completions.create(**CHAT))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert last(installed).outcome == "abandoned"
    assert spans.attributes["error.type"].endswith("CancelledError")
    assert spans.attributes["tokenguard.cost.basis"] == "cancelled"


async def test_cancelled_stream(installed, spans):
    """A task that is cancelled while it reads a stream ends the span once."""

    class Slow(Body):
        async def __aiter__(self):
            for chunk in self.chunks:
                yield chunk
            await asyncio.sleep(60)

    slow = httpx2.Response(
        200, headers={"content-type": "text/event-stream"}, stream=Slow(list(sse(chat_events()))[:3])
    )

    async def read():
        async for _ in await async_openai_client(Script(slow).asynchronously).chat.completions.create(
            **CHAT, stream=True
        ):
            pass

    task = asyncio.ensure_future(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    await asyncio.sleep(0)
    assert len(spans) == 1
    assert last(installed).outcome == "abandoned"


async def test_async_break_then_close_and_garbage(installed, spans):
    """Asynchronous streams end their spans as synchronous ones do."""
    client = async_openai_client()
    stream = await client.chat.completions.create(**CHAT, stream=True)
    async for _ in stream:
        break
    await stream.close()
    assert len(spans) == 1
    stream = await client.chat.completions.create(**CHAT, stream=True)
    async for _ in stream:
        break
    del stream
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    assert len(spans) == 2
    assert last(installed).outcome == "abandoned"


# --- types and values stay the SDK's own -----------------------------------------------------------------------------


def test_types_survive(installed):
    """Streams and raw responses are instances, exactly, of the SDK's classes; the HTTP response still is one."""
    client, claude = openai_client(), anthropic_client()
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert type(stream) is openai.Stream
    assert isinstance(stream.response, httpx2.Response)
    assert type(claude.messages.create(**MESSAGE, stream=True)) is anthropic.Stream
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    assert type(raw).__name__ == "LegacyAPIResponse"
    assert raw.http_response.json() == chat_body()
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        assert response.json() == chat_body()
    assert pickle.loads(pickle.dumps(raw.parse())) == raw.parse()


def test_usage_chunk_is_hidden(installed, spans):
    """The caller who did not ask for usage sees the chunks it would have seen, and the span has the usage."""
    script = Script()
    chunks = list(openai_client(script).chat.completions.create(**CHAT, stream=True))
    assert script.requests[0]["stream_options"] == {"include_usage": True}
    tokenguard.uninstall()
    bare = list(openai_client().chat.completions.create(**CHAT, stream=True))
    assert [chunk.choices for chunk in chunks] == [chunk.choices for chunk in bare]
    assert spans.attributes["gen_ai.usage.output_tokens"] == 300


def test_usage_chunk_stays_for_those_who_asked(installed):
    """A caller that asks for usage gets its chunk."""
    chunks = list(openai_client().chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.total_tokens == 1500


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_usage_chunk_is_hidden_however_it_is_cut(size, newline, installed, spans):
    """Where the network cuts the bytes, and how lines end, makes no difference."""
    data = b"".join(sse(chat_events(), done=True)).replace(b"\n", newline.encode())
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    chunks = list(openai_client(Script(event_stream(pieces))).chat.completions.create(**CHAT, stream=True))
    assert [c.choices[0].delta.content for c in chunks] == ["", "Pa", "ris", ".", None]
    assert spans.attributes["gen_ai.usage.input_tokens"] == 1200


def test_chunk_with_empty_choices_and_no_usage_stays(installed):
    """Azure's first chunk has no choices and a filter result: it is the caller's."""
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"x": 1}]}
    stream = event_stream(sse([first, *chat_events()], done=True))
    chunks = list(openai_client(Script(stream)).chat.completions.create(**CHAT, stream=True))
    assert chunks[0].choices == []
    assert len(chunks) == 6


def test_refused_option_is_taken_back(installed, spans):
    """A server that refuses the option we added gets the request again as the caller made it, and is remembered."""
    refusal = httpx2.Response(400, json={"error": {"message": "Unknown field: stream_options", "type": "invalid"}})
    script = Script(refusal, event_stream(sse(chat_events(usage=False), done=True)))
    client = openai_client(script, base_url="http://gateway.internal/v1")
    assert len(list(client.chat.completions.create(**CHAT, stream=True))) == 5
    assert "stream_options" not in script.requests[1]
    list(client.chat.completions.create(**CHAT, stream=True))
    assert "stream_options" not in script.requests[2]
    assert len(spans) == 2
    assert {span.attributes["tokenguard.cost.basis"] for span in spans} == {"missing_usage"}


def test_option_is_switchable(monkeypatch, spans):
    """With the switch off nothing is added, and a stream without usage is estimated."""
    monkeypatch.setenv("TOKENGUARD_INCLUDE_USAGE", "0")
    tokenguard.uninstall()
    tokenguard.install()
    script = Script()
    list(openai_client(script).chat.completions.create(**CHAT, stream=True))
    tokenguard.uninstall()
    assert "stream_options" not in script.requests[0]
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"
    assert spans.attributes["tokenguard.cost.usd"] > 0


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """The SDKs' back-off is theirs; here it takes no time."""
    for client in (openai.OpenAI, openai.AsyncOpenAI, anthropic.Anthropic, anthropic.AsyncAnthropic):
        monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *a, **k: 0.0)


def test_resends_show(installed, spans):
    """429, 429, 200: one span, two resends, no retry cost, since a refusal is not billed."""
    busy = [httpx2.Response(429, json={"error": {"message": "slow down"}}) for _ in range(2)]
    with tokenguard.attribution(tenant="resent"):
        openai_client(Script(*busy)).chat.completions.create(**CHAT)
    attributes = spans.attributes
    assert attributes["http.request.resend_count"] == 2
    assert attributes["tokenguard.cost.usd"] == pytest.approx(OPENAI_COST)
    assert "tokenguard.retry.cost_usd" not in attributes
    points = metric_points(tenant="resent")
    retried = [value for (name, _), value in points.items() if name == "tokenguard.retries"]
    assert retried == [2]


async def test_resends_show_async(installed, spans):
    """The same for asynchronous clients, and for Anthropic's."""
    busy = httpx2.Response(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "x"}})
    await async_anthropic_client(Script(busy).asynchronously).messages.create(**MESSAGE)
    assert spans.attributes["http.request.resend_count"] == 1
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(ANTHROPIC_COST)


def test_resend_after_timeout_may_be_billed(installed, spans):
    """A resend after the SDK stopped waiting is taken to cost what the answered attempt did."""
    openai_client(Script(httpx2.ReadTimeout("too slow"))).chat.completions.create(**CHAT)
    assert spans.attributes["http.request.resend_count"] == 1
    assert spans.attributes["tokenguard.retry.cost_usd"] == pytest.approx(OPENAI_COST)


def test_resend_after_refused_connection_is_free(installed, spans):
    """A request that never arrived costs nothing."""
    openai_client(Script(httpx2.ConnectError("refused"))).chat.completions.create(**CHAT)
    assert spans.attributes["http.request.resend_count"] == 1
    assert "tokenguard.retry.cost_usd" not in spans.attributes


def test_application_retries(installed, spans):
    """The application's repeats of a failed request are numbered; another request, or one after success, is not."""
    down = [httpx2.Response(500, json={"error": {"message": "x"}}) for _ in range(2)]
    client = openai_client(Script(*down), max_retries=0)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**CHAT)
    client.chat.completions.create(**{**CHAT, "temperature": 0.5})
    client.chat.completions.create(**CHAT)
    client.chat.completions.create(**CHAT)
    assert [span.attributes.get("tokenguard.retry.attempt") for span in spans] == [None, 1, None, 2, None]


def test_application_retry_after_timeout_has_a_cost(installed, spans):
    """The attempt that timed out is estimated from its input, and shows as the cost of the retry."""
    client = openai_client(Script(httpx2.ReadTimeout("too slow")), max_retries=0)
    with pytest.raises(openai.APITimeoutError), tokenguard.meter() as m:
        client.chat.completions.create(**CHAT)
    client.chat.completions.create(**CHAT)
    failed, retried = (dict(span.attributes) for span in spans)
    assert failed["tokenguard.cost.basis"] == "timed_out"
    assert retried["tokenguard.retry.cost_usd"] == failed["tokenguard.cost.usd"] > 0
    assert m.calls == 1


def test_final_error(installed, spans):
    """A refused call has its error, its resends, no usage and no cost."""
    down = [httpx2.Response(500, json={"error": {"message": "secret prompt"}}) for _ in range(3)]
    with pytest.raises(openai.InternalServerError):
        openai_client(Script(*down)).chat.completions.create(**CHAT)
    attributes = spans.attributes
    assert attributes["error.type"] == "openai.InternalServerError"
    assert attributes["http.request.resend_count"] == 2
    assert not [key for key in attributes if key.startswith(("tokenguard.cost", "gen_ai.usage"))]
    assert "secret" not in str(spans.one.to_json())


# --- double counting -------------------------------------------------------------------------------------------------


def test_native_span_is_enriched(installed, spans):
    """anthropic 2.x starts a span of its own: it becomes the call's, with its name and everything on it, once."""
    anthropic_client().messages.create(**MESSAGE)
    span = spans.one
    assert span.instrumentation_scope.name == "com.anthropic.sdk.python"
    assert span.name == "anthropic.messages.create"
    assert span.attributes["gen_ai.usage.input_tokens"] == 2600
    assert span.attributes["anthropic.usage.cache_creation.ephemeral_1h_input_tokens"] == 200
    assert span.status.status_code is StatusCode.OK


@pytest.mark.parametrize("leave", ["read", "close", "drop"])
def test_native_stream_span_ends_once(leave, installed, spans):
    """Whoever finishes first, the SDK or the meter, the native span ends once and nothing is written after its end."""
    stream = anthropic_client().messages.create(**MESSAGE, stream=True)
    if leave == "read":
        list(stream)
    else:
        next(iter(stream))
    if leave == "close":
        stream.close()
    del stream
    gc.collect()
    assert spans.attributes["tokenguard.cost.status"] == ("exact" if leave == "read" else "estimated")


def test_native_tracing_switched_off(installed, spans):
    """With the SDK's own tracing off, the span is ours."""
    anthropic_client(open_telemetry=False).messages.create(**MESSAGE)
    assert spans.one.instrumentation_scope.name == "tokenguard"
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(ANTHROPIC_COST)


def test_outer_instrumentation_owns_the_call(installed, spans):
    """Under an instrumentation that holds util-genai's context key there is one span, its own, with our facts on it."""
    from opentelemetry import context

    from tokenguard.telemetry.spans import OWNER_KEY

    def histograms():
        return sum(v[0] for (name, _), v in metric_points().items() if name == "gen_ai.client.operation.duration")

    before = histograms()
    with trace.get_tracer("other").start_as_current_span("chat gpt-4o-mini"):
        token = context.attach(context.set_value(OWNER_KEY, object()))
        openai_client().chat.completions.create(**CHAT)
        context.detach(token)
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(OPENAI_COST)
    assert spans.one.instrumentation_scope.name == "other"
    assert histograms() == before


def test_outer_span_without_the_key(installed, spans):
    """A client span of the same operation and model is another instrumentation's for this very call."""
    facts = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small"}
    tracer = trace.get_tracer("other")
    with tracer.start_as_current_span("embeddings", kind=trace.SpanKind.CLIENT, attributes=facts):
        openai_client().embeddings.create(model="text-embedding-3-small", input="x")
    assert spans.one.instrumentation_scope.name == "other"
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(0.0002)


def test_parent_is_untouched(installed, spans):
    """Two calls under one parent are its two children, and nothing is written on the parent."""
    with trace.get_tracer("app").start_as_current_span("request") as parent:
        client = openai_client()
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
    first, second, request = spans.all()
    assert dict(request.attributes) == {}
    assert {first.parent.span_id, second.parent.span_id} == {parent.get_span_context().span_id}


def test_trace_context_is_not_sent(installed):
    """TokenGuard adds no header to what goes to the provider."""
    seen = []

    def handler(request):
        seen.append(dict(request.headers))
        return canned(request)

    openai_client(handler).chat.completions.create(**CHAT)
    tokenguard.uninstall()
    openai_client(handler).chat.completions.create(**CHAT)
    assert seen[0].keys() == seen[1].keys()


# --- nothing that was not asked for ----------------------------------------------------------------------------------


def test_no_content(installed, spans):
    """Neither the prompt nor the answer is anywhere on the span."""
    openai_client().chat.completions.create(**CHAT)
    list(openai_client().chat.completions.create(**CHAT, stream=True))
    openai_client().embeddings.create(model="text-embedding-3-small", input="capital")
    recorded = " ".join(span.to_json() for span in spans)
    assert "capital" not in recorded
    assert "Paris" not in recorded
    assert len(recorded) < 9_000


def test_malformed_usage(installed, spans):
    """A usage object that makes no sense is no usage: the call is estimated, and returned as it came."""
    body = {**chat_body(), "usage": {"prompt_tokens": "many", "completion_tokens": -4, "prompt_tokens_details": [1]}}
    answer = openai_client(Script(httpx2.Response(200, json=body))).chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == "Paris."
    assert "gen_ai.usage.input_tokens" not in spans.attributes
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"


def test_unknown_model(installed, spans):
    """A model without a price has tokens and no cost."""
    body = {**chat_body(), "model": "gpt-9"}
    openai_client(Script(httpx2.Response(200, json=body))).chat.completions.create(model="gpt-9", messages=MESSAGES)
    attributes = spans.attributes
    assert attributes["tokenguard.cost.status"] == "unpriced"
    assert attributes["gen_ai.usage.input_tokens"] == 1200
    assert not [key for key in attributes if key.endswith("usd")]


def test_provider_zero_is_zero(installed, spans):
    """A provider's explicit zero is recorded; what it does not say is absent."""
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 0,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    openai_client(Script(httpx2.Response(200, json={**chat_body(), "usage": usage}))).chat.completions.create(**CHAT)
    attributes = spans.attributes
    assert attributes["gen_ai.usage.output_tokens"] == 0
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert "gen_ai.usage.reasoning.output_tokens" not in attributes


def test_request_leaves_as_it_came(installed):
    """But for the usage option on a stream, the body that is sent is the body that was given."""
    script = Script()
    openai_client(script).chat.completions.create(**CHAT, extra_body={"custom": {"a": 1}})
    tokenguard.uninstall()
    bare = Script()
    openai_client(bare).chat.completions.create(**CHAT, extra_body={"custom": {"a": 1}})
    assert json.dumps(script.requests) == json.dumps(bare.requests)


def test_what_is_not_given_is_not_in_the_body(installed, spans):
    """anthropic 2 keeps a placeholder for each option that was not given: it is no part of the request."""
    anthropic_client().messages.create(model=SONNET, messages=MESSAGES, max_tokens=20)
    anthropic_client().messages.create(model=SONNET, messages=MESSAGES, max_tokens=20, system=anthropic.NOT_GIVEN)
    one, other = (span.attributes["tokenguard.call.fingerprint"] for span in spans)
    body = {"model": SONNET, "messages": MESSAGES, "max_tokens": 20}
    order = {key: body[key] for key in ("max_tokens", "messages", "model")}
    assert one == other
    assert one in (fingerprint(snapshot("messages", "anthropic", each)[0], True) for each in (body, order))
    turned = {**body, "messages": [dict(reversed(each.items())) for each in MESSAGES]}
    assert snapshot("messages", "anthropic", turned) == snapshot("messages", "anthropic", body)
    tool = {"role": "tool", "tool_call_id": "a", "content": "x"}
    first, second = ({"messages": [dict(pairs)]} for pairs in (tool.items(), reversed(tool.items())))
    assert snapshot("chat", "openai", first) == snapshot("chat", "openai", second)


def turned(value):
    """The same with the keys of all mappings in another order."""
    if isinstance(value, dict):
        return {key: turned(each) for key, each in reversed(value.items())}
    return [turned(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("more", [{}, {"metadata": {"trace": {"id": "1", "at": 2}}, "stop": ["a", "b"]}])
def test_the_order_of_keys_does_not_matter(more):
    """Nor deep inside tools and schemas; the request that is held for a look has the order that was sent."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": "é"}, "b": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("one", "two")]
    body = {
        **CHAT,
        "tools": tools,
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        **more,
    }
    held, is_plain = snapshot("chat", "openai", body)
    other, _ = snapshot("chat", "openai", turned(body))
    assert is_plain
    assert fingerprint(held, True) == fingerprint(other, True)
    assert json.dumps(other.whole()[2]["tools"]) == json.dumps(turned(tools))
    assert held.size() == len(marshalled(body))
    renamed = {**body, "tools": tools[::-1]}
    assert fingerprint(snapshot("chat", "openai", renamed)[0], True) != fingerprint(held, True)
