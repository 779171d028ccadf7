"""A call's span, made from a template: the SDK's own span, without what its constructor does over again for each one.

`Tracer.start_span` and the constructor of a span take ten times as long as all else that a call's span needs: the
sampler's answer is known, the attributes are clean, and most fields are the tracer's. So a span is made the public way
once for each tracer, and later ones get its fields, with those that are a span's own made anew. What is made is of the
SDK's class, with every field that the SDK gives it; processors, identifiers, limits and the parent are treated as by
the SDK.

These fields are private to the SDK. So before the first use spans are made both ways and compared, and where a field is
not as known here, or sampler, limits or tracer are not plain, spans are made the public way: `why_not` has the reason.
"""

from __future__ import annotations

import copy
import functools
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock, RLock
from types import FunctionType
from typing import Any, Final

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from tokenguard.facts.record import AttributeValue
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.interrupts import interrupt
from tokenguard.telemetry.context import span_of

SDK: Final = "opentelemetry.sdk.trace"
NO_PARTS: Final[Mapping[str, tuple[()]]] = {"_events": (), "_links": ()}
OWN: Final = {"_name", "_context", "_parent", "_start_time", "_attributes", "_events", "_links", "_lock"}
"""The fields of a span that are its own."""
SAME: Final = {"_kind", "_instrumentation_info", "_instrumentation_scope"}
"""The fields that all spans of a tracer have alike, from the start to the end."""
LOCKS: Final[dict[type, Callable[[], Any]]] = {type(Lock()): Lock, type(RLock()): RLock}
_new_tuple: Final = tuple.__new__
SCALARS: Final = frozenset((str, bool, int, float))
"""Types of attribute values that the SDK takes as they are, where it does not shorten texts."""
MOST_TRACERS: Final = 8
"""Kinds of an SDK's own tracers for whose spans there are templates."""
Told = Callable[[], Mapping[str, AttributeValue]]
"""Finds the rest of a span's attributes, and gives them all."""
TOLD: Final = "_tokenguard_told"
"""The field of attributes that has it."""
MOST_TOLD: Final = 64
"""So many more there may be then: a call's usage, its cost."""
LEAST_ROOM: Final = 16
"""Attributes that a span must have room for at its start."""


class Spans:
    """Starts the spans of calls: from a template where the tracer allows it, and else the public way."""

    def __init__(self, tracer: Tracer, *, record_exception: bool = False) -> None:
        self._given = tracer
        """The API's, which may stand for one that is yet to be set."""
        self._record_exception = record_exception
        self._learnt: tuple[Any, dict[str, Any], Template | None] = (None, {}, None)
        """A tracer, as it was when the template of its spans was made, and that."""
        self._starts: Any = None
        """The public way at that time, which a neighbour may wrap."""
        self.why_not: str | None = None
        """Why spans are not made from a template; `None` where they are, and before the first one."""

    def start(self, name: str, parent: Context, attributes: Mapping[str, AttributeValue], start_ns: int) -> Span:
        """A client span, as `Tracer.start_span` starts it. `attributes` are plain, few, and not kept."""
        tracer = getattr(self._given, "_tracer", self._given)
        known, state, template = self._learnt
        if (
            tracer is not known
            or getattr(tracer, "__dict__", {}) != state
            or self._starts is not type(known).start_span
        ):
            template = self._learn(tracer)
        span: Any = None
        try:
            span = None if template is None else template.start(tracer, name, parent, attributes, start_ns)
        except Exception as failure:  # something has become of the SDK since: no call goes without its span
            self._give_up(failure)
        if span is None:
            return publicly(tracer, name, parent, attributes, start_ns, record_exception=self._record_exception)
        for each in hearing(span._span_processor)[1]:  # what it raises is the caller's, as with the SDK
            each(span, parent_context=parent)
        made: Span = span
        return made

    def serves(self, tracer: Any) -> bool:
        """Whether spans of this tracer are like those of the one that was given."""
        given = self._given
        return given is tracer or (type(given) is type(tracer) and given.__dict__ == getattr(tracer, "__dict__", None))

    def _give_up(self, failure: Exception) -> None:
        """Make spans the public way from now on."""
        if interrupt(failure) is not None:
            raise failure
        self.why_not = f"{type(failure).__name__}: {failure}"
        self._learnt = (*self._learnt[:2], None)

    def _learn(self, tracer: Any) -> Template | None:
        """The template of this tracer's spans, as it is now."""
        state = {**getattr(tracer, "__dict__", {})}
        self._starts = type(tracer).start_span
        template = None
        try:
            template, self.why_not = Template.of(tracer, record_exception=self._record_exception), None
        except Unlike as difference:
            self.why_not = str(difference)
        except Exception as failure:  # an SDK that is not as known here
            if interrupt(failure) is not None:
                raise
            self.why_not = f"{type(failure).__name__}: {failure}"
        self._learnt = (tracer, state, template)
        return template


