"""Counting a whole request: what its messages, tools and settings will be billed as input.

`upper_bound_request` walks any JSON body and costs microseconds; `count_request` knows the wire formats and counts the
text. Both say how far to trust them, because no body holds all that is billed: pictures are priced by their size, and
what a server adds or remembers (a hosted tool's results, `previous_response_id`) is not in the request at all.

Constants without a link are fitted to recorded exchanges, some 380 of OpenAI and Anthropic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tokenguard.providers.words import Words
from tokenguard.tokens.text import count_text, is_exact, reasons, upper_bound

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

MEDIA = {"image_url": 765, "input_image": 765, "image": 1600}
"""Tokens assumed for a picture: OpenAI's for 1,024 pixels square, Anthropic's largest
(https://docs.anthropic.com/en/docs/build-with-claude/vision). Sound and files have no usual size and count nothing."""

NOT_TEXT = frozenset({*MEDIA, "input_audio", "audio", "file", "input_file", "base64", "url"})
"""`type`s of objects that hold, or point at, something that is not text."""
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
KEYED_MEDIA = frozenset({"inlineData", "inline_data", "fileData", "file_data", "image", "document", "video", "audio"})
"""Keys of Gemini's and Converse's parts that hold media; `image` and its like do where they have a `source`."""
OWN_TOOLS = frozenset({None, "function", "custom", "namespace"})
"""`type`s of tools that the request itself describes; others are hosted, and bring text of their own."""
HOSTED_TOOLS = frozenset(
    {
        *("googleSearch", "google_search", "googleSearchRetrieval", "enterpriseWebSearch", "googleMaps", "google_maps"),
        *("codeExecution", "code_execution", "urlContext", "url_context", "fileSearch", "file_search", "retrieval"),
        *("computerUse", "computer_use", "systemTool"),
    }
)
"""Keys of Gemini's and Converse's tools that their servers run."""
OWN_FORMATS = re.compile(r"gpt-oss|-search|-audio|-realtime")
"""OpenAI models whose requests are wrapped in more than the usual format."""

BOUND_PER_OBJECT = 8
BOUND_PER_REQUEST = 16
BOUND_TOOLS = 1000
BOUND_PER_ITEM = 4
"""Room in the upper bound for what formats add: around each object, once a request, for having tools, and for the
punctuation around each key and list item."""
REMEMBERS = frozenset(
    {
        *("previous_response_id", "conversation", "container", "web_search_options"),
        *("cachedContent", "promptVariables", "search_parameters"),  # Gemini, Bedrock, xAI
        *("previous_interaction_id", "cached_content", "agent", "agent_id", "conversation_id"),  # Google's, Mistral's
    }
)
"""Keys of a request that have the provider add text of its own."""
CACHE_MARKS = frozenset({"cache_control", "cachePoint"})
"""Keys with which a request marks what the provider shall cache (Anthropic, Bedrock)."""
TELLING = KEYED_MEDIA | CACHE_MARKS | {"type"}
"""Keys that tell of more than text."""
TOKEN_LISTS = frozenset({"input", "prompt"})
"""Where embeddings and legacy completions take tokens in place of text."""


class Count(NamedTuple):
    """A request's input tokens."""

    tokens: int
    exact: bool
    """Whether the provider will bill just this, as far as is known."""


class Bound(NamedTuple):
    """What a request's input tokens cannot pass."""

    tokens: int
    complete: bool
    """Whether all that is billed is in the body as text; if not, media, hosted tools or remembered text come on top."""
    marked: bool = False
    """Whether the body asks for a part of it to be written to the provider's prompt cache."""


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
    return Count(tally.tokens, tally.exact and not _has_more(body))


def estimate_request(words: Words, body: Mapping[str, Any], model: str | None = None) -> int:
    """The input tokens of a request body, as well as is known: `count_request` without its caveat."""
    return count_request(words, body, model).tokens


def upper_bound_request(body: Mapping[str, Any]) -> Bound:
    """What the input tokens of a request body cannot pass, in any wire format: the UTF-8 length of all it says.

    Media (base64, URLs, files) are left out and make it incomplete, as does text that only the server knows.
    """
    walk = _Walk()
    tools = body.get("tools") or body.get("functions") or body.get("toolConfig")
    tokens = BOUND_PER_REQUEST + (BOUND_TOOLS if tools else 0)
    for key, value in body.items():
        tokens += BOUND_PER_ITEM + (len(key) if key.isascii() else upper_bound(key))
        tokens += len(value) if type(value) is str and value.isascii() else walk(value, key in TOKEN_LISTS)
    marked = walk.marked or not CACHE_MARKS.isdisjoint(body)
    return Bound(tokens, walk.complete and not _has_more(body), marked)


class _Walk:
    """Adds up what a JSON value says, and notes what it passes."""

    __slots__ = ("complete", "marked")

    def __init__(self) -> None:
        self.complete = True
        self.marked = False

    def __call__(self, node: object, may_be_tokens: bool = False) -> int:
        kind = type(node)  # exact types first: asking an abstract class takes longer than all the rest
        if kind is str:
            return upper_bound(node)  # type: ignore[arg-type] # it is a string
        if kind is dict or (kind is not list and isinstance(node, Mapping)):
            return self._object(node)  # type: ignore[arg-type] # it is a mapping
        if kind is list or kind is tuple or isinstance(node, list | tuple):
            if may_be_tokens and set(map(type, node)) == {int}:  # type: ignore[call-overload]
                return len(node)  # type: ignore[arg-type]
            total = 0
            for child in node:  # type: ignore[attr-defined]
                total += BOUND_PER_ITEM + self(child, may_be_tokens)
            return total
        return upper_bound(node) if isinstance(node, str) else len(str(node))

    def _object(self, node: Mapping[object, object]) -> int:
        if not TELLING.isdisjoint(node):  # most objects have none of these keys
            self.marked = self.marked or not CACHE_MARKS.isdisjoint(node)
            if _kind(node) in NOT_TEXT or _holds_media(node):
                self.complete = False
                return BOUND_PER_OBJECT
        total = BOUND_PER_OBJECT
        for key, child in node.items():
            name = key if type(key) is str else str(key)
            total += BOUND_PER_ITEM + (len(name) if name.isascii() else upper_bound(name))
            total += len(child) if type(child) is str and child.isascii() else self(child)
        return total


def _has_more(body: Mapping[str, Any]) -> bool:
    """Whether the provider will bill input that the body does not hold."""
    reasoning = body.get("reasoning")
    tools = _tools(body)
    return (
        (not REMEMBERS.isdisjoint(body) and any(map(body.get, REMEMBERS)))
        or isinstance(body.get("prompt"), Mapping)  # a stored prompt; as text it is the legacy completions' own
        or (isinstance(reasoning, Mapping) and reasoning.get("mode") is not None)
        or (isinstance(tools, list | tuple) and any(_hosted(tool) for tool in tools))
    )


def _tools(body: Mapping[str, Any]) -> object:
    """The tools that a request offers, in any format."""
    config = body.get("toolConfig")  # Converse's; Gemini's, of that name, has no tools in it
    return body.get("tools") or body.get("functions") or (config.get("tools") if isinstance(config, Mapping) else None)


def _hosted(tool: object) -> bool:
    return isinstance(tool, Mapping) and (_kind(tool) not in OWN_TOOLS or not HOSTED_TOOLS.isdisjoint(tool))


def _holds_media(node: Mapping[Any, Any]) -> bool:
    """Whether a part of Gemini's or Converse's is a picture, sound or file."""
    for key in KEYED_MEDIA.intersection(node):
        held = node[key]
        if isinstance(held, Mapping) and ("source" in held or "Data" in key or "_data" in key):
            return True
    return False


def _kind(node: Mapping[Any, Any]) -> str | None:
    kind = node.get("type")
    return kind if isinstance(kind, str) else None


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
        if tools := _tools(body):
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
            if not texts and not _holds_media(value):
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
        kind = _kind(part)
        if kind in ("text", "input_text", "output_text") or (kind is None and isinstance(part.get("text"), str)):
            self.text(part.get("text"))
            return
        self.exact = False
        if _holds_media(part):
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
