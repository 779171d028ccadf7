"""What brings no usage is not free: a budget holds in money whatever the provider leaves out, breaks off or garbles."""

from __future__ import annotations

import asyncio
import gc
import json

import anthropic
import httpx2
import openai
import pytest

import connections
import tokenguard
from canned import Body, async_openai_client, openai_client
from tokenguard import BudgetExceeded, policy
from tokenguard.installation import runtime

CAP = 35_000  # output tokens: $0.35 at $10 per million
WORDS = "word " * CAP
MESSAGES = [{"role": "user", "content": "x"}]
PRICES = '"*/race-model" = { input = 0.0, output = 10.0 }'


@pytest.fixture
def budget(installed):
    """A budget of $1 in this process: `budget()` gives what it has spent, in USD."""
    text = (
        '[ledger]\nurl = "memory:"\n[[budget]]\nname = "b"\nwindow = "total"\nlimit_usd = 1.0\n'
        f"alert_at = []\n[prices]\n{PRICES}\n"
    )
    tokenguard.install(policy.loads(text, "tokenguard.toml"))
    ledger = runtime.installed().meter.guard.ledger
    yield lambda: ledger.accounts()[0].spent_nano / 1e9
    tokenguard.install(policy.Policy())


def chat(content=WORDS, **more):
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "race-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        **more,
    }


def usage(output):
    return {"usage": {"prompt_tokens": output, "completion_tokens": output, "total_tokens": output}}


def call(**tool):
    function = {"name": "write", "arguments": json.dumps({"text": WORDS})}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    return {**chat(), "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "race-model",
    "output": [
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": WORDS, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "race-model",
    "content": [{"type": "text", "text": WORDS}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}


def say(body):
    return lambda request: httpx2.Response(200, json=body)


def time_out(request):
    raise httpx2.ReadTimeout("too slow", request=request)


def stream(request):
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body([b"data: [DONE]\n\n"]))


def ask(client):
    return client.chat.completions.create(model="race-model", messages=MESSAGES, max_tokens=CAP)


def ask_responses(client):
    return client.responses.create(model="race-model", input="x", max_output_tokens=CAP)


def close_unread(client):
    client.chat.completions.create(model="race-model", messages=MESSAGES, max_tokens=CAP, stream=True).close()


def drop_unread(client):
    client.chat.completions.create(model="race-model", messages=MESSAGES, max_tokens=CAP, stream=True)
    gc.collect()


def raw(client):
    return client.chat.completions.with_raw_response.create(model="race-model", messages=MESSAGES, max_tokens=CAP)


JSON = {"content-type": "application/json"}
CASES = {
    "no usage": (say(chat()), ask),
    "no usage, raw": (say(chat()), raw),
    "usage is null": (say(chat(usage=None)), ask),
    "usage is empty": (say(chat(usage={})), ask),
    "usage is negative": (say(chat(**usage(-5))), ask),
    "usage is beyond reason": (say(chat(**usage(10**30))), ask),
    "only the input is told": (say(chat(usage={"prompt_tokens": 1})), ask),
    "a tool's arguments": (say(call()), ask),
    "responses without usage": (say(RESPONSE), ask_responses),
    "no usage and no text": (say(chat(content=None)), ask),
    "an empty object": (say({}), ask),
    "a body that is no JSON": (lambda request: httpx2.Response(200, headers=JSON, content=b"<html>"), ask),
    "a body that is text": (lambda request: httpx2.Response(200, text="all well"), ask),
    "a read time-out": (time_out, ask),
    "a stream closed unread": (stream, close_unread),
    "a stream dropped unread": (stream, drop_unread),
}


@pytest.mark.parametrize("case", CASES)
def test_no_usage_is_not_free(case, budget, installed, monkeypatch):
    """A $1 budget lets two calls of $0.35 out, whatever comes back; each is on the record as an estimate."""
    monkeypatch.delenv("TOKENGUARD_STRICT", raising=False)
    handler, ask_it = CASES[case]
    sent = []
    client = openai_client(lambda request: (sent.append(1), handler(request))[1], max_retries=0)
    for _ in range(6):
        try:
            ask_it(client)
        except (openai.APIError, json.JSONDecodeError):
            continue
        except BudgetExceeded:
            break
    assert len(sent) == 2
    assert budget() == pytest.approx(0.7, rel=0.001)
    settled = [record for record in installed.records if record.outcome != "blocked"]
    assert [(record.cost.status, record.cost.basis is None) for record in settled] == [("estimated", False)] * 2
    assert sum(record.cost_usd for record in settled) == pytest.approx(budget(), rel=0.001)


def test_messages_without_usage(budget, installed):
    """The same in Anthropic's words."""
    sent = []
    transport = httpx2.MockTransport(lambda request: (sent.append(1), httpx2.Response(200, json=MESSAGE))[1])
    client = anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport), timeout=60)
    for _ in range(2):
        client.messages.create(model="race-model", messages=MESSAGES, max_tokens=CAP)
    with pytest.raises(BudgetExceeded):
        client.messages.create(model="race-model", messages=MESSAGES, max_tokens=CAP)
    assert len(sent) == 2


