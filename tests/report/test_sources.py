"""Sources: the collector's files give the figures that the store gives, and what cannot be read is told in one line."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import closing

import pytest
from rich.console import Console

from report.conftest import records
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.report import kept
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.otlp import Lines
from tokenguard.report.query import Query
from tokenguard.report.sources import SourceError, open_sources
from tokenguard.report.table import print_table
from tokenguard.store.store import Store


def value(content):
    """An attribute value in OTLP's JSON, where 64-bit integers are strings."""
    if isinstance(content, bool):
        return {"boolValue": content}
    if isinstance(content, int):
        return {"intValue": str(content)}
    if isinstance(content, float):
        return {"doubleValue": content}
    if isinstance(content, tuple):
        return {"arrayValue": {"values": [value(each) for each in content]}}
    return {"stringValue": content}


def span(record, name="chat"):
    attributes = {**record.attributes}
    if record.outcome == "abandoned":
        attributes[names.COST_BASIS] = "abandoned_stream"
    return {
        "traceId": record.trace_id,
        "spanId": record.span_id,
        "parentSpanId": "",
        "flags": 256,
        "name": name,
        "kind": 3,
        "startTimeUnixNano": str(record.start_ns),
        "endTimeUnixNano": str(record.start_ns + record.duration_ns),
        "attributes": [{"key": key, "value": value(content)} for key, content in attributes.items()],
        "status": {"code": 2} if record.outcome == "error" else {},
    }


def line(*spans):
    """A line as the collector's file exporter writes it."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    scopes = [{"scope": {"name": "tokenguard", "version": "0.1.0"}, "spans": list(spans)}]
    schema = "https://opentelemetry.io/schemas/1.38.0"
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes, "schemaUrl": schema}]}) + "\n"


CALLS = [record for record in records() if isinstance(record, CallRecord)]
METRICS = '{"resourceMetrics":[{"resource":{},"scopeMetrics":[{"scope":{},"metrics":[]}]}]}\n'
LOGS = '{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{},"logRecords":[{"body":{"stringValue":"hi"}}]}]}]}\n'


def agent():
    """The span of an agent, which carries the sum of its calls."""
    attributes = {names.OPERATION: "invoke_agent", names.INPUT_TOKENS: 99_999, names.PROVIDER: "openai"}
    return span(CallRecord(CALLS[0].start_ns, 10**9, "ok", attributes), "invoke_agent shop")


def http():
    """A span that is about something else."""
    return span(CallRecord(CALLS[0].start_ns, 10**9, "ok", {"http.request.method": "POST"}), "POST")


def figures(path, by=("feature", "model", "outcome")):
    with closing(open_sources([path]).records) as connection:
        report = ask(connection, Query(by=by))
        return report._replace(tasks=[]), find(connection, report)


def test_the_same_figures_as_the_store(store_path, tmp_path):
    """Calls that went through a collector give the very report that the store gives, agents and others left out."""
    path = tmp_path / "traces.jsonl"
    path.write_text(line(*map(span, CALLS[:5]), agent()) + METRICS + LOGS + "\n" + line(http(), *map(span, CALLS[5:])))
    assert figures(path) == figures(store_path)


def test_gzip_and_folders(store_path, tmp_path):
    """A folder of rotated files, some of them packed, is one source; what is not OTLP in it is left alone."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "traces-2026-11-02.json.gz").write_bytes(gzip.compress(line(*map(span, CALLS[:6])).encode()))
    (folder / "traces.json").write_text(line(*map(span, CALLS[6:])))
    (folder / "README").write_text("These are traces.\n")
    (folder / "old").mkdir()
    assert figures(folder) == figures(store_path)


def test_a_folder_with_a_store(store_path):
    """The folder of a store is a source too."""
    assert figures(store_path.parent) == figures(store_path)


def test_a_file_that_is_being_written(tmp_path):
    """The last line, not complete yet, is left for the next time."""
    path = tmp_path / "traces.json"
    whole = line(span(CALLS[0]))
    path.write_text(whole + whole[:100])
    assert figures(path)[0].total.figures["calls"] == 1


def test_spans_of_other_instrumentations(tmp_path):
    """A GenAI span without a cost counts with its tokens, as unpriced."""
    attributes = {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.RESPONSE_MODEL: "gpt-4o",
        names.INPUT_TOKENS: 7,
    }
    path = tmp_path / "traces.json"
    path.write_text(line(span(CallRecord(1, 1, "ok", attributes))))
    report, _ = figures(path, by=("operation",))
    assert (report.total.figures["cost_usd"], report.unpriced) == (None, [("openai/gpt-4o", 1)])


