"""What the price tests share: one day to price at, and money that is compared to a billionth of a dollar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenguard.prices import PriceBook

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9
"""A day on which the bundled list has batch, flex and priority rates; noon is off-peak at DeepSeek."""


@pytest.fixture
def price():
    """Prices a call at `AT` with a fresh book, or with `book`."""

    def price(provider, model, usage, *, book=None, at_ns=AT, **options):
        return (book or PriceBook()).cost(provider, model, usage, at_ns=at_ns, **options)

    return price
