"""OpenAI's wire formats that make no text: pictures, speech, transcripts, films, moderations; spoken by many hosts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.events import backwards, decoded, lines_with
from tokenguard.providers.openai import USAGE
from tokenguard.providers.reading import (
    Part,
    Reading,
    Shape,
    amount,
    believed,
    count,
    failure_of,
    fields,
    read_usage,
    reported_cost,
    text,
    whole,
)
from tokenguard.providers.units import Units, files_of, seconds_of
from tokenguard.providers.words import Words

# --- pictures: https://developers.openai.com/api/docs/guides/image-generation ----------------------------------------

IMAGES_USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "input_tokens_details": {
            "image_tokens": "input_image",
            "cached_tokens": "cache_read",
            "cached_tokens_details": {"image_tokens": "cache_image_read"},
        },
        "output_tokens_details": {"image_tokens": "output_image"},
        "prompt_tokens": "input",  # of gateways that say what chat does
        "completion_tokens": "output",
        "prompt_tokens_details": {"image_tokens": "input_image", "cached_tokens": "cache_read"},
        "completion_tokens_details": {"image_tokens": "output_image"},
    }
)
SVG_USAGE: Final = Shape({"input_tokens": "input", "output_tokens": "output", "reasoning_tokens": "reasoning"})
DONE = lazy(rb'"type"\s*:\s*"image_(?:generation|edit)\.completed"')
"""The event of a stream that brings a picture whole; those before it are sketches of it."""

TOKENS = {"low": 400, "medium": 1600, "high": 6240, "xhigh": 12480, "max": 24960}
"""Output tokens of a picture of up to 1536x1024, by quality; of the last two nobody tells, they are taken as double."""
PIXELS = 1536 * 1024
TOKENS_OF_PARTIAL = 100
TOKENS_OF_INPUT = 6240
"""Of a partial picture in a stream, and of a picture that is edited, at the most."""
GOES_TO_MAX = lazy(r"gpt-image-(?:2\.[5-9]|[3-9])")
"""Models whose quality goes up to `max`, which `auto` may choose."""
SIZE = lazy(r"(\d{2,5})x(\d{2,5})")


def read_images(response: object) -> Reading:
    """Pictures: their tokens where the model is billed by them, and how many there are."""
    body = fields(response)
    said, data = fields(body.get("usage")), body.get("data")
    usage = read_usage(said, IMAGES_USAGE) or Usage()
    if usage.output is not None and usage.output_image is None:
        usage = usage._replace(output_image=usage.output)  # all are of pictures, where nobody says
    usage = usage._replace(images=len(data) if isinstance(data, list) else None)
    reading = Reading(usage if any(usage) else None, text(body.get("model")), reported_cost=reported_cost(said))
    if (svg := fields(body.get("svg_usage"))) and (drawn := read_usage(svg, SVG_USAGE)) is not None:
        return reading._replace(parts=(Part(usage, None), Part(drawn, text(svg.get("model")))))
    return reading


def fold_images(events: bytes) -> Reading:
    """A stream of partial pictures, each followed by the whole one with its usage."""
    done = [decoded(data) for data in lines_with(DONE, events)]
    readings = [read_images({**event, "data": [None]}).usage for event in done]
    total = Usage()
    for usage in readings:
        total = total.plus(usage or Usage())
    return Reading(total, complete=True) if done else _cut_short(events)


def _cut_short(events: bytes) -> Reading:
    """A stream that has not told its end; with the error, where it told that."""
    return Reading(error=failure_of(decoded(next(backwards(events), b""))), complete=False)


def images_variant(body: Mapping[str, Any]) -> str:
    """`quality-size`, as the models that are billed by the picture are priced."""
    quality, size = body.get("quality"), body.get("size")
    return f"{'standard' if quality in (None, 'auto') else quality}-{'1024x1024' if size in (None, 'auto') else size}"


def most_images(body: Mapping[str, Any]) -> Usage:
    """So many pictures, and the tokens that each may take."""
    number = max(whole(body.get("n")) or 1, 1)
    quality = body.get("quality")
    auto = "max" if GOES_TO_MAX.search(str(body.get("model"))) else "high"
    tokens = TOKENS.get(quality if isinstance(quality, str) else "", TOKENS[auto])
    if found := SIZE.fullmatch(str(body.get("size"))):
        tokens = max(tokens, math.ceil(tokens * int(found[1]) * int(found[2]) / PIXELS))
    tokens = (tokens + (whole(body.get("partial_images")) or 0) * TOKENS_OF_PARTIAL) * number
    given = sum(1 for _ in files_of(body, "image", "mask")) * TOKENS_OF_INPUT
    return Usage(input=given, input_image=given, output=tokens, output_image=tokens, images=number)


def told_images(body: Mapping[str, Any], reading: Reading) -> Reading:
    """With the size and quality that were asked for."""
    return reading._replace(variant=images_variant(body))


IMAGES = Api(
    "images",
    "image_generation",
    ("/images/generations", "/images/edits", "/images/variations"),
    (),
    read_images,
    fold_images,
    Words(texts=("prompt",)),
    units=Units(most_images, told_images, images_variant),
)

# --- speech: https://developers.openai.com/api/docs/guides/text-to-speech --------------------------------------------

SPEECH_USAGE: Final = Shape(
    {"input_tokens": "input", "output_tokens": "output", "prompt_tokens": "input", "completion_tokens": "output"}
)
TOKENS_OF_CHARACTER = 2
"""Audio tokens of a character, at the most: some 21 a second (a minute costs $0.015), and 14 characters a second."""


def read_speech(response: object) -> Reading:
    """Speech says nothing of what it took, but in a stream of events."""
    return Reading(read_usage(fields(fields(response).get("usage")), SPEECH_USAGE))


def fold_speech(events: bytes) -> Reading:
    """Audio, of which nothing is looked at, or events, the last of which has the usage."""
    done = next((decoded(data) for data in lines_with(USAGE, events)), None)
    return _cut_short(events) if done is None else read_speech(done)


def most_speech(body: Mapping[str, Any]) -> Usage:
    """The characters, and the audio that they may take."""
    characters = len(said) if isinstance(said := body.get("input"), str) else 0
    speed = body.get("speed")
    slow = 1 / speed if isinstance(speed, int | float) and 0 < speed < 1 else 1.0
    return Usage(output=math.ceil(characters * TOKENS_OF_CHARACTER * slow), characters=characters)


def told_speech(body: Mapping[str, Any], reading: Reading) -> Reading:
    """With the characters that were spoken."""
    characters = len(said) if isinstance(said := body.get("input"), str) else None
    return reading._replace(usage=(reading.usage or Usage())._replace(characters=characters))


SPEECH = Api(
    "speech",
    "speech",
    ("/audio/speech",),
    (),
    read_speech,
    fold_speech,
    Words(texts=("input", "instructions")),
    units=Units(most_speech, told_speech),
)

# --- transcripts: https://developers.openai.com/api/docs/guides/speech-to-text ---------------------------------------

TRANSCRIPT_USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "input_token_details": {"audio_tokens": "input_audio"},
        "seconds": "input_seconds",
        "prompt_audio_seconds": "input_seconds",  # Mistral
        "prompt_tokens": "input",
        "completion_tokens": "output",
    }
)
AUDIO_TOKENS = 10
"""Of a second of audio (https://developers.openai.com/api/docs/guides/realtime-costs)."""
SPOKEN_TOKENS = 8
"""Of a second of speech, written down, at the most."""


def read_transcript(response: object) -> Reading:
    """A transcript, billed by tokens or by the second; `verbose_json` tells its duration, as text it tells nothing."""
    body = fields(response)
    said = fields(body.get("usage"))
    usage = read_usage(said, TRANSCRIPT_USAGE)
    if usage is None and (seconds := count(body.get("duration"))) is not None:
        usage = Usage(input_seconds=seconds)
    return Reading(usage, text(body.get("model")), reported_cost=reported_cost(said))


def fold_transcript(events: bytes) -> Reading:
    """The events of a transcript: the last has all of it, and the usage."""
    done = next((decoded(data) for data in lines_with(USAGE, events)), None)
    return _cut_short(events) if done is None else read_transcript(done)


def most_transcript(body: Mapping[str, Any]) -> Usage:
    """The seconds of the file, and the tokens that they may take."""
    seconds = sum(map(seconds_of, files_of(body, "file"))) or seconds_of({})
    heard = seconds * AUDIO_TOKENS
    return Usage(input=heard, input_audio=heard, output=seconds * SPOKEN_TOKENS, input_seconds=seconds)


TRANSCRIPTS = Api(
    "transcripts",
    "transcription",
    ("/audio/transcriptions", "/audio/translations"),
    (),
    read_transcript,
    fold_transcript,
    Words(texts=("prompt",)),
    units=Units(most_transcript),
)

# --- moderations: https://developers.openai.com/api/docs/guides/moderation -------------------------------------------


def read_moderation(response: object) -> Reading:
    """Billed by the request, if at all."""
    body = fields(response)
    failure = failure_of(body)
    return Reading(None if failure else Usage(request=1), text(body.get("model")), text(body.get("id")), error=failure)


MODERATIONS = Api(
    "moderations",
    "moderation",
    ("/moderations",),
    (),
    read_moderation,
    lambda events: Reading(),
    Words(texts=("input",)),
    default_model="omni-moderation-latest",
)

# --- films: https://developers.openai.com/api/docs/guides/video-generation -------------------------------------------

FILM_SECONDS = 4
FILM_SIZE = "720x1280"
"""Of a film, where a request does not say."""
LONGEST_FILM = 20
"""Seconds of a film that is made of another, and tells neither."""
UNDER_WAY = frozenset({"queued", "in_progress"})


def read_video(response: object) -> Reading:
    """A job that makes a film: it is asked for until it is done, and billed then, or has failed, which is free."""
    body = fields(response)
    status = text(body.get("status"))
    failed = status in ("failed", "cancelled")
    if not failed and (failure := failure_of(body)) is not None:  # in the job's place
        return Reading(error=failure)
    outputs = fields(body.get("outputs"))  # Together's
    charged = outputs.get("cost")
    return Reading(
        usage=None if status in UNDER_WAY else Usage(output_seconds=0 if failed else count(body.get("seconds"))),
        model=text(body.get("model")),
        id=text(body.get("id")),
        finish_reasons=(status,) if status else (),
        error=(text(fields(body.get("error")).get("code")) or "failed") if failed else None,
        complete=status not in UNDER_WAY,
        reported_cost=believed(amount(charged)),
        variant=text(body.get("size")),
    )


def told_extension(body: Mapping[str, Any], reading: Reading) -> Reading:
    """What was added to a film: its answer tells the length of the whole."""
    added, usage = whole(body.get("seconds")), reading.usage
    return reading._replace(usage=usage._replace(output_seconds=added)) if added and usage else reading


VIDEOS = Api(
    "videos",
    "video_generation",
    ("/videos",),
    (),
    read_video,
    lambda events: Reading(),
    Words(texts=("prompt",)),
    default_model="sora-2",
    changes=True,
    units=Units(
        lambda body: Usage(output_seconds=whole(body.get("seconds")) or FILM_SECONDS),
        variant=lambda body: text(body.get("size")) or FILM_SIZE,
    ),
)
VIDEO_EDITS = VIDEOS._replace(
    id="video_edits",
    paths=("/videos/*/remix", "/videos/edits", "/videos/extensions"),
    default_model="sora-2-pro",  # the film that is changed has one, and its answer names it
    units=Units(lambda body: Usage(output_seconds=whole(body.get("seconds")) or LONGEST_FILM), told_extension),
)

LEAST_SECONDS = 10
"""What Groq bills of any file, at the least (https://console.groq.com/docs/speech-to-text)."""


def _ten_seconds(usage: Usage) -> Usage:
    return usage._replace(input_seconds=max(usage.input_seconds, LEAST_SECONDS)) if usage.input_seconds else usage


GROQ = (
    TRANSCRIPTS._replace(
        id="groq_transcripts",
        units=Units(
            lambda body: _ten_seconds(most_transcript(body)),
            lambda body, reading: reading._replace(usage=reading.usage and _ten_seconds(reading.usage)),
        ),
    ),
)

APIS = (IMAGES, SPEECH, TRANSCRIPTS, MODERATIONS, VIDEOS, VIDEO_EDITS)
OPENROUTER: Final = (IMAGES._replace(paths=("/images",)),)
