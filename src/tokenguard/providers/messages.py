"""What requests, answers and streams say, as messages in OpenTelemetry's form.

Every wire format says the same few things in its own words, so one reader goes by the words and not by the format: a
piece of a stream, too, is made of the same parts as a whole message. Pictures, sound and files are named and not
copied. The form: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tokenguard.providers.events import FINAL_RESPONSE, decoded
from tokenguard.providers.reading import fields, items

SIGNATURES = frozenset({"thoughtSignature", "thought_signature", "thought"})
"""Keys of Gemini's parts that do not say what they are."""

Part = dict[str, Any]
Message = dict[str, Any]

# --- the parts of a message ------------------------------------------------------------------------------------------


def parts(content: object) -> list[Part]:
    """The content of a message in any wire format: a text, a part, or a list of either."""
    return [_whole(part) for part in _parts(content)]


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    if isinstance(content, (list, tuple)):
        return [part for member in content for part in _parts(member)]
    block = fields(content)
    return [_part(block)] if block and "cachePoint" not in block else []


def _part(block: Mapping[str, Any]) -> Part:
    for keys, make in PARTS:
        for key in keys:
            if block.get(key) is not None and (part := make(block, block[key])) is not None:
                return part
    return {"type": str(block.get("type") or next((key for key in block if key not in SIGNATURES), "reasoning"))}


def _text(block: Mapping[str, Any], said: object) -> Part | None:
    if not isinstance(said, str):
        return None
    return {"type": "reasoning" if block.get("thought") is True else "text", "content": said}  # Gemini's thoughts


def _reasoning(block: Mapping[str, Any], said: object) -> Part | None:
    words = _words(said)
    return None if words is None else {"type": "reasoning", "content": words}


def _words(said: object) -> str | None:
    """The text in a thought: a text, an object that has one, or a list of either; `None` where there is none."""
    if isinstance(said, (list, tuple)):
        found = [words for each in said if (words := _words(each)) is not None]
        return "".join(found) if found else None
    if isinstance(said, str):
        return said
    its = fields(said)
    return next((_words(its[key]) for key in ("text", "reasoningText", "thinking") if its.get(key) is not None), None)


def _called(block: Mapping[str, Any], function: object) -> Part | None:
    """A function's call, with the function in an object of its own (chat, Gemini, Bedrock) or in the block itself."""
    its = fields(function) or block
    return {
        "type": "tool_call",
        "id": _first(its, "call_id", "tool_call_id", "id", "toolUseId") or block.get("id"),
        "name": its.get("name"),
        "arguments": _first(its, "arguments", "args", "input", "parameters", "partial_json"),
    }


def _answered(block: Mapping[str, Any], result: object) -> Part | None:
    its = fields(result) or block
    ids = ("call_id", "tool_use_id", "tool_call_id", "toolUseId", "id", "name", "tool_name")
    return {
        "type": "tool_call_response",
        "id": _first(its, *ids) or fields(its.get("call")).get("name"),
        "response": _first(its, "output", "outputs", "response", "content", "result"),
    }


def _first(node: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        if (value := node.get(key)) is not None:
            return value
    return None


def _typed(block: Mapping[str, Any], kind: object) -> Part | None:
    return TYPED[kind](block, None) if isinstance(kind, str) and kind in TYPED else None


TYPED: Mapping[str, Callable[[Mapping[str, Any], object], Part | None]] = {
    **dict.fromkeys(("tool_use", "function_call", "custom_tool_call", "function.call"), _called),
    **dict.fromkeys(("input_json_delta", "arguments_delta", "function.call.delta"), _called),
    **dict.fromkeys(("tool_result", "function_call_output", "custom_tool_call_output"), _answered),
    **dict.fromkeys(("function_result", "function.result"), _answered),
    **dict.fromkeys(("reasoning", "thought"), lambda block, _: _reasoning(block, _first(block, "summary", "content"))),
    "thought_summary": lambda block, _: _reasoning(block, block.get("content")),
}
"""Parts that say by their `type` what they are, whole or a stream's piece of one."""
PARTS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], object], Part | None]], ...] = (
    (("type",), _typed),
    (("function", "functionCall", "function_call", "toolUse"), _called),
    (("functionResponse", "function_response", "toolResult"), _answered),
    (("thinking", "reasoning", "reasoningContent"), _reasoning),
    (("text", "refusal"), _text),
)
"""The keys that tell what a part is, and how it is read; the first that fits."""


def _whole(part: Part) -> Part:
    """A part with its arguments as the object that they are, where a provider has them as its JSON text."""
    if part["type"] != "tool_call" or not isinstance(part["arguments"], str):
        return part
    try:
        return {**part, "arguments": json.loads(part["arguments"])}
    except ValueError:
        return part


# --- messages --------------------------------------------------------------------------------------------------------

