"""Tokens by what they are of, as OpenTelemetry's newer GenAI conventions count them: text, images, audio."""

from __future__ import annotations

from collections.abc import Iterator

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage

INFERENCE = frozenset({"chat", "generate_content", "text_completion"})
"""The operations that the newer conventions call inference; the others keep `gen_ai.client.operation.duration`."""


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
