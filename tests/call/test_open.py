"""A stream that nobody reads any more ends, whoever holds on to it, and what is reserved for it is free."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

import tokenguard
from canned import MESSAGES, Script, async_openai_client, event_stream, openai_client, sse
from tokenguard import policy
from tokenguard.call import open as open_calls
from tokenguard.installation import runtime

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 50, "stream": True}
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}],
}


@pytest.fixture
def ledger(installed, monkeypatch):
    """A budget's ledger, with streams that are looked at all the time."""
    monkeypatch.setattr(open_calls, "SWEEP_S", 0.02)
    monkeypatch.setattr(open_calls.sweeper, "gather_s", 0.02)
    open_calls.sweeper.stop()
    tokenguard.install(policy.loads('[ledger]\nurl = "memory:"\n[[budget]]\nname = "b"\nlimit_usd = 1.0\n'))
    return runtime.installed().meter.guard.ledger


def stream(script=None):
    return openai_client(script or Script(event_stream(sse([CHUNK] * 50)))).chat.completions.create(**CHAT)


def body(chunks):
    """What a web framework is given to send."""
    for chunk in chunks:
        yield chunk.id


def ended(installed, within=5.0) -> bool:
    until = time.monotonic() + within
    while not installed.records and time.monotonic() < until:
        time.sleep(0.01)
    return bool(installed.records)


def test_a_closed_generator_that_a_cycle_holds(installed, ledger, monkeypatch):
    """A framework has closed its generator: that is seen though the stream, in a cycle of its own, stays."""
    monkeypatch.setattr(open_calls, "PUT_DOWN_S", 0.1)
    chunks = stream()
    sending = body(chunks)
    next(sending)
    sending.close()
    assert ended(installed)
    assert installed.records[0].outcome == "abandoned"
    (account,) = ledger.accounts()
    assert account.spent_nano > 0
    assert account.reserved_nano == 0
    assert chunks is not None


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_nobody_reads(installed, ledger, monkeypatch, read):
    """One that is held and not read, begun or not, ends after a while."""
    monkeypatch.setattr(open_calls, "UNREAD_S", 0.1)
    chunks = stream()
    for _ in range(read):
        next(chunks)
    assert ended(installed)
    (account,) = ledger.accounts()
    assert account.reserved_nano == 0
    assert len(list(chunks)) == 50 - read  # for the reader nothing has changed


async def test_an_asynchronous_one(installed, ledger, monkeypatch):
    """The same for an asynchronous stream."""
    monkeypatch.setattr(open_calls, "UNREAD_S", 0.1)

    async def handler(request):
        return event_stream(sse([CHUNK] * 50))

    chunks = await async_openai_client(handler).chat.completions.create(**CHAT)
    await anext(chunks)
    assert await asyncio.to_thread(ended, installed)
    assert len([chunk async for chunk in chunks]) == 49


def test_a_slow_reader_is_a_reader(installed, ledger, monkeypatch):
    """While somebody reads, or waits for the provider, a stream stays open."""
    monkeypatch.setattr(open_calls, "UNREAD_S", 0.2)
    monkeypatch.setattr(open_calls, "PUT_DOWN_S", 0.2)
    chunks = stream()
    next(iter(chunks))  # the first apart, as many programs do
    for number, _ in enumerate(chunks):
        if number < 10:
            time.sleep(0.06)
            assert not installed.records
    assert installed.records[0].outcome == "ok"


def test_dropped_unread_after_it_was_looked_at(installed, ledger):
    """Who looks whether a stream is read holds on to nothing: it ends as soon as it is collected."""
    chunks = stream()
    open_calls._sweep()
    del chunks
    gc.collect()
    assert [record.outcome for record in installed.records] == ["abandoned"]
    assert ledger.accounts()[0].reserved_nano == 0


def test_nothing_is_left(installed, ledger):
    """A call that has ended is not known any more, however it ended."""
    gone = len(open_calls.open_calls)
    list(stream())
    stream().close()
    openai_client(Script()).chat.completions.create(**{**CHAT, "stream": False})
    assert len(open_calls.open_calls) == gone