CONTENT = ("content", "parts", "message")
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "tool_plan")
"""The keys of a message that hold its content, and what the model thought before it."""
OF_MESSAGES = frozenset({*CONTENT, *THOUGHTS, "tool_calls", "role"})
MESSAGE_TYPES = frozenset({None, "message", "message.input", "message.output", "model_output", "user_input"})
"""What items are called that are messages; one of another type that has a `content` is a tool's result."""
INPUTS = frozenset({"", "text", "input_text", "image", "audio", "document", "video"})
"""What items are called, if anything, that a user may send without a message around them."""
ROLES = {"model": "assistant", "chatbot": "assistant", "user_input": "user"}
"""What formats call the roles that have another name here."""


def _said(member: object) -> list[Part]:
    """The parts of a message, of another item of a conversation, or of a stream's piece of either."""
    block = fields(member)
    if str(block.get("role")).lower() == "tool":
        results = items(block.get("tool_results") or [block])  # Cohere's first version has several in one message
        return [part for result in results if (part := _answered(result, None)) is not None]
    kind = block.get("type")
    typed = "role" not in block and ((kind is not None and not isinstance(kind, str)) or kind not in MESSAGE_TYPES)
    if typed or OF_MESSAGES.isdisjoint(block):
        return _parts(member)
    thoughts = filter(None, map(block.get, THOUGHTS))
    said = [part for thought in thoughts if (part := _reasoning(block, thought)) is not None][:1]
    said += _parts(_first(block, *CONTENT))
    said += [{"type": "image"} for _ in block.get("images") or ()]  # Ollama's
    calls = block.get("tool_calls") or ()
    for call in items(calls if isinstance(calls, (list, tuple)) else [calls]):
        if (part := _called(call, call.get("function"))) is not None:
            said.append(part)
    return said


def message(member: object) -> Message:
    """One member of a conversation."""
    block = fields(member)
    said = [_whole(part) for part in _said(member)]
    kinds = {part["type"] for part in said}
    role = str(block.get("role") or block.get("type") or "").lower()
    if kinds == {"tool_call_response"}:
        role = "tool"
    elif block.get("role") is None and role != "user_input":  # an item of a conversation that says not whose it is
        role = "user" if role in INPUTS and kinds.isdisjoint(("tool_call", "reasoning")) else "assistant"
    return {"role": ROLES.get(role, role), "parts": said}


# --- requests --------------------------------------------------------------------------------------------------------


INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction", "preamble")
INSTRUCTION_KEYS = frozenset(INSTRUCTIONS)


def system_instructions(request: Mapping[str, Any]) -> list[Part]:
    """What stands apart from the conversation: `system`, `instructions`, `systemInstruction`."""
    for key in INSTRUCTIONS if not INSTRUCTION_KEYS.isdisjoint(request) else ():
        if given := request.get(key):
            return [_whole(part) for part in _said(given)]
    return []


def messages(request: Mapping[str, Any]) -> list[Message]:
    """The conversation that a request carries."""
    return [message(member) for member in members(request)]


def members(request: Mapping[str, Any]) -> list[Any]:
    """The members of the conversation that a request carries, as they stand in it: `message` reads one."""
    if isinstance(request.get("message"), str):  # Cohere's first version: what is said now stands apart from the rest
        now = [{"role": "user", "message": request["message"]}] if request["message"] else []
        results = [{"role": "tool", "tool_results": request["tool_results"]}] if request.get("tool_results") else []
        return [*(request.get("chat_history") or ()), *now, *results]
    for key in ("messages", "input", "inputs", "contents", "prompt", "inputText"):
        given = request.get(key)
        if isinstance(given, str) or (key == "input" and isinstance(given, Mapping)):
            given = [given]
        if isinstance(given, (list, tuple)):
            return [member for member in given if isinstance(member, str) or fields(member)]
    return []


# --- answers ---------------------------------------------------------------------------------------------------------

REASONS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "completionReason", "status")
"""The keys under which an answer says why it ended."""


def _answer(said: Iterable[Part], reason: object) -> Message:
    answer: Message = {"role": "assistant", "parts": [_whole(part) for part in said]}
    if reason is not None:
        answer["finish_reason"] = str(getattr(reason, "value", reason))
    return answer


def answers(response: object) -> list[Message]:
    """The messages of a response, each with its finish reason."""
    body = fields(response)
    for key in ("choices", "candidates", "results", "generations", "outputs"):
        several = list(items(body.get(key)))
        if several and not any("type" in each for each in several):
            found = [(_one(each), _first(each, *REASONS)) for each in several]
            return [_answer(said, reason) for said, reason in found if said or reason is not None]
    for key in ("output", "outputs", "steps"):  # the items of one answer
        if isinstance(body.get(key), (list, tuple)):
            said = [part for item in items(body[key]) if item.get("type") != "user_input" for part in _said(item)]
            return [_answer(said, _first(body, *REASONS))]
    reason = _first(body, *REASONS)
    if (said := _one(fields(body.get("output")) or body)) or reason is not None:
        return [_answer(said, reason)]
    return []