def test_cancelled(budget, installed):
    """A call that is cancelled while the provider works on it is charged as reserved."""

    async def main():
        async def slow(request):
            await asyncio.sleep(30)

        client = async_openai_client(slow)
        task = asyncio.create_task(ask(client))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    connections.run(main())
    assert budget() == pytest.approx(0.35, rel=0.001)


def test_refused_after_a_time_out(budget, installed):
    """An attempt that timed out stays on the bill, though its repeat was refused."""
    answers = iter([time_out, lambda request: httpx2.Response(400, json={"error": {"message": "no"}})])
    client = openai_client(lambda request: next(answers)(request), max_retries=1)
    with pytest.raises(openai.BadRequestError):
        ask(client)
    assert budget() == pytest.approx(0.35, rel=0.001)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
def test_refused_is_free(status, budget, installed):
    """What the provider refuses is on no bill."""
    with pytest.raises(openai.APIStatusError):
        ask(openai_client(lambda request: httpx2.Response(status, json={"error": {"message": "no"}}), max_retries=0))
    assert budget() == 0


def test_unreachable_is_free(budget, installed):
    """What never reached the provider is on no bill."""

    def refuse(request):
        raise httpx2.ConnectError("no route", request=request)

    with pytest.raises(openai.APIConnectionError):
        ask(openai_client(refuse, max_retries=0))
    assert budget() == 0


def test_unknown_is_not_zero(installed, monkeypatch):
    """Without a reservation, the output of a call that timed out is unknown: its cost has an input and no output."""
    monkeypatch.delenv("TOKENGUARD_STRICT", raising=False)
    with pytest.raises(openai.APITimeoutError):
        openai_client(time_out, max_retries=0).chat.completions.create(model="gpt-4o", messages=MESSAGES)
    record = installed.records[-1]
    assert (record.cost.status, record.cost.basis) == ("estimated", "timed_out")
    assert record.cost.input > 0
    assert record.cost.output is None
    assert "tokenguard.cost.output_usd" not in record.attributes


def test_beyond_reason_is_an_internal_error(budget, installed, monkeypatch):
    """10^30 tokens are nobody's usage: noted as an internal error, and charged as if nothing had been told."""
    monkeypatch.delenv("TOKENGUARD_STRICT", raising=False)
    before = installed.telemetry.faults.count
    ask(openai_client(say(chat(content="short", **usage(10**30)))))
    assert installed.telemetry.faults.count == before + 1
    assert 0 < budget() < 0.001
    assert "gen_ai.usage.output_tokens" not in installed.records[-1].attributes


WORST = {
    "one": ({"prompt": "x"}, 1),
    "n": ({"prompt": "x", "n": 5}, 5),
    "best_of": ({"prompt": "x", "best_of": 5}, 5),
    "best_of above n": ({"prompt": "x", "n": 2, "best_of": 5}, 5),
    "prompts": ({"prompt": ["a", "b", "c", "d", "e"]}, 5),
    "prompts and n": ({"prompt": ["a", "b"], "n": 3}, 6),
    "tokens": ({"prompt": [1, 2, 3]}, 1),
    "lists of tokens": ({"prompt": [[1, 2], [3]]}, 2),
    "n as a float": ({"prompt": "x", "n": 5.0}, 5),
    "n as text": ({"prompt": "x", "n": "5"}, 5),
    "the cap as text": ({"prompt": "x", "max_tokens": "1000"}, 1),
    "the cap as a float": ({"prompt": "x", "max_tokens": 1000.0}, 1),
    "a cap of nothing": ({"prompt": "x", "max_tokens": 0}, 0),
}


@pytest.mark.parametrize("case", WORST)
def test_worst_case(case, budget, installed):
    """The worst case is of every answer that is billed: each of `n`, of `best_of`, of several prompts."""
    body, answers = WORST[case]
    held = []
    ledger = runtime.installed().meter.guard.ledger

    def handler(request):
        held.append(ledger.accounts()[0].reserved_nano)
        return httpx2.Response(200, json={**chat(), "object": "text_completion", **usage(1)})

    openai_client(handler).completions.create(model="race-model", **{"max_tokens": 1000, **body})
    assert held == [answers * 10_000_000]


def test_reasoning_beside_the_cap(budget, installed):
    """Where a provider bills reasoning beside the cap, the next worst case holds it too."""
    held = []
    ledger = runtime.installed().meter.guard.ledger

    def handler(request):
        held.append(ledger.accounts()[0].reserved_nano)
        return httpx2.Response(200, json=chat(content="x", **usage(3000)))

    client = openai_client(handler)
    for _ in range(2):
        client.chat.completions.create(model="race-model", messages=MESSAGES, max_tokens=1000)
    assert held == [10_000_000, 30_000_000]
