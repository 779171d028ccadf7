"""A long stream is kept short: its events are joined, and say to every reader what they said one by one."""

from __future__ import annotations

import asyncio
import json
import random
from types import SimpleNamespace

import httpx2
import openai
import pytest

from tokenguard.call.call import Call
from tokenguard.providers import every_api
from tokenguard.providers.events import in_lines
from tokenguard.seams.common import tap as taps
from tokenguard.seams.common.merging import Merger
from tokenguard.seams.common.tap import Tap
from wire_bodies import BODIES

FORMATS = {api.id: api for api in reversed(every_api())}
TEXTS = ("the ", 'a "b"', " über", "\n", "数", "\\", "🎉", "data: ", "", "}]}\n\n", '"obfuscation":"x"')


def said(api, body: bytes, *, lines: bool = False):
    """All that is read of a stream."""
    body = body if lines else in_lines(body)
    return api.fold(body), api.words.streamed_text(body), api.words.told(body)


def merged(api, chunks: list[bytes], piece: int, *, lines: bool = False) -> bytes:
    merger = Merger(api.words.streamed, lines=lines)
    return b"".join(merger.merged(chunks[at : at + piece]) for at in range(0, len(chunks), piece))


def cut(body: bytes, seed: int) -> list[bytes]:
    """A body in chunks as a network has them: within events, and several in one."""
    rolled, at, chunks = random.Random(seed), 0, []
    while at < len(body):
        size = rolled.choice((1, 7, 90, 300, 900)) if seed else 1
        chunks.append(body[at : at + size])
        at += size
    return chunks


@pytest.mark.parametrize("name", [name for name, body in BODIES.items() if body.events and name in FORMATS])
def test_every_format(name):
    """Every wire format, whole and broken off, however it is cut."""
    api, row = FORMATS[name], BODIES[name]
    if not api.words.streamed:
        return
    for whole in (True, False):
        body = row.stream(whole=whole)
        for piece in (2, 3, 5, 1000):
            for seed in range(4):
                assert said(api, merged(api, cut(body, seed), piece, lines=row.lines), lines=row.lines) == said(
                    api, body, lines=row.lines
                )


def sse(*events, event: str = "") -> list[bytes]:
    named = f"event: {event}\n".encode() if event else b""
    return [named + b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\n\n" for each in events]


def chat(text: object, key: str = "content", index: int = 0, **more) -> dict:
    delta = {key: text}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


USAGE = {"prompt_tokens": 30, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 20}}
ENDED = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
FIRST = chat("", role="assistant")
CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}


def texts(count: int, seed: int = 1) -> list[str]:
    rolled = random.Random(seed)
    return [rolled.choice(TEXTS) for _ in range(count)]


def argued(text: str) -> dict:
    return chat([{"index": 0, "function": {"arguments": text}}], "tool_calls")