def _one(node: Mapping[str, Any]) -> list[Part]:
    """What one answer says: in a message, or as text alone."""
    message = _first(node, "message", "content")
    if message is not None:
        return _said(message if fields(message) else node)
    words = _first(node, "text", "response", "generation", "outputText")
    return _said({**node, "content": words}) if words is not None else []


# --- streams ---------------------------------------------------------------------------------------------------------

Path = tuple[str, ...]

PIECES: Mapping[str, tuple[Path, Path]] = {
    # OpenAI's Responses; Anthropic; Bedrock's Converse
    "response.output_text.delta": (("delta",), ()),
    "content_block_start": (("content_block",), ()),
    "content_block_delta": (("delta",), ()),
    "message_delta": ((), ("delta", "stop_reason")),
    "contentBlockStart": (("contentBlockStart", "start"), ()),
    "contentBlockDelta": (("contentBlockDelta", "delta"), ()),
    "messageStop": ((), ("messageStop", "stopReason")),
    # Cohere
    **dict.fromkeys(("content-start", "content-delta", "tool-plan-delta"), (("delta", "message"), ())),
    **dict.fromkeys(("tool-call-start", "tool-call-delta"), (("delta", "message"), ())),
    "message-end": ((), ("delta", "finish_reason")),
    "text-generation": (("text",), ()),
    # Google's interactions; Mistral's conversations
    "step.start": (("step",), ()),
    "step.delta": (("delta",), ()),
    "interaction.completed": ((), ("interaction", "status")),
    "message.output.delta": (("content",), ()),
    # Ollama; Bedrock's Llama and Titan
    "message": (("message",), ("done_reason",)),
    "response": (("response",), ("done_reason",)),
    "generation": (("generation",), ("stop_reason",)),
    "outputText": (("outputText",), ("completionReason",)),
}
"""Where an event, by its type or one of its keys, has a piece of the answer, and why the answer ended."""
UNSAID = frozenset(
    {
        *("signature_delta", "thought_signature", "reasoningContent", "citations_delta", "text_annotation_delta"),
        *("annotations", "thought", "model_output"),
    }
)
"""Types of pieces that are about what was said, or say only that something will be."""


class Draft:
    """An answer as it comes in."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.reason: object = None

    def add(self, part: Part) -> None:
        """A part, or the next piece of one."""
        begun = self._begun(part)
        if begun is None:
            if part["type"] not in UNSAID and part.get("name", "") is not None:  # else of a call that a server makes
                self.parts.append(dict(part))
        elif part["type"] == "tool_call":
            both = begun["arguments"], part["arguments"]
            if isinstance(both[0], str) and isinstance(both[1], str):
                begun["arguments"] = both[0] + both[1]
            elif both[1]:
                begun["arguments"] = both[1]
        else:
            begun["content"] += part["content"]

    def _begun(self, part: Part) -> Part | None:
        """The part that this is a piece of: text goes on at the end, a call where it is named, or has no name."""
        last = self.parts[-1] if self.parts else None
        same = last is not None and last["type"] == part["type"]
        if part["type"] != "tool_call":
            return last if same and "content" in part else None
        if part["id"] is not None:
            return next((each for each in self.parts if each.get("id") == part["id"]), None)
        return last if same and part["name"] is None else None

    def message(self) -> Message:
        """The answer, as far as it has come."""
        return _answer((part for part in self.parts if part.get("content") != ""), self.reason)


def streamed(events: bytes) -> list[Message]:
    """The messages of a stream: server-sent events, or lines of JSON."""
    drafts: dict[object, Draft] = {}
    for line in events.splitlines():
        event = decoded(line.removeprefix(b"data:").strip())
        kind = event.get("type") or event.get("event_type")
        if kind in FINAL_RESPONSE or kind == "stream-end":  # these repeat the whole of it
            return answers({"finish_reason": event.get("finish_reason"), **fields(event.get("response"))})
        for which, piece, reason in _pieces(event, kind):
            draft = drafts.setdefault(which, Draft())
            for part in _said(piece):
                draft.add(part)
            draft.reason = draft.reason if reason is None else reason
    return [draft.message() for draft in drafts.values() if draft.parts or draft.reason is not None]


def _pieces(event: Mapping[str, Any], kind: object) -> Iterator[tuple[object, object, object]]:
    """What an event brings: to which answer, what, and why it ended if it did."""
    for n, each in enumerate(items(event.get("choices") or event.get("outputs"))):
        yield each.get("index", n), _first(each, "delta", "message", "text"), _first(each, *REASONS)
    for each in items(event.get("candidates")):
        yield each.get("index", 0), each.get("content"), each.get("finishReason")
    if kind == "function.call.delta":
        yield 0, event, None
    found = next((PIECES[key] for key in ((str(kind),) if kind is not None else event) if key in PIECES), None)
    if found is not None:
        said, ended = found
        yield 0, _at(event, said), _at(event, ended)


def _at(event: Mapping[str, Any], path: Path) -> Any:
    """The value at a path; `None` for no path, and where there is none."""
    node: Any = event if path else None
    for key in path:
        node = fields(node).get(key)
    return node
