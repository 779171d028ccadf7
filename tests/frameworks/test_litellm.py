"""litellm over real HTTP: whoever it asks, and in whatever way, a call is one span with the provider's own count.

`make matrix` installs it in an environment of its own; elsewhere it is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from importlib import import_module
from importlib.util import find_spec

import pytest

import connections
import tokenguard
from policies import SHORT, short_and_cheap
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.providers import bedrock
from tokenguard.seams import litellm as seam
from tokenguard.seams import signing
from tokenguard.seams.common import addressed

if find_spec("litellm") is None:  # other tests of this process go on without these settings
    pytest.skip("needs litellm", allow_module_level=True)
os.environ["HF_HUB_OFFLINE"] = "1"  # it looks for tokenizers there
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = import_module("litellm")
pytestmark = pytest.mark.filterwarnings("ignore")  # its own

ASK = [{"role": "user", "content": "Find part 4711 in any warehouse."}]
CAP = 40
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
def provider(running, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    vertex = pytest.importorskip("litellm.llms.vertex_ai.vertex_llm_base").VertexBase

    async def token(self, *args, **kwargs):
        return "token", "project"

    # There is no Google here to give one.
    monkeypatch.setattr(vertex, "get_access_token", lambda self, *args, **kwargs: ("token", "project"))
    monkeypatch.setattr(vertex, "get_access_token_async", token, raising=False)
    # It keeps one session for all loops.
    monkeypatch.setattr(litellm.main.base_llm_aiohttp_handler, "client_session", None)
    monkeypatch.setattr(litellm.main.base_llm_aiohttp_handler, "transport", None)
    running.requests.clear()
    running.faults._script.clear()
    return running


# --- who is asked -----------------------------------------------------------------------------------------------------


def at(path="", **more):
    """The arguments that send a request to the simulated provider."""
    return lambda provider: {"api_base": f"{provider.url}{path}", "api_key": "k", **more}


def on_aws(provider):
    pytest.importorskip("boto3")
    return {"aws_bedrock_runtime_endpoint": provider.url}


VERTEX = {"vertex_project": "project", "vertex_location": "us-central1", "api_key": None}
PROVIDERS = {
    # litellm's model: where it is, `gen_ai.provider.name`, `gen_ai.request.model`, the status of its cost
    "openai/gpt-4.1-mini": (at("/v1"), "openai", "gpt-4.1-mini", "exact"),
    "azure/gpt-4o": (at(api_version="2024-10-21"), "azure.ai.openai", "gpt-4o", "estimated"),
    "anthropic/claude-sonnet-4-6": (at(), "anthropic", "claude-sonnet-4-6", "exact"),
    "gemini/gemini-2.5-flash": (at(), "gcp.gemini", "gemini-2.5-flash", "exact"),
    "vertex_ai/gemini-2.5-flash": (at(**VERTEX), "gcp.vertex_ai", "gemini-2.5-flash", "exact"),
    "vertex_ai/claude-sonnet-4-5@20250929": (at(**VERTEX), "gcp.vertex_ai", "claude-sonnet-4-5@20250929", "exact"),
    f"bedrock/converse/{CLAUDE}": (on_aws, "aws.bedrock", CLAUDE, "exact"),
    f"bedrock/invoke/{CLAUDE}": (on_aws, "aws.bedrock", CLAUDE, "exact"),
    "bedrock/converse/amazon.nova-lite-v1:0": (on_aws, "aws.bedrock", "amazon.nova-lite-v1:0", "exact"),
    "mistral/mistral-small-latest": (at("/v1"), "mistral_ai", "mistral-small-latest", "exact"),
    "cohere_chat/command-r-08-2024": (at("/v2/chat"), "cohere", "command-r-08-2024", "exact"),
    "ollama_chat/qwen3": (at(), "ollama", "qwen3", "unpriced"),
    "ollama/qwen3": (at(), "ollama", "qwen3", "unpriced"),
    "huggingface/qwen/qwen3": (at("/v1"), "huggingface", "qwen/qwen3", "unpriced"),
    "together_ai/qwen/qwen3": (at("/v1"), "together", "qwen/qwen3", "unpriced"),
    "groq/qwen/qwen3-32b": (at("/v1"), "groq", "qwen/qwen3-32b", "exact"),
    "deepseek/deepseek-chat": (at("/v1"), "deepseek", "deepseek-chat", "exact"),
    "xai/grok-3": (at("/v1"), "x_ai", "grok-3", "exact"),
    "openrouter/openai/gpt-4o-mini": (at("/v1"), "openrouter", "openai/gpt-4o-mini", "exact"),
    "azure_ai/phi-4": (at("/v1"), "azure.ai.inference", "phi-4", "estimated"),
}
UNREADABLE = {"cohere_chat/command-r-08-2024"}
"""litellm reads their streams as JSON lines, and cannot read the server-sent events of the simulated provider."""


def request(name, provider, **more):
    where = PROVIDERS[name][0](provider)
    return {"model": name, "messages": ASK, "max_tokens": CAP, "num_retries": 0, **where, **more}


def once(name, provider, **more):
    litellm.completion(**request(name, provider, **more))


def streamed(name, provider, **more):
    list(litellm.completion(**request(name, provider, stream=True, **more)))


def awaited(name, provider, **more):
    run(litellm.acompletion(**request(name, provider, **more)))


def awaited_stream(name, provider, **more):
    run(litellm.acompletion(**request(name, provider, stream=True, **more)))


def run(coroutine):
    async def running():
        result = await coroutine
        if hasattr(result, "__aiter__"):
            async for _ in result:
                pass
        await asyncio.sleep(0.02)  # what the loop has left to close

    connections.run(running())


WAYS = (once, streamed, awaited, awaited_stream)


def settled(measured, calls):
    """Wait until the calls have ended: a stream that is not read to its last byte ends when it is let go."""
    until = time.monotonic() + 5
    while measured.calls < calls and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    assert measured.calls == calls


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROVIDERS)
def test_measured(name, way, provider, installed, spans):
    """One span, with the provider's name and model, its own count of tokens, and the price where there is one."""
    if name in UNREADABLE and "stream" in way.__name__:
        pytest.skip("litellm cannot read it")
    with tokenguard.meter() as measured:
        way(name, provider)
        settled(measured, 1)
    _, named, model, status = PROVIDERS[name]
    (billed,) = provider.calls
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == named
    assert attributes["gen_ai.request.model"] == model
    assert attributes.get("gen_ai.request.stream", False) == ("stream" in way.__name__)
    assert attributes["gen_ai.usage.input_tokens"] == billed.billed.input
    assert attributes["gen_ai.usage.output_tokens"] == billed.billed.output
    assert attributes["gen_ai.response.finish_reasons"]
    assert attributes["tokenguard.cost.status"] == status
    assert measured.records[0].outcome == "ok"


