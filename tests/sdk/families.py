"""Every SDK family as a row of one table: how a client is made, asked, read and closed, whatever the test is about.

A `Kind` is one kind of call of one SDK (`cohere rerank`); a `Variant` is that call made synchronously or not, streamed
or not. Tests that hold for every seam run over `VARIANTS` and need to know nothing of any SDK. The server is the
simulated provider, over real HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import io
import itertools
import json
import wave
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

import connections

SAID = "Which of your plans has a warranty?"
AWS = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "s"}


class Options(NamedTuple):
    """What a client is made with."""

    url: str
    asynchronous: bool = False
    resends: int = 0
    timeout: float = 20.0
    """Seconds."""


class Ask(NamedTuple):
    """What a call asks for."""

    model: str
    cap: int | None = None
    rounds: int = 0
    """Rounds of two tool calls each, since the user's question."""
    said: str = SAID
    asynchronous: bool = False
    stream: bool = False

    @property
    def streaming(self) -> dict[str, bool]:
        """The argument for a stream, where it is one."""
        return {"stream": True} if self.stream else {}

    def capped(self, name: str) -> dict[str, int]:
        """The argument for the cap, where one is asked for."""
        return {} if self.cap is None else {name: self.cap}


class Kind(NamedTuple):
    """One kind of call of one SDK."""

    name: str
    sdk: str
    """The module that has to be there; for asynchronous calls `async_sdk`, if that is another."""
    provider: str
    model: str
    cheaper: str
    open: Callable[[Options], tuple[Any, Callable[[], Any]]]
    """A client, and what closes it (it may have to be awaited)."""
    send: Callable[[Any, Ask], Any]
    cap: tuple[str, ...] = ()
    """The keys under which the output cap is on the wire; empty where nothing is generated."""
    tools: bool = False
    """Whether a conversation may hold rounds of tools."""
    streams: bool = False
    resends: str = "all"
    """Of what the SDK itself sends a failed request again: `all`, `whole` answers, or nothing."""
    shares: bool = True
    """Whether an answer (that is no stream) can be shared."""
    blocks: bool = False
    """Whether the SDK itself reads files within the event loop."""
    async_sdk: str = ""
    items: Callable[[Any], Any] = lambda result: result
    """The iterable of a stream in the SDK's result."""
    whole: Callable[[Any], Any] = lambda result: result
    """What is to be read of a result that is no stream, now or by awaiting."""
    rates: tuple[tuple[str, float], ...] = (("input", 1.0), ("output", 2.0))
    """USD per million that its models are sold at in tests, by the names of `[prices]`."""

    def charged(self, billed: Any) -> int:
        """Nano-dollars of what the server billed, at these rates."""
        counts = {name: getattr(billed, name) or 0 for name, _ in self.rates}
        for part, whole in (("input_audio", "input"), ("input_image", "input"), ("output_image", "output")):
            if part in counts:
                counts[whole] -= counts[part]
        return round(sum(counts[name] * rate * 1000 for name, rate in self.rates))


# --- conversations ----------------------------------------------------------------------------------------------------

TWO = (0, 1)
"""Each round has two tool calls at once."""


def chat_turns(ask: Ask, arguments: Any = '{"query": "x"}') -> list[dict[str, Any]]:
    """OpenAI's shape, and that of most others."""
    calls = [
        {"id": f"call_{n:05}", "type": "function", "function": {"name": "look_up", "arguments": arguments}} for n in TWO
    ]
    results = [{"role": "tool", "tool_call_id": f"call_{n:05}", "content": "a plan"} for n in TWO]
    one = [{"role": "assistant", "content": "", "tool_calls": calls}, *results]
    return [{"role": "user", "content": ask.said}, *one * ask.rounds]


def ollama_turns(ask: Ask) -> list[dict[str, Any]]:
    """OpenAI's shape with arguments that are no text, and without ids."""
    turns = chat_turns(ask, {"query": "x"})
    calls = [{"function": {"name": "look_up", "arguments": {"query": "x"}}} for _ in TWO]
    plain = [{key: value for key, value in turn.items() if key != "tool_call_id"} for turn in turns]
    return [{**turn, "tool_calls": calls} if "tool_calls" in turn else turn for turn in plain]


def responses_turns(ask: Ask) -> list[dict[str, Any]]:
    """The Responses API: calls and results are items of their own."""
    one = [{"type": "function_call", "call_id": f"c{n}", "name": "look_up", "arguments": "{}"} for n in TWO]
    one += [{"type": "function_call_output", "call_id": f"c{n}", "output": "a plan"} for n in TWO]
    return [{"role": "user", "content": ask.said}, *one * ask.rounds]


