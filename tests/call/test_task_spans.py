"""A task as a span: above its calls, with what they came to; read back from OTLP nothing is counted twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing

import pytest
from opentelemetry import trace

import tokenguard
from canned import MESSAGES, OPENAI_COST, async_openai_client, openai_client
from report.test_sources import value
from tokenguard.facts import names
from tokenguard.report.figures import ask
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}


def split(spans):
    """The spans of tasks, and those of calls."""
    tasks = [span for span in spans.all() if names.TASK_OUTCOME in span.attributes]
    return tasks, [span for span in spans.all() if names.COST in span.attributes]


def test_a_task_is_a_span_with_its_sums(installed, spans):
    """The task's span is the parent of its calls', has their sums and its outcome, and no cost of its own."""
    client = openai_client()
    with tokenguard.task("resolve", tenant="t1") as task, tokenguard.attribution(feature="inner"):
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
    with pytest.raises(ValueError, match="no"), tokenguard.task("resolve"):
        raise ValueError("no")
    (done, failed), calls = split(spans)
    assert done.name == "task resolve"
    assert [span.parent.span_id for span in calls] == [done.context.span_id] * 2
    assert {span.attributes[names.TASK_RUN] for span in calls} == {task.run} == {done.attributes[names.TASK_RUN]}
    assert done.attributes[names.TASK_COST] == pytest.approx(2 * OPENAI_COST)
    assert done.attributes[names.TASK_CALLS] == 2
    assert done.attributes[names.TASK_INPUT_TOKENS] == sum(span.attributes[names.INPUT_TOKENS] for span in calls)
    assert done.attributes["tokenguard.tenant"] == "t1"
    assert names.COST not in done.attributes
    assert (failed.attributes[names.TASK_OUTCOME], failed.status.status_code.name) == ("error", "ERROR")
    assert failed.attributes[names.TASK_RUN] != task.run


def test_the_context_is_given_back(installed, spans):
    """After a task, inside nested ones, between the steps of a generator, the current span is whose it was."""
    outside = trace.get_current_span()

    @tokenguard.task("steps")
    def steps():
        yield trace.get_current_span()
        yield trace.get_current_span()

    with tokenguard.task("outer"):
        outer = trace.get_current_span()
        with tokenguard.task("inner"):
            assert trace.get_current_span() is not outer
        assert trace.get_current_span() is outer
        first, second = [(inside, trace.get_current_span()) for inside in steps()]
        assert first[0] is second[0] is not outer
        assert first[1] is second[1] is outer
    assert trace.get_current_span() is outside
    assert [span.name for span in split(spans)[0]] == ["task inner", "task steps", "task outer"]


def test_tasks_at_once(installed, spans):
    """Tasks that run at once in one loop have their own calls."""
    client = async_openai_client()

    async def one(n):
        async with tokenguard.task("resolve", user=f"u{n}"):
            await asyncio.sleep(0)
            await client.chat.completions.create(**CHAT)

    async def all_of_them():
        await asyncio.gather(*(one(n) for n in range(5)))

    asyncio.run(all_of_them())
    tasks, calls = split(spans)
    assert [task.attributes[names.TASK_CALLS] for task in tasks] == [1] * 5
    parents = {task.context.span_id: task.attributes["tokenguard.user"] for task in tasks}
    assert sorted(parents[call.parent.span_id] for call in calls) == [f"u{n}" for n in range(5)]
    assert all(parents[call.parent.span_id] == call.attributes["tokenguard.user"] for call in calls)


def test_without_installing(spans):
    """A task of a program that has not installed TokenGuard makes no span, and works."""
    tokenguard.uninstall()
    with tokenguard.task("resolve") as task:
        pass
    assert spans.all() == []
    assert len(task.run) == 16


def test_a_tracer_that_fails(installed, spans, monkeypatch, caplog):
    """A tracer that raises is logged, and the task goes on."""

    def broken(*_args, **_kwargs):
        raise RuntimeError("no tracer today")

    monkeypatch.setattr(trace, "get_tracer", broken)
    with tokenguard.task("resolve") as task:
        task.succeed()
    assert "no tracer today" in caplog.text


def test_tasks_over_otlp(installed, spans, tmp_path):
    """Spans of tasks in a collector's file give the cost per success, once each, and add nothing to the calls' sums."""
    client = openai_client()
    for n in range(3):
        with tokenguard.task("resolve", tenant="t1", region="eu") as task:
            client.chat.completions.create(**CHAT)
            if n == 2:
                task.fail()
    lines = []
    for span in spans.all():
        attributes = [{"key": key, "value": value(content)} for key, content in span.attributes.items()]
        made = {
            "traceId": f"{span.context.trace_id:032x}",
            "spanId": f"{span.context.span_id:016x}",
            "startTimeUnixNano": str(span.start_time),
            "endTimeUnixNano": str(span.end_time),
            "attributes": attributes,
        }
        lines.append(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]}) + "\n")
    (tmp_path / "traces.json").write_text("".join([*lines, *lines]))
    with closing(open_sources([tmp_path / "traces.json"]).records) as records:
        report = ask(records, Query(by=("task_run",)))
        filtered = ask(records, Query(where=(("region", "eu"), ("tenant", "t1"))))
    (told,) = report.tasks
    assert (told.task, told.succeeded, told.failed) == ("resolve", 2, 1)
    assert told.cost_usd == pytest.approx(3 * OPENAI_COST)
    assert told.cost_per_success_usd == pytest.approx(1.5 * OPENAI_COST)
    assert report.total.figures["cost_usd"] == pytest.approx(3 * OPENAI_COST)
    assert [row.figures["calls"] for row in report.rows] == [1, 1, 1]
    assert filtered.tasks == report.tasks
