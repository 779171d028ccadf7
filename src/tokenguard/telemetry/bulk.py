"""Measurements that are added to OpenTelemetry's histograms many at a time, at each drain.

A `Histogram.record` cleans, copies and hashes its attributes and looks up their point for every measurement: three of
them cost more than all else that is counted of a call. Here the measurements of one attribute set come together, and
go into its point in one step: below the SDK's own locks, into every reader, through every view, with the exemplars that
the SDK would have kept. An aggregation that is not the plain histogram gets them one by one.

The points are private to the SDK. So before the first use one is made both ways and compared, and where the two differ,
or the instrument is no histogram of the SDK, `record` is called for each.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tokenguard.facts.record import AttributeValue
from tokenguard.process.interrupts import interrupt

INTERNAL: Final = "opentelemetry.sdk.metrics._internal"
EMPTY: Final = Context()

Measured = list[tuple[float, SpanContext]]
"""Values, each with the span that it is from."""
Labels = Mapping[str, AttributeValue]


class Bulk:
    """Adds to one histogram."""

    def __init__(self, instrument: Histogram) -> None:
        self._instrument = instrument

    def add(self, labels: Labels, measured: Measured) -> None:
        """Add what was measured with these attributes."""
        sdk: Any = getattr(self._instrument, "_real_instrument", self._instrument)
        if points.why_not(sdk) is not None or not points.add(sdk, labels, measured):
            for value, span in measured:
                self._instrument.record(value, {**labels}, _around(span))


def _around(span: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(span), EMPTY)


class Points:
    """The way into the SDK's points, once it is known to be right."""

    def __init__(self) -> None:
        self._known: str | None = ""

    def why_not(self, instrument: Any) -> str | None:
        """Why measurements of this instrument are recorded one by one; `None` where they are not."""
        sdk: Any = sys.modules.get(f"{INTERNAL}.instrument")
        if type(instrument) is not getattr(sdk, "_Histogram", None):  # another thread may be importing it just now
            return f"the histogram is {type(instrument).__module__}.{type(instrument).__qualname__}"
        record = sdk.Histogram.record
        if type(record) is not FunctionType or record.__code__.co_filename != sdk.__file__:
            return "Histogram.record is wrapped"
        if self._known == "":
            self._known = None  # so that what is tried takes the way that it is to try
            self._known = _tried(self)
        return self._known

    def add(self, instrument: Any, labels: Labels, measured: Measured) -> bool:
        """Add to the points of all readers; false where the instrument is switched off."""
        enabled = getattr(instrument, "_is_enabled", None)
        if enabled is not None and not enabled():
            return False
        consumer, now = instrument._measurement_consumer, time.time_ns()
        told = _told(consumer._sdk_config.exemplar_filter, labels, measured, now)
        for storage in consumer._reader_storages.values():
            for match in storage._get_or_init_view_instrument_match(instrument):
                self._into(match, instrument, labels, measured, told, now)
        return True

    @staticmethod
    def _into(match: Any, instrument: Any, labels: Labels, measured: Measured, told: Measured, now: int) -> None:
        internal: Any = sys.modules[INTERNAL]
        keys = match._view._attribute_keys
        kept = {**labels} if keys is None else {key: value for key, value in labels.items() if key in keys}
        hashed = sys.modules[f"{INTERNAL}._view_instrument_match"]._hash_attributes(kept)
        with match._lock:
            point = match._get_or_create_aggregation(hashed, kept)
            plain = type(point) is internal.aggregation._ExplicitBucketHistogramAggregation
            if plain:
                with point._lock:
                    _sum(point, measured)
        reservoir: Any = sys.modules[f"{INTERNAL}.exemplar.exemplar_reservoir"]
        if not plain:
            kind, sampled = internal.measurement.Measurement, {id(each) for each in told}
            for each in measured:
                measurement = kind(each[0], now, instrument, _around(each[1]), {**labels})
                match.consume_measurement(measurement, id(each) in sampled)
        elif type(point._reservoir) is reservoir.AlignedHistogramBucketExemplarReservoir:  # keeps the last of a bucket
            last = {bisect_left(point._reservoir._boundaries, each[0]): each for each in told}
            _offer(point, last.values(), labels, now)
        else:
            _offer(point, told, labels, now)


def _sum(point: Any, measured: Measured) -> None:
    buckets, bounds, total = point._value or point._get_empty_bucket_counts(), point._boundaries, point._sum
    for value, _ in measured:
        buckets[bisect_left(bounds, value)] += 1
        total += value
    point._value, point._sum = buckets, total
    if point._record_min_max:
        values = [value for value, _ in measured]
        point._min, point._max = min(point._min, *values), max(point._max, *values)


def _offer(point: Any, told: Any, labels: Labels, now: int) -> None:
    for value, span in told:
        point._reservoir.offer(value, now, {**labels}, _around(span))


def _told(chosen: Any, labels: Labels, measured: Measured, now: int) -> Measured:
    """Those of which exemplars may be kept."""
    filters: Any = sys.modules[f"{INTERNAL}.exemplar.exemplar_filter"]
    if type(chosen) is filters.TraceBasedExemplarFilter:
        return [each for each in measured if each[1].is_valid and each[1].trace_flags.sampled]
    return [each for each in measured if chosen.should_sample(each[0], now, labels, _around(each[1]))]


# --- both ways, once --------------------------------------------------------------------------------------------------


def _tried(points: Points) -> str | None:
    """Why the SDK's points are not what they are taken for here; `None` where they are."""
    try:
        ways: tuple[Callable[[Any, Labels, Measured], object], ...] = (_one_by_one, points.add)
        public, ours = (_collected(way) for way in ways)
    except Exception as failure:  # an SDK that is not as known here
        if interrupt(failure) is not None:
            raise
        return f"{type(failure).__name__}: {failure}"
    return None if public == ours else "a point that is added to in bulk is another than one that is recorded to"


def _one_by_one(instrument: Any, labels: Labels, measured: Measured) -> None:
    for value, span in measured:
        instrument.record(value, {**labels}, _around(span))


def _collected(way: Callable[[Any, Labels, Measured], object]) -> Sequence[object]:
    """What two readers, cumulative and delta, collect of measurements that come this way, in two rounds."""
    from opentelemetry.sdk import metrics
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource

    delta: dict[type, Any] = {metrics.Histogram: export.AggregationTemporality.DELTA}
    readers = [export.InMemoryMetricReader(), export.InMemoryMetricReader(preferred_temporality=delta)]
    provider = metrics.MeterProvider(readers, resource=Resource.get_empty(), shutdown_on_exit=False)
    instrument = provider.get_meter("tried").create_histogram("tried", explicit_bucket_boundaries_advisory=(1, 2, 4))
    spans = [SpanContext(1, n + 1, is_remote=False, trace_flags=TraceFlags(n % 3 > 0)) for n in range(5)]
    found = []
    for _ in range(2):
        for number in (1, 2):
            labels: dict[str, AttributeValue] = {"text": "x", "number": number}
            way(instrument, labels, [*zip((0.5, 1, 3, 9, 3), spans, strict=True)])
        for reader in readers:
            data: Any = reader.get_metrics_data()
            for point in data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points:
                exemplars = [(each.value, each.span_id, each.filtered_attributes) for each in point.exemplars]
                sums = (point.count, point.sum, point.min, point.max, tuple(point.bucket_counts), point.explicit_bounds)
                found.append((dict(point.attributes), sums, exemplars))
    provider.shutdown()
    return found


points: Final = Points()
"""Those of this process's SDK."""
