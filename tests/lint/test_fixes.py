"""Fixes change the expressions they name, keep the rest byte for byte, and can be repeated without effect."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Edit, Finding, Fix, Span
from tokenguard.lint.fixes import apply_edits, fix_source

LINTER = Linter(Config(root=Path()))


def edited(source: str, *edits: tuple[str, str, str]) -> str:
    """`source`, an expression, after the edits (action, name, value)."""
    tree = ast.parse(source)
    node = tree.body[0].value  # type: ignore[attr-defined]
    fix = Fix("", tuple(Edit(a, Span.of(node), n, v) for a, n, v in edits))  # type: ignore[arg-type]
    changed, _ = apply_edits(source.encode(), [Finding("T", "t", "error", "", "x.py", Span.of(node), fix)])
    return changed.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f()", "f(cap=9)"),
        ("f(1)", "f(1, cap=9)"),
        ("f(a=1, b=2)", "f(a=1, b=2, cap=9)"),
        ("f(a=1, b=2, )", "f(a=1, b=2, cap=9, )"),
        ("f(\n    a=1,\n    b=2,\n)", "f(\n    a=1,\n    b=2,\n    cap=9,\n)"),
        ("f(\n    a=1,\n    b=2\n)", "f(\n    a=1,\n    b=2,\n    cap=9\n)"),
        (
            "f(  # why\n    a=1,  # one\n    b=2,  # two\n)",
            "f(  # why\n    a=1,  # one\n    b=2,  # two\n    cap=9,\n)",
        ),
        ("f(a=1,\n  b=2)", "f(a=1,\n  b=2,\n  cap=9)"),
        ("f(a=1, **kw)", "f(a=1, **kw, cap=9)"),
        ("f(cap=None, a=1)", "f(cap=9, a=1)"),
        ("{}", '{"cap": 9}'),
        ("{'a': 1}", "{'a': 1, \"cap\": 9}"),
        ("{\n    'a': 1,  # one\n}", "{\n    'a': 1,  # one\n    \"cap\": 9,\n}"),
        ("{'cap': None}", "{'cap': 9}"),
    ],
)
def test_a_new_argument_takes_its_neighbours_layout(before: str, after: str) -> None:
    """Trailing commas, line breaks and comments stay where they belong."""
    assert edited(before, ("set", "cap", "9")) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [("f(a=1, b=2)", "f(a=1)"), ("f(b=2, a=1)", "f(a=1)"), ("f(b=2)", "f()"),
     ("f(\n    a=1,\n    b=2,\n)", "f(\n    a=1,\n)"),
     ("f(\n    a=1,  # one\n    b=2,\n)", "f(\n    a=1,  # one\n    b=2,\n)")],
)  # fmt: skip
def test_an_argument_is_removed_with_its_comma(before: str, after: str) -> None:
    """What is left keeps its layout; where a comment hangs on the comma, nothing is done."""
    assert edited(before, ("unset", "b", "")) == after


def test_equal_edits_of_two_findings_are_made_once() -> None:
    """A config shared by two calls is capped once, and both findings are gone."""
    source = textwrap.dedent("""
        def f(client, types):
            config = types.GenerateContentConfig(temperature=0)
            client.models.generate_content(model="g", contents="a", config=config)
            client.models.generate_content(model="g", contents="b", config=config)
    """).encode()
    fixed, done = fix_source(source, lambda text: LINTER.lint(text, "x.py"), unsafe=True)
    assert fixed.count(b"max_output_tokens=1024") == 1
    assert len(done) == 2