STREAMS = {
    "plain": ("chat", sse(FIRST, *map(chat, texts(3000)), ENDED, chat("", usage=USAGE))),
    "broken off": ("chat", sse(FIRST, *map(chat, texts(3000)))),
    "usage in the first event": ("chat", sse(chat("", usage=USAGE), *map(chat, texts(3000)), ENDED)),
    "usage before a long tail": (
        "chat",
        sse(*map(chat, texts(1500)), ENDED, chat("", usage=USAGE), *map(chat, texts(1500)), chat("x", usage=None)),
    ),
    "usage that grows": (
        "chat",
        sse(*(chat("x", usage={"prompt_tokens": 3, "completion_tokens": n}) for n in range(3000)), ENDED),
    ),
    "padded": (
        "chat",
        sse(
            *(chat(each, obfuscation="x" * (n % 9)) for n, each in enumerate(texts(3000))), ENDED, chat("", usage=USAGE)
        ),
    ),
    "thoughts, text, a call": (
        "chat",
        sse(
            *(chat(each, "reasoning_content") for each in texts(900)),
            *map(chat, texts(900, 2)),
            chat([CALL], "tool_calls"),
            *map(argued, ["{", *['"a": 1, '] * 900, '"b": 2}']),
            ENDED,
            chat("", usage=USAGE),
        ),
    ),
    "two answers": (
        "chat",
        sse(*(chat(each, index=n % 2) for n, each in enumerate(texts(3000))), ENDED, chat("", usage=USAGE)),
    ),
    "thoughts among text": (
        "chat",
        sse(*(chat(each, ("content", "reasoning")[n // 5 % 2]) for n, each in enumerate(texts(3000))), ENDED),
    ),
    "an error at the end": ("chat", [*sse(*map(chat, texts(3000))), *sse({"error": {"type": "server_error"}})]),
    "anthropic": (
        "messages",
        [
            *sse({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 9}}}),
            *(
                b"event: content_block_delta\ndata: "
                + json.dumps(
                    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}}
                ).encode()[:-1]
                + b" " * (n % 16)
                + b"}\n\n"
                for n, each in enumerate(texts(3000))
            ),
            *sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
            *sse({"type": "message_stop"}),
        ],
    ),
    "responses": (
        "responses",
        sse(
            *(
                {
                    "type": "response.output_text.delta",
                    "sequence_number": n,
                    "item_id": "i",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": each,
                    "obfuscation": "y" * (n % 16),
                }
                for n, each in enumerate(texts(3000))
            ),
            {"type": "response.output_text.done", "sequence_number": 3000, "item_id": "i", "text": "all"},
        ),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_long_streams(name):
    """Whatever comes between the texts, and wherever the usage is: what is read is the same, to the letter."""
    api, chunks = FORMATS[STREAMS[name][0]], STREAMS[name][1]
    whole = said(api, b"".join(chunks))
    for some in (chunks, cut(b"".join(chunks), 1)):
        assert said(api, merged(api, some, 1024)) == whole


@pytest.mark.parametrize("name", ["plain", "broken off", "padded", "thoughts, text, a call", "anthropic", "responses"])
def test_they_are_short(name):
    """What is left of a long stream is little more than its text."""
    api, chunks = FORMATS[STREAMS[name][0]], STREAMS[name][1]
    body = b"".join(chunks)
    text = api.words.streamed_text(body).encode()
    assert len(merged(api, chunks, 1024)) < 2 * len(text) + 10_000 < len(body) / 5


def test_lines():
    """Streams of JSON lines, each with the time in it."""
    api = FORMATS["ollama_chat"]
    lines = [
        json.dumps(
            {"model": "m", "created_at": f"2026-11-27T00:00:00.{n}Z", "message": {"content": each}, "done": False}
        )
        for n, each in enumerate(texts(3000))
    ]
    lines.append(
        json.dumps({"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4})
    )
    chunks = [line.encode() + b"\n" for line in lines]
    short = merged(api, chunks, 1024, lines=True)
    assert said(api, short, lines=True) == said(api, b"".join(chunks), lines=True)
    assert len(short) < len(b"".join(chunks)) / 5


def test_lines_whose_text_looks_like_an_event():
    """A stream of lines is never taken for one of events, whatever its text says."""
    tap = object.__new__(Tap)
    tap._content_type, tap._call = (
        "application/x-ndjson",
        SimpleNamespace(finished=True, span=SimpleNamespace(let_go=int)),
    )
    lines = [b'{"message": {"content": "data: }"}}\n', b'{"done": true}\n']
    assert tap._events(lines) == b"".join(lines)


def test_what_is_no_stream():
    """A body that has no events, or no text, comes out as it went in."""
    api = FORMATS["chat"]
    for body in (b'{"p": 1, "q": {"p": 2}}\n' * 99, b"\n\n" * 99, b"x" * 9999, b": ping\n\n" * 99):
        assert merged(api, cut(body, 2), 10) == body


def answered(chunks, *, broken: bool = False, asynchronous: bool = False):
    """One call of the real SDK whose stream is read to its end, or to somewhere in it."""
    headers = {"content-type": "text/event-stream"}
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}], "stream": True}
    last = len(chunks) - 100 if broken else None

    async def read() -> None:
        async def body():
            for each in chunks:
                yield each

        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=body()))
        client = openai.AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=transport))
        stream = await client.chat.completions.create(**ask)
        n = 0
        async for _ in stream:
            n += 1
            if n == last:
                break
        await stream.close()
        await client.close()

    if asynchronous:
        asyncio.run(read())
        return
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=iter(chunks)))
    client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))
    with client.chat.completions.create(**ask) as stream:
        for n, _ in enumerate(stream):
            if n == last:
                break


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken off"])
def test_through_the_sdk(installed, monkeypatch, broken, asynchronous):
    """Usage, cost and estimate of a call are the same, however much of its stream was kept as it came."""
    chunks = STREAMS["plain"][1][-300:]
    told = []
    for piece in (10**6, 299, 300, 7):
        monkeypatch.setattr(taps, "PIECE", piece)
        answered(chunks, broken=broken, asynchronous=asynchronous)
        record = installed.records[-1]
        told.append((record.usage, record.cost, record.outcome))
    assert told[0][1].total
    assert told.count(told[0]) == len(told)


def test_what_is_kept_is_bounded(installed, monkeypatch):
    """While a long stream is read, what is kept of it is its text and one piece."""
    kept = []
    shorten = Tap._shorten

    def watched(self, done):
        result = shorten(self, done)
        kept.append(sum(map(len, self._items)))
        return result

    monkeypatch.setattr(Tap, "_shorten", watched)
    monkeypatch.setattr(taps, "PIECE", 100)
    chunks = sse(*(chat("word ") for _ in range(2000)))
    answered(chunks)
    assert len(kept) == 20
    assert kept[-1] < 20 * 1000 < len(b"".join(chunks)) / 10


def test_what_cannot_be_shortened_stays(installed, monkeypatch):
    """Where shortening fails, that is noted, and the stream goes on as it is."""
    noted = []
    monkeypatch.setattr(taps, "PIECE", 100)
    monkeypatch.setattr(Merger, "merged", lambda self, chunks: 1 / 0)
    monkeypatch.setattr(Call, "internal_error", lambda self, where, error: noted.append(where))
    answered(STREAMS["plain"][1][-900:])
    assert noted == ["shortening a stream"]
    assert installed.records[-1].usage.input == 30
