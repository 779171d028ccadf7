"""OpenTelemetry's own GenAI metrics, by the names that the program asks for.

The conventions renamed them: `gen_ai.client.operation.duration` of an inference is `gen_ai.client.inference.duration`,
and the histogram `gen_ai.client.token.usage` became counters and histograms by kind. As elsewhere in OpenTelemetry
`OTEL_SEMCONV_STABILITY_OPT_IN` decides: the older names, the newer ones with `gen_ai_latest_experimental`, and both
with `gen_ai_latest_experimental/dup`.
Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/non-normative/migration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Meter

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.telemetry.bulk import Bulk, Measured
from tokenguard.telemetry.modality import COUNTED, INFERENCE, by_modality
from tokenguard.telemetry.tallies import Tally

LATEST = "gen_ai_latest_experimental"

COUNTERS = tuple(row.counter for row in COUNTED)


class Profile(NamedTuple):
    """Which names are in use."""

    older: bool = True
    newer: bool = False


OLDER = Profile()


def profile(setting: str | None) -> Profile:
    """What `OTEL_SEMCONV_STABILITY_OPT_IN` asks for, a list with commas; what it says of other areas is not ours.

    >>> profile("http,gen_ai_latest_experimental/dup"), profile(None)
    (Profile(older=True, newer=True), Profile(older=True, newer=False))
    """
    asked = {word.strip() for word in (setting or "").split(",")}
    if f"{LATEST}/dup" in asked:
        return Profile(older=True, newer=True)
    return Profile(older=LATEST not in asked, newer=LATEST in asked)


LEVELS = (
    ("reasoning_effort", None),
    ("reasoning", "effort"),
    ("output_config", "effort"),
    ("thinkingConfig", "thinkingLevel"),
    ("thinking_config", "thinking_level"),
)
"""Where requests say how hard to think: OpenAI's chat and Responses, Anthropic's, Gemini's in both spellings."""


def newer_attributes(
    attributes: Mapping[str, AttributeValue], settings: Mapping[str, Any], usage: Usage | None
) -> dict[str, AttributeValue]:
    """What the newer conventions want on a span besides what it has.

    The prompt's version, how hard the model is asked to think (of the request's `settings`), and tokens by modality.
    """
    more: dict[str, AttributeValue] = {}
    if (version := attributes.get(names.attribution_attribute("prompt_version"))) is not None:
        more[names.PROMPT_VERSION] = version
    for outer, inner in LEVELS:
        level = settings.get(outer)
        level = level.get(inner) if inner is not None and isinstance(level, Mapping) else level
        if isinstance(level, str):
            more[names.REASONING_LEVEL] = level
    for row in COUNTED[:3]:
        if isinstance(tokens := attributes.get(row.attribute), int):
            kind = row.attribute.removeprefix("gen_ai.usage.")
            for modality, part in by_modality(row, tokens, usage):
                if modality != "unknown":
                    more[f"gen_ai.usage.{modality}.{kind}"] = int(part)
    return more


class Histograms:
    """The histograms of one meter, made once."""

    def __init__(self, meter: Meter, use: Profile) -> None:
        def make(metric: names.Metric, buckets: tuple[float, ...]) -> Bulk:
            return Bulk(
                meter.create_histogram(
                    metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=buckets
                )
            )

        seconds, tokens = names.SECONDS_BUCKETS, names.TOKEN_BUCKETS
        operation = make(names.DURATION, seconds)
        self._of_others = [operation]
        """What is no inference keeps the older name."""
        self._durations = [operation] if use.older else []
        self._first_chunks = [make(names.FIRST_CHUNK, seconds)] if use.older else []
        self._usage = make(names.TOKEN_USAGE, tokens) if use.older else None
        self._by_kind: tuple[Bulk, Bulk] | None = None
        if use.newer:
            self._durations.append(make(names.INFERENCE_DURATION, seconds))
            self._first_chunks.append(make(names.INFERENCE_FIRST_CHUNK, seconds))
            self._by_kind = make(names.INFERENCE_CALL_INPUT, tokens), make(names.INFERENCE_CALL_OUTPUT, tokens)

    def record(self, tally: Tally, labels: dict[str, AttributeValue], inputs: Measured, outputs: Measured) -> None:
        """Record what was measured of calls with these labels; `inputs` and `outputs` are tokens."""
        inference = labels.get(names.OPERATION) in INFERENCE
        for duration in self._durations if inference else self._of_others:
            duration.add(labels, tally.durations)
        for kind, tokens in (("input", inputs), ("output", outputs)):
            if tokens.values and self._usage is not None:
                self._usage.add({**labels, names.TOKEN_TYPE: kind}, tokens)
        if tally.first_chunks.values:
            for first_chunk in self._first_chunks:
                first_chunk.add(labels, tally.first_chunks)
        if inference and self._by_kind is not None:
            for histogram, tokens in zip(self._by_kind, (inputs, outputs), strict=True):
                if tokens.values:
                    histogram.add(labels, tokens)
