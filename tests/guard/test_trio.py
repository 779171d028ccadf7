"""Calls in trio's event loop: budgets hold there as in asyncio's, and who is cancelled leaves nothing reserved."""

from __future__ import annotations

import time

import pytest

import tokenguard
from canned import MESSAGES, Script, async_openai_client
from tokenguard import policy
from tokenguard.installation import runtime

trio = pytest.importorskip("trio")

ASK = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 50}


@pytest.fixture
def ledger(installed, tmp_path):
    """A file's ledger, whose operations are done by threads, with room for some 3 calls."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    tokenguard.install(policy.loads(f'[ledger]\nurl = "{url}"\n[[budget]]\nname = "b"\nlimit_usd = 0.0001\n'))
    return runtime.installed().meter.guard.ledger


def test_a_budget_holds(installed, ledger):
    """Calls are sent until the budget is spent, and refused from then on."""
    script = Script()
    refused = []

    async def ask(client):
        try:
            await client.chat.completions.create(**ASK)
        except tokenguard.BudgetExceeded as error:
            refused.append(error)

    async def main():
        client = async_openai_client(script)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask, client)

    trio.run(main)
    assert 0 < len(script.requests) < 20
    assert len(refused) == 20 - len(script.requests)


def test_one_that_is_cancelled(installed, ledger, monkeypatch):
    """A reservation that nobody waits for any more is given back."""
    reserve = ledger.inner.reserve

    def slow(*args, **kwargs):
        time.sleep(0.2)
        return reserve(*args, **kwargs)

    monkeypatch.setattr(ledger.inner, "reserve", slow)

    async def main():
        with trio.move_on_after(0.05) as scope:
            await async_openai_client(Script()).chat.completions.create(**ASK)
        assert scope.cancelled_caught

    trio.run(main)
    ledger.finish()
    ledger.inner.finish()
    assert all(account.reserved_nano == 0 for account in ledger.accounts())
