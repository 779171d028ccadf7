"""`tokenguard.batch`: results in the order of the requests, resumable by its id, under the same budgets."""

from __future__ import annotations

import io

import anthropic
import openai
import pytest

import tokenguard
from batches.conftest import CLAUDE, MODEL, hand
from tokenguard import BatchError, BudgetExceeded, policy
from tokenguard.process import progress

POLICY = """
[[budget]]
name = "b"
limit_usd = 0.000001
window = "total"
[ledger]
url = "memory:"
"""


def bodies(count, model=MODEL, **more):
    return [
        {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": f"Say {n}."}], **more}
        for n in range(count)
    ]


def test_results_come_in_the_order_of_the_requests(installed, provider, client):
    """The provider gives results in any order; here they stand as they were asked, and cost is known at once."""
    provider.answer_next(*[f"answer {n}" for n in range(6)])
    seen = []
    with tokenguard.meter() as measured:
        results = tokenguard.batch(client, bodies(6), progress=seen.append, poll=0.01)
    texts = [result.response["choices"][0]["message"]["content"] for result in results]
    assert texts == [f"answer {n}" for n in range(6)]
    assert [each.state for each in seen] == ["created", "in_progress", "completed"]
    assert (seen[-1].done, seen[-1].total, seen[-1].id) == (6, 6, results.id)
    assert measured.cost_usd == pytest.approx(hand(provider.billed_for(api="batch")), rel=1e-12)
    assert measured.records[0].attributes["code.file.path"] == __file__


def test_bar(installed, provider, client, monkeypatch):
    """With `progress=True` a terminal shows how many lines are done; the results are the same."""
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.005)
    monkeypatch.setattr("sys.stderr", out)
    assert len(tokenguard.batch(client, bodies(6), progress=True, poll=0.3)) == 6
    assert "in_progress" in out.getvalue()
    assert "of 6" in out.getvalue()


def test_it_goes_on_from_its_id(installed, provider, client):
    """After a crash the id is enough; nothing is created or counted twice."""
    with pytest.raises(TimeoutError, match=r"It goes on: tokenguard\.batch") as late, tokenguard.meter() as measured:
        tokenguard.batch(client, bodies(3), timeout=0, poll=0.01)
    (name,) = provider.desk.batches
    assert name in str(late.value)
    results = tokenguard.batch(client, id=name, poll=0.01)
    assert [result.custom_id for result in results] == ["request-000000", "request-000001", "request-000002"]
    assert tokenguard.batch(client, id=name) == results
    assert (len(provider.desk.batches), measured.calls) == (1, 3)


def test_anthropic(installed, provider, claude):
    """The same with Anthropic's client; lines that were not run say why."""
    provider.end_next_batch("expired", 2)
    results = tokenguard.batch(claude, bodies(3, CLAUDE), poll=0.01)
    assert [result.error for result in results] == [None, None, "expired"]
    assert results[0].response["type"] == "message"


async def test_asynchronous_clients(installed, provider):
    """With an asynchronous client it is awaited, and blocks nothing."""
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        results = await tokenguard.batch(client, bodies(2), poll=0.01)
    assert all(result.response for result in results)
    async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as client:
        results = await tokenguard.batch(client, bodies(2, CLAUDE), poll=0.01)
    assert all(result.response for result in results)


def test_a_batch_that_fails_as_a_whole(installed, provider, client):
    """The provider could not read the input: an error with its words and the id."""
    provider.end_next_batch("failed", 0)
    with pytest.raises(BatchError, match="Nothing was run") as failed:
        tokenguard.batch(client, bodies(1), poll=0.01)
    assert failed.value.id in provider.desk.batches


def test_budgets_hold_for_it(installed, provider, client):
    """A batch that may be too dear is refused before anything is sent; without TokenGuard installed it runs as well."""
    tokenguard.install(policy.loads(POLICY))
    try:
        with pytest.raises(BudgetExceeded):
            tokenguard.batch(client, bodies(3))
        assert provider.desk.batches == {}
    finally:
        tokenguard.install(policy.Policy())
    tokenguard.uninstall()
    assert len(tokenguard.batch(client, bodies(3), poll=0.01)) == 3
    with pytest.raises(TypeError, match="either requests, or the id"):
        tokenguard.batch(client)
