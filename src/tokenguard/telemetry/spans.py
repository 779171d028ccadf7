"""Whose span a call is on: its own, one that the SDK starts itself, or that of an instrumentation around the SDK."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_tracer_provider,
)

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue
from tokenguard.providers.hosts import UNKNOWN
from tokenguard.telemetry.context import span_of, with_span

Attributes = dict[str, AttributeValue]

OWNER_KEY = "opentelemetry.genai.client.inference.context"
"""Context key of opentelemetry-util-genai: whoever set it owns the inference, and those inside it stay silent."""


OPENINFERENCE = tuple(
    f"openinference.instrumentation.{sdk}" for sdk in ("openai", "anthropic", "groq", "mistralai", "google_genai")
)
"""The scopes of OpenInference whose spans are one request of an SDK each; what they say comes at their end."""


def outer_owner(context: Context, start: Mapping[str, AttributeValue]) -> Span | None:
    """The span of an instrumentation around the SDK that owns the call which starts with these attributes, if any.

    It says so by util-genai's context key, or its span does: a client span of the same operation and model (util-genai
    has no key for embeddings), or one of OpenInference. A span that goes to another tracer provider than the
    application's is none: what is written there, the application's own backend would not get.
    """
    span = span_of(context)
    if OWNER_KEY in context:
        return span
    if span is INVALID_SPAN or not span.is_recording() or not _goes_where_ours_go(span):
        return None
    theirs = getattr(span, "attributes", None) or {}
    if getattr(getattr(span, "instrumentation_scope", None), "name", None) in OPENINFERENCE:
        return None if names.PROVIDER in theirs else span  # it has a call already
    if getattr(span, "kind", None) is not SpanKind.CLIENT:
        return None
    same = theirs.get(names.OPERATION) == start[names.OPERATION]
    return span if same and theirs.get(names.REQUEST_MODEL) == start.get(names.REQUEST_MODEL) else None


def _goes_where_ours_go(span: Span) -> bool:
    ours = getattr(get_tracer_provider(), "resource", None)  # each provider of the SDK has its own
    return ours is None or getattr(span, "resource", ours) is ours


def silencing(context: Context) -> Context:
    """`context` with the mark that keeps GenAI instrumentations inside the SDK from a second span, if any is loaded."""
    util = sys.modules.get("opentelemetry.util.genai.invocation")
    if util is None or not hasattr(util, "InferenceData"):
        return context
    return set_value(OWNER_KEY, util.InferenceData(), context)


def hex_ids(ids: SpanContext) -> tuple[str, str]:
    """Trace id and span id in hex; empty without a tracer."""
    return (ids.trace_id.to_bytes(16).hex(), ids.span_id.to_bytes(8).hex()) if ids.is_valid else ("", "")


PLAIN = frozenset((str, bool, int, float, tuple))
"""Types of attribute values that OpenTelemetry's SDK takes as they are; our tuples are of strings."""


def set_attributes(
    span: Any, attributes: Mapping[str, AttributeValue], *, clean: bool = False, plain: bool = False
) -> None:
    """`span.set_attributes`, a tenth of its time for attributes that need no cleaning and that the span has room for.

    The SDK looks at each value to clean and shorten it, and takes a lock for it; for the twenty of a call that is
    more than all else that a span costs. Where the SDK's own mapping is not as known here, its method is called.
    `clean`: it is known that no value needs cleaning. `plain`: nor does anybody change the mapping: it may be kept.
    """
    try:
        bounded = span._attributes
        room = bounded.maxlen is None or len(bounded._dict) + len(attributes) <= bounded.maxlen
        clean = clean or plain or PLAIN.issuperset(map(type, attributes.values()))
        if room and clean and bounded.max_value_len is None:
            with span._lock:
                if span._end_time is None:
                    # A copy is a third of the time of an update; what is there is nearly always the start of ours.
                    if bounded._dict.keys() <= attributes.keys():
                        bounded._dict = attributes if plain else {**attributes}
                    else:
                        bounded._dict.update(attributes)
            return
    except AttributeError:
        pass
    span.set_attributes(attributes)


