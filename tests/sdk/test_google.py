"""google-genai, Gemini API and Vertex AI, over real HTTP; runs with the oldest and the newest version of the SDK.

Annotations are real ones here: google-genai 2 does not call functions whose annotations are strings.
"""

import asyncio
import gc
import importlib
import json

import pytest

import connections

genai = pytest.importorskip("google.genai")

from google.genai import errors, types  # noqa: E402 - only where it is installed

import tokenguard  # noqa: E402
from loopback import Loopback  # noqa: E402
from tokenguard.demo.provider import SimulatedProvider  # noqa: E402
from tokenguard.facts.errors import BudgetExceeded, LimitExceeded  # noqa: E402

FLASH = "gemini-2.5-flash"
QUESTION = "Which of your plans has a warranty?"
TOOL = {
    "function_declarations": [
        {"name": "look_up", "parameters": {"type": "OBJECT", "properties": {"topic": {"type": "STRING"}}}}
    ]
}


pytestmark = [pytest.mark.filterwarnings("ignore:Inheritance class Aiohttp:DeprecationWarning")]  # the SDK's own
if genai.__version__ < "3":  # leaves aiohttp's connections to the collector
    pytestmark.append(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


def options(provider, **more):
    return types.HttpOptions(base_url=provider.url, **more)


@pytest.fixture
def client(provider):
    with genai.Client(api_key="k", http_options=options(provider)) as opened:
        yield opened


@pytest.fixture
def vertex(provider):
    from google.oauth2.credentials import Credentials

    with genai.Client(
        vertexai=True, project="p", location="us-central1", credentials=Credentials("t"), http_options=options(provider)
    ) as opened:
        yield opened


def check(provider, measured, spans, n=1):
    """The spans' tokens are those that the provider billed, and so is what they cost."""
    billed = [request.billed for request in provider.requests[-n:]]
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [usage.input for usage in billed]
    assert [span.attributes.get("gen_ai.usage.output_tokens") for span in spans] == [usage.output for usage in billed]
    assert [span.attributes["tokenguard.cost.status"] for span in spans] == ["exact"] * n
    assert measured.calls == n
    assert measured.cost_usd > 0


CALLS = {
    "generate": lambda c: c.models.generate_content(model=FLASH, contents=QUESTION),
    "config": lambda c: c.models.generate_content(
        model=FLASH, contents=QUESTION, config={"system_instruction": "Be brief.", "max_output_tokens": 5}
    ),
    "stream": lambda c: list(c.models.generate_content_stream(model=FLASH, contents=QUESTION)),
    "chat": lambda c: c.chats.create(model=FLASH).send_message(QUESTION),
    "chat stream": lambda c: list(c.chats.create(model=FLASH).send_message_stream(QUESTION)),
}


@pytest.mark.parametrize("name", CALLS)
def test_sync(name, client, provider, installed, spans):
    """One span, named for the operation and the model, with the tokens that were billed."""
    with tokenguard.meter() as measured:
        CALLS[name](client)
    check(provider, measured, spans)
    span = spans.one
    assert span.name == f"generate_content {FLASH}"
    assert span.attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert span.attributes["gen_ai.response.finish_reasons"] == (("MAX_TOKENS",) if name == "config" else ("STOP",))
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert span.attributes["code.file.path"] == __file__


def asynchronously(provider, work, **more):
    async def run():
        async with genai.Client(api_key="k", http_options=options(provider, **more)).aio as client:
            return await work(client)

    return connections.run(run())


async def gather(awaitable):
    return [chunk async for chunk in await awaitable]


ASYNC = {
    "generate": lambda c: c.models.generate_content(model=FLASH, contents=QUESTION),
    "stream": lambda c: gather(c.models.generate_content_stream(model=FLASH, contents=QUESTION)),
    "chat": lambda c: c.chats.create(model=FLASH).send_message(QUESTION),
}


@pytest.mark.parametrize("transport", ["default", "httpx"])
@pytest.mark.parametrize("name", ASYNC)
def test_async(name, transport, provider, installed, spans):
    """The same for asynchronous clients, on aiohttp where it is installed, and on httpx."""
    own = {}
    if transport == "httpx":
        kinds = type(genai.Client(api_key="k")._api_client._async_httpx_client).__mro__
        names = {kind.__module__.partition(".")[0] for kind in kinds}
        httpx = importlib.import_module("httpx2" if "httpx2" in names else "httpx")  # some versions know both
        own = {"async_client_args": {"transport": httpx.AsyncHTTPTransport()}}

    async def work(client):
        with tokenguard.meter() as measured:
            await ASYNC[name](client)
        return measured

    check(provider, asynchronously(provider, work, **own), spans)


def test_vertex(vertex, provider, installed, spans):
    """On Vertex AI the URL has a project and a publisher; model and provider are named without them."""
    with tokenguard.meter() as measured:
        vertex.models.generate_content(model=FLASH, contents=QUESTION)
        vertex.models.generate_content(model=f"publishers/google/models/{FLASH}", contents=QUESTION)
    check(provider, measured, spans, 2)
    assert {span.attributes["gen_ai.provider.name"] for span in spans} == {"gcp.vertex_ai"}
    assert {span.attributes["gen_ai.request.model"] for span in spans} == {FLASH}


def test_embeddings(client, provider, installed, spans):
    """Embeddings are priced by their input, and what they lack is not missed."""
    client.models.embed_content(model="gemini-embedding-001", contents=["Hello", "world"])
    assert spans.attributes["gen_ai.operation.name"] == "embeddings"
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    assert spans.attributes["gen_ai.usage.input_tokens"] == provider.requests[-1].billed.input
    assert "gen_ai.usage.output_tokens" not in spans.attributes


def test_automatic_function_calls(client, provider, installed, spans):
    """Each request that automatic function calling makes is a call of its own, with its place in the run."""

    def look_up(topic: str) -> str:
        """Look a topic up."""
        return "two years on parts and labour"

    with tokenguard.meter() as measured:
        client.models.generate_content(model=FLASH, contents=QUESTION, config={"tools": [look_up]})
    check(provider, measured, spans, 3)
    assert [span.attributes.get("tokenguard.tool.steps", 0) for span in spans] == [0, 1, 2]
    assert [span.attributes.get("tokenguard.tool.calls", 0) for span in spans] == [1, 1, 0]


def test_not_a_model_call(client, provider, installed, spans):
    """Counting tokens costs nothing and is no call, nor are lists of models."""
    with pytest.raises(errors.ClientError):
        client.models.count_tokens(model=FLASH, contents=QUESTION)
    assert len(spans) == 0


def test_caches(installed, spans):
    """Counting tokens is no call; making a cache rents it; what is read from a cache is priced as that."""
    usage = {"promptTokenCount": 5000, "cachedContentTokenCount": 4000, "candidatesTokenCount": 10}

    def answer(asked):
        if "cachedContents" in asked.path:
            return {"name": "cachedContents/c1", "model": f"models/{FLASH}", "usageMetadata": {"totalTokenCount": 4000}}
        if "countTokens" in asked.path:
            return {"totalTokens": 5000, "cachedContentTokenCount": 4000}
        candidate = {"content": {"role": "model", "parts": [{"text": "Yes."}]}, "finishReason": "STOP", "index": 0}
        return {"candidates": [candidate], "modelVersion": FLASH, "usageMetadata": {**usage, "totalTokenCount": 5010}}

    with Loopback(answer) as running, genai.Client(api_key="k", http_options=options(running)) as client:
        made = client.caches.create(model=FLASH, config={"contents": [QUESTION], "ttl": "60s"})
        client.caches.get(name=made.name)
        client.models.count_tokens(model=FLASH, contents=QUESTION)
        assert spans.attributes["gen_ai.operation.name"] == "create_cache"
        spans.clear()
        client.models.generate_content(model=FLASH, contents=QUESTION, config={"cached_content": made.name})
        assert running.asked[-1].body["cachedContent"] == "cachedContents/c1"
    attributes = spans.attributes
    assert attributes["gen_ai.usage.input_tokens"] == 5000
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4000
    assert attributes["tokenguard.cost.cache_read_usd"] == pytest.approx(4000 * 0.03e-6)
    assert attributes["tokenguard.cost.input_usd"] == pytest.approx(1000 * 0.3e-6)
    assert attributes["tokenguard.cost.saved_usd"] == pytest.approx(4000 * 0.27e-6)


# --- endings ---------------------------------------------------------------------------------------------------------


def test_abandoned(client, installed, spans):
    """A stream that is dropped half-read ends its span at once, with an estimate."""
    for _ in client.models.generate_content_stream(model=FLASH, contents=QUESTION):
        break
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.basis == "abandoned_stream"
    assert record.cost.output > 0
    assert record.usage.output is None


def test_never_read(client, provider, installed, spans):
    """A stream that is never begun is no call: the SDK sends it when it is read."""
    before = len(provider.requests)
    client.models.generate_content_stream(model=FLASH, contents=QUESTION)
    gc.collect()
    assert len(provider.requests) == before
    assert len(spans) == 0


def test_broken_stream(client, provider, installed, spans):
    """An error that the provider reports in mid-stream is the call's error."""
    provider.fail_next("stream_error", after=1)
    with pytest.raises(errors.APIError):
        list(client.models.generate_content_stream(model=FLASH, contents=QUESTION))
    gc.collect()
    assert installed.records[-1].outcome == "error"
    assert spans.attributes["error.type"] == "UNAVAILABLE"


def test_refused(client, provider, installed, spans):
    """A request that the provider refuses costs nothing."""
    provider.fail_next(400)
    with pytest.raises(errors.ClientError):
        client.models.generate_content(model=FLASH, contents=QUESTION)
    assert spans.attributes["error.type"] == "google.genai.errors.ClientError"
    assert "tokenguard.cost.status" not in spans.attributes


def test_cancelled(provider, installed, spans):
    """A cancelled call ends its span."""

    async def work(client):
        call = asyncio.ensure_future(client.models.generate_content(model=FLASH, contents=QUESTION))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    provider.fail_next("delay", seconds=0.3)
    asynchronously(provider, work)
    assert installed.records[-1].outcome == "abandoned"
    assert installed.records[-1].cost.basis == "cancelled"


def test_missing_usage(client, provider, installed, spans):
    """Where the provider tells no usage the cost is an estimate, and no tokens are recorded as facts."""
    provider.fail_next("missing_usage")
    client.models.generate_content(model=FLASH, contents=QUESTION)
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"
    assert "gen_ai.usage.input_tokens" not in spans.attributes


# --- resends ---------------------------------------------------------------------------------------------------------

QUICK = {"initial_delay": 0.01, "max_delay": 0.01, "jitter": 0.01}


@pytest.mark.parametrize("where", ["client", "request"])
def test_resends(where, provider, installed, spans):
    """What tenacity sends again is seen, whether the client or the request asks for it."""
    retry = types.HttpRetryOptions(attempts=4, **QUICK)
    with genai.Client(
        api_key="k", http_options=options(provider, **({"retry_options": retry} if where == "client" else {}))
    ) as client:
        config = {} if where == "client" else {"http_options": {"retry_options": retry}}
        provider.fail_next(503, times=2)
        client.models.generate_content(model=FLASH, contents=QUESTION, config=config)
    assert spans.attributes["http.request.resend_count"] == 2


def test_resend_of_its_own(provider, installed, spans, monkeypatch):
    """The one resend that the SDK makes on aiohttp untold is seen too, and no error that an application handles."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("google.genai._api_client.random.randint", lambda least, most: -1)  # else it waits for seconds

    async def work(client):
        try:
            raise ConnectionError
        except ConnectionError:
            await client.models.generate_content(model=FLASH, contents="Hello?")
        provider.fail_next("refuse_connection")
        await client.models.generate_content(model=FLASH, contents=QUESTION)

    asynchronously(provider, work)
    assert [span.attributes.get("http.request.resend_count", 0) for span in spans] == [0, 1]


def test_clients_from_before(provider, installed, spans):
    """A client that was made before `install()` is measured as well, its resends too."""
    tokenguard.uninstall()
    retry = types.HttpRetryOptions(attempts=3, **QUICK)
    with genai.Client(api_key="k", http_options=options(provider, retry_options=retry)) as client:
        tokenguard.install()
        provider.fail_next(503)
        client.models.generate_content(model=FLASH, contents=QUESTION)
    assert spans.attributes["http.request.resend_count"] == 1


def test_resends_are_capped(provider, under, spans):
    """`max_retries` holds for tenacity's resends, in both kinds of client."""
    under('[[limit]]\nname = "few"\nmax_retries = 1\nthen = "block"')
    retry = types.HttpRetryOptions(attempts=5, **QUICK)
    with genai.Client(api_key="k", http_options=options(provider, retry_options=retry)) as client:
        before = len(provider.requests)
        provider.fail_next(503, times=2)
        with pytest.raises(errors.ServerError):
            client.models.generate_content(model=FLASH, contents=QUESTION)
        assert len(provider.requests) == before + 2

    async def work(client):
        provider.fail_next(503, times=2)
        with pytest.raises(errors.ServerError):
            await client.models.generate_content(model=FLASH, contents="Something else?")

    asynchronously(provider, work, retry_options=retry)
    assert len(provider.requests) == before + 4
    assert [span.attributes["http.request.resend_count"] for span in spans] == [1, 1]


# --- the guard -------------------------------------------------------------------------------------------------------


def test_clamp(client, provider, under, spans):
    """The cap goes into `generationConfig`, beside what is there."""
    under('[[limit]]\nname = "short"\nmax_output_tokens = 20\nthen = "clamp"')
    client.models.generate_content(model=FLASH, contents=QUESTION, config={"temperature": 0.5})
    assert provider.requests[-1].body["generationConfig"] == {"temperature": 0.5, "maxOutputTokens": 20}
    assert provider.requests[-1].billed.output <= 20
    client.models.generate_content(model=FLASH, contents=QUESTION, config={"max_output_tokens": 500})
    assert provider.requests[-1].body["generationConfig"]["maxOutputTokens"] == 20
    assert spans.all()[-1].attributes["tokenguard.guard.original_max_tokens"] == 500


@pytest.mark.parametrize("which", ["client", "vertex"])
def test_downgrade(which, request, provider, under, spans):
    """A downgrade goes into the URL, where the model is, and nothing else of it changes."""
    caller = request.getfixturevalue(which)
    under(
        '[[limit]]\nname = "cheap"\nmax_cost_usd = 0.00001\nthen = "downgrade"\ndowngrade_to = "gemini-2.5-flash-lite"'
    )
    list(caller.models.generate_content_stream(model="gemini-2.5-pro", contents=QUESTION))
    path = provider.requests[-1].path
    assert path.endswith("/models/gemini-2.5-flash-lite:streamGenerateContent")
    assert ("/publishers/google/" in path) == (which == "vertex")
    assert "model" not in json.dumps(provider.requests[-1].body["contents"])
    assert spans.attributes["tokenguard.guard.original_model"] == "gemini-2.5-pro"
    assert spans.attributes["gen_ai.request.model"] == "gemini-2.5-flash-lite"


def test_downgrade_of_embeddings(client, provider, under, spans):
    """Each request of a batch of embeddings names the model again, and all of them follow."""
    under(
        '[[limit]]\nname = "cheap"\nmax_input_tokens = 1\nthen = "downgrade"\ndowngrade_to = "gemini-embedding-small"'
    )
    client.models.embed_content(model="gemini-embedding-001", contents=["Hello", "world"])
    body = provider.requests[-1].body
    assert {each["model"] for each in body["requests"]} == {"models/gemini-embedding-small"}


def test_tool_steps(client, provider, under, spans):
    """A run that goes on calling functions is stopped, by the rounds in its own contents."""
    under('[[limit]]\nname = "steps"\nmax_tool_steps = 1\nthen = "block"')

    def look_up(topic: str) -> str:
        """Look a topic up."""
        return "not found, try again"

    with pytest.raises(LimitExceeded, match="tool rounds 2"):
        client.models.generate_content(model=FLASH, contents=QUESTION, config={"tools": [look_up]})
    assert [span.attributes.get("tokenguard.guard.action") for span in spans] == [None, None, "block"]


def test_budget(client, provider, under, spans):
    """A budget holds the worst case, candidates counted, and refuses what would pass it."""
    under('[[budget]]\nname = "tiny"\nwindow = "total"\nlimit_usd = 0.002\n[ledger]\nurl = "memory:"')
    config = {"max_output_tokens": 400}
    client.models.generate_content(model=FLASH, contents=QUESTION, config=config)
    before = len(provider.requests)
    with pytest.raises(BudgetExceeded, match="tiny"):
        client.models.generate_content(model=FLASH, contents=QUESTION, config={**config, "candidate_count": 8})
    assert len(provider.requests) == before


def test_identical_calls_share(provider, under, spans):
    """Identical calls at the same time share one answer, where the policy lets them."""
    under('[[share]]\nname = "same"')
    provider.fail_next("delay", seconds=0.2)
    before = len(provider.requests)

    async def work(client):
        call = client.models.generate_content
        return await asyncio.gather(*(call(model=FLASH, contents=QUESTION) for _ in range(3)))

    answers = asynchronously(provider, work)
    assert len({answer.text for answer in answers}) == 1
    assert len(provider.requests) == before + 1
    told = [span.attributes.get("tokenguard.cache.result") for span in spans]
    assert sorted(told, key=str) == [None, "shared", "shared"]
