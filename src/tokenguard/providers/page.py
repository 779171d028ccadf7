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
application's own repeats everywhere. *Shared* are the answers that `[[share]]` can share; a stream, or a body that is
yet to be read, is its caller's own.

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
TAIL = """\
## Not covered

Websockets that are opened without openai's `realtime.connect` or google-genai's `live.connect` (WebRTC and SIP calls
among them: the provider and a browser talk to each other; Gemini's music), gRPC clients other than xai-sdk, and what
else is rented by time: vector stores, containers and fine-tuning jobs of OpenAI's, whose prices depend on what their
APIs do not tell. A cache of Google's that is given another lifetime, or deleted before its time, is priced as it was
made. xAI's pictures and films by gRPC, ElevenLabs' and Deepgram's SDKs are not seen. Searches
of the web, of maps and of files are in the cost where their fee is known; without that of another hosted tool (a
connector, a container), the cost is an estimate. A search (a rerank) at a seller without a
price of its own has one from `[prices]`, as `{ request = 2000 }`: USD per million searches. A request to an agent
(Mistral's conversations, Google's interactions) names no model: its cost is known by the model that the answer names,
and until an agent has answered once a budget does with it what `unpriced` says; Google's agents name none. The
bundled list has no prices for Mistral's models on Azure and Vertex AI. An interaction in the background that is read
as a stream ends with the next plain `get`. Having xAI compact a conversation is measured; it has no output cap, so
that its worst case is its input's. litellm's pass-through routes, SageMaker's endpoints, and SDKs without a row
(dashscope, zai-sdk) are not seen.
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
