"""`tokenguard report`: the figures against hand-made records, on paper, as JSON and CSV, from a store and from OTLP."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.report import query, sources
from tokenguard.store.store import Store

START = int(datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp()) * 10**9


def record(n=0, outcome="ok", **attributes):
    base = {names.OPERATION: "chat", names.PROVIDER: "openai", names.RESPONSE_MODEL: "gpt-4o"}
    named = {names.attribution_attribute(k) if k in names.ATTRIBUTION_KEYS else k: v for k, v in attributes.items()}
    return CallRecord(START + n * 60 * 10**9, 10**9, outcome, {**base, **named})


def priced(cost, sent=1000, made=100, **more):
    return {names.COST: cost, names.COST_STATUS: "exact", names.INPUT_TOKENS: sent, names.OUTPUT_TOKENS: made, **more}


COLD = {names.CACHE_READ_TOKENS: 0, names.COST_INPUT: 0.02, names.COST_OUTPUT: 0.01}


def rag(n):
    return record(n, feature="rag", prompt_version="v1", **priced(0.03, 4000, **COLD))


RECORDS = [
    *(rag(n) for n in range(4)),
    record(
        5,
        feature="support",
        tenant="acme",
        **priced(0.01, 2000, **{names.CACHE_READ_TOKENS: 1500, names.COST_SAVED: 0.002, names.REQUEST_MAX_TOKENS: 99}),
    ),
    record(
        6,
        feature="support",
        tenant="zeta",
        **priced(0.02, **{names.RESEND_COUNT: 2, names.RETRY_COST: 0.005, names.REQUEST_MAX_TOKENS: 99}),
    ),
    record(7, "abandoned", feature="support", **{names.COST: 0.004, names.COST_STATUS: "estimated"}),
    record(8, "error", feature="support", **{names.ERROR_TYPE: "openai.RateLimitError"}),
    record(
        9,
        "blocked",
        feature="batch",
        **{names.GUARD_ACTION: "block", names.GUARD_RULE: "day", names.GUARD_PREVENTED: 0.35},
    ),
    record(
        10,
        **{names.COST_STATUS: "unpriced", names.RESPONSE_MODEL: "gpt-9", names.INPUT_TOKENS: 7, names.OUTPUT_TOKENS: 3},
    ),
    TaskRecord("resolve", START, 5, "ok", 0.02, 2, {"tenant": "acme"}),
    TaskRecord("resolve", START, 5, "error", 0.01, 1, {"tenant": "zeta"}),
]


@pytest.fixture(autouse=True)
def later(monkeypatch):
    """The month after: what is not of this month has no trend."""
    monkeypatch.setattr("tokenguard.cli.recorded.now", lambda: datetime(2026, 12, 5, tzinfo=UTC))
    monkeypatch.setattr("tokenguard.cli.report.now", lambda: datetime(2026, 12, 5, tzinfo=UTC))


@pytest.fixture
def store(tmp_path):
    written = Store(tmp_path / "u.db")
    written.write(RECORDS)
    written.close()
    return tmp_path / "u.db"


def run(*arguments, width=100, code=0):
    done = CliRunner().invoke(group, ["report", *map(str, arguments)], env={"COLUMNS": str(width), "NO_COLOR": "1"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


WIDE = """\
spent $0.1540   calls 10   tokens in / out 19.0k / 603   cache hit 8.3%   saved by caching $0.0020
retries 2 ($0.0050)   errors 1 (10%)   blocked 1 ($0.3500 prevented)   p50 / p95 1.0 s / 1.0 s

feature  calls   input  output  cache hit    saved  errors  blocked     p95      cost  share
rag          4  16,000     400       0.0%        -                   1.00 s   $0.1200    78%
support      4   3,000     200      75.0%  $0.0020       1           1.00 s   $0.0340    22%
batch        1       -       -          -        -                1       -   $0.0000     0%
(none)       1       7       3          -        -                   1.00 s        -*      -
total       10  19,007     603       8.3%  $0.0020       1        1  1.00 s  $0.1540*   100%
No room at 100 columns for tokens/call, retries, retry cost, p50, cost/1k calls: a wider terminal shows them, as \
--format json does

task     succeeded  failed     cost  per success
resolve          1       1  $0.0300      $0.0300

