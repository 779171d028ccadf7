"""Labels without bound: what is kept of them is bounded, and no total suffers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from canned import OPENAI_COST
from tokenguard.demo import INSTRUMENT
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.telemetry.metrics import MAX_SERIES, MAX_VALUES

from .conftest import environment, stack
from .many import BUSY, ROUTES, TENANTS
from .parts import filled_in, panel, program, until

CALLS = TENANTS + BUSY * ROUTES
SPENT = CALLS * OPENAI_COST


def test_ten_thousand_tenants(tmp_path):
    """200 tenants keep their names and the rest is `other`; series are bounded; money and calls are all there."""
    for name in ("otelcol", "prometheus"):
        program(name)
    policy = tmp_path / "tokenguard.toml"
    policy.write_text('mode = "observe"\n')
    with stack(tmp_path) as (endpoint, ways, _), SimulatedProvider() as provider:
        environ = environment(tmp_path, provider, endpoint, policy, TOKENGUARD_STORE="off")
        command = [*INSTRUMENT, sys.executable, str(Path(__file__).with_name("many.py"))]
        subprocess.run(command, env=environ, check=True, timeout=300)
        for way, server in ways.items():
            calls = "sum(last_over_time(tokenguard_calls_total[10m]))"
            until(lambda s=server, q=calls: [v for _, v in s.instant(q)] == [CALLS], 60, f"all calls had come by {way}")
            tenants = server.by(
                "sum by (tokenguard_tenant) (last_over_time(tokenguard_cost_usd_total[10m]))", "tokenguard_tenant"
            )
            assert len(tenants) == MAX_VALUES + 1
            # The busy ones gave up their names where label sets ran out.
            assert OPENAI_COST <= tenants["t7"] < (1 + ROUTES) * OPENAI_COST
            assert tenants["t150"] == pytest.approx(OPENAI_COST)
            assert sum(tenants.values()) == pytest.approx(SPENT)
            today = panel("tokenguard-cost", "Today")["targets"][0]["expr"]
            assert server.one(filled_in(today, 1800)) == pytest.approx(SPENT)
            ranking = panel("tokenguard-cost", "Most spent by $by")["targets"][0]["expr"]
            found = server.by(filled_in(ranking, 1800, by="gen_ai_response_model"), "gen_ai_response_model")
            assert found == pytest.approx({"gpt-4o-mini-2024-07-18": SPENT})
            for metric in ("calls", "tokens", "cost_usd", "cost_part_usd"):
                kept = server.one(f"count(last_over_time(tokenguard_{metric}_total[10m]))")
                assert MAX_VALUES < kept < MAX_SERIES + 50
            assert server.one(panel("tokenguard-reliability", "SDK overflow series")["targets"][0]["expr"]) == 0
            overflow = server.by("sum by (label) (last_over_time(tokenguard_series_overflow_total[10m]))", "label")
            assert overflow[names.attribution_attribute("tenant")] == TENANTS - MAX_VALUES
            assert overflow["all"] > 0
