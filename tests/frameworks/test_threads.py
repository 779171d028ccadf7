"""Frameworks that call models in a pool of threads: the calls belong to whoever asked for them.

None of them hands its threads the caller's context by itself. `make matrix` installs them in an environment of their
own; elsewhere they are skipped.
"""

from __future__ import annotations

import asyncio
import base64

import pytest
from opentelemetry import trace

import tokenguard
from tokenguard.demo.provider import SimulatedProvider

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
MODEL = "gpt-4.1-mini"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def provider(monkeypatch):
    with SimulatedProvider(tool_rounds=1) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
        yield running


def chat():
    return pytest.importorskip("haystack.components.generators.chat").OpenAIChatGenerator(model=MODEL)


def documents(*texts, **more):
    return [pytest.importorskip("haystack").Document(content=text, **more) for text in texts]


def metadata_extractor(provider, tmp_path):
    module = pytest.importorskip("haystack.components.extractors.llm_metadata_extractor")
    extractor = module.LLMMetadataExtractor("Name what is in {{ document.content }}", chat())
    extractor.run(documents("a plan", "a warranty", "a part"))


def document_content_extractor(provider, tmp_path):
    pytest.importorskip("PIL")
    pytest.importorskip("pypdfium2")
    module = pytest.importorskip("haystack.components.extractors.image.llm_document_content_extractor")
    image = tmp_path / "page.png"
    image.write_bytes(base64.b64decode(PIXEL))
    extractor = module.LLMDocumentContentExtractor(chat_generator=chat())
    extractor.run(documents(None, None, meta={"file_path": str(image)})[:1])


def agent_with_tools(provider, tmp_path):
    """The tool asks a model in its turn."""
    openai = pytest.importorskip("openai")

    def look_up(query: str) -> str:
        client = openai.OpenAI()
        return str(client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": query}]).usage)

    haystack = pytest.importorskip("haystack.tools")
    parameters = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    tool = haystack.Tool(name="look_up", description="Search the stock.", parameters=parameters, function=look_up)
    agent = pytest.importorskip("haystack.components.agents").Agent(chat_generator=chat(), tools=[tool])
    message = pytest.importorskip("haystack.dataclasses").ChatMessage.from_user("Find part 4711.")
    agent.run(messages=[message])
    assert len(provider.calls) >= 3


def embedding_retriever():
    store = pytest.importorskip("haystack.document_stores.in_memory").InMemoryDocumentStore()
    store.write_documents(documents("a plan", "a warranty", embedding=[0.5] * 1536)[:1])
    return pytest.importorskip("haystack.components.retrievers").InMemoryEmbeddingRetriever(store)


def embedder():
    return pytest.importorskip("haystack.components.embedders").OpenAITextEmbedder()


def multi_query_retriever(provider, tmp_path):
    module = pytest.importorskip("haystack.components.retrievers.multi_query_embedding_retriever")
    retriever = module.MultiQueryEmbeddingRetriever(retriever=embedding_retriever(), query_embedder=embedder())
    retriever.run(queries=["a plan", "a warranty", "a part"])


def multi_retriever(provider, tmp_path):
    module = pytest.importorskip("haystack.components.retrievers.multi_retriever")
    text = pytest.importorskip("haystack.components.retrievers").TextEmbeddingRetriever
    retriever = text(retriever=embedding_retriever(), text_embedder=embedder())
    module.MultiRetriever(retrievers={"one": retriever}).run(query="a plan")


def dspy_evaluate(provider, tmp_path):
    dspy = pytest.importorskip("dspy")
    lm = dspy.LM(f"openai/{MODEL}", api_base=provider.openai_url, api_key="k", cache=False)
    with dspy.context(lm=lm):
        provider.answer_next(*["[[ ## answer ## ]]\nthree\n\n[[ ## completed ## ]]"] * 3)
        examples = [dspy.Example(question=f"How many {n}?", answer="three").with_inputs("question") for n in range(3)]
        judge = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=2, display_progress=False)
        judge(dspy.Predict("question -> answer"))


