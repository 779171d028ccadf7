"""xai-sdk against a gRPC server on loopback, in whatever version is installed: measured, guarded, and as it was."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import sys
import threading
import time

import pytest

import connections

pytest.importorskip("xai_sdk")

import grpc
import xai_sdk
from pydantic import BaseModel
from xai_sdk.chat import assistant, image, system, tool, tool_result, user
from xai_sdk.proto import chat_pb2

import canned_xai
import tokenguard
from canned_xai import COST, MODEL, OUTPUTS, WORDS, Refuse, XaiServer, tool_call
from policies import short_and_cheap
from tokenguard import CircuitOpen, LimitExceeded, policy
from tokenguard.guard.admission import Guard
from tokenguard.guard.breakers import Breakers
from tokenguard.guard.worst_case import WorstCase
from tokenguard.installation import runtime
from tokenguard.metering import meter
from tokenguard.metering.bill import Bill
from tokenguard.metering.settling import Settling
from tokenguard.providers import xai
from tokenguard.seams import xai as xai_seam
from tokenguard.seams.xai import plain
from tokenguard.tokens import count_request, upper_bound_request

pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of `sample_batch` and its like
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # old clients cannot be closed
]

MAX = 40
TRACES = hasattr(xai_sdk.sync.chat, "tracer")
"""Whether this version has spans of its own; those before 1.3 have none."""
OWN_TOOLS = (
    "server_side_tools_used"
    in chat_pb2.GetChatCompletionResponse.DESCRIPTOR.fields_by_name["usage"].message_type.fields_by_name
)
TOOL = tool("look_up", "Search the stock.", {"type": "object", "properties": {"query": {"type": "string"}}})
QUICKLY = datetime.timedelta(milliseconds=1)


def usage_of(kind, message):
    """The usage that an answer of this version has; `None` where there is no such answer."""
    protos = {"image": canned_xai.image_pb2, "video": canned_xai.video_pb2}[kind]
    fields = {} if protos is None else getattr(protos, message).DESCRIPTOR.fields_by_name
    return fields["usage"].message_type if "usage" in fields else None


class Answer(BaseModel):
    city: str


@pytest.fixture
def server():
    with XaiServer() as running:
        yield running


@pytest.fixture
def client(server, installed):
    opened = xai_sdk.Client(api_key="k", api_host=server.host)
    yield opened
    getattr(opened, "close", lambda: None)()


def chat(client, **settings):
    made = client.chat.create(**{"model": MODEL, "max_tokens": MAX, "temperature": 0.7, **settings})
    return made.append(user("Capital of France?"))


def run(server, scenario):
    """Run a coroutine with an asynchronous client of its own."""

    async def main():
        client = xai_sdk.AsyncClient(api_key="k", api_host=server.host)
        try:
            return await scenario(client)
        finally:  # one that is collected open waits for a thread, in whatever loop runs then
            await asyncio.sleep(0.02)  # a generator that was left behind is closed by the loop, a moment later
            if hasattr(client, "close"):
                await client.close()

    return connections.run(main())


def parse(made):
    return made.parse(Answer)[1].city


SYNC = {
    "sample": lambda c: chat(c).sample().content,
    "sample_batch": lambda c: [r.content for r in chat(c).sample_batch(2)],
    "stream": lambda c: "".join(chunk.content for _, chunk in chat(c).stream()),
    "stream_batch": lambda c: [r.content for r in list(chat(c).stream_batch(2))[-1][0]],
    "parse": lambda c: parse(chat(c)),
    "defer": lambda c: chat(c).defer(interval=QUICKLY).content,
    "defer_batch": lambda c: [r.content for r in chat(c).defer_batch(2, interval=QUICKLY)],
}


async def streamed(stream):
    return [item async for item in stream]


async def aparse(made):
    return (await made.parse(Answer))[1].city


async def content(awaitable):
    answer = await awaitable
    return answer.content if hasattr(answer, "content") else [each.content for each in answer]


async def joined(stream):
    return "".join([chunk.content async for _, chunk in stream])


async def last(stream):
    return [response.content for response in (await streamed(stream))[-1][0]]


ASYNC = {
    "sample": lambda c: content(chat(c).sample()),
    "sample_batch": lambda c: content(chat(c).sample_batch(2)),
    "stream": lambda c: joined(chat(c).stream()),
    "stream_batch": lambda c: last(chat(c).stream_batch(2)),
    "parse": lambda c: aparse(chat(c)),
    "defer": lambda c: content(chat(c).defer(interval=QUICKLY)),
    "defer_batch": lambda c: content(chat(c).defer_batch(2, interval=QUICKLY)),
}
SAID = "".join(WORDS)


def expected(name):
    return "Paris" if name == "parse" else [SAID] * 2 if name.endswith("batch") else SAID


def check(name, server, measured, spans):
    """One span, with all that the contract has."""
    attributes = spans.attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "x_ai"
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == MODEL
    assert attributes["gen_ai.request.max_tokens"] == MAX
    assert attributes["gen_ai.request.temperature"] == 0.7
    assert (attributes["server.address"], attributes["server.port"]) == ("localhost", server.port)
    assert attributes["gen_ai.response.id"] == "rsp_1"
    assert set(attributes["gen_ai.response.finish_reasons"]) == {"REASON_STOP"}
    assert len(attributes["gen_ai.response.finish_reasons"]) == (2 if name.endswith("batch") else 1)
    assert attributes["gen_ai.usage.input_tokens"] == 1200
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 1024
    assert attributes["gen_ai.usage.output_tokens"] == 300  # the SDK's own count leaves the reasoning out
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 200
    assert attributes["tokenguard.cost.usd"] == pytest.approx(COST, abs=1e-12)
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["tokenguard.tenant"] == "t"
    assert attributes["code.file.path"] == __file__
    assert ("gen_ai.response.time_to_first_chunk" in attributes) == name.startswith("stream")
    assert (measured.calls, measured.cost_usd) == (1, pytest.approx(COST, abs=1e-12))


@pytest.mark.parametrize("name", SYNC)
def test_sync(name, server, client, installed, spans):
    """One span a call, whatever the method, with usage, cost, attribution and call site; the answer is the SDK's."""
    server.chat.message = {"content": '{"city": "Paris"}'} if name == "parse" else {}
    with tokenguard.meter() as measured, tokenguard.attribution(tenant="t"):
        assert SYNC[name](client) == expected(name)
    check(name, server, measured, spans)


