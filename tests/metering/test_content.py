"""Prompts and answers are recorded where the standard variable asks for it, and nowhere else."""

from __future__ import annotations

import json
import sqlite3

import httpx2
import openai
import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

import tokenguard
from canned import (
    MESSAGES,
    SONNET,
    Script,
    anthropic_client,
    chat_body,
    message_body,
    openai_client,
    responses_body,
)
from tokenguard.installation import runtime
from tokenguard.providers.messages import answers, messages, parts

ENV = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
KEYS = ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages")
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}


@pytest.fixture
def capturing(monkeypatch, request):
    """TokenGuard installed with what the variable asks for; `SPAN_ONLY` unless the test says."""
    monkeypatch.setenv(ENV, getattr(request, "param", "SPAN_ONLY"))
    tokenguard.uninstall()
    tokenguard.install()
    yield runtime.installed()
    tokenguard.uninstall()


def content(span):
    return {key: json.loads(span.attributes[key]) for key in KEYS if key in span.attributes}


def said(words, reason):
    return [{"role": "assistant", "parts": [{"type": "text", "content": words}], "finish_reason": reason}]


USER = [{"role": "user", "parts": [{"type": "text", "content": "What is the capital of France?"}]}]


def test_not_unless_asked(installed, spans):
    """By default no text of a prompt or an answer is in a span, whole or in part."""
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    list(openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
    anthropic_client().messages.create(model=SONNET, messages=MESSAGES, max_tokens=20)
    for span in spans:
        assert not content(span)
        assert "capital" not in repr(dict(span.attributes))
        assert "Paris" not in repr(dict(span.attributes))


@pytest.mark.parametrize("capturing", ["true", "NO_CONTENT", "everything", ""], indirect=True)
def test_other_words_record_nothing(capturing, spans, caplog):
    """A word that the convention does not know records nothing."""
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert not content(spans.one)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES),
            said("Paris.", "stop"),
        ),
        (
            lambda: list(openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)),
            said("Paris.", "stop"),
        ),
        (
            lambda: openai_client().chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES),
            said("Paris.", "stop"),
        ),
        (
            lambda: openai_client().responses.create(model="gpt-4o-mini", input=MESSAGES[0]["content"]),
            said("Paris.", "completed"),
        ),
        (
            lambda: list(openai_client().responses.create(model="gpt-4o-mini", input=MESSAGES, stream=True)),
            said("Paris.", "completed"),
        ),
        (
            lambda: anthropic_client().messages.create(model=SONNET, messages=MESSAGES, max_tokens=20),
            said("Paris.", "end_turn"),
        ),
        (
            lambda: list(
                anthropic_client().messages.create(model=SONNET, messages=MESSAGES, max_tokens=9, stream=True)
            ),
            said("Paris.", "end_turn"),
        ),
    ],
    ids=["chat", "chat stream", "chat raw", "responses", "responses stream", "messages", "messages stream"],
)
def test_on_the_span(capturing, spans, make, expected):
    """Asked for, the conversation is on the span in the convention's form, whatever the wire format."""
    make()
    assert content(spans.one) == {"gen_ai.input.messages": USER, "gen_ai.output.messages": expected}


def test_instructions(capturing, spans):
    """What is set apart from the conversation stays apart."""
    anthropic_client().messages.create(model=SONNET, system="Be brief.", messages=MESSAGES, max_tokens=20)
    openai_client().responses.create(model="gpt-4o-mini", instructions="Be brief.", input="Hello")
    for span in spans:
        assert content(span)["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]


def test_tools(capturing, spans):
    """Calls of tools and their results are parts of their own, alike in every format."""
    call = {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}}
    result = {"type": "tool_call_response", "id": "call_1", "response": "Rain"}
    chat = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    chat.append({"role": "tool", "tool_call_id": "call_1", "content": "Rain"})
    answer = chat_body()
    answer["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer["choices"][0]["finish_reason"] = "tool_calls"
    client = openai_client(Script(httpx2.Response(200, json=answer)))
    client.chat.completions.create(model="gpt-4o-mini", messages=chat)
    asked = content(spans.one)
    assert asked["gen_ai.input.messages"][1:] == [
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [result]},
    ]
    assert asked["gen_ai.output.messages"] == [{"role": "assistant", "parts": [call], "finish_reason": "tool_calls"}]
    # Anthropic, the Responses API, Gemini and Bedrock say the same thing.
    use = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}
    assert parts([use]) == [call]
    assert parts([{"type": "tool_result", "tool_use_id": "call_1", "content": "Rain"}]) == [result]
    items = [
        {"type": "function_call", "id": "x", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "Rain"},
    ]
    assert messages({"input": items}) == [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [result]}]
    assert answers({**responses_body(), "output": items[:1]})[0]["parts"] == [call]
    assert parts({"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Paris"}}}) == [call]
    assert parts({"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Paris"}}}) == [call]
    assert answers({**message_body(), "content": [use]})[0]["parts"] == [call]
    gemini = {"candidates": [{"content": {"parts": [{"text": "Paris."}]}, "finishReason": "STOP"}]}
    assert answers(gemini) == said("Paris.", "STOP")
    bedrock = {"output": {"message": {"role": "assistant", "content": [{"text": "Paris."}]}}, "stopReason": "end_turn"}
    assert answers(bedrock) == said("Paris.", "end_turn")


def test_pictures_are_named_and_not_copied(capturing, spans):
    """Of a picture only the fact is recorded."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": [picture]}])
    assert content(spans.one)["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "image_url"}]}]


@pytest.mark.parametrize("capturing", ["EVENT_ONLY", "SPAN_AND_EVENT"], indirect=True)
def test_as_an_event(capturing, spans, monkeypatch, request):
    """Asked for as an event, the same is a log record that belongs to the span."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs, "get_logger", lambda name: provider.get_logger(name))
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    (record,) = exporter.get_finished_logs()
    assert record.log_record.event_name == "gen_ai.client.inference.operation.details"
    assert record.log_record.span_id == spans.one.context.span_id
    assert json.loads(record.log_record.attributes["gen_ai.output.messages"]) == said("Paris.", "stop")
    assert bool(content(spans.one)) == (capturing.meter.settling._capture.on_span)
    provider.shutdown()


def test_never_in_the_store(monkeypatch, tmp_path, spans):
    """The local store has no content, also when spans have it."""
    monkeypatch.setenv(ENV, "SPAN_ONLY")
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "usage.db"))
    monkeypatch.setattr(runtime, "_telemetry", None)
    tokenguard.uninstall()
    tokenguard.install()
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    runtime.installed().telemetry.flush()
    tokenguard.uninstall()
    assert content(spans.one)
    with sqlite3.connect(tmp_path / "usage.db") as db:
        dump = "\n".join(db.iterdump())
    db.close()
    assert "gpt-4o-mini" in dump
    assert "capital" not in dump
    assert "Paris" not in dump


def test_odd_content(capturing, spans):
    """Whatever stands in a request, the call goes on and its span ends."""
    for odd in ([None], [[]], [{}], [{"role": None}], [{"role": "user", "content": [3, None, {"type": 4}]}]):
        openai_client().chat.completions.create(model="gpt-4o-mini", messages=odd)
    assert len(spans) == 5
    with pytest.raises(openai.BadRequestError):
        openai_client(Script(httpx2.Response(400, json={}))).chat.completions.create(model="m", messages=MESSAGES)
    assert content(spans.all()[-1]) == {"gen_ai.input.messages": USER}