def why_not(tracer: Tracer) -> str | None:
    """Why the spans of this tracer are made the public way; `None` where they are made from a template."""
    spans = Spans(tracer)
    spans._learn(tracer)
    return spans.why_not


class SdkSpans:
    """Starts the spans that an SDK starts by itself, as its tracers would: from templates, too."""

    def __init__(self) -> None:
        self._spans: list[Spans] = []
        """For each kind of tracer that was seen: clients have tracers of their own, and most are alike."""

    def tracer(self, tracer: Tracer) -> Any:
        """What starts spans in the place of this tracer."""
        real = getattr(tracer, "_tracer", tracer)
        for spans in self._spans:
            if spans.serves(real):
                return _Starting(spans, real)
        if len(self._spans) == MOST_TRACERS:
            return tracer
        self._spans.append(Spans(real, record_exception=True))
        return _Starting(self._spans[-1], real)


class _Starting:
    """A tracer that makes client spans of plain attributes from a template."""

    __slots__ = ("_spans", "_tracer")

    def __init__(self, spans: Spans, tracer: Any) -> None:
        self._spans = spans
        self._tracer = tracer

    def start_span(
        self, name: str, context: Context | None = None, kind: Any = None, attributes: Any = None, **others: Any
    ) -> Span:
        """See `Tracer.start_span`."""
        if kind is not SpanKind.CLIENT or others or attributes is None or not _plain(attributes):
            made: Span = self._tracer.start_span(name, context, kind, attributes, **others)
            return made
        return self._spans.start(name, get_current() if context is None else context, attributes, time.time_ns())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracer, name)


def _plain(attributes: Mapping[str, object]) -> bool:
    """Whether the SDK would take these attributes as they are, all of them."""
    return len(attributes) <= LEAST_ROOM and SCALARS.issuperset(map(type, attributes.values())) and all(attributes)


def publicly(
    tracer: Tracer,
    name: str,
    parent: Context,
    attributes: Mapping[str, AttributeValue],
    start_ns: int,
    *,
    record_exception: bool = False,
) -> Span:
    """A client span by the API."""
    return tracer.start_span(
        name, parent, SpanKind.CLIENT, attributes, start_time=start_ns, record_exception=record_exception
    )


class Unlike(Exception):
    """A tracer whose spans are made the public way; the message is the reason."""


class Made(NamedTuple):
    """How the SDK makes an object of one class: the fields that all of them share."""

    kind: type
    shared: dict[str, Any]

    @classmethod
    def of(cls, one: object, another: object, own: set[str]) -> Made:
        """From two that were made alike. Raises `Unlike` where they differ in more than their own fields."""
        fields, others = one.__dict__, another.__dict__
        shared = {name: value for name, value in fields.items() if name not in own and value is others.get(name)}
        if type(one) is not type(another) or fields.keys() - shared.keys() != own:
            raise Unlike(f"the fields of {type(one).__name__} are {', '.join(sorted(fields))}")
        return cls(type(one), shared)


