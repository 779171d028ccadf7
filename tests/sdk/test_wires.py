"""The SDKs with wire formats of their own, over real HTTP, in whatever versions are installed (see `test_versions`)."""

from __future__ import annotations

import asyncio
import gc
import importlib

import pytest

import connections
import tokenguard
from policies import short_and_cheap
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MESSAGES = [{"role": "user", "content": "Which of your plans has a warranty?"}]
MAX = 40
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Search the stock.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


# --- the clients ------------------------------------------------------------------------------------------------------


def mistral(provider, asynchronous):
    module = pytest.importorskip("mistralai.client")
    return module.Mistral(api_key="k", server_url=provider.url)


def cohere(provider, asynchronous):
    module = pytest.importorskip("cohere")
    kind = module.AsyncClientV2 if asynchronous else module.ClientV2
    return kind(api_key="k", base_url=provider.url)


def cohere1(provider, asynchronous):
    module = pytest.importorskip("cohere")
    return (module.AsyncClient if asynchronous else module.Client)(api_key="k", base_url=provider.url)


def ollama(provider, asynchronous):
    module = pytest.importorskip("ollama")
    return (module.AsyncClient if asynchronous else module.Client)(host=provider.url)


def huggingface(provider, asynchronous):
    module = pytest.importorskip("huggingface_hub")
    kind = module.AsyncInferenceClient if asynchronous else module.InferenceClient
    return kind(base_url=provider.openai_url, api_key="k")


CLIENTS = {each.__name__: each for each in (mistral, cohere, cohere1, ollama, huggingface)}

M = {"model": "mistral-small-latest", "messages": MESSAGES, "max_tokens": MAX}
C = {"model": "command-r-08-2024", "messages": MESSAGES, "max_tokens": MAX}
C1 = {"model": "command-r-08-2024", "message": MESSAGES[0]["content"], "max_tokens": MAX}
O = {"model": "llama3.2", "messages": MESSAGES, "options": {"num_predict": MAX}}  # noqa: E741 - as its neighbours
H = {"model": "meta-llama/Llama-3.3-70B-Instruct", "messages": MESSAGES, "max_tokens": MAX}
EMBED = {"model": "embed-v4.0", "texts": ["a plan", "a warranty"], "input_type": "search_query"}
PRICED = ("mistral", "cohere")

SYNC = {
    "mistral chat": lambda c: c.chat.complete(**M),
    "mistral stream": lambda c: list(c.chat.stream(**M)),
    "mistral embeddings": lambda c: c.embeddings.create(model="mistral-embed", inputs=["a", "b"]),
    "cohere chat": lambda c: c.chat(**C),
    "cohere stream": lambda c: list(c.chat_stream(**C)),
    "cohere embed": lambda c: c.embed(**EMBED, embedding_types=["float"]),
    "cohere1 chat": lambda c: c.chat(**C1),
    "cohere1 stream": lambda c: list(c.chat_stream(**C1)),
    "ollama chat": lambda c: c.chat(**O),
    "ollama stream": lambda c: list(c.chat(**O, stream=True)),
    "ollama generate": lambda c: c.generate(model="llama3.2", prompt="Hello"),
    "ollama generate stream": lambda c: list(c.generate(model="llama3.2", prompt="Hello", stream=True)),
    "ollama embed": lambda c: c.embed(model="llama3.2", input=["a", "b"]),
    "huggingface chat": lambda c: c.chat_completion(**H),
    "huggingface stream": lambda c: list(c.chat_completion(**H, stream=True)),
}


async def gather(stream):
    if hasattr(stream, "__await__"):
        stream = await stream
    return [item async for item in stream]


ASYNC = {
    "mistral chat": lambda c: c.chat.complete_async(**M),
    "mistral stream": lambda c: gather(c.chat.stream_async(**M)),
    "cohere chat": lambda c: c.chat(**C),
    "cohere stream": lambda c: gather(c.chat_stream(**C)),
    "cohere1 stream": lambda c: gather(c.chat_stream(**C1)),
    "ollama chat": lambda c: c.chat(**O),
    "ollama stream": lambda c: gather(c.chat(**O, stream=True)),
    "huggingface chat": lambda c: c.chat_completion(**H),
    "huggingface stream": lambda c: gather(c.chat_completion(**H, stream=True)),
}


@pytest.fixture
def client(provider):
    made = []

    def make(name, asynchronous=False):
        made.append(CLIENTS[name](provider, asynchronous))
        return made[-1]

    yield make
    while made:
        one = made.pop()
        one.__exit__(None, None, None) if hasattr(one, "__exit__") else None
    if importlib.util.find_spec("huggingface_hub"):
        getattr(importlib.import_module("huggingface_hub"), "close_session", lambda: None)()


