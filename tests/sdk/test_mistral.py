"""mistralai beyond chat, over real HTTP: conversations, the clients for Azure and Vertex AI, and the SDK's resends."""

from __future__ import annotations

import contextlib
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

import connections

client_module = pytest.importorskip("mistralai.client")

import tokenguard  # noqa: E402 - only where it is installed
from loopback import Loopback  # noqa: E402
from policies import SHORT, short_and_cheap  # noqa: E402
from tokenguard import BudgetExceeded, LimitExceeded, policy  # noqa: E402

pytestmark = [  # the SDK leaves its clients to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = "mistral-medium-2505"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
SEARCHED = {**USAGE, "total_tokens": 7232, "connector_tokens": 7112, "connectors": {"web_search": 1}}
INPUTS = [{"role": "user", "content": "Which of your plans has a warranty?"}]
COST = 100 * 0.4e-6 + 20 * 2e-6
WHEN = "2025-05-27T11:34:39.610632Z"

SAID = {
    "object": "entry",
    "type": "message.output",
    "created_at": WHEN,
    "completed_at": WHEN,
    "id": "msg_1",
    "agent_id": "ag_1",
    "model": MODEL,
    "role": "assistant",
    "content": "The Pro plan.",
}
SEARCH = {
    "object": "entry",
    "type": "tool.execution",
    "created_at": WHEN,
    "completed_at": WHEN,
    "id": "tool_1",
    "name": "web_search",
    "arguments": "{}",
}
CALLED = {
    "object": "entry",
    "type": "function.call",
    "created_at": WHEN,
    "id": "fc_1",
    "tool_call_id": "call_1",
    "name": "look_up",
    "arguments": '{"topic": "warranty"}',
    "model": MODEL,
}
RESULT = {"type": "function.result", "tool_call_id": "call_1", "result": "two years"}


def answered(*entries, usage=USAGE, conversation="conv_1"):
    return {
        "object": "conversation.response",
        "conversation_id": conversation,
        "outputs": entries or [SAID],
        "usage": usage,
    }


def streamed(usage=USAGE):
    delta = {"type": "message.output.delta", "id": "msg_1", "model": MODEL, "role": "assistant", "output_index": 0}
    yield {"type": "conversation.response.started", "conversation_id": "conv_1", "created_at": WHEN}
    for word in ("The ", "Pro ", "plan."):
        yield {**delta, "content": word}
    yield {"type": "conversation.response.done", "usage": usage}


def chat_body(model, said="The Pro plan."):
    message = {"role": "assistant", "content": said, "tool_calls": None, "prefix": False}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "cmpl_1", "object": "chat.completion", "created": 1, "model": model, "usage": USAGE} | {
        "choices": [choice]
    }


def chat_events(model):
    head = {"id": "cmpl_1", "object": "chat.completion.chunk", "created": 1, "model": model}
    for word, reason in (("The ", None), ("Pro plan.", "stop")):
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": reason}
        yield {**head, "choices": [choice]} | ({"usage": USAGE} if reason else {})


class Ours:
    """The spans of calls; the SDK, where it traces, has spans of its own for what came of them."""

    def __init__(self, every):
        self.every = every

    def __iter__(self):
        return (span for span in self.every if "tokenguard.call.fingerprint" in span.attributes)

    def __len__(self):
        return sum(1 for _ in self)

    @property
    def one(self):
        (span,) = self
        return span

    @property
    def attributes(self):
        return dict(self.one.attributes)

    def clear(self):
        self.every.clear()


@pytest.fixture
def spans(spans):
    return Ours(spans)


@pytest.fixture
def at():
    """Starts a provider with these answers."""
    running = []

    def start(answer):
        running.append(Loopback(answer if callable(answer) else lambda asked: answer).__enter__())
        return running[-1]

    yield start
    for each in running:
        each.__exit__()


def mistral(provider, **more):
    return client_module.Mistral(api_key="k", server_url=provider.url, **more)


def conversations(provider, **more):
    return mistral(provider, **more).beta.conversations


# --- conversations ----------------------------------------------------------------------------------------------------

CALLS = {
    "start": lambda c: c.start(model=MODEL, inputs=INPUTS),
    "start with an agent": lambda c: c.start(agent_id="ag_1", inputs="Hello"),
    "append": lambda c: c.append(conversation_id="conv_1", inputs=INPUTS),
    "restart": lambda c: c.restart(conversation_id="conv_0", from_entry_id="msg_0", inputs=INPUTS),
    "start stream": lambda c: list(c.start_stream(model=MODEL, inputs=INPUTS)),
    "append stream": lambda c: list(c.append_stream(conversation_id="conv_1", inputs=INPUTS)),
    "restart stream": lambda c: list(c.restart_stream(conversation_id="c0", from_entry_id="m", inputs=INPUTS)),
}


