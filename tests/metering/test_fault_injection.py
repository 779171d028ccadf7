"""The user's call is sacred: whatever fails inside TokenGuard, it returns, or raises, what it would have without."""

from __future__ import annotations

import contextvars
import datetime
import importlib
import json
import logging
from types import SimpleNamespace

import httpx
import httpx2
import openai
import pytest
from google.genai.types import HttpOptions, HttpRetryOptions
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

import connections
import tokenguard
from canned import MESSAGES, Script, async_openai_client, canned, event_stream, openai_client, sse
from canned_clouds import BEDROCK_SONNET, Refusing, bedrock_answer, bedrock_client, gemini, google_client
from rows import few
from tokenguard import prices, providers, tokens
from tokenguard.call import call, failures, repeats, scope, site
from tokenguard.installation import runtime
from tokenguard.metering import background, bill, meter, settling, told, usage_option
from tokenguard.providers import openai as openai_formats
from tokenguard.seams import (
    botocore,
    botocore_streams,
    cohere,
    google_genai,
    huggingface,
    ollama,
    signing,
    speakeasy,
    stainless,
    xai,
)
from tokenguard.seams.common import parts, sending, tap, watch
from tokenguard.telemetry import bulk, drain, metrics, spans, tallies, templates

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}


class Injected(Exception):
    """What is injected; were it to reach the user, the test would see it."""


def fail(*args, **kwargs):
    raise Injected


STEPS = [
    (stainless, "_exchange"),
    (stainless, "_endpoint"),
    (stainless, "api_of"),
    (stainless.StainlessExchange, "__init__"),
    (stainless.StainlessExchange, "read"),
    (stainless.StainlessExchange, "replace_body"),
    (stainless, "_unread_or_raw"),
    (stainless, "tap"),
    (tap, "_tapped"),
    (tap.Tap, "__init__"),
    (tap.Tap, "_events"),
    (tap.Tap, "_fold"),
    (watch.Watch, "__init__"),
    (tap, "_without_usage"),
    (call.Call, "__init__"),
    (call.Call, "resending"),
    (meter.Meter, "begin"),
    (usage_option.UsageOption, "asks"),
    (meter.Meter, "_open"),
    (meter.Meter, "_close"),
    (meter.Meter, "_answered"),
    (meter.Meter, "_start_span"),
    (settling, "bill"),
    (bill.Bill, "cost"),
    (bill.Bill, "_doubt"),
    (told.Told, "__init__"),
    (told.Told, "__call__"),
    (told.Told, "cost"),
    (settling.Settling, "_remember"),
    (settling.Settling, "settle"),
    (meter, "note_call_site"),
    (call, "fingerprint"),
    (told, "describe"),
    (told, "describe_money"),
    (meter, "outer_owner"),
    (meter, "silencing"),
    (tokens, "estimate_request"),
    (tokens, "estimate_tokens"),
    (prices.PriceBook, "cost"),
    (repeats.Repeats, "before"),
    (repeats.Repeats, "failed"),
    (repeats.Repeats, "succeeded"),
    (spans, "set_attributes"),
    (spans.CallSpan, "__init__"),
    (spans.CallSpan, "end"),
    (spans.CallSpan, "ids"),
    (spans.CallSpan, "identity"),
    (drain, "hex_ids"),
    (drain.Telemetry, "put"),
    (metrics.Metrics, "count_call"),
    (metrics.Metrics, "add_up"),
    (tallies.Tally, "add"),
    (bulk.Bulk, "add"),
    (templates.Spans, "start"),
    (templates.Template, "start"),
    (meter, "snapshot"),
    (drain.Telemetry, "_start"),
    (scope, "current"),
    (scope.Measurement, "add"),
    (openai_formats, "decoded"),
    (site, "_is_library"),
]


def calls_sync(handler):
    client = openai_client(handler, max_retries=1)
    with tokenguard.meter(), tokenguard.attribution(tenant="t"):
        yield client.chat.completions.create(**CHAT)
        yield list(client.chat.completions.create(**CHAT, stream=True))
        yield client.chat.completions.with_raw_response.create(**CHAT).parse()
        with client.chat.completions.with_streaming_response.create(**CHAT) as response:
            yield response.json()


