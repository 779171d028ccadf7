"""Points of histograms that are added to in bulk are those that recording one by one makes."""

from __future__ import annotations

import random
import sys
from importlib.metadata import version
from types import ModuleType

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
    View,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tokenguard.telemetry import bulk, templates
from tokenguard.telemetry.bulk import Bulk, Measured, points

BOUNDS = (1, 4, 16, 64, 256)
VIEWS = {
    "none": [],
    "keys": [View(instrument_name="h", attribute_keys={"model"})],
    "no keys": [View(instrument_name="h", attribute_keys=set())],
    "buckets": [View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation((10, 100)))],
    "no extremes": [
        View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation((10,), record_min_max=False))
    ],
    "exponential": [View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation())],
    "sum": [View(instrument_name="h", aggregation=SumAggregation())],
    "drop": [View(instrument_name="h", aggregation=DropAggregation())],
    "two": [View(instrument_name="h", name="a"), View(instrument_name="h", name="b", attribute_keys={"n"})],
}
FILTERS = {"trace": TraceBasedExemplarFilter(), "on": AlwaysOnExemplarFilter(), "off": AlwaysOffExemplarFilter()}


def one_by_one(instrument, labels, measured):
    for value, span in measured:
        instrument.record(value, dict(labels), trace.set_span_in_context(NonRecordingSpan(span), Context()))


def in_bulk(instrument, labels, measured):
    Bulk(instrument).add(labels, Measured(*zip(*measured, strict=True)))


def told(point):
    """A point as plain values; what is random or a time is left out."""
    exemplars = [(each.value, each.span_id, each.trace_id, each.filtered_attributes) for each in point.exemplars]
    left_out = ("exemplars", "start_time_unix_nano", "time_unix_nano", "attributes", "flags")
    values = {name: repr(value) for name, value in vars(point).items() if name not in left_out}
    return repr(sorted(point.attributes.items())), values, exemplars


def collected(way, views, chosen, rounds=3):
    """All that two readers collect, cumulative and delta, over three rounds of random measurements."""
    delta = {Histogram: AggregationTemporality.DELTA}
    readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=delta)]
    provider = MeterProvider(readers, views=views, exemplar_filter=chosen, shutdown_on_exit=False)
    instrument = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=BOUNDS)
    rolled, found = random.Random(3), []
    for _ in range(rounds):
        for n in range(9):
            spans = [
                SpanContext(
                    rolled.getrandbits(100) + 1, rolled.getrandbits(60) + 1, False, TraceFlags(rolled.random() < 0.5)
                )
                for _ in range(20)
            ]
            measured = [(rolled.choice((rolled.randrange(500), rolled.random() * 90)), span) for span in spans]
            way(instrument, {"model": f"m{n % 3}", "n": n}, measured)
        for reader in readers:
            data = reader.get_metrics_data()
            scopes = [] if data is None else data.resource_metrics[0].scope_metrics
            made = [metric for scope in scopes for metric in scope.metrics]
            found += [(metric.name, sorted(map(told, metric.data.data_points), key=repr)) for metric in made]
    provider.shutdown()
    return found


@pytest.mark.parametrize("chosen", FILTERS)
@pytest.mark.parametrize("views", VIEWS)
def test_the_same_points(views, chosen):
    """Counts, sums, buckets, extremes and exemplars are equal, through every view, in both temporalities."""
    if views == "sum" and chosen != "off":
        chosen = "off"  # its reservoir keeps exemplars by chance
    if views == "exponential":
        random.seed(1)
    public = collected(one_by_one, VIEWS[views], FILTERS[chosen])
    if views == "exponential":
        random.seed(1)
    assert collected(in_bulk, VIEWS[views], FILTERS[chosen]) == public
    assert public or views == "drop"


def test_the_short_way_is_taken():
    """Or the other tests here would prove nothing."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    histogram = provider.get_meter("m").create_histogram("h")
    reason = points.why_not(histogram)
    if tuple(map(int, version("opentelemetry-sdk").split(".")[:2])) < (1, 45):
        pytest.skip(f"this SDK is older: {reason}")
    assert reason is None


def test_more_label_sets_than_the_sdk_keeps():
    """Past the SDK's limit of attribute sets, what is added goes into its point for the rest."""
    counted = []
    for way in (one_by_one, in_bulk):
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        histogram = provider.get_meter("m").create_histogram("h")
        span = SpanContext(1, 1, is_remote=False)
        for n in range(2_100):
            way(histogram, {"n": n}, [(1.0, span)])
        metric = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0]
        counted.append((len(metric.data.data_points), sum(point.count for point in metric.data.data_points)))
        provider.shutdown()
    assert counted[0] == counted[1]


def test_a_wrapped_histogram_is_not_gone_round(monkeypatch):
    """Who has wrapped `Histogram.record` sees each measurement."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    histogram = provider.get_meter("m").create_histogram("h")
    seen = []
    monkeypatch.setattr(Histogram, "record", lambda self, value, *_: seen.append(value))
    in_bulk(histogram, {}, [(1, SpanContext(1, 1, is_remote=False)), (2, SpanContext(1, 2, is_remote=False))])
    assert seen == [1, 2]


def test_no_sdk():
    """Without the SDK, what the API gives is recorded to."""
    in_bulk(NoOpMeter("m").create_histogram("h"), {}, [(1, SpanContext(1, 1, is_remote=False))])


def test_while_the_sdk_is_imported(monkeypatch):
    """A module that another thread is importing has no classes yet: then nothing is of the SDK."""
    meter = NoOpMeter("test")
    instrument = meter.create_histogram("h")
    monkeypatch.setitem(sys.modules, f"{bulk.INTERNAL}.instrument", ModuleType("half"))
    assert "NoOpHistogram" in points.why_not(instrument)
    monkeypatch.setitem(sys.modules, templates.SDK, ModuleType("half"))
    with pytest.raises(templates.Unlike, match="the tracer is"):
        templates.Template.of(trace.NoOpTracer())
