"""What the tests' OpenTelemetry was given: spans and metrics, kept in memory."""

from __future__ import annotations

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()
READER = InMemoryMetricReader()


class Spans:
    """The spans that have ended since the test began, without those of broken caches: other tests' prompts break."""

    def all(self):
        return [span for span in EXPORTER.get_finished_spans() if span.name != "cache_break"]

    def breaks(self):
        return [span for span in EXPORTER.get_finished_spans() if span.name == "cache_break"]

    def __iter__(self):
        return iter(self.all())

    def __len__(self):
        return len(self.all())

    @property
    def one(self):
        """The one span there is."""
        spans = self.all()
        assert len(spans) == 1, [span.name for span in spans]
        return spans[0]

    @property
    def attributes(self):
        """The attributes of the one span there is."""
        return dict(self.one.attributes)

    def clear(self):
        EXPORTER.clear()


def metric_points(**wanted):
    """The metrics' points: {(name, frozenset of attributes): value, or (count, sum) of a histogram}.

    Sums go on over a whole test run, so a test names an attribution of its own: `metric_points(tenant="only-here")`.
    """
    wanted = {(f"tokenguard.{key}", value) for key, value in wanted.items()}
    points = {}
    data = READER.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = frozenset((point.attributes or {}).items())
                    if wanted <= attributes:
                        key = (metric.name, attributes)
                        points[key] = point.value if hasattr(point, "value") else (point.count, point.sum)
    return points
