"""Counting tokens before the provider does: bounds that cost nothing, exact counts that need no network."""

from __future__ import annotations

from tokenguard.tokens.bounds import Bound, remembered, upper_bound_request
from tokenguard.tokens.request import Count, count_request, estimate_request
from tokenguard.tokens.text import count_text, estimate_tokens, is_exact, upper_bound, warm

__all__ = [
    "Bound",
    "Count",
    "count_request",
    "count_text",
    "estimate_request",
    "estimate_tokens",
    "is_exact",
    "remembered",
    "upper_bound",
    "upper_bound_request",
    "warm",
]
