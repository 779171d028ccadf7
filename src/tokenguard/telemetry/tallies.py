"""What the calls of one drain have in common is counted together: one look-up a call, whatever there is to count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.trace import SpanContext

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.telemetry.bulk import Measured
from tokenguard.telemetry.modality import COUNTED, INFERENCE, by_modality

DIMENSIONS: Final = (
    names.PROVIDER,
    names.RESPONSE_MODEL,
    *map(names.attribution_attribute, names.METRIC_ATTRIBUTION_KEYS),
)
"""The labels of a call's own counters."""
HISTOGRAM_LABELS: Final = (
    names.OPERATION,
    names.PROVIDER,
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.ERROR_TYPE,
)
LABELS: Final = (*DIMENSIONS, names.OPERATION, names.REQUEST_MODEL, names.ERROR_TYPE)
"""All that any metric of a call is labelled by."""
TOKEN_TYPES: Final = (
    (names.INPUT_TOKENS, "input"),
    (names.OUTPUT_TOKENS, "output"),
    (names.CACHE_READ_TOKENS, "cache_read"),
    (names.CACHE_WRITE_TOKENS, "cache_write"),
    (names.REASONING_TOKENS, "reasoning"),
)
COST_PARTS: Final = (
    (names.COST_INPUT, "input"),
    (names.COST_OUTPUT, "output"),
    (names.COST_CACHE_READ, "cache_read"),
    (names.COST_CACHE_WRITE, "cache_write"),
    (names.COST_TOOLS, "tools"),
)
PARTS: Final = (
    *((name, names.TOKENS, ("type", kind)) for name, kind in TOKEN_TYPES),
    *((name, names.COST_PART_USD, ("part", part)) for name, part in COST_PARTS),
    *((names.input_attribute(name), names.SECTION_TOKENS, ("section", name)) for name in names.INPUT_SECTIONS),
)
"""The attributes that are summed, with the metric of each, and its label there."""
SUMMED: Final = tuple(attribute for attribute, _, _ in PARTS)
INPUT: Final = SUMMED.index(names.INPUT_TOKENS)
OUTPUT: Final = SUMMED.index(names.OUTPUT_TOKENS)
_new: Final = tuple.__new__


class Summed(NamedTuple):
    """One of `SUMMED`, of all calls of a tally."""

    values: Sequence[float | None]
    total: float | None


class Tally:
    """The calls with the same labels and the same outcome."""

    __slots__ = (
        *("_durations", "_rows", "_spans", "_waited", "_waiting"),
        *("calls", "histograms", "modalities", "outcome", "saved", "seen", "status", "unpriced", "usd"),
    )

    def __init__(self, record: CallRecord, *, histograms: bool) -> None:
        self.seen: Mapping[str, AttributeValue] = record.attributes
        """The attributes of the first of them; only what they have in common is looked at."""
        self.outcome = record.outcome
        self.status = "" if record.cost is None else record.cost.status
        self.histograms = histograms
        self.calls = 0
        self.unpriced = 0
        self.usd: float | None = None
        self.saved = 0.0
        self._rows: list[tuple[AttributeValue | None, ...]] = []
        """Of each call its values of `SUMMED`."""
        self._durations: list[float] = []
        self._spans: list[SpanContext] = []
        self._waited: list[float] = []
        """For the first chunk, those that were streams, and their spans."""
        self._waiting: list[SpanContext] = []
        self.modalities: dict[tuple[names.Metric, str], float] = {}
        """Tokens by the newer conventions' counters, and by what they are of."""

    def add(self, record: CallRecord, span: SpanContext) -> None:
        """Count a call."""
        self.calls += 1
        get, cost = record.attributes.get, record.cost
        self._rows.append((*map(get, SUMMED),))
        if cost is not None:
            if (total := cost[2]) is None:
                self.unpriced += 1
            else:
                self.usd = (self.usd or 0) + total
            self.saved += cost[7] or 0.0
        if self.histograms:
            self._durations.append(record.duration_ns / 1e9)
            self._spans.append(span)
            if (waited := get(names.TIME_TO_FIRST_CHUNK)) is not None:
                self._waited.append(number(waited))
                self._waiting.append(span)

    def summed(self) -> list[Summed]:
        """By `SUMMED`; `None` where no call had any."""
        return [*map(_summed, zip(*self._rows, strict=True))]

    @property
    def durations(self) -> Measured:
        """In seconds, of calls with histograms."""
        return Measured(self._durations, self._spans)

    @property
    def first_chunks(self) -> Measured:
        """How long they waited for the first part of a stream, in seconds."""
        return Measured(self._waited, self._waiting)

    def measured(self, values: Sequence[float | None]) -> Measured:
        """One of `summed`, of each call that had any, with its span; of calls with histograms."""
        if None not in values:
            return Measured(values, self._spans)  # type: ignore[arg-type] # it has none
        told = [(value, span) for value, span in zip(values, self._spans, strict=True) if value is not None]
        return Measured(*zip(*told, strict=True)) if told else Measured((), ())

    def add_modalities(self, record: CallRecord) -> None:
        """Count a call's tokens by modality, where it is an inference."""
        if record.attributes.get(names.OPERATION) not in INFERENCE:
            return
        for row in COUNTED:
            if (tokens := record.attributes.get(row.attribute)) is not None:
                for modality, part in by_modality(row, number(tokens), record.usage):
                    key = (row.counter, modality)
                    self.modalities[key] = self.modalities.get(key, 0) + part


def _summed(values: tuple[AttributeValue | None, ...]) -> Summed:
    """What calls say one by one, as numbers; and the sum of what is told, `None` where nothing is."""
    told: Any = values
    if None in told and told.count(None) == len(told):
        return _new(Summed, (told, None))
    try:
        return _new(Summed, (told, sum(told)))
    except TypeError:  # not all have it, or it is no number
        told = tuple(None if value is None else number(value) for value in values)
        return Summed(told, sum(filter(None, told)))


def number(value: AttributeValue) -> float:
    """An attribute that is a number; anything else counts nothing."""
    return value if isinstance(value, (int, float)) else 0
