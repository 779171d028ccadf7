"""What was said: prompts and answers in OpenTelemetry's form, for those who have asked to record them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says where they go: `SPAN_ONLY`, `EVENT_ONLY`, `SPAN_AND_EVENT`, or
`NO_CONTENT`, which is also the default and what any other value means. The local store never gets them. Every wire
format says the same few things in its own words, so one reader goes by the words and not by the format. Pictures, sound
and files are named and not copied. The form: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenguard import names
from tokenguard.providers.reading import fields, items, text

if TYPE_CHECKING:
    from tokenguard.metering import Call

log = logging.getLogger("tokenguard")

EVENT = "gen_ai.client.inference.operation.details"

Part = dict[str, Any]


class Capture(NamedTuple):
    """Where content is recorded."""

    on_span: bool
    as_event: bool

    @classmethod
    def asked(cls) -> Capture | None:
        """What the environment asks for; `None` for no content, and a warning for a word that nobody knows."""
        asked = os.environ.get(names.ENV_CAPTURE_CONTENT, "").strip().upper()
        if asked in CAPTURES:
            return CAPTURES[asked]
        log.warning(
            "tokenguard: %s=%s is none of %s; no content is recorded",
            names.ENV_CAPTURE_CONTENT,
            asked,
            ", ".join(filter(None, CAPTURES)),
        )
        return None

    def record(self, call: Call, generated: Callable[[], str] | None) -> None:
        """Record what a finished call has sent and received."""
        system = system_instructions(call.request)
        said = answers(call.answer) if call.answer is not None else spoken(generated() if generated else "")
        content = {
            names.SYSTEM_INSTRUCTIONS: system,
            names.INPUT_MESSAGES: messages(call.request),
            names.OUTPUT_MESSAGES: said,
        }
        attributes = {name: _json(value) for name, value in content.items() if value}
        if self.on_span:
            call.span.write(attributes)
        if self.as_event:
            _emit(call, attributes)


CAPTURES = {
    "": None,
    "NO_CONTENT": None,
    "SPAN_ONLY": Capture(on_span=True, as_event=False),
    "EVENT_ONLY": Capture(on_span=False, as_event=True),
    "SPAN_AND_EVENT": Capture(on_span=True, as_event=True),
}


def _emit(call: Call, attributes: Mapping[str, str]) -> None:
    from opentelemetry._logs import LogRecord, get_logger

    facts = {names.OPERATION: call.api.operation, names.PROVIDER: call.endpoint.provider}
    if call.model is not None:
        facts[names.REQUEST_MODEL] = call.model
    get_logger("tokenguard").emit(
        LogRecord(event_name=EVENT, attributes={**facts, **attributes}, context=call.span.context)
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


# --- the parts of a message ------------------------------------------------------------------------------------------


def parts(content: object) -> list[Part]:
    """The content of a message in any wire format: a text, a part, or a list of either."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    if isinstance(content, list | tuple):
        return [part for member in content for part in parts(member)]
    block = fields(content)
    return [_part(block)] if block else []


def _part(block: Mapping[str, Any]) -> Part:
    for keys, make in PARTS:
        for key in keys:
            if block.get(key) is not None and (part := make(block, block[key])) is not None:
                return part
    return {"type": str(block.get("type") or next(iter(block)))}


def _text(block: Mapping[str, Any], said: object) -> Part | None:
    return {"type": "text", "content": said} if isinstance(said, str) else None


def _reasoning(block: Mapping[str, Any], said: object) -> Part | None:
    return {"type": "reasoning", "content": said} if isinstance(said, str) else None


def _called(block: Mapping[str, Any], function: object) -> Part | None:
    """A function's call, with the function in an object of its own (chat, Gemini, Bedrock) or in the block itself."""
    its = fields(function) or block
    arguments = next((its[key] for key in ("arguments", "args", "input") if its.get(key) is not None), None)
    return {
        "type": "tool_call",
        "id": next((its[key] for key in ("call_id", "id", "toolUseId") if its.get(key)), block.get("id")),
        "name": its.get("name"),
        "arguments": _decoded(arguments),
    }


