"""The figures: right by hand, and the groups of any dimension add up to the total."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from report.conftest import HOUR, START
from tokenguard import names
from tokenguard.errors import TokenGuardError
from tokenguard.report import figures
from tokenguard.report.figures import DIMENSIONS, Query, ask, moment
from tokenguard.report.sources import open_source


@pytest.fixture
def connection(store_path):
    with closing(open_source(store_path)) as opened:
        yield opened


def test_totals_by_hand(connection):
    """Each figure of the total, as worked out by hand from the twelve calls."""
    total = ask(connection, Query()).total.figures
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
        "cost_share": pytest.approx(1.0),
    }


SUMMED = [name for name in figures.FIGURES if "share" not in name and "per_1000" not in name]


@pytest.mark.parametrize("by", [*((name,) for name in DIMENSIONS), ("region",), ("feature", "model", "tenant", "day")])
def test_groups_add_up(connection, by):
    """Whatever the calls are grouped by, the groups add up to the total, and no call is lost."""
    report = ask(connection, Query(by=by))
    for name in SUMMED:
        parts = [row.figures[name] for row in report.rows if row.figures[name] is not None]
        assert sum(parts) == pytest.approx(report.total.figures[name] or 0), name
    assert sum(row.figures["cost_share"] or 0 for row in report.rows) == pytest.approx(1.0)


def test_unknown_is_not_zero(connection):
    """A group whose calls have no known price costs nobody knows what; calls without a key have none."""
    rows = {row.keys[0]: row.figures for row in ask(connection, Query(by=("model",))).rows}
    assert rows["my-tuned-model"]["cost_usd"] is None
    assert rows["my-tuned-model"]["cache_hit_share"] is None
    assert rows["gpt-4o"]["cache_hit_share"] == 0.0
    assert {row.keys[0] for row in ask(connection, Query(by=("region",))).rows} == {"eu", "us", None}


def test_tasks(connection):
    """A task costs its failures too: the price of a success is all that was spent, over the successes."""
    assert ask(connection, Query()).tasks == [("resolve_ticket", 2, 1, 2.0, 1.0)]
    assert ask(connection, Query(where=(("tenant", "ac*"),))).tasks == [("resolve_ticket", 2, 0, 1.75, 0.875)]
    assert ask(connection, Query(where=(("model", "*"),))).tasks == []


def test_where_and_when(connection):
    """Globs and times choose the calls, for the total and everything else."""
    chosen = ask(connection, Query(where=(("feature", "support_*"), ("region", "eu"))))
    assert (chosen.total.figures["calls"], len(chosen.rows), chosen.unpriced) == (4, 1, [])
    first_day = ask(connection, Query(by=("day",), until_ns=START + 15 * HOUR))
    assert [(row.keys, row.figures["calls"]) for row in first_day.rows] == [(("2026-11-02",), 9)]
    assert ask(connection, Query(since_ns=START + 15 * HOUR)).total.figures["calls"] == 3
    assert ask(connection, Query(where=(("tenant", ""),))).total.figures["calls"] == 4


def test_order_and_limit(connection):
    """The dearest first, unless asked otherwise; time in its order; the total counts what the limit leaves out."""
    assert [row.keys[0] for row in ask(connection, Query()).rows] == ["support_answer", "rag", "digest", None]
    assert [row.keys[0] for row in ask(connection, Query(sort="output_tokens")).rows][:2] == ["support_answer", "rag"]
    assert [row.keys[0] for row in ask(connection, Query(sort="feature")).rows][1:] == [
        "digest",
        "rag",
        "support_answer",
    ]
    assert [row.keys[0] for row in ask(connection, Query(by=("day",))).rows] == ["2026-11-02", "2026-11-03"]
    limited = ask(connection, Query(limit=1))
    assert (len(limited.rows), limited.more, limited.total.figures["calls"]) == (1, 3, 12)


@pytest.mark.parametrize("query", [Query(sort="nonsense"), Query(by=("it's",)), Query(where=(('a"b', "*"),))])
def test_nonsense_is_refused(connection, query):
    """A key that cannot be one, and a figure that there is none of, are refused with what would do."""
    with pytest.raises(TokenGuardError, match="one of"):
        ask(connection, query)


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


def test_every_named_column_is_a_name_of_ours(connection):
    """The dimensions cover the attribution keys of the contract."""
    assert set(names.ATTRIBUTION_KEYS) <= set(DIMENSIONS)
