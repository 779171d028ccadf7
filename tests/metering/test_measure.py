"""Every way to call the SDKs gives one span with the tokens and the cost of the call."""

from __future__ import annotations

import asyncio
import contextlib

import openai
import pytest
from pydantic import BaseModel

import connections
import tokenguard
from canned import (
    ANTHROPIC_COST,
    MESSAGES,
    OPENAI_COST,
    SONNET,
    anthropic_client,
    async_anthropic_client,
    async_openai_client,
    openai_client,
)

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
RESPONSES = {"model": "gpt-4o-mini", "input": "What is the capital of France?"}
EMBED = {"model": "text-embedding-3-small", "input": "Paris"}
MESSAGE = {"model": SONNET, "messages": MESSAGES, "max_tokens": 200}


class Answer(BaseModel):
    city: str


def lines(manager):
    with manager as response:
        return list(response.iter_lines())


def events(manager):
    with manager as stream:
        return list(stream)


SYNC = {
    "chat": lambda o, a: o.chat.completions.create(**CHAT),
    "chat stream": lambda o, a: list(o.chat.completions.create(**CHAT, stream=True)),
    "chat stream with usage": lambda o, a: list(
        o.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    ),
    "chat raw": lambda o, a: o.chat.completions.with_raw_response.create(**CHAT).parse(),
    "chat raw stream": lambda o, a: list(o.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()),
    "chat streaming response, json": lambda o, a: lines(o.chat.completions.with_streaming_response.create(**CHAT)),
    "chat streaming response, sse": lambda o, a: lines(
        o.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    ),
    "chat helper": lambda o, a: events(o.chat.completions.stream(**CHAT)),
    "beta-era parse": lambda o, a: o.chat.completions.with_raw_response.parse(**CHAT),
    "responses": lambda o, a: o.responses.create(**RESPONSES),
    "responses stream": lambda o, a: list(o.responses.create(**RESPONSES, stream=True)),
    "responses helper": lambda o, a: events(o.responses.stream(**RESPONSES)),
    "responses parse": lambda o, a: o.responses.parse(**RESPONSES),
    "responses raw": lambda o, a: o.responses.with_raw_response.create(**RESPONSES).parse(),
    "completions": lambda o, a: o.completions.create(model="gpt-4o-mini", prompt="Capital of France?"),
    "generic post": lambda o, a: o.post("/chat/completions", body=dict(CHAT), cast_to=object),
    "messages": lambda o, a: a.messages.create(**MESSAGE),
    "messages stream": lambda o, a: list(a.messages.create(**MESSAGE, stream=True)),
    "messages helper": lambda o, a: events(a.messages.stream(**MESSAGE)),
    "messages raw": lambda o, a: a.messages.with_raw_response.create(**MESSAGE).parse(),
    "messages raw stream": lambda o, a: list(a.messages.with_raw_response.create(**MESSAGE, stream=True).parse()),
    "messages streaming response": lambda o, a: lines(a.messages.with_streaming_response.create(**MESSAGE)),
    "beta messages": lambda o, a: a.beta.messages.create(**MESSAGE),
    "beta messages helper": lambda o, a: events(a.beta.messages.stream(**MESSAGE)),
}


async def aiter_all(stream):
    return [item async for item in await stream]


async def alines(manager):
    async with manager as response:
        return [line async for line in response.iter_lines()]


async def aevents(manager):
    async with manager as stream:
        return [event async for event in stream]


ASYNC = {
    "chat": lambda o, a: o.chat.completions.create(**CHAT),
    "chat stream": lambda o, a: aiter_all(o.chat.completions.create(**CHAT, stream=True)),
    "chat raw": lambda o, a: o.chat.completions.with_raw_response.create(**CHAT),
    "chat streaming response, json": lambda o, a: alines(o.chat.completions.with_streaming_response.create(**CHAT)),
    "chat streaming response, sse": lambda o, a: alines(
        o.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    ),
    "chat helper": lambda o, a: aevents(o.chat.completions.stream(**CHAT)),
    "responses": lambda o, a: o.responses.create(**RESPONSES),
    "responses stream": lambda o, a: aiter_all(o.responses.create(**RESPONSES, stream=True)),
    "responses helper": lambda o, a: aevents(o.responses.stream(**RESPONSES)),
    "messages": lambda o, a: a.messages.create(**MESSAGE),
    "messages stream": lambda o, a: aiter_all(a.messages.create(**MESSAGE, stream=True)),
    "messages helper": lambda o, a: aevents(a.messages.stream(**MESSAGE)),
    "messages streaming response": lambda o, a: alines(a.messages.with_streaming_response.create(**MESSAGE)),
    "beta messages": lambda o, a: a.beta.messages.create(**MESSAGE),
}


