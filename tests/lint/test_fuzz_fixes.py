"""Fixes held to their promise on mutated real files: the result parses, is at rest, and differs only where reported.

Real files of the standard library and of the installed packages get code with findings spliced in, at the top and
within their functions, and are then mutated as editors and people do: other line ends, tabs, comments, odd encodings,
a character too many. `TOKENGUARD_FUZZ=20000 pytest tests/lint/test_fuzz_fixes.py` looks further than a normal run.
"""

from __future__ import annotations

import ast
import os
import random
import re
import sysconfig
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Finding
from tokenguard.lint.fixes import apply_edits, fix_source, parts_of
from tokenguard.lint.shelf import load
from tokenguard.lint.syntax import parse, parses

from .test_real_shapes import FOUND

EXAMPLES = int(os.environ.get("TOKENGUARD_FUZZ", "120"))
LINTER = Linter(Config(root=Path()))
SNIPPETS = [code for rule in load().values() for kind, code in rule.examples() if kind == "Bad"]
SNIPPETS += list(FOUND.values())
NOISE = ["\t", " ", "\n", "\r\n", "\r", "#", " # é", "é", "\x0c", ",", "(", ")", "[", "{", "}", '"', "'", '"""', "\\",
         "\\\n", "x", "**", "=", ":", ";", "\ufeff", "lambda: ", "await ", "f'", "None", "\u2028", "日本"]  # fmt: skip
LARGEST = 30_000  # bytes of a real file: enough to be real, and quick


@cache
def real_files() -> list[Path]:
    """Small enough files of the standard library and site-packages, in an order that does not change."""
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    files = {f for folder in folders for f in folder.rglob("*.py") if 200 < f.stat().st_size < LARGEST}
    chosen = sorted(files)
    random.Random(11).shuffle(chosen)
    return chosen[: max(300, EXAMPLES)]


def spliced(draw: st.DrawFn, text: str, snippet: str) -> str:
    """`text` with `snippet` between two of its statements, at their indentation."""
    starts = [(0, 0)]
    starts += [(n.lineno - 1, n.col_offset) for n in ast.walk(parse(text.encode())) if isinstance(n, ast.stmt)]
    line, indent = draw(st.sampled_from(starts))
    lines = text.split("\n")
    if lines[line][:indent].strip():  # behind `else:` or `;` there is no line to put it in
        line, indent = 0, 0
    block = "\n".join(f"{' ' * indent}{part}" if part else part for part in snippet.split("\n"))
    return "\n".join([*lines[:line], block, *lines[line:]])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The bytes of a real file with findings in it, and a few accidents."""
    try:
        text = draw(st.sampled_from(real_files())).read_bytes().decode()
        parse(text.encode())
    except (UnicodeDecodeError, SyntaxError, ValueError):
        text = "x = 1\n"
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for _ in range(draw(st.integers(1, 3))):
        whole = draw(st.sampled_from(SNIPPETS))
        candidate = spliced(draw, text, whole)
        text = candidate if parses(candidate.encode()) else f"{text}\n{whole}\n"
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2, 5]))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(NOISE)) + text[at + draw(st.integers(0, 2)) :]
    match draw(st.sampled_from(["plain"] * 6 + ["crlf", "cr", "bom", "latin-1", "tabs"])):
        case "crlf":
            return text.replace("\n", "\r\n").encode()
        case "cr":
            return text.replace("\n", "\r").encode()
        case "bom":
            return b"\xef\xbb\xbf" + text.encode()
        case "latin-1":
            return b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1", "replace")
        case "tabs":
            return text.replace("    ", "\t").encode()
    return text.encode()


def lint(source: bytes) -> list[Finding]:
    return LINTER.lint(source, "x.py")


def untouched(source: bytes, findings: list[Finding]) -> list[bytes]:
    """The stretches of a source, as UTF-8, that lie outside of the fixes of these findings."""
    encoding, body, _ = parts_of(source)
    text = body.decode(encoding).encode()
    starts = [0, *(m.end() for m in re.finditer(rb"\r\n|\r|\n", text))]
    spans = sorted(
        {
            (starts[e.span.line - 1] + e.span.column, starts[e.span.end_line - 1] + e.span.end_column)
            for f in findings
            if f.fix
            for e in f.fix.edits
        }
    )
    at, kept = 0, []
    for start, end in spans:
        kept.append(text[at:start])
        at = max(at, end)
    return [*kept, text[at:]]


def keeps(changed: bytes, parts: list[bytes]) -> bool:
    """Whether `changed` is `parts` in their order, with something of its own only between them."""
    encoding, body, _ = parts_of(changed)
    text = body.decode(encoding).encode()
    if not text.startswith(parts[0]) or not text.endswith(parts[-1]):
        return False
    at = len(parts[0])
    for part in parts[1:-1]:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return at + len(parts[-1]) <= len(text)


@pytest.mark.parametrize("unsafe", [True, False])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=mutated())
def test_fixes_of_mutated_real_files(unsafe: bool, source: bytes) -> None:
    """Each round changes its reported spans alone; the end parses, says nothing new, and stays as it is."""
    findings = lint(source)
    at, fixed = source, 0
    for _ in range(10):
        todo = [f for f in findings if f.fix and (unsafe or f.fix.safe)]
        changed, done = apply_edits(at, todo)
        if not done or changed == at or not parses(changed) or len(left := lint(changed)) >= len(findings):
            break
        assert keeps(changed, untouched(at, done))
        at, findings, fixed = changed, left, fixed + len(done)
    event(f"{min(fixed, 4)} fixes" if parses(source) else "does not parse")
    result, mended = fix_source(source, lint, unsafe=unsafe)
    assert (result, len(mended)) == (at, fixed)
    if mended:
        assert parses(result)
        assert {f.rule for f in lint(result)} <= {f.rule for f in lint(source)}
    assert fix_source(result, lint, unsafe=unsafe) == (result, [])


def test_the_check_can_fail() -> None:
    """A change outside of the reported span is seen."""
    source = b"import litellm\nx = 1\nlitellm.completion(model='m', messages=[])\n"
    findings = lint(source)
    changed, done = apply_edits(source, findings)
    assert keeps(changed, untouched(source, done))
    assert not keeps(changed.replace(b"x = 1", b"x = 2"), untouched(source, done))
    assert not keeps(b"#" + changed, untouched(source, done))
