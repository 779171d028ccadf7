"""One neighbour and TokenGuard in one process, in the order given: prints what was measured, as JSON.

python tests/neighbours/beside.py openinference first
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import sys

import anthropic
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import tokenguard
from tokenguard.policy import loads

NEIGHBOUR, ORDER = sys.argv[1:]
NOWHERE = "http://127.0.0.1:9"
MESSAGES = [{"role": "user", "content": "Hi"}]
ENDED = []


class AsExported(SimpleSpanProcessor):
    """Keeps what a span says when it ends: what is written later no backend gets."""

    def on_end(self, span):
        ENDED.append((span.name, dict(span.attributes or {})))


def provider():
    """The application's own, unless the neighbour brings it."""
    made = TracerProvider()
    made.add_span_processor(AsExported(InMemorySpanExporter()))
    trace.set_tracer_provider(made)


def openinference():
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def openllmetry():
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def openai_v2():
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def genai():
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def logfire():
    import logfire

    processors = [AsExported(InMemorySpanExporter())]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    if NEIGHBOUR == "logfire":
        logfire.instrument_openai()
        logfire.instrument_anthropic()


def openlit():
    import openlit

    openlit.init(disable_metrics=True, disable_events=True, otlp_endpoint=NOWHERE)


def langfuse():
    os.environ.update(LANGFUSE_PUBLIC_KEY="pk", LANGFUSE_SECRET_KEY="sk", LANGFUSE_HOST=NOWHERE)


def traceloop():
    from traceloop.sdk import Traceloop

    processor = AsExported(InMemorySpanExporter())
    Traceloop.init(processor=processor, telemetry_enabled=False, disable_batch=True)


def ddtrace():
    os.environ.update(DD_LLMOBS_ENABLED="0", DD_TRACE_ENABLED="0", DD_INSTRUMENTATION_TELEMETRY_ENABLED="0")
    import ddtrace

    ddtrace.patch(openai=True, anthropic=True)


def sentry():
    import sentry_sdk
    from sentry_sdk.integrations.anthropic import AnthropicIntegration
    from sentry_sdk.integrations.openai import OpenAIIntegration

    integrations = [OpenAIIntegration(), AnthropicIntegration()]
    options = {"dsn": "http://key@127.0.0.1:9/1", "traces_sample_rate": 1.0, "transport": lambda envelope: None}
    sentry_sdk.init(**options, integrations=integrations, default_integrations=False)


def mlflow():
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{os.getcwd()}/mlflow.db")
    mlflow.openai.autolog()
    mlflow.anthropic.autolog()


def weave():
    from weave.integrations import patch

    patch.patch_openai()
    patch.patch_anthropic()


def agentops():
    import agentops

    agentops.init(api_key="k", endpoint=NOWHERE, exporter_endpoint=NOWHERE)


def newrelic():
    os.environ.update(NEW_RELIC_LICENSE_KEY="k", NEW_RELIC_HOST="127.0.0.1", NEW_RELIC_AI_MONITORING_ENABLED="true")
    import newrelic.agent

    newrelic.agent.initialize()


def laminar():
    from lmnr import Laminar

    Laminar.initialize(project_api_key="k", base_url="http://127.0.0.1", http_port=9, grpc_port=9)


def azure():
    os.environ["AZURE_EXPERIMENTAL_ENABLE_GENAI_TRACING"] = "true"
    from azure.ai.projects.telemetry import AIProjectInstrumentor

    AIProjectInstrumentor().instrument()


def posthog():
    import posthog

    posthog.api_key, posthog.host, posthog.disabled = "k", NOWHERE, True


def braintrust():
    os.environ.update(BRAINTRUST_API_KEY="k", BRAINTRUST_API_URL=NOWHERE)
    import braintrust

    braintrust.init_logger(project="p")


def langsmith():
    os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_API_KEY="k", LANGSMITH_ENDPOINT=NOWHERE)


def opik():
    os.environ.update(OPIK_URL_OVERRIDE=NOWHERE, OPIK_API_KEY="k", OPIK_WORKSPACE="w")


def nothing():
    """Its clients are all that there is of it."""


INSTRUMENT = {
    "openinference": openinference,
    "openllmetry": openllmetry,
    "openai-v2": openai_v2,
    "genai": genai,
    "logfire": logfire,
    "logfire-client": logfire,
    "openlit": openlit,
    "langfuse": langfuse,
    "traceloop": traceloop,
    "ddtrace": ddtrace,
    "sentry": sentry,
    "mlflow": mlflow,
    "weave": weave,
    "agentops": agentops,
    "newrelic": newrelic,
    "laminar": laminar,
    "azure-ai-projects": azure,
    "posthog": posthog,
    "braintrust": braintrust,
    "langsmith": langsmith,
    "opik": opik,
    "judgeval": nothing,
}
WRAPPED = {
    # What makes a client another one: of OpenAI's, and of Anthropic's.
    "logfire-client": ("logfire:instrument_openai", "logfire:instrument_anthropic"),
    "braintrust": ("braintrust:wrap_openai", "braintrust:wrap_anthropic"),
    "langsmith": (
        "langsmith.wrappers:wrap_openai",
        "builtins:id",
    ),  # its other one reads no stream of anthropic 1 and 2
    "opik": ("opik.integrations.openai:track_openai", "opik.integrations.anthropic:track_anthropic"),
    "judgeval": ("judgeval.trace.base_tracer:BaseTracer.wrap",) * 2,
}
OWN = {"posthog": ("posthog.ai.openai", "posthog.ai.anthropic")}
"""Where a neighbour has clients of its own, by the SDKs' names."""


