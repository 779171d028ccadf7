"""Fixes change the expressions they name, keep the rest byte for byte, and can be repeated without effect."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Edit, Finding, Fix, Span
from tokenguard.lint.fixes import apply_edits, fix_source
from tokenguard.lint.rulebook import load

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


SNIPPETS = [code for rule in load().values() for kind, code in rule.examples() if kind == "Bad"]
SNIPPETS += [file.read_text() for file in sorted(Path(__file__).parents[2].glob("src/tokenguard/demo/*.py"))]
NOISE = st.sampled_from(
    ["\t", " ", "\n", "\r\n", "#", "é", "\x0c", ",", "(", ")", '"', "'", "\\", "x", "**", "=", ":", "\ufeff", "{", "}"]
)


@pytest.mark.filterwarnings("ignore:invalid (escape|octal)")  # a mutation may make one; it is no syntax error
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_fixes_of_mutated_code_parse_and_settle(data: st.DataObject) -> None:
    """After any mutation: no exception; the result parses, is at rest, and differs only where it was reported."""
    chosen = data.draw(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=2))
    text = "\n".join(chosen)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(NOISE) + text[at + data.draw(st.integers(0, 2)) :]
    source = text.encode()
    findings = LINTER.lint(source, "x.py")
    fixed, done = fix_source(source, lambda t: LINTER.lint(t, "x.py"), unsafe=True)
    if not done:
        assert fixed == source
        return
    ast.parse(fixed)
    again, _ = fix_source(fixed, lambda t: LINTER.lint(t, "x.py"), unsafe=True)
    assert again == fixed
    spans = [e.span for f in findings if f.fix for e in f.fix.edits]
    touched = {line for s in spans for line in range(s.line, s.end_line + 1)}
    before = source.splitlines(keepends=True)
    untouched = [line for n, line in enumerate(ast_lines(source), 1) if n not in touched]
    kept = iter(ast_lines(fixed))
    assert all(any(line == other for other in kept) for line in untouched), before


def ast_lines(source: bytes) -> list[bytes]:
    import re

    return re.split(rb"\r\n|\r|\n", source)