class Template:
    """What the spans of one tracer have in common."""

    def __init__(self, tracer: Any, shadow: Any, start: Callable[..., Any] = publicly) -> None:
        one, another = (start(shadow, "", Context(), {}, 1) for _ in range(2))
        if not one.is_recording():
            raise Unlike("the tracer records nothing")
        self._kind = _with_parts_made_later(one)
        self._fields = Made.of(one, another, OWN).shared | dict.fromkeys(OWN - NO_PARTS.keys())
        self._fields |= {"_span_processor": tracer.span_processor, "_resource": tracer.resource}
        """Those of a span, to be copied: a third of the time that putting them together takes."""
        bounded = Made.of(one._attributes, another._attributes, {"_dict", "_lock"})
        self._bounded_kind = _told_later(bounded.kind)
        self._bounded_fields = {**bounded.shared, "_dict": None, "_lock": None}
        self._attributes_lock = LOCKS[type(one._attributes._lock)]
        self._new_trace = tracer.id_generator.generate_trace_id
        self._new_span = tracer.id_generator.generate_span_id
        self._is_random: Callable[[], bool] = getattr(tracer.id_generator, "is_trace_id_random", lambda: False)
        self._no_state = one.get_span_context().trace_state
        self._root = {is_random: _root_flags(shadow, is_random) for is_random in (False, True)}
        self._child = {flags: _child_flags(shadow, flags) for flags in (1, 3)}

    @classmethod
    def of(cls, tracer: Any, *, record_exception: bool = False) -> Template:
        """The template of this tracer's spans; raises `Unlike` where there is none that is known to be right."""
        sdk: Any = sys.modules.get(SDK)
        if type(tracer) is not getattr(sdk, "Tracer", None):  # another thread may be importing it just now
            raise Unlike(f"the tracer is {type(tracer).__module__}.{type(tracer).__qualname__}")
        for method in (sdk.Tracer.start_span, sdk.Span.__init__, sdk.Span.start, sdk.Span.end):
            if type(method) is not FunctionType or method.__code__.co_filename != sdk.__file__:
                raise Unlike(f"{getattr(method, '__qualname__', method)} is wrapped")
        if not _records_all(tracer.sampler):
            raise Unlike(f"the sampler is {tracer.sampler.get_description()}")
        limits = tracer._span_limits
        if limits.max_span_attribute_length is not None or (limits.max_span_attributes or LEAST_ROOM) < LEAST_ROOM:
            raise Unlike("the limits of attributes are not the default")
        shadow = copy.copy(tracer)  # what is tried here, no processor sees, and it takes no identifier away
        shadow.span_processor = sdk.SynchronousMultiSpanProcessor()
        shadow.span_processor.add_span_processor(_heard_by(sdk.SpanProcessor))
        shadow.id_generator = _Counted()
        start = functools.partial(publicly, record_exception=record_exception)
        template = cls(tracer, shadow, start)
        tried = cls(shadow, shadow, start)
        for parent in _PARENTS:
            for used in (False, True):
                tried._compare(shadow, parent, start, used=used)
        return template

    def start(
        self, tracer: Any, name: str, parent: Context, attributes: Mapping[str, AttributeValue], start_ns: int
    ) -> Any:
        """A span that no processor knows of; `None` where only the SDK can make it: below one that is not sampled."""
        over = span_of(parent)
        above: SpanContext | None = None if over is INVALID_SPAN else over.get_span_context()
        if above is None or not above.is_valid:
            above, trace_id, flags, state = None, self._new_trace(), self._root[self._is_random()], self._no_state
        else:
            known = self._child.get(above.trace_flags)
            if known is None:
                return None
            trace_id, flags, state = above.trace_id, known, above.trace_state
        new: Any = object.__new__
        bounded, span = new(self._bounded_kind), new(self._kind)
        bounded.__dict__ = fields = self._bounded_fields.copy()
        fields["_dict"], fields["_lock"] = {**attributes}, self._attributes_lock()
        span.__dict__ = fields = self._fields.copy()
        fields["_name"] = name
        fields["_context"] = _new_tuple(SpanContext, (trace_id, self._new_span(), False, flags, state, True))
        fields["_parent"] = above
        fields["_start_time"] = start_ns
        fields["_attributes"] = bounded
        fields["_lock"] = Lock()
        return span

    def _compare(self, shadow: Any, parent: Context, publicly: Callable[..., Any], *, used: bool) -> None:
        """Make a span in all ways, below this parent, and use it or not; raises `Unlike` on any difference."""
        told: list[Any] = []
        heard: list[str] = shadow.span_processor._span_processors[0].heard
        for start, later in ((publicly, False), (self.start, False), (self.start, True)):
            shadow.id_generator.next = 1
            heard.clear()
            span: Any = start(shadow, "chat x", parent, _FIRST, 1)
            if span is None or not span.is_recording():
                continue
            seen = []
            if used:
                seen.append(_all_of(span))
                _use(span)
                seen.append(_all_of(span))
            if used or not (
                later and span.tokenguard_ends(2, len(_FIRST), len(_FIRST), lambda: _FIRST | _AGAIN | _LAST)
            ):
                span.set_attributes(_AGAIN)
                if not (later and span.tokenguard_tells(len(_LAST), lambda _: _LAST)):
                    span.set_attributes(_LAST)
                span.end(2)
            readable = span._readable_span()
            its = readable.to_json(), readable.dropped_events, readable.dropped_links
            told.append((seen, _all_of(readable), its, [each for each in heard if each != "on_start"]))
        if any(each != told[0] for each in told[1:]):
            raise Unlike("a span from a template is another than the SDK's")