@pytest.mark.parametrize("name", ASYNC)
def test_async(name, server, installed, spans):
    """The same for the asynchronous client."""
    server.chat.message = {"content": '{"city": "Paris"}'} if name == "parse" else {}
    with tokenguard.meter() as measured, tokenguard.attribution(tenant="t"):
        assert run(server, ASYNC[name]) == expected(name)
    check(name, server, measured, spans)


@pytest.mark.parametrize("traced", [False, True])
def test_own_span(traced, client, server, installed, spans, monkeypatch):
    """Where the SDK starts a span itself, that one gets the facts, and is the only one; where it does not, ours is."""
    if traced and not TRACES:
        pytest.skip("this version has no spans of its own")
    if TRACES and not traced:
        from opentelemetry.trace import NoOpTracer

        monkeypatch.setattr(xai_sdk.sync.chat, "tracer", NoOpTracer())  # as XAI_SDK_DISABLE_TRACING has it
    for name in ("sample", "stream", "defer"):
        SYNC[name](client)
    for span in spans:
        assert span.instrumentation_scope.name == ("xai_sdk.sync.chat" if traced else "tokenguard")
        assert span.name.startswith("chat.") == traced  # the SDK's span has the SDK's name
        assert span.name.endswith(MODEL)
        assert span.attributes["tokenguard.cost.usd"] == pytest.approx(COST, abs=1e-12)
        assert span.attributes["gen_ai.usage.output_tokens"] == 300
        assert ("gen_ai.usage.prompt_text_tokens" in span.attributes) == traced
    assert len(spans) == 3


def test_client_from_before(server, spans, request):
    """A client that was made before TokenGuard was installed is measured, and is as it was after."""
    tokenguard.uninstall()
    client = xai_sdk.Client(api_key="k", api_host=server.host)
    request.getfixturevalue("installed")
    SYNC["sample"](client)
    assert spans.attributes["tokenguard.cost.usd"] > 0
    tokenguard.uninstall()
    spans.clear()
    assert SYNC["stream"](client) == SAID
    assert not any("tokenguard.cost.usd" in span.attributes for span in spans)
    getattr(client, "close", lambda: None)()


def test_stub_itself(client, server, installed, spans):
    """A program that uses the generated stub is measured, and can do with it what it could."""
    stub, request = client.chat._stub, chat(client).proto
    assert stub.GetCompletion(request=request, timeout=5).id == "rsp_1"
    stream = stub.GetCompletionChunk(request)
    assert next(stream).id == "rsp_1"
    stream.cancel()
    with pytest.raises(grpc.RpcError):
        list(stream)
    assert stub.GetCompletion.future(request).result().id == "rsp_1"
    assert stub.GetCompletion.with_call(request)[0].id == "rsp_1"
    assert [record.outcome for record in installed.records] == ["ok", "error"]
    assert spans.all()[1].attributes["error.type"] == "CANCELLED"
    mine = chat_pb2.GetChatCompletionResponse(id="mine")
    stub.GetCompletion = lambda request: mine  # as a test of the application may do
    assert stub.GetCompletion(request) is mine