# --- what else it can do ----------------------------------------------------------------------------------------------

MESSAGES = {"messages": ASK, "max_tokens": CAP}
TEXTS = ["a plan", "a warranty"]
OTHERS = {
    # litellm's function, its arguments, and the operation; a coroutine is awaited, a stream read
    "text_completion": ("text_completion", {"prompt": "Hi", "model": "openai/gpt-3.5-turbo-instruct"}, "/v1"),
    "embedding openai": ("embedding", {"input": TEXTS, "model": "openai/text-embedding-3-small"}, "/v1"),
    "embedding gemini": ("embedding", {"input": TEXTS, "model": "gemini/gemini-embedding-001"}, ""),
    "embedding ollama": ("embedding", {"input": TEXTS, "model": "ollama/qwen3"}, ""),
    "rerank": ("rerank", {"query": "a", "documents": TEXTS, "model": "cohere/rerank-v3.5"}, "/v2/rerank"),
    "responses": ("responses", {"input": "Hi", "model": "openai/gpt-4.1-mini"}, "/v1"),
    "responses stream": ("responses", {"input": "Hi", "model": "openai/gpt-4.1-mini", "stream": True}, "/v1"),
    "aresponses stream": ("aresponses", {"input": "Hi", "model": "openai/gpt-4.1-mini", "stream": True}, "/v1"),
    "responses of anthropic": ("responses", {"input": "Hi", "model": "anthropic/claude-sonnet-4-6"}, ""),
    "messages": ("anthropic.messages.acreate", {**MESSAGES, "model": "anthropic/claude-sonnet-4-6"}, ""),
    "messages stream": (
        "anthropic.messages.acreate",
        {**MESSAGES, "model": "anthropic/claude-sonnet-4-6", "stream": True},
        "",
    ),
    "messages of bedrock": ("anthropic.messages.acreate", {**MESSAGES, "model": f"bedrock/{CLAUDE}"}, None),
    "messages of openai": ("anthropic.messages.acreate", {**MESSAGES, "model": "openai/gpt-4.1-mini"}, "/v1"),
    "generate_content": (
        "google_genai.generate_content",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "model": "gemini/gemini-2.5-flash"},
        "",
    ),
    "aiohttp": ("acompletion", {**MESSAGES, "model": "aiohttp_openai/gpt-4.1-mini"}, "/v1"),
}
WITH_PROXY = {name for name in OTHERS if name.startswith(("responses", "aresponses", "generate"))}
WITH_PROXY |= {"messages stream", "messages of openai"}
"""What imports packages of litellm's proxy."""


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls(name, provider, installed, spans):
    """The same for everything else that litellm sends to a model."""
    path, arguments, where = OTHERS[name]
    if name in WITH_PROXY:
        pytest.importorskip("fastapi")
        pytest.importorskip("litellm.google_genai")
    function = litellm
    for part in path.split("."):
        function = getattr(function, part)
    asked = on_aws(provider) if where is None else at(where)(provider)
    with tokenguard.meter() as measured:
        result = function(**arguments, **asked)
        if hasattr(result, "__await__"):
            run(result)
        elif arguments.get("stream"):
            list(result)
        settled(measured, 1)
    (sent,) = [received for received in provider.requests if received.billed is not None]
    assert measured.records[0].outcome == "ok"
    assert spans.attributes.get("gen_ai.usage.input_tokens") == sent.billed.input
    assert spans.attributes.get("gen_ai.usage.output_tokens") in (sent.billed.output, sent.billed.output or 0)
    assert arguments["model"].endswith(spans.attributes["gen_ai.request.model"])


