"""Batches under budgets: held when created, settled when collected, refused before anything starts."""

from __future__ import annotations

import openai
import pytest

import tokenguard
from batches.conftest import CLAUDE, create, finished, hand, line, request, text_of
from exported import metric_points
from tokenguard import BudgetExceeded
from tokenguard.batches.held import reservation
from tokenguard.installation import runtime


@pytest.fixture
def under(under):
    """Put what follows under a policy; returns the guard."""
    return lambda text, ledger="memory:", first="": under(f'{first}\n[ledger]\nurl = "{ledger}"\n{text}')


def budget(limit, **more):
    rows = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f'[[budget]]\nname = "jobs"\nlimit_usd = {limit}\nwindow = "total"\n{rows}'


def balance(guard):
    (account,) = guard.ledger.accounts()
    return account.spent_nano / 1e9, account.reserved_nano / 1e9


def settled(guard):
    runtime.installed().telemetry.flush()
    return balance(guard)


def test_held_when_created_and_settled_when_collected(under, provider, client):
    """Half the dearest price of every byte and cap is held until the results are read, then what they came to."""
    guard = under(budget(1))
    batch = create(client, [line(n) for n in range(10)])
    spent, reserved = settled(guard)
    assert spent == 0
    assert 10 * 20 * 0.30 / 1e6 < reserved < 0.001
    batch = finished(client, batch)
    assert settled(guard) == (0, reserved)
    client.files.content(batch.output_file_id).read()
    spent, reserved = settled(guard)
    assert reserved == 0
    assert spent == pytest.approx(hand(provider.billed_for(api="batch")), abs=10e-9)  # a nano-dollar a line, at most
    client.files.content(batch.output_file_id).read()
    assert settled(guard) == (spent, 0)


def test_refused_before_anything_starts(under, provider, client):
    """A batch that may pass what is left raises at its creation; the provider hears nothing, and it is told."""
    guard = under(budget(0.0001))
    with (
        tokenguard.attribution(tenant="batch-refused"),
        pytest.raises(BudgetExceeded, match="the worst case of this batch is"),
    ):
        create(client, [line(n, max_tokens=2000) for n in range(10)])
    assert provider.desk.batches == {}
    assert settled(guard) == (0, 0)
    points = metric_points(tenant="batch-refused")
    assert [of for (name, of) in points if name == "tokenguard.calls" and ("outcome", "blocked") in of]


def test_counted_where_the_bound_does_not_fit(under, provider, client):
    """A text's length says at most how many tokens it has; where that is too much, the lines are counted."""
    text = "responsibilities " * 200  # 3,400 bytes, some 200 tokens
    lines = [line(n, text=text) for n in range(20)]
    guard = under(budget(20 * (250 * 0.075 + 20 * 0.30) / 1e6))
    batch = create(client, lines)
    _, reserved = settled(guard)
    assert reserved <= 20 * (250 * 0.075 + 20 * 0.30) / 1e6
    client.files.content(finished(client, batch).output_file_id).read()
    assert settled(guard)[1] == 0


def test_a_failed_batch_gives_back(under, provider, client, claude):
    """Cancelled before a line was answered: nothing is billed, and nothing stays held. Anthropic's as well."""
    guard = under(budget(1))
    provider.end_next_batch("cancelled", 0)
    batch = create(client, [line(0)])
    assert settled(guard)[1] > 0
    finished(client, batch)
    assert settled(guard) == (0, 0)
    provider.end_next_batch("expired", 0)
    other = claude.messages.batches.create(requests=[request(0)])
    assert settled(guard)[1] > 0
    claude.messages.batches.retrieve(other.id)
    claude.messages.batches.retrieve(other.id)
    assert settled(guard) == (0, 0)


def test_a_creation_that_fails_gives_back(under, provider, client):
    """The provider refuses to create it: what was held is free."""
    guard = under(budget(1))
    provider.fail_next(400, path="/batches")
    with pytest.raises(openai.BadRequestError):
        create(client, [line(0)])
    assert settled(guard) == (0, 0)


