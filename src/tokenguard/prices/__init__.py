"""What tokens cost: the user's overrides first, then the price list of `genai-prices`.

```text
provider, model ── models.py ──> the names a price list may know them by
                                 │
[prices] ───────── overrides.py ─┤ first match wins
genai-prices ───── listed.py ────┤ at the call's time and tier; what the list lacks is derived, and says so
                                 ▼
Usage x Rates ──── rates.py ───> Cost, or whole nano-dollars for a ledger
```

`book.py` remembers what was resolved. Everything is integers until the last step: see `rates.py`.
"""

from __future__ import annotations

from tokenguard.prices.book import PriceBook
from tokenguard.prices.rates import Card, Rates, as_reported
from tokenguard.prices.tiers import SILENT, STANDARD, Tier, unanswered, wanted

__all__ = [
    "SILENT",
    "STANDARD",
    "Card",
    "PriceBook",
    "Rates",
    "Tier",
    "as_reported",
    "unanswered",
    "wanted",
]