def test_httpx_below(provider, installed, spans, monkeypatch):
    """Its asynchronous handler with httpx itself; what it sends again over a new connection is counted as resent.

    Its newest versions no longer send again what a provider has hung up on.
    """
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True, raising=False)
    litellm.in_memory_llm_clients_cache.flush_cache()
    provider.fail_next("refuse_connection")
    with contextlib.suppress(litellm.InternalServerError):
        awaited("anthropic/claude-sonnet-4-6", provider)
    litellm.in_memory_llm_clients_cache.flush_cache()
    resent = len(provider.requests) - 1
    assert spans.attributes.get("http.request.resend_count", 0) == resent
    assert spans.attributes.get("gen_ai.usage.output_tokens", 0) == (
        provider.requests[-1].billed.output if resent else 0
    )


@pytest.mark.parametrize("way", [streamed, awaited_stream])
def test_refused_option(way, provider, installed, spans):
    """A host that refuses our asking for a stream's usage gets the request as it was."""
    provider.refuse_next("stream_options")
    with tokenguard.meter() as measured:
        way("deepseek/deepseek-chat", provider)
        settled(measured, 1)
    assert ["stream_options" in received.body for received in provider.requests] == [True, False]
    assert spans.attributes["gen_ai.response.finish_reasons"]


# --- retries, fallbacks, errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("first", ["openai/gpt-4.1-mini", "anthropic/claude-sonnet-4-6"])
def test_router(first, asynchronous, provider, installed, spans):
    """Each attempt of a router is a call of its own: what was refused, again, and then by the fallback."""
    second = f"bedrock/converse/{CLAUDE}"
    models = [
        {"model_name": name, "litellm_params": {"model": model, **PROVIDERS[model][0](provider)}}
        for name, model in (("first", first), ("second", second))
    ]
    router = litellm.Router(models, fallbacks=[{"first": ["second"]}], num_retries=1, retry_after=0)
    provider.fail_next(500, times=2, path=("/chat/completions", "/v1/messages")["anthropic" in first])
    with tokenguard.meter() as measured:
        if asynchronous:
            run(router.acompletion("first", ASK, max_tokens=CAP))
        else:
            router.completion("first", ASK, max_tokens=CAP)
        settled(measured, 3)
    assert [received.status for received in provider.requests] == [500, 500, 200]
    assert [span.attributes["gen_ai.provider.name"] for span in spans] == [PROVIDERS[first][1]] * 2 + ["aws.bedrock"]
    assert [span.attributes.get("tokenguard.retry.attempt") for span in spans] == [None, 1, None]
    assert not any("http.request.resend_count" in span.attributes for span in spans)
    assert [record.outcome for record in measured.records] == ["error", "error", "ok"]
    assert measured.output_tokens == provider.requests[-1].billed.output


