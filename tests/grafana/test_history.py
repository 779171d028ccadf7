"""The dashboards on nine days of history: what asks for a past has one, and money adds up over days."""

from __future__ import annotations

import pytest

from .history import DAYS, NOW, load
from .parts import alerts, filled_in, panel, prometheus, seconds_since, targets

pytestmark = pytest.mark.xdist_group("history")  # what they share takes its time, and is made once

EMPTY = {("Lost and failed telemetry", "C"): "the simulated product has no collector"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    with prometheus(folder, data=load(folder)) as running:
        yield running


def test_every_query(server):
    """No panel is empty."""
    empty = set()
    for _, shown, target in targets():
        seconds = seconds_since(shown["timeFrom"], NOW) if "timeFrom" in shown else 86400
        query = filled_in(target["expr"], seconds, 1200)
        numbers = [value for _, value in server.instant(query, NOW)]
        if "timeFrom" not in shown:
            numbers += [v for _, points in server.range(query, NOW - 86400, NOW, 1200) for _, v in points]
        if not any(value == value for value in numbers):
            empty.add((shown["title"], target["refId"]))
    assert empty == set(EMPTY)


def test_month_and_projection(server):
    """Nine days are the month so far; the projection goes on at that pace to the thirtieth."""
    shown = panel("tokenguard-cost", "Month to date")
    seconds = seconds_since(shown["timeFrom"], NOW)
    spent = server.one("sum(last_over_time(tokenguard_cost_usd_total[1h]))", NOW)
    month = server.one(filled_in(shown["targets"][0]["expr"], seconds), NOW)
    assert seconds > DAYS * 86400
    assert month == pytest.approx(spent)
    projected = panel("tokenguard-cost", "Projected month")["targets"][0]["expr"]
    assert server.one(filled_in(projected, seconds), NOW) == pytest.approx(month * 30 * 86400 / seconds)


def test_what_went_wrong_is_told(server):
    """The feature whose calls grew shows a step against a week ago, and the one that lost its cache has its alert."""
    shown = panel("tokenguard-cost", "Tokens per call")["targets"]
    now, then = (server.by(filled_in(each["expr"], 86400), "tokenguard_feature", NOW) for each in shown)
    assert now["rag_answers"] / then["rag_answers"] == pytest.approx(1.43, abs=0.05)
    assert now["triage"] / then["triage"] == pytest.approx(1, abs=0.01)
    (drop,) = [rule["expr"] for rule in alerts() if rule["alert"] == "TokenGuardCacheHitDrop"]
    assert {labels["tokenguard_feature"] for labels, _ in server.instant(drop, NOW - 2 * 3600)} == {"support_bot"}
    assert server.instant(drop, NOW - 6 * 3600) == []
