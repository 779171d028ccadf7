"""What the input tokens of a request cannot pass, found without counting: the bytes of all it says.

Most of a long request need not be walked for it. `marshal` writes all of it down in C, and what that takes
tells the bytes of plain messages; tools are nearly always those of the call before.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.hashes import marshalled
from tokenguard.tokens.text import upper_bound

MEDIA = {"image_url": 765, "input_image": 765, "image": 1600}
"""Tokens assumed for a picture: OpenAI's for 1,024 pixels square, Anthropic's largest
(https://docs.anthropic.com/en/docs/build-with-claude/vision). Sound and files have no usual size and count nothing."""

NOT_TEXT = frozenset({*MEDIA, "input_audio", "audio", "file", "input_file", "base64", "url"})
"""`type`s of objects that hold, or point at, something that is not text."""
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
        "prompt_id",  # Portkey's
    }
)
"""Keys of a request that have the provider add text of its own."""
MAY_TELL_MORE = REMEMBERS | {"prompt", "reasoning"}
"""Keys of a request without which it tells all that is billed, but for hosted tools."""
CACHE_MARKS = frozenset({"cache_control", "cachePoint"})
"""Keys with which a request marks what the provider shall cache (Anthropic, Bedrock)."""
TELLING = KEYED_MEDIA | CACHE_MARKS | {"type"}
"""Keys that tell of more than text."""
TOKEN_LISTS = frozenset({"input", "prompt"})
"""Where embeddings and legacy completions take tokens in place of text."""


SHORT = 4_096
"""Bytes of a request whose messages are walked in less time than it takes to do without."""
REMEMBERED_TOOLS = 16
"""Lists of tools of which is remembered what they say."""
_content, _role = itemgetter("content"), itemgetter("role")
PLAIN = frozenset({"role", "content", "name", "tool_call_id"})
"""The keys of a message that is nothing but text."""
CALLS = "tool_calls"
"""The key of a message that is more."""

AROUND_TEXT = BOUND_PER_ITEM + BOUND_PER_OBJECT + sum(BOUND_PER_ITEM + len(key) for key in ("role", "content"))
"""Room around a message's role and text."""


SCALARS = frozenset((int, float, bool, type(None)))


class Bound(NamedTuple):
    """What a request's input tokens cannot pass."""

    tokens: int
    complete: bool
    """Whether all that is billed is in the body as text; if not, media, hosted tools or remembered text come on top."""
    marked: bool = False
    """Whether the body asks for a part of it to be written to the provider's prompt cache."""


def upper_bound_request(
    body: Mapping[str, Any],
    size: int | None = None,
    said: tuple[str, int] | None = None,
    written: Mapping[str, bytes] | None = None,
) -> Bound:
    """What the input tokens of a request body cannot pass, in any wire format: the UTF-8 length of all it says.

    Media (base64, URLs, files) are left out and make it incomplete, as does text that only the server knows. `size` is
    the length of the body as `marshal` (version 2) writes it, where that is known already: it saves the walk over
    messages that are plain text. So does `said`: under which key there are messages that are nothing but a role and a
    text, and how many bytes these are together. `written` are arguments as `marshal` writes them, where that is known.
    """
    walk = _Walk()
    tools = said_by_tools(body, written)
    if size is not None and size < SHORT:
        size = None
    offers = "" if tools is NO_TOOLS else "tools" if body.get("tools") else "functions" if body.get("functions") else ""
    tokens = said_by_keys(tuple(body)) + (BOUND_TOOLS if offers or body.get("toolConfig") else 0)
    messages = None if size is None else _said_by_messages(body, size, offers, tools, walk)
    texts, told = said or (None, 0)
    for key, value in body.items():
        if key == texts:
            tokens += told + len(value) * AROUND_TEXT
        elif offers and key == offers:
            tokens += tools.tokens
        elif messages is not None and key == "messages":
            tokens += messages
        else:
            tokens += len(value) if type(value) is str and value.isascii() else walk(value, key in TOKEN_LISTS)
    marked = walk.marked or tools.marked or not CACHE_MARKS.isdisjoint(body)
    return Bound(tokens, walk.complete and tools.complete and not has_more(body, tools), marked)


@functools.lru_cache(maxsize=1024)
def said_by_keys(keys: tuple[str, ...]) -> int:
    """The room for a request and what its own keys say."""
    return BOUND_PER_REQUEST + sum(BOUND_PER_ITEM + upper_bound(key) for key in keys)


class Said(NamedTuple):
    """What a request's tools say."""

    tokens: int = 0
    complete: bool = True
    marked: bool = False
    hosted: bool = False
    """Whether a tool is the server's, and brings text of its own."""
    size: int | None = None
    """Bytes that `marshal` takes for them; `None` where it does not take them."""


NO_TOOLS = Said()


_remembered: tuple[tuple[bytes, Said], ...] = ()
"""Lists of tools that were walked, as `marshal` writes them, with what they say; the last ones first."""


