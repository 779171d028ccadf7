"""Frameworks above the SDKs: their calls, tokens and cost are the provider's own count, and belong to their caller.

None of them knows of TokenGuard. `make matrix` installs them in environments of their own; elsewhere they are skipped.
Their own spans, if they make any, are parents: only the leaf calls to a model carry cost.
"""

from __future__ import annotations

import gc
import os
import time

import pytest
from opentelemetry import trace

import connections
import tokenguard
from tokenguard.demo.provider import SimulatedProvider

MODEL = "gpt-4.1-mini"
ASK = "Find part 4711 in any warehouse."
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def look_up(query: str) -> str:
    """Search the stock by part number.

    Args:
        query: What to search for.
    """
    return "4711: three in stock"


@pytest.fixture
def provider(monkeypatch):
    with SimulatedProvider(tool_rounds=2) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_BASE", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.anthropic_url)
        monkeypatch.setenv("ANTHROPIC_API_BASE", running.anthropic_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        monkeypatch.setenv("CREWAI_DISABLE_TELEMETRY", "true")
        monkeypatch.setenv("CREWAI_TRACING_ENABLED", "false")
        monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
        yield running


# --- what is run ------------------------------------------------------------------------------------------------------


def openai_agents(provider):
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    agent = agents.Agent(name="stock", model=MODEL, tools=[agents.function_tool(look_up)])
    agents.Runner.run_sync(agent, ASK)


def openai_agents_streamed(provider):
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    import openai

    async def run():
        # The framework keeps one client for all: this loop's must not be left to others.
        model = agents.OpenAIResponsesModel(MODEL, openai.AsyncOpenAI())
        agent = agents.Agent(name="stock", model=model, tools=[agents.function_tool(look_up)])
        async for _ in agents.Runner.run_streamed(agent, ASK).stream_events():
            pass

    connections.run(run())


def langchain_agent(provider):
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(model=MODEL)
    agent = pytest.importorskip("langchain.agents").create_agent(chat, tools=[look_up])
    agent.invoke({"messages": [{"role": "user", "content": ASK}]})


def langchain_batch(provider):
    """Three at a time, in a pool of threads."""
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(model=MODEL)
    chat.batch([f"{ASK} {n}" for n in range(6)], {"max_concurrency": 3})


def langchain_stream(provider):
    list(pytest.importorskip("langchain_openai").ChatOpenAI(model=MODEL).stream(ASK))


def langchain_anthropic(provider):
    chat = pytest.importorskip("langchain_anthropic").ChatAnthropic(model="claude-sonnet-4-6", max_tokens=200)
    agent = pytest.importorskip("langchain.agents").create_agent(chat, tools=[look_up])
    agent.invoke({"messages": [{"role": "user", "content": ASK}]})


def langchain_embeddings(provider):
    embeddings = pytest.importorskip("langchain_openai").OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False
    )
    embeddings.embed_documents(["a", "b", "c"])


def pydantic_ai(provider):
    pytest.importorskip("pydantic_ai").Agent(f"openai-chat:{MODEL}", tools=[look_up]).run_sync(ASK)


def pydantic_ai_instrumented(provider):
    """With its own spans on."""
    agent = pytest.importorskip("pydantic_ai").Agent(f"openai-chat:{MODEL}", tools=[look_up])
    agent.instrument = True
    agent.run_sync(ASK)


def llama_index_agent(provider):
    llm = pytest.importorskip("llama_index.llms.openai").OpenAI(model=MODEL, api_base=os.environ["OPENAI_BASE_URL"])
    agent = pytest.importorskip("llama_index.core.agent.workflow").FunctionAgent(tools=[look_up], llm=llm)

    async def run():
        await agent.run(ASK)

    connections.run(run())


def llama_index_complete(provider):
    llm = pytest.importorskip("llama_index.llms.openai").OpenAI(model=MODEL, api_base=os.environ["OPENAI_BASE_URL"])
    llm.complete(ASK)
    list(llm.stream_complete(ASK))


def litellm_openai(provider):
    """Through the OpenAI SDK."""
    litellm = pytest.importorskip("litellm")
    litellm.completion(MODEL, [{"role": "user", "content": ASK}], max_tokens=40)
    list(litellm.completion(MODEL, [{"role": "user", "content": ASK}], stream=True))


def litellm_anthropic(provider):
    """Through its own HTTP client."""
    litellm = pytest.importorskip("litellm")
    ask = {"model": "anthropic/claude-sonnet-4-6", "messages": [{"role": "user", "content": ASK}], "max_tokens": 40}
    litellm.completion(**ask)
    list(litellm.completion(**ask, stream=True))


def litellm_async(provider):
    """Both, with the asynchronous clients."""
    litellm = pytest.importorskip("litellm")

    async def run():
        for model in (MODEL, "anthropic/claude-sonnet-4-6"):
            ask = {"model": model, "messages": [{"role": "user", "content": ASK}], "max_tokens": 40}
            await litellm.acompletion(**ask)
            async for _ in await litellm.acompletion(**ask, stream=True):
                pass

    connections.run(run())


