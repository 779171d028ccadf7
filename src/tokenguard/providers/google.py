"""Google's wire formats: generated content and embeddings, as the Gemini API and Vertex AI speak them.

Field names are the JSON's; contents that an application passes as dicts reach the wire as it wrote them, so those are
looked for in both spellings (`functionCall`, `function_call`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenguard.providers.api import Api
from tokenguard.providers.events import TAIL_EVENTS, backwards, decoded, forwards
from tokenguard.providers.reading import Reading, count, fields, items, text
from tokenguard.usage import Usage

# --- usage ------------------------------------------------------------------------------------------------------------


def read_google_usage(node: object) -> Usage | None:
    """`usageMetadata`: the prompt holds the cached part; tool results are counted apart from it, thoughts from answers.

    Protobuf's JSON leaves out zeros, so that a response without candidates is known by its total
    (https://ai.google.dev/api/generate-content#UsageMetadata).
    """
    said = fields(node)
    prompt = count(said.get("promptTokenCount"))
    if prompt is None:
        return None
    tools = count(said.get("toolUsePromptTokenCount")) or 0
    sent = prompt + tools
    answer, thoughts = count(said.get("candidatesTokenCount")), count(said.get("thoughtsTokenCount"))
    if answer is None and thoughts is None:
        total = count(said.get("totalTokenCount"))
        generated = None if total is None else max(total - sent, 0)
    else:
        generated = (answer or 0) + (thoughts or 0)
    heard = _kinds(said, "promptTokensDetails", "toolUsePromptTokensDetails")
    reheard = _kinds(said, "cacheTokensDetails")
    spoken = _kinds(said, "candidatesTokensDetails")
    return Usage(
        input=sent,
        output=generated,
        cache_read=count(said.get("cachedContentTokenCount")),
        reasoning=thoughts,
        input_audio=heard.get("AUDIO"),
        cache_audio_read=reheard.get("AUDIO"),
        output_audio=spoken.get("AUDIO"),
        input_image=heard.get("IMAGE"),
    )


def _kinds(said: Mapping[str, Any], *details: str) -> dict[str, int]:
    """Tokens by modality."""
    kinds: dict[str, int] = {}
    for key in details:
        for detail in items(said.get(key)):
            kind = str(detail.get("modality"))
            kinds[kind] = kinds.get(kind, 0) + (count(detail.get("tokenCount")) or 0)
    return kinds


# --- responses --------------------------------------------------------------------------------------------------------


def either(node: Mapping[str, Any], camel: str, snake: str) -> Any:
    """The value of a field in either spelling."""
    value = node.get(camel)
    return node.get(snake) if value is None else value


def _parts(content: object) -> Iterator[Mapping[str, Any]]:
    yield from items(fields(content).get("parts"))


def _calls(content: object) -> int:
    """The function calls in a content."""
    return sum(either(part, "functionCall", "function_call") is not None for part in _parts(content))


def read_generate(response: object) -> Reading:
    """A `generateContent` response."""
    body = fields(response)
    usage = fields(body.get("usageMetadata"))
    candidates = list(items(body.get("candidates")))
    return Reading(
        usage=read_google_usage(usage),
        model=text(body.get("modelVersion")),
        id=text(body.get("responseId")),
        finish_reasons=tuple(str(each["finishReason"]) for each in candidates if each.get("finishReason")),
        tool_calls=sum(_calls(each.get("content")) for each in candidates),
        service_tier=text(usage.get("serviceTier")) or text(usage.get("trafficType")),
        extra_fees=any(_searched(each) for each in candidates),
    )


def _searched(candidate: Mapping[str, Any]) -> bool:
    """Whether Google searched the web or its maps, which it bills by the request (https://ai.google.dev/pricing)."""
    grounds = fields(candidate.get("groundingMetadata"))
    return any(grounds.get(key) for key in ("webSearchQueries", "imageSearchQueries", "googleMapsWidgetContextToken"))


def read_embed(response: object) -> Reading:
    """An embeddings response: `usageMetadata`, or the statistics of each of Vertex AI's predictions."""
    body = fields(response)
    usage = read_google_usage(body.get("usageMetadata"))
    if usage is None:
        embeddings = (fields(each.get("embeddings")) for each in items(body.get("predictions")))
        statistics = (fields(each.get("statistics")) for each in embeddings)
        counts = [sent for each in statistics if (sent := count(each.get("token_count"))) is not None]
        return Reading(usage=Usage(input=sum(counts)) if counts else None)
    return Reading(usage=Usage(input=usage.input, input_audio=usage.input_audio, input_image=usage.input_image))


FUNCTION_CALL = re.compile(rb'"functionCall"\s*:\s*\{')


def fold_generate(body: bytes) -> Reading:
    """The chunks of a `streamGenerateContent` stream: each tells the usage so far, the last one all of it."""
    usage: Mapping[str, Any] = {}
    reasons: dict[object, str] = {}
    error: str | None = None
    fees = False
    for n, data in enumerate(backwards(body)):
        chunk = decoded(data)
        if (failure := chunk.get("error")) is not None:
            error = text(fields(failure).get("status")) or "error"
        usage = usage or fields(chunk.get("usageMetadata"))
        for candidate in items(chunk.get("candidates")):
            fees = fees or _searched(candidate)
            if reason := text(candidate.get("finishReason")):
                reasons.setdefault(candidate.get("index", 0), reason)
        if (usage and reasons) or n >= TAIL_EVENTS:
            break
    first = next((chunk for data in forwards(body) if (chunk := decoded(data)).get("modelVersion")), {})
    blocked = bool(fields(first.get("promptFeedback")).get("blockReason"))
    complete = (bool(reasons) or blocked) and error is None
    reading = read_generate({**first, "candidates": (), "usageMetadata": usage})
    if not complete and reading.usage is not None:
        # Chunks tell what was generated so far; how much it came to is not known until the last.
        reading = reading._replace(usage=reading.usage._replace(output=None, reasoning=None, output_audio=None))
    return reading._replace(
        finish_reasons=tuple(reasons[i] for i in sorted(reasons, key=str)),
        tool_calls=len(FUNCTION_CALL.findall(body)),
        error=error,
        complete=complete,
        extra_fees=fees,
    )


# --- requests ---------------------------------------------------------------------------------------------------------


def _turns(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The contents of a request, last first."""
    contents = body.get("contents")
    yield from map(fields, reversed(contents) if isinstance(contents, list) else ())


def generate_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of function calls and responses since the last word of the user."""
    steps = 0
    for content in _turns(body):
        if content.get("role") == "model":
            steps += _calls(content) > 0
        elif not any(either(part, "functionResponse", "function_response") is not None for part in _parts(content)):
            break
    return steps


def generate_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Function calls in the model's latest turn."""
    return next((_calls(content) for content in _turns(body) if content.get("role") == "model"), 0)


def generate_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap, which holds the thoughts as well."""
    settings = dict(fields(body.get(GENERATE.settings)))
    settings.pop("max_output_tokens", None)
    return {**body, GENERATE.settings: {**settings, "maxOutputTokens": cap}}


GENERATE = Api(
    "generate_content",
    "generate_content",
    (":generateContent", ":streamGenerateContent"),
    ("maxOutputTokens", "max_output_tokens"),
    read_generate,
    fold_generate,
    generate_tool_steps,
    generate_last_tool_calls,
    generate_capped,
    settings="generationConfig",
    choices="candidateCount",
)
EMBED = Api(
    "embed_content",
    "embeddings",
    (":embedContent", ":batchEmbedContents", ":predict"),
    (),
    read_embed,
    fold_generate,
)