@pytest.mark.parametrize("way", [once, awaited])
@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4-6", f"bedrock/invoke/{CLAUDE}"])
def test_timed_out(name, way, provider, installed, spans):
    """What was sent and not waited for may be on the bill, and is estimated."""
    provider.fail_next("delay", seconds=1.5)
    with pytest.raises(litellm.Timeout):
        way(name, provider, timeout=0.3)
    assert spans.attributes["tokenguard.cost.status"] == "estimated"
    assert spans.attributes["tokenguard.cost.basis"] == "timed_out"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["gemini/gemini-2.5-flash", f"bedrock/converse/{CLAUDE}"])
def test_refused(name, way, provider, installed, spans):
    """A refusal is the error that litellm makes of it, and costs nothing."""
    provider.fail_next(429)
    with pytest.raises(Exception, match="RateLimitError"):  # in a stream it may be wrapped once more
        way(name, provider)
    assert spans.attributes["error.type"]
    assert not spans.one.status.is_ok
    assert "tokenguard.cost.status" not in spans.attributes


@pytest.mark.parametrize("way", [streamed, awaited_stream])
@pytest.mark.parametrize("name", [f"bedrock/converse/{CLAUDE}", f"bedrock/invoke/{CLAUDE}"])
def test_broken_stream(name, way, provider, installed, spans):
    """An event stream that ends in an exception of Bedrock's is an error, and what it cost is an estimate."""
    provider.fail_next("stream_error", after=4)
    with tokenguard.meter() as measured, pytest.raises(Exception, match=r"could not go on|modelStream"):
        way(name, provider)
    settled(measured, 1)
    assert measured.records[0].outcome == "error"
    assert spans.attributes["error.type"]
    assert spans.attributes["tokenguard.cost.status"] == "estimated"


# --- the guard --------------------------------------------------------------------------------------------------------

CAPS = {
    "openai/gpt-4.1-mini": lambda body: body["max_tokens"],
    "anthropic/claude-sonnet-4-6": lambda body: body["max_tokens"],
    "gemini/gemini-2.5-flash": lambda body: body["generationConfig"]["maxOutputTokens"],
    "vertex_ai/gemini-2.5-flash": lambda body: body["generationConfig"]["maxOutputTokens"],
    "vertex_ai/claude-sonnet-4-5@20250929": lambda body: body["max_tokens"],
    f"bedrock/converse/{CLAUDE}": lambda body: body["inferenceConfig"]["maxTokens"],
    f"bedrock/invoke/{CLAUDE}": lambda body: body["max_tokens"],
    "mistral/mistral-small-latest": lambda body: body["max_tokens"],
    "cohere_chat/command-r-08-2024": lambda body: body["max_tokens"],
    "ollama_chat/qwen3": lambda body: body["options"]["num_predict"],
    "huggingface/qwen/qwen3": lambda body: body["max_tokens"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CAPS)
def test_clamp_and_downgrade(name, way, provider, installed, spans):
    """The cap is set where the wire format has it, and the model where it is named; the span says so."""
    if name in UNREADABLE and "stream" in way.__name__:
        pytest.skip("litellm cannot read it")
    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny-2407")))
    with tokenguard.meter() as measured:
        way(name, provider)
        settled(measured, 1)
    (sent,) = provider.calls  # and not what was refused for asking Mistral's model for its usage
    assert CAPS[name](sent.body) == 7
    assert sent.model == "mistral-tiny-2407"
    attributes = spans.attributes
    assert attributes["tokenguard.guard.original_max_tokens"] == CAP
    assert attributes["tokenguard.guard.original_model"] == PROVIDERS[name][2]
    assert attributes["gen_ai.request.model"] == "mistral-tiny-2407"
    assert attributes["gen_ai.usage.output_tokens"] == sent.billed.output <= 7


def test_clamped_in_aiohttp(provider, installed, spans):
    """The same where litellm speaks aiohttp itself."""
    tokenguard.install(policy.loads(SHORT))
    run(litellm.acompletion("aiohttp_openai/gpt-4.1-mini", ASK, max_tokens=CAP, **at("/v1")(provider)))
    assert provider.requests[-1].billed.output == spans.attributes["gen_ai.usage.output_tokens"] <= 7


@pytest.mark.parametrize("kind", ["converse", "invoke"])
def test_signed_again(kind, provider, installed):
    """What the guard has changed reaches Bedrock with a signature that holds for it, by the caller's credentials."""
    pytest.importorskip("boto3")
    import httpx
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    seen = []

    class Recording(httpx.HTTPTransport):
        def handle_request(self, request):
            seen.append(request)
            return super().handle_request(request)

    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny-2407")))
    with httpx.Client(transport=Recording()) as client:
        once(f"bedrock/{kind}/{CLAUDE}", provider, client=HTTPHandler(client=client))
    (request,) = seen
    assert b"40" not in request.content
    claimed = dict(part.split("=", 1) for part in request.headers["authorization"].partition(" ")[2].split(", "))
    signed = {name: request.headers[name] for name in claimed["SignedHeaders"].split(";")}
    again = AWSRequest("POST", str(request.url), signed, request.content)
    again.context["timestamp"] = signed["x-amz-date"]
    assert {"host", "x-amz-date", "x-amz-security-token"} <= set(signed)
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "session"), "bedrock", "us-east-1")
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert claimed["Signature"] == signature
    assert claimed["Credential"].startswith("AKIDEXAMPLE/")