def _with_parts_made_later(example: Any) -> type:
    """The SDK's class of spans, with events and links that are made when somebody looks: most spans have none."""
    kind: Any = type(example)
    exported: Any = type(example._readable_span())
    fields = [name for name in example._readable_span().__dict__ if name not in NO_PARTS]
    if not example.__dict__.keys() >= {*fields}:
        raise Unlike(f"the fields of {exported.__name__} are {', '.join(sorted(fields))}")
    # With all keys, so that what is put there needs no more room.
    blank = {**{name: example.__dict__[name] if name in SAME else None for name in fields}, **NO_PARTS}
    own_fields = tuple(name for name in fields if name not in SAME)
    new = object.__new__
    counted = example.__dict__.get("_record_end_metrics")
    count = None if counted is None or _does_nothing(counted) else counted

    def readable(self: Any) -> Any:
        own, made = self.__dict__, new(exported)
        made.__dict__ = its = blank.copy()
        for name in own_fields:
            its[name] = own[name]
        for name in NO_PARTS:
            if name in own:
                its[name] = own[name]
        return made

    most = example._attributes.maxlen

    def set_attribute(self: Any, key: str, value: Any) -> None:
        if type(value) in SCALARS and type(key) is str and key:  # what the SDK would not clean
            with self._lock:
                its = self._attributes._dict
                if self._end_time is None and (most is None or len(its) < most):
                    if key in its:
                        del its[key]  # it goes to the end
                    its[key] = value
                    return
        kind.set_attribute(self, key, value)

    def get_span_context(self: Any) -> Any:
        return self._context

    seals = "_immutable" in kind.end.__code__.co_names  # an older SDK leaves the attributes of its spans open

    def ends(self: Any, end_time: int | None, had: int, known: int, told: Told | None) -> bool:
        """End it, with the attributes that are `told` once somebody looks; the `known` of them are not all.

        False where it has not just the `had` that they begin with, or has no room for them.
        """
        bounded = self._attributes
        with self._lock:
            if self._end_time is not None:
                return False
            if told is not None:
                fields = bounded.__dict__
                if len(fields["_dict"]) != had or (most is not None and known + MOST_TOLD > most):
                    return False
                fields[TOLD] = told
                del fields["_dict"]
            self._end_time = time.time_ns() if end_time is None else end_time
            if seals:
                bounded._immutable = True
        if count is not None:
            count()
        _, _, ending, at_end = hearing(self._span_processor)
        for each in ending:
            each(self)
        made = readable(self)
        for each in at_end:
            each(made)
        return True

    def tells(self: Any, known: int, tell: Callable[[Mapping[str, AttributeValue]], Any]) -> bool:
        """Have what `tell` gives for the attributes so far beside these, once somebody looks: the `known`, and more.

        False where it has ended, or has no room.
        """
        fields = self._attributes.__dict__
        with self._lock:
            its = fields.get("_dict")
            if self._end_time is not None or its is None or (most is not None and len(its) + known + MOST_TOLD > most):
                return False
            fields[TOLD] = lambda: {**its, **tell(its)}
            del fields["_dict"]
        return True

    def end(self: Any, end_time: int | None = None) -> None:
        if not ends(self, end_time, 0, 0, None):
            kind.end(self, end_time)  # it says that this was done

    parts = {
        "set_attribute": set_attribute,
        "get_span_context": get_span_context,
        "tokenguard_ends": ends,
        "tokenguard_tells": tells,
        "end": end,
        "_events": _Later("_events", lambda span: kind._new_events(span)),
        "_links": _Later("_links", lambda span: kind._new_links(span, ())),
    }
    return type(kind.__name__, (kind,), {**parts, "_readable_span": readable, "__module__": kind.__module__})


