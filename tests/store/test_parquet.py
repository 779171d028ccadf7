"""Parquet: what a store holds, in files that DuckDB asks, with the report that the store gives."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest

pytest.importorskip("duckdb")

from click.testing import CliRunner

from rows import few
from store.test_sums import DAY_NS, NOW, NOW_NS, PERIODS, QUERIES, calls, written
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.page.document import document
from tokenguard.page.gathered import gathered
from tokenguard.report import calls as single
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import DIMENSIONS, Query
from tokenguard.report.sources import SourceError, open_sources
from tokenguard.report.trend import trend
from tokenguard.store.file import open_for_reading
from tokenguard.store.parquet import connect, export

ODD = ["", "\\N", '"', '""', "a,b", "a\nb", "a\r\nb", "'", "\t=1", "ü顧客🙂", "x" * 100_000, "NULL", " ", "\\"]


def odd_calls():
    """Calls whose names are hard to write down."""
    for n, text in enumerate(ODD):
        attributes = {"tokenguard.feature": text, "tokenguard.attr.note": text, names.COST: 1.0 + n / 7}
        yield CallRecord(NOW_NS - n * DAY_NS, n, "ok", attributes, "t" * 32, f"{n:016x}")
    yield CallRecord(
        NOW_NS, 5, "ok", {names.REQUEST_MAX_TOKENS: "many", names.CODE_LINE: 7.0, names.REQUEST_TEMPERATURE: 1}
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same calls in a store and in Parquet."""
    folder = tmp_path_factory.mktemp("parquet")
    repeated = [
        CallRecord(NOW_NS - n, 1, "ok", {names.COST: 0.25, names.REQUEST_HASH: "same", "tokenguard.feature": "rag"})
        for n in range(5)
    ]
    tasks = [TaskRecord("resolve", NOW_NS - n * DAY_NS, 1, ("ok", "error")[n % 3 == 0], 0.5, 1) for n in range(9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENGUARD_STORE_DAYS", "0")
        written(folder / "u.db", [*calls(), *odd_calls(), *repeated, *tasks])
    with closing(open_for_reading(folder / "u.db")) as connection:
        done = export(connection, folder / "u.db", folder / "pq")
    assert (done.calls, done.tasks) == (1500 + len(ODD) + 1 + 5, 9)
    return folder / "u.db", folder / "pq"


def opened(both):
    return [open_sources([path]).records for path in both]


def approx(figures):
    return {
        name: pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
        for name, value in figures.items()
    }


ASKED = [
    *((Query(by=(key,)), {}) for key in DIMENSIONS),
    (Query(by=("note", "hour")), {}),
    *((query, PERIODS[n % len(PERIODS)]) for n, query in enumerate(QUERIES)),
]


@pytest.mark.parametrize(("query", "when"), few(ASKED, 12), ids=range(len(ASKED)))
def test_the_same_report(both, query, when):
    """Whatever is asked, DuckDB answers what SQLite does: integers equal, floats but for the order of their sums."""
    store, parquet = opened(both)
    with closing(store), closing(parquet):
        ours, theirs = (ask(records, replace(query, **when)) for records in (store, parquet))
    assert {row.keys: row.figures for row in theirs.rows} == {row.keys: approx(row.figures) for row in ours.rows}
    assert theirs.total.figures == approx(ours.total.figures)
    assert (theirs.first_ns, theirs.last_ns, theirs.unpriced) == (ours.first_ns, ours.last_ns, ours.unpriced)
    assert [task[:3] for task in theirs.tasks] == [task[:3] for task in ours.tasks]


def test_the_same_findings_calls_and_page(both):
    """Findings, trend, single calls with all their facts, repeats, and so the page."""
    store, parquet = opened(both)
    with closing(store), closing(parquet):
        said = []
        for records in (store, parquet):
            report = ask(records, Query())
            going = trend(records, Query(), NOW)
            said.append(
                (
                    [finding.says for finding in find(records, report, going.outliers)],
                    [call.record for call in single.calls(records, Query(limit=2000), "time")],
                    single.repeats(records, Query()),
                    document(gathered(records, Query(by=("model",)), "here", NOW)),
                )
            )
        assert said[0][0] == said[1][0]
        odd = {names.REQUEST_MAX_TOKENS, names.CODE_LINE, names.REQUEST_TEMPERATURE}
        for ours, theirs in zip(said[0][1], said[1][1], strict=True):
            if "many" in ours.attributes.values():  # what is no number has no place in a column of numbers
                assert theirs.attributes == {names.CODE_LINE: 7, names.REQUEST_TEMPERATURE: 1.0}
                assert set(ours.attributes) == odd
            else:
                assert theirs == ours
        assert said[0][2] == said[1][2]
        assert len(said[0][3]) == pytest.approx(len(said[1][3]), rel=0.02)


def test_again_only_what_is_new(tmp_path, monkeypatch):
    """A second export writes what has come meanwhile, a third nothing; two stores go into one folder."""
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    out = tmp_path / "pq"

    def run(store):
        done = CliRunner().invoke(group, ["store", "export", "--store", str(store), "--out", str(out)])
        assert done.exit_code == 0, done.output
        return done.output

    def count():
        with closing(open_sources([out]).records) as records:
            return ask(records, Query()).total.figures["calls"]

    written(tmp_path / "a.db", calls(100))
    assert "100 calls and 0 tasks" in run(tmp_path / "a.db")
    written(tmp_path / "a.db", calls(30, seed=2))
    assert "30 calls" in run(tmp_path / "a.db")
    assert "0 calls and 0 tasks in 0 new files" in run(tmp_path / "a.db")
    assert count() == 130
    written(tmp_path / "b.db", calls(50, seed=3))
    run(tmp_path / "b.db")
    assert count() == 180
    assert not list(out.rglob("*.csv"))
    assert len(list((out / "calls").glob("day=*"))) in (12, 13)


def test_what_cannot_be_read(tmp_path, both):
    """Parquet is read alone, and a broken file is one line."""
    with pytest.raises(SourceError, match="cannot be read together"):
        open_sources(list(both))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TokenGuardError, match="the Parquet files cannot be read"):
        open_sources([tmp_path])


def test_lines_in_folders_of_days(tmp_path):
    """OTLP-JSON in year=/month=/day= folders is found, too."""
    from report.test_sources import CALLS, line, span

    for n, call in enumerate(CALLS[:3]):
        day = tmp_path / f"year=2026/month=11/day=0{n + 1}"
        day.mkdir(parents=True)
        (day / "traces.json").write_text(line(span(call)))
    with closing(open_sources([tmp_path]).records) as records:
        assert ask(records, Query()).total.figures["calls"] == 3


def test_a_folder_of_an_older_version(tmp_path, both):
    """What an older export has in its JSON is read as the column that has come since, beside files that have it."""
    attributes = {names.COST: 0.25, names.CACHE_RESULT: names.HIT, names.CACHE_SAVED: 0.5, "tokenguard.feature": "old"}
    written(tmp_path / "u.db", [CallRecord(NOW_NS, 1, "ok", {**attributes, names.TASK_RUN: "0f" * 8})])
    with closing(open_for_reading(tmp_path / "u.db")) as connection:
        export(connection, tmp_path / "u.db", tmp_path / "new")
    (file,) = (tmp_path / "new").rglob("*.parquet")
    older = tmp_path / "older" / "calls" / "day=2026-11-01" / file.name
    older.parent.mkdir(parents=True)
    later = ("answer", "answer_reason", "answer_saved_usd", "task_run", "response_id", "fingerprint")
    with closing(connect()) as duck:
        more = json.dumps({names.CACHE_RESULT: names.HIT, names.CACHE_SAVED: 0.5, names.TASK_RUN: "0f" * 8})
        duck.execute(
            f"COPY (SELECT * EXCLUDE ({', '.join(later)}) REPLACE ('{more}' AS more) FROM '{file}') TO '{older}'"
        )
    for folders in ([tmp_path / "older"], [tmp_path / "older", both[1]], [tmp_path / "new"]):
        with closing(open_sources(folders).records) as records:
            found = ask(records, Query(by=("task_run",), where=(("feature", "old"),)))
        assert [row.keys for row in found.rows] == [("0f" * 8,)]
        assert (found.total.figures["served"], found.total.figures["served_usd"]) == (1, 0.5)
