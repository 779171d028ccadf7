"""xAI's own wire format: the messages of its gRPC service, as `seams/xai.py` reads them; and what its HTTP does apart.

The messages' shapes are in https://github.com/xai-org/xai-proto (chat.proto, usage.proto). What an answer is was called
`choices` up to xai-sdk 1.2, and is called `outputs` since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tokenguard.facts.usage import Usage
from tokenguard.providers import openai
from tokenguard.providers.api import Api
from tokenguard.providers.events import decoded, forwards
from tokenguard.providers.reading import (
    Reading,
    Shape,
    count,
    fields,
    items,
    larger,
    read_usage,
    reported_cost,
    text,
)
from tokenguard.providers.units import Units
from tokenguard.providers.words import CONVERSATION, Words

USAGE: Final = Shape(
    {
        "prompt_tokens": "input",
        "completion_tokens": "output",
        "cached_prompt_text_tokens": "cache_read",
        "reasoning_tokens": "reasoning",
        "prompt_image_tokens": "input_image",
    }
)
ZEROS = {key: 0 for key, _ in USAGE.all[0]}
"""A protobuf message leaves out what is zero: a usage that is there tells all of its counts."""

CLIENT_SIDE = frozenset({"function", "TOOL_CALL_TYPE_CLIENT_SIDE_TOOL"})
"""The `type`s of tool calls that the application answers; the others were run, and answered, by xAI."""

# --- responses --------------------------------------------------------------------------------------------------------


def read(response: object) -> Reading:
    """A completion; what a deferred one answers first has only its id, and the rest is asked for later."""
    body = fields(response)
    if (deferred := text(body.get("request_id"))) is not None:
        return Reading(id=deferred, complete=False)
    outputs = list(_outputs(body))
    return _facts(body)._replace(
        finish_reasons=tuple(str(output["finish_reason"]) for output in outputs if "finish_reason" in output),
        tool_calls=sum(len(_calls(output.get("message"))) for output in outputs),
    )


def fold(body: bytes) -> Reading:
    """The chunks of a stream: each has the usage so far, the last one of an output why it ended."""
    last: dict[str, Any] = {}
    reasons: dict[int, str] = {}
    seen: set[int] = set()
    calls = 0
    for data in forwards(body):
        chunk = decoded(data)
        last.update({**chunk, "usage": larger(fields(last.get("usage")), fields(chunk.get("usage")))})
        for output in _outputs(chunk):
            index = output.get("index", 0)
            seen.add(index)
            calls += len(_calls(output.get("delta")))
            if reason := text(output.get("finish_reason")):
                reasons[index] = reason
    return _facts(last)._replace(
        finish_reasons=tuple(reasons[index] for index in sorted(reasons)),
        tool_calls=calls,
        complete=bool(seen) and seen <= reasons.keys(),
    )


def _facts(body: Mapping[str, Any]) -> Reading:
    """What a completion, and the last chunk of a stream, say of the call as a whole."""
    said = fields(body.get("usage"))
    charged = reported_cost(said)
    tier = text(body.get("service_tier"))
    return Reading(
        usage=_usage(said),
        model=text(body.get("model")),
        id=text(body.get("id")),
        service_tier=tier and tier.removeprefix("SERVICE_TIER_").lower(),
        reported_cost=charged,
        extra_fees=charged is None and bool(said.get("server_side_tools_used") or said.get("num_sources_used")),
    )


def _usage(said: Mapping[str, Any]) -> Usage | None:
    """The tokens. Reasoning is counted beside `completion_tokens`, and in `total_tokens`.

    https://docs.x.ai/docs/key-information/consumption-and-rate-limits
    """
    if not said:
        return None
    usage = read_usage({**ZEROS, **said}, USAGE)
    if usage is None or usage.input is None or usage.output is None:
        return usage
    total = count(said.get("total_tokens"))
    return usage._replace(output=total - usage.input if total else usage.output + (usage.reasoning or 0))


def _beside(reading: Reading) -> Reading:
    """The same for a chat completion over HTTP, where reasoning is counted beside `completion_tokens`, too.

    A total says so already.
    """
    usage = reading.usage
    if usage is None or usage.output is None or not usage.reasoning or reading.by_total is not None:
        return reading
    return reading._replace(usage=usage._replace(output=usage.output + usage.reasoning))


def _outputs(body: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return items(body.get("outputs") or body.get("choices"))


def _calls(message: object) -> list[Mapping[str, Any]]:
    """The tool calls of a message that the application answers."""
    return [call for call in items(fields(message).get("tool_calls")) if call.get("type") in CLIENT_SIDE]


def read_pictures(response: object) -> Reading:
    """Pictures: how many there are, and what xAI says that it charged."""
    body = fields(response)
    made = sum(1 for _ in items(body.get("images")))
    return Reading(Usage(images=made), text(body.get("model")), reported_cost=reported_cost(fields(body.get("usage"))))


def read_film(response: object) -> Reading:
    """A film: first only an id to ask for it by; when it is there its seconds, and what xAI says that it charged."""
    body = fields(response)
    if (deferred := text(body.get("request_id"))) is not None:
        return Reading(id=deferred, complete=False)
    film, failure = fields(body.get("video")), fields(body.get("error"))
    seconds = count(film.get("duration"))
    return Reading(
        Usage(output_seconds=0 if failure else seconds) if failure or seconds is not None else None,
        text(body.get("model")),
        error=(text(failure.get("code")) or "error") if failure else None,
        reported_cost=reported_cost(fields(body.get("usage"))),
    )


# --- requests ---------------------------------------------------------------------------------------------------------


def tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of the application's tools since the last word of the user."""
    steps = 0
    for message in reversed(list(items(body.get("messages")))):
        if message.get("role") == "user":
            break
        steps += message.get("role") == "assistant" and bool(_calls(message))
    return steps