! $0.0800 of uncached input: rag v1 sent 4,000 input tokens a call to gpt-4o, 4 times; 0% of them came from the \
cache. Put the constant part first and what changes (a clock, an id, the question) last.
! $0.0050 spent on retries: 2 requests sent again. Look at their errors with --by error; cap them with max_retries in \
a [[limit]].
! $0.0040 spent on incomplete answers: 1 call ended before the whole answer was read. See where with --by \
call_site --where outcome=abandoned; a provider may bill the whole answer.
! $0.1240 spent without an output cap: 7 of 9 generation calls. Set one, or let a [[limit]] with \
max_output_tokens and then = "clamp" do it.
! $0.3500 prevented at most: "day" blocked 1 call before sending. See whose with --where outcome=blocked --by \
tenant,feature.

* The cost leaves out 1 call with no known price (openai/gpt-9). Add the price to tokenguard.toml: [prices] \
"openai/gpt-9" = { input = ..., output = ... }, in USD per million tokens
$0.0040 of the cost (2.6%) is estimated: $0.0040 for reasons that were not recorded
"""


def stripped(text):
    return [line.rstrip() for line in text.splitlines()]


def test_table(store):
    """The whole page, in a pipe: no colour, no lines, nothing unknown shown as zero."""
    first, *rest = stripped(run("--source", store))
    assert first.startswith("TokenGuard  2026-11-20 10:00 to 2026-11-20 10:10 UTC")
    assert rest == stripped(WIDE)


def test_narrow(store):
    """In a narrow window the less important figures go, and no figure is cut."""
    table = run("--source", store, width=50).splitlines()
    head = next(line for line in table if line.startswith("feature"))
    assert head.split() == ["feature", "calls", "cache", "hit", "cost", "share"]
    assert "…" not in "\n".join(table)


def test_json(store):
    """JSON has every figure with its unit in its name, and null for what is not known."""
    found = json.loads(run("--source", store, "--by", "feature,tenant", "--format", "json"))
    assert found["by"] == ["feature", "tenant"]
    rows = {(row["keys"]["feature"], row["keys"]["tenant"]): row for row in found["rows"]}
    assert rows["support", "acme"]["cache_hit_share"] == 0.75
    assert rows["support", "zeta"]["cache_hit_share"] is None
    assert rows["support", "zeta"]["retry_cost_usd"] == 0.005
    assert found["total"]["prevented_usd"] == 0.35
    assert found["tasks"] == [
        {"task": "resolve", "succeeded": 1, "failed": 1, "cost_usd": 0.03, "cost_per_success_usd": 0.03}
    ]
    assert found["unpriced"] == [{"model": "openai/gpt-9", "calls": 1}]


def test_csv(store):
    """CSV has a header, a row a group, and nothing where nothing is known."""
    rows = list(csv.DictReader(io.StringIO(run("--source", store, "--format", "csv", "--by", "model"))))
    assert [row["model"] for row in rows] == ["gpt-4o", "gpt-9"]
    assert rows[1]["cost_usd"] == ""
    assert rows[1]["cost_per_1000_calls_usd"] == ""


@pytest.mark.parametrize("by", query.DIMENSIONS)
def test_sums_of_groups_are_the_total(by, store):
    """However calls are grouped, the groups add up to the total."""
    found = json.loads(run("--source", store, "--by", by, "--format", "json"))
    for figure in ("calls", "input_tokens", "cost_usd", "retries", "blocked"):
        assert sum(row[figure] or 0 for row in found["rows"]) == pytest.approx(found["total"][figure])


def test_random_sums(tmp_path):
    """The same for random records and pairs of keys, with filters that part them in two."""
    rng = random.Random(5)
    written = Store(tmp_path / "r.db")
    written.write(
        [
            record(
                rng.randrange(3000),
                rng.choice(["ok", "error"]),
                tenant=rng.choice("abc"),
                feature=rng.choice("xy"),
                **priced(rng.random(), rng.randrange(9999), rng.randrange(99)),
            )
            for _ in range(500)
        ]
    )
    written.close()
    whole = json.loads(run("--source", tmp_path / "r.db", "--by", "tenant,feature,hour", "--format", "json"))
    parts = [
        json.loads(run("--source", tmp_path / "r.db", "--where", f"tenant={glob}", "--format", "json"))
        for glob in ("[ab]", "c")
    ]
    assert sum(row["cost_usd"] for row in whole["rows"]) == pytest.approx(whole["total"]["cost_usd"])
    assert sum(part["total"]["cost_usd"] for part in parts) == pytest.approx(whole["total"]["cost_usd"])


def test_filters(store):
    """Since, until and where choose the calls, and sort and limit the groups."""
    assert json.loads(run("--source", store, "--since", "2026-11-20T10:05", "--format", "json"))["total"]["calls"] == 6
    assert json.loads(run("--source", store, "--until", "2026-11-20T10:05", "--format", "json"))["total"]["calls"] == 4
    only = json.loads(run("--source", store, "--where", "feature=sup*", "--where", "tenant=acme", "--format", "json"))
    assert (only["total"]["calls"], only["tasks"]) == (1, [])
    first = json.loads(run("--source", store, "--sort", "calls", "--limit", "1", "--format", "json"))
    assert len(first["rows"]) == 1
    assert "and 3 more" in run("--source", store, "--limit", "1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is no time: use 30m, 24h, 7d or 2w"),
        (["--where", "feature"], "'feature' is no condition: write key=glob"),
        (["--sort", "price"], "cannot sort by 'price': use one of calls"),
        (["--by", "a'b"], "is no key"),
    ],
)
def test_bad_arguments(arguments, said, store):
    """A bad argument is one line that says what would do."""
    with pytest.raises(Exception, match=said):
        run("--source", store, *arguments)


def test_a_key_that_no_call_has(store):
    """A key that no call has is an error that names the nearest, by ours and by the caller's own."""
    for key, near in (("prompt-version", "prompt_version"), ("modle", "model"), ("attr.model", "model")):
        with pytest.raises(TokenGuardError, match=f"no call has a key '{key}'. Did you mean '{near}'"):
            run("--source", store, "--by", key)
    with pytest.raises(TokenGuardError, match="no call has a key 'region'"):
        run("--source", store, "--where", "region=eu")
    done = subprocess.run(
        [sys.executable, "-m", "tokenguard", "report", "--source", str(store), "--by", "prompt-version"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_markdown(store):
    """Markdown is a table and a list, and names stay text in it."""
    written = Store(store)
    written.write([record(11, feature="a|b <img src=x> [x](y)", **priced(0.5))])
    written.close()
    text = run("--source", store, "--format", "md")
    lines = text.splitlines()
    assert lines[0] == "### LLM spend, 2026-11-20 10:00 to 2026-11-20 10:11 UTC"
    assert lines[4].startswith("| feature | calls | tokens/call |")
    assert lines[6].startswith("| a\\|b &lt;img src=x&gt; \\[x\\](y) | 1 |")
    assert any(line.startswith("- **$0.0800** of uncached input: rag v1") for line in lines)


def test_nothing_there(tmp_path, monkeypatch):
    """Without records it says where it looked and what to run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_STORE", raising=False)
    said = run()
    assert ".tokenguard/usage.db" in said
    assert "tokenguard-instrument python app.py" in said


# --- OTLP ------------------------------------------------------------------------------------------------------------


def otlp(records):
    """The lines that the collector's file exporter writes for these calls."""

    def value(attribute):
        if isinstance(attribute, bool):
            return {"boolValue": attribute}
        if isinstance(attribute, int):
            return {"intValue": str(attribute)}
        if isinstance(attribute, float):
            return {"doubleValue": attribute}
        if isinstance(attribute, tuple):
            return {"arrayValue": {"values": [{"stringValue": each} for each in attribute]}}
        return {"stringValue": attribute}

    for each in records:
        span = {
            "traceId": "a" * 32,
            "spanId": f"{each.start_ns:016x}",
            "name": "chat gpt-4o",
            "kind": 3,
            "startTimeUnixNano": str(each.start_ns),
            "endTimeUnixNano": str(each.start_ns + each.duration_ns),
            "attributes": [{"key": k, "value": value(v)} for k, v in each.attributes.items()],
            "status": {"code": 2} if each.outcome == "error" else {},
        }
        yield json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]})