def test_models_of_one_batch_fall_under_their_own_budgets(under, provider, claude):
    """Anthropic takes lines of several models: each is held, and settled, where its own model belongs."""
    rows = [
        f'[[budget]]\nname = "{name}"\nlimit_usd = 1\nwindow = "total"\nwhen = {{ model = "{glob}" }}\n'
        for name, glob in (("small", "claude-haiku*"), ("large", "claude-sonnet*"))
    ]
    guard = under("".join(rows))
    batch = claude.messages.batches.create(requests=[request(0), request(1, model="claude-sonnet-4-5"), request(2)])
    runtime.installed().telemetry.flush()
    assert {each.budget: each.reserved_nano > 0 for each in guard.ledger.accounts()} == {"small": True, "large": True}
    claude.messages.batches.retrieve(batch.id)
    claude.messages.batches.retrieve(batch.id)
    list(claude.messages.batches.results(batch.id))
    runtime.installed().telemetry.flush()
    spent = {each.budget: each.spent_nano / 1e9 for each in guard.ledger.accounts()}
    small, large = provider.billed_for(CLAUDE, "batch"), provider.billed_for("claude-sonnet-4-5", "batch")
    assert spent["small"] == pytest.approx(hand(small, CLAUDE), abs=3e-9)
    assert spent["large"] == pytest.approx((large.input * 1.5 + large.output * 7.5) / 1e6, abs=3e-9)


def test_a_second_model_that_does_not_fit_frees_the_first(under, provider, claude):
    """All of a batch is held, or nothing."""
    row = '[[budget]]\nname = "large"\nlimit_usd = 0.0000001\nwindow = "total"\nwhen = { model = "claude-sonnet*" }\n'
    guard = under(budget(1) + row)
    with pytest.raises(BudgetExceeded, match='"large"'):
        claude.messages.batches.create(requests=[request(0), request(1, model="claude-sonnet-4-5")])
    runtime.installed().telemetry.flush()
    assert {each.budget: each.reserved_nano for each in guard.ledger.accounts()}.get("jobs", 0) == 0


def test_an_input_that_nobody_saw_is_refused(under, provider, client, installed):
    """Of a file that was uploaded elsewhere nobody knows what it may cost; a budget does not guess."""
    tokenguard.uninstall()
    file = client.files.create(file=("x.jsonl", text_of([line(0)])), purpose="batch")
    tokenguard.install()
    under(budget(1))
    ask = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(BudgetExceeded, match="did not see the upload"):
        client.batches.create(**ask)
    under(budget(1), first='unpriced = "allow"')
    assert client.batches.create(**ask).id


def test_a_downgrade_is_a_refusal(under, provider, client):
    """Lines are not sent to another model: a budget that would downgrade refuses, and says so."""
    under(budget(0.0000001, then="downgrade", downgrade_to="gpt-4.1-nano"))
    with pytest.raises(tokenguard.GuardrailViolation, match="lines of a batch are not sent to another model"):
        create(client, [line(0)])


def test_another_process_settles(under, provider, client, tmp_path, monkeypatch):
    """What the store keeps of a reservation is enough to settle it, with a ledger in a file."""
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "usage.db"))
    guard = under(budget(1), f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = create(client, [line(0)])
    runtime.installed().telemetry.flush()
    (held,) = runtime.installed().meter.batches.made().jobs.find(batch.id).held
    again = reservation(held)
    assert again.expires - guard.ledger.now() > 47 * 3600
    guard.ledger.settle(again, 123, 5)
    assert balance(guard) == (123 / 1e9, 0)


async def test_asynchronous_clients_are_held_to_it(under, provider):
    """The same for an asynchronous client, with a ledger that blocks."""
    guard = under(budget(0.0001))
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        content = text_of([line(n, max_tokens=2000) for n in range(10)])
        file = await client.files.create(file=("x.jsonl", content), purpose="batch")
        with pytest.raises(BudgetExceeded):
            await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert balance(guard) == (0, 0)
