"""Kept answers below frameworks: the second of two equal runs sends nothing, and gets what the first one got."""

from __future__ import annotations

import pytest

import connections
import tokenguard
from policies import KEEPS
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
OPENAI = '[hosts]\n"127.0.0.1" = "openai"\n'
SAID = "Which of your plans has a warranty?"


@pytest.fixture
def provider(installed, monkeypatch):
    with SimulatedProvider() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_BASE", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        tokenguard.install(policy.loads(KEEPS + OPENAI, "tokenguard.toml"))
        yield running
    tokenguard.install(policy.Policy())


def served_twice(provider, spans, ask):
    """What both runs got."""
    first, again = ask(), ask()
    assert len(provider.requests) == 1
    assert again == first
    assert first
    looked_up = [result for span in spans if (result := span.attributes.get(names.CACHE_RESULT))]
    assert looked_up == ["miss", "hit"]
    (cost,) = {span.attributes[names.COST] for span in spans if span.attributes.get(names.CACHE_RESULT) == "hit"}
    assert cost == 0.0
    return first


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_langchain(asynchronous, stream, provider, spans):
    """langchain's chat models."""
    models = pytest.importorskip("langchain_openai")

    def ask():
        model = models.ChatOpenAI(model="gpt-4o-mini")
        if not asynchronous:
            return "".join(part.text for part in model.stream(SAID)) if stream else model.invoke(SAID).text

        async def work():
            if stream:
                return "".join([part.text async for part in model.astream(SAID)])
            return (await model.ainvoke(SAID)).text

        return connections.run(work())

    served_twice(provider, spans, ask)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_pydantic_ai(api, stream, provider, spans):
    """pydantic-ai's agents, over either of OpenAI's formats."""
    pytest.importorskip("pydantic_ai.models.openai")
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

    async def work():
        agent = Agent((OpenAIChatModel if api == "chat" else OpenAIResponsesModel)("gpt-4o-mini"))
        if not stream:
            return (await agent.run(SAID)).output
        async with agent.run_stream(SAID) as result:
            return await result.get_output()

    served_twice(provider, spans, lambda: connections.run(work()))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile"])
def test_litellm(model, asynchronous, stream, provider, spans):
    """litellm, by openai's SDK and by its own client, which sends through aiohttp."""
    litellm = pytest.importorskip("litellm")
    given = {
        "model": model,
        "messages": [{"role": "user", "content": SAID}],
        "api_base": provider.openai_url,
        "api_key": "k",
        "stream": stream,
    }

    def ask():
        if asynchronous:
            return connections.run(work())
        got = litellm.completion(**given)
        return "".join(p.choices[0].delta.content or "" for p in got) if stream else got.choices[0].message.content

    async def work():
        got = await litellm.acompletion(**given)
        if not stream:
            return got.choices[0].message.content
        return "".join([part.choices[0].delta.content or "" async for part in got])

    served_twice(provider, spans, ask)
