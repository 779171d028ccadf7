"""What a call's request says, through a real SDK and over real HTTP."""

from __future__ import annotations

import json
import threading
import time

import openai
import pytest

import tokenguard
from exported import metric_points
from report.test_sources import value
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names as n
from tokenguard.facts.names import SECTION_TOKENS as SECTIONS
from tokenguard.facts.record import CallRecord, ToolsetRecord
from tokenguard.inputs import known, look, pieces
from tokenguard.inputs.request import snapshot
from tokenguard.providers import openai as openai_format
from tokenguard.report.inputs import broken
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.store.store import Store

RULES = "".join(f"Rule {i}: a customer of kind {i * 37 % 101} hears about topic {i}.\n" for i in range(160))
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Looks it up. " * size, "parameters": {}}}
    for name, size in (("search", 30), ("weather", 10))
]


def by_section(attributes):
    return {name: attributes[key] for name in n.INPUT_SECTIONS if (key := n.input_attribute(name)) in attributes}


class Kept:
    """A store in memory."""

    dropped = 0

    def __init__(self):
        self.calls, self.toolsets = [], []

    def write(self, records):
        for record in records:
            if isinstance(record, CallRecord):
                self.calls.append(record)
            elif isinstance(record, ToolsetRecord):
                self.toolsets.append(record)

    def hurry(self):
        """Nothing to hurry."""

    def finish(self):
        """Nothing to finish."""


@pytest.fixture
def kept(installed):
    """What the store gets."""
    telemetry = installed.telemetry
    telemetry.flush()
    before, telemetry._sink, telemetry._keeps = telemetry._sink, Kept(), True
    yield telemetry._sink
    telemetry.flush()
    telemetry._sink = before


@pytest.fixture
def client():
    with SimulatedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        yield client


def ask(client, system, said, **more):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": said}]
    return client.chat.completions.create(model="gpt-4o", messages=messages, max_completion_tokens=9, **more)


def test_a_break_is_told_everywhere(installed, kept, client, spans):
    """A broken prompt is in the store with its place and its cost, on a metric, and on a span below the call's."""
    with tokenguard.attribution(tenant="breaks"):
        for minute in range(3):
            ask(client, f"It is 10:0{minute}.\n{RULES}", "Hello?")
    installed.telemetry.flush()
    first, *others = kept.calls
    assert n.BREAK_KIND not in first.attributes
    for record in others:
        seen = record.attributes
        assert (seen[n.BREAK_KIND], seen[n.BREAK_SECTION]) == ("changed", "system")
        assert (seen[n.BREAK_INDEX], seen[n.BREAK_OFFSET]) == (0, 0)
        assert seen[n.BREAK_TOKENS] == pytest.approx(seen[n.INPUT_TOKENS], rel=0.05)
        assert seen[n.BREAK_USD] == pytest.approx(seen[n.BREAK_TOKENS] * 1.25e-6), "half of gpt-4o's $2.50"
    below = spans.breaks()
    assert [span.parent.span_id for span in below] == [int(record.span_id, 16) for record in others]
    assert below[0].attributes[n.BREAK_KIND] == "changed"
    key = ("tokenguard.cache.breaks", frozenset({("kind", "changed"), ("section", "system")}))
    assert metric_points()[key] >= 2


@pytest.mark.parametrize("late", ["after", "before", "twice"])
def test_a_collectors_file_tells_of_breaks(installed, kept, client, spans, tmp_path, late):
    """A report over a collector's file has the finding of the store's, with the line and the dollars, in any order."""
    with tokenguard.attribution(tenant=f"files {late}", feature="chat"):
        for minute in range(3):
            ask(client, f"It is 10:0{minute}.\n{RULES}", "Hello?")
    installed.telemetry.flush()
    calls, below = [otlp(span) for span in spans.all()], [otlp(span) for span in spans.breaks()]
    order = {"after": calls + below, "before": below + calls, "twice": calls + below + below + calls}[late]
    file = tmp_path / "traces.json"
    file.write_text(
        "".join(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [each]}]}]}) + "\n" for each in order)
    )
    store = Store(tmp_path / "usage.db")
    store.write(kept.calls)
    store.close()
    told = []
    for path in (file, tmp_path / "usage.db"):
        records = open_sources([path]).records
        told.append(list(broken(records, Query(), 3)))
        records.close()
    assert told[0] == told[1]
    (found,) = told[0]
    assert (found.kind, found.calls, found.section, found.offset) == ("changed", 2, "system", 0)
    assert found.site is not None
    assert found.site.startswith(__file__)
    assert found.usd == pytest.approx(found.tokens * 1.25e-6)


