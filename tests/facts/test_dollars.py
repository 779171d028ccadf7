"""Amounts in USD are told by one function."""

import re
from pathlib import Path

import pytest

import tokenguard
from tokenguard.facts.dollars import account, dollars, fixed, signed

ROOT = Path(tokenguard.__file__).parent
_OWN_FORMAT = re.compile(r"\$\{[^{}\n]*:[^{}\n]*[fg]\}")
"""A dollar sign before what is formatted as a number."""


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (dollars(0), "$0.00"),
        (dollars(20), "$20.00"),
        (dollars(-1234.5), "-$1,234.50"),
        (dollars(0.0123), "$0.0123"),
        (dollars(0.000283), "$0.000283"),
        (dollars(0.000006), "$0.000006"),
        (dollars(0.0000062), "$0.000006200"),
        (dollars(0.00000005), "$0.000000050"),
        (dollars(1e-12), "<$0.000000001"),
        (dollars(0.35, least=6), "$0.350000"),
        (dollars(0, least=6), "$0.000000"),
        (fixed(0.00001, 4), "<$0.0001"),
        (signed(0.25), "+0.2500"),
        (signed(-3), "-3.00"),
        (account(19.9996), "$19.9996"),
        (account(0.00000005), "$0.000000050"),
    ],
)
def test_an_amount_says_something(told, shown):
    """What is not nothing is never told as $0.00, down to a nano-dollar, and in no other notation."""
    assert told == shown


def test_one_place_formats_them():
    """No other file writes a dollar sign before a number of its own format."""
    own = [
        f"{file.relative_to(ROOT)}:{n}"
        for file in ROOT.rglob("*.py")
        for n, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if _OWN_FORMAT.search(line) and file.name != "dollars.py"
    ]
    assert own == []