def check(name, attributes):
    if "messages" in name:
        expected = {
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": SONNET,
            "gen_ai.request.max_tokens": 200,
            "gen_ai.usage.input_tokens": 2600,
            "gen_ai.usage.output_tokens": 150,
            "gen_ai.usage.cache_read.input_tokens": 2000,
            "gen_ai.usage.cache_write.input_tokens": 500,
            "gen_ai.response.finish_reasons": ("end_turn",),
            "gen_ai.response.id": "msg_1",
        }
        cost = ANTHROPIC_COST
    else:
        expected = {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.output_tokens": 300,
            "gen_ai.usage.cache_read.input_tokens": 1024,
            "gen_ai.usage.reasoning.output_tokens": 128,
            "gen_ai.response.finish_reasons": ("completed" if "responses" in name else "stop",),
        }
        cost = OPENAI_COST
    assert {key: attributes.get(key) for key in expected} == expected
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["tokenguard.cost.usd"] == pytest.approx(cost, abs=1e-12)
    assert attributes["code.file.path"] == __file__
    streamed = name.endswith(("stream", "with usage", "helper", "sse"))
    assert ("gen_ai.response.time_to_first_chunk" in attributes) == streamed
    parts = ("input", "output", "cache_read", "cache_write")
    assert sum(attributes[f"tokenguard.cost.{part}_usd"] for part in parts) == pytest.approx(cost, abs=1e-15)


@pytest.mark.parametrize("name", SYNC)
def test_sync(name, installed, spans):
    """One span, the right tokens, the right cost: synchronous calls."""
    SYNC[name](openai_client(), anthropic_client())
    check(name, spans.attributes)
    operation = "text_completion" if name == "completions" else "chat"
    own = f"{operation} {spans.attributes['gen_ai.request.model']}"
    assert spans.one.name == ("anthropic.messages.create" if "messages" in name else own)  # the SDK's span has its name


@pytest.mark.parametrize("name", ASYNC)
async def test_async(name, installed, spans):
    """One span, the right tokens, the right cost: asynchronous calls."""
    await ASYNC[name](async_openai_client(), async_anthropic_client())
    check(name, spans.attributes)


def test_embeddings(installed, spans):
    """Embeddings have input tokens only."""
    openai_client().embeddings.create(**EMBED)
    attributes = spans.attributes
    assert spans.one.name == "embeddings text-embedding-3-small"
    assert attributes["gen_ai.usage.input_tokens"] == 10_000
    assert "gen_ai.usage.output_tokens" not in attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(0.0002)


@pytest.mark.parametrize(
    ("options", "provider"),
    [
        ({}, "openai"),
        ({"base_url": "https://openrouter.ai/api/v1"}, "openrouter"),
        ({"base_url": "https://api.groq.com/openai/v1"}, "groq"),
        ({"base_url": "https://api.together.xyz/v1"}, "together"),
        ({"base_url": "https://api.deepseek.com"}, "deepseek"),
        ({"base_url": "https://api.mistral.ai/v1"}, "mistral_ai"),
        ({"base_url": "https://api.x.ai/v1"}, "x_ai"),
        ({"base_url": "https://api.fireworks.ai/inference/v1"}, "fireworks"),
        ({"base_url": "http://localhost:11434/v1"}, "ollama"),
        ({"base_url": "http://vllm.models.svc.cluster.local:8000/v1"}, "vllm"),
        ({"base_url": "https://my-resource.openai.azure.com/openai/v1"}, "azure.ai.openai"),
        ({"base_url": "https://generativelanguage.googleapis.com/v1beta/openai"}, "gcp.gemini"),
        ({"base_url": "https://gateway.internal/v1"}, "unknown"),
    ],
)
def test_provider_by_host(options, provider, installed, spans):
    """The provider is named from the host; a host that nobody knows is nobody in particular."""
    openai_client(**options).chat.completions.create(**CHAT)
    assert spans.attributes["gen_ai.provider.name"] == provider


