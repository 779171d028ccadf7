"""Changes the source of a notebook's cell in the JSON text itself: every other byte stays, whatever wrote the file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from itertools import accumulate, pairwise

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.sources import shared

_SPACE = re.compile(r"\s*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CHAR = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[^\\]", re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]+")


class Member(NamedTuple):
    """A value in a JSON text, with its key where it stands in an object: `text[start:end]`."""

    key: str
    start: int
    end: int


class Char(NamedTuple):
    """A character of a source, how it is written, and what ends one string and begins the next before it."""

    value: str
    raw: str
    gap: str = ""


def sources(text: str, cell_type: str) -> list[Member]:
    """Where the `source` of each cell of a type stands in a notebook's text, which must be valid, in order."""
    found = []
    cells = next(m for m in _members(text, _skip(text, 0)) if m.key == "cells")
    for cell in _members(text, cells.start):
        parts = {m.key: m for m in _members(text, cell.start)}
        if json.loads(text[parts["cell_type"].start : parts["cell_type"].end]) == cell_type:
            found.append(parts["source"])
    return found


def line_of(text: str, place: Member, line: int) -> int:
    """The line of the text, from 1, in which a line of the source at `place` is written."""
    begin = place.start
    if text[begin] == "[":
        behind = 0  # lines of the source that end before an item
        for item in _members(text, place.start):
            if behind >= line:
                break
            begin, behind = item.start, behind + json.loads(text[item.start : item.end]).count("\n")
            if behind >= line:
                break
    return text.count("\n", 0, begin) + 1


def replaced(text: str, place: Member, source: str) -> str:
    """The text with another source at `place`, a string or a list of strings: what stays the same stays as written."""
    opening, chars, closing = _chars(text, place)
    breaks = [char.gap for char in chars if char.gap]
    lined = text[place.start] == "[" and all(b.gap for a, b in pairwise(chars) if _new_line(a, b))
    usual = (breaks or [f'",{opening[1:-1] or " "}"'])[0] if lined else ""
    for start, end, new in reversed(list(_edits("".join(char.value for char in chars), source))):
        added = [Char(value, json.dumps(value, ensure_ascii=text.isascii())[1:-1]) for value in new]
        chars[start:end] = added
        for at in range(max(start, 1), min(start + len(added) + 1, len(chars))):
            if lined or at < start + len(added):
                gap = (chars[at].gap or usual) if _new_line(chars[at - 1], chars[at]) else ""
                chars[at] = chars[at]._replace(gap=gap)
    written = "".join(char.gap + char.raw if at else char.raw for at, char in enumerate(chars))
    return f"{text[: place.start]}{opening}{written}{closing}{text[place.end :]}"


def _chars(text: str, place: Member) -> tuple[str, list[Char], str]:
    """The characters of a source, and what is written before and behind them."""
    items = list(_members(text, place.start)) if text[place.start] == "[" else [place]
    chars: list[Char] = []
    opening, gap, at = "", "", place.start
    for item in items:
        gap += text[at : item.start + 1]
        at = item.end - 1
        for match in _CHAR.finditer(text, item.start + 1, at):
            raw = match[0]
            if not chars:
                opening, gap = gap, ""
            chars.append(Char(json.loads(f'"{raw}"') if raw[0] == "\\" else raw, raw, gap))
            gap = ""
    return opening, chars, gap + text[at : place.end]


def _edits(old: str, new: str) -> Iterator[tuple[int, int, str]]:
    """The parts of `old` that are not as they were, by their place in it, each with the new text; by lines."""
    before, after = (re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text) for text in (old, new))
    starts = [0, *accumulate(map(len, before))]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            gone, come = "".join(before[i:j]), "".join(after[k:m])
            head = shared(gone, come)
            tail = shared(gone[head:][::-1], come[head:][::-1])
            yield starts[i] + head, starts[j] - tail, come[head : len(come) - tail]


def _new_line(one: Char, other: Char) -> bool:
    """Whether a line begins between two neighbours."""
    return one.value == "\n" or (one.value == "\r" and other.value != "\n")


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
