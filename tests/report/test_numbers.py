"""Numbers as people read them."""

from __future__ import annotations

import pytest

from tokenguard.report import numbers


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (numbers.usd, None, "-"),
        (numbers.usd, 0, "$0.00"),
        (numbers.usd, -1234.5, "-$1,234.50"),
        (numbers.usd, 0.0123, "$0.0123"),
        (numbers.usd, 0.000021, "$0.000021"),
        (numbers.usd, 0.0000021, "$0.000002100"),
        (numbers.tokens, 9_994, "9,994"),
        (numbers.tokens, 999_949, "999.9k"),
        (numbers.tokens, 999_951, "1.0M"),
        (numbers.tokens, 5_624_300, "5.6M"),
        (numbers.share, 0.0, "0%"),
        (numbers.share, 0.018, "1.8%"),
        (numbers.share, 1, "100%"),
        (numbers.share, 0.9999999999, "100%"),
        (numbers.share, 0.996, ">99%"),
        (numbers.share, 0.0004, "<0.1%"),
    ],
)
def test_numbers(show, value, shown):
    """Numbers are as long as they say something; unknown is a dash."""
    assert show(value) == shown