def last_tool_calls(body: Mapping[str, Any]) -> int:
    """Tool calls in the model's latest turn."""
    turns = (message for message in reversed(list(items(body.get("messages")))) if message.get("role") == "assistant")
    return len(_calls(next(turns, None)))


def capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap."""
    return {**body, "max_tokens": cap}


# --- the rows ---------------------------------------------------------------------------------------------------------

SERVICE = "/xai_api."

CHAT = Api(
    "xai_chat",
    "chat",
    tuple(f"{SERVICE}Chat/{method}" for method in ("GetCompletion", "GetCompletionChunk", "StartDeferredCompletion")),
    ("max_tokens",),
    read,
    fold,
    CONVERSATION,
    tool_steps,
    last_tool_calls,
    capped,
    goes_on_from="previous_response_id",
    left_out=openai.LEFT_OUT,
)
COMPACT = Api("xai_compact", "chat", (f"{SERVICE}Chat/CompactContext",), (), read, fold, Words())

FILM_SECONDS = 15
"""Of a film, at the most, where a request does not say (https://docs.x.ai/docs/guides/video-generations)."""


def _size(of: str, smallest: str) -> Callable[[Mapping[str, Any]], str]:
    """The size that a request asks for, by the name of the enumeration's value: `IMG_RESOLUTION_2K` is `2k`."""
    return lambda body: str(body.get("resolution") or smallest).removeprefix(of).lower()


PICTURES = Api(
    "xai_images",
    "image_generation",
    (f"{SERVICE}Image/GenerateImage",),
    (),
    read_pictures,
    lambda events: Reading(),
    Words(texts=("prompt",)),
    units=Units(lambda body: Usage(images=max(count(body.get("n")) or 1, 1)), variant=_size("IMG_RESOLUTION_", "1k")),
)
FILMS = Api(
    "xai_videos",
    "video_generation",
    (f"{SERVICE}Video/GenerateVideo", f"{SERVICE}Video/ExtendVideo"),
    (),
    read_film,
    lambda events: Reading(),
    Words(texts=("prompt",)),
    changes=True,
    units=Units(
        lambda body: Usage(output_seconds=count(body.get("duration")) or FILM_SECONDS),
        variant=_size("VIDEO_RESOLUTION_", "720p"),
    ),
)

HTTP_CHAT = openai.CHAT._replace(
    read=lambda response: _beside(openai.read_chat(response)), fold=lambda body: _beside(openai.fold_chat(body))
)

APIS = (CHAT, COMPACT, PICTURES, FILMS, HTTP_CHAT)