CALLS = [each for each in RECORDS if isinstance(each, CallRecord)]


@pytest.mark.parametrize("packed", [False, True])
def test_otlp_lines(packed, tmp_path, store):
    """OTLP-JSON gives the same figures as the store; lines of metrics and spans of agents are not counted."""
    agent = CallRecord(START, 1, "ok", {names.OPERATION: "invoke_agent", names.INPUT_TOKENS: 99_999})
    lines = [*otlp([*CALLS, agent]), json.dumps({"resourceMetrics": []}), ""]
    path = tmp_path / "traces.json"
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    here = json.loads(run("--source", path, "--format", "json"))
    there = json.loads(run("--source", store, "--format", "json"))
    abandoned = ("abandoned", "abandoned_usd")  # a span does not say so, unless its cost was estimated for that reason
    assert {k: v for k, v in here["total"].items() if k not in abandoned} == {
        k: v for k, v in there["total"].items() if k not in abandoned
    }


def test_otlp_folder(tmp_path):
    """A folder is all of its files."""
    for n, each in enumerate(CALLS[:3]):
        (tmp_path / f"{n}.json").write_text("\n".join(otlp([each])))
    assert json.loads(run("--source", tmp_path, "--format", "json"))["total"]["calls"] == 3


def bad(attribute):
    text = json.dumps(attribute)
    span = '{"startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": [{"key": "gen_ai.operation.name", '
    span += '"value": {"stringValue": "chat"}}, ' + text[1:-1] + "]}"
    return f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{span}]}}]}}]}}\n'


