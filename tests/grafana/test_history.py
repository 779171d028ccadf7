"""The dashboards on weeks of history: what asks for a past has one, and money adds up over days."""

from __future__ import annotations

import pytest

from .history import NOW, load
from .parts import RAW, RECORDED, alerts, filled_in, panel, prometheus, seconds_since, step_of, targets

pytestmark = pytest.mark.xdist_group("history")  # what they share takes its time, and is made once


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    with prometheus(folder, data=load(folder)) as running:
        yield running


@pytest.mark.parametrize("recorded", [RAW, RECORDED])
def test_every_query(server, recorded):
    """No panel is empty, with the recording rules and without them."""
    empty = set()
    for _, shown, target in targets():
        seconds = seconds_since(shown["timeFrom"], NOW) if "timeFrom" in shown else 86400
        step = step_of(target)
        query = filled_in(target["expr"], seconds, step, recorded=recorded)
        numbers = [value for _, value in server.instant(query, NOW)]
        if not target["instant"]:
            numbers += [v for _, points in server.range(query, NOW - 86400, NOW, step) for _, v in points]
        if not any(value == value for value in numbers):
            empty.add((shown["title"], target["refId"]))
    assert empty == set()


def test_what_is_recorded_says_what_the_counters_say(server):
    """Spend by tenant over a day, and in each of its hours, is the same from the counters and from the rules."""
    for uid, title in (
        ("tokenguard-cost", "Most spent by $by"),
        ("tokenguard-waste", "Uncached input cost by feature"),
    ):
        label = "tokenguard_tenant" if "$by" in title else "tokenguard_feature"
        exprs = [filled_in(panel(uid, title)["targets"][0]["expr"], 86400, recorded=which) for which in (RAW, RECORDED)]
        raw, recorded = (server.by(expr, label, NOW) for expr in exprs)
        assert recorded == pytest.approx(raw, rel=0.01)
        assert len(raw) >= 3


def test_month_and_projection(server):
    """The month so far is what was spent in it; the rest is at the pace of the last week."""
    shown = panel("tokenguard-cost", "Month to date")
    seconds = seconds_since(shown["timeFrom"], NOW)
    first = NOW - seconds
    total = "sum(last_over_time(tokenguard_cost_usd_total[2h]))"
    spent, before, week_ago = (server.one(total, at) for at in (NOW, first, NOW - 7 * 86400))
    month = server.one(filled_in(shown["targets"][0]["expr"], seconds), NOW)
    assert month == pytest.approx(spent - before, rel=0.01)
    left = 30 * 86400 - seconds
    projected = server.one(filled_in(panel("tokenguard-cost", "Projected month")["targets"][0]["expr"], seconds), NOW)
    assert projected == pytest.approx(month + (spent - week_ago) / 7 / 86400 * left, rel=0.01)
    covered = panel("tokenguard-finops", "Month covered")["targets"][0]["expr"]
    assert server.one(filled_in(covered, seconds), NOW) == pytest.approx(1, abs=0.01)


def test_overview_compares(server):
    """The overview's change against yesterday is that of the sums."""
    shown = panel("tokenguard-overview", "Spend")["targets"]
    now, change, _ = (server.one(filled_in(each["expr"], 86400, recorded=RECORDED), NOW) for each in shown)
    before = server.one(filled_in(shown[0]["expr"], 86400, recorded=RECORDED), NOW - 86400)
    assert change == pytest.approx(now / before - 1, abs=0.01)


def test_budgets_in_tokens_and_calls_and_each_month_have_a_row(server):
    """Budgets of tokens and of calls have rows of their own, and a team's month has budget, actual and forecast."""
    rows = {
        title: {
            (labels["budget"], labels["unit"])
            for labels, _ in server.instant(
                filled_in(panel("tokenguard-budgets", title)["targets"][0]["expr"], 86400), NOW
            )
        }
        for title in ("Budgets in dollars", "Budgets in tokens and calls")
    }
    assert {("tenant per day", "USD"), ("team per month", "USD")} <= rows["Budgets in dollars"]
    assert rows["Budgets in tokens and calls"] == {("agents per day", "tokens"), ("searches per day", "calls")}
    shown = panel("tokenguard-finops", "Budget, actual and forecast by team")["targets"]
    teams = [server.by(filled_in(each["expr"], 17 * 86400), "tokenguard_team", NOW) for each in shown]
    assert [set(each) for each in teams] == [{"support", "search", "operations"}] * 4
    assert teams[0] == {"support": 900, "search": 330, "operations": 200}


def test_a_call_under_three_budgets_is_reserved_once(server):
    """What is reserved is that of the budget with most of it, not the sum over all budgets."""
    shown = server.one(filled_in(panel("tokenguard-budgets", "Reserved in flight")["targets"][0]["expr"], 60), NOW)
    by_budget = server.by("sum by (budget) (tokenguard_budget_reserved_usd)", "budget", NOW)
    assert shown == pytest.approx(max(by_budget.values()))
    assert shown < sum(by_budget.values())


def test_the_shown_service_is_the_chosen_one(server):
    """A picker that names another service or tenant leaves nothing of the first, on every panel that it filters."""
    for picker in ("service", "environment", "tenant", "team", "provider", "model"):
        for board, shown, target in targets():
            if f"${picker}" in target["expr"] and target["instant"] and not shown["title"].startswith("Calls refused"):
                query = filled_in(target["expr"], 86400, recorded=RECORDED, **{picker: "nobody"})
                found = [value for _, value in server.instant(query, NOW) if value]
                assert found == [], (board["uid"], shown["title"], picker)


def test_what_went_wrong_is_told(server):
    """The feature whose calls grew shows a step against a week ago, and the one that lost its cache has its alert."""
    now, then, _ = (
        server.by(filled_in(each["expr"], 86400, recorded=RECORDED), "tokenguard_feature", NOW)
        for each in panel("tokenguard-cost", "Tokens per call")["targets"]
    )
    assert now["rag_answers"] / then["rag_answers"] == pytest.approx(1.43, abs=0.05)
    assert now["triage"] / then["triage"] == pytest.approx(1, abs=0.01)
    (drop,) = [rule["expr"] for rule in alerts() if rule["alert"] == "TokenGuardCacheHitDrop"]
    assert {labels["tokenguard_feature"] for labels, _ in server.instant(drop, NOW - 2 * 3600)} == {"support_bot"}
    assert server.instant(drop, NOW - 6 * 3600) == []
