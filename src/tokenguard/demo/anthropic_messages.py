"""Anthropic's messages and token counts, as they are on the wire."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tokenguard.demo.answers import Answer, Question, Tool, words
from tokenguard.demo.caching import MOST_BREAKPOINTS, breakpoints, parts
from tokenguard.demo.exchange import DATED, Desk, Event, Refusal, Reply, dated
from tokenguard.demo.openai_chat import plain
from tokenguard.facts.usage import Usage
from tokenguard.providers import anthropic
from tokenguard.tokens import estimate_request

BROKEN = Event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "stop_sequence": "stop_sequence"}

EMPTY: Mapping[str, Mapping[str, Any]] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}
"""What a block is when it starts in a stream, before its content comes."""


def required(body: Mapping[str, Any], key: str) -> Any:
    """A field that the API demands."""
    if not (value := body.get(key)):
        raise Refusal(400, "invalid_request_error", f"{key}: Field required")
    return value


def messages(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v1/messages`."""
    model = str(required(body, "model"))
    required(body, "max_tokens")
    required(body, "messages")
    if (found := breakpoints(body)) > MOST_BREAKPOINTS:
        message = f"A maximum of 4 blocks with cache_control may be provided. Found {found}."
        raise Refusal(400, "invalid_request_error", message)
    usage = desk.cache.anthropic(f"{key} {model}", body, desk.now())
    answer = desk.model.answer(question_of(body))
    billed = usage._replace(output=answer.output_tokens, reasoning=answer.thought_tokens)
    whole = {
        "id": desk.id("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "model": dated(model),
        "content": list(blocks_of(desk, answer, body)),
        "stop_reason": STOP_REASONS[answer.finish],
        "stop_sequence": answer.stopped_at if answer.finish == "stop_sequence" else None,
        "stop_details": None,
        "usage": usage_json(billed, body),
    }
    return Reply(whole, list(events_of(whole)) if body.get("stream") else [], billed, BROKEN)


def count_tokens(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v1/messages/count_tokens`: free."""
    required(body, "messages")
    return Reply({"input_tokens": estimate_request(anthropic.MESSAGES.words, body)})


def models() -> Reply:
    """`GET /v1/models`, asked in Anthropic's way."""
    data = [
        {"type": "model", "id": dated(name), "display_name": name, "created_at": "2025-09-29T00:00:00Z"}
        for name in DATED
        if name.startswith("claude")
    ]
    return Reply({"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]})


def question_of(body: Mapping[str, Any]) -> Question:
    """What the request asks of the model."""
    rounds, result, said = 0, "", ""
    for message in reversed(body["messages"]):
        blocks = parts(message.get("content"))
        kinds = {block.get("type") for block in blocks}
        if message.get("role") == "user":
            if "tool_result" not in kinds:
                said = plain(blocks)
                break
            found = [block for block in blocks if block.get("type") == "tool_result"]
            result = result or "\n".join(
                plain(block.get("content")) + (" error" if block.get("is_error") else "") for block in found
            )
        rounds += "tool_use" in kinds
    choice = body.get("tool_choice") or {"type": "auto"}
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Question(
        model=str(body["model"]),
        said=said,
        instructions=plain(parts(body.get("system"))),
        tools=[Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools") or () if "input_schema" in tool],
        choice=choice.get("name") or {"any": "required"}.get(choice["type"], choice["type"]),
        rounds=rounds,
        result=result,
        schema=form.get("schema"),
        cap=body["max_tokens"],
        stop=body.get("stop_sequences") or (),
        thinks=thinks(body),
    )


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether extended thinking is on."""
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def blocks_of(desk: Desk, answer: Answer, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The content of an answer."""
    if thinks(body):
        signature = base64.b64encode(random.Random(answer.thoughts).randbytes(180)).decode()  # noqa: S311 - no secret
        yield {"type": "thinking", "thinking": answer.thoughts, "signature": signature}
    if answer.text:
        yield {"type": "text", "text": answer.text}
    for call in answer.calls:
        try:
            arguments = json.loads(call.arguments)
        except ValueError:  # cut off at the cap
            arguments = {}
        yield {"type": "tool_use", "id": desk.id("toolu_01", 22), "name": call.name, "input": arguments}


def usage_json(billed: Usage, body: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` of a message: the input without what was read from the cache or written to it."""
    read, written, hour = billed.cache_read or 0, billed.cache_write or 0, billed.cache_write_1h or 0
    usage = {
        "input_tokens": (billed.input or 0) - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens": billed.output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    return {**usage, "output_tokens_details": {"thinking_tokens": billed.reasoning}} if thinks(body) else usage


def events_of(whole: Mapping[str, Any]) -> Iterator[Event]:
    """The message as its stream of events."""

    def event(kind: str, text: str = "", **fields: object) -> Event:
        return Event({"type": kind, **fields}, kind, text)

    usage = dict(whole["usage"])
    details = {"output_tokens_details": usage.pop("output_tokens_details")} if "output_tokens_details" in usage else {}
    begun = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield event("message_start", message=begun)
    for n, block in enumerate(whole["content"]):
        kind = block["type"]
        empty = EMPTY[kind]
        yield event("content_block_start", index=n, content_block={**block, **empty})
        if n == 0:
            yield event("ping")
        deltas: list[tuple[str, dict[str, object]]]
        if kind == "thinking":
            deltas = [(word, {"type": "thinking_delta", "thinking": word}) for word in words(block["thinking"])]
            deltas.append(("", {"type": "signature_delta", "signature": block["signature"]}))
        elif kind == "text":
            deltas = [(word, {"type": "text_delta", "text": word}) for word in words(block["text"])]
        else:
            deltas = [("", {"type": "input_json_delta", "partial_json": ""})]
            pieces = words(json.dumps(block["input"]))
            deltas += [(piece, {"type": "input_json_delta", "partial_json": piece}) for piece in pieces]
        for text, delta in deltas:
            yield event("content_block_delta", text, index=n, delta=delta)
        yield event("content_block_stop", index=n)
    # The totals once more, without what `message_start` alone tells: the lifetimes of what was written.
    known = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    yield event(
        "message_delta",
        delta={key: whole[key] for key in ("stop_reason", "stop_sequence")},
        usage={**{key: usage[key] for key in known}, **details},
    )
    yield event("message_stop")
