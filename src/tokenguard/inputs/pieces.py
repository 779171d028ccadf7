"""A request taken apart, in any wire format: its texts, in the order in which a provider's prompt cache has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, Final, Generic, TypeVar

from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.messages import members, message, system_instructions
from tokenguard.providers.reading import fields
from tokenguard.tokens.bounds import CACHE_MARKS, REMEMBERS

SYSTEM_ROLES: Final = frozenset({"system", "developer"})
SPEAKERS: Final = SYSTEM_ROLES | {"user", "assistant"}
"""Whose messages of a text are just that; the result of a tool is something else."""
SETTINGS: Final = ("tool_choice", "thinking", "response_format")
"""What stands before the messages in what the model reads, and is no text of theirs."""
MEDIA_CHARS: Final = 3_000
"""Characters that a picture stands for, in sharing out the tokens of a request: some 765 tokens."""
TEXTUAL: Final = frozenset({"text", "reasoning", "tool_call", "tool_call_response"})
WORDS: Final = ("",)
"""The kinds of a message's only text."""
AUTOMATIC: Final = "cache_control"
"""Anthropic's mark for a whole request, at its top."""


T = TypeVar("T", bound=Sized)
"""A text, or what is kept in its place."""


class Piece(NamedTuple, Generic[T]):
    """One text of a request."""

    section: str
    """`system`, `tools`, `history`, `tool_results`, `last` or `media`."""
    place: str
    """`tools`, `system`, `settings` or `messages`: what a break is said to be in."""
    number: int
    """Which tool, or which message."""
    text: T
    name: str = ""
    """Of a tool."""


class Turn(NamedTuple, Generic[T]):
    """A message."""

    role: str
    kinds: tuple[str, ...]
    """Of each of its texts: `media`, `tool_results`, or empty for words."""
    texts: tuple[T, ...]
    lasting: bool | None
    """Whether a mark for the cache in it asks for an hour; `None` without a mark."""
    words: int
    """Characters of what it says itself."""
    results: int
    """Characters of tools' results."""
    media: int
    """How many pictures and the like it brings."""


class Head(NamedTuple, Generic[T]):
    """What a request says beside its conversation: the same in many of them."""

    pieces: tuple[Piece[T], ...]
    """Tools, system, settings."""
    texts: tuple[T, ...]
    """Of each of these."""
    tools: int
    """Characters of the tools' definitions."""
    system: int
    """Characters of the others."""
    marks: tuple[tuple[int, bool], ...]
    """The marks for the cache in it: up to which piece each, and whether for an hour."""
    lasting: bool | None
    """Whether a mark for the whole request asks for an hour; `None` without one."""
    remembered: bool
    """Whether the provider adds what it remembers, such as an earlier answer."""


class Request(Generic[T]):
    """A request taken apart: what it says beside its conversation, and that.

    `before` is the same with fewer turns, the first of these: what was added up of them is not added up again.
    """

    __slots__ = (
        "_asks",
        "_marks",
        "_pieces",
        "_sums",
        "head",
        "history",
        "last",
        "media",
        "results",
        "system",
        "texts",
        "turns",
    )

    def __init__(self, head: Head[T], turns: Sequence[Turn[T]], before: Request[T] | None = None) -> None:
        self.head = head
        self.turns = turns
        self._pieces: tuple[Piece[T], ...] | None = None
        if before is None:
            begun, texts, marks = 0, [*head.texts], head.marks
            system, history, results, media, asks = head.system, 0, 0, 0, -1
        else:
            begun, texts, marks = len(before.turns), [*before.texts], before._marks
            system, history, results, media, asks = before._sums
        for n, turn in enumerate(turns[begun:] if begun else turns, begun):
            role, _, its_texts, mark, words, its_results, its_media = turn
            texts += its_texts
            if mark is not None:
                marks = (*marks, (len(texts), mark))
            if role in SYSTEM_ROLES:
                system += words
            else:
                history += words
                if role == "user":
                    asks = n
            results += its_results
            media += its_media
        self._sums: tuple[int, int, int, int, int] = system, history, results, media, asks
        self._marks: tuple[tuple[int, bool], ...] = marks
        if asks < 0:
            asks = len(turns) - 1
        last = turns[asks].words if turns and turns[asks].role not in SYSTEM_ROLES else 0
        self._asks = asks
        """The place of the turn that is the last one of the user; of the last one, where there is none."""
        self.texts: list[T] = texts
        """All its texts, in the order in which a provider's prompt cache has them."""
        self.system = system
        """Characters of what the system says; so with the others."""
        self.history = history - last
        self.results = results
        self.last = last
        self.media = media
        """How many pictures and the like it brings."""

    @property
    def marks(self) -> tuple[tuple[int, bool], ...]:
        """The marks for the cache in it: how many of the texts stand before each, and whether for an hour."""
        if self.head.lasting is not None and self.turns and self.texts:
            return (*self._marks, (len(self.texts), self.head.lasting))
        return self._marks

    @property
    def marked(self) -> int | None:
        """How many of the texts stand before the last mark of what the provider shall cache; `None` without a mark."""
        return max((end for end, _ in self.marks), default=None)

    @property
    def lasting(self) -> bool:
        """Whether a mark asks for an hour."""
        return any(lasting for _, lasting in self.marks)

    @property
    def pieces(self) -> tuple[Piece[T], ...]:
        """All its texts, each with what it is: made when it is first asked for."""
        if self._pieces is None:
            found = [*self.head.pieces]
            for n, turn in enumerate(self.turns):
                if turn.role in SYSTEM_ROLES:
                    section, place = "system", "system"
                else:
                    section, place = "last" if n == self._asks else "history", "messages"
                for what, text in zip(turn.kinds, turn.texts, strict=True):
                    found.append(Piece(what or section, place, n, text))
            self._pieces = (*found,)
        return self._pieces


