"""OpenTelemetry's current context, read and made current in one step each.

The API's own functions go to a runtime context and through a copy or two: for the six steps of a call that is more than
making its span. Where the runtime context is another than the API's own, which `OTEL_PYTHON_CONTEXT` may ask for, its
functions are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from opentelemetry import context as api
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context


def _variable() -> ContextVar[Context] | None:
    """The variable that holds the current context; `None` where it is not held as known here."""
    runtime = getattr(api, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is not ContextVarsRuntimeContext or type(variable) is not ContextVar:
        return None
    return variable


_held: Final = _variable()
current: Final[Callable[[], Context]] = api.get_current if _held is None else _held.get
make_current: Final[Callable[[Context], object]] = api.attach if _held is None else _held.set
"""Not undone by a token, which may be given back in another context, where it is an error."""

KEY: Final[str] = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""Where a context has its span."""


def span_of(context: Context) -> Span:
    """See `opentelemetry.trace.get_current_span`."""
    span = context.get(KEY)
    return span if span is not None and isinstance(span, Span) else INVALID_SPAN


def with_span(span: Span, context: Context) -> Context:
    """See `opentelemetry.trace.set_span_in_context`."""
    made = Context(context)
    dict.__setitem__(made, KEY, span)  # before anybody has it
    return made
