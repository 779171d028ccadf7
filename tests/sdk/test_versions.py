"""The SDKs over real HTTP, in whatever versions are installed: the same file runs with the oldest and the newest.

`make matrix` runs it in an environment for each line of `scripts/matrix.py`. Transport and private parts of an SDK are
not touched, so that nothing here belongs to one version.
"""

from __future__ import annotations

import gc
import importlib

import pytest

import connections
import tokenguard
from tokenguard.demo.provider import SimulatedProvider

MESSAGES = [{"role": "user", "content": "Which of your plans has a warranty?"}]
MAX = 40


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


def sdk(name):
    return pytest.importorskip({"cerebras": "cerebras.cloud.sdk"}.get(name, name))


def clients(name, provider, asynchronous):
    module = sdk(name)
    kind = {
        "openai": "OpenAI",
        "anthropic": "Anthropic",
        "groq": "Groq",
        "together": "Together",
        "cerebras": "Cerebras",
    }
    url = {"openai": provider.openai_url, "anthropic": provider.anthropic_url}.get(name, provider.url)
    options = {"warm_tcp_connection": False} if name == "cerebras" else {}
    return getattr(module, ("Async" if asynchronous else "") + kind[name])(
        api_key="k", base_url=url, max_retries=2, **options
    )


CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": MAX}
CLAUDE = {"model": "claude-sonnet-4-6", "messages": MESSAGES, "max_tokens": MAX}


def read(manager):
    with manager as opened:
        return list(opened.iter_lines() if hasattr(opened, "iter_lines") else opened)


def helper(client):
    chat = client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    return chat.stream(**CHAT)


SYNC = {
    "openai chat": lambda c: c.chat.completions.create(**CHAT),
    "openai stream": lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
    "openai raw": lambda c: c.chat.completions.with_raw_response.create(**CHAT).parse(),
    "openai raw stream": lambda c: list(c.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()),
    "openai streaming response": lambda c: read(c.chat.completions.with_streaming_response.create(**CHAT)),
    "openai helper": lambda c: read(helper(c)),
    "openai responses": lambda c: c.responses.create(model="gpt-4o-mini", input="Hello", max_output_tokens=MAX),
    "openai responses stream": lambda c: list(c.responses.create(model="gpt-4o-mini", input="Hello", stream=True)),
    "openai embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hello"),
    "openai completions": lambda c: c.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Hello", max_tokens=MAX
    ),
    "anthropic messages": lambda c: c.messages.create(**CLAUDE),
    "anthropic stream": lambda c: list(c.messages.create(**CLAUDE, stream=True)),
    "anthropic helper": lambda c: read(c.messages.stream(**CLAUDE)),
    "anthropic raw": lambda c: c.messages.with_raw_response.create(**CLAUDE).parse(),
    "anthropic beta": lambda c: c.beta.messages.create(**CLAUDE),
    "groq chat": lambda c: c.chat.completions.create(**CHAT),
    "groq stream": lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
    "together chat": lambda c: c.chat.completions.create(**CHAT),
    "together stream": lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
    "cerebras chat": lambda c: c.chat.completions.create(**CHAT),
    "cerebras stream": lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
}


async def gather(awaitable):
    stream = await awaitable
    return [item async for item in stream]


async def gather_helper(manager):
    async with manager as stream:
        return [event async for event in stream]


ASYNC = {
    "openai chat": lambda c: c.chat.completions.create(**CHAT),
    "openai stream": lambda c: gather(c.chat.completions.create(**CHAT, stream=True)),
    "openai helper": lambda c: gather_helper(helper(c)),
    "openai responses": lambda c: c.responses.create(model="gpt-4o-mini", input="Hello"),
    "anthropic messages": lambda c: c.messages.create(**CLAUDE),
    "anthropic stream": lambda c: gather(c.messages.create(**CLAUDE, stream=True)),
    "anthropic helper": lambda c: gather_helper(c.messages.stream(**CLAUDE)),
    "groq chat": lambda c: c.chat.completions.create(**CHAT),
    "together stream": lambda c: gather(c.chat.completions.create(**CHAT, stream=True)),
    "cerebras chat": lambda c: c.chat.completions.create(**CHAT),
}


def check(provider, measured, spans):
    (span,) = [span for span in spans if span.attributes.get("gen_ai.usage.input_tokens") is not None]
    billed = provider.requests[-1].billed
    assert span.attributes["gen_ai.usage.input_tokens"] == billed.input
    assert span.attributes.get("gen_ai.usage.output_tokens", 0) == (billed.output or 0)
    assert measured.calls == 1
    assert measured.input_tokens == billed.input


@pytest.mark.parametrize("name", SYNC)
def test_sync(name, provider, installed, spans):
    """One span with the tokens that the provider billed."""
    with clients(name.split()[0], provider, asynchronous=False) as client, tokenguard.meter() as measured:
        SYNC[name](client)
    check(provider, measured, spans)


@pytest.mark.parametrize("name", ASYNC)
def test_async(name, provider, installed, spans):
    """The same for asynchronous clients."""
    sdk(name.split()[0])  # what it reads when it is imported would block the loop

    async def run():
        client = clients(name.split()[0], provider, asynchronous=True)
        with tokenguard.meter() as measured:
            await ASYNC[name](client)
        await client.close()
        return measured

    check(provider, connections.run(run()), spans)


@pytest.mark.parametrize("name", ["openai chat", "anthropic messages", "groq chat", "together chat", "cerebras chat"])
def test_resends(name, provider, installed, spans):
    """The SDK's own resends are counted."""
    with clients(name.split()[0], provider, asynchronous=False) as client:
        provider.fail_next(500, times=2, retry_after=0)
        SYNC[name](client)
    (span,) = [span for span in spans if "gen_ai.usage.input_tokens" in span.attributes]
    assert span.attributes["http.request.resend_count"] == 2


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_abandoned(name, provider, installed, spans):
    """A stream that is dropped half-read ends its span, with an estimate."""
    with clients(name, provider, asynchronous=False) as client:
        create = client.chat.completions.create if name == "openai" else client.messages.create
        stream = create(**(CHAT if name == "openai" else CLAUDE), stream=True)
        next(iter(stream))
        del stream
        gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.basis == "abandoned_stream"


def test_versions_are_known():
    """Says in the log which versions these were."""
    for name in ("openai", "anthropic", "groq", "together", "boto3", "aiobotocore"):
        if importlib.util.find_spec(name):
            print(name, importlib.import_module(name).__version__)