def test_a_whole_url_goes_where_it_says(installed, spans):
    """A client may send a request elsewhere than to its own address, as DigitalOcean's does with each."""
    body = {key: value for key, value in CHAT.items() if key != "stream"}
    openai_client().post("https://api.deepseek.com/chat/completions", body=body, cast_to=object)
    assert spans.attributes["gen_ai.provider.name"] == "deepseek"
    assert spans.attributes["server.address"] == "api.deepseek.com"


@pytest.mark.parametrize("stream", [False, True])
def test_xai_over_http(stream, installed, spans):
    """At api.x.ai reasoning is counted beside `completion_tokens`, and is billed as output."""
    client = openai_client(base_url="https://api.x.ai/v1")
    answer = client.chat.completions.create(model="grok-4.3", messages=MESSAGES, stream=stream)
    list(answer) if stream else None
    assert spans.attributes["gen_ai.usage.output_tokens"] == 300 + 128
    assert spans.attributes["gen_ai.usage.reasoning.output_tokens"] == 128


def test_azure_client(installed, spans):
    """An Azure client is Azure wherever it points; it asks for a deployment, and the answer names the model."""
    import httpx2

    from canned import canned

    client = openai.AzureOpenAI(
        api_key="k",
        api_version="2024-10-21",
        azure_endpoint="https://proxy.internal",
        http_client=httpx2.Client(transport=httpx2.MockTransport(canned)),
    )
    client.chat.completions.create(model="my-deployment", messages=MESSAGES)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert attributes["gen_ai.request.model"] == "my-deployment"
    assert attributes["tokenguard.cost.usd"] == pytest.approx(OPENAI_COST)


def test_nested_scopes(installed, spans):
    """Inner values win, custom keys are carried, and the scope ends with its block."""
    client = openai_client()
    with tokenguard.attribution(tenant="t1", feature="support", region="eu"):
        with tokenguard.attribution(feature="rag", tenant=None):
            client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
    client.chat.completions.create(**CHAT)
    inner, outer, after = (dict(span.attributes) for span in spans)
    assert inner["tokenguard.feature"] == "rag"
    assert inner["tokenguard.attr.region"] == "eu"
    assert "tokenguard.tenant" not in inner
    assert outer["tokenguard.tenant"] == "t1"
    assert not [key for key in after if key in ("tokenguard.tenant", "tokenguard.feature", "tokenguard.attr.region")]


async def test_tasks_and_threads_inherit(installed, spans):
    """Tasks of a group keep their own scopes, and a thread that copies its context has its caller's."""
    client, sync_client = async_openai_client(), openai_client()

    async def one(tenant):
        with tokenguard.attribution(tenant=tenant):
            await asyncio.sleep(0)
            await client.chat.completions.create(**CHAT)
            await asyncio.to_thread(sync_client.chat.completions.create, **CHAT)

    with tokenguard.meter() as m:
        await asyncio.gather(*(one(f"t{n}") for n in range(20)))
    tenants = sorted(span.attributes["tokenguard.tenant"] for span in spans)
    assert tenants == sorted(f"t{n}" for n in range(20) for _ in range(2))
    assert m.calls == 40
    assert m.cost_usd == pytest.approx(40 * OPENAI_COST)
    assert (m.input_tokens, m.output_tokens, m.cache_read_tokens) == (48_000, 12_000, 40_960)


def test_generators_keep_their_scope(installed, spans):
    """A decorated generator charges its own calls to itself, and its consumer's to the consumer."""
    client = openai_client()

    @tokenguard.attribution(feature="inside")
    def produce():
        for n in range(2):
            client.chat.completions.create(**CHAT)
            yield n

    with tokenguard.attribution(feature="outside"):
        for _ in produce():
            client.chat.completions.create(**CHAT)
    assert [s.attributes["tokenguard.feature"] for s in spans] == ["inside", "outside", "inside", "outside"]