def test_odd_but_well_formed(tmp_path):
    """Empty lists, missing values, maps, half characters and integers past 64 bits do not stop a report."""
    odd = span(CALLS[0])
    odd["attributes"] += [
        {"key": "empty"},
        {"key": "map", "value": {"kvlistValue": {"values": []}}},
        {"key": "tokenguard.user", "value": {"stringValue": "\ud83d"}},
        {"key": "tokenguard.attr.page", "value": {"stringValue": "\ud83d"}},
        {"key": names.REASONING_TOKENS, "value": {"intValue": "9" * 30}},
        {"key": names.REQUEST_TEMPERATURE, "value": {"doubleValue": "NaN"}},
    ]
    path = tmp_path / "traces.json"
    path.write_text(
        '{"resourceSpans":null}\n{"resourceSpans":[{"scopeSpans":null},{"scopeSpans":[{"spans":null}]}]}\n' + line(odd)
    )
    assert figures(path, by=("user", "page"))[0].total.figures["calls"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"[1]\n",
        b"\xff\xfe\x00\n",
        b"\x1f\x8bnot gzip",
        gzip.compress(line(span(CALLS[0])).encode(), mtime=0)[:-20],
        b"SQLite format 3\x00 and then nonsense" * 50,
        b'{"resourceSpans":[3]}\n',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":{"intValue":"1"}}]}]}]}]}\n',
        line(span(CALLS[0])).replace(str(CALLS[0].start_ns), "1" * 25).encode(),
        line(span(CALLS[0])).replace('"6000"', '"many"').encode(),
    ],
)
def test_what_cannot_be_read(tmp_path, content):
    """A file that is neither is refused in one line that names it and says what would do."""
    path = tmp_path / "source"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_sources([path])
    assert str(caught.value).startswith(str(path))
    assert "Give a store" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    """A path that is not there, and a folder with nothing to read in it, are refused too."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SourceError, match="Give a store"):
            open_sources([path])


def total(*paths):
    source = open_sources(paths)
    with closing(source.records):
        report = ask(source.records, Query())
        return report.total.figures["calls"], source.repeated, report.tasks


def test_a_span_in_two_sources_is_counted_once(store_path, tmp_path):
    """A store, a file with some of its spans and more, and a copy of either: each span once, and each task."""
    other = CallRecord(CALLS[0].start_ns, 1, "ok", {names.OPERATION: "chat", names.COST: 1.0}, "c" * 32, "d" * 16)
    (tmp_path / "traces.json").write_text(line(*map(span, CALLS[:5]), span(other)))
    (tmp_path / "copy.json").write_text(line(span(other), span(CALLS[0])))
    (tmp_path / "copy.db").write_bytes(store_path.read_bytes())
    alone = total(store_path)
    assert alone[:2] == (12, 0)
    assert total(store_path, store_path, tmp_path / "." / "usage.db") == alone
    for paths in (("usage.db", "traces.json"), ("traces.json", "usage.db"), ("usage.db", "traces.json", "traces.json")):
        assert total(*(tmp_path / path for path in paths)) == (13, 5, alone[2])
    assert total(store_path, tmp_path / "copy.db") == (12, 12, alone[2])
    everything = [tmp_path / name for name in ("traces.json", "copy.json", "usage.db", "copy.db")]
    assert total(*everything) == (13, 12 + 5 + 2, alone[2])
    assert total(tmp_path / "traces.json", tmp_path / "copy.json")[:2] == (6, 2)


def test_calls_of_one_span_in_a_store(tmp_path):
    """Calls inside an instrumentation's span share it, and those without a tracer have none: all of them count."""
    shared = [CallRecord(n, 1, "ok", {names.OPERATION: "chat"}, "c" * 32, "d" * 16) for n in range(3)]
    untraced = [CallRecord(n, 1, "ok", {names.OPERATION: "chat"}) for n in range(2)]
    for name, recorded in (("a.db", shared), ("b.db", untraced)):
        store = Store(tmp_path / name)
        store.write(recorded)
        store.close()
    (tmp_path / "traces.json").write_text(line(span(shared[0]), span(shared[0])))
    assert total(tmp_path / "a.db", tmp_path / "b.db")[:2] == (5, 0)
    assert total(tmp_path / "traces.json", tmp_path / "a.db")[:2] == (3, 2)
    assert total(tmp_path / "traces.json")[:2] == (1, 1)