def transport(given, httpx):
    def answer(request):
        if not isinstance(given, list):
            return httpx.Response(200, json=given)
        events = "".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            if "type" in event
            else f"data: {json.dumps(event)}\n\n"
            for event in given
        )
        return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})

    return httpx.MockTransport(answer)


def client(given, kind=openai.OpenAI):
    sdk = vars(importlib.import_module(f"{kind.__module__.partition('.')[0]}._base_client"))
    httpx = sdk.get("httpx2") or sdk["httpx"]  # the one that this version of the SDK is made of
    http = httpx.AsyncClient if kind.__name__.startswith("Async") else httpx.Client
    which = kind.__module__.startswith("anthropic")
    if NEIGHBOUR in OWN:
        kind = getattr(importlib.import_module(OWN[NEIGHBOUR][which]), kind.__name__)
    made = kind(api_key="k", http_client=http(transport=transport(given, httpx)), max_retries=0)
    if NEIGHBOUR not in WRAPPED:
        return made
    other = pkgutil.resolve_name(WRAPPED[NEIGHBOUR][which])(made)
    return other if hasattr(other, "api_key") else made  # some change the client itself


USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "usage": USAGE,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
CHUNKS = [
    {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}]},
    {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {**CHUNK, "choices": [], "usage": USAGE},
]
EMBEDDINGS = {
    "object": "list",
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
}
RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": "gpt-4o",
    "status": "completed",
    "tools": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "output": [],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
MODEL = "claude-sonnet-4-6"
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello"}],
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def chat(given, **more):
    result = client(given).chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)
    if more.get("stream"):
        list(result)


def achat(given, **more):
    async def call():
        kind = client(given, openai.AsyncOpenAI)
        result = await kind.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)
        if more.get("stream"):
            async for _ in result:
                pass

    asyncio.run(call())


def helper():
    kind = client(EVENTS, anthropic.Anthropic)
    with kind.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=9) as stream:
        stream.get_final_message()


def messages(given, **more):
    result = client(given, anthropic.Anthropic).messages.create(
        model=MODEL, messages=MESSAGES, **{"max_tokens": 9, **more}
    )
    if more.get("stream"):
        list(result)


CALLS = {
    "plain": lambda: chat(COMPLETION),
    "stream": lambda: chat(CHUNKS, stream=True),
    "async": lambda: achat(COMPLETION),
    "async stream": lambda: achat(CHUNKS, stream=True),
    "embeddings": lambda: client(EMBEDDINGS).embeddings.create(model="text-embedding-3-small", input="x"),
    "responses": lambda: client(RESPONSE).responses.create(model="gpt-4o", input="x"),
    "anthropic": lambda: messages(MESSAGE),
    "anthropic stream": lambda: messages(EVENTS, stream=True),
    "anthropic helper": helper,
}
LIMITED = {
    "plain": lambda: chat(COMPLETION, max_tokens=100),
    "async": lambda: achat(COMPLETION, max_tokens=100),
    "stream": lambda: chat(CHUNKS, max_tokens=100, stream=True),
    "anthropic": lambda: messages(MESSAGE, max_tokens=100),
}


def main():
    if not NEIGHBOUR.startswith(("logfire", "traceloop")):
        provider()
    steps = [INSTRUMENT[NEIGHBOUR], tokenguard.install]
    for step in steps if ORDER == "first" else reversed(steps):
        step()
    told = {"calls": {}, "limited": {}}
    for what, call in CALLS.items():
        ENDED.clear()
        with tokenguard.meter() as measured:
            call()
        gc.collect()
        told["calls"][what] = {
            "measured": measured.calls,
            "spans": [name for name, _ in ENDED],
            "with cost": sum("tokenguard.cost.usd" in attributes for _, attributes in ENDED),
        }
    tokenguard.install(loads('[[limit]]\nname = "cap"\nmax_output_tokens = 1\nthen = "block"\n'))
    for what, call in LIMITED.items():
        try:
            call()
        except Exception as error:
            told["limited"][what] = type(error).__name__
        else:
            told["limited"][what] = "sent"
    print(json.dumps(told), flush=True)
    os._exit(0)  # an exporter may be waiting for a backend that is not there


main()
