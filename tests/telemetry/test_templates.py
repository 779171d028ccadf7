"""A call's span that is made from a template is the SDK's, for every processor, sampler, limit and parent."""

from __future__ import annotations

import itertools
import json

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from tokenguard.telemetry import templates
from tokenguard.telemetry.templates import MOST_TRACERS, SdkSpans, Spans, publicly


class Ids(IdGenerator):
    """Identifiers that can be foretold."""

    def __init__(self):
        self.counted = itertools.count(1)

    def generate_span_id(self):
        return next(self.counted)

    def generate_trace_id(self):
        return next(self.counted)


class Seen(SpanProcessor):
    """Sees a span at each of its stations, and changes it where that is allowed."""

    def __init__(self):
        self.log = []

    def on_start(self, span, parent_context=None):
        span.set_attribute("on_start", span.attributes.get("gen_ai.operation.name", ""))
        self.log.append(("start", span.name, span.kind, len(parent_context), dict(span.attributes)))

    def _on_ending(self, span):
        self.log.append(("ending", span.is_recording(), span.end_time))

    def on_end(self, span):
        self.log.append(("end", type(span), json.loads(span.to_json()), span.dropped_attributes))


class Picky(sampling.Sampler):
    """One that adds attributes."""

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
        return sampling.SamplingResult(sampling.Decision.RECORD_AND_SAMPLE, {**(attributes or {}), "sampled.by": "me"})

    def get_description(self):
        return "Picky"


def below(flags, *, remote):
    context = SpanContext(5, 6, remote, TraceFlags(flags), TraceState([("vendor", "1")]))
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


PARENTS = {
    "none": Context(),
    "invalid": trace.set_span_in_context(trace.INVALID_SPAN, Context()),
    **{f"{flags}, remote={remote}": below(flags, remote=remote) for flags in range(4) for remote in (False, True)},
}
PLAIN = {
    "default": {},
    "parent based": {"sampler": sampling.ParentBased(sampling.ALWAYS_ON)},
    "few events": {"span_limits": SpanLimits(max_events=1, max_links=1, max_span_attributes=20)},
}
OTHERS = {
    "off": {"sampler": sampling.ALWAYS_OFF},
    "ratio": {"sampler": sampling.ParentBased(sampling.TraceIdRatioBased(0.5))},
    "picky": {"sampler": Picky()},
    "few attributes": {"span_limits": SpanLimits(max_span_attributes=3)},
    "short attributes": {"span_limits": SpanLimits(max_span_attribute_length=3)},
}


def story(start, settings, parent):
    """What processors see of a span's life that `start(tracer, name, parent, attributes, time)` begins."""
    seen = Seen()
    provider = TracerProvider(id_generator=Ids(), **settings)
    provider.add_span_processor(seen)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test", "1.0", schema_url="https://example.com/schema")
    given = {"gen_ai.operation.name": "chat", "server.port": 443, "words": ("a", "b")}
    span = start(tracer, "chat m", parent, given, 1_000)
    given["late"] = True  # what is given is not kept
    for key, value in SET.items():
        span.set_attribute(key, value)
    span.set_attributes({"words": ["c"], "none": None})
    for n in range(2):
        span.add_event(f"event {n}", {"n": n}, 1_001)
        span.add_link(SpanContext(8, 9, is_remote=True))
    span.update_name("chat n")
    child = tracer.start_span("child", trace.set_span_in_context(span, parent), start_time=1_100)
    child.end(1_200)
    span.set_status(trace.StatusCode.ERROR, "why")
    span.record_exception(ValueError("x"), timestamp=1_002)
    span.end(2_000)
    span.set_attribute("after", 1)
    span.end(3_000)
    context = child.get_span_context()
    events = [[(e.name, e.timestamp) for e in s.events] for s in exporter.get_finished_spans()]
    return seen.log, tuple(span.get_span_context()), tuple(context), events, span.is_recording(), type(span).__name__