class CallSpan:
    """The span that a call started for itself."""

    __slots__ = ("_at_start", "_span", "context")
    owned = True
    """Whether the GenAI metrics of the call are ours to record."""

    def __init__(self, span: Span, context: Context, at_start: int = 0) -> None:
        self._span = span
        self.context = context
        """What is current while the request is sent."""
        self._at_start = at_start
        """How many attributes it has had from the start."""

    def write(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Write attributes before the end, or such as are for the span alone."""
        if self._span.is_recording():
            set_attributes(self._span, attributes)

    def rename(self, name: str) -> None:
        """Have another name: the model has changed since it was started."""
        if self.owned and self._span.is_recording():
            self._span.update_name(name)

    def end(self, attributes: Attributes, outcome: str, told: Callable[[], Attributes]) -> None:
        """End the span with the attributes of the call: those that it has so far, and the rest once they are `told`."""
        span = self._span
        if outcome == names.ERROR and span.is_recording():
            span.set_status(ERROR_STATUS)
        ends = getattr(span, "tokenguard_ends", None)  # of a span from a template
        if ends is not None and ends(None, self._at_start, len(attributes), told):
            return
        if span.is_recording():
            set_attributes(span, told(), plain=True)  # a call's are: `facts.record.AttributeValue`
        span.end()

    def let_go(self) -> None:
        """The answer is gone: who has not ended the span by now will not do it."""

    def identity(self) -> SpanContext:
        """What identifies the span: much less to keep than the span."""
        return self._span.get_span_context()

    def ids(self) -> tuple[str, str]:
        """Trace id and span id in hex; empty without a tracer."""
        return hex_ids(self._span.get_span_context())


ERROR_STATUS = Status(StatusCode.ERROR)  # no description: a provider's message may quote the prompt


class OuterSpan(CallSpan):
    """The span of an instrumentation around the SDK: it gets our facts; starting, naming and ending it is theirs.

    Where it has ended before a stream was over, the facts get a span of their own, which `own` starts.
    """

    __slots__ = ("_own",)
    owned = False

    def __init__(self, span: Span, context: Context, own: Callable[[], Span]) -> None:
        super().__init__(span, context)
        self._own = own if span.is_recording() else None

    def end(self, attributes: Attributes, outcome: str, told: Callable[[], Attributes]) -> None:
        """Write the attributes; the end is its owner's."""
        if self._own is None or self._span.is_recording():
            self.write(told())
            return
        self._span = self._own()
        super().end(attributes, outcome, told)


def _beside(native: Mapping[str, AttributeValue], ours: Attributes) -> Attributes:
    """A call's attributes, beside those that the SDK has written."""
    if names.ERROR_TYPE in native and names.ERROR_TYPE in ours:  # the SDK knows its own errors best
        ours = {**ours, names.ERROR_TYPE: native[names.ERROR_TYPE]}
    if names.PROVIDER in native and ours.get(names.PROVIDER) == UNKNOWN:  # better than nobody's
        ours = {**ours, names.PROVIDER: native[names.PROVIDER]}
    return ours


class NativeSpan(CallSpan):
    """The span that the SDK starts inside its own request method, kept open until the SDK and the call are done.

    Its name is the SDK's, as its attributes are: whoever looks for it by that goes on finding it.
    """

    __slots__ = ("_end_time", "_pending", "_really_end")

    def __init__(self, context: Context) -> None:
        super().__init__(INVALID_SPAN, context)
        self._pending = 1
        self._end_time: int | None = None
        self._really_end: Any = None

    def adopt(self, span: Span) -> None:
        """The SDK has started its span."""
        self._span = span
        self.context = with_span(span, self.context)
        if span.is_recording():
            self._pending = 2
            self._really_end = span.end
            span.end = self._sdk_ended  # type: ignore[method-assign]

    def rename(self, name: str) -> None:
        """The name is the SDK's."""

    def _sdk_ended(self, end_time: int | None = None) -> None:
        self._end_time = end_time or time.time_ns()
        self._done()

    def _done(self) -> None:
        self._pending -= 1
        if self._pending == 0 and self._really_end is not None:
            self._really_end(self._end_time)

    def let_go(self) -> None:
        """End the span of a stream that was dropped, or of a request that failed, and that the SDK has forgotten."""
        if self._pending == 1:
            self._done()

    def end(self, attributes: Attributes, outcome: str, told: Callable[[], Attributes]) -> None:
        """Write the attributes, and end the span if the SDK is done with it."""
        if self._span.is_recording():
            tells = getattr(self._span, "tokenguard_tells", None)  # of a span from a template
            if tells is None or not tells(len(attributes), lambda native: _beside(native, told())):
                native = getattr(self._span, "attributes", None) or {}
                set_attributes(self._span, _beside(native, told()), clean=True)  # a call's are
            if outcome == names.ERROR and getattr(self._span, "status", ERROR_STATUS).is_unset:
                self._span.set_status(ERROR_STATUS)
        self._done()


class HeldSpan(NativeSpan):
    """A span that the SDK has around what it sends, and ends itself: held open until the call is done, too.

    The SDK writes its own account of the usage when the answer is there, so ours is written again after it.
    """

    __slots__ = ("_facts",)

    def __init__(self, span: Span, context: Context) -> None:
        super().__init__(context)
        self._facts: Attributes = {}
        self.adopt(span)

    def _sdk_ended(self, end_time: int | None = None) -> None:
        self.write(self._facts)
        super()._sdk_ended(end_time)

    def let_go(self) -> None:
        """The SDK ends it, whatever becomes of a stream."""

    def end(self, attributes: Attributes, outcome: str, told: Callable[[], Attributes]) -> None:
        """Write the attributes, and end the span if the SDK is done with it."""
        self._facts = told()
        super().end(attributes, outcome, told)


NO_SPAN = CallSpan(INVALID_SPAN, Context())
