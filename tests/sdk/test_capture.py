"""What is recorded of prompts and answers where that is asked for, with the real SDKs, whole and streamed."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

import tokenguard
from loopback import Loopback
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.installation import runtime

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUESTION = "Which of your plans has a warranty?"
ANSWER = "The Pro plan has one."
SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
LOOK_UP = {
    "type": "function",
    "function": {"name": "look_up", "description": "Search the stock.", "parameters": SCHEMA},
}
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": QUESTION}
ASKED = {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
BRIEF = [{"type": "text", "content": "Be brief."}]


@pytest.fixture
def capturing(monkeypatch):
    """TokenGuard installed, with content on spans."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    tokenguard.uninstall()
    tokenguard.install()
    yield runtime.installed()
    tokenguard.uninstall()


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running
    while KEPT:
        KEPT.pop().close()


KEPT = []
"""The clients, until the tests are over: google-genai's closes when it is let go."""


def mistral(provider, tools, stream):
    client = import_module("mistralai.client").Mistral(api_key="k", server_url=provider.url)
    asked = {"model": "mistral-small-latest", "messages": [SYSTEM, USER], **({"tools": [LOOK_UP]} if tools else {})}
    return client.chat.stream(**asked) if stream else client.chat.complete(**asked)


def cohere(provider, tools, stream):
    client = import_module("cohere").ClientV2(api_key="k", base_url=provider.url)
    asked = {"model": "command-r-08-2024", "messages": [SYSTEM, USER], **({"tools": [LOOK_UP]} if tools else {})}
    return client.chat_stream(**asked) if stream else client.chat(**asked)


def cohere1(provider, tools, stream):
    client = import_module("cohere").Client(api_key="k", base_url=provider.url)
    asked = {"model": "command-r-08-2024", "preamble": "Be brief.", "message": QUESTION}
    if tools:
        parameters = {"query": {"type": "str", "required": True}}
        asked["tools"] = [{"name": "look_up", "description": "Search.", "parameter_definitions": parameters}]
    return client.chat_stream(**asked) if stream else client.chat(**asked)


def ollama(provider, tools, stream):
    client = import_module("ollama").Client(host=provider.url)
    return client.chat("llama3.2", [SYSTEM, USER], tools=[LOOK_UP] if tools else None, stream=stream)


def google(provider, tools, stream):
    genai = import_module("google.genai")
    KEPT.append(genai.Client(api_key="k", http_options={"base_url": provider.url}))
    declared = {"name": "look_up", "parameters": {"type": "OBJECT", "properties": {"query": {"type": "STRING"}}}}
    config = {"system_instruction": "Be brief.", "thinking_config": {"thinking_budget": 0}}
    if tools:
        config["tools"] = [{"function_declarations": [declared]}]
    models = KEPT[-1].models
    call = models.generate_content_stream if stream else models.generate_content
    return call(model="gemini-2.5-flash", contents=QUESTION, config=config)


CALLS = {each.__name__: each for each in (mistral, cohere, cohere1, ollama, google)}
MODULES = {
    "mistral": "mistralai.client",
    "cohere": "cohere",
    "cohere1": "cohere",
    "ollama": "ollama",
    "google": "google.genai",
}


def content(spans):
    attributes = spans.attributes
    names = {
        "system": "gen_ai.system_instructions",
        "input": "gen_ai.input.messages",
        "output": "gen_ai.output.messages",
    }
    return {short: json.loads(attributes[name]) for short, name in names.items() if name in attributes}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CALLS)
def test_text(name, stream, provider, capturing, spans):
    """Instructions, question and answer are recorded in the convention's form, alike whole and streamed."""
    pytest.importorskip(MODULES[name])
    provider.answer_next(ANSWER)
    made = CALLS[name](provider, False, stream)
    list(made) if stream else None
    said = content(spans)
    if "system" in said:
        assert said["system"] == BRIEF
        assert said["input"] == [ASKED]
    else:
        assert said["input"] == [{"role": "system", "parts": BRIEF}, ASKED]
    (answer,) = said["output"]
    assert answer["role"] == "assistant"
    assert answer["parts"] == [{"type": "text", "content": ANSWER}]
    assert answer["finish_reason"] == spans.attributes["gen_ai.response.finish_reasons"][0]


SIMULATED = [(name, stream) for name in ("mistral", "cohere", "ollama", "google") for stream in (False, True)]
SIMULATED.remove(("mistral", True))  # it streams a call in one piece, which the simulated provider does not


@pytest.mark.parametrize(("name", "stream"), SIMULATED)
def test_calls(name, stream, provider, capturing, spans):
    """What the model calls is a part of its own, with its arguments as an object."""
    pytest.importorskip(MODULES[name])
    made = CALLS[name](provider, True, stream)
    list(made) if stream else None
    (answer,) = content(spans)["output"]
    calls = [part for part in answer["parts"] if part["type"] == "tool_call"]
    assert [call["name"] for call in calls] == ["look_up"]
    assert isinstance(calls[0]["arguments"], dict)
    assert {part["type"] for part in answer["parts"]} <= {"tool_call", "text", "reasoning"}
    assert len(calls) == spans.attributes["tokenguard.tool.calls"]


