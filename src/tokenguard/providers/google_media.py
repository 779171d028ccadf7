"""Google's pictures and films: Imagen by `:predict`, Veo by `:predictLongRunning`, on the Gemini API and Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.reading import Reading, fields, items, text, whole
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

PICTURES, FILM_SECONDS = 4, 8
"""How many pictures are made, and how long a film is, where a request does not say."""


def _settings(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return fields(body.get("parameters"))


def read_pictures(response: object) -> Reading:
    """Predictions; those that a filter has taken out have a reason and no picture, and are not billed."""
    body = fields(response)
    made = [each for each in items(body.get("predictions")) if "bytesBase64Encoded" in each or "gcsUri" in each]
    return Reading(Usage(images=len(made)))


def told_pictures(body: Mapping[str, Any], reading: Reading) -> Reading:
    """What enlarging a picture costs is none of the prices by the picture."""
    return reading._replace(extra_fees=_settings(body).get("mode") == "upscale")


IMAGEN = Api(
    "imagen",
    "image_generation",
    ("/imagen*:predict", "/imagegeneration*:predict", "/virtual-try-on*:predict"),  # others predict, too
    (),
    read_pictures,
    lambda events: Reading(),
    Words(texts=("instances",)),
    units=Units(
        lambda body: Usage(images=max(whole(_settings(body).get("sampleCount")) or PICTURES, 1)), told_pictures
    ),
)


def read_film(response: object) -> Reading:
    """An operation: under way until it is done; then it has films, or an error, which is free.

    How many films there are is told as seconds, a second each: `told_films` knows how long they are.
    """
    body = fields(response)
    name, failure = text(body.get("name")), fields(body.get("error"))
    done = bool(body.get("done"))
    result = fields(body.get("response"))
    result = fields(result.get("generateVideoResponse")) or result
    films = [*items(result.get("generatedSamples")), *items(result.get("videos"))]
    return Reading(
        Usage(output_seconds=0 if failure else len(films)) if done else None,
        id=None if name is None else name.rpartition("/")[2],
        error=(text(failure.get("status")) or str(failure.get("code") or "error")) if failure else None,
        complete=done,
    )


def told_films(body: Mapping[str, Any], reading: Reading) -> Reading:
    """With the seconds of each film."""
    films = reading.usage and reading.usage.output_seconds
    return reading if not films else reading._replace(usage=Usage(output_seconds=films * _seconds(body)))


def _seconds(body: Mapping[str, Any]) -> int:
    return whole(_settings(body).get("durationSeconds")) or FILM_SECONDS


def most_films(body: Mapping[str, Any]) -> Usage:
    """So many films of so many seconds."""
    return Usage(output_seconds=_seconds(body) * max(whole(_settings(body).get("sampleCount")) or 1, 1))


def film_variant(body: Mapping[str, Any]) -> str:
    """The resolution; a film without sound is cheaper on Vertex AI, by how much is not listed."""
    settings = _settings(body)
    silent = "-silent" if settings.get("generateAudio") is False else ""
    return f"{str(settings.get('resolution') or '720p').lower()}{silent}"


VEO = Api(
    "veo",
    "video_generation",
    (":predictLongRunning",),
    (),
    read_film,
    lambda events: Reading(),
    Words(texts=("instances",)),
    changes=True,
    units=Units(most_films, told_films, film_variant),
)
