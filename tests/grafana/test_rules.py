"""Each alert rule fires when it should and is silent when it should not, and money is counted to the cent: promtool."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

import pytest
import yaml

from .parts import alerts, filled_in, panel, program

MINUTES = 5
"""Between two samples."""
HOUR, DAY = 60 // MINUTES, 24 * 60 // MINUTES
"""In samples."""


def counter(*paces, start=0.0):
    """Values of a counter: each pace is (its growth per sample, how many samples)."""
    values, at = [], start
    for growth, samples in paces:
        values.append(f"{at:g}+{growth:g}x{samples - 1}")
        at += growth * samples
    return " ".join(values)


def gauge(*levels):
    """Values of a gauge: each level is (value, how many samples)."""
    return " ".join(f"{value:g}x{samples - 1}" for value, samples in levels)


def calls(outcome, *paces):
    return {f'tokenguard_calls_total{{tokenguard_feature="chat",outcome="{outcome}"}}': counter(*paces)}


def tokens(kind, *paces):
    return {f'tokenguard_tokens_total{{tokenguard_feature="chat",type="{kind}"}}': counter(*paces)}


def budget(spent, limit=10, elapsed=0.5, window=86400):
    names = {"spent_usd": spent, "limit_usd": limit, "elapsed_ratio": elapsed, "window_seconds": window}
    series = {f'tokenguard_budget_{name}{{budget="b",key="k"}}': value for name, value in names.items()}
    return {name: value if isinstance(value, str) else gauge((value, DAY)) for name, value in series.items()}


def cost(*paces):
    return {'tokenguard_cost_usd_total{tokenguard_feature="chat"}': counter(*paces)}


def metric(name, values, labels=""):
    return {f"tokenguard_{name}{{{labels}}}": values}


BREAKER = 'breaker="b",gen_ai_provider_name="openai",gen_ai_request_model="m"'
UNPRICED = 'tokenguard_feature="chat"'


class Case(NamedTuple):
    """An alert, what makes it fire and what does not, and when to look."""

    alert: str
    fires: dict
    silent: dict
    at: str = "6h"
    minutes: int = MINUTES
    """Between two samples."""
    evaluated: str = "15m"


CASES = [
    # 14.40 USD a day for eight days; then five times as much, or a tenth more.
    Case(
        "TokenGuardSpendAnomaly",
        cost((0.05, 8 * DAY), (0.25, DAY)),
        cost((0.05, 8 * DAY), (0.055, DAY)),
        "215h",
        evaluated="1h",
    ),
    # Steady, but cheap: five times nearly nothing is nearly nothing.
    Case(
        "TokenGuardSpendAnomaly",
        cost((0.05, 8 * DAY), (0.25, DAY)),
        cost((5e-4, 8 * DAY), (25e-4, DAY)),
        "215h",
        evaluated="1h",
    ),
    Case(
        "TokenGuardTokensPerCallJump",
        {**calls("ok", (1, 9 * DAY)), **tokens("input", (1000, 8 * DAY), (2000, DAY))},
        {**calls("ok", (1, 8 * DAY), (2, DAY)), **tokens("input", (1000, 8 * DAY), (2000, DAY))},
        "215h",
        evaluated="1h",
    ),
    Case(
        "TokenGuardCacheHitDrop",
        {**calls("ok", (5, DAY)), **tokens("input", (1e3, DAY)), **tokens("cache_read", (800, DAY - HOUR), (0, HOUR))},
        {
            **calls("ok", (5, DAY)),
            **tokens("input", (1e3, DAY)),
            **tokens("cache_read", (800, DAY - HOUR), (700, HOUR)),
        },
        "23h45m",
    ),
    Case(
        "TokenGuardUnpricedSpend",
        {**calls("ok", (10, DAY)), **metric("calls_unpriced_total", counter((1, DAY)), UNPRICED)},
        {**calls("ok", (10, DAY)), **metric("calls_unpriced_total", counter((0, DAY), start=50), UNPRICED)},
    ),
    Case("TokenGuardBudgetNearing", budget(gauge((7.5, DAY))), budget(gauge((6.9, DAY)))),
    Case("TokenGuardBudgetNearing", budget(gauge((7.5, DAY))), budget(gauge((9.5, DAY)))),
    Case("TokenGuardBudgetAlmostSpent", budget(gauge((9.5, DAY))), budget(gauge((8.9, DAY)))),
    Case("TokenGuardBudgetAlmostSpent", budget(gauge((9.5, DAY))), budget(gauge((10, DAY)))),
    Case("TokenGuardBudgetSpent", budget(gauge((10, DAY))), budget(gauge((9.99, DAY)))),
    # An even spend of 10 USD in a day is 0.007 a minute. Six times that is too fast; twice is not, nor is a spurt
    # of half an hour that is over.
    Case("TokenGuardBudgetBurn", budget(counter((0.042, 150))), budget(counter((0.014, 150))), "2h", 1),
    Case("TokenGuardBudgetBurn", budget(counter((0.042, 150))), budget(counter((0.1, 90), (0, 60))), "2h", 1),
    Case(
        "TokenGuardRetryStorm",
        {**calls("ok", (10, DAY)), **metric("retries_total", counter((0, DAY - HOUR), (20, HOUR)), UNPRICED)},
        {**calls("ok", (10, DAY)), **metric("retries_total", counter((0, DAY - HOUR), (2, HOUR)), UNPRICED)},
        "23h45m",
    ),
    Case(
        "TokenGuardBlocking",
        {**calls("ok", (10, DAY)), **calls("blocked", (0, DAY - HOUR), (10, HOUR))},
        # A policy that always blocks a fifth is no news.
        {**calls("ok", (10, DAY)), **calls("blocked", (2.5, DAY))},
        "23h45m",
    ),
    Case(
        "TokenGuardBreakerOpen",
        metric("breaker_state", gauge((2, DAY)), BREAKER),
        metric("breaker_state", gauge((1, DAY)), BREAKER),
    ),
    Case(
        "TokenGuardTelemetryOverflow",
        metric("series_overflow_total", counter((1, DAY)), 'label="tokenguard_tenant"'),
        metric("series_overflow_total", counter((0, DAY), start=9), 'label="tokenguard_tenant"'),
    ),
    Case("TokenGuardTelemetryOverflow", metric("records_dropped_total", counter((1, DAY))), cost((1, DAY))),
    Case(
        "TokenGuardPricesOld",
        metric("prices_age_seconds", gauge((130 * 86400, DAY))),
        metric("prices_age_seconds", gauge((30 * 86400, DAY))),
    ),
]


def promtool(tmp_path, groups, rules=(), evaluated="15m"):
    """Run promtool over test groups, with these rules evaluated so often."""
    rule_file = tmp_path / "rules.yaml"
    rule_file.write_text(yaml.safe_dump({"groups": [{"name": "rules", "rules": list(rules)}]}))
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": evaluated, "tests": list(groups)})
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def group(series, expr, at, samples, minutes=MINUTES):
    """One case: its series, and what a query gives at a time."""
    return {
        "interval": f"{minutes}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_alert(case, tmp_path):
    """It fires for the one, and not for the other."""
    firing = f'count by (alertname) (ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    fired = [{"labels": f'{{alertname="{case.alert}"}}', "value": 1}]
    rules = [rule for rule in alerts() if rule["alert"] == case.alert]
    groups = [
        group(series, firing, case.at, expected, case.minutes)
        for series, expected in ((case.fires, fired), (case.silent, []))
    ]
    promtool(tmp_path, groups, rules, case.evaluated)


def test_every_alert_is_tested():
    """No rule without its cases."""
    assert {rule["alert"] for rule in alerts()} == {case.alert for case in CASES}


def test_texts_name_labels_that_are_there():
    """A summary uses only labels that its expression keeps."""
    for rule in alerts():
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        kept = {label.strip() for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in by.split(",")}
        assert used <= kept, rule["alert"]


def test_money_since_midnight(tmp_path):
    """The panel's query counts what was spent since midnight to the cent, however the counters came to their values.

    It is 06:00 of the second day, so midnight was six hours ago.
    """
    expr = filled_in(panel("tokenguard-cost", "Today")["targets"][0]["expr"], 6 * 3600)
    name = 'tokenguard_cost_usd_total{{tokenguard_tenant="{}",instance="{}"}}'
    before, after = DAY, 6 * HOUR + 1
    counters = {
        # Counted all along: 1 USD an hour.
        name.format("steady", 1): counter((1 / HOUR, before + after)),
        # Its process began at noon of the day before and ended at midnight: nothing of it is today's.
        name.format("yesterday", 1): counter((0.5, before - HOUR)) + f" _x{after + HOUR}",
        # Its first sample, at 02:00, is 5 USD already: it is all today's.
        name.format("born", 2): f"_x{before + 2 * HOUR} " + counter((0, 4 * HOUR + 1), start=5),
        # Ran to 7 USD, was restarted at 03:00 as another instance, and came to 4 USD.
        name.format("restarted", 1): counter((0, before + HOUR), start=6) + f" 7x{2 * HOUR} _x{3 * HOUR}",
        name.format("restarted", 2): f"_x{before + 3 * HOUR + 1} " + counter((0.25, 16), start=0.25) + " 4x100",
    }
    spent = {"steady": 6, "born": 5, "restarted": 5}
    samples = [{"labels": f'{{tokenguard_tenant="{tenant}"}}', "value": usd} for tenant, usd in spent.items()]
    by_tenant = f"round(sum by (tokenguard_tenant) ({expr.removeprefix('sum(')} > 0, 0.0001)"
    promtool(tmp_path, [group(counters, by_tenant, "30h", samples)])
    everything = [{"labels": "{}", "value": 16}]
    promtool(tmp_path, [group(counters, f"round({expr}, 0.0001)", "30h", everything)])


def test_a_counter_that_begins_again(tmp_path):
    """Where a restarted process keeps its labels, Prometheus' own `increase` steps in, which extrapolates a little."""
    expr = filled_in(panel("tokenguard-cost", "Today")["targets"][0]["expr"], 6 * 3600)
    counters = {"tokenguard_cost_usd_total{}": counter((0.1, DAY + 3 * HOUR)) + " " + counter((0.1, 3 * HOUR + 1))}
    spent = 0.1 * 6 * HOUR
    close = f"abs({expr} - {spent:g}) < bool {0.02 * spent:g}"
    promtool(tmp_path, [group(counters, close, "30h", [{"labels": "{}", "value": 1}])])