SET = {"one": 1, "server.port": 444, "": "nameless", "text": "abcd", "list": [1, 2], "none": None}
"""Attributes that are set one by one: new and known ones, and such as the SDK cleans."""


def by_template(tracer, *given):
    return Spans(tracer).start(*given)


def as_the_sdk_does(tracer, name, parent, attributes, _):
    """A span as anthropic starts its own: with plain attributes, and at the time that it is."""
    return tracer.start_span(name, parent, kind=trace.SpanKind.CLIENT, attributes={**attributes, "words": "a, b"})


def by_the_sdk_from_a_template(tracer, *given):
    return as_the_sdk_does(SdkSpans().tracer(tracer), *given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("settings", PLAIN | OTHERS)
def test_processors_see_the_same(settings, parent):
    """A span's whole life is the same, whoever has made it: identifiers, events, links, status, children, its end."""
    both = [story(start, (PLAIN | OTHERS)[settings], PARENTS[parent]) for start in (by_template, publicly)]
    assert both[0] == both[1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("settings", PLAIN | OTHERS)
def test_what_an_sdk_starts_is_the_same(settings, parent, monkeypatch):
    """The span that an SDK starts by itself is what it would be without us, its exceptions included."""
    for module in (sdk, templates.time):
        monkeypatch.setattr(module, "time_ns", lambda: 1_000)
    both = [
        story(start, (PLAIN | OTHERS)[settings], PARENTS[parent])
        for start in (by_the_sdk_from_a_template, as_the_sdk_does)
    ]
    assert both[0] == both[1]


def test_a_processor_that_is_added_later_is_heard():
    """Spans are told to the processors of the provider as it is, and to each at its stations, in the SDK's order."""
    provider = TracerProvider()
    spans = Spans(provider.get_tracer("test"))
    for processor in (SpanProcessor(), first := Seen(), second := Seen()):
        spans.start("before", Context(), {}, 1).end()
        provider.add_span_processor(processor)
        span = spans.start("chat", Context(), {"gen_ai.operation.name": "chat"}, 1)
        assert span.is_recording()
        span.end()
    stations = ["start", "ending", "end"] if hasattr(SpanProcessor, "_on_ending") else ["start", "end"]
    assert [each[0] for each in first.log] == stations * 3
    assert [each[0] for each in second.log] == stations


def test_clients_share_a_template(monkeypatch):
    """A client that is made for each request has a tracer of its own: the template is made once, and for few kinds."""
    provider, made = TracerProvider(), []
    of = templates.Template.of
    monkeypatch.setattr(templates.Template, "of", lambda *given, **how: made.append(1) or of(*given, **how))
    spans = SdkSpans()
    for _ in range(3):
        as_the_sdk_does(spans.tracer(provider.get_tracer("sdk", "1")), "chat", Context(), {}, 0).end()
    assert len(made) == 1
    for n in range(MOST_TRACERS + 3):
        as_the_sdk_does(spans.tracer(provider.get_tracer(f"sdk {n}")), "chat", Context(), {}, 0).end()
    assert len(made) == MOST_TRACERS


@pytest.mark.parametrize("settings", PLAIN)
def test_plain_tracers_take_the_template(settings):
    """Or the other tests here would prove nothing."""
    spans = Spans(TracerProvider(**PLAIN[settings]).get_tracer("test"))
    spans.start("chat", Context(), {}, 1)
    assert spans.why_not is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("off", "the sampler is AlwaysOffSampler"),
        ("picky", "the sampler is Picky"),
        ("few attributes", "the limits of attributes are not the default"),
    ],
)
def test_others_say_why_not(settings, reason):
    """Where the public way is taken, the reason is there to be told."""
    spans = Spans(TracerProvider(**OTHERS[settings]).get_tracer("test"))
    spans.start("chat", Context(), {}, 1)
    assert spans.why_not == reason