def test_compaction(client, server, installed, spans):
    """Having a conversation compacted is a call of the model, too."""
    if not hasattr(client.chat, "compact_context"):
        pytest.skip("this version cannot")
    client.chat.compact_context(MODEL, [user("Capital of France?")])
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST, abs=1e-12)
    assert spans.attributes["gen_ai.request.model"] == MODEL


def test_what_is_no_call_passes(client, server, installed, spans):
    """What runs no model has no cost: the server here knows none of it, and the SDK's error is what comes of it."""
    with pytest.raises(grpc.RpcError):
        client.models.list_language_models()
    assert installed.records == []


# --- what a call cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample", "stream"])
def test_reported_cost(name, client, server, installed, spans):
    """Where xAI says what it charged, that is the cost, tools of its own included."""
    if "cost_in_usd_ticks" not in fields_of_usage():
        pytest.skip("this version does not know the field")
    server.chat.usage |= {"cost_in_usd_ticks": 123_456_789, "server_side_tools_used": [1]}
    SYNC[name](client)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(0.0123456789)
    assert spans.attributes["tokenguard.cost.status"] == "exact"


def fields_of_usage():
    return chat_pb2.GetChatCompletionResponse.DESCRIPTOR.fields_by_name["usage"].message_type.fields_by_name


def test_fees_for_sources(client, server, installed, spans):
    """A search of xAI's own has a fee that is not tokens: what the tokens cost is then an estimate, and says so."""
    server.chat.usage |= {"num_sources_used": 2}
    SYNC["sample"](client)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST, abs=1e-12)
    assert spans.attributes["tokenguard.cost.status"] == "estimated"
    assert spans.attributes["tokenguard.cost.basis"] == "tool_fees_excluded"


def test_zero_is_reported(client, server, installed, spans):
    """A message leaves out what is zero: nothing was cached, and nothing was reasoned."""
    server.chat.usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    SYNC["sample"](client)
    assert spans.attributes["gen_ai.usage.output_tokens"] == 5
    assert spans.attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert spans.attributes["gen_ai.usage.reasoning.output_tokens"] == 0


def test_no_usage_is_unknown(client, server, installed, spans):
    """An answer without usage has none, and its cost is an estimate."""
    server.chat.usage = {}
    SYNC["sample"](client)
    assert "gen_ai.usage.input_tokens" not in spans.attributes or TRACES  # the SDK writes its zeros
    (record,) = installed.records
    assert record.usage is None
    assert record.cost.basis == "missing_usage"


def test_priority(client, server, installed, spans):
    """The tier that the request was served in is what it is priced by."""
    if "service_tier" not in chat_pb2.GetChatCompletionResponse.DESCRIPTOR.fields_by_name:
        pytest.skip("this version does not know the field")
    server.chat.said = {"service_tier": 2}
    SYNC["sample"](client)
    assert spans.attributes["tokenguard.cost.basis"] == "assumed_priority"


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample", "stream"])
def test_tool_calls(name, client, server, installed, spans):
    """The calls that the application shall answer are counted; those that xAI answers itself are not."""
    calls = [tool_call(), tool_call()]
    kinds = getattr(chat_pb2, "ToolCallType", None)
    if kinds is not None and "TOOL_CALL_TYPE_WEB_SEARCH_TOOL" in kinds.keys():  # noqa: SIM118 - it is no mapping
        calls.append(tool_call("web_search", type="TOOL_CALL_TYPE_WEB_SEARCH_TOOL"))
        calls[0].type = kinds.Value("TOOL_CALL_TYPE_CLIENT_SIDE_TOOL")
    server.chat.message = {"content": "", "tool_calls": calls}
    SYNC[name](client)
    assert spans.attributes["tokenguard.tool.calls"] == 2


def with_rounds(client, count):
    made = chat(client, tools=[TOOL])
    for _ in range(count):
        made.append(chat_pb2.Message(role=chat_pb2.MessageRole.ROLE_ASSISTANT, tool_calls=[tool_call()]))
        made.append(tool_result("not found"))
    return made


