"""Google's `generateContent` and `batchEmbedContents`, as the Gemini API and Vertex AI have them on the wire."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tokenguard.demo.answers import Answer, Question, Tool, words
from tokenguard.demo.exchange import Desk, Event, Refusal, Reply
from tokenguard.facts.usage import Usage
from tokenguard.providers import google
from tokenguard.tokens import estimate_request

BROKEN = Event({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
STATUSES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
FINISHES = {"stop": "STOP", "stop_sequence": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
VECTOR = 64


def refused(status: int, message: str) -> dict[str, Any]:
    """An error as Google words it."""
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


def generate(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/{model}:generateContent` and `:streamGenerateContent`."""
    if not body.get("contents"):
        raise Refusal(400, "INVALID_ARGUMENT", "contents is not specified")
    answer = desk.model.answer(question_of(body))
    billed = Usage(
        estimate_request(google.GENERATE.words, body),
        answer.output_tokens,
        reasoning=answer.thought_tokens or None,
    )
    head = {"modelVersion": body["model"], "responseId": desk.id("", 22)}
    parts: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
    parts += [{"functionCall": {"name": call.name, "args": arguments(call.arguments)}} for call in answer.calls]
    whole = {**head, "candidates": [candidate(parts, FINISHES[answer.finish])], "usageMetadata": usage_json(billed)}
    return Reply(whole, list(events_of(head, answer, parts, billed)) if body.get("stream") else [], billed, BROKEN)


def embed(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/{model}:batchEmbedContents`."""
    billed = Usage(estimate_request(google.EMBED.words, body))
    chance = random.Random(billed.input)  # noqa: S311 - no secret
    vectors = [{"values": [chance.uniform(-1, 1) for _ in range(VECTOR)]} for _ in body["requests"]]
    return Reply({"embeddings": vectors, "usageMetadata": {"promptTokenCount": billed.input}}, billed=billed)


def question_of(body: Mapping[str, Any]) -> Question:
    """What the request asks of the model."""
    rounds, result, said = 0, "", ""
    for content in reversed(body["contents"]):
        parts = content.get("parts") or []
        if content.get("role") == "model":
            rounds += any("functionCall" in part for part in parts)
        elif found := [part["functionResponse"] for part in parts if "functionResponse" in part]:
            result = result or json.dumps([response.get("response") for response in found])
        else:
            said = "".join(part.get("text", "") for part in parts)
            break
    settings = body.get("generationConfig") or {}
    system = (body.get("systemInstruction") or {}).get("parts") or []
    declared = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]
    mode = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
    return Question(
        model=str(body["model"]),
        said=said,
        instructions="".join(part.get("text", "") for part in system),
        tools=[Tool(each["name"], schema_of(each)) for each in declared],
        choice={"ANY": "required", "NONE": "none"}.get(str(mode), "auto"),
        rounds=rounds,
        result=result,
        schema=settings.get("responseJsonSchema") or ({} if "json" in str(settings.get("responseMimeType")) else None),
        cap=settings.get("maxOutputTokens"),
        stop=settings.get("stopSequences") or (),
        thinks=(settings.get("thinkingConfig") or {}).get("thinkingBudget", 0) != 0,
    )


def schema_of(declared: Mapping[str, Any]) -> Any:
    """The schema of a function's parameters, by whichever of its names."""
    keys = ("parametersJsonSchema", "parameters_json_schema", "parameters")
    return next((lower(schema) for key in keys if (schema := declared.get(key))), {})


def lower(schema: Any) -> Any:
    """A schema with its types in JSON schema's spelling; Google writes `STRING`."""
    if isinstance(schema, Mapping):
        return {k: v.lower() if k == "type" and isinstance(v, str) else lower(v) for k, v in schema.items()}
    return schema


def arguments(text: str) -> dict[str, Any]:
    """A call's arguments; none where the cap has cut them off."""
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


def candidate(parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    """One answer, or a piece of it."""
    end = {"finishReason": finish} if finish else {}
    return {"content": {"parts": parts, "role": "model"}, "index": 0, **end}


def usage_json(billed: Usage, share: float = 1.0) -> dict[str, Any]:
    """`usageMetadata`, when this share of the answer is out: thoughts are apart from it, and zeros left out."""
    thoughts, sent = billed.reasoning or 0, billed.input or 0
    made = round(((billed.output or 0) - thoughts) * share)
    counts = {"promptTokenCount": sent, "candidatesTokenCount": made, "thoughtsTokenCount": thoughts}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": sent}]}
    return {**{k: n for k, n in counts.items() if n}, "totalTokenCount": sent + made + thoughts, **details}


def events_of(head: Mapping[str, Any], answer: Answer, parts: list[dict[str, Any]], billed: Usage) -> Iterator[Event]:
    """The answer as a stream, each event with the usage so far."""
    pieces = [(word, {"text": word}) for word in words(answer.text)]
    pieces += [("", part) for part in parts if "functionCall" in part]
    for n, (text, part) in enumerate(pieces, 1):
        finish = FINISHES[answer.finish] if n == len(pieces) else None
        usage = usage_json(billed, n / len(pieces))
        yield Event({**head, "candidates": [candidate([part], finish)], "usageMetadata": usage}, text=text)