async def calls_async(handler):
    client = async_openai_client(handler.asynchronously, max_retries=1)
    return [
        await client.chat.completions.create(**CHAT),
        [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)],
    ]


def outcome(run):
    """What a run returns, or the type of what it raises."""
    try:
        return run()
    except Exception as error:
        return type(error)


SCENARIOS = {
    "sync": lambda: list(calls_sync(Script())),
    "async": lambda: connections.run(calls_async(Script())),
    "sync, one resend": lambda: list(calls_sync(Script(httpx2.Response(500, json={"error": {}})))),
    "sync, refused": lambda: list(calls_sync(Script(*[httpx2.Response(400, json={"error": {}})] * 2))),
    "async, broken": lambda: connections.run(calls_async(Script(*[httpx2.ReadError("x")] * 2))),
}


@pytest.fixture
def lenient(monkeypatch):
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *a, **k: 0.0)
    monkeypatch.setattr(openai.AsyncOpenAI, "_calculate_retry_timeout", lambda *a, **k: 0.0)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    logging.getLogger("tokenguard").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("tokenguard").setLevel(logging.NOTSET)


def without_the_usage_chunk(result):
    """A failure between asking for usage and hiding it may show the caller one harmless chunk more."""
    if isinstance(result, list):
        return [[chunk for chunk in each if chunk.choices] if isinstance(each, list) else each for each in result]
    return result


def shortly(value):
    """The name of a row's owner, or of its step."""
    return getattr(value, "__name__", str(value)).split(".")[-1]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("owner", "step"), few(STEPS, len(STEPS) // 3), ids=shortly)
def test_internal_failure(owner, step, scenario, lenient, installed, monkeypatch):
    """Each internal step raises in turn, and the result is the bare SDK's."""
    tokenguard.uninstall()
    expected = outcome(SCENARIOS[scenario])
    tokenguard.install()
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        # In a context of its own: a failure while a span is left would leave it current for the tests that follow.
        got = contextvars.copy_context().run(outcome, SCENARIOS[scenario])
        runtime.installed().telemetry.flush()
    assert without_the_usage_chunk(got) == without_the_usage_chunk(expected)


# --- the SDKs with seams of their own ---------------------------------------------------------------------------------

CLOUD_STEPS = [
    (google_genai, "_exchange"),
    (google_genai, "_target"),
    (google_genai, "api_at"),
    (google_genai, "_retry_options"),
    (google_genai, "_event"),
    (google_genai, "_embeddings_facts"),
    (google_genai, "_caught_while_sending"),
    (google_genai.GoogleExchange, "__init__"),
    (google_genai.GoogleExchange, "read"),
    (google_genai.GoogleExchange, "shared_as"),
    (google_genai.GoogleExchange, "asked_by"),
    (botocore, "_exchange"),
    (botocore, "located"),
    (botocore, "_event"),
    (botocore, "watch_stream"),
    (botocore_streams, "_watched"),
    (botocore, "invoked"),
    (botocore_streams, "read_headers"),
    (botocore, "_caught"),
    (botocore_streams, "copy"),
    (signing, "_note"),
    (botocore.BedrockExchange, "__init__"),
    (botocore.BedrockExchange, "read"),
    (botocore_streams.BodyWatch, "__init__"),
    (botocore_streams.BodyWatch, "keep"),
    (botocore_streams.BodyWatch, "_events"),
    (botocore_streams.BodyWatch, "_fold"),
    (watch.Watch, "__init__"),
    (watch.Watch, "_events"),
    (watch.Watch, "_fold"),
    (call.Call, "__init__"),
    (call.Call, "resending"),
    (meter.Meter, "begin"),
    (meter.Meter, "_open"),
    (meter.Meter, "_close"),
    (settling.Settling, "settle"),
]


def cloud_calls():
    """What the SDKs' own objects say of one of each kind of call; the first attempt of each is refused."""
    retries = HttpRetryOptions(attempts=2, initial_delay=0.001, max_delay=0.001, jitter=0)
    http = HttpOptions(retry_options=retries, client_args={"transport": httpx2.MockTransport(Refusing(gemini))})
    with google_client(http_options=http) as google:
        ask = {"model": "gemini-2.5-flash", "contents": "Capital of France?"}
        yield google.models.generate_content(**ask).text
        yield [chunk.text for chunk in google.models.generate_content_stream(**ask)]
        yield google.models.embed_content(model="gemini-embedding-001", contents="x").embeddings[0].values
    bedrock = bedrock_client(Refusing(bedrock_answer))
    yield bedrock.converse(modelId=BEDROCK_SONNET, messages=[{"role": "user", "content": [{"text": "x"}]}])["output"]
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES})
    yield json.load(bedrock.invoke_model(modelId=BEDROCK_SONNET, body=body)["body"])
    asked = {"modelId": BEDROCK_SONNET, "messages": [{"role": "user", "content": [{"text": "x"}]}]}
    yield list(bedrock.converse_stream(**asked)["stream"])
    bedrock.close()


