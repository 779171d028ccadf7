"""The packages by which frameworks reach their models: each sends through an SDK that has a row, or has one itself.

`make matrix` installs them in environments of their own; elsewhere they are skipped.
"""

from __future__ import annotations

import functools
import gc

import pytest

import connections
import tokenguard
from tokenguard.demo.provider import SimulatedProvider

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
ASK = "Find part 4711 in any warehouse."
NOVA = "amazon.nova-lite-v1:0"
COHERE = "command-r-08-2024"
GEMINI = "gemini-2.5-flash"
MISTRAL = "mistral-small-latest"
needed = functools.partial(pytest.importorskip, exc_type=ImportError)  # some say what is missing in words of their own


@pytest.fixture
def provider(monkeypatch):
    for name in (
        "MISTRAL_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GOOGLE_API_KEY",
        "CO_API_KEY",
        "HF_TOKEN",
    ):
        monkeypatch.setenv(name, "k")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    with SimulatedProvider() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", running.url)
        yield running


def langchain(module, kind, **options):
    """Langchain's chat models: asked, streamed, and both without blocking."""

    def run(provider):
        chat = getattr(needed(module), kind)(**at(options, provider))
        chat.invoke(ASK)
        list(chat.stream(ASK))

        async def awaited():
            await chat.ainvoke(ASK)
            async for _ in chat.astream(ASK):
                pass

        connections.run(awaited())

    return run


def llama_index(module, kind, **options):
    """Llama-index's models."""

    def run(provider):
        llm = getattr(needed(f"llama_index.llms.{module}"), kind)(**at(options, provider))
        message = needed("llama_index.core.llms").ChatMessage(ASK)
        llm.chat([message])
        if module != "mistralai":  # it wants the usage beside a choice, which the simulated provider tells apart
            list(llm.stream_chat([message]))
        connections.run(llm.achat([message]))

    return run


def pydantic_ai(model, provider_name, kind, **options):
    """Pydantic AI's models."""

    def run(provider):
        agents = needed("pydantic_ai")
        models = needed(f"pydantic_ai.models.{provider_name}")
        providers = needed(f"pydantic_ai.providers.{provider_name}")
        source = getattr(providers, f"{kind}Provider")(**at(options, provider))
        agent = agents.Agent(getattr(models, MODELS.get(kind, f"{kind}Model"))(model, provider=source))

        async def awaited():
            await agent.run(ASK)
            async with agent.run_stream(ASK) as result:
                await result.get_output()

        connections.run(awaited())

    return run


MODELS = {"Bedrock": "BedrockConverseModel"}


def at(options, provider):
    """Options with the places where they name the provider filled in."""
    if isinstance(options, dict):
        return {name: at(value, provider) for name, value in options.items()}
    return options.format(url=provider.url, openai=provider.openai_url) if isinstance(options, str) else options


def smolagents(provider):
    model = needed("smolagents").OpenAIModel("gpt-4.1-mini", api_base=provider.openai_url, api_key="k")
    model([{"role": "user", "content": ASK}])
    list(model.generate_stream([{"role": "user", "content": ASK}]))


def ag2(provider):
    configuration = needed("ag2.config").OpenAIConfig("gpt-4.1-mini", base_url=provider.openai_url, api_key="k")
    connections.run(needed("ag2").Agent("clerk", config=configuration).ask(ASK))


def semantic_kernel(provider):
    openai = needed("openai")
    module = needed("semantic_kernel.connectors.ai.open_ai")
    history = needed("semantic_kernel.contents").ChatHistory()
    history.add_user_message(ASK)

    async def awaited():
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            service = module.OpenAIChatCompletion("gpt-4.1-mini", async_client=client)
            settings = module.OpenAIChatPromptExecutionSettings()
            await service.get_chat_message_contents(history, settings)
            async for _ in service.get_streaming_chat_message_contents(history, settings):
                pass

    connections.run(awaited())


def haystack(module, kind, **options):
    """Haystack's generators."""

    def run(provider):
        made = at(options, provider)
        where = f"haystack_integrations.components.generators.{module}"
        message = needed("haystack.dataclasses").ChatMessage.from_user(ASK)
        getattr(needed(where), kind)(**made).run(messages=[message])

    return run