def otlp(span):
    """A span as a collector's file has it."""
    return {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "parentSpanId": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": [{"key": key, "value": value(content)} for key, content in span.attributes.items()],
    }


def test_sections_sum_to_the_input(installed, kept, client):
    """The tokens of all sections of a request are its reported input; its tools are named once."""
    with tokenguard.attribution(feature="sections"):
        for said in ("What is the weather?", "And tomorrow?"):
            ask(client, RULES, said, tools=TOOLS, tool_choice="none")
    installed.telemetry.flush()
    for record in kept.calls:
        found = by_section(record.attributes)
        assert sum(found.values()) == record.attributes[n.INPUT_TOKENS]
        assert set(found) == {"system", "tools", "last"}
        assert found["system"] > 10 * found["last"]
    (toolset,) = kept.toolsets
    assert {record.attributes[n.INPUT_TOOLSET] for record in kept.calls} == {toolset.hash}
    points = metric_points(feature="sections").items()
    counted = {dict(key)["section"]: value for (name, key), value in points if name == SECTIONS.name}
    assert counted == {
        section: sum(by_section(record.attributes)[section] for record in kept.calls)
        for section in ("system", "tools", "last")
    }
    assert toolset.shares["search"] > 2 * toolset.shares["weather"]
    assert sum(toolset.shares.values()) == pytest.approx(1)


def test_equal_requests_have_equal_hashes(installed, kept, client):
    """The hash of a request is that of what was sent, whatever becomes of the caller's list afterwards."""
    messages = [{"role": "user", "content": "Hello?"}]
    for _ in range(2):
        client.chat.completions.create(model="gpt-4o", messages=messages, max_completion_tokens=9)
        messages.append({"role": "assistant", "content": "What the program goes on with."})
        messages.pop()
    client.chat.completions.create(model="gpt-4o", messages=messages, max_completion_tokens=10)
    installed.telemetry.flush()
    first, second, other = (record.attributes[n.REQUEST_HASH] for record in kept.calls)
    assert first == second != other


def test_the_request_is_looked_at_as_it_was_sent(installed, kept, client):
    """A program that goes on with its list of messages before anybody has looked changes nothing of what is found."""
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": "Hello?"}]
    client.chat.completions.create(model="gpt-4o", messages=messages, max_completion_tokens=9)
    messages += [{"role": "assistant", "content": RULES}, {"role": "user", "content": RULES}]
    installed.telemetry.flush()
    (record,) = kept.calls
    assert set(by_section(record.attributes)) == {"system", "last"}


def test_nobody_waits_for_it(installed, kept, client, monkeypatch):
    """Requests are looked at by the thread that keeps the records, and by no thread that makes a call."""
    threads = []
    seen = look.Looker.look

    def noted(self, *arguments):
        threads.append(threading.current_thread().name)
        return seen(self, *arguments)

    monkeypatch.setattr(look.Looker, "look", noted)
    ask(client, "Be brief.", "Hello?")
    until = time.monotonic() + 20
    while not kept.calls and time.monotonic() < until:
        time.sleep(0.01)
    assert threads == ["tokenguard-drain"]