_new: Final = tuple.__new__


class Plain(Generic[T]):
    """Reads the members of a request; `text` says what is to stand for a text."""

    def text(self, text: str) -> T:
        """What stands for a text."""
        raise NotImplementedError

    def turn(self, member: object) -> Turn[T]:
        """A message."""
        if type(member) is dict and len(member) == 2:
            role, content = member.get("role"), member.get("content")
            if type(role) is str and type(content) is str:
                return self.words(role, content)
        return self._turn(member)

    def words(self, role: str, content: str) -> Turn[T]:
        """A message of a text, as nearly all are: most often there is nothing more to find."""
        if role not in SPEAKERS or not content:
            return self._turn({"role": role, "content": content})
        return _new(Turn, (role, WORDS, (self.text(content),), None, len(content), 0, 0))

    def _turn(self, member: object) -> Turn[T]:
        read = message(member)
        marks = [*_marks_in(fields(member).get("content"))]
        kinds, texts, words, results = [], [], 0, 0
        for part in read["parts"]:
            kind, text = self._part(part)
            kinds.append(kind)
            texts.append(text)
            if not kind:
                words += len(text)
            elif kind == "tool_results":
                results += len(text)
        lasting = any(map(_lasts, marks)) if marks else None
        return _new(Turn, (read["role"], (*kinds,), (*texts,), lasting, words, results, kinds.count("media")))

    def tool(self, tool: Mapping[str, Any]) -> tuple[str, T]:
        """A tool's name, and its definition."""
        return _name(tool), self.text(_json(tool))

    def _part(self, part: Mapping[str, Any]) -> tuple[str, T]:
        kind = part["type"]
        if kind not in TEXTUAL:
            return "media", self.text(f"<{kind}>")
        return "tool_results" if kind == "tool_call_response" else "", self.text(_text(part))


class Texts(Plain[str]):
    """Keeps texts as they are."""

    def text(self, text: str) -> str:
        """The text."""
        return text


TEXTS: Final = Texts()


def taken_apart(body: Mapping[str, Any], read: Plain[Any] = TEXTS) -> Request[Any]:
    """The pieces of a request: tools, system, settings, messages."""
    return Request(head_of(body, read), [read.turn(member) for member in members(body)])


def head_of(body: Mapping[str, Any], read: Plain[T]) -> Head[T]:
    """What a request says beside its conversation."""
    found = list(_tools(body, read))
    ends = {"tools": len(found)}
    found.extend(Piece("system", "system", 0, read.text(_text(part))) for part in system_instructions(body))
    ends["system"] = len(found)
    if settings := {key: body[key] for key in SETTINGS if body.get(key) is not None}:
        found.append(Piece("system", "settings", 0, read.text(_json(settings))))
    given = {"tools": body.get("tools") or fields(body.get("toolConfig")).get("tools"), "system": body.get("system")}
    marks = tuple((ends[key], _lasts(mark)) for key, value in given.items() for mark in _marks_in(value))
    remembered = not REMEMBERS.isdisjoint(body) and any(map(body.get, REMEMBERS))
    texts = tuple(piece.text for piece in found)
    sizes = [*map(len, texts)]
    tools = sum(sizes[: ends["tools"]])
    lasting = _lasts(body[AUTOMATIC]) if AUTOMATIC in body else None
    return Head((*found,), texts, tools, sum(sizes) - tools, marks, lasting, remembered)


def _text(part: Mapping[str, Any]) -> str:
    """What a part says, as text."""
    if "content" in part:
        return str(part["content"])
    said = part.get("response", part.get("arguments"))
    words = said if isinstance(said, str) else _json(said)
    return f"{part.get('name') or ''}{words}"


_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
"""Not `json.dumps`, which makes an encoder for each text."""


def tools_of(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The tools that a request offers, one by one, as they stand in it."""
    config = fields(body.get("toolConfig"))
    given = body.get("tools") or body.get("functions") or config.get("tools")
    for tool in given if isinstance(given, (list, tuple)) else ():
        its = fields(tool)
        declared = its.get("functionDeclarations") or its.get("function_declarations")
        if isinstance(declared, (list, tuple)):
            yield from map(fields, declared)
        elif its:
            yield its


def _tools(body: Mapping[str, Any], read: Plain[T]) -> Iterator[Piece[T]]:
    for n, tool in enumerate(tools_of(body)):
        if not CACHE_MARKS.isdisjoint(tool):
            tool = {key: value for key, value in tool.items() if key not in CACHE_MARKS}
        if tool:  # else it was Bedrock's mark alone
            name, text = read.tool(tool)
            yield Piece("tools", "tools", n, text, name)


def _name(tool: Mapping[str, Any]) -> str:
    named = fields(tool.get("function")) or fields(tool.get("toolSpec")) or tool
    return str(named.get("name") or named.get("type") or "?")


def _lasts(mark: object) -> bool:
    return fields(mark).get("ttl") == "1h"


def _marks_in(blocks: object) -> Iterator[object]:
    for block in blocks if isinstance(blocks, (list, tuple)) else ():
        its = fields(block)
        if not CACHE_MARKS.isdisjoint(its):
            yield next(its[mark] for mark in CACHE_MARKS if mark in its)