def litellm_others(provider):
    """Providers whose wire formats it speaks itself."""
    litellm = pytest.importorskip("litellm")
    ask = {"messages": [{"role": "user", "content": ASK}], "max_tokens": 40}
    cohere = {"model": "cohere_chat/command-r-08-2024", "api_base": f"{provider.url}/v2/chat", "api_key": "k"}
    litellm.completion(**ask, **cohere)
    mistral = {"model": "mistral/mistral-small-latest", "api_base": provider.openai_url, "api_key": "k"}
    litellm.completion(**ask, **mistral)
    list(litellm.completion(**ask, **mistral, stream=True))
    litellm.embedding("text-embedding-3-small", ["a", "b"])


def dspy(provider):
    module = pytest.importorskip("dspy")
    predict = module.Predict("question -> answer")
    with module.context(lm=module.LM(f"openai/{MODEL}", api_base=provider.openai_url, api_key="k", cache=False)):
        provider.answer_next("[[ ## answer ## ]]\nthree\n\n[[ ## completed ## ]]")
        predict(question=ASK)


def dspy_parallel(provider):
    """In a pool of threads."""
    module = pytest.importorskip("dspy")
    predict = module.Predict("question -> answer")
    with module.context(lm=module.LM(f"openai/{MODEL}", api_base=provider.openai_url, api_key="k", cache=False)):
        provider.answer_next(*["[[ ## answer ## ]]\nthree\n\n[[ ## completed ## ]]"] * 4)
        examples = [module.Example(question=f"{ASK} {n}").with_inputs("question") for n in range(4)]
        module.Parallel(num_threads=2)([(predict, example) for example in examples])


def instructor(provider):
    """A structured answer, asked for again when it does not fit."""
    module = pytest.importorskip("instructor")
    import openai
    from pydantic import BaseModel

    class Part(BaseModel):
        number: int

    client = module.from_openai(openai.OpenAI())
    client.chat.completions.create(
        model=MODEL, response_model=Part, messages=[{"role": "user", "content": ASK}], max_retries=2
    )


def haystack(provider):
    generators = pytest.importorskip("haystack.components.generators.chat")
    message = pytest.importorskip("haystack.dataclasses").ChatMessage.from_user(ASK)
    pipeline = pytest.importorskip("haystack").Pipeline()
    pipeline.add_component("llm", generators.OpenAIChatGenerator(model=MODEL))
    pipeline.run({"llm": {"messages": [message]}})


def crewai(provider):
    module = pytest.importorskip("crewai")
    llm = module.LLM(model=f"openai/{MODEL}", base_url=provider.openai_url, api_key="k")
    agent = module.Agent(role="Clerk", goal="Find parts", backstory="You know the stock.", llm=llm)
    task = module.Task(description=ASK, expected_output="Where it is.", agent=agent)
    provider.answer_next("Thought: I now can give a great answer\nFinal Answer: three in stock")
    module.Crew(agents=[agent], tasks=[task]).kickoff()


RUNS = [
    openai_agents,
    openai_agents_streamed,
    langchain_agent,
    langchain_batch,
    langchain_stream,
    langchain_anthropic,
    langchain_embeddings,
    pydantic_ai,
    pydantic_ai_instrumented,
    llama_index_agent,
    llama_index_complete,
    litellm_openai,
    litellm_anthropic,
    litellm_async,
    litellm_others,
    dspy,
    dspy_parallel,
    instructor,
    haystack,
    crewai,
]


@pytest.mark.parametrize("run", RUNS)
def test_counts(run, provider, installed, spans):
    """Every call is measured once, with the provider's own counts, under the attribution it was made in."""
    tracer = trace.get_tracer("application")
    with (
        tokenguard.attribution(tenant="acme", feature=run.__name__),
        tokenguard.meter() as measured,
        tracer.start_as_current_span("request"),
    ):
        run(provider)
        gc.collect()  # a stream that nobody reads to the last byte ends when it is let go
        until = time.monotonic() + 5
        while measured.calls < len(provider.calls) and time.monotonic() < until:
            time.sleep(0.05)  # litellm's logging has it for a moment longer
            gc.collect()
    billed = provider.calls
    assert billed
    assert measured.calls == len(billed)
    for mine, theirs in (
        (measured.input_tokens, sum(call.billed.input or 0 for call in billed)),
        (measured.output_tokens, sum(call.billed.output or 0 for call in billed)),
    ):
        assert mine == theirs
    priced = [span for span in spans if "tokenguard.cost.usd" in span.attributes]
    assert len(priced) == len(billed)
    assert sum(span.attributes["tokenguard.cost.usd"] for span in priced) == pytest.approx(measured.cost_usd)
    assert {span.attributes["tokenguard.cost.status"] for span in priced} == {"exact"}
    for span in priced:
        assert span.attributes["tokenguard.tenant"] == "acme"
        assert span.attributes["tokenguard.feature"] == run.__name__
    (root,) = [span for span in spans if span.name == "request"]
    assert {span.context.trace_id for span in priced} == {root.context.trace_id}