def anthropic_turns(ask: Ask) -> list[dict[str, Any]]:
    """Anthropic: results come in the user's messages."""
    calls = [{"type": "tool_use", "id": f"t{n}", "name": "look_up", "input": {}} for n in TWO]
    results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": "a plan"} for n in TWO]
    one = [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    return [{"role": "user", "content": ask.said}, *one * ask.rounds]


def converse_turns(ask: Ask) -> list[dict[str, Any]]:
    """Bedrock's Converse, and Nova."""
    calls = [{"toolUse": {"toolUseId": f"t{n}", "name": "look_up", "input": {}}} for n in TWO]
    results = [{"toolResult": {"toolUseId": f"t{n}", "content": [{"text": "a plan"}]}} for n in TWO]
    one = [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    return [{"role": "user", "content": [{"text": ask.said}]}, *one * ask.rounds]


def google_turns(ask: Ask) -> list[dict[str, Any]]:
    """Google's contents."""
    calls = [{"function_call": {"name": "look_up", "args": {}}} for _ in TWO]
    results = [{"function_response": {"name": "look_up", "response": {"result": "a plan"}}} for _ in TWO]
    one = [{"role": "model", "parts": calls}, {"role": "user", "parts": results}]
    return [{"role": "user", "parts": [{"text": ask.said}]}, *one * ask.rounds]


def cohere1_turns(ask: Ask) -> dict[str, Any]:
    """Cohere's first API: earlier rounds are in the history, the results of the last one beside it."""
    if not ask.rounds:
        return {"message": ask.said}
    calls = [{"name": "look_up", "parameters": {"query": str(n)}} for n in TWO]
    results = [{"call": call, "outputs": [{"found": "a plan"}]} for call in calls]
    asked = {"role": "CHATBOT", "message": "", "tool_calls": calls}
    given = {"role": "TOOL", "tool_results": results}
    history = [{"role": "USER", "message": ask.said}, asked, *[given, asked] * (ask.rounds - 1)]
    return {"message": "", "chat_history": history, "tool_results": results}


# --- the clients and their calls --------------------------------------------------------------------------------------


def stainless(module: str, name: str, path: str = "", **more: Any) -> Callable[[Options], tuple[Any, Any]]:
    """Clients of the Stainless family."""

    def opened(options: Options) -> tuple[Any, Any]:
        kind = getattr(importlib.import_module(module), ("Async" if options.asynchronous else "") + name)
        client = kind(
            api_key="k", base_url=options.url + path, max_retries=options.resends, timeout=options.timeout, **more
        )
        return client, client.close

    return opened


def gradient(options: Options) -> tuple[Any, Any]:
    """DigitalOcean's clients, which have an address for each of what they do."""
    kind = "AsyncGradient" if options.asynchronous else "Gradient"
    client = getattr(importlib.import_module("gradient"), kind)(
        model_access_key="k", inference_endpoint=options.url, max_retries=options.resends, timeout=options.timeout
    )
    return client, client.close


def speakeasy(package: str, name: str, utils: str, path: str = "") -> Callable[[Options], tuple[Any, Any]]:
    """Clients that Speakeasy makes, one for both worlds, which resend where they are told to."""

    def opened(options: Options) -> tuple[Any, Any]:
        kinds = importlib.import_module(utils)
        backoff = kinds.BackoffStrategy(1, 2, 1.0, 60_000 if options.resends else 0)
        retries = kinds.RetryConfig("backoff", backoff, bool(options.resends)) if options.resends else None
        client = getattr(importlib.import_module(package), name)(
            api_key="k", server_url=options.url + path, timeout_ms=int(options.timeout * 1000), retry_config=retries
        )
        if options.asynchronous:
            return client, lambda: client.__aexit__(None, None, None)
        return client, lambda: client.__exit__(None, None, None)

    return opened


def openrouter_chat(client: Any, ask: Ask) -> Any:
    """`chat.send`."""
    send = client.chat.send_async if ask.asynchronous else client.chat.send
    return send(model=ask.model, messages=chat_turns(ask), **ask.capped("max_tokens"), **ask.streaming)


def chat(cap: str = "max_tokens", **more: Any) -> Callable[[Any, Ask], Any]:
    """`chat.completions.create`, as many SDKs have it; with what else one of them wants."""

    def send(client: Any, ask: Ask) -> Any:
        create = client.chat.completions.create
        return create(model=ask.model, messages=chat_turns(ask), **ask.capped(cap), **ask.streaming, **more)

    return send


def responses(client: Any, ask: Ask) -> Any:
    return client.responses.create(
        model=ask.model, input=responses_turns(ask), **ask.capped("max_output_tokens"), **ask.streaming
    )


def completions(client: Any, ask: Ask) -> Any:
    """A legacy completion."""
    return client.completions.create(model=ask.model, prompt=ask.said, **ask.capped("max_tokens"), **ask.streaming)


def embeddings(client: Any, ask: Ask) -> Any:
    return client.embeddings.create(model=ask.model, input=ask.said)


def voyage(options: Options) -> tuple[Any, Any]:
    """Voyage's clients, which have nothing to close."""
    kind = getattr(importlib.import_module("voyageai"), "AsyncClient" if options.asynchronous else "Client")
    client = kind(api_key="k", base_url=f"{options.url}/v1", max_retries=options.resends, timeout=options.timeout)
    return client, lambda: None


def voyage_embeddings(client: Any, ask: Ask) -> Any:
    return client.embed([ask.said], model=ask.model)


def pictures(client: Any, ask: Ask) -> Any:
    given = {"partial_images": 1, **ask.streaming} if ask.stream else {}
    return client.images.generate(model=ask.model, prompt=ask.said, quality="low", size="1024x1024", **given)


def speech(client: Any, ask: Ask) -> Any:
    return client.audio.speech.create(model=ask.model, voice="alloy", input=ask.said)


def transcript(client: Any, ask: Ask) -> Any:
    file = ("said.wav", wav(3), "audio/wav")
    return client.audio.transcriptions.create(model=ask.model, file=file, prompt=ask.said, **ask.streaming)


def wav(seconds: int) -> bytes:
    """So many seconds of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000 * seconds))
    return file.getvalue()


def film(client: Any, ask: Ask) -> Any:
    """A film, until it is there."""
    return client.videos.create_and_poll(model=ask.model, prompt=ask.said, seconds="4", poll_interval_ms=1)


def groq_transcript(client: Any, ask: Ask) -> Any:
    """Longer than the ten seconds that Groq bills at the least."""
    return client.audio.transcriptions.create(model=ask.model, file=("said.wav", wav(12), "audio/wav"), prompt=ask.said)


def together_rerank(client: Any, ask: Ask) -> Any:
    return client.rerank.create(model=ask.model, query=ask.said, documents=[f"plan {n}" for n in range(250)], top_n=2)


def moderation(client: Any, ask: Ask) -> Any:
    return client.moderations.create(model=ask.model, input=ask.said)


def decisions(client: Any, ask: Ask) -> Any:
    """Questions about a text: OpenAI's are a list."""
    create, questions = client.decisions.create, [{"type": "predicate", "instructions": "It is a question."}] * 2
    return create(model=ask.model, input=ask.said, questions=questions)


def named_decisions(said: str) -> Callable[[Any, Ask], Any]:
    """Perplexity's and Google's have names; what the text is called differs."""
    questions = {name: {"type": "noul", "instructions": "It is a question."} for name in ("first", "second")}

    def send(client: Any, ask: Ask) -> Any:
        return client.decisions.create(model=ask.model, questions=questions, **{said: ask.said})

    return send


def messages(client: Any, ask: Ask) -> Any:
    return client.messages.create(
        model=ask.model,
        messages=anthropic_turns(ask),
        **{"max_tokens": 400, **ask.capped("max_tokens")},
        **ask.streaming,
    )


def writer(client: Any, ask: Ask) -> Any:
    return client.chat.chat(model=ask.model, messages=chat_turns(ask), **ask.capped("max_tokens"), **ask.streaming)


def google(options: Options, **more: Any) -> tuple[Any, Any]:
    genai = importlib.import_module("google.genai")
    types = genai.types
    retry = types.HttpRetryOptions(attempts=options.resends + 1, initial_delay=0.001, max_delay=0.001, jitter=0.001)
    http = types.HttpOptions(base_url=options.url, retry_options=retry, timeout=int(options.timeout * 1000))
    client = genai.Client(api_key="k", http_options=http, **more)
    return (client.aio, client.aio.aclose) if options.asynchronous else (client, client.close)


def vertex(options: Options) -> tuple[Any, Any]:
    return google(options, vertexai=True)


def generate(client: Any, ask: Ask) -> Any:
    call = client.models.generate_content_stream if ask.stream else client.models.generate_content
    return call(model=ask.model, contents=google_turns(ask), config=ask.capped("max_output_tokens"))


def google_embed(client: Any, ask: Ask) -> Any:
    return client.models.embed_content(model=ask.model, contents=[ask.said, "What else?"])


def imagen(client: Any, ask: Ask) -> Any:
    return client.models.generate_images(model=ask.model, prompt=ask.said, config={"number_of_images": 2})


def bedrock(options: Options) -> tuple[Any, Any]:
    config = importlib.import_module("botocore.config").Config(
        retries={"total_max_attempts": options.resends + 1, "mode": "standard"}, read_timeout=options.timeout
    )
    arguments = {"endpoint_url": options.url, "config": config, **AWS}
    if not options.asynchronous:
        client = importlib.import_module("boto3").client("bedrock-runtime", **arguments)
        return client, client.close
    manager = importlib.import_module("aiobotocore.session").get_session().create_client("bedrock-runtime", **arguments)
    return manager, lambda: manager.__aexit__(None, None, None)


def converse(client: Any, ask: Ask) -> Any:
    call = client.converse_stream if ask.stream else client.converse
    settings = {"inferenceConfig": given} if (given := ask.capped("maxTokens")) else {}
    return call(modelId=ask.model, messages=converse_turns(ask), **settings)


def invoke(body: Callable[[Ask], dict[str, Any]]) -> Callable[[Any, Ask], Any]:
    """`InvokeModel` with the body of one family of models."""

    def send(client: Any, ask: Ask) -> Any:
        call = client.invoke_model_with_response_stream if ask.stream else client.invoke_model
        return call(modelId=ask.model, body=json.dumps(body(ask)))

    return send


def claude_body(ask: Ask) -> dict[str, Any]:
    cap = {"max_tokens": 400, **ask.capped("max_tokens")}
    return {"anthropic_version": "bedrock-2023-05-31", "messages": anthropic_turns(ask), **cap}


def nova_body(ask: Ask) -> dict[str, Any]:
    return {"messages": converse_turns(ask), "inferenceConfig": {"temperature": 0.5, **ask.capped("maxTokens")}}


def llama_body(ask: Ask) -> dict[str, Any]:
    return {"prompt": ask.said, "max_gen_len": 400, **ask.capped("max_gen_len")}


def mistral_body(ask: Ask) -> dict[str, Any]:
    return {"prompt": ask.said, **ask.capped("max_tokens")}


def cohere_body(ask: Ask) -> dict[str, Any]:
    return {**cohere1_turns(ask), **ask.capped("max_tokens")}


def canvas_body(ask: Ask) -> dict[str, Any]:
    return {
        "taskType": "TEXT_IMAGE",
        "textToImageParams": {"text": ask.said},
        "imageGenerationConfig": {"numberOfImages": 2, "quality": "premium", "width": 1024, "height": 1024},
    }


def stability_body(ask: Ask) -> dict[str, Any]:
    return {"prompt": ask.said}


def rank_body(ask: Ask) -> dict[str, Any]:
    return {"query": ask.said, "documents": ["a plan"] * 250, "api_version": 2}


def bedrock_items(result: Any) -> Any:
    return result["stream" if "stream" in result else "body"]


mistral = speakeasy("mistralai.client", "Mistral", "mistralai.client.utils")


def mistral_chat(client: Any, ask: Ask) -> Any:
    name = ("stream" if ask.stream else "complete") + ("_async" if ask.asynchronous else "")
    return getattr(client.chat, name)(model=ask.model, messages=chat_turns(ask), **ask.capped("max_tokens"))


def mistral_ocr(client: Any, ask: Ask) -> Any:
    process = client.ocr.process_async if ask.asynchronous else client.ocr.process
    return process(
        model=ask.model,
        document={"type": "image_url", "image_url": "https://host/plan.png"},
        document_annotation_prompt=ask.said,
    )


def mistral_embeddings(client: Any, ask: Ask) -> Any:
    create = client.embeddings.create_async if ask.asynchronous else client.embeddings.create
    return create(model=ask.model, inputs=[ask.said])


def cohere(version: str) -> Callable[[Options], tuple[Any, Any]]:
    def opened(options: Options) -> tuple[Any, Any]:
        module = importlib.import_module("cohere")
        kind = getattr(module, ("Async" if options.asynchronous else "") + f"Client{version}")
        client = Resending(kind(api_key="k", base_url=options.url, timeout=options.timeout), options.resends)
        if options.asynchronous:
            return client, lambda: client.client.__aexit__(None, None, None)
        return client, lambda: client.client.__exit__(None, None, None)

    return opened


class Resending(NamedTuple):
    """A client whose resends are an option of each request."""

    client: Any
    resends: int

    @property
    def options(self) -> dict[str, Any]:
        return {"request_options": {"max_retries": self.resends}}


def cohere_chat(resending: Resending, ask: Ask) -> Any:
    call = resending.client.chat_stream if ask.stream else resending.client.chat
    return call(model=ask.model, messages=chat_turns(ask), **ask.capped("max_tokens"), **resending.options)


def cohere1_chat(resending: Resending, ask: Ask) -> Any:
    call = resending.client.chat_stream if ask.stream else resending.client.chat
    turns = cohere1_turns(ask)
    if ask.rounds:
        models = importlib.import_module("cohere")
        turns["tool_results"] = [
            models.ToolResult(call=models.ToolCall(**each["call"]), outputs=each["outputs"])
            for each in turns["tool_results"]
        ]
        turns["chat_history"] = [
            getattr(models, {"USER": "UserMessage", "CHATBOT": "ChatbotMessage", "TOOL": "ToolMessage"}[each["role"]])(
                **each
            )
            for each in turns["chat_history"]
        ]
    return call(model=ask.model, **turns, **ask.capped("max_tokens"), **resending.options)


def cohere_embed(resending: Resending, ask: Ask) -> Any:
    given = {"texts": [ask.said], "input_type": "search_query", "embedding_types": ["float"]}
    return resending.client.embed(model=ask.model, **given, **resending.options)


def cohere_rerank(resending: Resending, ask: Ask) -> Any:
    documents = [f"plan {n}" for n in range(250)]
    return resending.client.rerank(model=ask.model, query=ask.said, documents=documents, top_n=2, **resending.options)


def ollama(options: Options) -> tuple[Any, Any]:
    module = importlib.import_module("ollama")
    kind = module.AsyncClient if options.asynchronous else module.Client
    client = kind(host=options.url, timeout=options.timeout)
    return client, client._client.aclose if options.asynchronous else client._client.close


def ollama_settings(ask: Ask) -> dict[str, Any]:
    settings = {"options": {"temperature": 0.5, **ask.capped("num_predict")}}
    return {**settings, **ask.streaming}


def ollama_chat(client: Any, ask: Ask) -> Any:
    return client.chat(model=ask.model, messages=ollama_turns(ask), **ollama_settings(ask))


def ollama_generate(client: Any, ask: Ask) -> Any:
    return client.generate(model=ask.model, prompt=ask.said, **ollama_settings(ask))


def ollama_embed(client: Any, ask: Ask) -> Any:
    return client.embed(model=ask.model, input=[ask.said])


def huggingface(options: Options) -> tuple[Any, Any]:
    module = importlib.import_module("huggingface_hub")
    kind = module.AsyncInferenceClient if options.asynchronous else module.InferenceClient
    client = kind(base_url=f"{options.url}/v1", api_key="k", timeout=options.timeout)
    if options.asynchronous:
        return client, getattr(client, "close", lambda: None)
    return client, getattr(module, "close_session", lambda: None)


def huggingface_chat(client: Any, ask: Ask) -> Any:
    return client.chat_completion(
        model=ask.model, messages=chat_turns(ask), **ask.capped("max_tokens"), **ask.streaming
    )


# --- the table --------------------------------------------------------------------------------------------------------

GPT = ("gpt-4o", "gpt-4o-mini")
VECTORS = ("text-embedding-3-large", "text-embedding-3-small")
LLAMA = ("llama-3.3-70b-versatile", "llama-3.1-8b-instant")
GENERATES: dict[str, Any] = {"tools": True, "streams": True}

OPENAI = stainless("openai", "OpenAI", "/v1")
CEREBRAS = stainless("cerebras.cloud.sdk", "Cerebras", warm_tcp_connection=False)


def on_bedrock(
    name: str, model: str, cheaper: str, send: Callable[[Any, Ask], Any], cap: Sequence[str], **more: Any
) -> Kind:
    """A kind of call of Bedrock's clients."""
    model, cheaper = f"us.{model}", f"us.{cheaper}"
    common = {"async_sdk": "aiobotocore", "streams": True, "items": bedrock_items, **more}
    return Kind(f"bedrock {name}", "boto3", "aws.bedrock", model, cheaper, bedrock, send, tuple(cap), **common)


def body_of(result: Any) -> Any:
    return result["body"].read()


READ_LATER: dict[str, Any] = {"whole": body_of}
"""A body that the application reads."""
CLAUDES = ("anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0")

KINDS = (
    Kind(
        "openai chat",
        "openai",
        "openai",
        *GPT,
        OPENAI,
        chat("max_completion_tokens"),
        ("max_completion_tokens",),
        **GENERATES,
    ),
    Kind("openai responses", "openai", "openai", *GPT, OPENAI, responses, ("max_output_tokens",), **GENERATES),
    Kind(
        *("openai completions", "openai", "openai", "gpt-3.5-turbo-instruct", "babbage-002"),
        *(OPENAI, completions, ("max_tokens",)),
        streams=True,
    ),
    Kind("openai embeddings", "openai", "openai", *VECTORS, OPENAI, embeddings),
    Kind(
        *("voyage embeddings", "voyageai", "voyage_ai", "voyage-3.5", "voyage-3.5-lite", voyage, voyage_embeddings),
        resends="",  # by tenacity, and only of what is refused for now
        whole=lambda result: result.embeddings,
    ),
    Kind(
        *("openai images", "openai", "openai", "gpt-image-1.5", "gpt-image-1-mini", OPENAI, pictures),
        streams=True,
        rates=(("input", 1.0), ("output", 2.0), ("output_image", 3.0)),
    ),
    Kind(
        *("openai speech", "openai", "openai", "tts-1-hd", "tts-1", OPENAI, speech),
        whole=lambda result: result.content,
        rates=(("characters", 15.0),),
    ),
    Kind(
        *("openai transcripts", "openai", "openai", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", OPENAI, transcript),
        streams=True,
        shares=False,
        rates=(("input", 1.0), ("output", 2.0), ("input_audio", 3.0)),
    ),
    Kind(
        *("openai films", "openai.resources.videos", "openai", "sora-2-pro", "sora-2", OPENAI, film),
        rates=(("output_seconds", 100_000.0),),
        shares=False,
    ),
    Kind(
        *("openai moderations", "openai", "openai", "omni-moderation-latest", "text-moderation-stable"),
        *(OPENAI, moderation),
        rates=(("request", 2000.0),),
    ),
    Kind(
        *("openai decisions", "openai.resources.decisions", "openai", "gpt-6-luna", "gpt-6-luna-small"),
        *(OPENAI, decisions),
    ),
    Kind(
        *("perplexity decisions", "perplexity.resources.decisions", "perplexity", "pplx-decide", "pplx-decide-small"),
        *(stainless("perplexity", "Perplexity"), named_decisions("state")),
    ),
    Kind(
        *("google decisions", "google.genai.decisions", "gcp.gemini", "gemini-decide", "gemini-decide-small"),
        *(google, named_decisions("input")),
    ),
    Kind(
        *("anthropic messages", "anthropic", "anthropic", "claude-sonnet-4-6", "claude-haiku-4-5"),
        *(stainless("anthropic", "Anthropic"), messages, ("max_tokens",)),
        **GENERATES,
    ),
    Kind("groq chat", "groq", "groq", *LLAMA, stainless("groq", "Groq"), chat(), ("max_tokens",), **GENERATES),
    Kind(
        *("groq transcripts", "groq", "groq", "whisper-large-v3", "whisper-large-v3-turbo"),
        *(stainless("groq", "Groq"), groq_transcript),
        rates=(("input_seconds", 30.0),),
        shares=False,
    ),
    Kind(
        *("together rerank", "together", "together", "Salesforce/Llama-Rank-V1", "mixedbread-ai/Mxbai-Rerank"),
        *(stainless("together", "Together"), together_rerank),
        rates=(("request", 2000.0),),
    ),
    Kind(
        "together chat",
        "together",
        "together",
        *LLAMA,
        stainless("together", "Together"),
        chat(),
        ("max_tokens",),
        **GENERATES,
    ),
    Kind(
        *("fireworks chat", "fireworks", "fireworks", "accounts/fireworks/models/llama-v3p3-70b-instruct"),
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
        *(stainless("fireworks", "Fireworks"), chat(), ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("perplexity chat", "perplexity", "perplexity", "sonar-pro", "sonar"),
        *(stainless("perplexity", "Perplexity"), chat(extra_body={"disable_search": True}), ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("sambanova chat", "sambanova", "sambanova", "Meta-Llama-3.3-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
        *(stainless("sambanova", "SambaNova"), chat(), ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("sambanova messages", "sambanova.resources.messages", "sambanova", "MiniMax-M2.5", "gpt-oss-120b"),
        *(stainless("sambanova", "SambaNova", "/v1"), messages, ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("gradient chat", "gradient", "digitalocean", "llama3.3-70b-instruct", "llama3-8b-instruct"),
        *(gradient, chat(), ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("openrouter chat", "openrouter", "openrouter", "openai/gpt-4.1", "openai/gpt-4.1-mini"),
        *(speakeasy("openrouter", "OpenRouter", "openrouter.utils.retries", "/api/v1"), openrouter_chat),
        ("max_tokens",),
        **GENERATES,
        resends="",  # of a 5xx alone, and these tables have a 429
    ),
    Kind("cerebras chat", "cerebras.cloud.sdk", "cerebras", *LLAMA, CEREBRAS, chat(), ("max_tokens",), **GENERATES),
    Kind(
        *("writer chat", "writerai", "writer", "palmyra-x5", "palmyra-x4"),
        *(stainless("writerai", "Writer"), writer, ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        *("google generate", "google.genai", "gcp.gemini", "gemini-2.5-pro", "gemini-2.5-flash", google, generate),
        ("generationConfig", "maxOutputTokens"),
        **GENERATES,
    ),
    Kind(
        *("google imagen", "google.genai", "gcp.vertex_ai", "imagen-4.0-generate-001", "imagen-4.0-fast-generate-001"),
        *(vertex, imagen),
        rates=(("images", 40_000.0),),
        blocks=True,
    ),
    Kind(
        "google embed",
        "google.genai",
        "gcp.gemini",
        "gemini-embedding-001",
        "gemini-embedding-small",
        google,
        google_embed,
    ),
    on_bedrock(
        *("canvas", "amazon.nova-canvas-v1:0", "amazon.titan-image-generator-v2:0", invoke(canvas_body), ()),
        rates=(("images", 60_000.0),),
        streams=False,
        **READ_LATER,
    ),
    on_bedrock(
        *("stability", "stability.stable-image-ultra-v1:1", "stability.stable-image-core-v1:1"),
        *(invoke(stability_body), ()),
        rates=(("images", 60_000.0),),
        streams=False,
        **READ_LATER,
    ),
    on_bedrock(
        *("rerank", "cohere.rerank-v3-5:0", "cohere.rerank-v3-0:0", invoke(rank_body), ()),
        rates=(("request", 2000.0),),
        streams=False,
        **READ_LATER,
    ),
    Kind(
        *("mistral ocr", "mistralai.client", "mistral_ai", "mistral-ocr-latest", "mistral-ocr-2503"),
        *(mistral, mistral_ocr),
        rates=(("pages", 4000.0),),
    ),
    on_bedrock("converse", *CLAUDES, converse, ("inferenceConfig", "maxTokens"), tools=True),
    on_bedrock("invoke claude", *CLAUDES, invoke(claude_body), ("max_tokens",), tools=True, **READ_LATER),
    on_bedrock(
        *("invoke nova", "amazon.nova-pro-v1:0", "amazon.nova-lite-v1:0", invoke(nova_body)),
        ("inferenceConfig", "maxTokens"),
        tools=True,
        **READ_LATER,
    ),
    on_bedrock(
        *("invoke meta", "meta.llama3-3-70b-instruct-v1:0", "meta.llama3-1-8b-instruct-v1:0"),
        *(invoke(llama_body), ("max_gen_len",)),
        **READ_LATER,
    ),
    on_bedrock(
        *("invoke mistral", "mistral.mistral-large-2402-v1:0", "mistral.mistral-7b-instruct-v0:2"),
        *(invoke(mistral_body), ("max_tokens",)),
        **READ_LATER,
    ),
    on_bedrock(
        *("invoke cohere", "cohere.command-r-plus-v1:0", "cohere.command-r-v1:0", invoke(cohere_body), ("max_tokens",)),
        tools=True,
        **READ_LATER,
    ),
    Kind(
        *("mistral chat", "mistralai.client", "mistral_ai", "mistral-large-latest", "mistral-small-latest"),
        *(mistral, mistral_chat, ("max_tokens",)),
        **GENERATES,
    ),
    Kind(
        "mistral embeddings",
        "mistralai.client",
        "mistral_ai",
        "mistral-embed-2312",
        "mistral-embed-small",
        mistral,
        mistral_embeddings,
    ),
    Kind(
        *("cohere chat", "cohere", "cohere", "command-a-03-2025", "command-r7b-12-2024", cohere("V2"), cohere_chat),
        ("max_tokens",),
        resends="whole",
        **GENERATES,
    ),
    Kind(
        *("cohere1 chat", "cohere", "cohere", "command-a-03-2025", "command-r7b-12-2024", cohere(""), cohere1_chat),
        ("max_tokens",),
        resends="whole",
        **GENERATES,
    ),
    Kind("cohere embed", "cohere", "cohere", "embed-v4.0", "embed-english-light-v3.0", cohere("V2"), cohere_embed),
    Kind(
        *("cohere rerank", "cohere", "cohere", "rerank-v4.0-pro", "rerank-v4.0-fast", cohere("V2"), cohere_rerank),
        rates=(("request", 2000.0),),
    ),
    Kind(
        *("ollama chat", "ollama", "ollama", "llama3.3", "llama3.2", ollama, ollama_chat, ("options", "num_predict")),
        resends="",
        **GENERATES,
    ),
    Kind(
        *("ollama generate", "ollama", "ollama", "llama3.3", "llama3.2", ollama, ollama_generate),
        ("options", "num_predict"),
        streams=True,
        resends="",
    ),
    Kind("ollama embed", "ollama", "ollama", "mxbai-embed-large", "all-minilm", ollama, ollama_embed, resends=""),
    Kind(
        *("huggingface chat", "huggingface_hub", "huggingface"),
        *("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        *(huggingface, huggingface_chat, ("max_tokens",)),
        resends="",
        **GENERATES,
    ),
)


class Variant(NamedTuple):
    """A kind of call, made synchronously or not, streamed or not."""

    kind: Kind
    asynchronous: bool
    stream: bool

    def __str__(self) -> str:
        parts = (self.kind.name, "async" if self.asynchronous else "", "stream" if self.stream else "")
        return " ".join(filter(None, parts))

    @property
    def sdk(self) -> str:
        """The module that must be there."""
        return self.kind.async_sdk if self.asynchronous and self.kind.async_sdk else self.kind.sdk

    @property
    def resends(self) -> bool:
        """Whether the SDK itself sends such a request again."""
        return self.kind.resends == "all" or (self.kind.resends == "whole" and not self.stream)


VARIANTS = tuple(
    Variant(kind, asynchronous, stream)
    for kind in KINDS
    for asynchronous in (False, True)
    for stream in ((False, True) if kind.streams else (False,))
)


_TURNS = itertools.count(0, 3)  # by three: the variants of a kind are two or four


def over(variants: Sequence[Variant], *, contract: bool = False) -> Any:
    """Parametrize a test with these.

    One variant of each SDK runs in the quick loop, another one in each test: now a synchronous one, now an asynchronous
    one, now a stream. The others are marked `everywhere`. With `contract`, a synchronous and an asynchronous variant of
    each kind run with old versions of the SDKs, too.
    """
    turn = next(_TURNS)
    quick, old = set(), set()
    for sdk in dict.fromkeys(variant.kind.sdk for variant in variants):
        own = [variant for variant in variants if variant.kind.sdk == sdk]
        quick.add(own[turn % len(own)])
    for kind in dict.fromkeys(variant.kind.name for variant in variants):
        own = [variant for variant in variants if variant.kind.name == kind]
        old |= {next(v for v in own if not v.asynchronous), own[-1]} if contract else set()  # the last one is a stream
    marked = [
        pytest.param(
            variant,
            marks=[
                pytest.mark.table,
                *([] if variant in quick else [pytest.mark.everywhere]),
                *([pytest.mark.contract] if variant in old else []),
                *([pytest.mark.blocks] if variant.kind.blocks and variant.asynchronous else []),
            ],
            id=str(variant),
        )
        for variant in variants
    ]
    return pytest.mark.parametrize("variant", marked)


class Clients:
    """The clients of a test module, each opened once, and the one event loop that the asynchronous ones share."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: dict[tuple[Any, Options], tuple[Any, Callable[[], Any]]] = {}
        self.runner = asyncio.Runner()
        for sdk in {variant.sdk for variant in VARIANTS}:
            with contextlib.suppress(ImportError):
                # huggingface_hub imports a client only when it is asked for, which no event loop should do.
                getattr(importlib.import_module(sdk), "AsyncInferenceClient", None)

    def get(self, variant: Variant, **options: Any) -> Any:
        """A client for this kind of call."""
        pytest.importorskip(variant.sdk)
        wanted = Options(self._url, variant.asynchronous, **options)
        key = (variant.kind.open, wanted)
        if key not in self._open:
            self._open[key] = self.runner.run(self._opened(*key))
        return self._open[key][0]

    async def _opened(self, opener: Any, options: Options) -> tuple[Any, Callable[[], Any]]:
        client, close = opener(options)
        # aiobotocore's clients are made by entering them.
        return (await client.__aenter__() if type(client).__name__ == "ClientCreatorContext" else client), close

    def close(self) -> None:
        """Close them all, and the loop."""
        for _, close in self._open.values():
            self.runner.run(_awaited(close))
        self.runner.run(connections.closed())
        self.runner.close()


async def _awaited(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if inspect.isawaitable(result) else result


class Caller:
    """Makes the calls of one variant."""

    def __init__(self, variant: Variant, clients: Clients, **options: Any) -> None:
        self.variant = variant
        self.kind = variant.kind
        self._client = clients.get(variant, **options)
        self._run = clients.runner.run

    def ask(self, **more: Any) -> Ask:
        """What is asked for, unless it is said otherwise."""
        return Ask(
            **{
                "model": self.kind.model,
                "asynchronous": self.variant.asynchronous,
                "stream": self.variant.stream,
                **more,
            }
        )

    def __call__(self, **more: Any) -> Any:
        """The whole answer: the SDK's object, or the list of a stream's items."""
        if self.variant.asynchronous:
            self._run(asyncio.sleep(0.002))  # what an earlier call's error has kept alive is closed by the loop
            return self._run(self.call(**more))
        result = self.kind.send(self._client, self.ask(**more))
        return list(self.kind.items(result)) if self.variant.stream else self.kind.whole(result)

    async def call(self, **more: Any) -> Any:
        """The same, within the event loop."""
        result = await self.begin(**more)
        if self.variant.stream:
            try:
                return [item async for item in self.kind.items(result)]
            finally:
                del result
                await asyncio.sleep(0.002)  # a generator that the SDK left behind is closed by the loop, a moment later
        whole = self.kind.whole(result)
        return await whole if inspect.isawaitable(whole) else whole

    async def begin(self, **more: Any) -> Any:
        """The SDK's result, asynchronously."""
        result = self.kind.send(self._client, self.ask(**more))
        return await result if inspect.isawaitable(result) else result

    def leave(self, how: str, **more: Any) -> None:
        """Read a little of a stream, and leave it: `dropped`, `closed`, or `cancelled` (asynchronous ones only)."""
        if self.variant.asynchronous:
            self._run(self._aleave(how, **more))
            return
        result = self.kind.send(self._client, self.ask(**more))
        stream = self.kind.items(result)
        items = iter(stream)
        next(items)
        if how == "closed":
            for each in (items, stream):
                shut(each)

    async def _aleave(self, how: str, **more: Any) -> None:
        if how == "cancelled":
            began = asyncio.Event()
            reading = asyncio.ensure_future(self._read_on(began, **more))
            await began.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            return
        result = await self.begin(**more)
        stream = self.kind.items(result)
        items = aiter(stream)
        await anext(items)
        if how == "closed":
            for each in (items, stream):
                closing = shut(each)
                if inspect.isawaitable(closing):
                    await closing
        del result, stream, items
        await asyncio.sleep(0.005)  # a generator that was left behind is closed by the loop, a moment later

    async def _read_on(self, began: asyncio.Event, **more: Any) -> None:
        """Read a stream to its end, and say when it has begun."""
        items = aiter(self.kind.items(await self.begin(**more)))
        await anext(items)
        began.set()
        async for _ in items:
            pass


def shut(stream: Any) -> Any:
    """Close a stream, in the way it has."""
    for name in ("aclose", "close"):
        if hasattr(stream, name):
            return getattr(stream, name)()
    leave = getattr(stream, "__aexit__", None) or getattr(stream, "__exit__", None)
    return None if leave is None else leave(None, None, None)