def check(spans, measured):
    span = spans.one
    expected = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.id": "msg_1",
        "gen_ai.conversation.id": "conv_1",
        "tokenguard.cost.status": "exact",
    }
    assert {key: span.attributes.get(key) for key in expected} == expected
    assert span.attributes["tokenguard.cost.usd"] == pytest.approx(COST)
    assert (measured.calls, measured.input_tokens, measured.output_tokens) == (1, 100, 20)


@pytest.mark.parametrize("name", CALLS)
def test_conversations(name, at, installed, spans):
    """A request to an agent is one span, with its usage, and priced by the model that the answer names."""
    provider = at(list(streamed()) if "stream" in name else answered())
    with tokenguard.meter() as measured:
        CALLS[name](conversations(provider))
    check(spans, measured)
    assert ("gen_ai.response.time_to_first_chunk" in spans.attributes) == ("stream" in name)
    assert spans.attributes.get("gen_ai.request.model") == (MODEL if name in ("start", "start stream") else None)


@pytest.mark.parametrize("name", ["start", "stream"])
def test_conversations_async(name, at, installed, spans):
    """The same for coroutines."""

    async def run():
        async with mistral(provider) as client:
            with tokenguard.meter() as measured:
                if name == "start":
                    await client.beta.conversations.start_async(model=MODEL, inputs=INPUTS)
                else:
                    stream = await client.beta.conversations.start_stream_async(model=MODEL, inputs=INPUTS)
                    assert len([event async for event in stream]) == 5
        return measured

    provider = at(list(streamed()) if name == "stream" else answered())
    check(spans, connections.run(run()))


@pytest.mark.parametrize("name", ["start", "stream"])
def test_connectors(name, at, installed, spans):
    """What a connector feeds the model is input; what its calls cost is not known, and the cost says so."""
    provider = at(list(streamed(SEARCHED)) if name == "stream" else answered(SEARCH, SAID, usage=SEARCHED))
    CALLS["start" if name == "start" else "start stream"](conversations(provider))
    assert spans.attributes["gen_ai.usage.input_tokens"] == 7212
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST + 7112 * 0.4e-6)
    assert spans.attributes["tokenguard.cost.status"] == "estimated"
    assert spans.attributes["tokenguard.cost.basis"] == "tool_fees_excluded"


@pytest.mark.parametrize("stream", [False, True])
def test_agents_completions(stream, at, installed, spans):
    """The older way to an agent is a chat whose model the answer names."""
    agents = mistral(at(list(chat_events(MODEL)) if stream else chat_body(MODEL))).agents
    asked = {"agent_id": "ag_1", "messages": INPUTS}
    list(agents.stream(**asked)) if stream else agents.complete(**asked)
    assert spans.attributes["gen_ai.operation.name"] == "chat"
    assert "gen_ai.request.model" not in spans.attributes
    assert spans.attributes["gen_ai.response.model"] == MODEL
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST)


def test_what_is_no_turn(at, installed, spans):
    """Reading a conversation, and making an agent, is no call."""
    entry = {**SAID, "type": "message.output"}
    provider = at(
        lambda asked: (
            {"object": "conversation.history", "conversation_id": "conv_1", "entries": [entry]}
            if "history" in asked.path
            else {"object": "conversation.messages", "conversation_id": "conv_1", "messages": [entry]}
        )
    )
    client = conversations(provider)
    client.get_history(conversation_id="conv_1")
    client.get_messages(conversation_id="conv_1")
    assert len(provider.asked) == 2
    assert len(spans) == 0


def test_conversation_capped(at, installed, spans):
    """The cap goes where the format has it, beside the settings that are there, and nothing of ours is sent."""
    tokenguard.install(policy.loads(SHORT))
    provider = at(answered())
    client = conversations(provider)
    client.append(conversation_id="conv_1", inputs=INPUTS, completion_args={"temperature": 0.5, "max_tokens": 50})
    client.start(model=MODEL, inputs=INPUTS)
    assert provider.asked[0].path == "/v1/conversations/conv_1"
    assert provider.asked[0].body["completion_args"]["max_tokens"] == 7
    assert provider.asked[0].body["completion_args"]["temperature"] == 0.5
    assert provider.asked[1].body["completion_args"] == {"max_tokens": 7}
    assert all("conversation_id" not in asked.body for asked in provider.asked)
    first, _ = spans
    assert first.attributes["tokenguard.guard.original_max_tokens"] == 50
    assert first.attributes["gen_ai.request.temperature"] == 0.5


