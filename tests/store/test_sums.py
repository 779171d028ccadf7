"""Daily sums: every call is in them once, a report from them is the report of the calls, and they outlive these."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from rows import few
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.report.engine import SqliteRecords, interpolated
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.report.trend import trend
from tokenguard.store import retention, store, sums
from tokenguard.store.file import open_for_reading, open_for_writing
from tokenguard.store.store import Store

DAY_NS = 86_400 * 10**9
NOW = datetime(2026, 11, 26, 15, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


def record(rng, age_days):
    outcome = rng.choices(("ok", "error", "blocked", "abandoned"), (90, 4, 3, 3))[0]
    attributes = {
        names.OPERATION: rng.choice(("chat", "embeddings")),
        names.PROVIDER: rng.choice(("openai", "anthropic")),
        names.REQUEST_MODEL: rng.choice(("gpt-4o", "claude-sonnet-4-6")),
        "tokenguard.feature": rng.choice(("rag", "bot", "")),
        "tokenguard.tenant": rng.choice(("a", "b", "c")),
        names.CODE_FILE: "app.py",
        names.CODE_LINE: rng.randrange(3),
        names.TASK: rng.choice(("resolve", "triage")),
    }
    if rng.random() < 0.7:
        attributes["tokenguard.prompt_version"] = rng.choice(("v1", "v2"))
    if rng.random() < 0.5:
        attributes[names.REQUEST_MAX_TOKENS] = 100
    if outcome == "error":
        attributes[names.ERROR_TYPE] = rng.choice(("openai.RateLimitError", "openai.APIError"))
    elif outcome == "blocked":
        attributes |= {names.GUARD_ACTION: "block", names.GUARD_RULE: "day", names.GUARD_PREVENTED: rng.random()}
    else:
        attributes |= {names.INPUT_TOKENS: rng.randrange(5000), names.OUTPUT_TOKENS: rng.randrange(500)}
        attributes[names.COST_STATUS] = rng.choice(("exact", "estimated", "unpriced"))
        if attributes[names.COST_STATUS] != "unpriced":
            attributes |= {names.COST: rng.random(), names.COST_INPUT: rng.random(), names.COST_SAVED: -rng.random()}
        if rng.random() < 0.6:
            attributes[names.CACHE_READ_TOKENS] = rng.choice((0, 0, attributes[names.INPUT_TOKENS]))
        if rng.random() < 0.4:
            attributes[names.TIME_TO_FIRST_CHUNK] = rng.random()
    if rng.random() < 0.1:
        attributes |= {names.RESEND_COUNT: 2, names.RETRY_ATTEMPT: 1, names.RETRY_COST: rng.random()}
    return CallRecord(NOW_NS - int(age_days * DAY_NS), int(rng.lognormvariate(0, 1) * 1e9), outcome, attributes)


def calls(count=1500, days=12.0, seed=1):
    rng = random.Random(seed)
    return [record(rng, rng.random() * days) for _ in range(count)]


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    monkeypatch.setenv(retention.ENV_DAYS, "0")


def written(path, records):
    kept = Store(path)
    kept.write(records)
    kept.close()


def folded(path, rows=400, most=None):
    with closing(open_for_writing(str(path))) as connection:
        done = 0
        while (most is None or done < most) and sums.fold(connection, rows):
            done += 1


def reports(path, query):
    """What the calls say, and what the sums say, of one query."""
    found = []
    for summed in (False, True):
        records = SqliteRecords(open_for_reading(path))
        with closing(records):
            if not summed:
                records.summed = None
            found.append(ask(records, query))
    calls, sums = found
    assert sums.summed
    return calls, sums


def assert_equal(calls, sums):
    """Equal, but for the rounding of sums in another order, and for quantiles within their stated error."""

    def approx(figures):
        return {
            name: value if not isinstance(value, float) else pytest.approx(value, rel=0.05 if "_p" in name else 1e-9)
            for name, value in figures.items()
        }

    def timed(figures, like):  # not all kept sums say how long calls took
        return {name: None if "_p" in name and like[name] is None else value for name, value in figures.items()}

    assert {row.keys: row.figures for row in sums.rows} == {
        row.keys: approx(timed(row.figures, next(each.figures for each in sums.rows if each.keys == row.keys)))
        for row in calls.rows
    }
    assert sums.total.figures == approx(timed(calls.total.figures, sums.total.figures))
    assert (sums.first_ns, sums.last_ns, sums.unpriced) == (calls.first_ns, calls.last_ns, calls.unpriced)
    assert [task[:3] for task in sums.tasks] == [task[:3] for task in calls.tasks]


QUERIES = [
    *(Query(by=(key,)) for kept in sums.KEPT for key in kept),
    Query(by=("day",)),
    Query(by=("feature", "model", "day")),
    Query(by=("error",), where=(("outcome", "e*"),)),
    Query(by=("model",), where=(("feature", "r*"), ("prompt_version", "v1"))),
    Query(by=("feature",), where=(("prompt_version", ""),)),
    Query(by=("feature",), where=(("day", "2026-11-2[0-4]"),)),
]
PERIODS = [
    {},
    {"since_ns": NOW_NS - 5 * DAY_NS},
    {"since_ns": NOW_NS - 5 * DAY_NS, "until_ns": NOW_NS - 2 * DAY_NS},
    {"until_ns": NOW_NS // DAY_NS * DAY_NS},
    {"since_ns": NOW_NS - DAY_NS // 4},
    {"since_ns": NOW_NS - DAY_NS // 2 - DAY_NS // 4, "until_ns": NOW_NS - DAY_NS // 2},
    {"since_ns": NOW_NS - 5 * DAY_NS, "until_ns": NOW_NS, "now_ns": NOW_NS},
]


@pytest.fixture(scope="module")
def half_folded(tmp_path_factory):
    """A store of which some calls are in the sums, and newer ones, of the same days, are not yet."""
    path = tmp_path_factory.mktemp("sums") / "u.db"
    written(path, calls())
    folded(path, most=3)
    return path


@pytest.mark.parametrize("when", few(PERIODS, 3), ids=range(len(PERIODS)))
@pytest.mark.parametrize("query", few(QUERIES, 8), ids=range(len(QUERIES)))
def test_the_same_figures(half_folded, query, when):
    """Whatever is asked, for whichever period, the report of the sums is the report of the calls."""
    assert_equal(*reports(half_folded, replace(query, **when)))


@pytest.mark.parametrize("when", few(PERIODS[:4], 2), ids=range(4))
@pytest.mark.parametrize(
    "by", few(["feature", "tenant", "error", "call_site,feature", "model,tenant", "trace", "outcome"], 4)
)
@pytest.mark.parametrize("sort", few([None, "calls", "errors", "latency_p95_s"], 2))
def test_few_of_many(half_folded, by, when, sort):
    """A report of some of the groups has the rows that the report of all begins with, and the same total."""
    found = []
    for limit in (None, 2):
        with closing(SqliteRecords(open_for_reading(half_folded))) as records:
            query = Query(by=tuple(by.split(",")), sort=sort, limit=limit, now_ns=NOW_NS, **when)
            found.append(ask(records, query))
    whole, some = found
    assert [row.keys for row in some.rows] == [row.keys for row in whole.rows[:2]]
    assert some.more == len(whole.rows) - len(some.rows)
    assert some.more_usd == pytest.approx(sum(row.figures["cost_usd"] or 0 for row in whole.rows[2:]))
    timed = all(value is not None for name, value in whole.total.figures.items() if "_p" in name)

    def approx(figures, like):
        return {
            name: pytest.approx(value, rel=0.05 if "_p" in name else 1e-9) if isinstance(value, float) else value
            for name, value in figures.items()
            if timed or "_p" not in name
        }

    for part, everything in zip([*some.rows, some.total], [*whole.rows[:2], whole.total], strict=True):
        expected = approx(everything.figures, part)
        assert {key: part.figures[key] for key in expected} == expected
    assert (some.first_ns, some.last_ns) == (whole.first_ns, whole.last_ns)


def test_the_total_leaves_out_what_no_group_has(tmp_path):
    """Where calls are gone, of which only sums are left, a report by a key without sums has no more than its groups."""
    path = tmp_path / "u.db"
    written(path, calls(400))
    folded(path)
    with closing(open_for_writing(str(path))) as connection:
        retention.prune(connection, (NOW_NS - 5 * DAY_NS) // DAY_NS * DAY_NS, 60.0)
    with closing(SqliteRecords(open_for_reading(path))) as records:
        some = ask(records, Query(by=("trace",), limit=1))
        whole = ask(records, Query(by=("trace",)))
    assert some.total.figures == whole.total.figures


def test_findings_and_trend(half_folded):
    """The findings and the trend are the same, too."""
    said = []
    for summed in (False, True):
        with closing(SqliteRecords(open_for_reading(half_folded))) as records:
            if not summed:
                records.summed = None
            report = ask(records, Query())
            going = trend(records, Query(), NOW)
            said.append(([finding[:1] for finding in find(records, report)], going.outliers, going.month_usd))
    assert said[0][:2] == said[1][:2]
    assert said[0][0]
    assert said[1][2] == pytest.approx(said[0][2])


@pytest.mark.parametrize("by", ["user", "hour", "trace", "call_site,feature"])
def test_what_no_sum_has(half_folded, by):
    """Keys that sums are not kept by are answered from the calls."""
    with closing(SqliteRecords(open_for_reading(half_folded))) as records:
        assert not ask(records, Query(by=tuple(by.split(",")))).summed


def test_a_writer_folds_as_it_goes(tmp_path, monkeypatch):
    """A program adds its calls to the sums, a part with each batch, and a short one leaves them to the reader."""
    monkeypatch.setattr(store, "FOLD_ROWS", 100)
    monkeypatch.setattr(sums, "FOLD_ROWS", 100)
    writer = Store(tmp_path / "u.db")
    for n in range(5):
        writer.write(calls(60, seed=n))
    with closing(open_for_reading(tmp_path / "u.db")) as connection:
        assert 0 < (sums.summed_to(connection) or 0) <= 300
    writer.close()
    assert_equal(*reports(tmp_path / "u.db", Query(by=("tenant",))))


def test_what_is_folded_meanwhile(tmp_path):
    """A report sees one state of the store, whatever a program adds to it, or to the sums, between two statements."""
    path = tmp_path / "u.db"
    written(path, calls(600))
    folded(path, rows=100, most=2)
    records = open_sources([path]).records
    with closing(records):
        before = ask(records, Query()).total.figures
        folded(path)
        written(path, calls(50, seed=9))
        assert ask(records, Query()).total.figures == before
    assert before["calls"] == 600


def test_many_processes_fold_once(tmp_path):
    """Processes that fold the same file at once add each call once."""
    path = tmp_path / "u.db"
    written(path, calls(1200))
    program = (
        "import sys; from tokenguard.store.file import open_for_writing\n"
        "from tokenguard.store.sums import fold\n"
        "import sqlite3\n"
        "connection = open_for_writing(sys.argv[1])\n"
        "for _ in range(200):\n"
        "    try:\n"
        "        fold(connection, 20)\n"
        "    except sqlite3.OperationalError:\n"
        "        pass\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(3)]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0]
    assert_equal(*reports(path, Query(by=("feature",))))


def test_pruning_keeps_the_sums(tmp_path, monkeypatch):
    """What is pruned stays in every report that the sums answer, tasks too; the calls are gone."""
    path = tmp_path / "u.db"
    ended = [
        TaskRecord("resolve", NOW_NS - age * DAY_NS, 1, outcome, 0.5, 1)
        for age, outcome in ((1, "ok"), (10, "ok"), (10, "error"), (11, "ok"))
    ]
    written(path, [*calls(), *ended])
    with closing(SqliteRecords(open_for_reading(path))) as records:
        before = ask(records, Query(by=("feature",)))
        week = ask(records, Query(by=("feature",), since_ns=NOW_NS // DAY_NS * DAY_NS - 10 * DAY_NS))
    with closing(open_for_writing(str(path))) as connection:
        gone = retention.prune(connection, (NOW_NS - 5 * DAY_NS) // DAY_NS * DAY_NS, 60.0)
        left = connection.execute("SELECT count(*), min(start_ns) FROM calls").fetchone()
    assert gone.calls + left[0] == 1500
    assert gone.calls > 500
    assert gone.tasks == 3
    assert left[1] >= (NOW_NS - 5 * DAY_NS) // DAY_NS * DAY_NS
    with closing(SqliteRecords(open_for_reading(path))) as records:
        after = ask(records, Query(by=("feature",)))
        assert_equal(before, after)
        assert [task[1:3] for task in after.tasks] == [task[1:3] for task in before.tasks]
        assert_equal(week, ask(records, week.query))
        assert ask(records, Query(by=("user",))).total.figures["calls"] == left[0]


def test_numbers_that_are_given_again(tmp_path):
    """Where all calls were pruned, SQLite gives their numbers again: the next calls still come into the sums."""
    path = tmp_path / "u.db"
    written(path, calls(100, days=1.0))
    with closing(open_for_writing(str(path))) as connection:
        assert retention.prune(connection, NOW_NS + DAY_NS, 60.0).calls == 100
        assert not sums.fold(connection)
    written(path, calls(30, seed=2))
    folded(path)
    with closing(SqliteRecords(open_for_reading(path))) as records:
        assert ask(records, Query()).total.figures["calls"] == 130


def test_an_old_writer_prunes_what_is_not_summed(tmp_path):
    """Calls that went before they were in the sums are missed by these, and by nothing else."""
    path = tmp_path / "u.db"
    written(path, calls(100))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM call_rows WHERE id <= 50")
    folded(path)
    assert_equal(*reports(path, Query()))


def test_a_program_that_runs_long_prunes(tmp_path, monkeypatch):
    """While a program runs, what gets too old is deleted: it does not wait for the next start."""
    monkeypatch.setenv(retention.ENV_DAYS, "30")
    monkeypatch.setattr(store, "EVERY_SECONDS", 0.0)
    writer = Store(tmp_path / "u.db")
    old = CallRecord(time.time_ns() - 50 * DAY_NS, 1, "ok", {names.COST: 1.0})
    writer.write([old])
    writer.write([CallRecord(time.time_ns(), 1, "ok", {names.COST: 2.0})])
    writer.close()
    with closing(SqliteRecords(open_for_reading(tmp_path / "u.db"))) as records:
        assert records.rows("SELECT count(*) FROM calls") == [(1,)]
        assert ask(records, Query()).total.figures["cost_usd"] == 3.0


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_of_histograms(seed):
    """A quantile of a histogram is within 5 % of the values' own, wherever they lie."""
    rng = random.Random(seed)
    values = sorted(rng.lognormvariate(rng.uniform(-8, 3), 1.5) for _ in range(500))
    histogram = sums.Histogram()
    for value in (None, *values):
        histogram.step(value)
    for q in (0.0, 0.05, 0.5, 0.95, 1.0):
        assert sums.quantile(histogram.finalize(), q) == pytest.approx(interpolated(values, q), rel=0.05)
    assert sums.Histogram().finalize() is None
    assert sums.quantile(None, 0.5) is None


def test_histograms_together():
    """Several histograms are as the one of all their values; without any there is none."""
    parts, whole = [sums.Histogram() for _ in range(3)], sums.Histogram()
    rng = random.Random(1)
    for _ in range(300):
        value = rng.lognormvariate(0, 1)
        rng.choice(parts).step(value)
        whole.step(value)
    both = sums.Merged()
    for part in (None, *(each.finalize() for each in parts), None):
        both.step(part)
    assert json.loads(both.finalize()) == whole.counts
    assert sums.Merged().finalize() is None
    assert sums.merged([None, parts[0].finalize()]) == parts[0].finalize()