def test_a_wrapped_tracer_is_not_gone_round(monkeypatch):
    """Who has wrapped `Tracer.start_span` sees the call's span, as it would without the template."""
    original, seen = sdk.Tracer.start_span, []

    def start_span(self, name, *args, **kwargs):
        seen.append(name)
        return original(self, name, *args, **kwargs)

    spans = Spans(TracerProvider().get_tracer("test"))
    spans.start("before", Context(), {}, 1)
    monkeypatch.setattr(sdk.Tracer, "start_span", start_span)
    spans.start("after", Context(), {}, 1)
    assert seen == ["after"]


def test_what_changes_later_counts():
    """A processor that is added, a resource or a sampler that is set after the first span hold for the next ones."""
    provider = TracerProvider(id_generator=Ids())
    tracer = provider.get_tracer("test")
    spans = Spans(tracer)
    spans.start("first", Context(), {}, 1)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer.resource = tracer.resource.merge(sdk.Resource({"later": "1"}))
    spans.start("second", Context(), {}, 1).end()
    (second,) = exporter.get_finished_spans()
    assert second.resource.attributes["later"] == "1"
    tracer.sampler = sampling.ALWAYS_OFF
    assert not spans.start("third", Context(), {}, 1).is_recording()


def test_a_disabled_tracer_stays_disabled():
    """A tracer that the configuration has switched off makes no spans."""
    tracer = TracerProvider().get_tracer("test")
    if not hasattr(tracer, "_set_tracer_config"):
        pytest.skip("this SDK cannot switch a tracer off")
    spans = Spans(tracer)
    spans.start("first", Context(), {}, 1)
    tracer._set_tracer_config(sdk._TracerConfig(is_enabled=False))
    assert not spans.start("second", Context(), {}, 1).is_recording()


def test_a_provider_that_is_set_later(monkeypatch):
    """Before there is a provider nothing is recorded, and after it is set the spans are its own."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    spans = Spans(trace.get_tracer("test"))
    assert not spans.start("before", Context(), {}, 1).is_recording()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    assert spans.start("after", Context(), {}, 1).is_recording()
    assert spans.why_not is None


def test_an_sdk_that_is_not_as_known(monkeypatch):
    """A field that a future SDK may give its spans is noticed, whatever it is, and the public way taken."""
    original = sdk.Span.__init__

    def later(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self._from_the_future = []

    later.__code__ = later.__code__.replace(co_filename=sdk.__file__)
    monkeypatch.setattr(sdk.Span, "__init__", later)
    spans = Spans(TracerProvider().get_tracer("test"))
    assert spans.start("chat", Context(), {}, 1)._from_the_future == []
    assert "_from_the_future" in spans.why_not


def test_a_batch_is_exported():
    """The batch processor, which nearly everybody has, exports what is made."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    Spans(provider.get_tracer("test")).start("chat", Context(), {"a": 1}, 1).end(2)
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes), span.start_time, span.end_time) == ("chat", {"a": 1}, 1, 2)


def test_a_template_that_fails_leaves_no_call_without_a_span(monkeypatch):
    """Whatever becomes of the SDK after the template was made, a span is started, and it is said why it was not made
    from the template."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider.get_tracer("test"))
    spans.start("first", Context(), {}, 1).end()
    monkeypatch.setattr(spans._learnt[2], "_new_span", lambda: 1 / 0)
    for name in ("second", "third"):
        spans.start(name, Context(), {"a": 1}, 1).end()
    assert [span.name for span in exporter.get_finished_spans()] == ["first", "second", "third"]
    assert spans.why_not == "ZeroDivisionError: division by zero"


def test_a_processor_that_fails_is_asked_once():
    """What a processor raises at the start of a span is raised, as by the SDK, and other spans are still made."""

    class Fails(SpanProcessor):
        asked = 0

        def on_start(self, span, parent_context=None):
            self.asked += 1
            raise OSError("no disk")

    provider, processor = TracerProvider(), Fails()
    provider.add_span_processor(processor)
    spans = Spans(provider.get_tracer("test"))
    with pytest.raises(OSError, match="no disk"):
        spans.start("chat", Context(), {}, 1)
    assert processor.asked == 1
    assert spans.why_not is None
