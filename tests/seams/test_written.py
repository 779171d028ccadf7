"""Requests of the Stainless SDKs whose body is not a mapping: JSON that the program has written itself."""

from __future__ import annotations

import importlib
import io
import json
import warnings

import pytest

import connections
import tokenguard
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts.errors import LimitExceeded

SAID = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
WRITTEN = json.dumps(SAID).encode()


WAYS = {
    "bytes": lambda: {"content": WRITTEN},
    "parts": lambda: {"content": [WRITTEN[:9], WRITTEN[9:]]},
    "file": lambda: {"content": io.BytesIO(WRITTEN)},
    "body": lambda: {"body": WRITTEN},  # deprecated, and done
}
SDKS = {
    "openai": ("openai", "OpenAI", "/chat/completions", "v1"),
    "anthropic": ("anthropic", "Anthropic", "/v1/messages", ""),
    "groq": ("groq", "Groq", "/openai/v1/chat/completions", ""),
    "together": ("together", "Together", "/chat/completions", "v1"),
}
"""By SDK: its module, its client, the path, and what its base URL ends with."""


def send(sdk, server, options, kind=""):
    module, client, path, base = SDKS[sdk]
    its = pytest.importorskip(module)
    http = importlib.import_module("httpx2" if hasattr(its._base_client, "httpx2") else "httpx")
    made = getattr(its, kind + client)(api_key="k", base_url=f"{server.url}/{base}", max_retries=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        given = {"options": {"headers": {"content-type": "application/json"}}, "cast_to": http.Response, **options}
        return made.post(path, **given)


@pytest.fixture
def server():
    with SimulatedProvider() as running:
        yield running


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("way", WAYS)
def test_measured(way, sdk, server, installed):
    """It is a call like any other, and the provider gets what it would have got."""
    if (sdk, way) == ("anthropic", "body"):
        pytest.skip("which it does not take")
    with tokenguard.meter() as measured:
        send(sdk, server, WAYS[way]())
    (sent,) = server.calls
    assert (measured.calls, measured.input_tokens) == (1, sent.billed.input)
    assert sent.body == SAID


@pytest.mark.parametrize("way", WAYS)
def test_limited(way, server, installed):
    """A limit holds for it: what is refused is not sent, and a cap goes onto the wire."""
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 10\nthen = "block"\n'))
    with pytest.raises(LimitExceeded):
        send("openai", server, WAYS[way]())
    assert not server.requests
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 10\nthen = "clamp"\n'))
    send("openai", server, WAYS[way]())
    (sent,) = server.calls
    assert sent.body == {**SAID, "max_tokens": 10}


def test_asynchronous(server, installed):
    """The same of the asynchronous client."""

    async def work():
        await send("openai", server, WAYS["bytes"](), "Async")

    with tokenguard.meter() as measured:
        connections.run(work())
    assert measured.calls == 1


@pytest.mark.parametrize("content", [b"no JSON", b"[1]", b"\xff\xfe", (each for each in (WRITTEN,))])
def test_what_cannot_be_known(content, server, installed):
    """What is no JSON object, or is written as it goes out, is sent as it is."""
    its = pytest.importorskip("openai")
    if isinstance(content, bytes):
        with pytest.raises(its.APIStatusError):
            send("openai", server, {"content": content})
    else:
        send("openai", server, {"content": content})
    assert len(server.requests) == 1
