"""docs/providers.md, made from the rows: `python -m tokenguard.providers.page > docs/providers.md`."""

from __future__ import annotations

from collections.abc import Iterable

from tokenguard.prices.listed import sellers
from tokenguard.prices.models import PROVIDERS as PRICED
from tokenguard.providers import APIS, BY_SESSION, OWN_APIS, SDKS, Api, Sdk, formats
from tokenguard.providers.api import no_tool_steps
from tokenguard.providers.dialects import DIALECTS, NEIGHBOURS
from tokenguard.providers.hosts import CLIENTS, HOSTS

HEAD = """\
# Providers

Written from the rows in `src/tokenguard/providers/` by `make docs`.

## SDKs

Each SDK is instrumented at the one place where it sends a request, when it is imported. The versions are those that the
tests run with (`make matrix`). With synchronous and asynchronous clients, streams, errors and retries by the SDK, each
call is one span.

*Resends* are the SDK's own retries after a failure, if it is configured to retry. `max_retries` limits them, and limits
the application's own repeats with every SDK. *Shared* are the answers that `[[share]]` can share: all of
them, streams and raw responses included, or only whole ones.

xai-sdk uses gRPC: `error.type` is the status code (`UNAVAILABLE`), which breakers treat as the equivalent HTTP status.
Retries inside gRPC's core are part of the call: they are neither counted nor limited. TokenGuard adds its attributes to
the SDK's own spans. The SDK records the conversation on them, too; `XAI_SDK_DISABLE_SENSITIVE_TELEMETRY_ATTRIBUTES=1`
stops that. Its formats were taken from the SDK's protos, not from recorded traffic.
"""
FRAMEWORKS = """\
## Frameworks

Frameworks need no rows: their calls go through these SDKs, and their own spans are parents without a cost.
The tests run
the newest versions of those below (`make matrix`) and check that every request is measured. Frameworks that call models
in thread pools (agno, autogen, dspy, haystack, semantic-kernel) keep the caller's attribution.

Tried once (November 2026), with agents, tools and streams that are read or left: strands-agents, google-adk, agno,
autogen, langgraph, griptape, inspect-ai, mirascope, magentic, aisuite, any-llm, llm, outlines, guidance, mem0 and
deepeval. Each
request was measured once, and the programs' output was the same as without TokenGuard.
"""
REACHED = (
    (
        "openai-agents, langchain-openai, llama-index-llms-openai, pydantic-ai, instructor, haystack-ai, "
        "mistral-haystack, crewai, smolagents, semantic-kernel, ag2",
        "openai",
    ),
    ("realtime sessions of openai-agents, pydantic-ai, pipecat-ai", "websockets"),
    ("realtime sessions of livekit-plugins-openai", "aiohttp"),
    ("langchain-anthropic, crewai", "anthropic"),
    ("langchain-groq, pydantic-ai", "groq"),
    ("langchain-google-genai, llama-index-llms-google-genai, pydantic-ai, crewai", "google-genai"),
    ("langchain-aws, llama-index-llms-bedrock-converse, amazon-bedrock-haystack, pydantic-ai, crewai", "boto3"),
    ("llama-index-llms-mistralai, pydantic-ai", "mistralai"),
    ("langchain-cohere, llama-index-llms-cohere, cohere-haystack", "cohere"),
    ("langchain-ollama, llama-index-llms-ollama, ollama-haystack", "ollama"),
    ("pydantic-ai", "huggingface_hub"),
    ("dspy", "litellm"),
)
"""Frameworks and their packages, with the SDK that each sends through: what tests/frameworks has seen."""
WIRES = """\
## Wire formats

*Cap* is where `then = "clamp"` sets the output cap, *tool rounds* says whether `max_tool_steps` can count them from the
request. A format that generates nothing has neither, and no stream. All are priced by what the response reports.
"""
TONGUES = """\
## Dialects

Providers that report usage in their own way within a format, and how TokenGuard reads it. *Tested* names the test data:
recorded traffic, or a body that was written from source code, a report or a page of documentation.
"""
BESIDE = """\
## Other instrumentations

TokenGuard works below every other instrumentation of an SDK, and the order of installation does not matter. A call is
measured once, and limits and budgets hold. The number of spans depends on the other instrumentation:
"""
SELLERS = """\
## Hosts

A client that points at one of these talks to that provider, whatever SDK it is; `*.` stands for any subdomain. Others
keep the name that their SDK's row has. *Prices* are those of the bundled list; where there is none, calls are
`unpriced` unless `[prices]` has them.
"""
MISSING = """\
## Not covered

What a provider bills and TokenGuard does not measure, or measures without a price, and why:
"""
UNSEEN: tuple[tuple[str, ...], ...] = (
    (
        "WebRTC and SIP calls of OpenAI's realtime API",
        "a browser or a telephone talks to the provider itself; nothing of it passes through the process",
    ),
    (
        "OpenAI's `live.connect`, `realtime.translations`, beta responses; Together's `realtime`; Gemini's music",
        "websockets with events of their own, which no row reads yet",
    ),
    (
        "ElevenLabs' and Deepgram's SDKs",
        "clients of their own with formats of their own (sound, and events over websockets), billed in credits or by "
        "the second and feature at the rates of an account's plan: that does not fit in a row. `[[limit]]` and "
        "`[[budget]]` do not see them",
    ),
    (
        "dashscope, zai-sdk, ai21, cloudflare's `ai.run`, SageMaker's endpoints",
        "SDKs or endpoints of their own without a row; `[[limit]]` and `[[budget]]` do not see them",
    ),
    (
        "runs of OpenAI's assistants (`threads.runs`); sessions of agents at OpenAI and Anthropic, and Anthropic's "
        "dreams; evaluations and graders; Mistral's classifications; Cohere's `generate`, `summarize`, `classify`, "
        "`parse` and embed jobs; Writer's `vision`, `translation`, applications and questions to graphs; Together's "
        "queue; Perplexity's `search`",
        "methods of SDKs that are measured otherwise, whose answers tell no usage, or tell it later; `[[limit]]` and "
        "`[[budget]]` do not see them. A test names each method of a new version that no row knows",
    ),
    ("gRPC clients other than xai-sdk", "each has stubs of its own"),
    ("litellm's pass-through routes", "litellm does not say what is in them"),
    (
        "storage of what another process has rented, or of a process that was killed",
        "only the process that created a resource counts it, so that it is counted once",
    ),
    ("the first GB of OpenAI's vector stores, which is free", "free for an account as a whole, which no API tells"),
    (
        "the fee of a hosted tool that no list has (a connector, a container that a response starts)",
        "no answer tells it; the cost is an estimate then, `tool_fees_excluded`",
    ),
    (
        "reinforcement fine-tuning, and tuning on Vertex AI and Mistral",
        "billed by the hour, or by a job API of its own; OpenAI's and Together's jobs that tell tokens are rows",
    ),
    ("idle hours of dedicated endpoints (Together, Fireworks, Hugging Face, Azure)", "infrastructure, not calls"),
)
"""What is not covered, and the reason."""
TAIL = """\
A search (a rerank) at a seller without a price of its own has one from `[prices]`, as `{ request = 2000 }`: USD per
million searches. A request to an agent (Mistral's conversations, Google's interactions) names no model: its cost is
known by the model that the answer names, and until an agent has answered once a budget does with it what `unpriced`
says; Google's agents name none. The bundled list has no prices for Mistral's models on Azure and Vertex AI. An
interaction in the background that is read as a stream ends with the next plain `get`. Having xAI compact a conversation
is measured; it has no output cap, so that its worst case is its input's.
"""