def _answered(block: Mapping[str, Any], result: object) -> Part | None:
    its = fields(result) or block
    response = next((its[key] for key in ("output", "response", "content") if its.get(key) is not None), None)
    ids = ("call_id", "tool_use_id", "tool_call_id", "toolUseId", "id", "name")
    return {
        "type": "tool_call_response",
        "id": next((its[key] for key in ids if its.get(key)), None),
        "response": response,
    }


def _typed(kinds: Mapping[str, Callable[[Mapping[str, Any], object], Part | None]]) -> Any:
    def make(block: Mapping[str, Any], kind: object) -> Part | None:
        return kinds[kind](block, None) if isinstance(kind, str) and kind in kinds else None

    return make


PARTS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], object], Part | None]], ...] = (
    (
        ("type",),
        _typed(
            {
                "tool_use": _called,
                "function_call": _called,
                "custom_tool_call": _called,
                "tool_result": _answered,
                "function_call_output": _answered,
                "custom_tool_call_output": _answered,
            }
        ),
    ),
    (("function", "functionCall", "function_call", "toolUse"), _called),
    (("functionResponse", "function_response", "toolResult"), _answered),
    (("thinking", "reasoning"), _reasoning),
    (("text", "refusal"), _text),
)
"""The keys that tell what a part is, and how it is read; the first that fits."""


def _decoded(arguments: object) -> object:
    """Arguments as the object that they are, where a provider has them as its JSON text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


# --- requests --------------------------------------------------------------------------------------------------------


def system_instructions(request: Mapping[str, Any]) -> list[Part]:
    """What stands apart from the conversation: `system`, `instructions`, `systemInstruction`."""
    for key in ("system", "instructions", "systemInstruction", "system_instruction"):
        if given := request.get(key):
            block = fields(given)
            return parts(block["parts"] if block.get("parts") else given)
    return []


def messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation that a request carries."""
    for key in ("messages", "input", "contents", "prompt"):
        given = request.get(key)
        if isinstance(given, str):
            return [{"role": "user", "parts": parts(given)}]
        if isinstance(given, list | tuple):
            return [_message(member) for member in given if isinstance(member, str) or fields(member)]
    return []


def _message(member: object) -> dict[str, Any]:
    if isinstance(member, str):
        return {"role": "user", "parts": parts(member)}
    block = fields(member)
    role = text(block.get("role"))
    if role == "tool":
        return {"role": "tool", "parts": [_answered(block, None)]}
    if role is None:  # an item of the Responses API that is no message: a call, or its result
        part = _part(block)
        return {"role": "tool" if part["type"] == "tool_call_response" else "assistant", "parts": [part]}
    said = parts(block.get("content") if block.get("parts") is None else block["parts"])
    return {"role": role, "parts": said + parts(block.get("tool_calls"))}


# --- answers ---------------------------------------------------------------------------------------------------------


def answers(response: object) -> list[dict[str, Any]]:
    """The messages of a response, each with its finish reason."""
    body = fields(response)
    if (choices := body.get("choices") or body.get("outputs")) is not None:  # chat and legacy completions; xAI
        return [
            _answer(choice.get("message") or choice.get("text"), choice.get("finish_reason"))
            for choice in items(choices)
        ]
    if body.get("candidates") is not None:  # Gemini
        return [
            _answer(candidate.get("content"), candidate.get("finishReason") or candidate.get("finish_reason"))
            for candidate in items(body["candidates"])
        ]
    output = body.get("output")
    if isinstance(output, list | tuple):  # the Responses API
        said = [
            part
            for item in items(output)
            for part in (parts(item["content"]) if item.get("type") == "message" else [_part(item)])
        ]
        return [{"role": "assistant", "parts": said, "finish_reason": str(body.get("status"))}]
    message = fields(output).get("message") or (body if "content" in body else body.get("message"))  # Bedrock; others
    reason = body.get("stop_reason") or body.get("stopReason") or body.get("done_reason")
    return [_answer(message, reason)] if message is not None else []


def _answer(message: object, reason: object) -> dict[str, Any]:
    block = fields(message)
    said = parts(block.get("content") if block.get("parts") is None else block["parts"]) if block else parts(message)
    return {
        "role": "assistant",
        "parts": said + parts(block.get("tool_calls")),
        "finish_reason": str(getattr(reason, "value", reason)),
    }


def spoken(said: str) -> list[dict[str, Any]]:
    """The message that a stream's text makes."""
    return [{"role": "assistant", "parts": parts(said)}] if said else []
