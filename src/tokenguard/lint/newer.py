"""Syntax newer than the interpreter, read with libcst's grammar, which is the newest there is.

What this interpreter lacks is written over in the older way, byte for byte of the same length, so that every place
stays what it was: type parameters and aliases (PEP 695, 696), any quotes in f-strings (701), template strings (750),
`except A, B` without parentheses (758), and lazy imports (810).
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tokenguard.lint.patterns import TEMPLATE
from tokenguard.lint.sources import lines_of

_HINTS = re.compile(
    rb"^[ \t]*type[ \t]+\w|^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+\w+[ \t]*\[|^[ \t]*except\b\*?[^:(\n]*,"
    rb"|\blazy[ \t\\]+(?:from|import)\b|"
    + TEMPLATE.pattern
    + (rb"|\b(?:[fF][rR]?|[rR][fF])[\"']" if sys.version_info < (3, 12) else b""),
    re.MULTILINE,
)


_BOM = b"\xef\xbb\xbf"


def lowered(source: bytes) -> bytes | None:
    """The source in an older grammar, of the same length; None where it is valid in no grammar.

    It is as good as the source for looking at calls and names; an `except` keeps its first type only. Statements at the
    left edge are read one by one, as most need nothing. Where such an edge is within a text, all is read as one.
    """
    if not _HINTS.search(source):
        return None
    if source.startswith(_BOM):
        older = lowered(source[len(_BOM) :])
        return older and _BOM + older
    try:
        source.decode()  # spans count the bytes of UTF-8
    except UnicodeDecodeError:
        return None
    parts = [_of_now(part) for part in _statements(source)]
    older = b"".join(part for part in parts if part is not None)
    return older if None not in parts and _parses(older) else _written_over(source)


def _statements(source: bytes) -> Iterator[bytes]:
    lines = source.splitlines(keepends=True)
    edges = _edges(lines)
    starts = [0, *(edge for above, edge in pairwise(edges) if lines[above][:1] != b"@"), len(lines)]
    return (b"".join(lines[start:end]) for start, end in pairwise(starts))


def _edges(lines: list[bytes]) -> list[int]:
    """The lines that begin a statement at the left edge."""
    return [number for number, line in enumerate(lines) if _BEGINS.match(line)]


def _of_now(statement: bytes) -> bytes | None:
    return statement if not _HINTS.search(statement) or _parses(statement) else _written_over(statement)


def _parses(source: bytes) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def _written_over(source: bytes) -> bytes | None:
    import libcst as cst
    from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

    try:
        wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
        spans = wrapper.resolve(ByteSpanPositionProvider)
    except Exception:
        return None
    at = {node: (span.start, span.start + span.length) for node, span in spans.items()}
    text = bytearray(source)
    for node in _nodes(wrapper.module):
        _write_over(text, node, at)
    return bytes(text)


def complaint(source: bytes, error: SyntaxError) -> SyntaxError:
    """What is wrong with a source that is valid in no grammar: the interpreter's `error` may be about newer syntax.

    It stops at the first syntax that it does not know. Where the newer grammar stops at another line, that is the one,
    with the interpreter's words for it if it has any.
    """
    at = error.lineno or 0
    lines = source.splitlines(keepends=True)
    unknown = error.msg.startswith("f-string") or (0 < at <= len(lines) and _HINTS.search(lines[at - 1]))
    line = _broken_line(source.removeprefix(_BOM)) if unknown and _OPEN not in error.msg else None
    if line is None or line == at:
        return error
    begins = _edges(lines)
    below = next((number for number in begins if number >= line), len(lines))
    for above in [number for number in begins if number < line][: -_ABOVE - 1 : -1]:
        try:
            ast.parse(b"\n" * above + b"".join(lines[above:below]))
        except SyntaxError as other:
            if other.lineno == line or _OPEN in other.msg:
                return other
            break
        except ValueError:
            break
    return SyntaxError("invalid syntax", (None, line, 1, None))


_BEGINS = re.compile(rb"(?!(?:else|elif|except|finally|case)\b)[^\s#)\]}]")  # a statement at the left edge
_ABOVE = 5  # statements that may be right by themselves, and stand in a bracket that is not closed
_OPEN = "never closed"  # of a bracket, which stands far above the line that no grammar can read
_STOPPED = re.compile(r"parser error: error at (\d+):(\d+)")


def _broken_line(source: bytes) -> int | None:
    """The line that libcst's grammar cannot read, if there is one and it says so."""
    import libcst as cst

    try:
        cst.parse_module(source)
    except cst.ParserSyntaxError as error:
        place = _STOPPED.match(error.message)
        if place is None:
            return _unindented(source)
        line, column = int(place[1]), int(place[2])  # of the token behind the one that is wrong
        before = lines_of(source.decode(errors="replace"))[:line]
        before[line - 1 :] = [text[:column] for text in before[line - 1 :]]
        return next(
            (n for n in range(len(before), 0, -1) if before[n - 1].strip() and before[n - 1].lstrip()[0] != "#"), 1
        )
    except Exception:
        return None
    return None


