"""ClickHouse: a fleet's spans as the collector writes them, asked by the real client on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

import clickhouse_connect
from click.testing import CliRunner

from store.test_parquet import ASKED, approx
from store.test_sums import DAY_NS, NOW, NOW_NS, calls, written
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.invoice import corrected
from tokenguard.invoice.measured import measured
from tokenguard.report import calls as single
from tokenguard.report.clickhouse import CALLS, TASKS, ddl
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import Query
from tokenguard.report.sources import SourceError, open_sources
from tokenguard.report.trend import trend

pytestmark = pytest.mark.apart

COLUMNS = """(
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
    ResourceAttributes {type}, ScopeName String, ScopeVersion String, SpanAttributes {type}, Duration UInt64,
    StatusCode LowCardinality(String), StatusMessage String
) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""
"""As the collector's exporter makes its table, but for codecs, indices, events and links."""
TYPES = {"map": "Map(LowCardinality(String), String)", "json": "JSON"}


def text(value):
    """An attribute as the exporter writes it to a map."""
    if isinstance(value, tuple):
        return json.dumps(list(value), separators=(",", ":"))
    return json.dumps(value) if isinstance(value, bool) else str(value)


def told(record, number):
    """The ids of a call's or a task's span, and its attributes."""
    if isinstance(record, CallRecord):
        return record.trace_id, record.span_id, record.attributes
    return (
        "",
        f"{number:016x}",
        {
            names.TASK: record.name,
            names.TASK_OUTCOME: record.outcome,
            names.TASK_RUN: f"{number:016x}",
            names.TASK_COST: record.cost_usd,
            names.TASK_CALLS: record.calls,
            **{names.attribution_attribute(key): value for key, value in record.attribution.items()},
        },
    )


def row(record, number, form):
    """A row of the collector's table."""
    trace, span, attributes = told(record, number)
    return {
        "Timestamp": f"{record.start_ns // 10**9}.{record.start_ns % 10**9:09d}",
        "TraceId": trace,
        "SpanId": span,
        "SpanName": "chat",
        "ServiceName": "app",
        "SpanAttributes": {key: text(value) for key, value in attributes.items()} if form == "map" else attributes,
        "Duration": record.duration_ns,
        "StatusCode": "Error" if record.outcome == "error" and isinstance(record, CallRecord) else "Unset",
    }


@pytest.fixture(scope="module")
def port():
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py"))], stdout=subprocess.PIPE, text=True
    ) as server:
        yield int(server.stdout.readline())
        server.terminate()


@pytest.fixture(scope="module")
def client(port):
    with closing(clickhouse_connect.get_client(host="127.0.0.1", port=port, autogenerate_session_id=False)) as client:
        yield client


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The same calls and tasks in a store, and as they are."""
    path = tmp_path_factory.mktemp("clickhouse") / "u.db"
    tasks = [
        TaskRecord("resolve", NOW_NS - n * DAY_NS, 1, ("ok", "error")[n % 3 == 0], 0.5, 1, {"tenant": "acme"})
        for n in range(9)
    ]
    repeated = [
        CallRecord(NOW_NS - n, 1, "ok", {names.OPERATION: "chat", names.COST: 0.25, names.REQUEST_HASH: "same"})
        for n in range(5)
    ]
    made = [with_span(record, n) for n, record in enumerate([*calls(), *repeated])] + tasks
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENGUARD_STORE_DAYS", "0")
        written(path, made)
    return path, made


def with_span(record, number):
    """A call that came as a span: with ids, and an outcome that its attributes tell."""
    record.trace_id, record.span_id = f"{number:032x}", f"{number:016x}"
    record.attributes = {key: value for key, value in record.attributes.items() if value != ""}
    record.attributes |= {names.FINISH_REASONS: ("stop", "length"), names.REQUEST_STREAM: True, names.SERVER_PORT: 443}
    record.attributes |= {"tokenguard.attr.note": f"n{number % 3}"}
    if record.outcome == "blocked":
        record.attributes[names.GUARD_ACTION] = names.BLOCK
    if record.outcome == "abandoned":
        record.attributes[names.COST_BASIS] = "abandoned_stream"
    return record


@pytest.fixture(scope="module", params=["map", "json", "narrow"])
def source(request, client, port, records):
    """The spans in the collector's table in each form, and in the narrow tables beside it."""
    form = "json" if request.param == "json" else "map"
    database = f"fleet_{request.param}"
    client.command(f"CREATE DATABASE {database}")
    client.command(f"CREATE TABLE {database}.otel_traces {COLUMNS.format(type=TYPES[form])}")
    if request.param == "narrow":
        first, once = ddl(form).split("-- Once")
        for statement in first.split(";"):
            if statement.strip():
                run(port, database, statement)
        assert once.count("INSERT INTO") == 2
    lines = "\n".join(json.dumps(row(record, n, form)) for n, record in enumerate(records[1]))
    run(port, database, f"INSERT INTO otel_traces FORMAT JSONEachRow {lines}")
    return f"clickhouse://127.0.0.1:{port}/{database}"


def run(port, database, statement):
    with closing(
        clickhouse_connect.get_client(host="127.0.0.1", port=port, database=database, autogenerate_session_id=False)
    ) as client:
        client.command(statement)


