"""What a proposal is said to come to, and what it does come to once it is in force: the same program, run twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import anthropic
import openai
import pytest

import tokenguard
from advice.conftest import BOOK, DAY
from tokenguard.advice import proposal as proposals
from tokenguard.advice.waterfall import waterfall
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.policy import Policy
from tokenguard.report.engine import SqliteRecords
from tokenguard.store.store import Store

QUESTIONS = [
    f"Tell the customer of order {i * 7919 % 1000} {what}." for i in range(12) for what in ("why", "when", "all of it")
]


COLD = {"temperature": 0.0}
"""As the newest SDK is told, which knows no temperature."""


def chats(chat, claude):
    """Each question to both providers once."""
    for n, question in enumerate(QUESTIONS):
        said = [{"role": "user", "content": question}]
        with tokenguard.attribution(feature="long" if n % 3 else "short", tenant=f"t{n % 4}"):
            for ask in (
                lambda said=said: chat.chat.completions.create(model="gpt-4o", messages=said),
                lambda said=said: claude.messages.create(model="claude-sonnet-4-6", messages=said, max_tokens=300),
            ):
                with suppress(GuardrailViolation):
                    ask()


def repeated(chat, claude):
    """Questions that come again, to the letter, from the same tenant and from others; some at a temperature."""
    for n in range(60):
        said = [{"role": "user", "content": QUESTIONS[n * 7 % 11]}]
        with tokenguard.attribution(feature="faq", tenant=f"t{n % 3}"):
            chat.chat.completions.create(model="gpt-4o", messages=said, temperature=0.0 if n % 5 else 1.0)
            claude.messages.create(model="claude-sonnet-4-6", messages=said, max_tokens=300, extra_body=COLD)
            chat.embeddings.create(model="text-embedding-3-small", input=QUESTIONS[n % 7])


def conversations(chat, _claude):
    """Conversations that grow turn by turn."""
    for person in range(3):
        said = [{"role": "system", "content": "You are patient with everybody who asks."}]
        for turn in range(10):
            words = " ".join(f"point {turn * i % 17} of matter {person + i}" for i in range(14))
            said.append({"role": "user", "content": f"Turn {turn}: {words}?"})
            done = chat.chat.completions.create(model="gpt-4o", messages=said, max_tokens=40)
            said.append({"role": "assistant", "content": done.choices[0].message.content})


def together(chat, _claude):
    """Four threads that ask the same at the same moment, again and again."""
    barrier = threading.Barrier(4)

    def ask(_):
        for question in QUESTIONS[:6]:
            barrier.wait(20)
            with tokenguard.attribution(tenant="t1"):
                chat.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": question}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))


@pytest.fixture
def run(installed):
    """Run a program; gives what was recorded, as a store, and what it cost."""
    stores = []

    def records(program=chats, latency=0.0):
        telemetry = installed.telemetry
        telemetry.flush()
        before, telemetry._sink, telemetry._keeps = telemetry._sink, Store(":memory:"), True
        stores.append(telemetry._sink)
        with (
            SimulatedProvider(latency=latency) as provider,
            openai.OpenAI(base_url=provider.openai_url, api_key="k") as chat,
            anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as claude,
        ):
            program(chat, claude)
        telemetry.flush()
        telemetry._sink, store = before, telemetry._sink
        connection = store.connection()
        (usd,) = connection.execute("SELECT sum(cost_usd) FROM calls").fetchone()
        return SqliteRecords(connection), usd

    yield records
    for store in stores:
        store.close()
    tokenguard.install(Policy())


CLAMP = '[[limit]]\nname = "short answers"\nwhen = { feature = "short" }\nmax_output_tokens = 12\nthen = "clamp"\n'
PRICES = (
    '[prices]\n"openai/gpt-4o" = { input = 2.0, output = 7.0 }\n"anthropic/claude-*" = { input = 1.5, output = 6 }\n'
)
BLOCK = '[[limit]]\nname = "capped"\nwhen = { feature = "long", provider = "openai" }\nmax_output_tokens = 900\n'
BUDGET = '[ledger]\nurl = "memory:"\n[[budget]]\nname = "day"\nper = ["tenant"]\nlimit_usd = 0.047\n'


@pytest.mark.parametrize(
    "toml", [CLAMP, PRICES, CLAMP + PRICES, BLOCK, BUDGET], ids=["clamp", "prices", "both", "block", "budget"]
)
def test_prediction_is_measurement(run, tmp_path, toml):
    """A cap, other prices, a refusal and a budget come to what was said of them, within 1 %."""
    path = tmp_path / "proposal.toml"
    path.write_text(toml)
    records, spent = run()
    fall = waterfall(records, DAY, proposals.load(path), BOOK)
    assert fall.spent_usd == pytest.approx(spent)
    assert fall.left_usd < 0.99 * spent, "the proposal does something"
    tokenguard.install(path)
    _, measured = run()
    assert fall.left_usd == pytest.approx(measured, rel=0.01)


@pytest.fixture
def compared(run, tmp_path):
    """What a proposal was said to come to on a program, and what it came to: `compared(toml, program)`."""

    def compare(toml, program, latency=0.0, before=""):
        path, ran = tmp_path / "proposal.toml", tmp_path / "before.toml"
        path.write_text(toml)
        ran.write_text(before)
        tokenguard.install(ran)
        records, spent = run(program, latency)
        fall = waterfall(records, DAY, proposals.load(path), BOOK)
        assert fall.spent_usd == pytest.approx(spent)
        tokenguard.install(path)
        return fall, run(program, latency)[1]

    return compare


CACHE = '[[cache]]\nname = "faq"\nwhen = { feature = "faq" }\n'


@pytest.mark.parametrize(
    "more", ["", "sampled = true\n", 'per = ["feature"]\n', 'when = { operation = "embeddings" }\n']
)
def test_a_cache_is_measurement(compared, more):
    """Kept answers save what was said of them: of the same tenant or of all, sampled ones or not."""
    toml = CACHE + more if "when" not in more else CACHE.replace('when = { feature = "faq" }\n', more)
    fall, measured = compared(toml, repeated)
    assert fall.lines[0].calls
    assert fall.left_usd == pytest.approx(measured, rel=0.01)


def test_sharing_is_measurement(compared):
    """Calls that are under way at the same time and equal are paid for once, as was said."""
    fall, measured = compared('[[share]]\nname = "same"\n', together, 0.3)
    assert fall.lines[0].calls == 18
    assert fall.left_usd == pytest.approx(measured, rel=0.01)


def test_a_trimmed_history_is_within_its_interval(compared):
    """A history past its ceiling is cut as was said: not by less, and not by more, than whole turns make it."""
    toml = '[[limit]]\nname = "short memory"\nmax_history_tokens = 400\nthen = "trim"\n'
    fall, measured = compared(toml, conversations)
    assert fall.low_usd <= measured <= fall.high_usd < 0.9 * fall.spent_usd
    assert fall.left_usd == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("ceiling", ["max_history_tokens = 500", "max_system_tokens = 5", "max_input_tokens = 600"])
def test_a_ceiling_is_measurement(compared, ceiling):
    """A ceiling that refuses what is too long saves what was said of it."""

    def program(chat, claude):
        with suppress(GuardrailViolation):
            conversations(chat, claude)

    fall, measured = compared(f'[[limit]]\nname = "short"\n{ceiling}\nthen = "warn"\n', program)
    assert fall.left_usd == fall.spent_usd == pytest.approx(measured), "a warning changes nothing"
    fall, measured = compared(
        f'[[limit]]\nname = "short"\n{ceiling}\nthen = "downgrade"\ndowngrade_to = "gpt-4o-mini"\n', conversations
    )
    assert fall.low_usd <= measured <= fall.high_usd < 0.9 * fall.spent_usd


ROUTE = '[[route]]\nname = "small"\nto = "gpt-4o-mini"\nwhen = { model = "gpt-4o" }\n'


@pytest.mark.parametrize(
    "toml",
    [
        ROUTE,
        ROUTE + "share = 0.5\n",
        ROUTE + "max_input_tokens = 18\n",
        '[[limit]]\nname = "small"\nwhen = { model = "gpt-4o" }\nmax_input_tokens = 1\nthen = "downgrade"\n'
        'downgrade_to = "gpt-4o-mini"\n',
    ],
    ids=["all", "half", "short", "downgrade"],
)
def test_a_route_is_within_its_interval(compared, toml):
    """Another model comes to a sum within the interval that was said, as its answers have other lengths."""
    fall, measured = compared(toml, chats)
    assert fall.low_usd < fall.left_usd < fall.high_usd < fall.spent_usd
    assert fall.low_usd <= measured <= fall.high_usd


CASCADE = ROUTE + 'escalate_to = "gpt-4o"\nescalate_when = ["length"]\n'


def capped(chat, _claude):
    """Answers of which some are cut off at their cap."""
    for n, question in enumerate(QUESTIONS * 2):
        with tokenguard.attribution(tenant=f"t{n % 6}"):
            said = [{"role": "user", "content": f"{question} ({n})"}]
            chat.chat.completions.create(model="gpt-4o", messages=said, max_tokens=20 + n % 60)


def test_a_cascade_is_within_its_interval(compared):
    """What a cascade costs is c1 + p c2: with the share p of the answers that failed on half of the calls."""
    fall, measured = compared(CASCADE, capped, before=CASCADE + "share = 0.5\n")
    (line,) = fall.lines
    assert "of its answers fail, as " in " ".join(line.assumes)
    assert fall.low_usd <= measured <= fall.high_usd
    assert fall.left_usd == pytest.approx(measured, rel=0.25)
