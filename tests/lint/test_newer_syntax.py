"""Files in a newer grammar than this Python's are linted all the same."""

from __future__ import annotations

import ast
import sys

import pytest

from tokenguard.lint.newer import older

HEAD = "from openai import OpenAI\nclient = OpenAI(timeout=5)\n"
CALL = "client.responses.create(model='m', input='x')\n"
NEWER = {
    "type parameters": "def f[T](x: T) -> T:\n    return x\nclass A[T = int]:\n    pass\n",
    "type statement": "type Pairs[T] = list[tuple[T, T]]\n",
    "the same quotes": 'name = f"{d["a"]} and {f"{d["b"]}"}"\n',
    "backslash": "text = f\"{'\\n'.join(d)}\"\n",
    "lines within": 'text = f"{\n    d\n}"\n',
    "template string": 'query = t"select {d["a"]}"\n',
    "except without brackets": "try:\n    pass\nexcept ValueError, TypeError:\n    pass\n",
}


@pytest.mark.parametrize("code", NEWER.values(), ids=NEWER)
def test_newer_syntax_is_linted(lint, code: str) -> None:
    """What follows is reported at its own line, and nothing else is."""
    (finding,) = lint(HEAD + code + CALL, "TG101", "TG000")
    assert (finding.rule, finding.span.line) == ("TG101", HEAD.count("\n") + code.count("\n") + 1)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python parses it")
def test_a_file_that_had_to_be_rewritten_is_not_mended(lint) -> None:
    """Its columns may be others than those that were read."""
    (finding,) = lint(HEAD + NEWER["the same quotes"] + CALL, "TG101")
    assert finding.fix is None


@pytest.mark.parametrize("code", NEWER.values(), ids=NEWER)
def test_it_is_written_as_valid_code_of_the_same_lines(code: str) -> None:
    """The older form parses here, whatever the interpreter, and has the same number of lines."""
    written = older(code.encode())
    assert written is not None
    ast.parse(written, feature_version=(3, 11))
    assert written.count(b"\n") == code.count("\n")


def test_what_no_python_parses_stays_an_error(lint) -> None:
    """With the interpreter's own message."""
    (finding,) = lint(HEAD + "def f(:\n", "TG101", "TG000")
    assert (finding.rule, finding.severity) == ("TG000", "error")
