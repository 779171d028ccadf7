"""Embeddings of several inputs: only those that are not kept are sent, and the answer is the one to all."""

from __future__ import annotations

import json

import httpx2
import openai
import pytest

import connections
import tokenguard
from exported import metric_points
from tokenguard import policy
from tokenguard.facts import names
from tokenguard.installation import runtime
from tokenguard.policy import Policy

RULE = '[[cache]]\nname = "vectors"\nper = []\n'


class Provider:
    """Answers with a vector that tells the text, and counts a token for each letter."""

    def __init__(self):
        self.inputs = []
        self.lost = 0
        self.once = False

    def __call__(self, request):
        asked = json.loads(request.content)
        self.inputs.append(asked["input"])
        data = [
            {"object": "embedding", "index": n, "embedding": [float(ord(letter)) for letter in text]}
            for n, text in enumerate(asked["input"])
        ]
        tokens = sum(map(len, asked["input"]))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = {"object": "list", "data": data[self.lost :], "model": asked["model"], "usage": usage}
        if self.once:
            self.lost, self.once = 0, False
        return httpx2.Response(200, json=body)


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def client(provider):
    return openai.OpenAI(
        api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(provider)), max_retries=0
    )


@pytest.fixture
def keeping(installed):
    def put(more=""):
        tokenguard.install(policy.loads(RULE + more, "tokenguard.toml"))
        return runtime.installed().meter.guard

    yield put
    tokenguard.install(Policy())


def embed(client, *texts, **more):
    return client.embeddings.create(model="text-embedding-3-small", input=list(texts), encoding_format="float", **more)


def said(answer):
    return ["".join(chr(int(each)) for each in item.embedding) for item in answer.data]


def test_only_the_missing_are_sent(provider, client, keeping, spans):
    """What is kept is not sent again; the answer has all vectors in their places, and the usage of what was sent."""
    keeping()
    first = embed(client, "alpha", "be", "gamma")
    some = embed(client, "gamma", "new", "alpha", "newer")
    assert provider.inputs == [["alpha", "be", "gamma"], ["new", "newer"]]
    assert said(first) == ["alpha", "be", "gamma"]
    assert said(some) == ["gamma", "new", "alpha", "newer"]
    assert [item.index for item in some.data] == [0, 1, 2, 3]
    assert some.usage.prompt_tokens == 8
    miss, partial = (span.attributes for span in spans.all())
    assert (miss[names.CACHE_RESULT], miss.get(names.CACHE_REASON)) == ("miss", None)
    assert (partial[names.CACHE_RESULT], partial[names.CACHE_REASON]) == ("hit", "partial")
    assert partial[names.INPUT_TOKENS] == 8
    assert partial[names.COST] == pytest.approx(8 * 0.02e-6)
    assert partial[names.CACHE_SAVED] == pytest.approx(10 * 0.02e-6)


def test_all_are_kept(provider, client, keeping, spans):
    """Where every input is kept, nothing is sent, and the answer equals the first one."""
    keeping()
    first = embed(client, "alpha", "be", "gamma")
    assert embed(client, "alpha", "be", "gamma") == first
    assert said(embed(client, "gamma", "gamma")) == ["gamma", "gamma"]
    assert len(provider.inputs) == 1
    served = spans.all()[1].attributes
    assert served[names.COST] == 0.0
    assert served[names.CACHE_SAVED] == pytest.approx(12 * 0.02e-6)
    assert names.INPUT_TOKENS not in served


def test_other_settings_are_other_vectors(provider, client, keeping):
    """Another model, or another length of the vectors, is another entry."""
    keeping()
    embed(client, "alpha", "be")
    embed(client, "alpha", "be", dimensions=256)
    client.embeddings.create(model="text-embedding-3-large", input=["alpha", "be"], encoding_format="float")
    assert len(provider.inputs) == 3


def test_async_and_raw(provider, keeping):
    """Asynchronously, and through raw and streaming responses."""
    keeping()
    client = openai.AsyncOpenAI(
        api_key="k", http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(provider)), max_retries=0
    )

    async def ask():
        await embed(client, "alpha", "be")
        raw = await embed(client.with_raw_response, "be", "new")
        asked = {"model": "text-embedding-3-small", "input": ["new", "x", "alpha"], "encoding_format": "float"}
        async with client.embeddings.with_streaming_response.create(**asked) as response:
            return raw.parse(), json.loads(await response.read())

    raw, streamed = connections.run(ask())
    assert said(raw) == ["be", "new"]
    assert [item["index"] for item in streamed["data"]] == [0, 1, 2]
    assert provider.inputs == [["alpha", "be"], ["new"], ["x"]]