def test_tool_steps(client, installed, spans):
    """Rounds of tools are read from the conversation, and the round too many is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "agents"\nmax_tool_steps = 3'))
    with_rounds(client, 3).sample()
    assert spans.attributes["tokenguard.tool.steps"] == 3
    with pytest.raises(LimitExceeded) as refused:
        with_rounds(client, 4).sample()
    assert refused.value.observed == 4
    with_rounds(client, 4).append(assistant("No.")).append(user("And now?")).sample()


def test_stored_rounds(client, server, installed, spans):
    """Rounds behind a response that xAI has stored are counted with those of the request that continues it."""
    if "previous_response_id" not in chat_pb2.GetCompletionsRequest.DESCRIPTOR.fields_by_name:
        pytest.skip("this version cannot store")
    with_rounds(client, 2).sample()
    spans.clear()
    made = client.chat.create(model=MODEL, previous_response_id="rsp_1", tools=[TOOL])
    made.append(chat_pb2.Message(role=chat_pb2.MessageRole.ROLE_ASSISTANT, tool_calls=[tool_call()]))
    made.append(tool_result("not found")).sample()
    assert spans.attributes["tokenguard.tool.steps"] == 3


# --- failures --------------------------------------------------------------------------------------------------------

REFUSED = {"sample": SYNC["sample"], "stream": SYNC["stream"], "defer": SYNC["defer"]}


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, code, client, server, installed, spans):
    """What xAI refuses raises gRPC's own error, has no cost, and has the status code as its type."""
    server.chat.script = [Refuse(grpc.StatusCode[code])]
    with pytest.raises(grpc.RpcError) as caught:
        REFUSED[name](client)
    assert caught.value.code() is grpc.StatusCode[code]
    (span,) = spans
    assert not span.status.is_ok
    assert span.attributes["error.type"] == code
    assert "tokenguard.cost.status" not in span.attributes
    assert [record.outcome for record in installed.records] == ["error"]


@pytest.mark.parametrize("name", ["sample", "stream", "defer"])
def test_refused_async(name, server, installed, spans):
    """The same for the asynchronous client, whose errors are of another class."""
    server.chat.script = [Refuse(grpc.StatusCode.PERMISSION_DENIED)]
    with pytest.raises(grpc.RpcError) as caught:
        run(server, ASYNC[name])
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert spans.attributes["error.type"] == "PERMISSION_DENIED"
    assert "tokenguard.cost.status" not in spans.attributes


def test_resends_are_one_call(client, server, installed, spans):
    """What gRPC sends again by itself is part of the call; how often, it tells nobody."""
    server.chat.script = [Refuse(grpc.StatusCode.UNAVAILABLE)] * 2
    assert SYNC["sample"](client) == SAID
    assert server.chat.attempts == "2"
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST, abs=1e-12)
    assert "http.request.resend_count" not in spans.attributes


def test_no_server(installed, spans):
    """A server that cannot be reached is unavailable, and that costs nothing."""
    options = [("grpc.enable_retries", 0)]
    client = xai_sdk.Client(api_key="k", api_host="localhost:1", channel_options=options)
    with pytest.raises(grpc.RpcError):
        SYNC["sample"](client)
    assert spans.attributes["error.type"] == "UNAVAILABLE"
    assert "tokenguard.cost.status" not in spans.attributes
    getattr(client, "close", lambda: None)()


def test_deadline(server, installed, spans):
    """An answer that was not waited for may be on the bill: its input is an estimated cost."""
    server.chat.hold.clear()
    client = xai_sdk.Client(api_key="k", api_host=server.host, timeout=0.1)
    with pytest.raises(grpc.RpcError):
        SYNC["sample"](client)
    assert spans.attributes["error.type"] == "DEADLINE_EXCEEDED"
    (record,) = installed.records
    assert (record.cost.status, record.cost.basis) == ("estimated", "timed_out")
    getattr(client, "close", lambda: None)()


BREAKER = '[[breaker]]\nname = "xai"\nfailures = 2\nwindow = "1m"\ncooldown = "1m"'


@pytest.mark.parametrize(
    ("code", "opens"),
    [("RESOURCE_EXHAUSTED", True), ("INTERNAL", True), ("DEADLINE_EXCEEDED", True), ("INVALID_ARGUMENT", False)],
)
def test_breaker(code, opens, client, server, installed):
    """A breaker sees gRPC's codes as the statuses they stand for."""
    tokenguard.install(policy.loads(BREAKER))
    server.chat.script = [Refuse(grpc.StatusCode[code])] * 2
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            SYNC["sample"](client)
    if opens:
        with pytest.raises(CircuitOpen):
            SYNC["sample"](client)
    else:
        assert SYNC["sample"](client) == SAID


def test_repeated_failures(client, server, installed, spans):
    """The application's own repeats of a request that failed are seen, and stopped."""
    tokenguard.install(policy.loads('[[limit]]\nname = "calm"\nmax_retries = 1'))
    server.chat.script = [Refuse(grpc.StatusCode.INTERNAL)] * 3
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            SYNC["sample"](client)
    with pytest.raises(LimitExceeded):
        SYNC["sample"](client)
    assert [span.attributes.get("tokenguard.retry.attempt") for span in spans] == [None, 1, 2]


# --- streams that do not end well ------------------------------------------------------------------------------------


