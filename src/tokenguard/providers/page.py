"""docs/providers.md, made from the rows: `python -m tokenguard.providers.page > docs/providers.md`."""

from __future__ import annotations

from collections.abc import Iterable

from tokenguard.prices.models import PROVIDERS as PRICED
from tokenguard.providers import APIS, OWN_APIS, SDKS, Api, Sdk
from tokenguard.providers.api import no_tool_steps
from tokenguard.providers.dialects import DIALECTS, NEIGHBOURS
from tokenguard.providers.hosts import CLIENTS, HOSTS

HEAD = """\
# Providers

Written from the rows in `src/tokenguard/providers/` by `make docs`.

## SDKs

Each is wrapped in the one place where it sends a request, when it is imported; versions are those that the tests run
with (`make matrix`). Synchronous and asynchronous clients, streams, errors and the SDK's own resends are all one span a
call.

*Resends* is what the SDK itself sends again after a failure, where it is set up to: `max_retries` bounds that, and the
application's own repeats everywhere. *Shared* are the answers that `[[share]]` can share, streams and raw responses by
HTTP too; not the streams of ollama, of Bedrock, of aiohttp and of gRPC.

xai-sdk talks gRPC: `error.type` is the status code (`UNAVAILABLE`), which breakers take for the HTTP status that it
stands for. What gRPC sends again by itself happens inside its core: it is part of the call, neither counted nor capped.
The SDK's own spans get the facts. They carry the conversation, too, which is the SDK's doing:
`XAI_SDK_DISABLE_SENSITIVE_TELEMETRY_ATTRIBUTES=1` stops it. Its formats are read by the SDK's protos, not from recorded
traffic.
"""
FRAMEWORKS = """\
## Frameworks

Frameworks need no rows: their calls go through these SDKs, and their own spans are parents without a cost. Those below
are run by the tests (`make matrix`), in their newest versions, and every request of theirs was seen. Those that call
models in pools of threads (dspy, haystack) have the caller's attribution handed on to them.
"""
REACHED = (
    (
        "openai-agents, langchain-openai, llama-index-llms-openai, pydantic-ai, instructor, haystack-ai, "
        "mistral-haystack, crewai, smolagents, semantic-kernel, ag2",
        "openai",
    ),
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

Who speaks a format in a way of their own, in what they say of usage, and what is made of it. *Tested* says against
what: recorded traffic, or a body that was written after the source, a report or a page of documentation.
"""
BESIDE = """\
## Other instrumentations

TokenGuard is below whatever else wraps an SDK, and the order of installing does not matter: a call is measured once,
and limits and budgets hold. How many spans there are depends on the other:
"""
SELLERS = """\
## Hosts

A client that points at one of these talks to that provider, whatever SDK it is; `*.` stands for any subdomain. Others
keep the name that their SDK's row has. *Prices* are those of the bundled list; where there is none, calls are
`unpriced` unless `[prices]` has them.
"""
MISSING = """\
## Not covered

What a provider bills and TokenGuard does not see, or sees without its price, and why:
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
        "realtime sessions of OpenAI's that openai-agents, Pipecat and LiveKit open",
        "each with a websocket client of its own, and not with `realtime.connect`; Pipecat's sessions of Gemini's go "
        "through google-genai's `live.connect`, the speech and transcripts of openai-agents through openai",
    ),
    (
        "ElevenLabs' and Deepgram's SDKs, dashscope, zai-sdk, SageMaker's endpoints",
        "SDKs or endpoints of their own without a row; `[[limit]]` and `[[budget]]` do not see them",
    ),
    ("gRPC clients other than xai-sdk", "each has stubs of its own"),
    ("litellm's pass-through routes", "litellm does not say what is in them"),
    (
        "storage of what another process has rented, or of a process that was killed",
        "who did not make a thing does not count it, so that it is counted once",
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
        yield ", ".join(f"`{package}`" for package in packages.split(", ")), f"`{sdk}`"


def _apis() -> Iterable[tuple[str, ...]]:
    for spoken_by, apis in (("many", APIS), *((f"`{name}`", own) for name, own in OWN_APIS.items())):
        for api in apis:
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
    for provider in sorted(providers):
        yield f"`{provider}`", ", ".join(providers[provider]), "yes" if provider in PRICED else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - how docs/providers.md is written