@pytest.mark.parametrize(
    ("owner", "step"),
    few(CLOUD_STEPS, len(CLOUD_STEPS) // 4),
    ids=shortly,
)
def test_internal_failure_in_other_seams(owner, step, lenient, installed, monkeypatch):
    """The same for SDKs that are not of the Stainless family."""
    tokenguard.uninstall()
    expected = list(cloud_calls())
    tokenguard.install()
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        got = contextvars.copy_context().run(outcome, lambda: list(cloud_calls()))
        runtime.installed().telemetry.flush()
    assert got == expected


def test_apis_that_fail(lenient, installed, monkeypatch):
    """A reader of responses that fails costs the reading, not the response."""
    broken = tuple(api._replace(read=fail, fold=fail, tool_steps=fail) for api in providers.formats())
    monkeypatch.setattr(providers, "formats", lambda places: broken)
    providers.api_of.cache_clear()
    try:
        assert next(iter(calls_sync(Script()))).id == "chatcmpl-1"
    finally:
        providers.api_of.cache_clear()


def test_failures_are_counted_and_logged_once(lenient, installed, monkeypatch, caplog):
    """The first failure of a place is in the log with its cause, further ones are counted."""
    logging.getLogger("tokenguard").setLevel(logging.WARNING)
    runtime.installed().telemetry.faults._seen.clear()
    before = runtime.installed().telemetry.faults.count
    monkeypatch.setattr(meter, "snapshot", fail)
    client = openai_client()
    for _ in range(3):
        client.chat.completions.create(**CHAT)
    assert runtime.installed().telemetry.faults.count == before + 3
    assert [r.message.split(" (")[0] for r in caplog.records] == ["tokenguard: beginning a call failed"]


def test_strict_mode_raises(installed, monkeypatch):
    """Our own tests run strict: an internal error is not hidden from them."""
    monkeypatch.setattr(meter, "snapshot", fail)
    with pytest.raises(Injected):
        openai_client().chat.completions.create(**CHAT)


def test_raising_span_processor(lenient, installed):
    """A span processor that raises does not reach the user."""
    from opentelemetry import trace

    class Raising(SpanProcessor):
        armed = True

        def on_start(self, span, parent_context=None):
            if self.armed:
                raise Injected

        def on_end(self, span: ReadableSpan):
            if self.armed:
                raise Injected

    processor = Raising()
    trace.get_tracer_provider().add_span_processor(processor)
    try:
        assert openai_client().chat.completions.create(**CHAT).id == "chatcmpl-1"
        assert len(list(openai_client().chat.completions.create(**CHAT, stream=True))) == 5
    finally:
        processor.armed = False


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("corrupt")])
def test_store_failure(failure, lenient, installed):
    """A store that cannot be written loses its rows, and nothing else."""

    class Full:
        def write(self, records):
            raise failure

        def hurry(self):
            pass

        def finish(self):
            raise failure

    telemetry = runtime.installed().telemetry
    telemetry._make_sink, telemetry._keeps = Full, True
    try:
        assert openai_client().chat.completions.create(**CHAT).id == "chatcmpl-1"
        telemetry.flush()
        assert telemetry.faults.count > 0
    finally:
        telemetry._make_sink, telemetry._sink, telemetry._keeps = (lambda: None), None, True


