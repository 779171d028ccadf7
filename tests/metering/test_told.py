"""What a call cost is found out when somebody asks, by whoever asks first; and it is the same whoever that is."""

from __future__ import annotations

import copy
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

import tokenguard
from canned import ANTHROPIC_COST, MESSAGES, OPENAI_COST, SONNET, anthropic_client, openai_client
from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.metering import bill, told
from tokenguard.prices import PriceBook
from tokenguard.telemetry import drain
from tokenguard.telemetry.templates import Spans

CHAT = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What is the capital?"}],
    "max_tokens": 99,
}
TOLD = (names.COST, names.COST_STATUS, names.INPUT_TOKENS, names.RESPONSE_MODEL, names.FINGERPRINT)


@pytest.fixture
def priced_by(monkeypatch):
    """The threads that have looked for prices, in order."""
    seen = []
    cost = PriceBook.cost

    def looked_for(self, *args, **kwargs):
        seen.append(threading.current_thread())
        return cost(self, *args, **kwargs)

    monkeypatch.setattr(PriceBook, "cost", looked_for)
    return seen


@pytest.fixture
def undrained(installed, monkeypatch):
    """TokenGuard installed, with a drain that comes when it is asked to, and an exporter that looks at nothing."""
    installed.telemetry._worker.stop()
    monkeypatch.setattr(installed.telemetry._worker, "wake", lambda **_: None)
    # What other tests have left behind: a failure of their spans, and who counts what each test spends.
    monkeypatch.setattr(installed.telemetry, "spans", Spans(installed.telemetry.tracer))
    monkeypatch.setattr(scope.hooks, "on_call", None)
    return installed


@pytest.fixture
def hears():
    """Adds a processor that does this with each span at its end."""
    processors = trace.get_tracer_provider()._active_span_processor
    before = processors._span_processors

    def add(at_end):
        class Hearing(SpanProcessor):
            def on_end(self, span):
                at_end(span)

        processors._span_processors = (Hearing(),)

    yield add
    processors._span_processors = before


def ask(**more):
    return openai_client().chat.completions.create(**{**CHAT, **more})


def test_nobody_waits_for_it(undrained, hears, priced_by):
    """Where nobody asks, the caller finds nothing out; the drain does."""
    kept = []
    hears(kept.append)
    ask()
    assert priced_by == []
    thread = threading.Thread(target=undrained.telemetry.flush)
    thread.start()
    thread.join()
    assert priced_by == [thread]
    assert [undrained.records[-1].attributes[name] for name in TOLD[:2]] == [OPENAI_COST, names.EXACT]
    assert kept[0].attributes[names.COST] == OPENAI_COST
    assert priced_by == [thread]


def test_who_looks_at_the_end_sees_all(undrained, hears):
    """A processor that reads the span where it ends, as one that exports at once does, finds it whole."""
    seen = []
    hears(lambda span: seen.append(dict(span.attributes)))
    ask()
    undrained.telemetry.flush()
    assert seen == [undrained.records[-1].attributes]
    assert seen[0].keys() >= {*TOLD}


