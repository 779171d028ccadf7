"""Nothing that blocks is done in a running event loop: `conftest` has it raise there, and strict mode lets it pass."""

from __future__ import annotations

import asyncio
import threading

import httpx2
import pytest

import tokenguard
from canned import MESSAGES, async_openai_client, chat_body
from tokenguard import policy
from tokenguard.call import site
from tokenguard.guard.worst_case import WorstCase
from tokenguard.tokens import text

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 1000}
LIMITS = {
    "a budget that watches": ("observe", 'then = "block"'),
    "a budget that warns": ("enforce", 'then = "warn"'),
    "a budget that refuses": ("enforce", 'then = "block"'),
}


async def answer(request):
    return httpx2.Response(200, json=chat_body())


@pytest.mark.parametrize("limit", LIMITS)
async def test_budgets(installed, tmp_path, monkeypatch, limit):
    """A reservation that is over a budget is given back, and the request counted, off the loop."""
    mode, then = LIMITS[limit]
    monkeypatch.setattr(text, "_encodings", {})
    counted = []
    count = WorstCase.count
    monkeypatch.setattr(
        WorstCase, "count", lambda self, call: counted.append(threading.current_thread().name) or count(self, call)
    )
    await asyncio.to_thread(
        tokenguard.install,
        policy.loads(
            f'mode = "{mode}"\n[ledger]\nurl = "sqlite:///{tmp_path}/l.db"\n'
            f'[[budget]]\nname = "b"\nlimit_usd = 0.0001\n{then}\n'
        ),
    )
    client = async_openai_client(answer)
    for _ in range(2):
        if (mode, then) == ("enforce", 'then = "block"'):
            with pytest.raises(tokenguard.BudgetExceeded):
                await client.chat.completions.create(**CHAT)
        else:
            assert (await client.chat.completions.create(**CHAT)).choices
    assert counted[0] == "tokenguard-work"
    assert len(installed.records) == 2


async def test_limits(installed, monkeypatch):
    """A limit on what a call may cost counts off the loop, too."""
    monkeypatch.setattr(text, "_encodings", {})
    tokenguard.install(policy.loads('[[limit]]\nname = "l"\nmax_input_tokens = 1\n'))
    with pytest.raises(tokenguard.LimitExceeded):
        await async_openai_client(answer).chat.completions.create(**CHAT)


async def test_call_sites(installed, monkeypatch):
    """Where a call was made is found without a look at the disk."""
    for known in ("_libraries_seen", "_users_seen"):
        monkeypatch.setattr(site, known, set())
    await async_openai_client(answer).chat.completions.create(**CHAT)
    assert installed.records[0].attributes["code.file.path"] == __file__