def test_the_same_report(source, records):
    """Every figure of a report is the store's, by each key and for each period: floats but for the order of sums."""
    with closing(open_sources([records[0]]).records) as store, closing(open_sources([source]).records) as fleet:
        store.summed = None
        for query, when in ASKED[::4]:
            ours, theirs = (ask(each, replace(query, **when)) for each in (store, fleet))
            assert {row.keys: row.figures for row in theirs.rows} == {
                row.keys: approx(row.figures) for row in ours.rows
            }
            assert theirs.total.figures == approx(ours.total.figures)
            assert (theirs.first_ns, theirs.last_ns, theirs.unpriced) == (ours.first_ns, ours.last_ns, ours.unpriced)
            assert [task[:3] for task in theirs.tasks] == [task[:3] for task in ours.tasks]


def test_the_same_findings_calls_and_page(source, records):
    """Findings, trend, single calls with all their facts, repeats, and so the page."""
    said = []
    for each in (records[0], source):
        with closing(open_sources([each]).records) as opened:
            opened.summed = None
            report = ask(opened, Query())
            going = trend(opened, Query(), NOW)
            said.append(
                (
                    [finding.says for finding in find(opened, report, going.outliers)],
                    single.repeats(opened, Query()),
                    single.call(opened, f"{7:016x}").record.attributes,
                    [call.record for call in single.calls(opened, Query(limit=50), "time")],
                )
            )
    for ours, theirs in zip(*said, strict=True):
        assert theirs == ours


def test_the_same_beside_a_bill(source, records, tmp_path):
    """What a bill is held against, by attribution too, and the cost as billed, are the store's."""
    said = []
    bill = tmp_path / "bill.json"
    rows = [{"provider": "openai", "model": "gpt-4o", "billed_over_measured": 1.5}]
    bill.write_text(json.dumps({"since": "2026-11-01", "until": "2026-11-02", "factors": rows}))
    for each in (records[0], source):
        with closing(open_sources([each]).records) as opened:
            opened.summed = None
            found = measured(opened, Query(), ("day", "provider", "model", "feature"))
            report = ask(opened, Query(by=("tenant",)))
            corrected.add(opened, report, corrected.read(bill), 0.0)
            said.append((found, {row.keys: row.figures[corrected.FIGURE] for row in report.rows}))
    (ours, as_billed), (theirs, their_billed) = said
    assert theirs.keys() == ours.keys()
    for cell, one in ours.items():
        other = theirs[cell]
        assert (other.calls, other.unpriced, other.tokens) == (one.calls, one.unpriced, one.tokens)
        assert other.parts == pytest.approx(one.parts)
        assert other[1:4] == pytest.approx(one[1:4])
    assert their_billed == {keys: pytest.approx(usd) for keys, usd in as_billed.items()}


def test_commands(source):
    """Every command that reads calls reads them there, and a password is not shown."""
    secret = source.replace("127.0.0.1", "default:geheim@127.0.0.1")
    for command in (
        ["report", "--by", "day,tenant"],
        ["report", "--format", "html"],
        ["report", "--format", "focus"],
        ["calls"],
        ["calls", "--repeated"],
        ["compare", "model=gpt-4o", "model=claude-sonnet-4-6"],
        ["whatif", "--suggest"],
    ):
        result = CliRunner().invoke(group, [*command, "--source", secret], catch_exceptions=False)
        assert result.exit_code == 0, (command, result.output)
        assert len(result.output) > 100
        assert "geheim" not in result.output


def test_the_table_that_is_there_is_filled_once(client, port, records):
    """The statements that are printed fill the narrow tables from the spans that were there before."""
    client.command("CREATE DATABASE fleet_later")
    run(port, "fleet_later", f"CREATE TABLE otel_traces {COLUMNS.format(type=TYPES['json'])}")
    lines = "\n".join(json.dumps(row(record, n, "json")) for n, record in enumerate(records[1]))
    run(port, "fleet_later", f"INSERT INTO otel_traces FORMAT JSONEachRow {lines}")
    printed = CliRunner().invoke(group, ["store", "ddl", "clickhouse", "--attributes", "json"])
    assert printed.output == ddl("json")
    for statement in printed.output.split(";"):
        if statement.strip():
            run(port, "fleet_later", statement)
    counts = [client.command(f"SELECT count() FROM fleet_later.{table}") for table in (CALLS, TASKS)]
    assert counts == [1505, 9]


def test_what_cannot_be_read(port, tmp_path):
    """No such table, no server, a wrong address: said with what would do, and without the password."""
    for source, said in (
        (f"clickhouse://u:geheim@127.0.0.1:{port}/default/nothing", "no table nothing"),
        ("clickhouse://u:geheim@127.0.0.1:1/default", "cannot be read"),
        ("clickhouse:///default", "clickhouse://user@host"),
        ("clickhouse://h/a/b;c", "no name of a database"),
    ):
        with pytest.raises(TokenGuardError, match=said) as raised:
            open_sources([source])
        assert "geheim" not in str(raised.value)
    with pytest.raises(SourceError, match="one after the other"):
        open_sources([tmp_path, "clickhouse://h"])
