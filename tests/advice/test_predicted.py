"""What a proposal is said to come to, and what it does come to once it is in force: the same program, run twice."""

from __future__ import annotations

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


def program():
    """Chats of two features with two providers, as a product would make them; its own errors are not ours."""
    with (
        SimulatedProvider() as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k") as chat,
        anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as claude,
    ):
        for n, question in enumerate(QUESTIONS):
            said = [{"role": "user", "content": question}]
            with tokenguard.attribution(feature="long" if n % 3 else "short", tenant=f"t{n % 4}"):
                for ask in (
                    lambda said=said: chat.chat.completions.create(model="gpt-4o", messages=said),
                    lambda said=said: claude.messages.create(model="claude-sonnet-4-6", messages=said, max_tokens=300),
                ):
                    with suppress(GuardrailViolation):
                        ask()


@pytest.fixture
def run(installed):
    """Run the program; gives what was recorded, as a store, and what it cost."""
    stores = []

    def records():
        telemetry = installed.telemetry
        telemetry.flush()
        before, telemetry._sink, telemetry._keeps = telemetry._sink, Store(":memory:"), True
        stores.append(telemetry._sink)
        program()
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


def test_a_route_is_within_its_interval(run, tmp_path):
    """Another model comes to a sum within the interval that was said, as its answers have other lengths."""
    path = tmp_path / "proposal.toml"
    path.write_text(
        '[[limit]]\nname = "small"\nwhen = { model = "gpt-4o" }\nmax_input_tokens = 1\nthen = "downgrade"\n'
        'downgrade_to = "gpt-4o-mini"\n'
    )
    records, spent = run()
    fall = waterfall(records, DAY, proposals.load(path), BOOK)
    assert fall.low_usd < fall.left_usd < fall.high_usd < spent
    tokenguard.install(path)
    _, measured = run()
    assert fall.low_usd <= measured <= fall.high_usd
