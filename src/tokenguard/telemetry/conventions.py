"""OpenTelemetry's own GenAI metrics, by the names that the program asks for.

The conventions renamed them: `gen_ai.client.operation.duration` of an inference is `gen_ai.client.inference.duration`,
and the histogram `gen_ai.client.token.usage` became counters and histograms by kind. As elsewhere in OpenTelemetry
`OTEL_SEMCONV_STABILITY_OPT_IN` decides: the older names, the newer ones with `gen_ai_latest_experimental`, and both
with `gen_ai_latest_experimental/dup`.
Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/non-normative/migration.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord
from tokenguard.facts.usage import Usage

LATEST = "gen_ai_latest_experimental"

INFERENCE = frozenset({"chat", "generate_content", "text_completion"})
"""The operations that the newer conventions call inference; the others keep `gen_ai.client.operation.duration`."""


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


class Counted(NamedTuple):
    """A kind of token: its attribute, and its counter in the newer conventions; the parts of it by modality."""

    attribute: str
    counter: names.Metric
    audio: str | None = None
    image: str | None = None


COUNTED = (
    Counted(names.INPUT_TOKENS, names.INFERENCE_INPUT, "input_audio", "input_image"),
    Counted(names.OUTPUT_TOKENS, names.INFERENCE_OUTPUT, "output_audio", "output_image"),
    Counted(names.CACHE_READ_TOKENS, names.INFERENCE_CACHE_READ, "cache_audio_read"),
    Counted(names.CACHE_WRITE_TOKENS, names.INFERENCE_CACHE_WRITE),
    Counted(names.REASONING_TOKENS, names.INFERENCE_REASONING),
)
COUNTERS = tuple(row.counter for row in COUNTED)


def by_modality(row: Counted, tokens: float, usage: Usage | None) -> Iterator[tuple[str, float]]:
    """The tokens of a kind by what they are of; `unknown` where the provider does not say.

    >>> list(by_modality(COUNTED[0], 9, Usage(input=9, input_audio=4)))
    [('audio', 4), ('text', 5)]
    """
    fields = {"audio": row.audio, "image": row.image}
    parts = {
        kind: part
        for kind, field in fields.items()
        if usage is not None and field is not None and (part := getattr(usage, field)) is not None
    }
    yield from ((kind, part) for kind, part in parts.items() if part)
    if (rest := tokens - sum(parts.values())) > 0:
        yield ("text" if parts else "unknown"), rest


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
    """The histograms of one meter: made once, recorded with each call's own context, for exemplars."""

    def __init__(self, meter: Meter, use: Profile) -> None:
        def make(metric: names.Metric, buckets: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=buckets
            )

        seconds, tokens = names.SECONDS_BUCKETS, names.TOKEN_BUCKETS
        older, newer = use
        operation = make(names.DURATION, seconds)  # what is no inference keeps this name
        first, usage = (make(names.FIRST_CHUNK, seconds), make(names.TOKEN_USAGE, tokens)) if older else (None, None)
        self._of_others = [operation]
        self._durations = [operation] if older else []
        self._first_chunks = [first] if first is not None else []
        self._usage = usage
        self._by_kind: dict[str, Histogram] = {}
        if newer:
            self._durations.append(make(names.INFERENCE_DURATION, seconds))
            self._first_chunks.append(make(names.INFERENCE_FIRST_CHUNK, seconds))
            self._by_kind = {
                names.INPUT_TOKENS: make(names.INFERENCE_CALL_INPUT, tokens),
                names.OUTPUT_TOKENS: make(names.INFERENCE_CALL_OUTPUT, tokens),
            }

    def record(
        self, record: CallRecord, attributes: Mapping[str, Any], context: Context, number: Callable[[Any], float]
    ) -> None:
        """Record a call: `attributes` are the points', `number` reads an attribute of the record."""
        seen = record.attributes
        inference = seen.get(names.OPERATION) in INFERENCE
        for histogram in self._durations if inference else self._of_others:
            histogram.record(record.duration_ns / 1e9, attributes, context)
        if (first := seen.get(names.TIME_TO_FIRST_CHUNK)) is not None:
            for histogram in self._first_chunks:
                histogram.record(number(first), attributes, context)
        for attribute, kind in ((names.INPUT_TOKENS, "input"), (names.OUTPUT_TOKENS, "output")):
            if (tokens := seen.get(attribute)) is None:
                continue
            if self._usage is not None:
                self._usage.record(number(tokens), {**attributes, names.TOKEN_TYPE: kind}, context)
            if inference and attribute in self._by_kind:
                self._by_kind[attribute].record(number(tokens), attributes, context)
