"""An answer that nobody waits for is read later, from what it said when it came: as if it were read at once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx2
import pytest
from anthropic._models import construct_type as anthropic_model
from anthropic.types import Message
from openai._models import construct_type as openai_model
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import tokenguard
from canned import chat_body, message_body, openai_client, responses_body
from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.providers import anthropic, openai
from tokenguard.providers.reading import Later, Reading

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def chat(*, usage=None, choice=None, message=None, **more):
    body = {**chat_body(), **more}
    body["usage"] = {**body["usage"], **(usage or {})}
    (first,) = body["choices"]
    body["choices"] = [{**first, **(choice or {}), "message": {**first["message"], **(message or {})}}]
    return body


def message(usage=None, **more):
    body = message_body()
    return {**body, **more, "usage": {**body["usage"], **(usage or {})}}


def response(usage=None, **more):
    body = responses_body()
    return {**body, "error": None, **more, "usage": {**body["usage"], **(usage or {})}}


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    """Nobody counts what each test spends: who does waits for it."""
    monkeypatch.setattr(scope.hooks, "on_call", None)


KINDS = {"chat": (openai.CHAT, ChatCompletion), "messages": (anthropic.MESSAGES, Message)}
KINDS |= {"responses": (openai.RESPONSES, Response)}
CAN_WAIT = {
    "words": ("chat", chat()),
    "a call of a tool": ("chat", chat(choice={"finish_reason": "tool_calls"}, message={"tool_calls": [CALL]})),
    "moonshot's search": ("chat", chat(message={"tool_calls": [{**CALL, "type": "builtin_function"}]})),
    "a cost of its own": ("chat", chat(usage={"cost": 0.25, "is_byok": False})),
    "thoughts beside": ("chat", chat(message={"reasoning_content": "Hm."}, usage={"total_tokens": 2000})),
    "both of the cache": ("chat", chat(usage={"prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 3}})),
    "several answers": ("chat", {**chat(), "choices": chat()["choices"] * 3}),
    "a tier": ("chat", chat(service_tier="priority")),
    "a message": ("messages", message()),
    "a use of a tool": ("messages", message(content=[{"type": "tool_use", "id": "t", "name": "w", "input": {}}])),
    "code that was run": ("messages", message(content=[{"type": "bash_code_execution_tool_result"}])),
    "searches": ("messages", message({"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}})),
    "a response": ("responses", response()),
}
CANNOT = {
    "an error": ("chat", chat(choice={"finish_reason": "error", "error": {"type": "overloaded"}})),
    "no tokens": ("chat", chat(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})),
    "nothing generated": ("chat", chat(usage={"completion_tokens": 0})),
    "more than a call can be": ("chat", chat(usage={"prompt_tokens": 10**12})),
    "text for a number": ("chat", chat(usage={"prompt_tokens": "many"})),
    "groq's tools": ("chat", chat(message={"executed_tools": [{"type": "search"}]})),
    "groq's models": ("chat", chat(usage_breakdown={"models": [{"model": "m", "usage": {"prompt_tokens": 5}}]})),
    "several inferences": ("messages", message({"iterations": [{"type": "message", "input_tokens": 7}]})),
    "a message without tokens": ("messages", message({"input_tokens": 0, "output_tokens": 0})),
    "a response that goes on": ("responses", response(status="in_progress")),
    "a call of a function": ("responses", response(output=[{"type": "function_call", "name": "w"}])),
    "a response that failed": ("responses", response(status="failed", error={"code": "server_error"})),
}


def model_of(kind, body):
    """The SDK's model of an answer."""
    make = anthropic_model if kind is Message else openai_model
    return make(value=json.loads(json.dumps(body)), type_=kind)


def made(kind, body):
    api, model = KINDS[kind]
    return api, model_of(model, body)


def overwrite(node):
    """What an application may do to an answer that it has got: all numbers, and all lists, are changed in place."""
    for key, value in list(getattr(node, "__dict__", {}).items()):
        if isinstance(value, list):
            for each in value:
                overwrite(each)
            value.clear()
        elif hasattr(value, "__dict__"):
            overwrite(value)
        elif isinstance(value, int | str):
            node.__dict__[key] = 7 if isinstance(value, int) else "changed"