def _told_later(kind: Any) -> type:
    """The SDK's class of attributes, with those that are told when somebody looks."""
    parts = {"_dict": _Later("_dict", _told), "__module__": kind.__module__}
    made: type = type(kind)(kind.__name__, (kind,), parts)
    return made


def _told(attributes: Any) -> Any:
    fields = attributes.__dict__
    told = fields.get(TOLD)
    if told is None:  # another thread has looked meanwhile
        return fields["_dict"]
    fields["_dict"] = found = told()
    fields[TOLD] = None
    return found


class Hearing(NamedTuple):
    """What is called where a span of some processors starts and ends; not what does nothing there."""

    of: object
    start: tuple[Callable[..., object], ...]
    ending: tuple[Callable[..., object], ...]
    end: tuple[Callable[..., object], ...]


_heard: Hearing = Hearing(None, (), (), ())
"""Of the processors that were asked for last: a process has one set of them."""


def hearing(processor: Any) -> Hearing:
    """What of a tracer's processor, or of those that it stands for, wants to hear of spans."""
    global _heard
    those = getattr(processor, "_span_processors", processor)
    known = _heard
    if known[0] is those:
        return known
    one_by_one = type(processor) is getattr(sys.modules[SDK], "SynchronousMultiSpanProcessor", None)
    each = those if one_by_one else (processor,)
    start, ending, end = (
        tuple(method for one in each if not _does_nothing(method := getattr(one, name, _nothing)))
        if hasattr(sys.modules[SDK].SpanProcessor, name)  # an older SDK does not call `_on_ending`
        else ()
        for name in ("on_start", "_on_ending", "on_end")
    )
    known = _heard = Hearing(those, start, ending, end)
    return known


def _nothing() -> None:
    pass


def _nothing_documented() -> None:
    """What an abstract method looks like."""


NOTHING: Final = (_nothing.__code__.co_code, _nothing_documented.__code__.co_code)


