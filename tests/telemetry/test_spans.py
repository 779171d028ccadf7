"""Attributes written past the SDK's cleaning are those that it would have written."""

from __future__ import annotations

import enum

import pytest
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext

from tokenguard.telemetry.spans import set_attributes

PLAIN = {"text": "x" * 90, "count": 3, "share": 0.5, "flag": True, "reasons": ("stop", "length")}


class Model(enum.StrEnum):
    MINI = "gpt-4o-mini"


def span(**limits: int) -> Span:
    made = TracerProvider(span_limits=SpanLimits(**limits)).get_tracer("test").start_span("chat", attributes={"a": 1})
    assert isinstance(made, Span)
    return made


@pytest.mark.parametrize(
    "attributes",
    [
        PLAIN,
        {},
        {"a": 2},
        {"model": Model.MINI},
        {"list": ["a", "b"]},
        {"none": None},
        {f"k{n}": n for n in range(200)},
    ],
    ids=["plain", "none", "again", "enum", "list", "null", "many"],
)
@pytest.mark.parametrize(
    "limits", [{}, {"max_span_attributes": 4}, {"max_span_attribute_length": 10}], ids=["default", "few", "short"]
)
def test_as_the_sdk_would(attributes, limits):
    ours, theirs = span(**limits), span(**limits)
    set_attributes(ours, attributes)
    theirs.set_attributes(attributes)
    assert list(ours.attributes.items()) == list(theirs.attributes.items())
    assert [type(value) for value in ours.attributes.values()] == [type(value) for value in theirs.attributes.values()]
    assert ours.dropped_attributes == theirs.dropped_attributes
    ours.end()
    assert ours._readable_span().attributes == theirs.attributes


def test_ended_span_stays_as_it_was():
    ended = span()
    ended.end()
    set_attributes(ended, PLAIN)
    assert dict(ended.attributes) == {"a": 1}


def test_spans_of_others():
    """A span without the SDK's insides is written to by its own method, and one that records nothing is left alone."""
    written: dict[str, object] = {}

    class Foreign(NonRecordingSpan):
        def set_attributes(self, attributes):
            written.update(attributes)

    set_attributes(Foreign(SpanContext(1, 1, is_remote=False)), PLAIN)
    set_attributes(INVALID_SPAN, PLAIN)
    assert written == PLAIN


def test_the_short_way_is_taken():
    """Or the other tests here would prove nothing."""
    short = span()
    short.set_attributes = None
    set_attributes(short, PLAIN)
    assert short.attributes["count"] == 3
