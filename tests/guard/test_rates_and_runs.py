"""Budgets of calls, budgets of one run of a task, and what a program is told of what they have left."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime

import httpx2
import openai
import pytest

import connections
import tokenguard
from canned import MESSAGES, OPENAI_COST, Script, async_openai_client, chat_body, openai_client
from tokenguard import BudgetExceeded, PolicyError, policy
from tokenguard.call import scope

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 100}
RATE = '[[budget]]\nname = "rate"\nwindow = "hour"\nlimit_calls = 3\n'
RUN = '[[budget]]\nname = "run"\nper = ["task_run"]\nlimit_usd = 0.0004\n'


def ask(client=None):
    return (client or openai_client()).chat.completions.create(**CHAT)


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite:///ledger.db"])
def test_so_many_calls(under, url):
    """The call after the last one is refused before anything is sent, with what was made, and when it starts anew."""
    under(RATE, url)
    script = Script()
    for _ in range(3):
        ask(openai_client(script))
    said = r'"rate": 3 calls made and 0 under way of 3, and this call would be one more\. Wait until .* UTC, raise'
    with pytest.raises(BudgetExceeded, match=said) as caught:
        ask(openai_client(script))
    assert len(script.requests) == 3
    error = caught.value
    assert (error.limit, error.observed, error.remaining) == (3, 4, 0)
    assert datetime.now(UTC) < error.resets_at


def test_many_threads(under):
    """However many ask at once, no more calls go out than are allowed, and all of those."""
    under(RATE)
    script = Script()
    client = openai_client(script)

    def one(_):
        with suppress(BudgetExceeded):
            ask(client)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(40)))
    assert len(script.requests) == 3


def test_asynchronous(under):
    """The same in an event loop."""
    under(RATE, "sqlite:///ledger.db")
    script = Script()

    async def main():
        client = async_openai_client(script.asynchronously)
        return await asyncio.gather(
            *(client.chat.completions.create(**CHAT) for _ in range(10)), return_exceptions=True
        )

    came = connections.run(main())
    assert len(script.requests) == 3
    assert sum(isinstance(each, BudgetExceeded) for each in came) == 7


def test_each_attempt_counts(under):
    """What the SDK sends again is another call to the provider."""
    guard = under(RATE)
    script = Script(httpx2.Response(500, headers={"retry-after-ms": "1"}, json={}))
    ask(openai_client(script))
    assert len(script.requests) == 2
    assert guard.ledger.accounts()[0].spent_tokens == 2


def test_a_call_that_fails_counts_and_one_that_is_refused_does_not(under):
    """A provider that answers with an error was called; a call that another rule refuses was not made."""
    guard = under(RATE + '[[budget]]\nname = "money"\nlimit_usd = 0\nwhen = { model = "gpt-4o" }\n')
    with pytest.raises(openai.BadRequestError):
        ask(openai_client(Script(httpx2.Response(400, json={}))))
    with pytest.raises(BudgetExceeded, match='"money"'):
        openai_client().chat.completions.create(**{**CHAT, "model": "gpt-4o"})
    rate = next(each for each in guard.ledger.accounts() if each.budget == "rate")
    assert (rate.spent_tokens, rate.reserved_tokens) == (1, 0)


def test_a_call_that_is_not_sent_gives_its_turn_back(under, monkeypatch):
    """An exception out of a signal handler before anything was sent."""
    guard = under(RATE + '[[budget]]\nname = "money"\nlimit_usd = 1\n')

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(guard.worst_case, "of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert [(each.spent_tokens, each.reserved_tokens) for each in guard.ledger.accounts()] == [(0, 0)]


def test_a_rate_that_only_warns(under, spans):
    """`then = "warn"` records and lets through; nobody is alerted of a rate unless the policy says when."""
    told = []
    guard = under(RATE + 'then = "warn"\n')
    guard.alerter.on_alert = told.append
    for _ in range(5):
        ask()
    said = [
        (each.attributes.get("tokenguard.guard.action"), each.attributes.get("tokenguard.guard.rule"))
        for each in spans.all()
    ]
    assert said == [(None, None)] * 3 + [("warn", "rate")] * 2
    assert told == []


def test_a_rate_in_slices(under):
    """Where the ledger is leased in slices, the limit holds just as well."""
    guard = under(RATE.replace("3", "50"), 'sqlite:///ledger.db"\nslice = 0.1\n#"')
    script = Script()
    for _ in range(60):
        with suppress(BudgetExceeded):
            ask(openai_client(script))
    assert len(script.requests) == 50
    guard.ledger.finish()
    assert guard.ledger.accounts()[0].spent_tokens == 50


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite:///ledger.db"])
def test_each_run_has_its_own(under, url):
    """A run is refused when its own money is spent; another run, and what is outside of any, goes on."""
    under(RUN, url)
    with tokenguard.task("agent"):
        ask()
        with pytest.raises(BudgetExceeded, match=r'"run" for task_run=[0-9a-f]{16}: .*Raise the limit') as caught:
            ask()
    assert caught.value.resets_at is None
    with tokenguard.task("agent"):
        ask()
    for _ in range(4):
        ask()


@pytest.mark.parametrize("url", ["memory:", "sqlite:///ledger.db", 'sqlite:///ledger.db"\nslice = 0.5\n#"'])
def test_a_run_is_forgotten(under, url, tmp_path):
    """What a run has spent is gone from the ledger when its task ends, other accounts are not."""
    guard = under(RUN.replace('"task_run"', '"tenant", "task_run"') + '[[budget]]\nname = "all"\nlimit_usd = 1\n', url)
    for _ in range(20):
        with tokenguard.attribution(tenant="t1"), tokenguard.task("agent"):
            ask()
    guard.ledger.finish()
    assert [(each.budget, each.key) for each in guard.ledger.accounts()] == [("all", "")]
    assert guard.runs._accounts == {}
    if url != "memory:":
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
            assert db.execute("SELECT count(*) FROM account").fetchone() == (1,)


@pytest.mark.everywhere
def test_ten_thousand_runs_leave_nothing(under):
    """Nothing that the guard, its rules or its ledger keep grows with the runs that were, refused ones too."""
    guard = under(RUN)
    client = openai_client(lambda request: httpx2.Response(200, json=BODY))
    for n in range(10_000):
        with tokenguard.task("agent"):
            if n % 100 == 0:  # the path of a real call; the others take what it asks of the guard
                client.chat.completions.create(**CHAT)
                with pytest.raises(BudgetExceeded):
                    client.chat.completions.create(**CHAT)
                continue
            entries = guard.compiled.match("openai", "gpt-4o-mini", "chat", {}).money.entries(
                0, run=scope.current().run
            )
            guard.runs.note(scope.current().run, entries)
            guard.ledger.settle(guard.ledger.reserve(entries, 1, 1), 1, 1)
    kept = {**vars(guard), **vars(guard.ledger), **vars(guard.compiled), **vars(guard.runs)}
    sizes = {name: len(value) for name, value in kept.items() if isinstance(value, dict | set | list)}
    assert {name: size for name, size in sizes.items() if size > 5} == {}


BODY = chat_body()


def test_a_stream_that_outlives_its_run(under):
    """It is settled against an account that is gone, which harms nobody, and leaves nothing."""
    guard = under(RUN)
    with tokenguard.task("agent"):
        stream = openai_client().chat.completions.create(**CHAT, stream=True)
    for _ in stream:
        pass
    assert guard.ledger.accounts() == []


# --- what is left ----------------------------------------------------------------------------------------------------


def test_what_is_left(under):
    """A program sees what the tightest of its budgets leaves in a unit, and what is spent from it."""
    under(
        '[[budget]]\nname = "tenant"\nper = ["tenant"]\nlimit_usd = 1\nlimit_tokens = 10000\n'
        '[[budget]]\nname = "wide"\nlimit_usd = 50\n' + RATE + RUN
    )
    with tokenguard.attribution(tenant="t1"):
        ask()
        assert tokenguard.spent() == pytest.approx(OPENAI_COST)
        assert tokenguard.remaining() == pytest.approx(1 - OPENAI_COST)
        assert tokenguard.remaining("wide") == pytest.approx(50 - OPENAI_COST)
        assert tokenguard.remaining(unit="calls") == 2
        assert tokenguard.spent("rate", unit="calls") == 1
        assert tokenguard.remaining(unit="tokens") + tokenguard.spent(unit="tokens") == 10_000
        with tokenguard.task("agent"):
            assert tokenguard.remaining() == pytest.approx(0.0004)
            ask()
            assert tokenguard.remaining() == pytest.approx(0.0004 - OPENAI_COST)
            assert connections.run(asyncio.to_thread(tokenguard.remaining)) == pytest.approx(0.0004 - OPENAI_COST)
    with tokenguard.attribution(tenant="t2"):
        assert tokenguard.remaining() == 1
    with pytest.raises(ValueError, match='no budget "tenants"; did you mean "tenant"'):
        tokenguard.remaining("tenants")


def test_what_is_left_for_a_model(under):
    """A budget of some models counts unless the call is known to be of another; one per model wants to know which."""
    under(
        '[[budget]]\nname = "large"\nwhen = { model = "gpt-4o" }\nlimit_usd = 1\n'
        '[[budget]]\nname = "each"\nper = ["model"]\nlimit_usd = 0.5\n'
    )
    assert tokenguard.remaining() == 1
    assert tokenguard.remaining(model="gpt-4o-mini") == 0.5
    assert tokenguard.remaining("large", model="gpt-4o-mini") is None
    assert tokenguard.remaining("each") is None
    assert tokenguard.spent("large") == 0


def test_nothing_is_limited(installed):
    """Without a budget, and without TokenGuard, nothing is known to be left or spent."""
    assert tokenguard.remaining() is tokenguard.spent() is None
    tokenguard.uninstall()
    assert tokenguard.remaining() is None


# --- the policy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("limit_calls = 3\nlimit_usd = 1", "a budget counts calls, or money and tokens"),
        ('limit_calls = 3\nthen = "downgrade"\ndowngrade_to = "gpt-4o-mini"', "a call of another model is a call too"),
        ('per = ["task_run"]\nlimit_usd = 1\nwindow = "hour"', "leave window out"),
        ('when = { task_run = "x" }\nlimit_usd = 1', 'no such attribution key "task_run"'),
    ],
)
def test_what_cannot_be_meant(rows, said):
    """Combinations that cannot be kept are refused with the next step."""
    with pytest.raises(PolicyError, match=said):
        policy.loads(f'[[budget]]\nname = "b"\n{rows}\n')


def test_as_it_is_shown():
    """The defaults that follow from a rate and from a run are what `policy show` prints."""
    from tokenguard.policy.page import render

    shown = render(policy.loads(RATE + RUN))
    assert "alert_at = []\n" in shown
    assert 'window = "total"' in shown
    assert policy.loads(shown) == policy.loads(RATE + RUN)


# --- what is sent when it is first read ------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_stream_that_is_never_read(under, provider, spans, asynchronous):
    """ollama's client sends a stream when it is first read: one that never is costs nothing, and holds nothing."""
    ollama = pytest.importorskip("ollama")
    under(RATE + '[[budget]]\nname = "money"\nlimit_tokens = 300\nper = []\n')
    asked = {"model": "llama3.2", "messages": MESSAGES, "options": {"num_predict": 100}, "stream": True}

    async def never() -> None:
        client = ollama.AsyncClient(host=provider.url)
        for _ in range(5):
            stream = await client.chat(**asked)
            await stream.aclose()
        del stream
        assert [part async for part in await client.chat(**asked)]
        await client._client.aclose()

    def asked_in_vain() -> None:
        client = ollama.Client(host=provider.url)
        for _ in range(5):
            client.chat(**asked)
        client.chat(**asked).close()
        assert list(client.chat(**asked))
        client._client.close()

    connections.run(never()) if asynchronous else asked_in_vain()
    assert len(provider.requests) == 1
    assert len(spans.all()) == 1
    assert tokenguard.spent("rate", unit="calls") == 1