def weather_that_asks(city: str) -> str:
    """The weather of a city."""
    client = pytest.importorskip("openai").OpenAI()
    return str(client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": city}]).usage)


def autogen_tool(provider, tmp_path):
    """A tool that is no coroutine asks a model in its turn."""
    clients = pytest.importorskip("autogen_ext.models.openai")
    agents = pytest.importorskip("autogen_agentchat.agents")

    async def ask():
        agent = agents.AssistantAgent("a", clients.OpenAIChatCompletionClient(model=MODEL), tools=[weather_that_asks])
        await agent.run(task="What is the weather in Paris?")

    asyncio.run(ask())
    assert len(provider.calls) >= 2


def agno_memory(provider, tmp_path):
    """What is worth remembering is asked for beside the answer."""
    agent = pytest.importorskip("agno.agent").Agent
    model = pytest.importorskip("agno.models.openai").OpenAIChat(id=MODEL)
    store = pytest.importorskip("agno.db.in_memory").InMemoryDb()
    agent(model=model, db=store, update_memory_on_run=True, telemetry=False, user_id="u").run("I like tea.")
    assert len(provider.calls) >= 2


def agno_team(provider, tmp_path):
    """What a team does beside its answer goes through an executor of its own."""
    agent = pytest.importorskip("agno.agent").Agent
    team = pytest.importorskip("agno.team").Team
    model = pytest.importorskip("agno.models.openai").OpenAIChat(id=MODEL)
    whole = team(members=[agent(name="m", model=model, telemetry=False)], model=model, telemetry=False)
    whole.background_executor.submit(weather_that_asks, "Paris").result()


def semantic_kernel_bedrock(provider, tmp_path):
    """Its Bedrock clients are boto3's, in threads."""
    boto3 = pytest.importorskip("boto3")
    bedrock = pytest.importorskip("semantic_kernel.connectors.ai.bedrock")
    history = pytest.importorskip("semantic_kernel.contents").ChatHistory()
    history.add_user_message("hi")
    keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "k"}
    client, runtime = (boto3.client(n, endpoint_url=provider.url, **keys) for n in ("bedrock", "bedrock-runtime"))
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    service = bedrock.BedrockChatCompletion(model_id=model, client=client, runtime_client=runtime)
    settings = bedrock.BedrockChatPromptExecutionSettings(max_tokens=5)
    asyncio.run(service.get_chat_message_content(history, settings))


RUNS = [
    metadata_extractor,
    document_content_extractor,
    agent_with_tools,
    multi_query_retriever,
    multi_retriever,
    dspy_evaluate,
    autogen_tool,
    agno_memory,
    agno_team,
    semantic_kernel_bedrock,
]


@pytest.mark.parametrize("run", RUNS)
def test_attribution_flows_through(run, provider, tmp_path, installed, spans):
    """Each call carries the attribution that was set around the framework, counts in its meter, and is in its trace."""
    tracer = trace.get_tracer("application")
    with (
        tokenguard.attribution(tenant="acme", feature=run.__name__),
        tokenguard.meter() as measured,
        tracer.start_as_current_span("request"),
    ):
        run(provider, tmp_path)
    assert provider.calls
    assert measured.calls == len(provider.calls)
    assert measured.input_tokens == provider.billed.input
    calls = [span for span in spans if "gen_ai.request.model" in span.attributes]  # agents' own spans have none
    assert len(calls) == len(provider.calls)
    assert {span.attributes["tokenguard.feature"] for span in calls} == {run.__name__}
    assert {span.attributes["tokenguard.tenant"] for span in calls} == {"acme"}
    (root,) = [span for span in spans if span.name == "request"]
    assert {span.context.trace_id for span in calls} == {root.context.trace_id}
