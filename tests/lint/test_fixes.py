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


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("\r\n",) * 6, "\r\n"),
        (("\r",) * 6, "\r"),
        (("\n", "\r\n", "\r\n", "\n", "\r\n", "\n"), "\r\n"),
        (("\r\n", "\r\n", "\n", "\n", "\r\n", "\n"), "\n"),
    ],
)
def test_line_ends_stay_and_a_new_line_ends_as_the_one_before(ends: tuple[str, ...], expected: str) -> None:
    """CRLF, lone CR, and files in which they are mixed: what is offered is done."""
    lines = [
        "from openai import OpenAI",
        "c = OpenAI(timeout=5)",
        "c.responses.create(",
        "    model='m',",
        "    input='é',",
        ")",
    ]
    source = "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()
    linter = Linter(Config(root=Path(), select=("TG101",)))
    mended, done = fix_source(source, lambda text: linter.lint(text, "x.py"), unsafe=True)
    new = [*lines[:5], "    max_output_tokens=1024,", lines[5]]
    all_ends = [*ends[:5], ends[4], ends[5]]
    assert len(done) == 1
    assert mended.decode() == "".join(line + end for line, end in zip(new, all_ends, strict=True))


def test_notes_are_mended_only_where_their_rule_is_selected() -> None:
    """A note of TG116 has no fix beside all other rules; `--select TG116` asks for it."""
    source = b"from openai import OpenAI\nclient = OpenAI()\n"
    for select, fixable in ((("TG",), False), (("TG116",), True), (("TG", "TG11"), True)):
        (finding,) = Linter(Config(root=Path(), select=select)).lint(source, "x.py")
        assert (finding.severity, finding.fix is not None) == ("info", fixable)


@pytest.mark.parametrize("count", [1, 2, 14])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_appears_when_another_is_mended_is_mended_too(count: int, end: str) -> None:
    """TG116 names one client a file: when that has a timeout, the next one is named."""
    lines = ["from openai import OpenAI", *(f"c{n} = 'é', OpenAI(\n)" for n in range(count)), ""]
    source = "\n".join(lines).replace("\n", end).encode()
    linter = Linter(Config(root=Path(), select=("TG116",)))
    mended, done = fix_source(source, lambda text: linter.lint(text, "x.py"), unsafe=True)
    assert (mended.count(b"timeout=120"), len(done)) == (count, count)
    assert linter.lint(mended, "x.py") == []


@pytest.mark.parametrize("action", ["wrap", "set"])
def test_a_fix_that_mends_nothing_is_not_made(action: str) -> None:
    """A finding that comes back where its fix was made would have it made for ever."""

    def lint(text: bytes) -> list[Finding]:
        tree = ast.parse(text)
        calls = sorted((n for n in ast.walk(tree) if isinstance(n, ast.Call)), key=lambda n: n.col_offset)
        edit = Edit(action, Span.of(calls[0]), f"a{len(text)}", "sorted" if action == "wrap" else "9")  # type: ignore[arg-type]
        return [Finding("T", "t", "error", "", "x.py", Span.of(calls[0]), Fix("", (edit,), safe=True))]

    assert fix_source(b"# \xc3\xa9\nx = f(1)\n", lint, unsafe=False) == (b"# \xc3\xa9\nx = f(1)\n", [])