def test_sdk_without_what_we_hook(installed, monkeypatch):
    """An SDK version that lacks a method we watch is measured without that fact."""
    import openai._base_client as base

    tokenguard.uninstall()
    monkeypatch.delattr(base.SyncAPIClient, "_sleep_for_retry")
    tokenguard.install()
    assert openai_client().chat.completions.create(**CHAT).id == "chatcmpl-1"


def test_user_errors_pass_unchanged(installed):
    """The very exception that the transport raised is in the chain, and the traceback leads to it."""
    with pytest.raises(openai.APIConnectionError) as caught:
        openai_client(Script(httpx2.ConnectError("refused")), max_retries=0).chat.completions.create(**CHAT)
    assert str(caught.value.__cause__) == "refused"


# --- SDKs with wire formats of their own -----------------------------------------------------------------------------


def mistral_calls():
    from mistralai.client import Mistral
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    client = Mistral(api_key="k", client=httpx2.Client(transport=httpx2.MockTransport(mistral_answer)))
    yield client.chat.complete(model="mistral-small-latest", messages=MESSAGES).choices[0].message.content
    yield [event.data.choices for event in client.chat.stream(model="mistral-small-latest", messages=MESSAGES)]
    retries = RetryConfig("backoff", BackoffStrategy(1, 2, 1.0, 60_000), True)
    asked = {"model": "mistral-small-latest", "inputs": "What is the capital of France?", "retries": retries}
    refused: list[int] = []

    def second(request):
        refused.append(1)
        return httpx2.Response(503) if len(refused) == 1 else httpx2.Response(200, json=CONVERSATION)

    client = Mistral(api_key="k", client=httpx2.Client(transport=httpx2.MockTransport(second)))
    yield client.beta.conversations.start(**asked).outputs
    yield len(refused)


CONVERSATION = {
    "object": "conversation.response",
    "conversation_id": "c",
    "outputs": [{"type": "message.output", "role": "assistant", "content": "Paris."}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
}


def mistral_answer(request):
    asked = json.loads(request.content)
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "mistral-small-latest"}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    said = {"role": "assistant", "content": "Paris."}
    if asked.get("stream"):
        choice = {"index": 0, "delta": said, "finish_reason": "stop"}
        return event_stream(sse([{**answer, "choices": [choice], "usage": usage}], done=True))
    return httpx2.Response(
        200, json={**answer, "choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": usage}
    )


def cohere_calls():
    import cohere

    usage = {"billed_units": {"input_tokens": 20, "output_tokens": 5}}
    end = {"finish_reason": "COMPLETE", "usage": usage}
    events = [{"type": "message-start", "id": "1"}, {"type": "message-end", "delta": end}]

    def answer(request):
        if json.loads(request.content).get("stream"):
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(sse(events)))
        message = {"role": "assistant", "content": [{"type": "text", "text": "Paris."}]}
        return httpx.Response(200, json={"id": "1", "message": message, **end})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = cohere.ClientV2(api_key="k", httpx_client=http)
        yield client.chat(model="command-r", messages=MESSAGES).message.content[0].text
        yield [event.type for event in client.chat_stream(model="command-r", messages=MESSAGES)]


def ollama_calls():
    import ollama

    end = {"model": "llama3.2", "done": True, "prompt_eval_count": 20, "eval_count": 5}
    answer = {**end, "message": {"role": "assistant", "content": "Paris."}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=json.dumps(answer).encode() + b"\n"))
    client = ollama.Client(transport=transport)
    yield client.chat(model="llama3.2", messages=MESSAGES).message.content
    yield [part.message.content for part in client.chat(model="llama3.2", messages=MESSAGES, stream=True)]
    with pytest.raises(ConnectionError):
        ollama.Client(transport=httpx.MockTransport(unreachable)).chat(model="llama3.2", messages=MESSAGES)


def unreachable(request):
    raise httpx.ConnectError("refused")


