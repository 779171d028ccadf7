"""What the simulated provider does wrong on purpose, and what it charges for it."""

from __future__ import annotations

import threading
import time

import anthropic
import httpx
import openai
import pytest

from tokenguard.demo.provider import SimulatedProvider
from tokenguard.tokens import count_text

from .conftest import says

BROKEN = (openai.APIConnectionError, httpx.RemoteProtocolError)
"""How the SDKs tell that a stream broke off; openai before 3 let its transport's error through."""


def ask(client, **more):
    return client.chat.completions.create(model="gpt-4o", messages=says("Where is my order?"), **more)


def message(client, **more):
    return client.messages.create(model="claude-sonnet-4-6", max_tokens=200, messages=says("Hello"), **more)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
def test_statuses(provider, chat, claude, status):
    """An error status reaches both SDKs as their own error, in the API's own shape, and is not charged."""
    provider.fail_next(status, times=2, retry_after=3)
    with pytest.raises(openai.APIStatusError) as caught:
        ask(chat)
    assert caught.value.status_code == status
    assert caught.value.type
    assert caught.value.response.headers["retry-after"] == "3"
    with pytest.raises(anthropic.APIStatusError) as caught:
        message(claude)
    assert caught.value.status_code == status
    assert caught.value.body["type"] == "error"
    assert [(request.status, request.billed) for request in provider.requests] == [(status, None)] * 2
    ask(chat)
    assert provider.requests[-1].status == 200


def test_the_sdk_retries(provider, chat):
    """After two refusals the SDK's third attempt succeeds, at once when told not to wait; one request is charged."""
    provider.fail_next(429, times=2, retry_after=0)
    began = time.monotonic()
    ask(chat.with_options(max_retries=2))
    assert time.monotonic() - began < 0.5
    assert [request.status for request in provider.requests] == [429, 429, 200]
    assert len(provider.calls) == 1


def test_faults_for_one_path(provider, chat, claude):
    """A fault for one path waits for it."""
    provider.fail_next(500, path="/messages")
    ask(chat)
    with pytest.raises(anthropic.InternalServerError):
        message(claude)


def test_faults_by_chance():
    """A rate and a seed make the same faults in every run."""

    def statuses(seed):
        with (
            SimulatedProvider(fault_rate=0.3, fault_statuses=(429, 500), seed=seed) as provider,
            openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client,
        ):
            for _ in range(30):
                try:
                    ask(client)
                except openai.APIStatusError:
                    continue
            return [request.status for request in provider.requests]

    first = statuses(1)
    assert first == statuses(1) != statuses(2)
    assert {429, 500, 200} == set(first)


def test_a_call_that_times_out_is_charged(provider, chat):
    """The provider finishes what the client no longer waits for, and sends the bill."""
    provider.fail_next("delay", seconds=0.4)
    with pytest.raises(openai.APITimeoutError):
        ask(chat, timeout=0.1)
    deadline = time.monotonic() + 5
    while not provider.calls and time.monotonic() < deadline:
        time.sleep(0.01)
    assert provider.billed.output > 0


def test_a_refused_connection(provider, chat):
    """The connection closes without an answer; nothing is charged."""
    provider.fail_next("refuse_connection")
    with pytest.raises(openai.APIConnectionError):
        ask(chat)
    assert not provider.calls


def test_a_stream_that_breaks_off(provider, chat):
    """After some events the connection is gone; what was generated until then is charged."""
    provider.fail_next("disconnect", after=4)
    seen = []
    with pytest.raises(BROKEN):
        seen.extend(ask(chat, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in seen)
    (request,) = provider.requests
    assert len(seen) == 4
    assert not request.delivered
    assert request.billed.output == count_text(text, "gpt-4o")


def test_an_answer_that_breaks_off(provider, chat):
    """A JSON answer cut in half is a connection error for the SDK, and charged all the same."""
    provider.fail_next("disconnect")
    with pytest.raises(openai.APIConnectionError):
        ask(chat)
    assert provider.billed.output > 0
    assert not provider.requests[0].delivered


def test_an_error_inside_a_stream(provider, chat, claude):
    """Each wire format reports its failure in its own way, and the SDK tells it; the part generated is charged."""
    provider.fail_next("stream_error", after=6, times=3)
    with pytest.raises(openai.APIError, match="had an error"):
        list(ask(chat, stream=True))
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(message(claude, stream=True))
    *_, last = chat.responses.create(model="gpt-4o", input="Hello there", stream=True)
    assert (last.type, last.code) == ("error", "server_error")
    assert all(0 < request.billed.output < 10 for request in provider.requests)


def test_missing_usage(provider, chat, claude):
    """No usage anywhere, in answers and in streams that asked for it; the bill is sent."""
    provider.fail_next("missing_usage", times=4)
    assert ask(chat).usage is None
    chunks = list(ask(chat, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in chunks)
    assert message(claude).usage is None
    events = list(message(claude, stream=True))
    assert events[-2].type == "message_delta"
    assert events[-2].usage is None
    assert len(provider.calls) == 4


def test_malformed_usage(provider, chat, claude):
    """A usage object of nonsense passes through the SDKs, which do not look."""
    provider.fail_next("malformed_usage", times=3)
    assert ask(chat).usage.prompt_tokens == "many"
    assert list(ask(chat, stream=True, stream_options={"include_usage": True}))[-1].usage.total_tokens == -1
    assert message(claude).usage.input_tokens == []


def test_an_abandoned_stream_is_charged_as_far_as_it_came():
    """When the client hangs up generating stops, and only what was made is charged."""
    with (
        SimulatedProvider(chunk_delay=0.02) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client,
    ):
        provider.answer_next("word " * 200)
        stream = ask(client, stream=True)
        for _ in range(5):
            next(stream)
        stream.close()
        deadline = time.monotonic() + 5
        while provider.requests[0].billed.output > 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        (request,) = provider.requests
        assert not request.delivered
        assert 3 <= request.billed.output < 60


def test_an_unknown_fault_is_refused(provider):
    """A misspelt fault says what there is."""
    with pytest.raises(ValueError, match="disconnect"):
        provider.fail_next("disconect")
    with pytest.raises(ValueError, match="HTTP status"):
        provider.fail_next(200)


def test_closing_drops_everything():
    """A closed provider answers nobody, and leaves no thread in work and no open port."""
    with SimulatedProvider() as provider:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        ask(client)
        before = threading.active_count()
    with pytest.raises(openai.APIConnectionError):
        ask(client)
    client.close()
    assert threading.active_count() < before
