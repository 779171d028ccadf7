"""Syntax newer than the interpreter is read all the same, every place what it was."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.fixes import fix_source
from tokenguard.lint.newer import lowered

CALL = "litellm.completion(model='m', messages=[])"
NEWER = {
    "695 alias": "type Names[T] = list[T]\n",
    "695 alias, tight": "type Names=list\n",
    "695 function": "async def first[T: (int, str), *Ts, **P](a: T) -> T:\n    return a\n",
    "695 class": "class Box[T](Base):\n    def get[U](self) -> U: ...\n",
    "695 over lines": "class Box[\n    T,\n    U,\n](Base):\n    pass\n",
    "695 over lines, CRLF": "def f[\r\n    T,\r\n](a: T): ...\r\n",
    "696 default": "class Box[T = int]:\n    pass\n",
    "701 same quotes": 'x = f"{d["a"]} {d[\'b\']}"\n',
    "701 backslash": "x = f\"{'\\n'.join(y)}\"\n",
    "701 nested": 'x = f"{f"{y}"} {z}"\n',
    "701 quotes in quotes": 'x = f"{d["it\'s"]}"\n',
    "750 template": 'x = t"Hello {name}"\ny = rt"{a}"\n',
    "750 behind a mark and wide characters": "\ufeff# é\nx = t'é {name}'\ny = f'{d['é']}'\n",
    "758 except": "try:\n    pass\nexcept A, B:\n    pass\n",
    "810 lazy import": "lazy import json, os.path as p\n",
    "810 lazy import from": "x = 1; lazy  from json import (\n    dumps,\n)\n",
    "758 group": "try:\n    pass\nexcept* A, B, C:\n    pass\n",
}


def parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("code", NEWER.values(), ids=list(NEWER))
def test_newer_syntax_is_written_over(code: str) -> None:
    """The older text parses, has the same length, and every line begins where it began."""
    source = code.encode()
    if parses(code):
        pytest.skip("this interpreter reads it as it is")
    older = lowered(source)
    assert older is not None
    ast.parse(older)
    assert len(older) == len(source)
    assert [len(line) for line in older.splitlines()] == [len(line) for line in source.splitlines()]


@pytest.mark.parametrize("code", NEWER.values(), ids=list(NEWER))
def test_such_files_are_linted_and_fixed(code: str) -> None:
    """A finding behind newer syntax stands where it is, and its fix changes nothing else."""
    mark = "\ufeff" * code.startswith("\ufeff")
    source = f"{mark}import litellm\n{code.lstrip(mark)}r = {CALL}\n".encode()
    linter = Linter(Config(root=Path(), select=("TG101", "TG000")))
    (found,) = linter.lint(source, "a.py")
    assert (found.rule, found.span.column) == ("TG101", 4)
    assert source.splitlines()[found.span.line - 1].decode() == f"r = {CALL}"
    fixed, _ = fix_source(source, lambda text: linter.lint(text, "a.py"), unsafe=True)
    assert fixed == source.replace(b"messages=[]", b"messages=[], max_tokens=1024")


def test_what_cannot_be_read_is_a_note_or_an_error() -> None:
    """Valid in a newer grammar alone: a note that says so. Valid in none: an error."""
    linter = Linter(Config(root=Path(), select=("TG",)))
    newer = f'import litellm\n{CALL}\nx = f"{{\n    y  # why\n}} {{d["a"]}}"\n'.encode()
    if lowered(newer) is not None and linter.lint(newer, "a.py")[0].rule == "TG000":
        (found,) = linter.lint(newer, "a.py")
        assert found.severity == "info"
        assert "a newer Python than" in found.message
    (found,) = linter.lint(f"import litellm\n{CALL}\nclass A[T\n".encode(), "a.py")
    assert (found.rule, found.severity) == ("TG000", "error")


WRONG = {
    "a parameter": ("def broken(:\n    pass\n", 1),
    "a colon": ("if x\n    pass\n", 1),
    "a colon, and comments behind it": ("if x  # why\n# and so on\n    pass\n", 1),
    "two signs": ("x = = 2\n", 1),
    "an open bracket": ("foo(\n", 1),
    "an open bracket, and more": ("foo(\nbar = 1\n\n\ndef f(x): ...\n", 1),
    "a closed bracket": ("x = (1))\n", 1),
    "an indent": ("if x:\ny\n", 2),
    "a dedent": ("if x:\n        a\n    b\n", 3),
    "a keyword": ("return = 3\n", 1),
    "a string": ("x = 'abc\n", 1),
    "an order of arguments": ("f(a=1, 2)\n", 1),
    "an f-string": ('y = f"{a b}"\n', 1),
    "a method": ("class Plain:\n    def get(self) -> :\n        pass\n", 2),
    "a method behind newer syntax": (
        "class Plain:\n    def f[T](self): ...\n    def get(self) -> :\n        pass\n",
        3,
    ),
}


# What is wrong to the tokenizer has no line in libcst's errors: its line is known where the interpreter can read so far.
TOKENS = ("a closed bracket", "a string")
UNREAD = "701 quotes in quotes"  # by the tokenizer of Python 3.11


@pytest.mark.parametrize(
    ("newer", "wrong", "line"),
    [
        pytest.param(newer, *wrong, id=f"{name} behind {before}")
        for before, newer in NEWER.items()
        for name, wrong in WRONG.items()
        if not (before == UNREAD and name in TOKENS)
    ],
)
def test_an_error_behind_newer_syntax_is_told_at_its_line(newer: str, wrong: str, line: int) -> None:
    """The interpreter complains of the syntax that it does not know; what is told is what no Python can read."""
    source = newer + wrong
    lines = len(newer.replace("\r\n", "\n").splitlines())
    (found,) = Linter(Config(root=Path(), select=("TG", "TG000"))).lint(source.encode(), "a.py")
    assert (found.rule, found.severity, found.span.line) == ("TG000", "error", lines + line)


@pytest.mark.parametrize("newer", NEWER.values(), ids=list(NEWER))
def test_an_error_before_newer_syntax_is_told_at_its_line(newer: str) -> None:
    """What the interpreter finds first is the error itself, in its own words."""
    if newer.startswith("\ufeff"):
        pytest.skip("a mark stands at the beginning")
    (found,) = Linter(Config(root=Path(), select=("TG", "TG000"))).lint(f"print 'a'\n{newer}".encode(), "a.py")
    assert (found.span.line, "Missing parentheses" in found.message) == (1, True)
