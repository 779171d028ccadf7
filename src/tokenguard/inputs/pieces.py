"""A request taken apart, in any wire format: its texts, in the order in which a provider's prompt cache has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
AUTOMATIC: Final = "cache_control"
"""Anthropic's mark for a whole request, at its top."""


T = TypeVar("T")
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


class Request(NamedTuple, Generic[T]):
    """A request taken apart."""

    pieces: tuple[Piece[T], ...]
    marked: int | None
    """How many of the pieces stand before the last mark of what the provider shall cache; `None` without a mark."""
    lasting: bool
    """Whether a mark asks for an hour."""
    remembered: bool
    """Whether the provider adds what it remembers, such as an earlier answer."""


class Said(NamedTuple, Generic[T]):
    """One text of a message, or a tool's definition."""

    what: str
    """`media`, `tool_results`, or empty for words; of a tool, its name."""
    text: T


class Turn(NamedTuple, Generic[T]):
    """A message."""

    role: str
    said: tuple[Said[T], ...]
    lasting: bool | None = None
    """Whether a mark for the cache in it asks for an hour; `None` without a mark."""


class Plain(Generic[T]):
    """Reads the members of a request; `text` says what is to stand for a text."""

    def text(self, text: str) -> T:
        """What stands for a text."""
        raise NotImplementedError

    def turn(self, member: object) -> Turn[T]:
        """A message."""
        if type(member) is dict and len(member) == 2:
            role, content = member.get("role"), member.get("content")
            if type(role) is str and role in SPEAKERS and type(content) is str and content:
                return Turn(role, (Said("", self.text(content)),))  # as nearly all are: there is nothing more to find
        read = message(member)
        marks = [*_marks_in(fields(member).get("content"))]
        return Turn(read["role"], tuple(map(self._part, read["parts"])), any(map(_lasts, marks)) if marks else None)

    def tool(self, tool: Mapping[str, Any]) -> Said[T]:
        """A tool."""
        return Said(_name(tool), self.text(_json(tool)))

    def _part(self, part: Mapping[str, Any]) -> Said[T]:
        kind = part["type"]
        if kind not in TEXTUAL:
            return Said("media", self.text(f"<{kind}>"))
        return Said("tool_results" if kind == "tool_call_response" else "", self.text(_text(part)))


class Texts(Plain[str]):
    """Keeps texts as they are."""

    def text(self, text: str) -> str:
        """The text."""
        return text


TEXTS: Final = Texts()
_new: Final = tuple.__new__


def taken_apart(body: Mapping[str, Any], read: Plain[Any] = TEXTS) -> Request[Any]:
    """The pieces of a request: tools, system, settings, messages."""
    found = list(_tools(body, read))
    ends = {"tools": len(found)}
    found.extend(Piece("system", "system", 0, read.text(_text(part))) for part in system_instructions(body))
    ends["system"] = len(found)
    if settings := {key: body[key] for key in SETTINGS if body.get(key) is not None}:
        found.append(Piece("system", "settings", 0, read.text(_json(settings))))
    turns = [read.turn(member) for member in members(body)]
    last = next((n for n in range(len(turns) - 1, -1, -1) if turns[n].role == "user"), len(turns) - 1)
    marks: list[tuple[int, bool]] = []
    for n, (role, said, lasting) in enumerate(turns):
        if role in SYSTEM_ROLES:
            section, place = "system", "system"
        else:
            section, place = "last" if n == last else "history", "messages"
        for what, text in said:
            found.append(_new(Piece, (what or section, place, n, text, "")))
        if lasting is not None:
            marks.append((len(found), lasting))
    marks += _marks_around(body, ends, len(found) if turns else 0)
    remembered = not REMEMBERS.isdisjoint(body) and any(map(body.get, REMEMBERS))
    marked = max(end for end, _ in marks) if marks else None
    return Request(tuple(found), marked, any(lasting for _, lasting in marks), remembered)


def _text(part: Mapping[str, Any]) -> str:
    """What a part says, as text."""
    if "content" in part:
        return str(part["content"])
    said = part.get("response", part.get("arguments"))
    words = said if isinstance(said, str) else _json(said)
    return f"{part.get('name') or ''}{words}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


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


def _marks_around(body: Mapping[str, Any], ends: Mapping[str, int], whole: int) -> Iterator[tuple[int, bool]]:
    """The marks for the cache that are not in a message: up to which piece each, and whether for an hour."""
    if AUTOMATIC in body and whole:
        yield whole, _lasts(body[AUTOMATIC])
    for key, value in (
        ("tools", body.get("tools") or fields(body.get("toolConfig")).get("tools")),
        ("system", body.get("system")),
    ):
        for mark in _marks_in(value):
            yield ends[key], _lasts(mark)


def _lasts(mark: object) -> bool:
    return fields(mark).get("ttl") == "1h"


def _marks_in(blocks: object) -> Iterator[object]:
    for block in blocks if isinstance(blocks, (list, tuple)) else ():
        its = fields(block)
        if not CACHE_MARKS.isdisjoint(its):
            yield next(its[mark] for mark in CACHE_MARKS if mark in its)
