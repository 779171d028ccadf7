"""A resend after an attempt that may be billed needs room of its own: a budget holds whatever the SDK sends again."""

from __future__ import annotations

import threading
import time

import httpx2
import openai
import pytest

import connections
import tokenguard
from canned import async_openai_client, openai_client
from tokenguard import BudgetExceeded, policy
from tokenguard.installation import runtime

CAP = 35_000  # output tokens: $0.35 at $10 per million
ASKED = {"model": "race-model", "max_tokens": CAP, "messages": [{"role": "user", "content": "x"}]}


class Slow:
    """A provider that answers only after so many requests were not waited for."""

    def __init__(self, timeouts):
        self.timeouts = timeouts
        self.sent = 0
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            self.sent += 1
            slow = self.sent <= self.timeouts
        if slow:
            raise httpx2.ReadTimeout("too slow", request=request)
        message = {"role": "assistant", "content": "Hi"}
        usage = {"prompt_tokens": 0, "completion_tokens": CAP, "total_tokens": CAP}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "race-model"}
        return httpx2.Response(200, json={**body, "choices": choices, "usage": usage})


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """The SDK waits for nothing before it sends again."""
    from openai._base_client import BaseClient

    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda self, *given: 0)


@pytest.fixture(params=["memory:", "sqlite"])
def budget(request, installed, tmp_path):
    """A budget of so many USD: gives what is spent and what is reserved."""
    url = request.param if request.param == "memory:" else f"sqlite:///{tmp_path}/l.db"

    def limit(usd):
        tokenguard.install(
            policy.loads(
                f'[ledger]\nurl = "{url}"\n[[budget]]\nname = "b"\nwindow = "total"\nlimit_usd = {usd}\nalert_at = []\n'
                '[prices]\n"*/race-model" = { input = 0.0, output = 10.0 }\n'
                '"aws.bedrock/*" = { input = 0.0, output = 10.0 }\n'
            )
        )
        ledger = runtime.installed().meter.guard.ledger

        def stands():
            ends = time.monotonic() + 10
            while (account := ledger.accounts()[0]).reserved_nano and time.monotonic() < ends:
                time.sleep(0.01)  # it is settled off the caller's path
            return account.spent_nano / 1e9, account.reserved_nano / 1e9

        return stands

    yield limit
    tokenguard.install(policy.Policy())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("usd", "timeouts", "sent", "spent"),
    [
        (1.5, 1, 2, 0.70),  # both attempts may be billed
        (1.5, 2, 3, 1.05),
        (0.5, 1, 1, 0.35),  # there is no room for another
        (0.8, 2, 2, 0.70),
        (0.4, 0, 1, 0.35),
    ],
)
def test_resends_are_reserved(kind, usd, timeouts, sent, spent, budget):
    """Each attempt has room before it is sent; where there is none, nothing is sent again, and the call says why."""
    stands, provider = budget(usd), Slow(timeouts)

    async def ask_async():
        async with async_openai_client(provider, max_retries=2) as client:
            return await client.chat.completions.create(**ASKED)

    def ask():
        if kind == "async":
            return connections.run(ask_async())
        return openai_client(provider).chat.completions.create(**ASKED)

    if sent <= timeouts:
        with pytest.raises(BudgetExceeded, match="worst case of this resend") as refusal:
            ask()
        assert type(refusal.value.__cause__).__name__ == "ReadTimeout"
    else:
        assert ask().id == "x"
    assert provider.sent == sent
    assert stands() == (pytest.approx(spent), 0)


def test_what_is_refused_is_sent_again_for_nothing(budget):
    """An attempt that the provider refused is on no bill: its resend needs no more room."""
    stands, provider = budget(0.4), Slow(0)
    answers = iter([httpx2.Response(503, json={}), httpx2.Response(429, json={}), None])
    openai_client(lambda request: next(answers) or provider(request)).chat.completions.create(**ASKED)
    assert stands() == (pytest.approx(0.35), 0)


def test_a_race_of_resends(budget):
    """Twenty calls at once, whose first attempts all time out: what may be billed never passes the limit."""
    stands, provider = budget(2.0), Slow(20)

    def ask():
        try:
            openai_client(provider, max_retries=1).chat.completions.create(**ASKED)
        except (BudgetExceeded, openai.APITimeoutError):
            return

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, reserved = stands()
    assert provider.sent * 0.35 <= spent + 1e-9 <= 2.0 + 1e-9
    assert reserved == 0


def test_botocore(budget):
    """The same where botocore sends again."""
    botocore = pytest.importorskip("botocore")
    from canned_clouds import bedrock_client

    stands, sent = budget(0.5), []

    def slow(request):
        sent.append(request)
        raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)

    ask = {"modelId": "anthropic.claude-x", "inferenceConfig": {"maxTokens": CAP}}
    with pytest.raises(BudgetExceeded, match="worst case of this resend"):
        bedrock_client(slow).converse(**ask, messages=[{"role": "user", "content": [{"text": "x"}]}])
    assert len(sent) == 1
    assert stands() == (pytest.approx(0.35), 0)
