"""The product's spend, through the real collector, in the real Prometheus, by the queries that are shipped."""

from __future__ import annotations

import collections
import time

import pytest

from .conftest import WAYS
from .parts import alerts, filled_in, panel, seconds_since, targets

pytestmark = pytest.mark.xdist_group("run")  # what they share takes its time, and is made once

EMPTY = {
    **dict.fromkeys(
        [
            (title, ref)
            for title in ("Spend", "Calls", "Tokens", "Error share", "Latency p95", "Active tenants")
            for ref in "BC"
        ],
        "asks for yesterday and a week ago, and nothing ran then",
    ),
    ("Tokens per call", "B"): "asks for a week ago",
    ("Tokens per call", "C"): "asks for a week ago",
    **dict.fromkeys(
        [("Month to date", "A"), ("Projected month", "A"), ("Month covered", "A"), ("Processes reporting", "A")],
        "asks what is recorded, and nothing is here",
    ),
    **dict.fromkeys(
        [
            (title, ref)
            for title in ("Budget, actual and forecast by team", "Showback by team and model")
            for ref in "ABCD"
        ],
        "asks what is recorded, and nothing is here",
    ),
}
"""Queries that may come back empty here, with the reason."""
NAMES = {"tokenguard_tenant": "tokenguard.tenant", "tokenguard_feature": "tokenguard.feature"}


def spent(run, label):
    """{value: USD} from the product's own records."""
    sums = collections.Counter()
    for call in run.calls:
        key = call.model if label == "gen_ai_response_model" else call.attributes.get(NAMES[label])
        sums[key] += call.cost_usd or 0
    return {key: usd for key, usd in sums.items() if usd}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("label", [*NAMES, "gen_ai_response_model"])
def test_spend_by_label(run, way, label):
    """What each tenant, feature and model spent in two processes is what the dashboard shows, within 1 %."""
    expr = panel("tokenguard-cost", "Most spent by $by")["targets"][0]["expr"]
    shown = run.ways[way].by(filled_in(expr, run.seconds, by=label), label, run.ended)
    top = dict(collections.Counter(spent(run, label)).most_common(10))
    assert shown == pytest.approx(top, rel=0.01)
    assert len(shown) > 2


@pytest.mark.parametrize("way", WAYS)
def test_today_is_the_ledgers_today(run, way):
    """The first panel shows what the store says was spent since midnight, and the gauges what the budgets say."""
    today = panel("tokenguard-cost", "Today")
    seconds = seconds_since(today["timeFrom"], run.ended)
    shown = run.ways[way].one(filled_in(today["targets"][0]["expr"], seconds), run.ended)
    since = (run.ended - seconds) * 1e9
    stored = sum(call.cost_usd or 0 for call in run.calls if call.start_ns >= since)
    assert shown == pytest.approx(stored, rel=0.01)
    gauge = 'sum(max by (key) (last_over_time(tokenguard_budget_spent_usd{budget="tenant per day"}[5m])))'
    assert run.ways[way].one(gauge, run.ended) == pytest.approx(stored, rel=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_the_bars_add_up(run, way):
    """The bars of spend over time add up to the total: none of the money falls between two of them."""
    expr = panel("tokenguard-cost", "Spend by $by")["targets"][0]["expr"]
    end = int(run.ended) // 300 * 300 + 300
    found = run.ways[way].range(filled_in(expr, 0, by="tokenguard_tenant"), end - 5 * 300, end, 300)
    bars = {labels["tokenguard_tenant"]: sum(value for _, value in points) for labels, points in found}
    assert bars == pytest.approx(spent(run, "tokenguard_tenant"), rel=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_every_query(run, way):
    """Each panel's query answers over a range and at a moment, with numbers, or the reason why not is known."""
    server, empty = run.ways[way], set()
    start, end = run.began - 60, run.ended
    for _, shown, target in targets():
        seconds = seconds_since(shown["timeFrom"], end) if "timeFrom" in shown else run.seconds
        query = filled_in(target["expr"], seconds)
        numbers = [value for _, value in server.instant(query, end)]
        numbers += [value for _, points in server.range(query, start, end, 5) for _, value in points]
        assert not any(value == float("inf") for value in numbers), (shown["title"], query)
        if not any(value == value for value in numbers):
            empty.add((shown["title"], target["refId"]))
    # The budgets of this product only warn, and no pace is shown before 2 % of their windows, days, are over.
    may_be = {("Refused calls by budget", "A")}
    if run.ended % 86_400 < 0.02 * 86_400 + 60:
        may_be.add(("Budgets in tokens and calls", "B"))
    assert empty - may_be == set(EMPTY)


@pytest.mark.parametrize("way", WAYS)
def test_latency_is_of_all_calls(run, way):
    """The newer names of the second process count with the older ones of the first, and with those that keep them."""
    shown = panel("tokenguard-overview", "Latency p95")["targets"][0]["expr"]
    counted = filled_in(shown[shown.index(" and sum(") + 5 : shown.rindex(" >= ")], run.seconds)
    assert run.ways[way].one(counted, run.ended) == len(run.calls)
    newer, older = (
        run.ways[way].one(f"sum(last_over_time(gen_ai_client_{name}_seconds_count[10m]))", run.ended)
        for name in ("inference_duration", "operation_duration")
    )
    assert newer + older == len(run.calls)
    assert 0 < newer < older + newer


@pytest.mark.parametrize("way", WAYS)
def test_every_alert(run, way):
    """Each rule's expression runs, at a moment and over a range; a test of its own says when it fires."""
    for rule in alerts():
        run.ways[way].instant(rule["expr"], run.ended)
        run.ways[way].range(rule["expr"], run.began, run.ended, 15)


def test_alerts_that_must_fire(run):
    """What the product did wrong is told: an open breaker, too many values, and rules that nobody loaded."""
    firing = {rule["alert"] for rule in alerts() if run.ways["otlp"].instant(rule["expr"], run.ended)}
    expected = {"TokenGuardBreakerOpen", "TokenGuardTelemetryOverflow", "TokenGuardRecordingMissing"}
    assert expected <= firing
    assert not firing & {"TokenGuardSpendAnomaly", "TokenGuardPricesOld", "TokenGuardCacheHitDrop"}


def test_the_ways_agree(run):
    """The same panel shows the same number by each way."""
    expr = panel("tokenguard-waste", "Cache savings")["targets"][0]["expr"]
    query = filled_in(expr, run.seconds)
    saved = [server.one(query, run.ended) for server in run.ways.values()]
    assert saved == pytest.approx([sum(call.cost.saved or 0 for call in run.calls if call.cost)] * 3, rel=0.01)


def test_exemplars_and_traces(run):
    """Spans have gone to the place of Tempo, and the exemplars of the latency panel name their traces."""
    assert run.traces
    shown = panel("tokenguard-reliability", "Latency by model")["targets"][0]
    assert shown["exemplar"]
    found = run.ways["otlp"].get(
        "query_exemplars",
        query=filled_in(shown["expr"], 0),
        start=run.began,
        end=time.time(),
    )
    traced = {exemplar["labels"].get("trace_id") for series in found for exemplar in series["exemplars"]}
    known = {call.trace_id for call in run.calls}
    assert traced
    assert traced <= known
