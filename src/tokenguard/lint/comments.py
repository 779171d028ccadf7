"""The comments of a source text and the logical lines around them, found without taking the rest apart.

`tokenize` does the same in Python code, token by token, which takes longer than all rules together.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple

# A character that matters, and what belongs to it: `re` skips to the first of a set quickly.
_PIECE = lazy(
    r"""[\#"'()\[\]{}\r\n\\](?:"""
    r"""(?<=\#)[^\r\n]*"""
    r"""|(?<=")(?:""(?:[^"\\]|\\[\s\S]|"(?!""))*(?:\"{3}|\Z)|(?:[^"\\\r\n]|\\(?:\r\n|[\s\S]))*")"""
    r"""|(?<=')(?:''(?:[^'\\]|\\[\s\S]|'(?!''))*(?:'{3}|\Z)|(?:[^'\\\r\n]|\\(?:\r\n|[\s\S]))*')"""
    r"""|(?<=\r)\n|(?<=\\)(?:\r\n|\r|\n)|)"""
)
_END = lazy(r"\r\n|\r|\n")


class Comment(NamedTuple):
    """A comment, or the end of a logical line where `text` is None."""

    text: str | None
    line: int
    before: str
    """What is before it in its line."""
    begins: int
    """The first line of the logical line that it stands in; 0 where no code is before it."""


def comments(text: str) -> Iterator[Comment]:
    """The comments of a text in order, and the ends of its logical lines between them; lines count from 1."""
    line, start, begins, depth = 1, 0, 0, 0
    after = 0  # the last piece
    for piece in _PIECE.finditer(text):
        at = piece.start()
        kind = text[at]
        if not begins and text[after:at].strip():
            begins = line
        after = piece.end()
        if kind in "\r\n":
            if begins and not depth:
                yield Comment(None, line, "", begins)
                begins = 0
            line, start = line + 1, after
        elif kind == "#":
            yield Comment(piece[0], line, text[start:at], begins)
        elif kind in "([{":
            begins = begins or line
            depth += 1
        elif kind in ")]}":
            depth = max(0, depth - 1)
        else:
            begins = begins or line
            for end in _END.finditer(text, at, after):
                line, start = line + 1, end.end()
    if begins or text[after:].strip():
        yield Comment(None, line, "", begins or line)


def logical_end(text: str, line: int) -> int:
    """The last line of the logical line that `line` is in."""
    return next((c.line for c in comments(text) if c.text is None and c.line >= line), line)
