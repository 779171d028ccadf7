"""Comments and logical lines, as the tokenizer of the standard library sees them."""

from __future__ import annotations

import io
import random
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenguard.lint.comments import comments, logical_end

SOURCES = sorted(Path(__file__).parents[2].joinpath("src", "tokenguard").rglob("*.py"))
ODD = [
    "x = 1  # a",
    "x = '#'  # a\n# b\n",
    'x = """# no\n# no"""  # a\n',
    "x = r'\\''  # a\n# b'\n",
    "x = '\\\\'  # a\n",
    "f(  # a\n    '''\n''',  # b\n    # c\n)  # d\ny = 2  # e\n",
    "x = 1 \\\n    + 2  # a\n",
    "x = 'a\\\n# no'  # a\n",
    "if x:  # a\n\ty = {  # b\n\t}\n\n    \n# c\n",
    "\f# a\nx = 1  # b\f\n",
    "# only\n",
    "",
    "x = f'{y!r:>{w}}'  # a\n",
    "x = b''  # a\ny = ''''a'''  # b\n",
]


def by_tokenize(text: str) -> Iterator[tuple[str | None, int, int]]:
    """Each comment with its line and the first one of its logical line; each end of a logical line with both."""
    begins = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string, token.start[0], begins
        elif token.type == tokenize.NEWLINE:
            yield None, token.start[0], begins
            begins = 0
        elif not begins and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            begins = token.start[0]


@pytest.mark.parametrize("text", [*ODD, *(path.read_text() for path in random.Random(7).sample(SOURCES, 60))])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_as_tokenize_sees_them(text: str, end: str) -> None:
    """The same comments in the same lines, whatever ends a line."""
    expected = list(by_tokenize(text))
    found = list(comments(text.replace("\n", end)))
    assert [(c.text, c.line, c.begins) for c in found] == expected
    for comment in found:
        if comment.text is not None:
            assert (comment.before + comment.text) in text.split("\n")[comment.line - 1]


def test_the_end_of_a_logical_line() -> None:
    """Where a comment for the whole of it can stand; the line itself where there is none."""
    text = "f(\n    1,\n)\nx = 1\n"
    assert [logical_end(text, line) for line in (1, 2, 3, 4, 9)] == [3, 3, 3, 4, 9]


@pytest.mark.parametrize("text", ["x = (  # a\n", "x = '''  # no\n", "x = 'a  # no\n", "}  # a\n", "x = f'{y['  # a\n"])
def test_what_is_no_program(text: str) -> None:
    """Broken text is looked through all the same."""
    list(comments(text))