def test_agent_not_downgraded(at, installed, spans):
    """An agent's model is the provider's to know: where a limit would change it, the call is refused and not broken."""
    rule = '[[limit]]\nname = "cheap"\nmax_input_tokens = 1\nthen = "downgrade"\ndowngrade_to = "mistral-tiny"'
    tokenguard.install(policy.loads(rule))
    provider = at(answered())
    conversations(provider).start(model=MODEL, inputs=INPUTS)
    assert provider.asked[0].body["model"] == "mistral-tiny"
    with pytest.raises(LimitExceeded):
        conversations(provider).start(agent_id="ag_1", inputs=INPUTS)
    assert len(provider.asked) == 1


def test_budget(at, installed, spans):
    """What an agent, or a conversation, may come to is known once it has answered; before, a budget cannot be kept."""
    tokenguard.install(policy.loads('[[budget]]\nname = "day"\nlimit_usd = 1.0\n[ledger]\nurl = "memory:"'))
    ledger = installed.meter.guard.ledger
    client = conversations(at(answered()))
    client.start(model=MODEL, inputs=INPUTS)
    client.append(conversation_id="conv_1", inputs=INPUTS)
    assert ledger.accounts()[0].spent_nano == pytest.approx(2 * COST * 1e9)
    with pytest.raises(BudgetExceeded, match="its model is the provider's to choose"):
        client.start(agent_id="ag_1", inputs=INPUTS)
    ceiling = "unpriced = { input_per_mtok = 15, output_per_mtok = 75 }\n"
    tokenguard.install(
        policy.loads(ceiling + '[[budget]]\nname = "agents"\nlimit_usd = 1.0\n[ledger]\nurl = "memory:"')
    )
    client.start(agent_id="ag_1", inputs=INPUTS)
    assert installed.meter.guard.ledger.accounts()[-1].spent_nano == pytest.approx(COST * 1e9)  # the answer named it
    tokenguard.install(policy.loads('[[budget]]\nname = "day"\nlimit_usd = 1.0\n[ledger]\nurl = "memory:"'))
    client.start(agent_id="ag_1", inputs=INPUTS)


def test_tool_rounds(at, installed, spans):
    """Rounds are counted over the requests of a conversation, and the one too many is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "agents"\nmax_tool_steps = 2'))
    provider = at(answered(CALLED))
    client = conversations(provider)
    client.start(model=MODEL, inputs=INPUTS)
    client.append(conversation_id="conv_1", inputs=[RESULT])
    client.append(conversation_id="conv_1", inputs=[RESULT, RESULT])
    assert [span.attributes.get("tokenguard.tool.steps", 0) for span in spans] == [0, 1, 2]
    assert [span.attributes["tokenguard.tool.calls"] for span in spans] == [1, 1, 1]
    with pytest.raises(LimitExceeded) as refused:
        client.append(conversation_id="conv_1", inputs=[RESULT])
    assert refused.value.observed == 3
    client.append(conversation_id="conv_2", inputs=[RESULT])
    client.append(conversation_id="conv_1", inputs=INPUTS)  # the user has spoken


def test_run_async(at, installed, spans):
    """The SDK's own loop around an agent: each request of it is a call, with its place in the run."""
    pytest.importorskip("griffe")
    pytest.importorskip("mcp")
    from mistralai.extra.run.context import RunContext

    provider = at(lambda asked: answered(SAID if "conv_1" in asked.path else CALLED))

    def look_up(topic: str) -> str:
        """Look a topic up."""
        return "two years"

    look_up.__annotations__ = {"topic": str, "return": str}

    async def run():
        async with mistral(provider) as client, RunContext(model=MODEL) as context:
            context.register_func(look_up)
            await client.beta.conversations.run_async(run_ctx=context, inputs="Which plan?")

    connections.run(run())
    turns = [span for span in spans if span.attributes.get("gen_ai.operation.name") == "invoke_agent"]
    assert [span.attributes.get("tokenguard.tool.steps", 0) for span in turns] == [0, 1]
    assert len(provider.asked) == 2


