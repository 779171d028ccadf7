"""The figures: right by hand, and the groups of any dimension add up to the total."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from report.conftest import HOUR, START, call
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import TaskRecord
from tokenguard.report import figures
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import DIMENSIONS, Query, moment
from tokenguard.report.sources import open_sources
from tokenguard.store.store import Store


@pytest.fixture
def records(store_path):
    with closing(open_sources([store_path]).records) as opened:
        yield opened


def test_totals_by_hand(records):
    """Each figure of the total, as worked out by hand from the twelve calls."""
    total = ask(records, Query()).total.figures
    assert total == {
        "calls": 12,
        "input_tokens": 4 * 6000 + 3 * 9000 + 500 + 100 + 700,
        "output_tokens": 4 * 200 + 2 * 300 + 40 + 50 + 20 + 100,
        "cache_read_tokens": 16_000,
        "cache_write_tokens": None,  # nobody reported any: unknown
        "cache_hit_share": pytest.approx(16_000 / (4 * 6000 + 3 * 9000 + 700)),  # over the calls that report it
        "cost_usd": pytest.approx(4 * 0.5 + 2 * 0.25 + 0.2 + 0.001 + 0.05),
        "estimated_usd": pytest.approx(0.2),
        "estimated_share": pytest.approx(0.2 / 2.751),
        "unpriced_calls": 1,  # neither the failed call nor the blocked one was answered
        "saved_usd": pytest.approx(0.6),
        "served": 0,
        "served_usd": 0.0,
        "watched": 0,
        "watched_usd": 0.0,
        "likeness": None,
        "retries": 2,
        "resends": 2,
        "retry_cost_usd": pytest.approx(0.02),
        "errors": 1,
        "abandoned": 1,
        "abandoned_usd": pytest.approx(0.2),
        "blocked": 1,
        "prevented_usd": pytest.approx(0.75),
        "generations": 11,
        "uncapped": 1,
        "uncapped_usd": pytest.approx(0.001),
        "cost_per_1000_calls_usd": pytest.approx(2.751 / 9 * 1000),  # over the nine priced calls
        "tokens_per_call": pytest.approx((52_300 + 1610) / 10),  # over the calls that report tokens
        "latency_p50_s": 1.0,
        "latency_p95_s": 1.0,
        "first_chunk_p50_s": None,
        "first_chunk_p95_s": None,
        "change_usd": None,
        "cost_share": pytest.approx(1.0),
    }


SUMMED = [name for name in figures.FIGURES if not any(part in name for part in ("share", "per_"))]


@pytest.mark.parametrize("by", [*((name,) for name in DIMENSIONS), ("region",), ("feature", "model", "tenant", "day")])
def test_groups_add_up(records, by):
    """Whatever the calls are grouped by, the groups add up to the total, and no call is lost."""
    report = ask(records, Query(by=by))
    for name in SUMMED:
        parts = [row.figures[name] for row in report.rows if row.figures[name] is not None]
        assert sum(parts) == pytest.approx(report.total.figures[name] or 0), name
    assert sum(row.figures["cost_share"] or 0 for row in report.rows) == pytest.approx(1.0)


def test_unknown_is_not_zero(records):
    """A group whose calls have no known price costs nobody knows what; calls without a key have none."""
    rows = {row.keys[0]: row.figures for row in ask(records, Query(by=("model",))).rows}
    assert rows["my-tuned-model"]["cost_usd"] is None
    assert rows["my-tuned-model"]["cache_hit_share"] is None
    assert rows["gpt-4o"]["cache_hit_share"] == 0.0
    assert {row.keys[0] for row in ask(records, Query(by=("region",))).rows} == {"eu", "us", None}


def test_tasks(records):
    """A task costs its failures too: the price of a success is all that was spent, over the successes."""
    assert ask(records, Query()).tasks == [("resolve_ticket", 2, 1, 2.0, 1.0)]
    assert ask(records, Query(where=(("tenant", "ac*"),))).tasks == [("resolve_ticket", 2, 0, 1.75, 0.875)]
    assert ask(records, Query(where=(("model", "*"),))).tasks == []


def test_where_and_when(records):
    """Globs and times choose the calls, for the total and everything else."""
    chosen = ask(records, Query(where=(("feature", "support_*"), ("region", "eu"))))
    assert (chosen.total.figures["calls"], len(chosen.rows), chosen.unpriced) == (4, 1, [])
    first_day = ask(records, Query(by=("day",), until_ns=START + 15 * HOUR))
    assert [(row.keys, row.figures["calls"]) for row in first_day.rows] == [(("2026-11-02",), 9)]
    assert ask(records, Query(since_ns=START + 15 * HOUR)).total.figures["calls"] == 3
    assert ask(records, Query(where=(("tenant", ""),))).total.figures["calls"] == 4


def test_order_and_limit(records):
    """The dearest first, unless asked otherwise; time in its order; the total counts what the limit leaves out."""
    assert [row.keys[0] for row in ask(records, Query()).rows] == ["support_answer", "rag", "digest", None]
    assert [row.keys[0] for row in ask(records, Query(sort="output_tokens")).rows][:2] == ["support_answer", "rag"]
    assert [row.keys[0] for row in ask(records, Query(sort="feature")).rows][1:] == [
        "digest",
        "rag",
        "support_answer",
    ]
    assert [row.keys[0] for row in ask(records, Query(by=("day",))).rows] == ["2026-11-02", "2026-11-03"]
    limited = ask(records, Query(limit=1))
    assert (len(limited.rows), limited.more, limited.total.figures["calls"]) == (1, 3, 12)


@pytest.mark.parametrize("query", [Query(sort="nonsense"), Query(by=("it's",)), Query(where=(('a"b', "*"),))])
def test_nonsense_is_refused(records, query):
    """A key that cannot be one, and a figure that there is none of, are refused with what would do."""
    with pytest.raises(TokenGuardError, match="one of"):
        ask(records, query)


def test_moments():
    """Spans count back from now; dates and times are UTC unless they say."""
    now = datetime(2026, 11, 3, 12, tzinfo=UTC)

    def ns(at):
        return int(at.timestamp()) * 10**9

    assert moment("24h", now) == ns(now - timedelta(days=1))
    assert moment("2w", now) == ns(now - timedelta(days=14))
    assert moment("2026-11-01", now) == ns(datetime(2026, 11, 1, tzinfo=UTC))
    assert moment("2026-11-01T02:00+02:00", now) == ns(datetime(2026, 11, 1, tzinfo=UTC))
    assert moment("0001-01-01", now) == 0
    for text in ("yesterday", "24", "99999999999d", ""):
        with pytest.raises(TokenGuardError, match="2026-11-01"):
            moment(text, now)


def test_every_named_column_is_a_name_of_ours(records):
    """The dimensions cover the attribution keys of the contract."""
    assert set(names.ATTRIBUTION_KEYS) <= set(DIMENSIONS)


def test_a_limit_keeps_the_last_days(records):
    """Of days a limit keeps the last, in their order; what it leaves out is counted and priced."""
    report = ask(records, Query(by=("day",), limit=1))
    assert [row.keys for row in report.rows] == [("2026-11-03",)]
    assert (report.more, report.more_usd) == (1, pytest.approx(2.501))
    assert ask(records, Query(limit=1)).more_usd == pytest.approx(0.751)
    first = ask(records, Query(by=("day",), sort="cost_usd", limit=1))
    assert [row.keys for row in first.rows] == [("2026-11-02",)]


@pytest.mark.parametrize(("hours", "indexed"), [(1, False), (75, True), (80, True)])
def test_the_index_of_times_is_for_few_calls(tmp_path, monkeypatch, hours, indexed):
    """A period that holds most of the calls is read as fast as the whole: in one pass, and not through the index."""
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    store = Store(tmp_path / "u.db")
    store.write([call(hour, "rag", "gpt-4o", (5000, 1, 0), 0.25) for hour in range(80)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as opened:
        asked = []
        opened.connection.set_trace_callback(asked.append)
        report = ask(opened, Query(since_ns=START + hours * HOUR))
        find(opened, report)
        opened.connection.set_trace_callback(None)
        assert report.total.figures["calls"] == 80 - hours
        plans = [
            (plan[3], sql)
            for sql in asked
            if "LIMIT 10" not in sql  # to find out how many there are is what the index is for
            for plan in opened.rows(f"EXPLAIN QUERY PLAN {sql}")
            if plan[3].startswith("SEARCH call_rows USING INDEX call_rows_by_start")
        ]
    assert bool(plans) == indexed, plans


def test_a_task_without_an_end(tmp_path):
    """Where calls name a task and nothing says how it ended, its cost is known, and its cost per success is not."""
    store = Store(tmp_path / "u.db")
    store.write(
        [
            call(0, "bot", "gpt-4o", (5, 1, 0), 0.25, **{names.TASK: "resolve"}),
            call(1, "bot", "gpt-4o", (5, 1, 0), None, **{names.TASK: "triage"}),
            call(2, "bot", "gpt-4o", (5, 1, 0), 0.25, **{names.TASK: "find"}),
            TaskRecord("find", START, 1, "ok", 0.25, 1),
        ]
    )
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as opened:
        assert ask(opened, Query()).tasks == [
            ("find", 1, 0, 0.25, 0.25),
            ("resolve", None, None, 0.25, None),
            ("triage", None, None, None, None),
        ]
        assert [task.task for task in ask(opened, Query(since_ns=START + HOUR)).tasks] == ["triage"]
