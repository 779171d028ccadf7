"""Every rule's page is its test: marked lines are found, all others are silent, and fixes turn Bad into Good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.fixes import fix_source
from tokenguard.lint.rulebook import Rule, load

RULES = load()
EXAMPLES = [
    pytest.param(rule, kind, code, following, id=f"{rule.id}-{index}-{kind}")
    for rule in RULES.values()
    for index, (kind, code) in enumerate(rule.examples())
    for following in [rule.examples()[index + 1][1] if index + 1 < len(rule.examples()) else ""]
]


def linter_of(rule: Rule) -> Linter:
    return Linter(Config(root=Path(), select=(rule.id,)))


@pytest.mark.parametrize(("rule", "kind", "code", "following"), EXAMPLES)
def test_examples_are_found_and_fixed(rule: Rule, kind: str, code: str, following: str) -> None:
    """A `# TG101` marker names each line of a Bad block that is reported; a Good block is silent."""
    linter = linter_of(rule)
    findings = linter.lint(code.encode(), "example.py")
    marked = [n for n, line in enumerate(code.splitlines(), 1) if re.search(rf"#.*\b{rule.id}\b", line)]
    assert [f.span.line for f in findings] == (marked if kind == "Bad" else [])
    if kind == "Bad" and any(f.fix for f in findings):
        fixed, done = fix_source(code.encode(), lambda text: linter.lint(text, "example.py"), unsafe=True)
        assert fixed.decode() == following
        assert len(done) == len(findings)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_pages_are_complete(rule: Rule) -> None:
    """A page has a first sentence, a bad and a good example, and words for the prefilter."""
    kinds = {kind for kind, _ in rule.examples()}
    assert kinds == {"Bad", "Good"}
    assert rule.page.partition("\n")[0].endswith(".")
    assert rule.words


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_the_prefilter_keeps_every_example(rule: Rule) -> None:
    """No reported example is lost to the word prefilter."""
    linter = linter_of(rule)
    for kind, code in rule.examples():
        if kind == "Bad":
            assert not linter.skips(code.encode())