def test_the_end_of_a_task_is_in_its_own_span(tmp_path):
    """Spans of calls name the task, and not how it ended: without its own the rest is said to be unknown."""
    path = tmp_path / "traces.json"
    attributes = {names.OPERATION: "chat", names.COST: 0.25, names.TASK: "resolve"}
    path.write_text(line(span(CallRecord(1, 1, "ok", attributes, "c" * 32, "d" * 16))))
    assert total(path)[2] == [("resolve", None, None, 0.25, None)]
    out = io.StringIO()
    with closing(open_sources([path]).records) as connection:
        print_table(ask(connection, Query()), [], "traces.json", Console(file=out, width=200))
    assert "resolve          -       -  $0.2500            -" in out.getvalue()
    assert "Cost per successful task: unknown for resolve" in out.getvalue()
    assert "From OTLP it is known where the task's own span is there" in out.getvalue()


def test_tasks_of_a_store_and_of_spans(tmp_path):
    """A store beside OTLP: a task that both have is counted once, and those of other machines count too."""
    store = Store(tmp_path / "usage.db")
    store.write([TaskRecord("resolve", 10, 5, "ok", 0.5, 2), TaskRecord("resolve", 20, 5, "error", 0.25, 1)])
    store.close()

    def ended(start, run, outcome):
        attributes = {
            names.TASK: "resolve",
            names.TASK_RUN: run,
            names.TASK_OUTCOME: outcome,
            names.TASK_COST: 0.75,
            names.TASK_CALLS: 1,
        }
        return span(CallRecord(start, 5, outcome, attributes, "e" * 32, run), "task resolve")

    spans = [ended(10, "a" * 16, "ok"), ended(20, "b" * 16, "error"), ended(20 + 1, "c" * 16, "ok")]
    (tmp_path / "traces.json").write_text(line(*spans) + line(spans[2]))
    assert total(tmp_path / "usage.db", tmp_path / "traces.json")[2] == [("resolve", 2, 1, 1.5, 0.75)]


def test_a_source_that_cannot_be_read_among_others(store_path, tmp_path):
    """One bad source of several is named."""
    (tmp_path / "bad.json").write_text("hello\n")
    with pytest.raises(SourceError, match=r"bad\.json, line 1: no OTLP-JSON"):
        open_sources([store_path, tmp_path / "bad.json"])
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\x00 and then nonsense" * 50)
    with pytest.raises(SourceError, match=r"bad\.db: cannot be read"):
        open_sources([store_path, tmp_path / "bad.db"])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, in which all files are worth being kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST", 0)
    return tmp_path / "cache" / "tokenguard"


def test_files_are_converted_once_and_kept(store_path, tmp_path, cache, monkeypatch):
    """What has not changed is not read again; a new and a grown file are, and a span in both is counted once."""
    folder = tmp_path / "otlp" / "year=2026" / "month=11" / "day=02"
    folder.mkdir(parents=True)
    whole = [span(record) for record in CALLS if isinstance(record, CallRecord)]
    (folder / "one.json").write_text(line(*whole[:4]))
    root = tmp_path / "otlp"
    first = total(root)
    assert first[:2] == (4, 0)
    assert len(list(cache.glob("otlp-*.db"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(Lines, "records", lambda *_: pytest.fail("read again"))
        assert total(root) == first
    (folder / "two.json").write_text(line(*whole[3:6]))  # one of them is in the first file as well
    assert total(root)[:2] == (6, 1)
    (folder / "one.json").write_text(line(*whole[:4]) + line(*whole[6:]))
    with monkeypatch.context() as patched:
        patched.setattr(kept, "LEAST", 2**60)
        fresh = total(root)
    assert fresh[0] == total(root)[0] == len(whole)
    (folder / "two.json").unlink()
    (folder / "one.json").write_text(line(whole[0]))
    assert total(root)[:2] == (1, 0)


def test_a_cache_that_cannot_be_used_is_no_reason_to_stop(store_path, tmp_path, cache):
    """What is there instead of a store is left alone, and the files are read as without a cache."""
    file = tmp_path / "calls.json"
    file.write_text(line(*[span(record) for record in CALLS if isinstance(record, CallRecord)]))
    kept.place([file], [file]).write_text("no store at all, but a text of somebody's" * 100)
    assert total(file)[0] == 12