@pytest.mark.parametrize("name", CAN_WAIT)
def test_it_is_what_it_said(name):
    """What becomes of the answer meanwhile changes nothing."""
    api, answer = made(*CAN_WAIT[name])
    at_once, said = api.read(answer), api.hear(answer)
    assert isinstance(said, Later)
    overwrite(answer)
    assert api.read(answer) != at_once
    assert said.read() == at_once == said.read()


@pytest.mark.parametrize("name", CANNOT)
def test_what_changes_what_is_done_is_read_at_once(name):
    """A failure, and what has to be estimated, are known when the call ends."""
    api, answer = made(*CANNOT[name])
    said = api.hear(answer)
    assert isinstance(said, Reading)
    assert said == api.read(answer)


@pytest.mark.parametrize("bodies", [CAN_WAIT, CANNOT], ids=["can wait", "cannot"])
def test_decoded_json_is_heard_too(bodies):
    """Of a raw response, and by SDKs that have no models."""
    for kind, body in bodies.values():
        api, _ = KINDS[kind]
        said = api.hear(body)
        assert (said.read() if isinstance(said, Later) else said) == api.read(body)


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://openrouter.ai/api/v1"])
@pytest.mark.parametrize("name", [name for name, (kind, _) in (CAN_WAIT | CANNOT).items() if kind == "chat"])
def test_a_meter_that_waits_sees_the_same(name, base_url, installed, monkeypatch):
    """Every fact of a call, whether somebody waits for it or not."""
    monkeypatch.setenv(names.ENV_STRICT, "0")
    _, body = (CAN_WAIT | CANNOT)[name]
    client = openai_client(lambda request: httpx2.Response(200, json=body), base_url=base_url)

    def ask():
        client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=99)

    ask()
    with tokenguard.meter():
        ask()
    installed.telemetry.flush()
    later, at_once = installed.records[-2:]
    own = {names.CODE_LINE, names.FINGERPRINT, names.RETRY_ATTEMPT, names.RETRY_COST}
    told = [{k: v for k, v in each.attributes.items() if k not in own} for each in (later, at_once)]
    assert told[0] == told[1]
    assert (later.usage, later.cost, later.outcome) == (at_once.usage, at_once.cost, at_once.outcome)


def test_tokens_beyond_belief_are_unknown(installed, monkeypatch):
    """That is found out later where only a part of the whole is garbled: nothing is made up for it."""
    monkeypatch.setenv(names.ENV_STRICT, "0")
    before = installed.telemetry.faults.count
    body = chat(usage={"prompt_tokens_details": {"cached_tokens": 10**14}})
    client = openai_client(lambda request: httpx2.Response(200, json=body))
    client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    installed.telemetry.flush()
    record = installed.records[-1]
    assert (record.usage, record.attributes[names.COST_STATUS]) == (None, names.UNPRICED)
    assert names.COST not in record.attributes
    assert installed.telemetry.faults.count == before + 1


RECORDED = {
    "/chat/completions": (openai.CHAT, ChatCompletion),
    "/completions": (openai.COMPLETIONS, Completion),
    "/responses": (openai.RESPONSES, Response),
    "/embeddings": (openai.EMBEDDINGS, CreateEmbeddingResponse),
    "/messages": (anthropic.MESSAGES, Message),
}


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not part of the repository")
def test_recorded_answers():
    """All real answers that are one object."""
    heard = {}
    for file in sorted(RECORDINGS.glob("*.jsonl.gz")):
        with gzip.open(file, "rt") as lines:
            for row in map(json.loads, lines):
                path = row["url_path"].partition("?")[0]
                end = next((end for end in RECORDED if path.endswith(end)), None)
                if end is None or row["status"] != 200 or not row["content_type"].startswith("application/json"):
                    continue
                api, model = RECORDED[end]
                answer = model_of(model, json.loads(row["body"]))
                at_once, said = api.read(answer), api.hear(answer)
                overwrite(answer)
                assert (said.read() if isinstance(said, Later) else said) == at_once, row["url_path"]
                counted = heard.setdefault(end, [0, 0])
                counted[isinstance(said, Later)] += 1
    assert heard["/chat/completions"][1] > 3 * heard["/chat/completions"][0]
    assert heard["/messages"][1] > 3 * heard["/messages"][0]
