"""`[[share]]`: identical calls under way are sent once, whatever they are asked as, and the books are right."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

import canned
import tokenguard
from canned import OPENAI_COST, async_openai_client, openai_client
from exported import metric_points
from tokenguard.facts import names
from tokenguard.guard import fan_out

ASKED = {"model": "gpt-4o-mini", "messages": canned.MESSAGES}
STREAM = {**ASKED, "stream": True}
RULE = '[[share]]\nname = "s"\n[attribution]\ndefaults = { tenant = "share" }\n'
BROKEN = (httpx2.ReadError, openai.APIConnectionError)
"""What a broken stream is to its reader, by the version of the SDK."""
EVENTS = [*(f"data: {json.dumps(each)}\n\n".encode() for each in canned.chat_events()), b"data: [DONE]\n\n"]


class Source(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream that goes on when it is told to, and counts who reads it."""

    def __init__(self, provider):
        self.provider = provider

    def __iter__(self):
        for place, event in enumerate(EVENTS):
            if place == self.provider.breaks_at:
                raise httpx2.ReadError("the connection broke")
            assert self.provider.gate.wait(5)
            self.provider.read += 1
            yield event

    async def __aiter__(self):
        for place, event in enumerate(EVENTS):
            if place == self.provider.breaks_at:
                raise httpx2.ReadError("the connection broke")
            await asyncio.sleep(self.provider.pause)
            self.provider.read += 1
            yield event

    def close(self):
        self.provider.closed += 1

    async def aclose(self):
        self.provider.closed += 1


class Provider:
    """Answers in streams or whole, when it is told to."""

    def __init__(self):
        self.requests = []
        self.read = self.closed = 0
        self.breaks_at = None
        self.pause = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, request):
        self.requests.append(json.loads(request.content))
        assert self.answers.wait(5)
        if self.requests[-1].get("stream"):
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Source(self))
        return httpx2.Response(200, json=canned.chat_body(), headers={"set-cookie": "a=b"})

    async def acall(self, request):
        await asyncio.sleep(self.pause)
        return self(request)


@pytest.fixture
def asked():
    return Provider()


def together(guard, provider, *calls):
    """The results of calls that are under way at once, of which the first one leads."""
    provider.answers.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        first = pool.submit(calls[0])
        until = time.monotonic() + 5
        while not provider.requests:
            assert time.monotonic() < until
        rest = [pool.submit(call) for call in calls[1:]]
        flights = list(guard.flights._flying.values())
        while sum(flight.followers for flight in flights) < len(rest):
            assert time.monotonic() < until, "nobody follows"
            time.sleep(0.001)
        provider.answers.set()
        return [each.result() for each in (first, *rest)]


def results(spans):
    return sorted(str(span.attributes.get(names.CACHE_RESULT)) for span in spans.all())


def test_however_it_is_asked(asked, under, spans):
    """Plain, raw, streaming and parsed: one request, and each gets the SDK's own object of the same bytes."""
    guard = under(RULE)
    completions = openai_client(asked).chat.completions

    def streaming():
        with completions.with_streaming_response.create(**ASKED) as response:
            return json.loads(response.read())

    plain, raw, read, parsed = together(
        guard,
        asked,
        lambda: completions.create(**ASKED),
        lambda: completions.with_raw_response.create(**ASKED),
        streaming,
        lambda: completions.parse(**ASKED),
    )
    assert len(asked.requests) == 1
    assert raw.parse() == plain
    assert "set-cookie" not in raw.headers
    assert read == canned.chat_body()
    assert parsed.choices[0].message.content == plain.choices[0].message.content
    assert results(spans) == ["None", "shared", "shared", "shared"]