def check(name, provider, measured, spans):
    (span,) = spans
    billed = provider.requests[-1].billed
    assert span.attributes["gen_ai.usage.input_tokens"] == billed.input == measured.input_tokens
    assert span.attributes.get("gen_ai.usage.output_tokens", 0) == (billed.output or 0)
    assert measured.calls == 1
    assert span.attributes["gen_ai.request.model"]
    priced = name.startswith(PRICED)
    assert span.attributes["tokenguard.cost.status"] == ("exact" if priced else "unpriced")
    assert ("tokenguard.cost.usd" in span.attributes) == priced


@pytest.mark.parametrize("name", SYNC)
def test_sync(name, provider, client, installed, spans):
    """One span with the tokens that the provider billed, priced where the price list knows the model."""
    with tokenguard.meter() as measured:
        SYNC[name](client(name.split()[0]))
    check(name, provider, measured, spans)


@pytest.mark.parametrize("name", ASYNC)
def test_async(name, provider, installed, spans):
    """The same for asynchronous clients."""

    async def run():
        client = CLIENTS[name.split()[0]](provider, True)
        with tokenguard.meter() as measured:
            await ASYNC[name](client)
            await asyncio.sleep(0.01)  # a generator that was left behind is closed by the loop, a moment later
        if hasattr(client, "__aexit__") and not name.startswith("ollama"):
            await client.__aexit__(None, None, None)
        elif name.startswith("ollama"):
            await client._client.aclose()  # its own way out came late
        return measured

    check(name, provider, connections.run(run()), spans)


def test_rerank(client, provider, installed, spans):
    """A search is billed by the search, at the listed price or the user's own: each hundred documents are one."""
    documents = [f"plan {n}" for n in range(250)]
    cohere = client("cohere")
    cohere.rerank(model="rerank-v3.5", query="warranty", documents=documents, top_n=2)
    assert spans.attributes["gen_ai.operation.name"] == "rerank"
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(3 * 0.002)
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    spans.clear()
    tokenguard.install(policy.loads('[prices]\n"cohere/rerank-*" = { request = 1000.0 }'))
    cohere.rerank(model="rerank-v3.5", query="warranty", documents=documents)
    assert provider.requests[-1].billed.request == 3
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(3 * 0.001)
    assert spans.attributes["tokenguard.cost.status"] == "exact"


ABANDONED = {
    "mistral": lambda c: c.chat.stream(**M),
    "cohere": lambda c: c.chat_stream(**C),
    "ollama": lambda c: c.chat(**O, stream=True),
    "huggingface": lambda c: c.chat_completion(**H, stream=True),
}


@pytest.mark.parametrize("name", ABANDONED)
def test_abandoned(name, client, installed, spans):
    """A stream that is dropped half-read ends its span, with no usage made up."""
    stream = ABANDONED[name](client(name))
    iterator = iter(stream)
    next(iterator)
    next(iterator)
    del iterator, stream
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert "gen_ai.usage.output_tokens" not in spans.attributes
    if name in PRICED:
        assert record.cost.basis == "abandoned_stream"
        assert record.cost.total > 0


REFUSED = {"mistral": M, "cohere": C, "ollama": O, "huggingface": H}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["chat", "stream"])
def test_refused(name, kind, client, provider, installed, spans):
    """What the provider refuses raises the SDK's own error, has no cost, and is an error on its span."""
    refused = client(name)
    provider.fail_next(400)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each SDK has its own
        SYNC[f"{name} {kind}"](refused)
    assert type(caught.value).__module__.split(".")[0] in ("mistralai", "cohere", "ollama", "huggingface_hub")
    (span,) = spans
    assert not span.status.is_ok
    assert span.attributes["error.type"]
    assert "tokenguard.cost.status" not in span.attributes


# --- the guard --------------------------------------------------------------------------------------------------------

CAPPED = {
    "mistral chat": lambda body: body["max_tokens"],
    "mistral stream": lambda body: body["max_tokens"],
    "cohere chat": lambda body: body["max_tokens"],
    "cohere stream": lambda body: body["max_tokens"],
    "cohere1 chat": lambda body: body["max_tokens"],
    "ollama chat": lambda body: body["options"]["num_predict"],
    "ollama stream": lambda body: body["options"]["num_predict"],
    "huggingface chat": lambda body: body["max_tokens"],
}


@pytest.mark.parametrize("name", CAPPED)
def test_clamp_and_downgrade(name, client, provider, installed, spans):
    """The cap is set where the wire format has it, and the model is replaced; the span says so."""
    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny")))
    SYNC[name](client(name.split()[0]))
    sent = provider.requests[-1]
    assert CAPPED[name](sent.body) == 7
    assert sent.model == "mistral-tiny"
    assert spans.attributes["tokenguard.guard.original_max_tokens"] == MAX
    assert spans.attributes["gen_ai.request.model"] == "mistral-tiny"
    assert (spans.attributes["gen_ai.usage.output_tokens"]) == sent.billed.output <= 7


def rounds(count, *, call, result):
    """A conversation with so many rounds of a tool."""
    return [*MESSAGES, *([call, result] * count)]


