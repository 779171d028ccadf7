"""Counting a whole request: what its messages, tools and settings will be billed as input.

`bounds.upper_bound_request` takes any JSON body and costs microseconds; `count_request` knows the wire formats and
counts the text. Both say how far to trust them, because no body holds all that is billed: pictures are priced by their
size, and what a server adds or remembers (a hosted tool's results, `previous_response_id`) is not in the request.

Constants without a link are fitted to recorded exchanges, some 380 of OpenAI and Anthropic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.words import Words
from tokenguard.tokens.bounds import MEDIA, NOT_TEXT, has_more, holds_media, kind_of, said_by_tools, tools_of
from tokenguard.tokens.text import count_text, is_exact, reasons

PER_MESSAGE = 3
PER_NAME = 1
PRIMING = 3
"""What OpenAI's chat format adds around a message, to its author's name, and once, to begin the answer. Source:
OpenAI's cookbook, "How to count tokens with tiktoken"."""
PRIMING_REASONING = 2
CHANNEL = 2
"""Reasoning models: what begins the answer, and the channel named in each message of the assistant."""
OPENAI_TOOLS = 0.65
"""Tokens of tool schemas, for one of their compact JSON: OpenAI rewrites them in a terser notation."""
ANTHROPIC_TOOLS = 1.15
ANTHROPIC_TOOLS_PREAMBLE = 500
NOVA_TOOLS_PREAMBLE = 850
"""Tokens of tool schemas for one of their compact JSON, and the system prompt that having tools brings along."""

OPAQUE = frozenset(
    {
        "id",
        "type",
        "status",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "encrypted_content",
        "signature",
        "cache_control",
        "thoughtSignature",
        "thought_signature",
        "toolUseId",
        "cachePoint",
        "mimeType",
    }
)
"""Keys whose values the model does not read as text."""
OWN_FORMATS = lazy(r"gpt-oss|-search|-audio|-realtime")
"""OpenAI models whose requests are wrapped in more than the usual format."""


class Count(NamedTuple):
    """A request's input tokens."""

    tokens: int
    exact: bool
    """Whether the provider will bill just this, as far as is known."""


def count_request(words: Words, body: Mapping[str, Any], model: str | None = None) -> Count:
    """The input tokens of a request body, whose wire format keeps its text where `words` says (`Api.words`).

    `model` defaults to the body's own. Exact for plain text to OpenAI's models; tools, structured outputs, media and
    other providers are estimates. Odd bodies do not raise: what is not understood is counted as its JSON text.
    """
    name = model or body.get("model")
    tally = _Tally(name if isinstance(name, str) else None)
    if words.texts:
        tally.inputs([body.get(key) for key in words.texts])
    else:
        tally.conversation(words, body)
    return Count(tally.tokens, tally.exact and not has_more(body, said_by_tools(body)))


def estimate_request(words: Words, body: Mapping[str, Any], model: str | None = None) -> int:
    """The input tokens of a request body, as well as is known: `count_request` without its caveat."""
    return count_request(words, body, model).tokens


_TEXTS = frozenset({"text", "value", "content", "parts", "message", "prompt"})
"""The keys of objects in which embeddings and completions keep their text."""


class _Tally:
    """The sum so far, and whether it is still exact."""

    def __init__(self, model: str | None) -> None:
        self.model = model
        self.tokens = 0
        self.exact = is_exact(model) and not OWN_FORMATS.search(model or "")
        self.reasons = reasons(model)

    def conversation(self, words: Words, body: Mapping[str, Any]) -> None:
        """Messages, instructions, tools and the form of the answer."""
        self.tokens += PRIMING_REASONING if self.reasons else PRIMING
        if (instructions := words.instructions_of(body)) is not None:
            self.message(instructions)
        for message in words.turns(body):
            self.message(message)
        if tools := tools_of(body):
            anthropic = words.tools == "anthropic" or "anthropic." in (self.model or "")
            self.described(tools, ANTHROPIC_TOOLS if anthropic else OPENAI_TOOLS)
            self.tokens += ANTHROPIC_TOOLS_PREAMBLE if anthropic else 0
            self.tokens += NOVA_TOOLS_PREAMBLE if "amazon.nova" in (self.model or "") else 0
        for key in ("response_format", "text", "output_config", "outputConfig"):  # Gemini bills no schema of its own
            if (wanted := body.get(key)) and wanted not in ({"type": "text"}, {"format": {"type": "text"}}):
                self.described(wanted)

    def inputs(self, value: object) -> None:
        """A text, a token, or a list of either or of such lists: what embeddings and legacy completions take.

        Of an object, the texts in it.
        """
        if isinstance(value, str):
            self.text(value)
        elif isinstance(value, int):
            self.tokens += 1
        elif isinstance(value, Mapping):
            texts = _TEXTS.intersection(value)
            for key in texts:
                self.inputs(value[key])
            if not texts and not holds_media(value):
                self.described(value)
        elif isinstance(value, Iterable):
            for member in value:
                self.inputs(member)

    def message(self, message: object) -> None:
        """A message of any format, or another item of a Responses API conversation."""
        if not isinstance(message, Mapping):
            self.described(message)
            return
        self.tokens += PER_MESSAGE
        if self.reasons and message.get("role") == "assistant":
            self.tokens += CHANNEL
        for key, value in message.items():
            if key in ("content", "parts"):
                self.content(value)
            elif key == "role" and isinstance(value, str):
                self.text(value)
            elif key == "name" and isinstance(value, str):
                self.text(value)
                self.tokens += PER_NAME
            elif value and key not in ("type", "id", "status"):
                self.described({key: value} if key in OPAQUE else value)

    def content(self, content: object) -> None:
        """A text, or a list of parts."""
        for part in content if isinstance(content, list | tuple) else (content,):
            if isinstance(part, Mapping):
                self.part(part)
            else:
                self.text(part)

    def part(self, part: Mapping[str, Any]) -> None:
        """A part of a message: text, a picture, a tool's call or its result."""
        kind = kind_of(part)
        if kind in ("text", "input_text", "output_text") or (kind is None and isinstance(part.get("text"), str)):
            self.text(part.get("text"))
            return
        self.exact = False
        if holds_media(part):
            self.tokens += MEDIA["image"]
        elif kind in MEDIA:
            self.tokens += MEDIA[kind]
        elif kind == "tool_result":
            self.content(part.get("content"))
        elif kind == "document" and isinstance(source := part.get("source"), Mapping):
            if source.get("type") == "text":
                self.text(source.get("data"))
            self.content(source.get("content"))
        elif kind not in NOT_TEXT:
            self.described(part)

    def text(self, text: object) -> None:
        """A text as it is; anything else counts nothing."""
        if isinstance(text, str):
            self.tokens += count_text(text, self.model)

    def described(self, value: object, rate: float = 1.0) -> None:
        """What the provider words in a way it does not publish: so many tokens for each of its compact JSON."""
        self.exact = False
        words = json.dumps(_readable(value), ensure_ascii=False, separators=(",", ":"), default=str)
        self.tokens += round(rate * count_text(words, self.model))


def _readable(value: object) -> object:
    """`value` without what the model does not read."""
    if isinstance(value, Mapping):
        kept = {key: child for key, child in value.items() if key not in OPAQUE or isinstance(child, Mapping)}
        return {str(key): _readable(child) for key, child in kept.items()}
    if isinstance(value, list | tuple):
        return [_readable(child) for child in value]
    return value
