"""What calls are billed by that make no text: pictures, seconds of film and speech, characters, pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.providers.reading import Reading, whole

LARGEST_FILE = 25 * 2**20
"""Bytes that are assumed of a file whose size is not known: the most that OpenAI takes of audio."""
LEAST_BYTES = 1000
"""Bytes of a second of audio, at the least: speech is hardly ever packed tighter than 8 kbit/s."""


def no_variant(body: Mapping[str, Any]) -> str | None:
    """For what costs the same whatever its size and quality."""
    return None


def as_read(body: Mapping[str, Any], reading: Reading) -> Reading:
    """For answers that say all there is."""
    return reading


class Units(NamedTuple):
    """How the calls of a wire format are billed, besides the tokens that their answers tell."""

    most: Callable[[Mapping[str, Any]], Usage]
    """The most that a request can come to, its text apart: reserved, and charged where no answer tells."""
    told: Callable[[Mapping[str, Any], Reading], Reading] = as_read
    """What an answer says, with what its request knows of it: how much text was spoken, how long the films are."""
    variant: Callable[[Mapping[str, Any]], str | None] = no_variant
    """The size and quality that a request asks for, where they have a price (`Tier.variant`)."""


def files_of(body: Mapping[str, Any], *keys: str) -> Iterable[Mapping[str, Any]]:
    """The files of a multipart request, as the seam describes them (`seams.common.files`)."""
    for key in keys:
        given = body.get(key)
        for each in given if isinstance(given, list) else (given,):
            if isinstance(each, Mapping) and each.get("type") == "file":
                yield each


def seconds_of(file: Mapping[str, Any]) -> int:
    """The seconds of an audio file: as its head says, or else at the most, by its size."""
    said = file.get("seconds")
    if isinstance(said, int | float):
        return math.ceil(said)
    return -(-(whole(file.get("bytes")) or LARGEST_FILE) // LEAST_BYTES)
