"""What genai-prices' data is run with: makers of plain data under the names of `genai_prices.types`.

Plain data can be kept in a file, and is made into objects (`sellers`) when somebody asks for them. Its shapes:

```text
match       (kind, text), or ("or_" / "and_", [match, ...])
constraint  None, ("date", "2026-08-01"), or ("time", "16:30:00", "00:30:00")
price       {name in the list: "2.5", or ("2.5", [(tokens above which it is dearer, "5"), ...])}
model       (id, match, price or [(constraint, price), ...], [(when, price, constraint), ...])
seller      (id, ids of those whose models are sold there, too, [model, ...])
```

What is not known here raises: a class `NameError`, a field `TypeError`, a value of another kind `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from typing import Any, Final

__all__ = [
    "ArrayMatch",
    "ClauseAnd",
    "ClauseContains",
    "ClauseEndsWith",
    "ClauseEquals",
    "ClauseOr",
    "ClauseRegex",
    "ClauseStartsWith",
    "ConditionalPrice",
    "ModelInfo",
    "ModelPrice",
    "PriceVariant",
    "Provider",
    "StartDateConstraint",
    "Tier",
    "TieredPrices",
    "TimeOfDateConstraint",
    "UsageExtractor",
    "UsageExtractorMapping",
]

ABOUT_SELLERS: Final = frozenset(
    (
        *("name", "api_pattern", "pricing_urls", "description", "price_comments"),
        *("model_match", "provider_match", "extractors"),
    )
)
ABOUT_MODELS: Final = frozenset(("name", "description", "context_window", "price_comments", "deprecated"))
"""Fields that no price depends on."""


def _skipped(**fields: Any) -> None:
    """How usage is read: that is done elsewhere here."""


def _seller(
    *,
    id: str,  # noqa: A002 - its name in the data
    models: list[Any],
    fallback_model_providers: list[str] | None = None,
    **about: Any,
) -> tuple[Any, ...]:
    _only(ABOUT_SELLERS, about)
    return id, fallback_model_providers or [], models


def _model(
    *,
    id: str,  # noqa: A002 - its name in the data
    match: Any,
    prices: Any,
    price_variants: list[Any] | None = None,
    **about: Any,
) -> Any:
    _only(ABOUT_MODELS, about)
    return id, match, prices, price_variants or []


def _only(known: frozenset[str], said: dict[str, Any]) -> None:
    if not known.issuperset(said):
        raise TypeError(f"fields that are not known: {', '.join(said.keys() - known)}")


def _price(**prices: Any) -> dict[str, Any]:
    return {name: _usd(price) for name, price in prices.items() if price is not None}


def _usd(price: Any) -> Any:
    if isinstance(price, Decimal):
        return str(price)
    if isinstance(price, tuple):
        return price
    raise ValueError(f"{price!r} is no price")


def _tiered(*, base: Decimal, tiers: list[tuple[int, str]]) -> tuple[str, list[tuple[int, str]]]:
    return str(base), sorted(tiers)


def _tier(*, start: int, price: Decimal) -> tuple[int, str]:
    return start, str(price)


def _conditional(*, prices: Any, constraint: Any = None) -> tuple[Any, ...]:
    return constraint, prices


def _variant(*, when: dict[str, str], prices: Any, constraint: Any = None) -> tuple[Any, ...]:
    return when, prices, constraint


def _from_day(*, start_date: date) -> tuple[str, str]:
    return "date", start_date.isoformat()


def _times(*, start_time: time, end_time: time) -> tuple[str, str, str]:
    return "time", start_time.isoformat(), end_time.isoformat()


def _clause(field: str) -> Callable[..., tuple[str, Any]]:
    """Makes clauses that ask this of a name."""

    def clause(**said: Any) -> tuple[str, Any]:
        (text,) = said.values()
        if field not in said:
            _only(frozenset((field,)), said)
        return field, text

    return clause


ArrayMatch = UsageExtractor = UsageExtractorMapping = _skipped
Provider, ModelInfo = _seller, _model
ModelPrice, TieredPrices, Tier = _price, _tiered, _tier
ConditionalPrice, PriceVariant = _conditional, _variant
StartDateConstraint, TimeOfDateConstraint = _from_day, _times
ClauseStartsWith, ClauseEndsWith, ClauseContains = _clause("starts_with"), _clause("ends_with"), _clause("contains")
ClauseEquals, ClauseRegex, ClauseOr, ClauseAnd = _clause("equals"), _clause("regex"), _clause("or_"), _clause("and_")
