"""The prefilter: exact about words, cheap, and never in the way of a finding."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenguard.lint import prefilter
from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.prefilter import Gate, Prefilter

from .test_real_shapes import FOUND

letters = st.text("abc._(é", min_size=1, max_size=5)


@given(st.lists(letters, min_size=1, max_size=40), st.text("abc._(é ", max_size=60), st.booleans())
def test_a_gate_names_the_words_that_are_there(words: list[str], text: str, many: bool) -> None:
    """Found word by word or by patterns, the words are those in the text."""
    gate = Gate(words)
    gate._searched = prefilter._BY_WORD if many else 0
    assert gate.search(text.encode()) == {word for word in words if word in text}


def test_words_that_end_in_each_other() -> None:
    """Of many words with one ending, each is found by itself, and where others are."""
    words = ["(", "x(", "ax(", "bax(", "cx(", "y(", "ay(", "by(", "z("]
    gate = Gate(words)
    gate._searched = prefilter._BY_WORD
    for word in words:
        assert gate.search(f" {word} ".encode()) == {each for each in words if each in word}


def test_entries() -> None:
    """A word; or a tuple: its first word and any of the others, which may be tuples themselves; or nothing at all."""
    wanted = {"W1": ("plain",), "W2": (("one", "two", ("three", "four")),), "W3": ()}
    rules = Prefilter(wanted).rules
    assert rules(b"a plain text") == {"W1", "W3"}
    assert rules(b"one") == {"W3"}
    assert rules(b"one and two") == {"W2", "W3"}
    assert rules(b"one and three") == {"W3"}
    assert rules(b"one, three, four") == {"W2", "W3"}
    assert rules(b"two, three, four") == {"W3"}


def test_few_passes_for_all_rules() -> None:
    """However many words the rules have, a large text is searched a dozen times at most."""
    linter = Linter(Config(root=Path(), select=("ALL",)))
    gate = linter._prefilter._gate
    gate.search(b" " * prefilter._BY_WORD)
    assert len(gate._plain) > 100
    assert len(gate._groups) <= 12


@pytest.mark.parametrize(("name", "code"), FOUND.items(), ids=list(FOUND))
def test_no_finding_is_lost(name: str, code: str) -> None:
    """All rules say the same of the shapes of real code with the prefilter and without."""
    config = Config(root=Path(), select=("ALL",))
    assert Linter(config).lint(code.encode(), "x.py") == Linter(config, prefilter=False).lint(code.encode(), "x.py")
