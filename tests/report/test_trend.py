"""Where spend is going: against the period before, at the month's end, and against a feature's own past."""

from __future__ import annotations

import random
import statistics
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.report.trend import median, trend
from tokenguard.store.store import Store

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY_NS = 86_400 * 10**9


def ns(at):
    return int(at.timestamp()) * 10**9


def call(at, usd, feature="support"):
    attributes = {names.OPERATION: "chat", names.COST: usd, names.COST_STATUS: "exact", "tokenguard.feature": feature}
    return CallRecord(ns(at), 10**9, "ok", attributes)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")

    def write(calls):
        store = Store(tmp_path / "u.db")
        store.write(calls)
        store.close()
        return closing(open_sources([tmp_path / "u.db"]).records)

    return write


def daily(usd, days, feature="support", before=NOW):
    """A call at noon on each of the days before."""
    amounts = usd if callable(usd) else lambda n: usd
    return [call(before - timedelta(days=n), amounts(n), feature) for n in range(1, days + 1)]


def test_the_period_before(recorded):
    """Each group is held against its cost in the period before, where that was recorded from its beginning."""
    calls = [*daily(1.0, 20), *daily(lambda n: 3.0 if n <= 7 else 0.0, 20, "rag")]
    week = Query(since_ns=ns(NOW - timedelta(days=7, hours=1)), now_ns=ns(NOW))
    with recorded(calls) as records:
        report = ask(records, week)
        old = ask(records, Query(since_ns=ns(NOW - timedelta(days=15)), now_ns=ns(NOW)))
        nobody_asks = ask(records, Query(since_ns=week.since_ns))
    changes = {row.keys[0]: row.figures["change_usd"] for row in report.rows}
    assert changes == {"support": pytest.approx(0.0), "rag": pytest.approx(21.0)}
    assert report.total.figure("change") == (pytest.approx(21.0), pytest.approx(7.0))
    assert old.total.figures["change_usd"] is None  # the 15 days before began before the first record
    assert nobody_asks.total.figures["change_usd"] is None


def test_the_months_end(recorded):
    """What this month cost so far, and its rest at the mean of the last seven complete days, idle ones included."""
    calls = [*daily(lambda n: 7.0 if n == 2 else 0.0, 30), call(NOW, 5.0)]
    with recorded(calls) as records:
        found = trend(records, Query(), NOW)
    assert found.month_usd == pytest.approx(12.0)
    assert found.per_day_usd == pytest.approx(1.0)
    assert found.forecast_usd == pytest.approx(12.0 + 4.5)  # four days and a half are left of November


def test_no_forecast_from_too_little(recorded):
    """Two complete days are no rate, and what is not of this month has no trend at all."""
    with recorded(daily(1.0, 2)) as records:
        assert trend(records, Query(), NOW).forecast_usd is None
    with recorded([call(NOW - timedelta(days=40), 1.0)]) as records:
        assert trend(records, Query(), NOW + timedelta(days=30)) is None


@pytest.mark.parametrize("day", [0, 1])
def test_a_day_that_stands_out(recorded, day):
    """A day far above the feature's own past is found, today so far or the last one, and its excess is priced."""
    past = daily(lambda n: 10.0 + n % 3, 25, before=NOW - timedelta(days=1))
    calls = [*past, call(NOW - timedelta(days=day), 60.0), *daily(10.0, 25, "rag")]
    with recorded(calls) as records:
        found = trend(records, Query(), NOW).outliers
        says = find(records, ask(records, Query()), found)
    assert [(outlier.feature, outlier.day, outlier.usd, outlier.usual_usd) for outlier in found] == [
        ("support", (NOW - timedelta(days=day)).date(), 60.0, 11.0)
    ]
    outlier = next(finding for finding in says if finding.usd_is == "above its usual day")
    assert outlier.usd == pytest.approx(49.0)
    assert f"--since {found[0].day}" in outlier.next_step


def test_what_is_usual_is_no_outlier(recorded):
    """Neither a noisy past, nor a drop, nor a young feature, nor small change stands out."""
    noisy = daily(lambda n: (5.0, 60.0, 20.0)[n % 3], 25)
    drop = daily(lambda n: 0.1 if n == 1 else 50.0, 25, "drop")
    young = daily(lambda n: 90.0 if n == 1 else 1.0, 5, "young")
    small = daily(lambda n: 0.9 if n == 1 else 0.1, 25, "small")
    with recorded([*noisy, *drop, *young, *small]) as records:
        assert trend(records, Query(), NOW).outliers == []


def test_a_filter_filters_the_trend(recorded):
    """The trend is of the calls that were asked for, whatever the period."""
    with recorded([*daily(1.0, 10), *daily(5.0, 10, "rag")]) as records:
        found = trend(records, Query(where=(("feature", "rag"),), since_ns=ns(NOW - timedelta(days=1))), NOW)
    assert found.per_day_usd == pytest.approx(5.0)
    assert date(2026, 11, 26) not in [outlier.day for outlier in found.outliers]


def test_the_middle_of_some_values():
    """It is what `statistics` says."""
    rng = random.Random(3)
    for count in range(1, 30):
        values = [rng.choice((0.0, rng.random(), rng.lognormvariate(0, 3))) for _ in range(count)]
        assert median(values) == statistics.median(values)
