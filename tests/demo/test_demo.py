"""The demo as a whole: what the provider charged is what was measured."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from tokenguard import demo
from tokenguard.demo.comparison import PRICE_LIST, Rates, price
from tokenguard.facts.record import CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.store.store import read_store


def test_the_bill_by_hand():
    """Claude: 1,000 plain, 20,000 read, 10,000 written for 5 minutes and 4,000 for an hour, 500 out.

    1,000 x 3 + 20,000 x 0.30 + 10,000 x 3.75 + 4,000 x 6 + 500 x 15 = 78,000 millionths.
    """
    assert PRICE_LIST["claude-sonnet-4-6"] == Rates(3, 15, 0.3, 3.75, 6)
    usage = Usage(input=35_000, output=500, cache_read=20_000, cache_write=14_000, cache_write_1h=4_000)
    assert price(usage, "claude-sonnet-4-6") == pytest.approx(0.078)


def test_missing_sdks_are_named(monkeypatch):
    """Without the SDKs the demo says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in demo.SDKS else find(name))
    with pytest.raises(demo.DemoUnavailable, match=r"openai and anthropic.*are.*pip install 'tokenguard-otel\[demo\]'"):
        demo.run_demo()


def test_the_demo_measures_what_is_charged(tmp_path, monkeypatch):
    """Every complete call's tokens and dollars are the provider's, to the cent of a cent; the rest is an estimate."""
    pytest.importorskip("tokenguard.store")
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    # The folder's own policy is not the demo's: this one would refuse every call.
    (tmp_path / "tokenguard.toml").write_text('[[budget]]\nname = "nothing"\nlimit_usd = 0\n')
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    run = demo.run_demo(tmp_path / "demo.db", report=False)
    *models, broken, everything = run.lines
    assert {line.title for line in models} == set(PRICE_LIST)
    for line in models:
        assert line.charged == line.calls, line.title
        for count in ("input", "output", "cache_read", "cache_write", "reasoning"):
            assert (getattr(line.billed, count) or 0) == (getattr(line.measured, count) or 0), (line.title, count)
        assert line.measured_usd == pytest.approx(line.billed_usd, rel=1e-9)
    assert broken.charged == broken.calls > 0
    assert everything.charged == everything.calls
    assert run.requests > everything.charged  # some were refused, and the SDKs sent them again
    assert everything.billed.cache_read > everything.billed.input // 3
    assert "tokenguard.demo.workload" not in sys.modules.keys() - before


def test_the_policy_stops_what_it_should(tmp_path, monkeypatch):
    """One runaway agent is stopped, one tenant's day budget is used up, one feature's answers are clamped."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    # The folder's own policy is not the demo's: this one would refuse every call.
    (tmp_path / "tokenguard.toml").write_text('[[budget]]\nname = "nothing"\nlimit_usd = 0\n')
    monkeypatch.chdir(tmp_path)
    run = demo.run_demo(tmp_path / "demo.db", report=False)
    agent, budget = run.refusals
    assert agent.startswith(
        'LimitExceeded: chat gpt-4.1-mini: tool rounds 6, and the limit "agents stop after 5 rounds"'
    )
    assert budget.startswith('BudgetExceeded: chat gpt-4o-mini: budget "tenant per day" for tenant=acme: $0.00')
    records = [record for record in read_store(run.guarded) if isinstance(record, CallRecord)]
    assert {record.attributes.get("tokenguard.guard.action") for record in records} == {None, "clamp", "block"}
    spent = sum(r.cost_usd or 0 for r in records if r.attributes["tokenguard.tenant"] == "acme")
    assert 0.004 < spent <= 0.005
