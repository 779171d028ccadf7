"""Integrations that send with an HTTP client of their own: measured and guarded as an SDK is.

`make matrix` installs them in environments of their own; elsewhere they are skipped.
"""

from __future__ import annotations

import gc

import pytest

import connections
import tokenguard
from policies import short_and_cheap
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
MODEL = "mistral-small-latest"
ASK = "Find part 4711 in any warehouse."
CAP = 40


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
def provider(running, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    running.requests.clear()
    running.faults._script.clear()
    return running


@pytest.fixture
def mistral(provider):
    """Langchain's chat model for Mistral, made before TokenGuard is there."""
    tokenguard.uninstall()
    module = pytest.importorskip("langchain_mistralai")
    return module.ChatMistralAI(
        model_name=MODEL, endpoint=provider.openai_url, api_key="k", max_tokens=CAP, max_retries=1
    )


def invoke(chat):
    chat.invoke(ASK)


def stream(chat):
    list(chat.stream(ASK))


def ainvoke(chat):
    connections.run(chat.ainvoke(ASK))


def astream(chat):
    async def run():
        async for _ in chat.astream(ASK):
            pass

    connections.run(run())


WAYS = (invoke, stream, ainvoke, astream)


@pytest.mark.parametrize("way", WAYS)
def test_mistral(way, mistral, provider, installed, spans):
    """One span, with the provider's own count, its name and a price."""
    with tokenguard.attribution(tenant="acme"), tokenguard.meter() as measured:
        way(mistral)
        gc.collect()
    (sent,) = provider.requests
    assert measured.calls == 1
    assert spans.attributes["gen_ai.provider.name"] == "mistral_ai"
    assert spans.attributes["gen_ai.request.model"] == MODEL
    assert spans.attributes["gen_ai.usage.input_tokens"] == sent.billed.input
    assert spans.attributes["gen_ai.usage.output_tokens"] == sent.billed.output
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    assert spans.attributes["tokenguard.tenant"] == "acme"
    assert spans.attributes.get("gen_ai.request.stream", False) == ("stream" in way.__name__)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_mistral_embeddings(asynchronous, provider, installed, spans):
    """A request of many texts is one span; an attempt that failed is one as well."""
    module = pytest.importorskip("langchain_mistralai")
    made = module.MistralAIEmbeddings(endpoint=provider.openai_url, api_key="k", max_retries=2, wait_time=0)
    provider.fail_next(429)
    if asynchronous:
        vectors = connections.run(made.aembed_documents(["a plan", "a warranty"]))
    else:
        vectors = made.embed_documents(["a plan", "a warranty"])
    assert len(vectors) == 2
    refused, answered = spans
    assert refused.attributes["error.type"] == "429"
    assert answered.attributes["gen_ai.operation.name"] == "embeddings"
    assert answered.attributes["gen_ai.usage.input_tokens"] == provider.requests[-1].billed.input
    assert answered.attributes["tokenguard.retry.attempt"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_mistral_is_guarded(way, mistral, provider, installed, spans):
    """Its cap and its model are replaced on the way, and what is too much is not sent."""
    tokenguard.install(policy.loads(short_and_cheap("mistral-tiny-2407")))
    way(mistral)
    gc.collect()
    (sent,) = provider.requests
    assert (sent.body["max_tokens"], sent.model) == (7, "mistral-tiny-2407")
    assert spans.attributes["tokenguard.guard.original_max_tokens"] == CAP
    assert spans.attributes["gen_ai.usage.output_tokens"] == sent.billed.output <= 7
    tokenguard.install(policy.loads('[[limit]]\nname = "tiny"\nmax_input_tokens = 1'))
    with pytest.raises(LimitExceeded):
        way(mistral)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("way", WAYS)
def test_mistral_refused(way, mistral, provider, installed, spans):
    """A refusal raises what it always did, and costs nothing."""
    provider.fail_next(400)
    with pytest.raises(Exception, match="400"):
        way(mistral)
    assert spans.attributes["error.type"] == "400"
    assert "tokenguard.cost.status" not in spans.attributes


@pytest.mark.parametrize("way", [invoke, stream])
def test_uninstalled(way, mistral, provider, installed, spans):
    """After `uninstall()` the client that was watched sends as before, and after another `install()` it is watched."""
    way(mistral)
    tokenguard.uninstall()
    way(mistral)
    gc.collect()
    assert len(spans) == 1
    tokenguard.install()
    way(mistral)
    gc.collect()
    assert len(spans) == 2
    assert len(provider.requests) == 3
    assert not any("http.request.resend_count" in span.attributes for span in spans)


# --- dspy, whose own engine has an HTTP client of its own -------------------------------------------------------------

DSPY = {
    # where it is, and where the cap is
    "openai/gpt-4.1-mini": ("/v1", lambda body: body.get("max_completion_tokens") or body["max_tokens"]),
    "anthropic/claude-sonnet-4-6": ("/v1", lambda body: body["max_tokens"]),
    "gemini/gemini-2.5-flash": ("", lambda body: body["generationConfig"]["maxOutputTokens"]),
}


def called(lm):
    lm(ASK)


def acalled(lm):
    connections.run(lm.acall(ASK))


@pytest.fixture
def native(provider):
    """Makes a model of dspy's that goes through its own engine."""
    dspy = pytest.importorskip("dspy")
    pytest.importorskip("dspy._vendor.lm15")

    def make(name):
        return dspy.LM(
            name, api_base=provider.url + DSPY[name][0], api_key="k", cache=False, engine="lm15", max_tokens=CAP
        )

    return make


@pytest.mark.parametrize("way", [called, acalled])
@pytest.mark.parametrize("name", DSPY)
def test_dspy(name, way, native, provider, installed, spans):
    """One span, with the provider's own count, under the caller's attribution."""
    with tokenguard.attribution(tenant="acme"), tokenguard.meter() as measured:
        way(native(name))
        gc.collect()
    (sent,) = provider.calls
    assert "lm15" in sent.headers["user-agent"]
    assert measured.calls == 1
    assert measured.records[0].outcome == "ok"
    assert spans.attributes["gen_ai.request.model"] == name.partition("/")[2]
    assert spans.attributes["gen_ai.usage.input_tokens"] == sent.billed.input
    assert spans.attributes["gen_ai.usage.output_tokens"] == sent.billed.output
    assert spans.attributes["tokenguard.tenant"] == "acme"


@pytest.mark.parametrize("way", [called, acalled])
@pytest.mark.parametrize("name", DSPY)
def test_dspy_is_guarded(name, way, native, provider, installed, spans):
    """Its cap is replaced on the way, and what is too much is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "short"\nmax_output_tokens = 7\nthen = "clamp"'))
    way(native(name))
    gc.collect()
    (sent,) = provider.calls
    assert DSPY[name][1](sent.body) == 7
    assert spans.attributes["gen_ai.usage.output_tokens"] == sent.billed.output <= 7
    tokenguard.install(policy.loads('[[limit]]\nname = "tiny"\nmax_input_tokens = 1'))
    with pytest.raises(Exception, match="tiny"):
        way(native(name))
    assert len(provider.calls) == 1


@pytest.mark.parametrize("way", [called, acalled])
def test_dspy_refused(way, native, provider, installed, spans):
    """A refusal raises dspy's error, and costs nothing."""
    provider.fail_next(400)
    with pytest.raises(Exception, match=r"400|not valid"):
        way(native("openai/gpt-4.1-mini"))
    assert spans.attributes["error.type"] == "400"
    assert "tokenguard.cost.status" not in spans.attributes
