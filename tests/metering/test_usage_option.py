"""A stream's usage chunk: never taken from a caller who would have had it, never shown to one who would not."""

from __future__ import annotations

import json

import httpx2
import openai
import pytest

import connections
import tokenguard
from tokenguard.facts import names

USAGE = {"prompt_tokens": 13, "completion_tokens": 16, "total_tokens": 29}


def chunk(choices, **more):
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


SAID = [
    chunk([{"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}]),
    chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
]
LAST = chunk([], usage=USAGE)


class Host:
    """Sends usage unasked, or on request."""

    def __init__(self, unasked):
        self.unasked = unasked
        self.asked = []

    def __call__(self, request):
        body = json.loads(request.content)
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        self.asked.append(asked)
        events = [*SAID, *([LAST] if asked or self.unasked else [])]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})

    def chunks(self, url, asynchronous=False, **more):
        options = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, **more}
        transport = httpx2.MockTransport(self)
        if not asynchronous:
            client = openai.OpenAI(api_key="k", base_url=url, http_client=httpx2.Client(transport=transport))
            return list(client.chat.completions.create(**options))

        async def call():
            client = openai.AsyncOpenAI(api_key="k", base_url=url, http_client=httpx2.AsyncClient(transport=transport))
            return [each async for each in await client.chat.completions.create(**options)]

        return connections.run(call())


@pytest.fixture
def learning(monkeypatch):
    monkeypatch.delenv("TOKENGUARD_INCLUDE_USAGE")
    tokenguard.uninstall()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "url",
    ["https://openrouter.ai/api/v1", "http://localhost:8000/v1", "http://llm.internal:4000", "https://api.groq.com/v1"],
)
def test_sent_unasked(url, asynchronous, learning, installed, spans):
    """Each stream has its three chunks, as without us, is measured exactly, and nothing is asked for."""
    host = Host(unasked=True)
    for _ in range(3):
        assert [bool(each.usage) for each in host.chunks(url, asynchronous)] == [False, False, True]
    assert host.asked == [False] * 3
    assert [span.attributes[names.OUTPUT_TOKENS] for span in spans] == [16] * 3


def test_asked_for_in_another_way(learning, installed, spans):
    """OpenRouter's own option: the caller has what was asked for."""
    host = Host(unasked=True)
    got = host.chunks("https://openrouter.ai/api/v1", extra_body={"usage": {"include": True}})
    assert got[-1].usage.prompt_tokens == 13


def test_sent_on_request_elsewhere(learning, installed, spans):
    """The first stream is as without us, and estimated; the later ones are asked, and the caller never sees it."""
    host = Host(unasked=False)
    for _ in range(3):
        assert len(host.chunks("http://localhost:8000/v1")) == 2
    assert host.asked == [False, True, True]
    first, *later = spans
    assert first.attributes[names.COST_STATUS] != names.EXACT
    assert [span.attributes[names.OUTPUT_TOKENS] for span in later] == [16, 16]


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_openai_is_asked(url, learning, installed, spans):
    """OpenAI sends it on request alone: it is asked for at once, and hidden."""
    host = Host(unasked=False)
    assert len(host.chunks(url)) == 2
    assert host.asked == [True]
    assert spans.attributes[names.OUTPUT_TOKENS] == 16


def test_the_callers_own_option(learning, installed, spans):
    """Who asks gets it, wherever."""
    host = Host(unasked=False)
    for url in ("https://api.openai.com/v1", "http://localhost:8000/v1"):
        assert len(host.chunks(url, stream_options={"include_usage": True})) == 3