def test_signed_elsewhere(provider, installed, spans):
    """A request that was signed nobody knows how is not sent with a broken signature: it is refused, and says why."""
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny-2407")))
    with pytest.raises(tokenguard.TokenGuardError, match=r'signed.*then = "block"'):
        HTTPHandler().post(
            f"{provider.url}/model/{CLAUDE}/converse",
            headers={"X-Amz-Date": "20260101T000000Z", "Authorization": "AWS4-HMAC-SHA256 Credential=a"},
            data='{"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {"maxTokens": 40}}',
        )
    assert not provider.requests
    assert spans.attributes["tokenguard.guard.action"] == "block"


def cause(error):
    """The guard's exception, which litellm wraps."""
    while error is not None and not isinstance(error, LimitExceeded):
        error = error.__cause__ or error.__context__
    return error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["openai/gpt-4.1-mini", "gemini/gemini-2.5-flash", f"bedrock/converse/{CLAUDE}"])
def test_blocked(name, way, provider, installed, spans):
    """Nothing is sent; the guard's exception is the cause of litellm's, which says the same."""
    tokenguard.install(policy.loads('[[limit]]\nname = "tiny"\nmax_input_tokens = 1'))
    with pytest.raises(Exception, match="tiny") as caught:
        way(name, provider)
    assert cause(caught.value).rule == "tiny"
    assert not provider.requests
    assert spans.attributes["tokenguard.guard.action"] == "block"


# --- what fails inside ------------------------------------------------------------------------------------------------


class Injected(Exception):
    """What is injected; were it to reach the user, the test would see it."""


def fail(*args, **kwargs):
    raise Injected


STEPS = [
    (seam, "_provider"),
    (seam, "exchange_at"),
    (seam, "_note"),
    (addressed, "located"),
    (addressed.AddressedExchange, "__init__"),
    (addressed.AddressedExchange, "read"),
    (signing, "_note"),
    (bedrock, "server_sent"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_internal_failure(owner, step, way, provider, installed, monkeypatch):
    """Whatever fails inside TokenGuard, litellm's call goes on as it would without."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        way(f"bedrock/converse/{CLAUDE}", provider)
        gc.collect()
    (sent,) = provider.calls
    assert sent.delivered


# --- kept answers -----------------------------------------------------------------------------------------------------

KEEPS = '[[cache]]\nname = "kept"\nper = []\nsampled = true\n'


@pytest.mark.parametrize("ask", [once, streamed, awaited], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize(
    "name",
    ["openai/gpt-4.1-mini", "gemini/gemini-2.5-flash", f"bedrock/converse/{CLAUDE}", "mistral/mistral-small-latest"],
)
def test_kept_answers(name, ask, provider, installed):
    """What litellm asks a second time is not sent, whoever it asks and by whichever client."""
    tokenguard.install(policy.loads(KEEPS, "tokenguard.toml"))
    try:
        for _ in range(2):
            ask(name, provider, max_tokens=3000)
        assert len(provider.requests) == 1
    finally:
        tokenguard.install(policy.Policy())