def test_stream_read_elsewhere(installed, spans):
    """A stream is charged to the scope it was made in, wherever it is read."""
    import threading

    client = openai_client()
    with tokenguard.attribution(tenant="maker"), tokenguard.meter() as m:
        stream = client.chat.completions.create(**CHAT, stream=True)
    reader = threading.Thread(target=lambda: list(stream))
    with tokenguard.attribution(tenant="reader"):
        reader.start()
        reader.join()
    assert spans.attributes["tokenguard.tenant"] == "maker"
    assert m.calls == 1


def test_decorators(installed, spans):
    """Attribution decorates functions and coroutines."""
    client, aclient = openai_client(), async_openai_client()

    @tokenguard.attribution(feature="f")
    def call():
        client.chat.completions.create(**CHAT)

    @tokenguard.attribution(feature="g")
    async def acall():
        await aclient.chat.completions.create(**CHAT)

    call()
    connections.run(acall())
    assert [span.attributes["tokenguard.feature"] for span in spans] == ["f", "g"]


def test_task(installed, spans):
    """A task sums its calls; an exception fails it, and a word by hand decides."""
    client = openai_client()
    records = []
    from tokenguard.call import scope

    scope.hooks.on_task_end = records.append
    with tokenguard.task("resolve", tenant="t1") as task:
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
    with contextlib.suppress(ValueError), tokenguard.task("resolve"):
        raise ValueError
    with tokenguard.task("resolve") as task:
        task.fail()
    with contextlib.suppress(ValueError), tokenguard.task("resolve") as task:
        task.succeed()
        raise ValueError
    assert [record.outcome for record in records] == ["ok", "error", "error", "ok"]
    assert records[0].calls == 2
    assert records[0].cost_usd == pytest.approx(2 * OPENAI_COST)
    assert records[0].attribution == {"tenant": "t1"}
    assert spans.all()[0].attributes["tokenguard.task"] == "resolve"


def test_tool_steps(installed, spans):
    """Tool rounds since the user's last word are read from the request, in each API's own shape."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    round_ = [
        {"role": "assistant", "tool_calls": [call], "content": None},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=[*MESSAGES, *round_, *round_])
    use = {"type": "tool_use", "id": "u1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "u1", "content": "1"}
    turn = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    anthropic_client().messages.create(model=SONNET, max_tokens=9, messages=[*MESSAGES, *turn, *turn, *turn])
    made = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    gave = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    openai_client().responses.create(
        model="gpt-4o-mini",
        input=[*MESSAGES, made, made, gave, gave, made, gave],  # two calls in the first round
    )
    assert [span.attributes["tokenguard.tool.steps"] for span in spans] == [2, 3, 2]


def test_chained_tool_steps(installed, spans):
    """Rounds add up along a chain of responses that only send what is new."""
    client = openai_client()
    gave = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    client.responses.create(model="gpt-4o-mini", input=[gave])
    client.responses.create(model="gpt-4o-mini", input=[gave], previous_response_id="resp_1")
    client.responses.create(model="gpt-4o-mini", input=[gave], previous_response_id="resp_1")
    client.responses.create(model="gpt-4o-mini", input="and now?", previous_response_id="resp_1")
    assert [span.attributes.get("tokenguard.tool.steps") for span in spans] == [1, 2, 3, None]


def test_install_is_idempotent(spans):
    """Installing twice wraps once, and uninstalling restores the SDK's own methods."""
    import openai._base_client as base

    tokenguard.uninstall()
    original = base.SyncAPIClient.request
    tokenguard.install()
    tokenguard.install()
    openai_client().chat.completions.create(**CHAT)
    assert len(spans) == 1
    tokenguard.uninstall()
    assert base.SyncAPIClient.request is original
    openai_client().chat.completions.create(**CHAT)
    assert len(spans) == 1


def test_files_and_other_paths_pass(installed, spans):
    """Requests that are no model calls pass untouched."""
    import httpx2

    def handler(request):
        return httpx2.Response(200, json={"object": "list", "data": [], "id": "x", "input_tokens": 7})

    openai_client(handler).models.list()
    anthropic_client(handler).messages.count_tokens(model=SONNET, messages=MESSAGES)
    openai_client(handler).responses.retrieve("resp_1")
    assert [span.name for span in spans if span.name.startswith(("chat", "embeddings"))] == []