def check_abandoned(record, spans):
    """One span, and a cost from the usage that had come by then, as an estimate."""
    assert record.outcome == "abandoned"
    assert (record.cost.status, record.cost.basis) == ("estimated", "abandoned_stream")
    assert spans.attributes["gen_ai.usage.input_tokens"] == 1200
    assert spans.attributes["gen_ai.usage.output_tokens"] == 201
    assert 0 < spans.attributes["tokenguard.cost.usd"] < COST


@pytest.mark.parametrize("way", ["dropped", "closed"])
def test_abandoned(way, client, server, installed, spans):
    """A stream that is not read to its end ends once, and the server is told."""
    stream = chat(client).stream()
    next(stream)
    if way == "closed":
        stream.close()
    else:
        del stream
    (record,) = installed.records  # at once: nothing waits for the garbage collector
    check_abandoned(record, spans)
    gc.collect()
    assert len(installed.records) == 1
    assert server.chat.cancelled.wait(5)


def test_abandoned_async(server, installed, spans, caplog):
    """The same for an asynchronous stream."""

    async def scenario(client):
        async for _ in chat(client).stream():
            break

    run(server, scenario)
    gc.collect()
    (record,) = installed.records
    check_abandoned(record, spans)


def test_never_read(client, server, installed, spans):
    """A stream that is never read is never sent."""
    stream = chat(client).stream()
    del stream
    assert (server.chat.requests, installed.records) == ([], [])


@pytest.mark.parametrize("name", ["sample", "stream", "defer"])
def test_cancelled(name, server, installed, spans):
    """A task that is cancelled while it waits ends its call once, as abandoned."""
    server.chat.hold.clear()
    server.chat.pending = 10**6

    async def scenario(client):
        if name == "defer":
            server.chat.hold.set()
        task = asyncio.create_task(ASYNC[name](client))
        while not server.chat.requests and not task.done():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(server, scenario)
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.status == "estimated"
    assert len(spans) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_breaks_off(asynchronous, client, server, installed, spans):
    """A stream that fails midway is an error, with the usage that had come as an estimate of its cost."""
    server.chat.stops_after = 1
    with pytest.raises(grpc.RpcError):
        run(server, ASYNC["stream"]) if asynchronous else SYNC["stream"](client)
    (record,) = installed.records
    assert record.outcome == "error"
    assert (record.cost.status, record.cost.basis) == ("estimated", "missing_usage")
    assert spans.attributes["error.type"] == "UNAVAILABLE"
    assert spans.attributes["gen_ai.usage.output_tokens"] == 201


# --- deferred --------------------------------------------------------------------------------------------------------


def test_expired(client, server, installed, spans):
    """A deferred completion that expires is an error."""
    server.chat.pending = -1
    with pytest.raises(RuntimeError):
        SYNC["defer"](client)
    assert spans.attributes["error.type"] == "expired"


def test_not_waited_for(client, server, installed, spans):
    """Where the SDK stops asking, the call ends: xAI goes on with it, so that it may be on the bill."""
    server.chat.pending = 10**6
    short = datetime.timedelta(milliseconds=50)
    with pytest.raises(TimeoutError):
        chat(client).defer(timeout=short, interval=QUICKLY)
    assert spans.attributes["error.type"] == "TimeoutError"
    assert spans.attributes["tokenguard.cost.basis"] == "timed_out"
    assert not installed.meter.pending


# --- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [None, MAX])
@pytest.mark.parametrize("name", SYNC)
def test_clamp_and_downgrade(name, cap, client, server, installed, spans):
    """The cap and the model are changed in what is sent, and in nothing else; the span says so."""
    server.chat.message = {"content": '{"city": "Paris"}'} if name == "parse" else {}
    tokenguard.install(policy.loads(short_and_cheap("grok-3-mini")))
    made = chat(client, max_tokens=cap, tools=[TOOL], messages=[system("Be short.")])
    before = made.proto.SerializeToString()
    call_of(name)(made)
    (sent,) = server.chat.requests
    assert (sent.max_tokens, sent.model) == (7, "grok-3-mini")
    assert made.proto.SerializeToString() == before or name == "parse"  # which sets the form of the answer
    sent.model = MODEL
    sent.ClearField("n")
    sent.max_tokens = cap or 0
    if cap is None:
        sent.ClearField("max_tokens")
    assert sent == made.proto
    attributes = spans.attributes
    assert attributes.get("tokenguard.guard.original_max_tokens") == cap
    assert attributes["tokenguard.guard.original_model"] == MODEL
    assert attributes["gen_ai.request.model"] == "grok-3-mini"
    assert attributes["gen_ai.request.max_tokens"] == 7


def call_of(name):
    return {
        "sample": lambda made: made.sample(),
        "sample_batch": lambda made: made.sample_batch(2),
        "stream": lambda made: list(made.stream()),
        "stream_batch": lambda made: list(made.stream_batch(2)),
        "parse": lambda made: made.parse(Answer),
        "defer": lambda made: made.defer(interval=QUICKLY),
        "defer_batch": lambda made: made.defer_batch(2, interval=QUICKLY),
    }[name]