def _unindented(source: bytes) -> int | None:
    """The line whose indentation is that of no line above it."""
    try:
        for _ in tokenize.tokenize(io.BytesIO(source).readline):
            pass
    except SyntaxError as error:
        return error.lineno
    except tokenize.TokenError:
        return None
    return None


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _write_over(text: bytearray, node: Any, at: dict[Any, tuple[int, int]]) -> None:
    import libcst as cst

    match node:
        case cst.TypeAlias(name=name, value=value):
            (start, _), (_, named), (begin, _) = at[node], at[name], at[value]
            _blank(text, start, begin)
            word = text_of(name).encode()
            text[start : start + len(word)] = word
            equal = max(start + len(word), begin - 2 if named < begin - 1 else begin - 1)
            text[equal : equal + 1] = b"="
        case cst.TypeParameters():
            _blank(text, *at[node])
        case (
            cst.ExceptHandler(type=cst.Tuple(lpar=[], elements=[first, _, *_]) as types)
            | cst.ExceptStarHandler(type=cst.Tuple(lpar=[], elements=[first, _, *_]) as types)
        ):
            _blank(text, at[first.value][1], at[types][1])
        case object(whitespace_after_lazy=_):
            start = at[node][0]
            text[start : start + len(b"lazy")] = b"0;  "  # a statement of its own
        case cst.TemplatedString(start=opening):
            start = at[node][0]
            text[start : start + len(opening)] = opening.replace("t", "f").replace("T", "F").encode()
            _requote(text, node, at)
        case cst.FormattedString():
            _requote(text, node, at)


def text_of(name: Any) -> str:
    """A name as it is written."""
    return str(name.value)


def _requote(text: bytearray, string: Any, at: dict[Any, tuple[int, int]]) -> None:
    """Give the strings inside a formatted string the other quotes, and take backslashes and quotes from their texts."""
    import libcst as cst

    quote = string.end[0]
    other = "'" if quote == '"' else '"'
    for part in string.parts:
        if not isinstance(part, cst.FormattedStringExpression | cst.TemplatedStringExpression):
            continue
        for node in _nodes(part.expression):
            if isinstance(node, cst.FormattedString | cst.TemplatedString):
                start, end = at[node]
                first = start + len(node.start) - len(node.end)
                text[first : start + len(node.start)] = text[end - len(node.end) : end] = other.encode() * len(node.end)
            if isinstance(node, cst.FormattedStringText):  # no backslash may stand in a part, at any depth
                start, end = at[node]
                text[start:end] = text[start:end].replace(b"\\", b"_")
            if not isinstance(node, cst.SimpleString):
                continue
            start, end = at[node]
            size = len(node.quote)
            first = start + len(node.prefix)
            inner = re.sub(rb"[\\'\"]", b"_", bytes(text[first + size : end - size]))
            text[first:end] = other.encode() * size + inner + other.encode() * size


def _blank(text: bytearray, start: int, end: int) -> None:
    """Spaces over a stretch; the ends of its lines stay, and the line goes on behind each."""
    for place in range(start, end):
        if text[place] in b"\r\n":
            if text[place - 1] not in b"\r\n":
                text[place - 1 : place] = b"\\"
        else:
            text[place : place + 1] = b" "
