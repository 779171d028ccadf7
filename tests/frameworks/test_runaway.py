"""Frameworks above the SDKs: their calls are measured once, and a loop that would never end is stopped.

None of them knows of TokenGuard. `make matrix` installs them in environments of their own; elsewhere they are skipped.
"""

from __future__ import annotations

import os

import pytest

import connections
import tokenguard
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider

STEPS = 4
POLICY = f"""
[[limit]]
name = "agents"
max_tool_steps = {STEPS}
"""
ASK = "Find part 4711 in any warehouse."


def look_up(query: str) -> str:
    """Search the stock by part number."""
    return "error: not found, try again"


@pytest.fixture
def provider(monkeypatch):
    with SimulatedProvider(tool_rounds=None) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.anthropic_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        yield running


@pytest.fixture
def guarded(installed):
    tokenguard.install(policy.loads(POLICY))
    yield installed
    tokenguard.install(policy.Policy())


def violation(error):
    """The guard's exception, wherever a framework has wrapped it."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, LimitExceeded):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def openai_agents(provider):
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    agent = agents.Agent(name="stock", model="gpt-4.1-mini", tools=[agents.function_tool(look_up)])
    agents.Runner.run_sync(agent, ASK, max_turns=30)


def langchain_openai(provider):
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(model="gpt-4.1-mini")
    agent = pytest.importorskip("langchain.agents").create_agent(chat, tools=[look_up])
    agent.invoke({"messages": [{"role": "user", "content": ASK}]}, {"recursion_limit": 80})


def langchain_anthropic(provider):
    chat = pytest.importorskip("langchain_anthropic").ChatAnthropic(model="claude-sonnet-4-6", max_tokens=200)
    agent = pytest.importorskip("langchain.agents").create_agent(chat, tools=[look_up])
    agent.invoke({"messages": [{"role": "user", "content": ASK}]}, {"recursion_limit": 80})


def pydantic_ai(provider):
    module = pytest.importorskip("pydantic_ai")
    module.Agent("openai-chat:gpt-4.1-mini", tools=[look_up]).run_sync(ASK)


def llama_index(provider):

    openai_llm = pytest.importorskip("llama_index.llms.openai").OpenAI
    agent_class = pytest.importorskip("llama_index.core.agent.workflow").FunctionAgent
    agent = agent_class(
        tools=[look_up], llm=openai_llm(model="gpt-4.1-mini", api_base=os.environ["OPENAI_BASE_URL"]), streaming=False
    )

    async def run():
        await agent.run(ASK, max_iterations=50)

    connections.run(run())


@pytest.mark.parametrize("framework", [openai_agents, langchain_openai, langchain_anthropic, pydantic_ai, llama_index])
@pytest.mark.filterwarnings("ignore")
def test_runaway_is_stopped(framework, provider, guarded):
    """The loop ends with the guard's own exception after so many rounds, and each call was measured once."""
    with tokenguard.meter() as measured, pytest.raises(Exception) as caught:  # noqa: PT011 - a framework wraps as it likes
        framework(provider)
    refusal = violation(caught.value)
    assert refusal is not None, caught.value
    assert (refusal.rule, refusal.observed, refusal.limit) == ("agents", STEPS + 1, STEPS)
    answered = [record for record in measured.records if record.outcome == "ok"]
    assert len(provider.calls) == len(answered) == STEPS + 1
    assert sum(record.usage.input for record in answered) == provider.billed.input
    assert [record.outcome for record in measured.records].count("blocked") == 1
