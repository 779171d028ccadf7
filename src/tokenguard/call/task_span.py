"""A task's span: above those of its calls, with what they came to. OpenTelemetry is imported with the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, StatusCode

from tokenguard import __version__
from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue
from tokenguard.process.log import Log

log = Log("tokenguard")


@contextmanager
def _contained(step: str) -> Iterator[None]:
    """What is wrong with a tracer is logged, and is not the program's."""
    try:
        yield
    except Exception:
        log.warning("tokenguard: %s a task's span failed; the task goes on", step, exc_info=True)


class TaskSpan:
    """The span of one run of a task; nothing where no tracer records it. No method raises."""

    def __init__(self, name: str, start_ns: int) -> None:
        self._span: Span | None = None
        self._tokens: list[Token[Context]] = []
        with _contained("starting"):
            tracer = trace.get_tracer("tokenguard", __version__, schema_url=names.SCHEMA_URL)
            span = tracer.start_span(f"task {name}", start_time=start_ns)
            self._span = span if span.is_recording() else None

    def enter(self) -> None:
        """Make it the current span: the calls that follow are below it."""
        if self._span is not None:
            self._tokens.append(attach(trace.set_span_in_context(self._span)))

    def leave(self, *, ours: bool) -> None:
        """Give the context back, where it is `ours` to restore."""
        if self._tokens:
            token = self._tokens.pop()
            if ours:
                detach(token)

    def end(self, outcome: str, attributes: Mapping[str, AttributeValue]) -> None:
        """End it with what its calls came to."""
        if self._span is None:
            return
        with _contained("ending"):
            self._span.set_attributes({**attributes, names.TASK_OUTCOME: outcome})
            if outcome != names.OK:
                self._span.set_status(StatusCode.ERROR)
            self._span.end()