def test_same_words_elsewhere(at, installed, spans):
    """The same words to two conversations are two requests, also where identical ones share an answer."""
    tokenguard.install(policy.loads('[[share]]\nname = "all"'))
    provider = at(answered())
    client = conversations(provider)
    for name in ("conv_1", "conv_2"):
        client.append(conversation_id=name, inputs=INPUTS)
    first, second = (span.attributes["tokenguard.call.fingerprint"] for span in spans)
    assert first != second


@pytest.mark.parametrize(("kind", "sent"), [("chat", 1), ("append", 2)])
def test_not_shared(kind, sent, at, installed, spans):
    """What is said twice at once in a conversation is said twice, where identical chats share one answer."""
    tokenguard.install(policy.loads('[[share]]\nname = "all"'))
    provider = at(lambda asked: chat_body(MODEL) if "chat" in asked.path else answered())
    provider.delays = [0.4, 0.4]
    client = mistral(provider)

    def call():
        if kind == "chat":
            client.chat.complete(model=MODEL, messages=INPUTS)
        else:
            client.beta.conversations.append(conversation_id="conv_1", inputs=INPUTS)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(call), pool.submit(call)]:
            done.result()
    assert len(provider.asked) == sent


def test_conversation_abandoned(at, installed, spans):
    """A stream that is dropped before its end has its span end, with an estimate of what was said."""
    stream = conversations(at(list(streamed())[:-1])).start_stream(model=MODEL, inputs=INPUTS)
    with stream:
        assert next(iter(stream)).event == "conversation.response.started"
    del stream
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.basis == "abandoned_stream"
    assert record.cost.total > 0


def test_conversation_error(at, installed, spans):
    """What the provider reports in mid-stream is the call's error."""
    failed = {"type": "conversation.response.error", "message": "no", "code": 3000}
    list(conversations(at([*list(streamed())[:2], failed])).start_stream(model=MODEL, inputs=INPUTS))
    assert spans.attributes["error.type"] == "3000"
    assert installed.records[-1].outcome == "error"


def test_own_span(at, installed, spans, monkeypatch):
    """Where the SDK starts a span for a conversation itself, that one gets the facts, and there is no second."""
    monkeypatch.setenv("MISTRAL_SDK_TELEMETRY", "global")
    conversations(at(answered(CALLED))).start(model=MODEL, inputs=INPUTS)
    span = spans.one
    assert span.instrumentation_scope.name.startswith("mistralai")
    assert span.attributes["tokenguard.cost.usd"] == pytest.approx(COST)


def test_responses(at, installed, spans):
    """The SDK's Responses API, where a version has it, is measured as OpenAI's is; counting its tokens is no call."""
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "mistral-medium-2505",
        "output": [],
        "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
    }
    provider = at(lambda asked: {"input_tokens": 9, "object": "x"} if "input_tokens" in asked.path else body)
    responses = getattr(mistral(provider).beta, "responses", None) or getattr(mistral(provider), "responses", None)
    if responses is None:
        pytest.skip("this version has none")
    with contextlib.suppress(client_module.errors.MistralError):  # it wants more of a response than is said here
        responses.create(model=MODEL, input="Hello")
    assert spans.attributes["gen_ai.usage.input_tokens"] == 100
    assert spans.attributes["tokenguard.cost.status"] == "exact"


# --- Azure and Vertex AI ----------------------------------------------------------------------------------------------


def azure(provider):
    module = pytest.importorskip("mistralai.azure.client")
    return module.MistralAzure(api_key="k", server_url=provider.url)


def vertex(provider):
    pytest.importorskip("google.auth")
    module = pytest.importorskip("mistralai.gcp.client")
    return module.MistralGCP(project_id="p", region="europe-west4", access_token="t", server_url=provider.url)