WAYS = {
    "items": lambda span: dict(span.attributes.items()),
    "keys": lambda span: {key: span.attributes[key] for key in span.attributes},
    "length": lambda span: (len(span.attributes), dict(span.attributes))[1],
    "in": lambda span: (names.COST in span.attributes, dict(span.attributes))[1],
    "text": lambda span: (str(span.attributes), span.to_json(), dict(span.attributes))[2],
    "dropped": lambda span: (span.dropped_attributes, dict(span.attributes))[1],
    "copy": lambda span: dict(span.attributes.copy()),
    "deep copy": lambda span: dict(copy.deepcopy(span._attributes)),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_looked_at(way, undrained, hears):
    """By whatever method of the SDK's attributes an exporter goes."""
    kept = []
    hears(kept.append)
    ask()
    assert WAYS[way](kept[0]) == undrained.records[-1].attributes
    assert undrained.records[-1].attributes.keys() >= {*TOLD}


def test_the_sdk_s_own_span_is_told_of_later_too(undrained, hears, priced_by):
    """Anthropic's client starts the span: what we add to it is found out by who looks."""
    kept = []
    hears(kept.append)
    anthropic_client().messages.create(model=SONNET, max_tokens=9, messages=MESSAGES)
    assert priced_by == []
    (span,) = kept
    assert span.attributes[names.COST] == pytest.approx(ANTHROPIC_COST)
    assert span.attributes.items() >= undrained.records[-1].attributes.items()


def test_two_look_at_once(undrained, hears, monkeypatch):
    """An exporter and the drain, at the same moment: both find the same, and all of it."""
    kept = []
    hears(kept.append)
    together = threading.Barrier(2, timeout=10)
    cost = bill.Bill.cost

    def at_once(self):
        together.wait()
        return cost(self)

    ask()
    monkeypatch.setattr(bill.Bill, "cost", at_once)
    with ThreadPoolExecutor(2) as pool:
        looking = pool.submit(lambda: dict(kept[0].attributes))
        pool.submit(undrained.telemetry.flush).result()
    assert looking.result() == undrained.records[-1].attributes
    assert looking.result()[names.COST] == OPENAI_COST


def test_what_becomes_of_the_request_changes_nothing(undrained):
    """The application may go on with its body as soon as it has the answer: it is not looked at again."""
    rows = []
    for changes in (False, True):
        body = copy.deepcopy(CHAT)
        answer = openai_client().chat.completions.create(**body)
        if changes:
            body["messages"][0]["content"] = "Be long."
            body["messages"].clear()
            answer.usage.prompt_tokens = 10**6
            answer.choices[0].finish_reason = "length"
            answer.model = "gpt-4"
        undrained.telemetry.flush()
        rows.append(undrained.records[-1].attributes)
    ids = {names.CODE_LINE}
    assert {k: v for k, v in rows[0].items() if k not in ids} == {k: v for k, v in rows[1].items() if k not in ids}


def test_who_asks_has_it_at_once(undrained, hears, priced_by):
    """A meter has the cost when the call is over, and so has a budget."""
    hears(lambda span: None)
    with tokenguard.meter() as meter:
        ask()
    assert meter.cost_usd == OPENAI_COST
    assert meter.records[0].attributes.keys() >= {*TOLD}
    assert priced_by == [threading.current_thread()]


def test_what_a_user_does_to_a_record_the_span_has_not(undrained, hears):
    """A meter's records are the user's own, though the span is looked at afterwards."""
    kept = []
    hears(kept.append)
    with tokenguard.meter() as meter:
        ask()
    meter.records[0].attributes.clear()
    assert kept[0].attributes[names.COST] == OPENAI_COST


def test_where_too_many_wait_the_caller_finds_out(undrained, hears, priced_by, monkeypatch):
    """Past so many no request is held for later: the memory of a burst is bounded."""
    monkeypatch.setattr(drain, "LOOKED_AT", 1)
    hears(lambda span: None)
    for _ in range(3):
        ask()
    assert priced_by == [threading.current_thread()]
    waiting = list(undrained.telemetry._queue)
    assert [item.told is None for item in waiting] == [False, False, True]
    undrained.telemetry.flush()
    assert len(priced_by) == 3


def test_nothing_is_held_afterwards(undrained, hears):
    """A span that an exporter keeps does not keep the request, once it was told."""
    kept = []
    hears(kept.append)
    ask()
    (item,) = undrained.telemetry._queue
    undrained.telemetry.flush()
    assert [getattr(item.told, name) for name in ("_asked", "answer", "owed")] == [None] * 3


def test_the_answer_is_let_go_of_at_once(undrained, hears):
    """Neither answer nor request waits for the drain: their memory is used again while it is near."""
    hears(lambda span: None)
    answer = ask()
    gone = weakref.ref(answer)
    del answer
    assert gone() is None
    assert len(undrained.telemetry._queue) == 1


def test_new_prices_are_for_new_calls(undrained):
    """A policy that is read again meanwhile changes nothing of what has ended."""
    ask()
    undrained.meter.settling.prices = PriceBook({"openai/gpt-4o-mini*": {"input": 1000, "output": 1000}})
    undrained.telemetry.flush()
    assert undrained.records[-1].attributes[names.COST] == OPENAI_COST


def test_a_failure_costs_the_cost_alone(undrained, hears, monkeypatch):
    """Where it cannot be found, that is noted, and the span and the record are there without it."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    kept = []
    hears(kept.append)
    before = undrained.telemetry.faults.count

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(told, "describe_money", fail)
    ask()
    assert kept[0].attributes[names.RESPONSE_MODEL] == "gpt-4o-mini-2024-07-18"
    assert names.COST not in kept[0].attributes
    undrained.telemetry.flush()
    assert undrained.telemetry.faults.count == before + 1