def huggingface_calls():
    module = importlib.import_module("huggingface_hub.inference._client")
    transport = httpx2.MockTransport(canned)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_session", lambda: httpx2.Client(transport=transport))
        client = module.InferenceClient(base_url="http://localhost/v1", api_key="k")
        yield client.chat_completion(MESSAGES, model="m").choices[0].message.content
        # A failure between asking for usage and hiding it may show one harmless chunk more.
        yield [
            c.choices[0].delta.content for c in client.chat_completion(MESSAGES, model="m", stream=True) if c.choices
        ]


def xai_calls():
    import grpc
    import xai_sdk

    from canned_xai import MODEL, Refuse, XaiServer

    def chat(client):
        return client.chat.create(model=MODEL).append(xai_sdk.chat.user("Capital of France?"))

    async def asynchronously(host):
        client = xai_sdk.AsyncClient(api_key="k", api_host=host)
        said = [(await chat(client).sample()).content, (await chat(client).defer(interval=QUICKLY)).content]
        said += [chunk.content async for _, chunk in chat(client).stream()]
        await client.close()
        return said

    with XaiServer() as server:
        client = xai_sdk.Client(api_key="k", api_host=server.host)
        yield chat(client).sample().content
        yield [chunk.content for _, chunk in chat(client).stream()]
        yield chat(client).defer(interval=QUICKLY).content
        server.chat.script = [Refuse(grpc.StatusCode.INTERNAL)] * 2
        with pytest.raises(grpc.RpcError, match="said no"):
            chat(client).sample()
        with pytest.raises(grpc.RpcError, match="said no"):
            list(chat(client).stream())
        server.chat.pending = 10**6
        with pytest.raises(TimeoutError):
            chat(client).defer(timeout=QUICKLY, interval=QUICKLY)
        client.close()
        server.chat.pending = 0
        yield connections.run(asynchronously(server.host))


QUICKLY = datetime.timedelta(milliseconds=1)
WIRES = {
    each.__name__.removesuffix("_calls"): each
    for each in (mistral_calls, cohere_calls, ollama_calls, huggingface_calls, xai_calls)
}
WIRE_STEPS = [
    (sending.SentExchange, "__init__"),
    (sending.SentExchange, "read"),
    (sending.SentExchange, "replace_body"),
    (sending, "tap"),
    (sending, "Parts"),
    (parts, "tells_only_usage"),
    (speakeasy, "located"),
    (speakeasy, "api_of"),
    (speakeasy, "conversation_of"),
    (speakeasy, "_traced"),
    (speakeasy, "json"),
    (speakeasy.Attempts, "_next"),
    (cohere, "located"),
    (ollama.Made, "line"),
    (ollama, "located"),
    (xai, "plain"),
    (xai, "_event"),
    (xai, "_own_span"),
    (xai, "_note_host"),
    (xai, "_asked"),
    (xai, "_given_up"),
    (xai, "Parts"),
    (xai.RpcExchange, "__init__"),
    (xai.RpcExchange, "read"),
    (failures, "grpc_code"),
    (spans.HeldSpan, "__init__"),
    (spans.HeldSpan, "end"),
    (background.Pending, "keep"),
    (background.Pending, "ended"),
    (huggingface, "_line"),
    (huggingface, "api_of"),
    (watch.Watch, "__init__"),
    (watch.Watch, "_fold"),
    (meter.Meter, "begin"),
    (meter.Meter, "_open"),
    (meter.Meter, "_close"),
    (settling.Settling, "settle"),
]


def test_each_step_is_there():
    """A step that was renamed or moved is named as what it is now: most rows do not run in the quick loop."""
    assert [(owner, name) for owner, name in (*STEPS, *CLOUD_STEPS, *WIRE_STEPS) if not hasattr(owner, name)] == []


@pytest.mark.parametrize("wire", few(WIRES, 1))
@pytest.mark.parametrize(
    ("owner", "step"),
    few(WIRE_STEPS, len(WIRE_STEPS) // 4),
    ids=shortly,
)
def test_internal_failure_of_other_seams(owner, step, wire, lenient, installed, monkeypatch):
    """The same for SDKs that are not of the Stainless family."""
    tokenguard.uninstall()
    expected = list(WIRES[wire]())
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        tokenguard.install()
        got = contextvars.copy_context().run(lambda: list(WIRES[wire]()))
        runtime.installed().telemetry.flush()
    assert got == expected