def test_books(asked, under, spans):
    """One call pays; the others cost nothing, exactly, and the lever says what they saved."""
    guard = under(RULE.replace('"share"', '"books of shares"') + '[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    completions = openai_client(asked).chat.completions
    streams = together(guard, asked, *[lambda: list(completions.create(**STREAM))] * 3)
    assert streams[0] == streams[1] == streams[2]
    assert len(asked.requests) == 1
    costs = sorted(span.attributes[names.COST] for span in spans.all() if span.attributes.get(names.COST) is not None)
    assert costs[-3:] == [0.0, 0.0, pytest.approx(OPENAI_COST)]
    shared = [span for span in spans.all() if span.attributes.get(names.CACHE_RESULT) == "shared"]
    assert [span.attributes[names.COST_STATUS] for span in shared] == ["exact", "exact"]
    assert all(names.INPUT_TOKENS not in span.attributes for span in shared)
    assert all(span.attributes[names.CACHE_RULE] == "s" for span in shared)
    points = metric_points(tenant="books of shares")
    saved = sum(
        v
        for (name, key), v in points.items()
        if name == "tokenguard.saved.usd" and dict(key)["lever"] == "single_flight"
    )
    assert saved == pytest.approx(2 * OPENAI_COST)
    assert {dict(key).get("served") for (name, key), _ in points.items() if name == "tokenguard.calls"} == {
        None,
        "share",
    }
    assert not guard.flights._flying


def test_nobody_waits_for_anothers_reader(asked, under, spans):
    """The leader has its stream and does not read it: a follower reads all of it, and the leader has it still."""
    guard = under(RULE)
    completions = openai_client(asked).chat.completions
    leader = completions.create(**STREAM)
    follower = list(completions.create(**STREAM))
    assert len(asked.requests) == 1
    assert list(leader) == follower
    assert asked.read == len(EVENTS)
    assert asked.closed == 1
    assert results(spans) == ["None", "shared"]
    assert not guard.flights._flying


def test_leader_gives_up(asked, under, spans):
    """The leader closes its stream: the follower reads on, and is the one that pays, once, exactly."""
    guard = under(RULE + '[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    completions = openai_client(asked).chat.completions
    leader = completions.create(**STREAM)
    next(iter(leader))
    follower = completions.create(**STREAM)
    leader.close()
    assert asked.closed == 0
    assert len(list(follower)) == len(EVENTS) - 2
    assert asked.closed == 1
    gave_up, paid = spans.all()
    assert (gave_up.attributes[names.COST], gave_up.attributes[names.CACHE_RESULT]) == (0.0, "shared")
    assert (paid.attributes[names.COST], paid.attributes[names.COST_STATUS]) == (pytest.approx(OPENAI_COST), "exact")
    assert names.CACHE_RESULT not in paid.attributes
    (account,) = guard.ledger.accounts()
    assert account.spent_nano == pytest.approx(OPENAI_COST * 1e9)
    assert account.reserved_nano == 0
    assert not guard.flights._flying


def test_all_give_up(asked, under, spans):
    """Where nobody reads on, the connection is closed, and the last one is charged an estimate."""
    guard = under(RULE)
    completions = openai_client(asked).chat.completions
    both = [completions.create(**STREAM) for _ in range(2)]
    for each in both:
        next(iter(each))
        each.close()
    assert asked.closed == 1
    assert [span.attributes[names.COST_STATUS] for span in spans.all()] == ["exact", "estimated"]
    assert not guard.flights._flying


def test_dropped_stream(asked, under, spans):
    """A leader that is dropped unread is as one that gives up."""
    under(RULE)
    completions = openai_client(asked).chat.completions
    leader = completions.create(**STREAM)
    follower = completions.create(**STREAM)
    del leader
    gc.collect()  # what they share holds it in a cycle
    assert len(list(follower)) == len(EVENTS) - 2
    assert [span.attributes[names.COST] for span in spans.all()] == [0.0, pytest.approx(OPENAI_COST)]


def test_broken_stream(asked, under, spans):
    """A stream that breaks breaks for each of its readers, with an error of its own, and what came before it."""
    under(RULE)
    asked.breaks_at = 2
    completions = openai_client(asked).chat.completions
    streams = [completions.create(**STREAM) for _ in range(2)]
    errors, counts = [], []
    for stream in streams:
        events = []
        with pytest.raises(BROKEN) as caught:
            events.extend(stream)
        errors.append(caught.value)
        counts.append(len(events))
    assert counts == [2, 2]
    assert errors[0] is not errors[1]
    assert len(asked.requests) == 1


def test_interrupted_reader(asked, under):
    """A signal stops the thread that was reading on: the others are told, and do not hang."""
    under(RULE)
    completions = openai_client(asked).chat.completions
    leader, follower = completions.create(**STREAM), completions.create(**STREAM)

    def interrupted():
        raise KeyboardInterrupt

    asked.gate.wait = lambda timeout: interrupted()
    with pytest.raises(KeyboardInterrupt):
        next(iter(leader))
    with pytest.raises(BROKEN):
        next(iter(follower))


def test_late_comers(asked, under, monkeypatch):
    """Who comes while the stream is under way reads it from its beginning; after it, or when it is stuck, anew."""
    under(RULE)
    completions = openai_client(asked).chat.completions
    first = completions.create(**STREAM)
    next(iter(first))
    second = list(completions.create(**STREAM))
    assert [len(asked.requests), len(second)] == [1, len(EVENTS) - 2]
    monkeypatch.setattr(fan_out, "IDLE_S", -1.0)
    stuck = completions.create(**STREAM)
    assert len(asked.requests) == 2
    for each in (first, stuck):
        each.close()
    completions.create(**STREAM).close()
    assert len(asked.requests) == 3


def test_who_shares(asked, under):
    """Another key, address, organization or tenant is another call, though the words are the same."""
    guard = under(RULE)
    http = httpx2.Client(transport=httpx2.MockTransport(asked))

    def call(**client):
        made = openai.OpenAI(**{"api_key": "k", "http_client": http, "max_retries": 0, **client})
        return lambda: made.chat.completions.create(**ASKED)

    def as_tenant():
        with tokenguard.attribution(tenant="other"):
            return call()()

    calls = [call(), call(api_key="k2"), call(organization="o"), call(base_url="https://x.test/v1"), as_tenant, call()]
    asked.answers.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        waiting = [pool.submit(each) for each in calls]
        until = time.monotonic() + 5
        while sum(flight.followers for flight in guard.flights._flying.values()) < 1 or len(asked.requests) < 5:
            assert time.monotonic() < until
            time.sleep(0.001)
        asked.answers.set()
        for each in waiting:
            each.result()
    assert len(asked.requests) == 5


@pytest.mark.parametrize("stream", [False, True])
def test_failure(stream, asked, under, spans):
    """The provider's refusal is each caller's own exception; it costs nobody anything, and is no retry of anybody."""
    guard = under(RULE)
    asked.__class__.__call__, original = lambda self, request: self.fails(request), asked.__class__.__call__

    def fails(request):
        asked.requests.append(json.loads(request.content))
        assert asked.answers.wait(5)
        return httpx2.Response(429, json={"error": {"message": "slow down"}})

    asked.fails = fails
    try:
        completions = openai_client(asked, max_retries=0).chat.completions

        def call():
            try:
                completions.create(**ASKED, stream=stream)
            except openai.RateLimitError as error:
                return error

        one, other, third = together(guard, asked, call, call, call)
    finally:
        asked.__class__.__call__ = original
    assert len(asked.requests) == 1
    assert one is not other
    assert str(one) == str(other) == str(third)
    assert [span.attributes.get(names.COST, 0.0) for span in spans.all()] == [0.0] * 3
    assert all(span.attributes["error.type"] == "openai.RateLimitError" for span in spans.all())
    spans.clear()
    again = completions.create(**ASKED, stream=stream)
    again.close() if stream else None
    assert spans.all()[-1].attributes.get(names.RETRY_ATTEMPT) == 1


async def test_async_streams(asked, under, spans):
    """The same for coroutines: a slow leader keeps nobody, and one that is cancelled takes nobody along."""
    guard = under(RULE)
    client = async_openai_client(asked.acall)
    asked.pause = 0.01

    async def read(on=None):
        items = []
        async for item in await client.chat.completions.create(**STREAM):
            items.append(item)
            await (asyncio.sleep(0) if on is None else on.wait())
        return items

    leader = asyncio.ensure_future(read(on=asyncio.Event()))
    await asyncio.sleep(0.005)
    followers = await asyncio.gather(read(), read())
    assert not leader.done()
    leader.cancel()
    assert followers[0] == followers[1]
    assert len(asked.requests) == 1
    with pytest.raises(asyncio.CancelledError):
        await leader
    asked.read = 0
    first = await client.chat.completions.create(**STREAM)
    waits_for_the_next = asyncio.ensure_future(anext(first))
    follower = await client.chat.completions.create(**STREAM)
    await asyncio.sleep(0.001)
    waits_for_the_next.cancel()
    assert [item async for item in follower] == followers[0]
    assert len(asked.requests) == 2
    await first.close()
    stream = await client.chat.completions.create(**STREAM)
    await stream.close()
    assert not guard.flights._flying
    assert asked.closed == len(asked.requests) == 3
    assert [span.attributes[names.COST] for span in spans.all()].count(0.0) == 3


async def test_cancelled_follower(asked, under, spans):
    """A follower that is cancelled while it waits sends nothing."""
    under(RULE)
    asked.pause = 0.05
    client = async_openai_client(asked.acall)
    leader = asyncio.ensure_future(client.chat.completions.create(**ASKED))
    await asyncio.sleep(0.01)
    follower = asyncio.ensure_future(client.chat.completions.create(**ASKED))
    await asyncio.sleep(0.01)
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    await leader
    assert len(asked.requests) == 1


def test_with_a_cache(asked, under, spans):
    """What is shared is kept too, and then served."""
    guard = under(RULE + '[[cache]]\nname = "c"\nsampled = true\n')
    completions = openai_client(asked).chat.completions
    together(guard, asked, *[lambda: completions.create(**ASKED)] * 2)
    completions.create(**ASKED)
    assert len(asked.requests) == 1
    assert results(spans) == ["hit", "miss", "shared"]
