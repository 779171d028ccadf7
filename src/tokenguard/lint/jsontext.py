"""Changes the source of a notebook's cell in the JSON text itself: every other byte stays, whatever wrote the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

_SPACE = re.compile(r"\s*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]+")


class Member(NamedTuple):
    """A value in a JSON text, with its key where it stands in an object: `text[start:end]`."""

    key: str
    start: int
    end: int


def sources(text: str, cell_type: str) -> list[Member]:
    """Where the `source` of each cell of a type stands in a notebook's text, which must be valid, in order."""
    found = []
    cells = next(m for m in _members(text, _skip(text, 0)) if m.key == "cells")
    for cell in _members(text, cells.start):
        parts = {m.key: m for m in _members(text, cell.start)}
        if json.loads(text[parts["cell_type"].start : parts["cell_type"].end]) == cell_type:
            found.append(parts["source"])
    return found


def replaced(text: str, place: Member, source: str) -> str:
    """The text with another source at `place`: a string or a list of lines, set out as the old one was."""
    old = text[place.start : place.end]

    def written(value: str) -> str:
        return json.dumps(value, ensure_ascii=text.isascii())

    if old.startswith('"'):
        return text[: place.start] + written(source) + text[place.end :]
    items = list(_members(text, place.start))
    same = {json.loads(raw): raw for raw in (text[i.start : i.end] for i in items)}
    lines = re.findall(r"[^\n]*\n|[^\n]+", source)
    opening = text[place.start + 1 : items[0].start]
    between = text[items[0].end : items[1].start] if len(items) > 1 else f",{opening or ' '}"
    closing = text[items[-1].end : place.end - 1]
    new = between.join(same.get(line) or written(line) for line in lines)
    return f"{text[: place.start]}[{opening}{new}{closing}]{text[place.end :]}"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _members(text: str, at: int) -> Iterator[Member]:
    """The members of the object, or the items of the list, that begins at `at`."""
    keyed = text[at] == "{"
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        key = ""
        if keyed:
            end = _end(text, at)
            key = json.loads(text[at:end])
            at = _skip(text, _skip(text, end) + 1)  # behind the colon
        end = _end(text, at)
        yield Member(key, at, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends."""
    if text[at] in "{[":
        last = at + 1
        for member in _members(text, at):
            last = member.end
        return _skip(text, last) + 1
    match = (_STRING if text[at] == '"' else _SCALAR).match(text, at)
    assert match is not None
    return match.end()