CALL = {"id": "call_0001", "type": "function", "function": {"name": "look_up", "arguments": '{"query": "x"}'}}
HISTORY = {
    "mistral": (
        lambda c, messages: c.chat.complete(**{**M, "messages": messages}, tools=[LOOK_UP]),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_0001", "name": "look_up", "content": "not found"},
    ),
    "cohere": (
        lambda c, messages: c.chat(**{**C, "messages": messages}, tools=[LOOK_UP]),
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_0001", "content": "not found"},
    ),
    "ollama": (
        lambda c, messages: c.chat(**{**O, "messages": messages}, tools=[LOOK_UP]),
        {"role": "assistant", "tool_calls": [{"function": {"name": "look_up", "arguments": {"query": "x"}}}]},
        {"role": "tool", "content": "not found"},
    ),
    "huggingface": (
        lambda c, messages: c.chat_completion(**{**H, "messages": messages}, tools=[LOOK_UP]),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_0001", "content": "not found"},
    ),
}


@pytest.mark.parametrize("name", HISTORY)
def test_tool_steps(name, client, installed, spans):
    """Rounds of tools are read from the provider's own messages, and the round too many is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "agents"\nmax_tool_steps = 3'))
    chat, call, result = HISTORY[name]
    chat(client(name), rounds(3, call=call, result=result))
    assert spans.attributes["tokenguard.tool.steps"] == 3
    assert spans.attributes["tokenguard.tool.calls"] == 1  # the tool keeps failing, so the model tries once more
    with pytest.raises(LimitExceeded) as refused:
        chat(client(name), rounds(4, call=call, result=result))
    assert refused.value.observed == 4


def test_budget(client, provider, installed):
    """A budget is spent by these calls as by any other, and refuses the one that could pass it."""
    tokenguard.install(policy.loads('[[budget]]\nname = "small"\nlimit_usd = 0.00005\n[ledger]\nurl = "memory:"'))
    mistral = client("mistral")
    mistral.chat.complete(**M)

    def again():
        for _ in range(50):
            mistral.chat.complete(**M)

    with pytest.raises(tokenguard.BudgetExceeded) as refused:
        again()
    assert refused.value.observed > refused.value.limit == pytest.approx(0.00005)
    assert 0 < sum(record.cost_usd or 0.0 for record in installed.records) <= 0.00005


def test_cohere_resends(client, provider, installed, spans):
    """The SDK's own resends are one call, counted, and capped by the guard."""
    cohere = client("cohere")
    provider.fail_next(500, times=2, retry_after=0.001)
    cohere.chat(**C, request_options={"max_retries": 2})
    assert spans.attributes["http.request.resend_count"] == 2
    assert "error.type" not in spans.attributes
    spans.clear()
    tokenguard.install(policy.loads('[[limit]]\nname = "calm"\nmax_retries = 1'))
    provider.fail_next(500, times=3, retry_after=0.001)
    with pytest.raises(Exception, match="500"):
        cohere.chat(**C, request_options={"max_retries": 5})
    assert spans.attributes["http.request.resend_count"] == 1
    provider.faults._script.clear()


def test_mistral_resends(client, provider, installed, spans):
    """The same where the SDK counts seconds and not attempts."""
    utils = pytest.importorskip("mistralai.client.utils")
    backoff = utils.BackoffStrategy(1, 2, 1.0, 60_000)
    settings = {"retries": utils.RetryConfig("backoff", backoff, True)}
    mistral = client("mistral")
    provider.fail_next(500, times=2, retry_after=0.001)
    mistral.chat.complete(**M, **settings)
    assert spans.attributes["http.request.resend_count"] == 2
    spans.clear()
    tokenguard.install(policy.loads('[[limit]]\nname = "calm"\nmax_retries = 1'))
    provider.fail_next(500, times=3, retry_after=0.001)
    with pytest.raises(Exception, match="500"):
        mistral.chat.complete(**M, **settings)
    assert spans.attributes["http.request.resend_count"] == 1
    assert settings["retries"].retry_connection_errors is True  # the caller's own is as it was
    provider.faults._script.clear()


@pytest.mark.parametrize("kind", ["chat", "stream"])
def test_mistral_own_span(kind, client, provider, installed, spans, monkeypatch):
    """Where the SDK starts a GenAI span itself, that one gets the facts, and there is no second."""
    pytest.importorskip("mistralai.client")
    monkeypatch.setenv("MISTRAL_SDK_TELEMETRY", "global")
    for name in (f"mistral {kind}", f"mistral {kind}"):
        SYNC[name](client("mistral"))
    for span in spans:
        assert span.instrumentation_scope.name.startswith("mistralai")
        assert span.name == "chat mistral-small-latest"
        assert span.attributes["tokenguard.cost.usd"] > 0
        assert span.attributes["gen_ai.usage.input_tokens"] == provider.requests[-1].billed.input
    assert len(spans) == 2


def test_versions_are_known():
    """Says in the log which versions these were."""
    from importlib.metadata import version

    for name in ("mistralai", "cohere", "ollama", "huggingface_hub"):
        if importlib.util.find_spec(name):
            print(name, version(name))
