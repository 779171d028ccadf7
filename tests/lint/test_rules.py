"""Every rule's page is its test: marked lines are found, all others are silent, and fixes turn Bad into Good."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.explain import markdown
from tokenguard.lint.fixes import fix_source
from tokenguard.lint.shelf import Rule, load

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
    """No reported example is lost to the word prefilter, be it the rule's own words alone."""
    linter = linter_of(rule)
    for kind, code in rule.examples():
        if kind == "Bad":
            assert not linter.skips(code.encode())


def test_the_pages_in_the_documentation_are_current() -> None:
    """`docs/rules` is what `python -m tokenguard.lint.explain docs/rules` writes."""
    folder = Path(__file__).parents[2] / "docs" / "rules"
    for rule in RULES.values():
        assert (folder / f"{rule.id}.md").read_text(encoding="utf-8") == markdown(rule), "run it again"


OLD = "gpt-3.5-turbo gpt-4 gpt-4-32k gpt-4-turbo gpt-4o-2024-05-13 gpt-4.5-preview o1 claude-3-opus-latest claude-2.1"


@pytest.mark.parametrize("old", OLD.split())
def test_successors_are_cheaper(old: str) -> None:
    """The successor that TG112 names costs less for input and for output, by the price book."""
    from genai_prices import Usage, calc_price

    table = import_module("tokenguard.rules.tg112_stale_or_premium_model").SUPERSEDED
    successor = next(new for pattern, new in table.items() if re.fullmatch(pattern, old))
    provider = "anthropic" if old.startswith("claude") else "openai"
    for usage in (Usage(input_tokens=1000), Usage(output_tokens=1000)):
        new_price, old_price = (calc_price(usage, m, provider_id=provider).total_price for m in (successor, old))
        assert new_price < old_price