def cost(value):
    return [{"key": names.COST, "value": value}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "JSONDecodeError"),
        ("[1, 2]", "AttributeError"),
        ('{"resourceSpans": ', "JSONDecodeError"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "nested too deep"),
        ("[" * 200_000, "nested too deep"),
        (bad(cost({"doubleValue": 1.5})).replace("1.5", "Infinity"), "Infinity is no number"),
        (bad(cost({"doubleValue": 1.5})).replace("1.5", "NaN"), "NaN is no number"),
        (bad(cost({"doubleValue": 1.5})).replace("1.5", "1e999"), "tokenguard.cost.usd is no number: inf"),
        (bad(cost({"doubleValue": -1.5})), "tokenguard.cost.usd is negative: -1.5"),
        (bad(cost({"stringValue": "dear"})), "tokenguard.cost.usd is no number: 'dear'"),
        (bad([{"key": names.INPUT_TOKENS, "value": {"intValue": "-7"}}]), "input_tokens is negative: -7"),
        (bad([{"key": names.INPUT_TOKENS, "value": {"boolValue": True}}]), "input_tokens is no number: True"),
    ],
    ids=range(12),
)
def test_bad_source(text, said, tmp_path):
    """What is no OTLP-JSON, or holds what cannot be added up, is one line with the file's, and nothing is summed."""
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(sources.SourceError, match=f"line 1: no OTLP-JSON .*{said}") as raised:
        run("--source", path)
    assert "\n" not in str(raised.value)


def test_a_missing_source(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(sources.SourceError, match="cannot be read: No such file"):
        run("--source", Path(tmp_path, "missing"))


@pytest.mark.parametrize("usd", [-1.0, float("inf")])
def test_a_store_with_a_cost_that_is_none(tmp_path, usd):
    """A store that holds a cost that cannot be one is not added up."""
    written = Store(tmp_path / "u.db")
    written.write([record(1, **priced(0.5)), record(2, **priced(usd))])
    written.close()
    with pytest.raises(TokenGuardError, match=rf"a call has a cost of {usd} USD"):
        run("--source", tmp_path / "u.db")


def test_a_route_that_costs_more_than_it_saves(tmp_path):
    """Where too many answers are asked again, a finding says by how much the route is dearer than no route."""
    from tokenguard.facts import names
    from tokenguard.facts.record import CallRecord
    from tokenguard.report.engine import SqliteRecords
    from tokenguard.report.figures import ask
    from tokenguard.report.findings import find
    from tokenguard.report.query import Query
    from tokenguard.store.store import Store

    now = 1_700_000_000 * 10**9
    store = Store(":memory:")
    for rule, saved, again in (("dear", 0.001, -0.003), ("good", 0.004, -0.003)):
        for k in range(10):
            base = {names.ROUTE_RULE: rule, names.OPERATION: "chat", names.PROVIDER: "openai"}
            first = {**base, names.ROUTE_SAVED: saved}
            second = {**base, names.ROUTE_SAVED: again, names.ROUTE_ESCALATION: "length"}
            store.write([CallRecord(now + k, 1, "ok", each) for each in ([first, second] if k % 2 else [first])])
    records = SqliteRecords(store.connection())
    found = [each for each in find(records, ask(records, Query())) if "the route" in each.says]
    assert [each.says for each in found] == [
        'the route "dear" costs more than the model that was asked for, as 50% of its 10 answers were asked again'
    ]
    assert found[0].usd == pytest.approx(0.005)
    store.close()