def test_streamed_call(capturing, spans):
    """Mistral streams a call in one piece."""
    pytest.importorskip("mistralai.client")
    call = {"id": "c", "index": 0, "function": {"name": "look_up", "arguments": '{"query": "plans"}'}}
    choice = {"index": 0, "delta": {"role": "assistant", "content": "", "tool_calls": [call]}}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "mistral-small-latest"}
    events = [{**head, "choices": [{**choice, "finish_reason": "tool_calls"}], "usage": USAGE}]
    with Loopback(lambda asked: events) as running:
        list(mistral(running, True, True))
    (span,) = (span for span in spans if "tokenguard.call.fingerprint" in span.attributes)
    (answer,) = json.loads(span.attributes["gen_ai.output.messages"])
    parts = [{"type": "tool_call", "id": "c", "name": "look_up", "arguments": {"query": "plans"}}]
    assert answer == {"role": "assistant", "parts": parts, "finish_reason": "tool_calls"}


ENTRY = {"object": "entry", "type": "message.output", "id": "m", "role": "assistant", "content": ANSWER, "model": "x"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def conversation(asked):
    if not asked.body["stream"]:
        return {"object": "conversation.response", "conversation_id": "c", "outputs": [ENTRY], "usage": USAGE}
    delta = {"type": "message.output.delta", "id": "m", "role": "assistant", "model": "x"}
    return [
        {"type": "conversation.response.started", "conversation_id": "c"},
        *({**delta, "content": word + " "} for word in ANSWER.split()[:-1]),
        {**delta, "content": ANSWER.split()[-1]},
        {"type": "conversation.response.done", "usage": USAGE},
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_conversations(stream, capturing, spans):
    """Mistral's agents too."""
    module = pytest.importorskip("mistralai.client")
    with Loopback(conversation) as running:
        conversations = module.Mistral(api_key="k", server_url=running.url).beta.conversations
        asked = {"model": "x", "instructions": "Be brief.", "inputs": [USER]}
        list(conversations.start_stream(**asked)) if stream else conversations.start(**asked)
    (span,) = (span for span in spans if "tokenguard.call.fingerprint" in span.attributes)
    said = {name: json.loads(value) for name, value in span.attributes.items() if name.endswith("messages")}
    assert said["gen_ai.input.messages"] == [ASKED]
    assert json.loads(span.attributes["gen_ai.system_instructions"]) == BRIEF
    assert said["gen_ai.output.messages"] == [{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]}]


def interaction(asked):
    head = {"id": "i", "created": "2026-06-09T12:01:25Z", "updated": "2026-06-09T12:01:25Z", "status": "completed"}
    step = {"type": "model_output", "content": [{"type": "text", "text": ANSWER}]}
    if not asked.body.get("stream"):
        return {**head, "steps": [step]}
    return [
        {"event_type": "interaction.created", "interaction": {**head, "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        *(
            {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": piece}}
            for piece in (ANSWER[:5], ANSWER[5:])
        ),
        {"event_type": "interaction.completed", "interaction": head},
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_interactions(stream, capturing, spans):
    """And Google's interactions."""
    genai = pytest.importorskip("google.genai")
    asked = {"model": "gemini-2.5-flash", "input": QUESTION, "system_instruction": "Be brief."}
    with Loopback(interaction) as running:
        KEPT.append(genai.Client(api_key="k", http_options={"base_url": running.url}))
        made = KEPT[-1].interactions.create(**asked, stream=stream)
        list(made) if stream else None
    text = [{"type": "text", "content": ANSWER}]
    expected = [{"role": "assistant", "parts": text, "finish_reason": "completed"}]
    assert content(spans) == {"system": BRIEF, "input": [ASKED], "output": expected}


def bedrock_events():
    yield "messageStart", {"role": "assistant"}
    for word in ("The Pro ", "plan has one."):
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "look_up"}}}
    for piece in ('{"query": ', '"plans"}'):
        yield "contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": piece}}}
    yield "contentBlockStop", {"contentBlockIndex": 1}
    yield "messageStop", {"stopReason": "tool_use"}
    yield "metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_converse(stream, capturing, spans):
    """And Bedrock's Converse."""
    pytest.importorskip("boto3")
    clouds = import_module("canned_clouds")
    tool = {"toolUse": {"toolUseId": "t", "name": "look_up", "input": {"query": "plans"}}}
    message = {"role": "assistant", "content": [{"text": ANSWER}, tool]}
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    whole = json.dumps({"output": {"message": message}, "stopReason": "tool_use", "usage": usage}).encode()
    framed = b"".join(clouds.framed(clouds.Event(data, kind)) for kind, data in bedrock_events())
    kind = "application/vnd.amazon.eventstream" if stream else "application/json"
    headers, body = {"content-type": kind}, framed if stream else whole
    client = clouds.bedrock_client(lambda request: clouds.AWSResponse(request.url, 200, headers, clouds.Raw(body)))
    asked = {
        "modelId": clouds.BEDROCK_SONNET,
        "system": [{"text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
    }
    list(client.converse_stream(**asked)["stream"]) if stream else client.converse(**asked)
    call = {"type": "tool_call", "id": "t", "name": "look_up", "arguments": {"query": "plans"}}
    expected = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": ANSWER}, call],
            "finish_reason": "tool_use",
        }
    ]
    assert content(spans) == {"system": BRIEF, "input": [ASKED], "output": expected}