def crewai(model, module, **options):
    """Crewai's own clients."""

    def run(provider):
        needed(module)
        needed("crewai").LLM(model=model, **at(options, provider)).call(ASK)

    return run


RUNS = {
    "langchain-mistralai": langchain("langchain_mistralai", "ChatMistralAI", endpoint="{openai}", api_key="k"),
    "langchain-cohere": langchain("langchain_cohere", "ChatCohere", model=COHERE, base_url="{url}", cohere_api_key="k"),
    "langchain-google-genai": langchain(
        "langchain_google_genai", "ChatGoogleGenerativeAI", model=GEMINI, base_url="{url}", api_key="k"
    ),
    "langchain-aws": langchain("langchain_aws", "ChatBedrockConverse", model=NOVA, endpoint_url="{url}"),
    "langchain-ollama": langchain("langchain_ollama", "ChatOllama", model="qwen3", base_url="{url}"),
    "langchain-groq": langchain("langchain_groq", "ChatGroq", model="qwen/qwen3-32b", base_url="{url}", api_key="k"),
    "llama-index-llms-mistralai": llama_index("mistralai", "MistralAI", endpoint="{url}", api_key="k"),
    "llama-index-llms-cohere": llama_index("cohere", "Cohere", model=COHERE, api_key="k", base_url="{url}"),
    "llama-index-llms-ollama": llama_index("ollama", "Ollama", model="qwen3", base_url="{url}", context_window=4096),
    "llama-index-llms-bedrock-converse": llama_index(
        "bedrock_converse", "BedrockConverse", model="anthropic.claude-3-haiku-20240307-v1:0", endpoint_url="{url}"
    ),
    "llama-index-llms-google-genai": llama_index(
        "google_genai", "GoogleGenAI", model=GEMINI, api_key="k", http_options={"base_url": "{url}"}
    ),
    "pydantic-ai mistral": pydantic_ai(MISTRAL, "mistral", "Mistral", api_key="k", base_url="{url}"),
    "pydantic-ai google": pydantic_ai(GEMINI, "google", "Google", api_key="k", base_url="{url}"),
    "pydantic-ai groq": pydantic_ai("qwen/qwen3-32b", "groq", "Groq", api_key="k", base_url="{url}"),
    "pydantic-ai bedrock": pydantic_ai(NOVA, "bedrock", "Bedrock", base_url="{url}", region_name="us-east-1"),
    "pydantic-ai huggingface": pydantic_ai(
        "qwen/qwen3", "huggingface", "HuggingFace", api_key="k", base_url="{openai}"
    ),
    "smolagents": smolagents,
    "ag2": ag2,
    "semantic-kernel": semantic_kernel,
    "cohere-haystack": haystack("cohere", "CohereChatGenerator", model=COHERE, api_base_url="{url}"),
    "ollama-haystack": haystack("ollama", "OllamaChatGenerator", model="qwen3", url="{url}"),
    "amazon-bedrock-haystack": haystack("amazon_bedrock", "AmazonBedrockChatGenerator", model=NOVA),
    "mistral-haystack": haystack("mistral", "MistralChatGenerator", model=MISTRAL, api_base_url="{openai}"),
    "crewai anthropic": crewai("anthropic/claude-sonnet-4-6", "anthropic", base_url="{url}", api_key="k"),
    "crewai gemini": crewai(
        f"gemini/{GEMINI}", "google.genai", api_key="k", client_params={"http_options": {"base_url": "{url}"}}
    ),
    "crewai bedrock": crewai(f"bedrock/{NOVA}", "boto3"),
}


@pytest.mark.parametrize("name", RUNS)
def test_seen(name, provider, installed, spans):
    """Every request to a model is one span, with the provider's own count, under its caller's attribution."""
    with tokenguard.attribution(tenant="acme"), tokenguard.meter() as measured:
        RUNS[name](provider)
        gc.collect()
    assert provider.calls
    assert measured.calls == len(provider.calls)
    assert measured.input_tokens == provider.billed.input
    assert measured.output_tokens == provider.billed.output
    calls = [
        span
        for span in spans
        if "gen_ai.operation.name" in span.attributes and "tokenguard.call.fingerprint" in span.attributes
    ]
    assert len(calls) == len(provider.calls)
    assert {span.attributes["tokenguard.tenant"] for span in calls} == {"acme"}
