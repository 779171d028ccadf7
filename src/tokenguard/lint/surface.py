"""The API surfaces rules know, as rows: what is called, where its output cap sits, what its prompt is called.

A row's `path` is matched against the dotted paths of `names`: `*.chat.completions.create` is any client's method,
`langchain*.ChatOpenAI` a class of any package whose name starts with langchain. Later alternatives of `caps` are
other spellings of the same limit. Defaults were read in the packages' sources; a class that caps itself when asked
for nothing (browser_use.ChatOpenAI, agno's Claude, llama-index's Anthropic) has no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.prefilter import Entry

OPENAI_CAPS = ("max_completion_tokens", "max_tokens", "extra_body.max_tokens", "extra_body.max_completion_tokens")


class Surface(NamedTuple):
    """One row. `caps` empty: the API itself demands or sets a cap. The first of `caps` is what fixes insert."""

    path: str
    kind: Literal["call", "model", "settings", "agent"]
    caps: tuple[str, ...] = ()
    needs: str = ""  # a keyword that must be there, where the path alone is a common one
    nested: str = ""  # what a fix writes when the holder of the cap is missing: `{}` is replaced by the number


def _calls(caps: tuple[str, ...], *paths: str, needs: str = "", nested: str = "") -> list[Surface]:
    return [Surface(path, "call", caps, needs, nested) for path in paths]


def _models(caps: tuple[str, ...], package: str, names: str, nested: str = "") -> list[Surface]:
    return [Surface(f"{package}.{name}", "model", caps, "", nested) for name in names.split()]


_GOOGLE = ("config.max_output_tokens", "config.maxOutputTokens")
_VERTEX = ("generation_config.max_output_tokens", "generation_config.maxOutputTokens")
_LANGCHAIN = ("max_tokens", "max_completion_tokens", "max_output_tokens", "model_kwargs.max_tokens",
              "model_kwargs.max_completion_tokens", "model_kwargs.max_output_tokens",
              "extra_body.max_tokens")  # fmt: skip
_OLLAMA = ("options.num_predict",)

CALLS: tuple[Surface, ...] = (
    *_calls(OPENAI_CAPS, "*.chat.completions.create", "*.chat.completions.parse", "*.chat.completions.stream",
            "*.chat.completions.create_with_completion", "*.chat.completions.create_partial",
            "*.chat.completions.create_iterable"),
    *_calls(("max_tokens",), "openai.ChatCompletion.create", "openai.ChatCompletion.acreate"),
    *_calls((), "openai.Completion.create", "openai.Completion.acreate"),  # 16 tokens by default
    *_calls((), "*.completions.create", needs="prompt"),  # of clients; Anthropic's demands a cap
    *_calls(("max_output_tokens",), "*.responses.create", "*.responses.parse", "*.responses.stream"),
    *_calls(OPENAI_CAPS, *(f"instructor.{maker}().{method}"
                           for maker in ("from_openai", "from_litellm", "from_provider", "from_groq", "from_mistral",
                                         "from_cohere", "from_fireworks", "from_cerebras", "patch")
                           for method in ("messages.create", "messages.create_partial", "messages.create_iterable",
                                          "create", "create_with_completion", "create_partial", "create_iterable"))),
    *_calls((), "*.messages.create", "*.messages.stream", "*.messages.parse", "*.messages.tool_runner",
            needs="max_tokens"),
    *_calls(("generation_config.max_output_tokens",), "*.interactions.create", needs="model",
            nested='{{"max_output_tokens": {}}}'),
    *_calls(_GOOGLE, "*.models.generate_content", "*.models.generate_content_stream", needs="contents",
            nested='{{"max_output_tokens": {}}}'),
    *_calls(_VERTEX, "google.generativeai.GenerativeModel().generate_content",
            "google.generativeai.GenerativeModel().generate_content_async",
            "vertexai.generative_models.GenerativeModel().generate_content",
            "vertexai.generative_models.GenerativeModel().generate_content_async",
            "vertexai.preview.generative_models.GenerativeModel().generate_content",
            nested='{{"max_output_tokens": {}}}'),
    *_calls((), *(f"{package}.GenerativeModel().start_chat().send_message{late}" for late in ("", "_async")
                  for package in ("google.generativeai", "vertexai.generative_models",
                                  "vertexai.preview.generative_models")),  # the model's settings hold for them
            "*.chats.create().send_message", "*.chats.create().send_message_stream"),
    *_calls(("inferenceConfig.maxTokens", "additionalModelRequestFields.max_tokens"), "*.converse", "*.converse_stream",
            needs="modelId", nested='{{"maxTokens": {}}}'),
    *_calls(("max_tokens", "max_completion_tokens"), "litellm.completion", "litellm.acompletion",
            "litellm.Router().completion", "litellm.Router().acompletion", "litellm.main.completion",
            "litellm.batch_completion"),
    *_calls(("max_tokens", "max_completion_tokens"), "*router.completion", "*router.acompletion", needs="messages"),
    *_calls(("max_output_tokens",), "litellm.responses", "litellm.aresponses"),
    *_calls(("max_tokens",), "*.chat.complete", "*.chat.complete_async", "*.chat.stream", "*.chat.stream_async",
            "*.chat.parse", "*.chat.parse_async", needs="messages"),
    *_calls(("max_tokens",), "cohere.*().chat", "cohere.*().chat_stream", "cohere.*().v2.chat",
            "writerai.*().chat.chat"),
    *_calls((), "cohere.*().generate"),  # few tokens by default
    *_calls(_OLLAMA, "ollama.chat", "ollama.generate", "ollama.Client().chat", "ollama.Client().generate",
            "ollama.AsyncClient().chat", "ollama.AsyncClient().generate", nested='{{"num_predict": {}}}'),
    *_calls(("max_tokens",), "azure.ai.inference.*ChatCompletionsClient().complete",
            "azure.ai.inference.aio.ChatCompletionsClient().complete"),
)  # fmt: skip

MODELS: tuple[Surface, ...] = (
    *_models(_GOOGLE, "google.genai.*chats", "create", nested='{{"max_output_tokens": {}}}'),
    *_models(_LANGCHAIN, "langchain*",
             "ChatOpenAI AzureChatOpenAI PromptLayerChatOpenAI ChatGroq ChatMistralAI ChatTogether ChatFireworks"
             " ChatDeepSeek ChatXAI ChatPerplexity ChatNVIDIA ChatCerebras ChatOpenRouter ChatDatabricks"
             " ChatCohere ChatBedrock ChatBedrockConverse AzureAIChatCompletionsModel ChatBaichuan"
             " ChatAnyscale init_chat_model"),
    *_models(("max_tokens", "max_tokens_to_sample", *_LANGCHAIN[1:]), "langchain*",
             "ChatAnthropic ChatAnthropicVertex"),
    *_models(("max_output_tokens", "max_tokens", "model_kwargs.max_output_tokens",
              "generation_config.max_output_tokens"),
             "langchain*", "ChatGoogleGenerativeAI ChatVertexAI GoogleGenerativeAI"),
    *_models(("num_predict",), "langchain*", "ChatOllama OllamaLLM Ollama"),
    *_models(("max_tokens", "additional_kwargs.max_tokens", "additional_kwargs.max_completion_tokens"), "llama_index.*",
             "OpenAI AzureOpenAI OpenAILike Groq DeepSeek TogetherLLM OpenRouter LiteLLM GoogleGenAI Gemini Perplexity"
             " Cerebras"),
    *_models(("max_output_tokens",), "llama_index.*", "OpenAIResponses"),
    *_models(("additional_kwargs.num_predict",), "llama_index.*", "Ollama", nested='{{"num_predict": {}}}'),
    *_models(("max_tokens", "max_completion_tokens"), "agno.models.*",
             "OpenAIChat OpenAILike Groq MistralChat DeepSeek xAI AzureOpenAI LiteLLM Together Fireworks Perplexity"
             " AwsBedrock Cohere"),
    *_models(("max_output_tokens", "generation_config.max_output_tokens"), "agno.models.*", "OpenAIResponses Gemini"),
    *_models(_OLLAMA, "agno.models.*", "Ollama", nested='{{"num_predict": {}}}'),
    *_models(("max_tokens", "max_completion_tokens"), "crewai*", "LLM"),
    *_models(("max_tokens", "max_completion_tokens"), "autogen_ext.models.*",
             "OpenAIChatCompletionClient AzureOpenAIChatCompletionClient AzureAIChatCompletionClient"),
    *_models(("max_completion_tokens", "max_tokens"), "ag2*", "OpenAIConfig"),
    *_models(("max_output_tokens",), "ag2*", "OpenAIResponsesConfig GeminiConfig VertexAIConfig"),
    *_models(("max_tokens",), "ag2*", "BedrockConfig MistralConfig OllamaConfig"),
    *_models(("model_config_dict.max_tokens", "model_config_dict.max_completion_tokens"), "camel.models*",
             "ModelFactory.create", nested='{{"max_tokens": {}}}'),
    *_models(("max_tokens",), "griptape.drivers*",
             "OpenAiChatPromptDriver AzureOpenAiChatPromptDriver GrokPromptDriver AmazonBedrockPromptDriver"),
    *_models(("max_tokens",), "magentic*", "OpenaiChatModel LitellmChatModel MistralChatModel OpenRouterChatModel"),
    *_models(("max_tokens", "max_completion_tokens"), "dspy*", "LM"),
    *_models(("max_tokens", "max_completion_tokens"), "smolagents*",
             "OpenAIServerModel OpenAIModel LiteLLMModel AzureOpenAIServerModel AzureOpenAIModel InferenceClientModel"),
    *_models(("inferenceConfig.maxTokens",), "smolagents*", "AmazonBedrockModel AmazonBedrockServerModel",
             nested='{{"maxTokens": {}}}'),
    *_models(("generation_kwargs.max_completion_tokens", "generation_kwargs.max_tokens",
              "generation_kwargs.max_output_tokens"), "haystack.*",
             "OpenAIChatGenerator AzureOpenAIChatGenerator OpenAIGenerator AzureOpenAIGenerator",
             nested='{{"max_completion_tokens": {}}}'),
    *_models(("generation_kwargs.max_output_tokens",), "haystack.*",
             "OpenAIResponsesChatGenerator AzureOpenAIResponsesChatGenerator", nested='{{"max_output_tokens": {}}}'),
    *_models(("max_tokens",), "semantic_kernel.*",
             "BedrockChatPromptExecutionSettings MistralAIChatPromptExecutionSettings"
             " AzureAIInferenceChatPromptExecutionSettings NvidiaChatPromptExecutionSettings"),
    *_models(("max_output_tokens",), "semantic_kernel.*",
             "GoogleAIChatPromptExecutionSettings VertexAIChatPromptExecutionSettings"),
    *_models(("max_tokens", "max_completion_tokens"), "semantic_kernel.*",
             "OpenAIChatPromptExecutionSettings AzureChatPromptExecutionSettings"),
    *_models(("max_tokens",), "strands.models*", "BedrockModel OllamaModel MistralModel"),
    *_models(("max_completion_tokens",), "strands.models*", "LlamaAPIModel"),
    *_models(("params.max_completion_tokens", "params.max_tokens"), "strands.models*", "OpenAIModel LiteLLMModel",
             nested='{{"max_completion_tokens": {}}}'),
    *_models(("params.max_output_tokens",), "strands.models*", "OpenAIResponsesModel GeminiModel",
             nested='{{"max_output_tokens": {}}}'),
    *_models(("max_completion_tokens",), "livekit.plugins.openai*", "LLM"),
    *_models(("max_output_tokens",), "livekit.plugins.google*", "LLM"),
    *_models(("max_completion_tokens",), "livekit.plugins.groq*", "LLM"),
    *_models(("extra_kwargs.max_completion_tokens", "extra_kwargs.max_tokens"), "livekit.agents*", "inference.LLM",
             nested='{{"max_completion_tokens": {}}}'),
    *(row._replace(kind="settings") for row in (
        *_models(("max_tokens",), "pydantic_ai*",
                 "ModelSettings OpenAIModelSettings OpenAIChatModelSettings OpenAIResponsesModelSettings"
                 " GoogleModelSettings GeminiModelSettings GroqModelSettings MistralModelSettings CohereModelSettings"
                 " BedrockModelSettings"),
        *_models(("max_tokens",), "agents*", "ModelSettings"))),
    *(row._replace(kind="agent") for row in (
        *_models(("model_settings.max_tokens",), "pydantic_ai*", "Agent", nested='{{"max_tokens": {}}}'),
        *_models(("model_settings.max_tokens",), "agents", "Agent", nested="ModelSettings(max_tokens={})"),
        *_models(("generate_content_config.max_output_tokens",), "google.adk*", "Agent LlmAgent",
                 nested='{{"max_output_tokens": {}}}'),
        *_models(("model.max_tokens",), "strands*", "Agent"),
        *_models(("llm.max_completion_tokens",), "livekit.agents*", "AgentSession"))),
)  # fmt: skip

_COMMON = frozenset(
    {"openai", "google", "azure", "vertexai", "agents", "camel"}
)  # names that much other code has in it, too


def words_of(paths: Iterable[str]) -> tuple[Entry, ...]:
    """The words for the prefilters of rules: a file with a call of one of these dotted paths satisfies one of them.

    A path that starts with a package needs the package's name and the last name: `("langchain", "ChatOpenAI", ...)`; of
    a package with a common name, the class or module in between, or the import. A class such as `ChatOpenAI` needs
    nothing else.
    Of `*.responses.create` the end is written out, or `.responses` ends a line (the call goes on below, or a local
    holds what is before it), or `.responses.with_raw_response` goes between.
    """
    plain: dict[str, None] = {}
    both: dict[str, dict[Entry, None]] = {}
    for path in paths:
        package, *rest = (name.strip("*()") for name in path.split("."))
        if rest[-1:] and rest[-1].startswith("Chat"):  # it may come through a module of the project
            plain[rest[-1]] = None
        elif not path.startswith("*"):
            last: Entry = rest[-1]
            keys = [package]
            if package in _COMMON and len(rest) > 1:
                keys, last = [max(rest[:-1], key=len)], (rest[-1], package)
            elif package in _COMMON:
                keys = [f"from {package}", f"import {package}"]
            for key in keys:
                both.setdefault(key, {})[last] = None
        elif len(rest) > 1:
            plain |= dict.fromkeys(f".{rest[-2]}{end}" for end in (f".{rest[-1]}", ".with_", "\n", "\r"))
        else:
            plain[f"{package}.{rest[-1]}"] = None
    return (*plain, *((key, *others) for key, others in both.items()))


CALL_WORDS = words_of(row.path for row in CALLS)
MODEL_WORDS = words_of(row.path for row in MODELS)
EMBEDDINGS = ("*.embeddings.create", "litellm.embedding", "litellm.aembedding", "*.models.embed_content",
              "*.get_text_embedding", "*.aget_text_embedding", "openai.Embedding.create", "openai.Embedding.acreate",
              "google.generativeai.embed_content",
              *(f"{client}().embed" for client in ("voyageai.Client", "voyageai.AsyncClient", "cohere.Client",
                                                   "cohere.ClientV2", "cohere.AsyncClient", "cohere.AsyncClientV2")),
              *(f"langchain*.{kind}().{name}" for kind in ("OpenAIEmbeddings", "AzureOpenAIEmbeddings")
                for name in ("embed_query", "aembed_query")))  # fmt: skip
RUNS = (
    "*.invoke",
    "*.ainvoke",
    "*.predict",
    "*.apredict",
    "*.generate_content",
    "*.run_sync",
    "*.generate_content_async",
)
CLIENTS = ("openai.OpenAI", "openai.AsyncOpenAI", "openai.AzureOpenAI", "openai.AsyncAzureOpenAI",
           "anthropic.Anthropic", "anthropic.AsyncAnthropic", "anthropic.AnthropicBedrock",
           "anthropic.AsyncAnthropicBedrock", "groq.Groq", "groq.AsyncGroq", "together.Together",
           "together.AsyncTogether", "cerebras.cloud.sdk.Cerebras", "mistralai.Mistral", "cohere.Client",
           "cohere.ClientV2", "cohere.AsyncClient")  # fmt: skip


def _pattern(path: str) -> str:
    if path.startswith("*."):
        return r".+\." + re.escape(path[2:]).replace(r"\*", ".*")
    return re.escape(path).replace(r"\*", ".*")


@cache
def matcher(paths: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern that fully matches any of `paths`."""
    return lazy("|".join(f"(?:{_pattern(p)})" for p in paths))


@cache
def _index() -> dict[str, list[tuple[re.Pattern[str], Surface]]]:
    index: dict[str, list[tuple[re.Pattern[str], Surface]]] = {}
    for row in (*CALLS, *MODELS):
        index.setdefault(row.path.rpartition(".")[2], []).append((lazy(_pattern(row.path)), row))
    return index


def last_names() -> frozenset[str]:
    """The last segments of all rows: a call whose function is called otherwise needs no look."""
    return frozenset(_index())


# Those that take the function to call, and its arguments.
WRAPPERS = frozenset({"asyncify", "sync_to_async"})  # what they make of a function is called
APPLIERS = frozenset({"to_thread", "partial", "run_sync", "run_in_threadpool"})


def surface_of(path: str) -> Surface | None:
    """The row that a dotted path matches; raw and streamed responses are asked for by the same call."""
    path = path.replace(".with_raw_response", "").replace(".with_streaming_response", "")
    rows = _index().get(path.rpartition(".")[2], ())
    return next((row for pattern, row in rows if pattern.fullmatch(path)), None)