@pytest.mark.parametrize("name", SYNC)
def test_blocked(name, client, server, installed, spans):
    """A refused call is not sent, and its span says by which rule."""
    tokenguard.install(policy.loads('[[limit]]\nname = "tiny"\nmax_input_tokens = 1'))
    with pytest.raises(LimitExceeded):
        SYNC[name](client)
    assert server.chat.requests == []
    assert spans.attributes["tokenguard.guard.rule"] == "tiny"
    assert [record.outcome for record in installed.records] == ["blocked"]


@pytest.mark.parametrize("name", ["sample", "stream", "defer"])
def test_blocked_async(name, server, installed, spans):
    """The same for the asynchronous client."""
    tokenguard.install(policy.loads('[[limit]]\nname = "tiny"\nmax_input_tokens = 1'))
    with pytest.raises(LimitExceeded):
        run(server, ASYNC[name])
    assert server.chat.requests == []
    assert spans.attributes["tokenguard.guard.rule"] == "tiny"


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/ledger.db"])
def test_budget(url, client, server, installed, tmp_path):
    """A budget is spent by these calls as by any other, and refuses the one that could pass it."""
    server.chat.usage = {
        "prompt_tokens": 20,
        "completion_tokens": 30,
        "total_tokens": 50,
    }  # within its caps
    rules = f'[[budget]]\nname = "small"\nlimit_usd = 0.001\n[ledger]\nurl = "{url.format(tmp_path)}"'
    tokenguard.install(policy.loads(rules))

    def again():
        for n in range(50):
            SYNC[("sample", "stream", "defer")[n % 3]](client)

    with pytest.raises(tokenguard.BudgetExceeded):
        again()
    spent = sum(record.cost_usd or 0.0 for record in installed.records)
    assert 0.0006 < spent <= 0.001


def test_choices_are_reserved(client, installed):
    """The worst case counts every answer that is asked for."""
    rules = '[[limit]]\nname = "dear"\nmax_cost_usd = 0.0004'
    tokenguard.install(policy.loads(rules))
    SYNC["sample"](client)  # 40 tokens out are $0.0001, and the input's bound about as much
    with pytest.raises(LimitExceeded):
        chat(client).sample_batch(4)


def test_single_flight(client, server, installed, spans):
    """Identical calls under way at once are sent once."""
    tokenguard.install(policy.loads('[[share]]\nname = "once"'))
    server.chat.hold.clear()
    said = []
    threads = [threading.Thread(target=lambda: said.append(SYNC["sample"](client))) for _ in range(3)]
    for thread in threads:
        thread.start()
    flying = installed.meter.guard.flights._flying
    until = time.monotonic() + 10
    while not server.chat.requests or next(iter(flying.values())).followers < 2:
        assert time.monotonic() < until, "nobody waits for the answer of another"
    server.chat.hold.set()
    for thread in threads:
        thread.join()
    assert said == [SAID] * 3
    assert len(server.chat.requests) == 1


def test_stream_cannot_be_shared(client, server, installed, spans):
    """A stream by gRPC is its caller's alone, and the span says that it could not be shared."""
    tokenguard.install(policy.loads('[[share]]\nname = "once"'))
    assert SYNC["stream"](client) == SAID
    assert spans.attributes["tokenguard.cache.result"] == "skip"
    assert spans.attributes["tokenguard.cache.reason"] == "wire"


# --- what a request says ---------------------------------------------------------------------------------------------


def test_counting(client):
    """Text is counted as in other formats; a picture, a file or a tool of xAI's own makes the bound incomplete."""
    request = chat(client).proto
    body = plain(request)
    assert body == {
        "messages": [{"content": [{"text": "Capital of France?", "type": "text"}], "role": "user"}],
        "model": MODEL,
        "max_tokens": MAX,
        "temperature": 0.7,
    }
    bound = upper_bound_request(body)
    assert bound.complete
    assert 4 < count_request(xai.CHAT.words, body).tokens <= bound.tokens
    shown = plain(chat(client).append(user("What is this?", image("https://example.com/a.png"))).proto)
    assert not upper_bound_request(shown).complete
    assert count_request(xai.CHAT.words, shown).tokens > 700
    if hasattr(chat_pb2.Tool(), "web_search"):
        hosted = plain(chat(client, tools=[chat_pb2.Tool(web_search={})]).proto)
        assert not upper_bound_request(hosted).complete