def test_budget_pays_for_what_is_sent(provider, client, keeping):
    """Only the missing inputs are reserved and charged."""
    guard = keeping('[[budget]]\nname = "b"\nlimit_tokens = 1000\n[ledger]\nurl = "memory:"\n')
    embed(client, "alpha", "be")
    embed(client, "alpha", "new")
    (account,) = guard.ledger.accounts()
    assert account.spent_tokens == 10


@pytest.mark.parametrize("lost", [1, 2])
def test_vectors_that_do_not_come(lost, provider, client, keeping, spans):
    """A provider that sends fewer than were asked for: the whole request is sent, its answer given as it is.

    Nothing is kept of it, nor of what came before: a provider that does so always gets each request once.
    """
    keeping()
    embed(client, "alpha", "be")
    provider.lost = lost
    assert said(embed(client, "alpha", "new", "newer")) == ["alpha", "new", "newer"][lost:]
    assert provider.inputs[1:] == [["new", "newer"], ["alpha", "new", "newer"]]
    span = spans.all()[-1].attributes
    assert (span[names.CACHE_RESULT], span[names.CACHE_REASON]) == ("miss", "error")
    assert span[names.RESEND_COUNT] == 1
    assert span[names.INPUT_TOKENS] == 13
    assert not {names.CACHE_SAVED, names.CACHE_AGE} & set(span)
    assert said(embed(client, "alpha", "new", "newer")) == ["alpha", "new", "newer"][lost:]
    provider.lost = 0
    assert said(embed(client, "alpha", "new", "newer")) == ["alpha", "new", "newer"]
    assert said(embed(client, "newer", "be")) == ["newer", "be"]
    assert provider.inputs[3:] == [["alpha", "new", "newer"]] * 2


def test_vectors_that_come_at_the_second_time(provider, client, keeping):
    """The answer to the whole request is kept like any other, asynchronously and raw too."""
    keeping()
    embed(client, "alpha", "be")
    provider.lost, provider.once = 1, True
    assert said(embed(client, "alpha", "new", "newer")) == ["alpha", "new", "newer"]
    assert said(embed(client, "newer", "alpha", "new")) == ["newer", "alpha", "new"]
    assert len(provider.inputs) == 3
    again = openai.AsyncOpenAI(
        api_key="k", http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(provider)), max_retries=0
    )

    async def ask():
        provider.lost, provider.once = 1, True
        return (await embed(again.with_raw_response, "alpha", "other", "more")).parse()

    assert said(connections.run(ask())) == ["alpha", "other", "more"]
    assert provider.inputs[3:] == [["other", "more"], ["alpha", "other", "more"]]


def test_budget_that_is_full_before_the_second_time(provider, client, keeping):
    """Sending the whole request needs room in the budget, as every resend of a billed request does."""
    keeping('[[budget]]\nname = "b"\nlimit_tokens = 14\n[ledger]\nurl = "memory:"\n')
    embed(client, "alpha", "be")
    provider.lost = 1
    with pytest.raises(tokenguard.BudgetExceeded):
        embed(client, "alpha", "a longer one", "newer")
    assert len(provider.inputs) == 2


def test_observed(provider, client, keeping, spans):
    """Only watched, everything is sent."""
    tokenguard.install(policy.loads('mode = "observe"\n' + RULE, "tokenguard.toml"))
    for _ in range(2):
        embed(client, "alpha", "be")
    embed(client, "alpha", "new")
    assert [len(each) for each in provider.inputs] == [2, 2, 2]
    assert [span.attributes.get(names.CACHE_REASON) for span in spans.all()] == [None, "observe", None]
    tokenguard.install(Policy())


def test_metrics(provider, client, keeping):
    """A part that was kept is a saving of the same lever; the call is not one that was served."""
    keeping('[attribution]\ndefaults = { tenant = "each" }\n')
    embed(client, "alpha", "be")
    embed(client, "alpha", "new")
    points = metric_points(tenant="each")
    (saved,) = [value for (name, key), value in points.items() if name == "tokenguard.saved.usd"]
    assert saved == pytest.approx(5 * 0.02e-6)
    (calls,) = [value for (name, key), value in points.items() if name == "tokenguard.calls"]
    assert calls == 2
