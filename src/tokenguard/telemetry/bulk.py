"""Measurements that are added to OpenTelemetry's histograms many at a time, at each drain.

A `Histogram.record` cleans, copies and hashes its attributes and looks up their point for every measurement: three of
them cost more than all else that is counted of a call. Here the measurements of one attribute set come together, and
go into its point in one step: below the SDK's own locks, into every reader, through every view, with the exemplars that
the SDK would have kept. An aggregation that is not the plain histogram gets them one by one.

The points are private to the SDK. So before the first use one is made both ways and compared, and where the two differ,
or the instrument is no histogram of the SDK, `record` is called for each.
"""

from __future__ import annotations

import functools
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
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.interrupts import interrupt

INTERNAL: Final = "opentelemetry.sdk.metrics._internal"
INSTRUMENT: Final = f"{INTERNAL}.instrument"
AGGREGATION: Final = f"{INTERNAL}.aggregation"
MEASUREMENT: Final = f"{INTERNAL}.measurement"
MATCH: Final = f"{INTERNAL}._view_instrument_match"
RESERVOIR: Final = f"{INTERNAL}.exemplar.exemplar_reservoir"
FILTER: Final = f"{INTERNAL}.exemplar.exemplar_filter"
EMPTY: Final = Context()

Spans = Sequence[SpanContext]
Labels = Mapping[str, AttributeValue]


class Measured(NamedTuple):
    """What was measured of some calls."""

    values: Sequence[float]
    spans: Spans
    """Which span each is from."""


class Bulk:
    """Adds to one histogram."""

    def __init__(self, instrument: Histogram) -> None:
        self._instrument = instrument

    def add(self, labels: Labels, measured: Measured) -> None:
        """Add what was measured with these attributes."""
        sdk: Any = getattr(self._instrument, "_real_instrument", self._instrument)
        if points.why_not(sdk) is not None or not points.add(sdk, labels, measured):
            _one_by_one(self._instrument, labels, measured)


def _around(span: SpanContext) -> Context:
    """The context that a measurement of this span is offered in; those of one call come one after the other."""
    global _last_around
    known, context = _last_around
    if known is not span:
        context = set_span_in_context(NonRecordingSpan(span), EMPTY)
        _last_around = span, context
    return context


_last_around: tuple[SpanContext | None, Context] = None, EMPTY


class Points:
    """The way into the SDK's points, once it is known to be right."""

    def __init__(self) -> None:
        self._known: str | None = ""

    def why_not(self, instrument: Any) -> str | None:
        """Why measurements of this instrument are recorded one by one; `None` where they are not."""
        sdk: Any = sys.modules.get(INSTRUMENT)
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
    def _into(match: Any, instrument: Any, labels: Labels, measured: Measured, told: Told, now: int) -> None:
        keys = match._view._attribute_keys
        kept = {**labels} if keys is None else {key: value for key, value in labels.items() if key in keys}
        hashed = _hashed((*kept,), *kept.values())
        with match._lock:
            point = match._get_or_create_aggregation(hashed, kept)
            plain = type(point) is sys.modules[AGGREGATION]._ExplicitBucketHistogramAggregation
            last: dict[int, int] = {}
            if plain:
                with point._lock:
                    last = _sum(point, measured.values)
        if not plain:
            kind: Any = sys.modules[MEASUREMENT].Measurement
            for n, (value, span) in enumerate(zip(*measured, strict=True)):
                match.consume_measurement(kind(value, now, instrument, _around(span), {**labels}), told(n))
            return
        reservoir, (values, spans) = point._reservoir, measured
        if type(reservoir) is sys.modules[RESERVOIR].AlignedHistogramBucketExemplarReservoir:
            # It keeps the last of each bucket.
            if reservoir._boundaries is not point._boundaries or not all(map(told, last.values())):
                last = {bisect_left(reservoir._boundaries, value): n for n, value in enumerate(values) if told(n)}
            with reservoir._lock:
                for bucket, n in last.items():
                    reservoir._reservoir_storage[bucket].offer(values[n], now, {**labels}, _around(spans[n]))
        else:
            for n in filter(told, range(len(values))):
                reservoir.offer(values[n], now, {**labels}, _around(spans[n]))


Told = Callable[[int], bool]
"""Whether an exemplar may be kept of a measurement, by its place."""


@functools.lru_cache(maxsize=1024, typed=True)  # 0 is not 0.0
def _hashed(keys: tuple[str, ...], *values: AttributeValue) -> object:
    """The key of the point of these attributes. Programs have few sets of them."""
    return sys.modules[MATCH]._hash_attributes(dict(zip(keys, values, strict=True)))


def _sum(point: Any, values: Sequence[float]) -> dict[int, int]:
    """Add to a point, and return the place of the last value of each bucket."""
    buckets, bounds, total = point._value or point._get_empty_bucket_counts(), point._boundaries, point._sum
    last = {}
    for n, value in enumerate(values):
        bucket = bisect_left(bounds, value)
        buckets[bucket] += 1
        last[bucket] = n
        total += value
    point._value, point._sum = buckets, total
    if point._record_min_max:
        point._min, point._max = min(point._min, min(values)), max(point._max, max(values))
    return last


def _told(chosen: Any, labels: Labels, measured: Measured, now: int) -> Told:
    """Those of which exemplars may be kept."""
    values, spans = measured
    if type(chosen) is sys.modules[FILTER].TraceBasedExemplarFilter:
        return lambda n: spans[n].is_valid and spans[n].trace_flags.sampled
    return [chosen.should_sample(value, now, labels, _around(spans[n])) for n, value in enumerate(values)].__getitem__


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
    for value, span in zip(*measured, strict=True):
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
            way(instrument, labels, Measured((0.5, 1, 3, 9, 3), spans))
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
