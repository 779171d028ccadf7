"""What a charge would cost at the provider's list price, where `[prices]` says that it costs something else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier

MILLION: Final = 1_000_000
USAGES: Final[Mapping[str, Callable[[int], Usage]]] = {
    "input": lambda tokens: Usage(input=tokens, output=0),
    "output": lambda tokens: Usage(input=0, output=tokens),
    "cache_read": lambda tokens: Usage(input=tokens, output=0, cache_read=tokens),
    "cache_write": lambda tokens: Usage(input=tokens, output=0, cache_write=tokens),
}
"""A call of so many tokens of one kind, by the names that a `Cost` has its parts by."""


class ListPrices:
    """The price list beside a policy's own prices."""

    def __init__(self, own: Mapping[str, str | Mapping[str, float]]) -> None:
        self._own = PriceBook(own) if own else None
        self._list = PriceBook()

    def of(self, provider: str, model: str, kind: str, tokens: int, tier: str, at_ns: int, paid: Decimal) -> Decimal:
        """USD per million at list price, for calls of so many tokens; what was `paid` where no other is known.

        A charge whose price is not the policy's of today was made under another one, and stays as it is.
        """
        if self._own is None or kind not in USAGES:
            return paid
        own, listed = (_rate(book, provider, model, kind, tokens, tier, at_ns) for book in (self._own, self._list))
        if own is None or listed is None or not math.isclose(own, float(paid), rel_tol=1e-5):
            return paid
        return Decimal(repr(round(listed, 6)))


def _rate(book: PriceBook, provider: str, model: str, kind: str, tokens: int, tier: str, at_ns: int) -> float | None:
    """USD per million of one kind."""
    tokens = max(1, tokens)
    asked = Tier(tier) if tier != "standard" else Tier()
    part: float | None = getattr(book.cost(provider, model, USAGES[kind](tokens), tier=asked, at_ns=at_ns), kind)
    return None if part is None else part * MILLION / tokens
