"""Why a cost is an estimate, in words: `tokenguard.cost.basis` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenguard.facts import names

REASONS: Final[Mapping[str, str]] = {
    names.ABANDONED_STREAM: "of streams that were not read to their end",
    names.MISSING_USAGE: "without usage from the provider",
    names.INCONSISTENT_USAGE: "with counts that contradict each other",
    "own_key": "of calls with a key of one's own, whose provider's charge a gateway did not tell",
    "fallback_credit": "of retries with a credit for what a refused call had cached, at the rate of cache writes",
    "reported_estimate": "as the provider itself estimates what it charged",
    "output_by_total": "with an output that only the total tells",
    "timed_out": "of answers that were not waited for",
    "cancelled": "of calls that were cancelled",
    "assumed_provider": "at hosts nobody knows, at the rates of the model's maker (say whose they are under [hosts])",
    "nearest_model": "of models without a price, as the most similar one",
    names.ASSUMED_MODEL: "of models without a price, as the one they are named after",
    "assumed_ceiling": "at the policy's ceiling, for want of a price",
    "assumed_region": "in regions without listed rates",
    "assumed_router": "through a router of models, with its fee as it was last listed",
    "assumed_variant": "of sizes or qualities without a listed price",
    "unchecked_price": "at prices that no list confirms",
    "assumed_text_output": "with an output taken for text alone",
    "assumed_free_input": "with an input that no list has a rate for, taken for free",
    "assumed_free_output": "with an output that no list has a rate for, taken for free",
    "assumed_tier": "in service tiers that nobody lists",
    "assumed_prepaid": "of capacity that is paid by the month",
    "assumed_search": "with searches that the provider does not count, taken for one each",
    "free_quota": "with searches that are free up to a quota, and charged here",
    "tool_fees_excluded": "without the fee of a hosted tool that no list has",
    "rented_so_far": "of what is rented, counted by the clock",
    "rented_to_expiry": "of what is rented, as if it were kept to its end",
    "list_price": "of coding agents, at list prices: a subscription is billed otherwise",
    "": "for reasons that were not recorded",
}
"""The end of "$1.20 ...". What begins with `assumed_` and is not here is a tier's or a kind of token's rate."""
ASSUMED: Final = "assumed_"


def reason(basis: str | None) -> str:
    """A basis in words.

    >>> reason("assumed_cache_read")
    'without a listed rate for cache read'
    """
    words = REASONS.get(basis or "")
    if words is None and basis is not None and basis.startswith(ASSUMED):
        return f"without a listed rate for {basis.removeprefix(ASSUMED).replace('_', ' ')}"
    return words or str(basis)