HOSTED = {"azure.ai.inference": azure, "gcp.vertex_ai": vertex}
ASKED = {"model": "mistral-small-2503", "messages": INPUTS, "max_tokens": 40}
PATHS = {
    ("azure.ai.inference", False): "/chat/completions?api-version=2024-05-01-preview",
    ("azure.ai.inference", True): "/chat/completions?api-version=2024-05-01-preview",
    ("gcp.vertex_ai", False): "/v1/projects/p/locations/europe-west4/publishers/mistralai/models/{}:rawPredict",
    ("gcp.vertex_ai", True): "/v1/projects/p/locations/europe-west4/publishers/mistralai/models/{}:streamRawPredict",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("seller", HOSTED)
def test_hosted(seller, asynchronous, stream, at, installed, spans):
    """Where others host Mistral's models they are the provider; what they charge is not in the price list."""
    model = ASKED["model"]
    provider = at(list(chat_events(model)) if stream else chat_body(model))
    client = HOSTED[seller](provider)

    async def run():
        async with client:
            if stream:
                return [chunk async for chunk in await client.chat.stream_async(**ASKED)]
            return await client.chat.complete_async(**ASKED)

    if asynchronous:
        connections.run(run())
    else:
        list(client.chat.stream(**ASKED)) if stream else client.chat.complete(**ASKED)
    assert provider.asked[0].path.partition("#")[0].removeprefix("/models") == PATHS[seller, stream].format(model)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == seller
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == model
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (100, 20)
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["tokenguard.cost.status"] == "unpriced"
    assert "tokenguard.cost.usd" not in attributes


@pytest.mark.parametrize("seller", HOSTED)
def test_hosted_guarded(seller, at, installed, spans):
    """Caps and downgrades reach the body, and on Vertex AI the URL; a price of the user's is used."""
    prices = f'[prices]\n"{seller}/mistral-tiny" = {{ input = 1.0, output = 2.0 }}'
    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny") + prices))
    provider = at(lambda asked: chat_body(asked.body["model"]))
    HOSTED[seller](provider).chat.complete(**ASKED)
    (asked,) = provider.asked
    assert (asked.body["max_tokens"], asked.body["model"]) == (7, "mistral-tiny")
    assert asked.path.removeprefix("/models").startswith(PATHS[seller, False].format("mistral-tiny"))
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(100 * 1e-6 + 20 * 2e-6)
    assert spans.attributes["tokenguard.cost.status"] == "exact"


def test_vertex_fim(at, installed, spans):
    """Filling in the middle goes to the same paths on Vertex AI, and is told apart."""
    provider = at(chat_body("codestral-2501"))
    vertex(provider).fim.complete(model="codestral-2501", prompt="def f(", suffix="return 1")
    assert spans.attributes["gen_ai.operation.name"] == "text_completion"
    assert spans.attributes["gen_ai.usage.output_tokens"] == 20


# --- resends ----------------------------------------------------------------------------------------------------------


def retries(module="mistralai.client.utils"):
    utils = pytest.importorskip(module)
    return utils.RetryConfig("backoff", utils.BackoffStrategy(1, 2, 1.0, 60_000), True)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_resent_after_a_timeout(asynchronous, at, installed, spans):
    """An answer that was not waited for may be on the bill: the resend is counted, and what it may have cost."""
    provider = at(answered())
    provider.delays = [0.6, 0.6]
    asked = {"model": MODEL, "inputs": INPUTS, "timeout_ms": 250, "retries": retries()}

    async def run():
        async with mistral(provider) as client:
            await client.beta.conversations.start_async(**asked)

    connections.run(run()) if asynchronous else conversations(provider).start(**asked)
    assert spans.attributes["http.request.resend_count"] == 2
    assert spans.attributes["tokenguard.retry.cost_usd"] == pytest.approx(2 * COST)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST)
    assert "error.type" not in spans.attributes


def test_resent_after_a_refusal(at, installed, spans):
    """What the provider refused is on no bill."""
    answers = [503, 429, answered()]
    provider = at(lambda asked: answers.pop(0))
    conversations(provider, retry_config=retries()).start(model=MODEL, inputs=INPUTS)
    assert spans.attributes["http.request.resend_count"] == 2
    assert "tokenguard.retry.cost_usd" not in spans.attributes


def test_timeouts_capped(at, installed, spans):
    """A limit on retries ends the SDK's own resends after timeouts too."""
    tokenguard.install(policy.loads('[[limit]]\nname = "calm"\nmax_retries = 1'))
    provider = at(answered())
    provider.delays = [1.5] * 5
    with pytest.raises(Exception, match="timed out"):
        conversations(provider).start(model=MODEL, inputs=INPUTS, timeout_ms=500, retries=retries())
    assert len(provider.asked) == 2
    assert spans.attributes["http.request.resend_count"] == 1
    assert "ReadTimeout" in spans.attributes["error.type"]


@pytest.mark.parametrize("seller", HOSTED)
def test_hosted_resends(seller, at, installed, spans):
    """The other two clients resend in the same way."""
    answers = [503, chat_body("mistral-small-2503")]
    provider = at(lambda asked: answers.pop(0))
    module = {"azure.ai.inference": "mistralai.azure.client.utils", "gcp.vertex_ai": "mistralai.gcp.client.utils"}
    HOSTED[seller](provider).chat.complete(**ASKED, retries=retries(module[seller]))
    assert spans.attributes["http.request.resend_count"] == 1