def said_by_tools(body: Mapping[str, Any], written: Mapping[str, bytes] | None = None) -> Said:
    """What the tools say that a request offers, in any format.

    A list that is equal to one before says the same: to compare their bytes takes next to nothing.
    """
    global _remembered
    tools = tools_of(body)
    if not tools:
        return NO_TOOLS
    its = None if written is None else written.get("tools" if body.get("tools") else "functions")
    if its is None:
        try:
            its = marshalled(tools)
        except ValueError:
            return _walked(tools, None)
    known = _remembered
    for each in known:
        if each[0] == its:
            return each[1]
    said = _walked(tools, len(its))
    _remembered = ((its, said), *known[: REMEMBERED_TOOLS - 1])
    return said


def _walked(tools: object, size: int | None) -> Said:
    walk = _Walk()
    tokens = walk(tools)
    hosted = isinstance(tools, list | tuple) and any(map(_hosted, tools))
    return Said(tokens, walk.complete, walk.marked, hosted, size)


def _said_by_messages(body: Mapping[str, Any], size: int, offers: str, tools: Said, walk: _Walk) -> int | None:
    """What `_Walk` would find in the messages, by the bytes that they take; `None` where they are more than text.

    `marshal` writes a list and a text with five bytes before them, and a mapping with two around it. Calls of tools
    among them are walked.
    """
    messages = body.get("messages")
    if type(messages) is not list or (offers and tools.size is None):
        return None
    try:
        # In C, for a message each: its keys are some of these, and what may be no text is.
        more = set().union(*messages) - PLAIN
        calls = [message for message in messages if CALLS in message] if more == {CALLS} else []
        texts = [message for message in messages if CALLS not in message] if calls else messages
        if (more and not calls) or set(map(type, map(_content, texts))) != {str} or not _says_text(texts):
            return None
    except (KeyError, TypeError):
        return None
    other = {key: value for key, value in body.items() if key not in ("messages", offers)}
    size -= len(marshalled(other)) + 5 + len("messages") + 5
    if offers:
        size -= 5 + len(offers) + (tools.size or 0)
    if calls:
        size -= len(marshalled(calls)) - 5
    size += len(texts) * (BOUND_PER_ITEM + BOUND_PER_OBJECT - 2) + sum(map(len, texts)) * (BOUND_PER_ITEM - 10)
    return size + (walk(calls) if calls else 0)


def _says_text(texts: list[dict[str, Any]]) -> bool:
    """Whether what stands beside the content of messages is text: nearly always a role, one of a few."""
    if set(map(len, texts)) == {2}:
        return set(map(type, set(map(_role, texts)))) == {str}
    return set(map(type, chain.from_iterable(map(dict.values, texts)))) == {str}


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
        if kind in SCALARS:
            return len(str(node))
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
            if kind_of(node) in NOT_TEXT or holds_media(node):
                self.complete = False
                return BOUND_PER_OBJECT
        total = BOUND_PER_OBJECT
        for key, child in node.items():
            name = key if type(key) is str else str(key)
            total += BOUND_PER_ITEM + (len(name) if name.isascii() else upper_bound(name))
            total += len(child) if type(child) is str and child.isascii() else self(child)
        return total


def has_more(body: Mapping[str, Any], tools: Said) -> bool:
    """Whether the provider will bill input that the body does not hold."""
    if tools.hosted:
        return True
    if MAY_TELL_MORE.isdisjoint(body):  # as nearly always
        return False
    reasoning = body.get("reasoning")
    return (
        any(map(body.get, REMEMBERS))
        or isinstance(body.get("prompt"), Mapping)  # a stored prompt; as text it is the legacy completions' own
        or (isinstance(reasoning, Mapping) and reasoning.get("mode") is not None)
    )


def remembered(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what the provider holds, and adds to a request: an earlier response, a conversation, a saved prompt.

    >>> remembered({"input": "And?", "previous_response_id": "resp_1", "prompt": {"id": "pmpt_1"}})
    ('pmpt_1', 'resp_1')
    """
    if MAY_TELL_MORE.isdisjoint(body):
        return ()
    named = [body[key] for key in sorted(REMEMBERS.intersection(body))]
    if isinstance(body.get("prompt"), Mapping):
        named.insert(0, body["prompt"])
    names = (each.get("id") if isinstance(each, Mapping) else each for each in named)
    return tuple([name for name in names if isinstance(name, str)])


def tools_of(body: Mapping[str, Any]) -> object:
    """The tools that a request offers, in any format."""
    if offered := body.get("tools") or body.get("functions"):
        return offered
    config = body.get("toolConfig")  # Converse's; Gemini's, of that name, has no tools in it
    return config.get("tools") if config is not None and isinstance(config, Mapping) else None


def _hosted(tool: object) -> bool:
    return isinstance(tool, Mapping) and (kind_of(tool) not in OWN_TOOLS or not HOSTED_TOOLS.isdisjoint(tool))


def holds_media(node: Mapping[Any, Any]) -> bool:
    """Whether a part of Gemini's or Converse's is a picture, sound or file."""
    for key in KEYED_MEDIA.intersection(node):
        held = node[key]
        if isinstance(held, Mapping) and ("source" in held or "Data" in key or "_data" in key):
            return True
    return False


def kind_of(node: Mapping[Any, Any]) -> str | None:
    """The `type` of an object, where it is a text."""
    kind = node.get("type")
    return kind if isinstance(kind, str) else None