def test_content(client, server, spans, monkeypatch):
    """Prompts and answers are recorded in OpenTelemetry's form, where the variable asks for it."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    tokenguard.uninstall()
    tokenguard.install()
    server.chat.message = {"content": "Let me see.", "tool_calls": [tool_call()]}
    made = chat(client, tools=[TOOL], messages=[system("Be short.")])
    made.append(made.sample()).append(tool_result("not found"))
    server.chat.message = {}
    list(made.stream())
    first, second = spans
    said = {"type": "text", "content": "Let me see."}
    call = {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"query": "x"}}
    asked = [
        {"role": "system", "parts": [{"type": "text", "content": "Be short."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Capital of France?"}]},
    ]
    assert json.loads(first.attributes["gen_ai.input.messages"]) == asked
    answer = {"role": "assistant", "parts": [said, call], "finish_reason": "REASON_TOOL_CALLS"}
    assert json.loads(first.attributes["gen_ai.output.messages"]) == [answer]
    sent = json.loads(second.attributes["gen_ai.input.messages"])
    assert sent[:3] == [*asked, {"role": "assistant", "parts": [said, call]}]
    assert sent[3]["role"] == "tool"
    assert "not found" in repr(sent[3])
    words = [{"role": "assistant", "parts": [{"type": "text", "content": SAID}], "finish_reason": "REASON_STOP"}]
    assert json.loads(second.attributes["gen_ai.output.messages"]) == words


def test_imports_nothing():
    """Installing imports neither the SDK nor gRPC: they are wrapped when the program imports them."""
    import subprocess

    code = "import sys, tokenguard; tokenguard.install(); print([m for m in ('grpc', 'xai_sdk') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_version_is_known():
    """Says in the log which version this was."""
    print("xai-sdk", xai_sdk.__version__, "with", OUTPUTS, "and server-side tools" if OWN_TOOLS else "")


# --- pictures and films -----------------------------------------------------------------------------------------------

PICTURES = pytest.mark.skipif(
    "cost_in_usd_ticks" not in getattr(usage_of("image", "ImageResponse"), "fields_by_name", ()),
    reason="pictures of this version tell no usage",
)
FILMS = pytest.mark.skipif(usage_of("video", "VideoResponse") is None, reason="this version makes no films")


@PICTURES
def test_pictures(client, server, installed, spans):
    """A picture is a call, at the price that xAI says; without its word by the table, $0.06 in 2k."""
    client.image.sample(prompt="A coat", model="grok-imagine-image-2.0", resolution="2k")
    (record,) = installed.records
    assert record.attributes["gen_ai.operation.name"] == "image_generation"
    assert record.attributes["server.address"] == "localhost"
    assert record.attributes["tokenguard.usage.images"] == 1
    assert (record.cost.total, record.cost.status) == (pytest.approx(0.04), "exact")
    server.image.tells = False
    client.image.sample_batch(prompt="A coat", model="grok-imagine-image-2.0", n=2, resolution="2k")
    assert installed.records[1].cost.total == pytest.approx(2 * 0.06)


@PICTURES
def test_pictures_async(server, installed):
    """The same for the asynchronous client."""
    run(server, lambda client: client.image.sample(prompt="A coat", model="grok-imagine-image-2.0"))
    (record,) = installed.records
    assert record.cost.total == pytest.approx(0.04)


@PICTURES
def test_pictures_under_a_budget(client, server):
    """Two pictures of $0.04 do not fit into $0.07: nothing is sent."""
    tokenguard.install(policy.loads('[[budget]]\nname = "b"\nlimit_usd = 0.07\n[ledger]\nurl = "memory:"\n'))
    with pytest.raises(tokenguard.BudgetExceeded):
        client.image.sample_batch(prompt="A coat", model="grok-imagine-image-2.0", n=2)
    assert server.image.requests == []


@FILMS
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_films(asynchronous, client, server, installed):
    """A film is one call, from its start to the answer that it is there: six seconds at what xAI says."""
    given = {"prompt": "A coat", "model": "grok-imagine-video", "duration": 6, "interval": QUICKLY}
    if asynchronous:
        run(server, lambda opened: opened.video.generate(**given))
    else:
        client.video.generate(**given)
    (record,) = installed.records
    assert record.attributes["gen_ai.operation.name"] == "video_generation"
    assert record.attributes["tokenguard.usage.output_seconds"] == 6
    assert (record.cost.total, record.cost.status) == (pytest.approx(0.24), "exact")


@FILMS
def test_a_film_that_fails(client, server, installed):
    """It is an error, and free."""
    server.video.fails = True
    with pytest.raises(Exception, match=r"."):
        client.video.generate(prompt="A coat", model="grok-imagine-video", interval=QUICKLY)
    (record,) = installed.records
    assert (record.outcome, record.attributes["error.type"]) == ("error", "moderated")
    assert record.cost.total == 0.0


# --- pictures and films through the guard, and through faults of ours -------------------------------------------------

DRAWN = {"prompt": "A coat", "model": "grok-imagine-image-2.0"}
FILMED = {"prompt": "A coat", "model": "grok-imagine-video", "duration": 6, "interval": QUICKLY}
MEDIA = {
    "picture": ("image", lambda c: c.image.sample(**DRAWN), 0.04),
    "pictures": ("image", lambda c: c.image.sample_batch(**DRAWN, n=2), 0.08),
    "film": ("video", lambda c: c.video.generate(**FILMED), 0.24),
}
LEDGER = '[ledger]\nurl = "memory:"\n'
BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 10.0\n' + LEDGER
CHEAPER = {"image": "grok-imagine-image", "video": "grok-imagine-video-cheap"}
STEPS = [
    *((meter.Meter, name) for name in ("begin", "_match", "_open", "_close", "_answered")),
    (Settling, "settle"),
    (Bill, "cost"),
    (meter, "note_call_site"),
    *((Guard, name) for name in ("match", "admit", "settle", "within", "reserve")),
    *((WorstCase, name) for name in ("bound", "of")),
    (Breakers, "refuses"),
    *((xai_seam, name) for name in ("plain", "_own_span")),
]


@PICTURES
@FILMS
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", MEDIA)
class TestMedia:
    """Pictures and films through each feature of the guard, and with each step of ours failing."""

    @pytest.fixture
    def call(self, name, asynchronous, client, server):
        return lambda: run(server, MEDIA[name][1]) if asynchronous else MEDIA[name][1](client)

    @pytest.fixture
    def received(self, name, server):
        return getattr(server, MEDIA[name][0])

    def test_blocked(self, name, call, received, spans):
        """What a limit refuses is not sent, and the span says so."""
        tokenguard.install(policy.loads('[[limit]]\nname = "l"\nmax_cost_usd = 0.01\n'))
        with pytest.raises(LimitExceeded):
            call()
        assert received.requests == []
        assert [rule for span in spans if (rule := span.attributes.get("tokenguard.guard.rule"))] == ["l"]

    def test_downgrade(self, name, call, received, spans):
        """Another model is what is sent, and nothing else of the request changes."""
        cheaper = CHEAPER[MEDIA[name][0]]
        call()
        rule = f'[[limit]]\nname = "l"\nmax_input_tokens = 1\nthen = "downgrade"\ndowngrade_to = "{cheaper}"\n'
        tokenguard.install(policy.loads(rule))
        spans.clear()
        call()
        before, after = received.requests
        assert after.model == spans.attributes["gen_ai.request.model"] == cheaper
        after.model = before.model
        assert after == before

    def test_budget(self, name, call, received, installed):
        """The worst case is held before it is sent, what xAI says is charged, and what it refuses is given back."""
        tokenguard.install(policy.loads(BUDGET))
        ledger = runtime.installed().meter.guard.ledger
        call()
        (account,) = ledger.accounts()
        assert (account.spent_nano, account.reserved_nano) == (round(MEDIA[name][2] * 1e9), 0)
        received.script = [Refuse(grpc.StatusCode.INVALID_ARGUMENT)]
        with pytest.raises(grpc.RpcError):
            call()
        (account,) = ledger.accounts()
        assert (account.spent_nano, account.reserved_nano) == (round(MEDIA[name][2] * 1e9), 0)
        tokenguard.install(policy.loads(BUDGET.replace("10.0", "0.01")))
        with pytest.raises(tokenguard.BudgetExceeded):
            call()
        assert len(received.requests) == 2

    def test_breaker(self, name, call, received):
        """xAI's failures open it; then nothing is sent."""
        tokenguard.install(policy.loads('[[breaker]]\nname = "cb"\nfailures = 1\ncooldown = 60\n'))
        received.script = [Refuse(grpc.StatusCode.INTERNAL)]
        with pytest.raises(grpc.RpcError):
            call()
        with pytest.raises(CircuitOpen):
            call()
        assert len(received.requests) == 1

    def test_observe(self, name, call, received, spans):
        """`observe` sends it as it was, and says what would have been."""
        tokenguard.install(policy.loads('mode = "observe"\n[[limit]]\nname = "l"\nmax_cost_usd = 0.01\n'))
        call()
        assert len(received.requests) == 1
        assert spans.attributes["tokenguard.guard.action"] == "block"

    def test_internal_failure(self, name, call, received, monkeypatch):
        """Each internal step raises in turn, and the application gets what it would have got."""
        monkeypatch.setenv("TOKENGUARD_STRICT", "0")
        tokenguard.install(policy.loads(BUDGET + '[[breaker]]\nname = "cb"\n[[limit]]\nname = "l"\nmax_cost_usd = 9\n'))
        for owner, step in STEPS:
            with monkeypatch.context() as patch:
                patch.setattr(owner, step, lambda *arguments, **named: 1 / 0)
                assert call() is not None, step
        assert len(received.requests) == len(STEPS)