def _does_nothing(function: Any) -> bool:
    """Whether a function, or a method, is empty."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and code.co_code in NOTHING


def _heard_by(base: Any) -> Any:
    """A processor that writes down what it hears."""

    class Heard(base):  # type: ignore[misc] # the SDK's
        heard: list[str] = []  # noqa: RUF012 - each class has one object

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            self.heard.append("on_start")

        def _on_ending(self, span: Any) -> None:
            self.heard.append(f"_on_ending {span.is_recording()}")

        def on_end(self, span: Any) -> None:
            self.heard.append(f"on_end {span.is_recording() if hasattr(span, 'is_recording') else span.end_time}")

    return Heard()


class _Later:
    """A field that is made by the SDK's own method when somebody looks at it."""

    def __init__(self, name: str, make: Callable[[Any], Any]) -> None:
        self._name = name
        self._make = make

    def __get__(self, span: Any, _kind: type) -> Any:
        return self if span is None else span.__dict__.setdefault(self._name, self._make(span))


class _Counted:
    """Identifiers for what is tried: 1, 2, 3."""

    def __init__(self, *, is_random: bool = False) -> None:
        self.next = 1
        self._is_random = is_random

    def generate_span_id(self) -> int:
        self.next += 1
        return self.next

    generate_trace_id = generate_span_id

    def is_trace_id_random(self) -> bool:
        return self._is_random


def _below(flags: int, *, is_remote: bool) -> Context:
    state = TraceState([("vendor", "1")])
    return set_span_in_context(NonRecordingSpan(SpanContext(7, 8, is_remote, TraceFlags(flags), state)), Context())


_FIRST: Final[dict[str, AttributeValue]] = {"whole": 1, "real": 0.5, "words": ("a", "b"), "text": "x"}
_AGAIN: Final[dict[str, AttributeValue]] = {"text": "y"}
_LAST: Final[dict[str, AttributeValue]] = {"last": 2.5}
"""Attributes of what is tried: from the start, set once more, and at the end."""
_PARENTS: Final = (
    Context(),
    *(_below(flags, is_remote=remote) for flags in (0, 1, 2, 3) for remote in (False, True)),
)
"""All kinds of parents: none, and sampled or not, with a random identifier or not, here or elsewhere."""


def _root_flags(shadow: Any, is_random: bool) -> TraceFlags:
    again = copy.copy(shadow)
    again.id_generator = _Counted(is_random=is_random)
    return publicly(again, "", Context(), {}, 1).get_span_context().trace_flags


def _child_flags(shadow: Any, flags: int) -> TraceFlags:
    return publicly(shadow, "", _below(flags, is_remote=False), {}, 1).get_span_context().trace_flags


def _records_all(sampler: Any) -> bool:
    """Whether the sampler is the default one, or an equal: it records all but what is below a span without sampling."""
    sampling: Any = sys.modules[f"{SDK}.sampling"]

    def is_on(each: Any) -> bool:
        return type(each) is sampling.StaticSampler and each._decision is sampling.Decision.RECORD_AND_SAMPLE

    return type(sampler) is sampling.ParentBased and all(
        map(is_on, (sampler._root, sampler._remote_parent_sampled, sampler._local_parent_sampled))
    )


def _use(span: Any) -> None:
    """Do to a span what programs and processors do."""
    span.set_attribute("more", True)
    span.set_attributes({"text": "y", "list": ["a"]})
    span.add_event("event", {"a": 1}, 5)
    span.add_link(SpanContext(3, 4, is_remote=True, trace_flags=TraceFlags(1)))
    span.update_name("chat y")


def _all_of(node: Any) -> Any:
    """Everything that an object of the SDK consists of, to be compared."""
    kind = type(node)
    if kind in (deque, tuple) or kind.__name__ == "BoundedList":
        return tuple(map(_all_of, node))
    if kind in LOCKS:
        return kind
    if kind.__module__.startswith("opentelemetry") and getattr(node, "__dict__", None):
        if kind.__name__ in ("Resource", "SpanLimits", "ParentBased"):
            return id(node)
        for name in (*NO_PARTS, "_dict"):
            getattr(node, name, None)
        return kind.__name__, {name: _all_of(value) for name, value in node.__dict__.items() if name != TOLD}
    return {**node} if kind is dict else node
