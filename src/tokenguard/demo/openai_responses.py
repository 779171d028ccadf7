"""OpenAI's Responses API as it is on the wire: JSON, the stream of typed events, and the conversations it remembers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenguard.demo.answers import Answer, Question, Tool, words
from tokenguard.demo.exchange import Desk, Event, Refusal, Reply, dated
from tokenguard.demo.openai_chat import bill, plain, required, served, transcript
from tokenguard.facts.usage import Usage
from tokenguard.providers import openai
from tokenguard.tokens import estimate_request
from tokenguard.tokens.text import reasons

REMEMBERED = 1000
"""Stored responses; the oldest are forgotten."""

ECHOED: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, with what it says where the request said nothing."""

EMPTY: Mapping[str, Mapping[str, Any]] = {"message": {"content": []}, "function_call": {"arguments": ""}}
"""What an item is when it is added to a stream, before its content comes."""


def responses(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /responses`."""
    model = str(required(body, "model"))
    full = {**body, "input": conversation(desk, body)}
    billed_input = {name: value for name, value in full.items() if name != "previous_response_id"}
    tokens = estimate_request(openai.RESPONSES.words, billed_input)
    usage = desk.cache.openai(f"{key} {model}", body, transcript(full), tokens, desk.now())
    answer = desk.model.answer(question_of(full))
    billed = bill(usage, [answer])
    output = list(items_of(desk, answer, model))
    whole = response_json(desk, body, output, answer, billed)
    if body.get("store") is not False:
        desk.responses[whole["id"]] = {"response": whole, "conversation": [*full["input"], *output]}
        if len(desk.responses) > REMEMBERED:
            del desk.responses[next(iter(desk.responses))]
    events = list(events_of(whole, output)) if body.get("stream") else []
    broken = {"type": "error", "code": "server_error", "message": "The server had an error.", "param": None}
    return Reply(whole, events, billed, Event({**broken, "sequence_number": len(events)}, "error"))


def retrieved(desk: Desk, response_id: str) -> Reply:
    """`GET /responses/ID`: what was stored, and nothing to pay."""
    if (stored := desk.responses.get(response_id)) is None:
        raise Refusal(404, "invalid_request_error", f"Response with id '{response_id}' not found.")
    return Reply(stored["response"])


def input_tokens(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /responses/input_tokens`: a count, and nothing to pay."""
    tokens = estimate_request(openai.RESPONSES.words, {**body, "input": conversation(desk, body)})
    return Reply({"object": "response.input_tokens", "input_tokens": tokens})


def conversation(desk: Desk, body: Mapping[str, Any]) -> list[Any]:
    """The items the model reads: those remembered by the server, and those sent."""
    earlier: Sequence[Any] = ()
    if previous := body.get("previous_response_id"):
        if (stored := desk.responses.get(str(previous))) is None:
            message = f"Previous response with id '{previous}' not found."
            raise Refusal(400, "invalid_request_error", message, "previous_response_not_found", "previous_response_id")
        earlier = stored["conversation"]
    sent = required(body, "input")
    return [*earlier, *([{"role": "user", "content": sent}] if isinstance(sent, str) else sent)]


def question_of(body: Mapping[str, Any]) -> Question:
    """What the request asks of the model."""
    rounds, result, said, last = 0, "", "", ""
    for item in reversed(body["input"]):
        kind = str(item.get("type", ""))
        if item.get("role") == "user":
            said = plain(item.get("content"))
            break
        if kind.endswith("_call_output"):
            result = result or plain(item.get("output"))
            rounds += not last.endswith("_call_output")
        last = kind
    form = (body.get("text") or {}).get("format") or {}
    choice = body.get("tool_choice") or "auto"
    effort = (body.get("reasoning") or {}).get("effort")
    return Question(
        model=str(body["model"]),
        said=said,
        instructions=str(body.get("instructions") or ""),
        tools=[
            Tool(t["name"], t.get("parameters") or {}) for t in body.get("tools") or () if t.get("type") == "function"
        ],
        choice=choice if isinstance(choice, str) else choice.get("name", "required"),
        rounds=rounds,
        result=result,
        schema=form.get("schema") or ({} if form.get("type") == "json_object" else None),
        cap=body.get("max_output_tokens"),
        thinks=reasons(str(body["model"])) and effort not in ("none", "minimal"),
    )


def items_of(desk: Desk, answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    """The output items of an answer."""
    status = "incomplete" if answer.finish == "length" else "completed"
    if answer.thoughts:
        yield {"id": desk.id("rs_", 48), "type": "reasoning", "summary": []}
    for call in answer.calls:
        yield {
            "id": desk.id("fc_", 48),
            "type": "function_call",
            "status": status,
            "arguments": call.arguments,
            "call_id": desk.id("call_"),
            "name": call.name,
        }
    if answer.text or not (answer.calls or answer.thoughts):
        text = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
        message = {
            "id": desk.id("msg_", 48),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [text],
        }
        yield message if model.startswith("gpt-4") else {**message, "phase": "final_answer"}


def response_json(
    desk: Desk, body: Mapping[str, Any], output: list[dict[str, Any]], answer: Answer, billed: Usage
) -> dict[str, Any]:
    """The whole response."""
    now = int(time.time())
    cut = answer.finish == "length"
    asked = {name: body[name] for name in ECHOED if body.get(name) is not None}
    text = body.get("text") or {}
    return {
        **ECHOED,
        **asked,
        "id": desk.id("resp_", 48),
        "object": "response",
        "created_at": now,
        "completed_at": None if cut else now,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": dated(body["model"]),
        "output": output,
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "service_tier": served(body),
        "text": {"verbosity": "medium", **text, "format": text.get("format") or {"type": "text"}},
        "usage": usage_json(billed),
    }


def usage_json(billed: Usage) -> dict[str, Any]:
    """`usage` of a response."""
    details: dict[str, Any] = {"cached_tokens": billed.cache_read, "cache_write_tokens": billed.cache_write or 0}
    if billed.cache_write:
        details["cache_write_tokens_details"] = {
            "ttl_30m_tokens": billed.cache_write_30m,
            "ttl_12h_tokens": billed.cache_write_12h,
        }
    return {
        "input_tokens": billed.input,
        "input_tokens_details": details,
        "output_tokens": billed.output,
        "output_tokens_details": {"reasoning_tokens": billed.reasoning},
        "total_tokens": billed.total,
    }


def events_of(whole: Mapping[str, Any], output: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """The response as its stream of events."""
    numbers = itertools.count()

    def event(kind: str, text: str = "", **fields: object) -> Event:
        return Event({"type": kind, **fields, "sequence_number": next(numbers)}, kind, text)

    begun = {
        **whole,
        "status": "in_progress",
        "completed_at": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for n, item in enumerate(output):
        at = {"item_id": item["id"], "output_index": n}
        empty = EMPTY.get(item["type"], {})
        status = {"status": "in_progress"} if "status" in item else {}
        yield event("response.output_item.added", output_index=n, item={**item, **empty, **status})
        if item["type"] == "function_call":
            for piece in words(item["arguments"]):
                yield event("response.function_call_arguments.delta", piece, **at, delta=piece)
            yield event("response.function_call_arguments.done", **at, arguments=item["arguments"], name=item["name"])
        elif item["type"] == "message":
            part, at = item["content"][0], {**at, "content_index": 0}
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for word in words(part["text"]):
                yield event("response.output_text.delta", word, **at, delta=word, logprobs=[])
            yield event("response.output_text.done", **at, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **at, part=part)
        yield event("response.output_item.done", output_index=n, item=item)
    yield event(f"response.{whole['status']}", response=whole)