SUITES = """\
Other projects' tests with TokenGuard installed in the same process (November 2026): of openai 3.57's tests of its API
resources (chat, responses, completions, embeddings, images, audio, moderations, videos, batches, vector stores) the
same pass as bare, 1,094; 55 want a newer mock server. So it is with OpenInference's for openai (483; 1 fails) and
anthropic (51), if the attributes that TokenGuard adds are left out. Of anthropic 2.14's tests of its own spans 1,041
pass bare and 992 with it. The other 49 want no attribute, and no span, but the SDK's, or what the SDK counts where
TokenGuard has what is billed. Nine of OpenLLMetry's suites (anthropic, bedrock, cohere, groq, litellm, mistralai,
ollama, together, voyageai; 890 tests) come out the same. What fails with TokenGuard alone in four others counts all
spans (langchain 27, openai-agents 2), takes the first span or metric of a name for its own (google-genai 2), or wants
equal finish reasons of several answers said once (openai 1); the conventions have one for each answer.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [
        HEAD,
        _table(("package", "versions", "provider", "seam", "resends", "shared"), _sdks()),
        FRAMEWORKS,
        _table(("framework or package", "sends through"), _reached()),
        WIRES,
        _table(("spoken by", "format", "operation", "paths", "cap", "tool rounds", "streams"), _apis()),
        TONGUES,
        _table(("who", "says", "read as", "source", "tested"), DIALECTS),
        BESIDE,
        _table(("beside", "spans for a call"), NEIGHBOURS),
        SUITES,
        SELLERS,
        _table(("provider", "hosts", "prices"), _hosts()),
        MISSING,
        _table(("what", "why"), UNSEEN),
        TAIL,
    ]
    return "\n".join(parts)


def _sdks() -> Iterable[tuple[str, ...]]:
    rows: dict[str, list[Sdk]] = {}
    for sdk in SDKS:
        if sdk.provider:  # the others are no SDKs
            rows.setdefault(sdk.package or sdk.module.partition(".")[0], []).append(sdk)
    for package, sdks in rows.items():
        providers = ", ".join(dict.fromkeys(f"`{sdk.provider}`" for sdk in sdks))
        seams = ", ".join(dict.fromkeys(f"`seams/{sdk.seam}.py`" for sdk in sdks))
        yield f"`{package}`", sdks[0].tested or "newest", providers, seams, sdks[0].resends, sdks[0].shares


def _reached() -> Iterable[tuple[str, ...]]:
    for packages, sdk in REACHED:
        what, of, named = packages.rpartition(" of ")
        yield what + of + ", ".join(f"`{package}`" for package in named.split(", ")), f"`{sdk}`"


def _apis() -> Iterable[tuple[str, ...]]:
    own = ((f"`{name}`", places) for name, places in (*OWN_APIS.items(), *BY_SESSION.items()))
    for spoken_by, places in (("many", APIS), *own):
        for api in formats(places):
            yield spoken_by, f"`{api.id}`", api.operation, ", ".join(f"`{path}`" for path in api.paths), *_how(api)


def _how(api: Api) -> tuple[str, str, str]:
    cap = f"`{api.settings}.{api.caps[0]}`" if api.settings and api.caps else f"`{api.caps[0]}`" if api.caps else ""
    return cap, "" if api.tool_steps is no_tool_steps else "yes", "yes" if api.caps else ""


def _hosts() -> Iterable[tuple[str, ...]]:
    providers: dict[str, list[str]] = {}
    for host, provider in HOSTS.items():
        providers.setdefault(provider, []).append(f"`*.{host}`")
    for provider in CLIENTS.values():
        providers.setdefault(provider, [])
    listed = {*PRICED, *sellers()}
    for provider in sorted(providers):
        yield f"`{provider}`", ", ".join(providers[provider]), "yes" if provider in listed else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - how docs/providers.md is written
