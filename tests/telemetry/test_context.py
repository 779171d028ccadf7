"""The steps that a call takes with OpenTelemetry's context do what the API's own do."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys

from opentelemetry import baggage, trace
from opentelemetry import context as api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext

from tokenguard.telemetry import context

SPAN = NonRecordingSpan(SpanContext(1, 2, is_remote=False))


def test_what_is_made_current_is_current_for_everybody():
    """The API sees what was made current here, and here is seen what the API has attached."""

    def seen():
        inside = context.with_span(SPAN, baggage.set_baggage("a", "b", context.current()))
        context.make_current(inside)
        assert api.get_current() is inside is context.current()
        token = api.attach(Context())
        assert context.current() == {}
        api.detach(token)
        assert trace.get_current_span() is SPAN

    contextvars.copy_context().run(seen)
    assert context._held is not None


def test_a_span_in_a_context_is_as_the_api_has_it():
    """A span is put and found where the API puts and finds it, and the context that it is put into stays as it was."""
    before = baggage.set_baggage("a", "b", Context())
    ours, its = context.with_span(SPAN, before), trace.set_span_in_context(SPAN, before)
    assert (ours, type(ours)) == (its, type(its))
    assert before == baggage.set_baggage("a", "b", Context())
    for each in (before, ours, trace.set_span_in_context(None, before), Context({context.KEY: "no span"})):
        assert context.span_of(each) is trace.get_current_span(each)
    assert context.span_of(before) is INVALID_SPAN


def test_another_runtime_context_is_asked_by_its_own_functions(tmp_path):
    """`OTEL_PYTHON_CONTEXT` may name a runtime context that nothing is known of."""
    package = tmp_path / "other-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[opentelemetry_context]\nother = other:Other\n")
    (tmp_path / "other.py").write_text(
        "from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext\n"
        "class Other(ContextVarsRuntimeContext): pass\n"
    )
    program = (
        "from opentelemetry import context as api\nfrom tokenguard.telemetry import context\n"
        "assert type(api._RUNTIME_CONTEXT).__name__ == 'Other'\n"
        "assert (context.current, context.make_current) == (api.get_current, api.attach)\n"
    )
    environ = {**os.environ, "OTEL_PYTHON_CONTEXT": "other", "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
