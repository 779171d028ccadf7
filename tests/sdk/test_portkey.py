"""Portkey's SDK, which carries OpenAI's within it, through its own clients and over real HTTP."""

from __future__ import annotations

import asyncio

import pytest

import tokenguard
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts.errors import LimitExceeded

portkey_ai = pytest.importorskip("portkey_ai")
ASKED = {"model": "@openai-prod/gpt-4o", "messages": [{"role": "user", "content": "Which plan?"}]}


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def client(provider):
    opened = portkey_ai.Portkey(api_key="k", base_url=provider.openai_url)
    yield opened
    opened.openai_client.close()
    opened.close()


def by_many(provider):
    async def ask():
        opened = portkey_ai.AsyncPortkey(api_key="k", base_url=provider.openai_url)
        try:
            await opened.chat.completions.create(**ASKED)
        finally:
            await opened.openai_client.close()
            await opened.close()

    asyncio.run(ask())


WAYS = {
    "plain": lambda client, _: client.chat.completions.create(**ASKED),
    "stream": lambda client, _: list(client.chat.completions.create(**ASKED, stream=True)),
    "responses": lambda client, _: client.responses.create(model="gpt-4o", input="Which plan?"),
    "embeddings": lambda client, _: client.embeddings.create(model="text-embedding-3-small", input="Which plan?"),
    "async": lambda _, provider: by_many(provider),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call(way, client, provider, installed) -> None:
    """Measured once; the gateway itself sells nothing, so the price is the maker's, as an estimate."""
    with tokenguard.meter() as measured:
        WAYS[way](client, provider)
    assert measured.calls == 1
    assert measured.cost_usd > 0
    (call,) = measured.records
    assert call.cost.status == "estimated"
    assert call.attributes["tokenguard.cost.basis"] == "assumed_provider"


def test_the_seam_is_in_place(client, installed) -> None:
    """The classes that it carries call themselves OpenAI's."""
    assert not installed.seams["portkey_ai._vendor.openai._base_client"].problems()


def test_a_limit(client, provider, installed) -> None:
    """What is refused is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 10\nthen = "block"\n'))
    before = len(provider.requests)
    with pytest.raises(LimitExceeded):
        client.chat.completions.create(**ASKED, max_tokens=100)
    assert len(provider.requests) == before


def test_a_budget(client, provider, installed) -> None:
    """A model that is named by an integration of Portkey's has a worst case in dollars before it is sent."""
    tokenguard.install(policy.loads('[[budget]]\nname = "b"\nlimit_usd = 1\n[ledger]\nurl = "memory:"\n'))
    client.chat.completions.create(**ASKED, max_tokens=100)


# --- prompts that are saved at the gateway: by Portkey's own client, beside OpenAI's ----------------------------------

BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 1\n[ledger]\nurl = "memory:"\n'
FILLED = {
    "prompt_id": "pp-plans",
    "variables": {"plan": "basic"},
    "extra_headers": {"authorization": "Bearer k"},
}


def saved_by_many(provider, **more):
    async def ask():
        opened = portkey_ai.AsyncPortkey(api_key="k", base_url=provider.openai_url)
        try:
            answer = await opened.prompts.completions.create(**FILLED, **more)
            return [each async for each in answer] if more.get("stream") else answer
        finally:
            await opened.openai_client.close()
            await opened.close()

    return asyncio.run(ask())


SAVED = {
    "plain": lambda client, _: client.prompts.completions.create(**FILLED),
    "stream": lambda client, _: list(client.prompts.completions.create(**FILLED, stream=True)),
    "async": lambda _, provider: saved_by_many(provider),
    "async stream": lambda _, provider: saved_by_many(provider, stream=True),
}


@pytest.mark.parametrize("way", SAVED)
def test_a_saved_prompt(way, client, provider, installed) -> None:
    """Its model is known by the answer; what the gateway is asked for is what was asked."""
    with tokenguard.meter() as measured:
        SAVED[way](client, provider)
    (call,) = measured.records
    (sent,) = provider.calls
    assert (measured.input_tokens, measured.output_tokens) == (sent.billed.input, sent.billed.output)
    assert call.cost is not None
    assert sent.path.endswith("/prompts/pp-plans/completions")
    assert "prompt_id" not in sent.body


def test_a_saved_prompt_sent_again(client, provider, installed) -> None:
    """The client calls itself to send again: that is one call, and the limit on resends holds."""
    provider.fail_next(500)
    with tokenguard.meter() as measured:
        client.prompts.completions.create(**FILLED)
    (call,) = measured.records
    assert call.attributes["http.request.resend_count"] == 1
    tokenguard.install(policy.loads('[[limit]]\nname = "once"\nmax_retries = 0\n'))
    provider.fail_next(500)
    before = len(provider.requests)
    with pytest.raises(portkey_ai.api_resources.exceptions.InternalServerError):
        client.prompts.completions.create(**FILLED)
    assert len(provider.requests) == before + 1


def test_a_saved_prompt_in_a_budget(client, provider, installed) -> None:
    """What the gateway fills in is held once it is known: a second call, for which there is no room, is refused."""
    tokenguard.install(policy.loads(f'unpriced = "allow"\n{BUDGET}'))
    with tokenguard.meter() as measured:
        client.prompts.completions.create(**FILLED, max_tokens=10)
    first = measured.cost_usd
    tokenguard.install(policy.loads(f'unpriced = "allow"\n{BUDGET}'.replace("= 1", f"= {first * 1.5}")))
    with pytest.raises(tokenguard.BudgetExceeded):
        client.prompts.completions.create(**FILLED, max_tokens=10)


def test_a_saved_prompt_refused(client, provider, installed) -> None:
    """What is refused is not sent, and a cap goes onto the wire."""
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 10\nthen = "block"\n'))
    with pytest.raises(LimitExceeded):
        client.prompts.completions.create(**FILLED, max_tokens=100)
    assert not provider.requests
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 10\nthen = "clamp"\n'))
    client.prompts.completions.create(**FILLED)
    assert provider.requests[-1].body["max_tokens"] == 10
