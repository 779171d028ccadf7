"""What the calls of one drain have in common is counted together: one look-up a call, whatever there is to count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry.trace import SpanContext

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord
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
SUMMED: Final = (
    *(attribute for attribute, _ in (*TOKEN_TYPES, *COST_PARTS)),
    *map(names.input_attribute, names.INPUT_SECTIONS),
)
"""The attributes that are summed, in the order of `Tally.sums`."""
NUMBERS: Final = frozenset((type(None), bool, int, float))


class Tally:
    """The calls with the same labels and the same outcome."""

    __slots__ = (
        "_rows",
        "calls",
        "durations",
        "first_chunks",
        "histograms",
        "modalities",
        "outcome",
        "saved",
        "seen",
        "status",
        "unpriced",
        "usd",
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
        self.durations: Measured = []
        self.first_chunks: Measured = []
        self.modalities: dict[tuple[names.Metric, str], float] = {}
        """Tokens by the newer conventions' counters, and by what they are of."""

    def add(self, record: CallRecord, span: SpanContext) -> None:
        """Count a call."""
        self.calls += 1
        get, cost = record.attributes.get, record.cost
        self._rows.append((*map(get, SUMMED),))
        if cost is not None:
            if cost.total is None:
                self.unpriced += 1
            else:
                self.usd = (self.usd or 0) + cost.total
            self.saved += cost.saved or 0.0
        if self.histograms:
            self.durations.append((record.duration_ns / 1e9, span))
            if (waited := get(names.TIME_TO_FIRST_CHUNK)) is not None:
                self.first_chunks.append((number(waited), span))

    def sums(self) -> list[float | None]:
        """By `SUMMED`; `None` where no call had any."""
        return [*map(_total, zip(*self._rows, strict=True))]

    def measured(self, attribute: str) -> Measured:
        """One of `SUMMED` of each call that had any, with its span; of calls with histograms."""
        place = SUMMED.index(attribute)
        return [
            (number(value), span)
            for row, (_, span) in zip(self._rows, self.durations, strict=True)
            if (value := row[place]) is not None
        ]

    def add_modalities(self, record: CallRecord) -> None:
        """Count a call's tokens by modality, where it is an inference."""
        if record.attributes.get(names.OPERATION) not in INFERENCE:
            return
        for row in COUNTED:
            if (tokens := record.attributes.get(row.attribute)) is not None:
                for modality, part in by_modality(row, number(tokens), record.usage):
                    key = (row.counter, modality)
                    self.modalities[key] = self.modalities.get(key, 0) + part


def _total(values: tuple[AttributeValue | None, ...]) -> float | None:
    """The sum of what is told; `None` where nothing is."""
    if values.count(None) == len(values):
        return None
    if not NUMBERS.issuperset(map(type, values)):
        values = tuple(number(value) for value in values if value is not None)
    return sum(filter(None, values))  # type: ignore[arg-type] # of numbers alone


def number(value: AttributeValue) -> float:
    """An attribute that is a number; anything else counts nothing."""
    return value if isinstance(value, (int, float)) else 0