def test_a_look_that_fails(installed, kept, client, monkeypatch, caplog):
    """Where looking at a request fails, the call is recorded without what it would have found."""
    monkeypatch.setattr(look, "sections", lambda request, tokens: 1 / 0)
    monkeypatch.setenv(n.ENV_STRICT, "0")
    ask(client, "Be brief.", "Hello?")
    installed.telemetry.flush()
    (record,) = kept.calls
    assert record.outcome == "ok"
    assert n.REQUEST_HASH not in record.attributes


def test_the_record_in_hand_is_left_alone(installed, kept, client):
    """What `meter()` has given to the program is not changed by what is found out later."""
    with tokenguard.meter() as measured:
        ask(client, "Be brief.", "Hello?")
        before = dict(measured.records[0].attributes)
        installed.telemetry.flush()
    assert measured.records[0].attributes == before
    assert n.REQUEST_HASH in kept.calls[0].attributes


def test_what_is_known_is_found_the_same(monkeypatch):
    """A member that came before is not read again, and what is found of a request is as if it were."""
    body = {
        "model": "gpt-4o",
        "tools": TOOLS,
        "messages": [
            {"role": "system", "content": "Be brief.\n" * 50},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url"}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f0", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
    }
    record = CallRecord(1, 1, "ok", {n.INPUT_TOKENS: 900})
    again, seen = look.Looker(), []
    for count in (2, 4, 4, 3):
        some = {**body, "messages": body["messages"][:count]}
        sent, _ = snapshot("chat", "openai", some)
        other, _ = snapshot("chat", "openai", {key: some[key] for key in reversed(some)})
        fresh = look.Looker().look(record, openai_format.CHAT, sent)
        assert again.look(record, openai_format.CHAT, sent).attributes == fresh.attributes
        assert again.look(record, openai_format.CHAT, other).attributes == fresh.attributes
        seen.append(fresh.attributes[n.REQUEST_HASH])
    assert len(set(seen)) == 3
    monkeypatch.setattr(pieces, "message", lambda member: pytest.fail("read again"))
    again.look(record, openai_format.CHAT, sent)


@pytest.mark.parametrize("of_tools", [False, True], ids=["texts", "tools"])
def test_a_conversation_that_grows_is_found_the_same(monkeypatch, of_tools):
    """What is remembered of how conversations began changes nothing of what is found, and stays within its bounds."""
    monkeypatch.setattr(known, "TURNS", 100)
    again = known.Known()

    def found(reader, count, name, **mark):
        roles = ("system", "user", "assistant")
        said = [{"role": roles[0 if k % 7 == 0 else 1 + k % 2], "content": f"{name} {k}\n" * 9} for k in range(count)]
        for k in range(3, count - 1, 3) if of_tools else ():
            call = {"id": f"c{k}", "type": "function", "function": {"name": "f", "arguments": f'{{"{name}": {k}}}'}}
            said[k] = {"role": "assistant", "content": None, "tool_calls": [call]}
            said[k + 1] = {"role": "tool", "tool_call_id": f"c{k}", "content": f"{name} {k}\n" * 9}
        if of_tools and count > 5:
            said.insert(5, {})  # no message that a model could read
        sent, _ = snapshot("chat", "openai", {"model": "gpt-4o", "messages": said, **mark})
        whole = reader.read(sent)
        request = whole.request
        texts = [list(cut.sums) for cut in request.texts]
        sizes = (request.system, request.history, request.results, request.last, request.media)
        at = [(piece.section, piece.number) for piece in request.pieces]
        return whole.hash, whole.weight, len(request.turns), request.marked, request.lasting, sizes, texts, at

    seen = []
    for count in (1, 3, 7, 8, 9, 10, 11, 13, 15, 15, 17, 40, 42, 30):
        for name, mark in (("a", {}), ("b", {"cache_control": {"ttl": "1h"}})):
            fresh = found(known.Known(), count, name, **mark)
            assert found(again, count, name, **mark) == fresh
            seen.append(fresh[0])
            assert again._turns == sum(len(begun.request.turns) for begun in again._begun.values()) <= 100
    assert len(set(seen)) == len(seen) - 2  # one length came twice
    assert again._begun
