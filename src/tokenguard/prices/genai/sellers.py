"""genai-prices' objects, with the few methods that finding a price needs, made of plain data (`types`).

The names, the fields and what the methods say are those of `genai_prices.types`
(https://github.com/pydantic/genai-prices); a test compares them over the whole list. Its own classes also read usage
and check what they are given, and take several times as long to load. A seller's models are made when they are asked
for, and a model's prices are: the list has thousands, of which a program calls a few.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.prices.sieve import Leaves


class _Fields:
    """An object of the fields that it is made with; what is not given is as the class has it."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__ = fields

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


# --- models ----------------------------------------------------------------------------------------------------------


class Provider:
    """Who sells models; `packed` are its models as plain data, in marshal's bytes, and `names` their names."""

    def __init__(self, name: str, fallback_model_providers: list[str], packed: bytes, names: bytes) -> None:
        self.id = name
        self.fallback_model_providers = fallback_model_providers
        self._packed = packed
        self._names = names

    @cached_property
    def models(self) -> list[ModelInfo]:
        """What it sells."""
        return [ModelInfo(*plain) for plain in marshal.loads(self._packed)]  # noqa: S302 - made by `packed` in `kept`

    @cached_property
    def leaves(self) -> Leaves:
        """What names its models can have."""
        found: Leaves = marshal.loads(self._names)  # noqa: S302 - as above
        return found

    def find_model(self, model_ref: str, *, all_providers: list[Provider] | None = None) -> ModelInfo | None:
        """The first model that a name may be, here or at those whose models are sold here, too."""
        model_ref = model_ref.lower()
        found = self._match(model_ref, all_providers)
        if found is None and (dashed := COMPACT_DATE.sub(_dashed, model_ref)) != model_ref:
            return self._match(dashed, all_providers)
        return found

    def _match(self, model_ref: str, others: list[Provider] | None = None) -> ModelInfo | None:
        for model in self.models:
            if matches(model.said, model_ref):
                return model
        for provider_id in self.fallback_model_providers if others else ():
            for other in others or ():
                if other.id == provider_id:
                    if (found := other._match(model_ref)) is not None:
                        return found
                    break
        return None


COMPACT_DATE: Final = lazy(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _dashed(found: re.Match[str]) -> str:
    year, month, day = (int(found[group]) for group in (2, 3, 4))
    try:
        return f"-{date(year, month, day)}"
    except ValueError:
        return found[0]


class ModelInfo:
    """A model, and what it costs."""

    def __init__(self, name: str, match: Any, prices: Any, variants: Any) -> None:
        self.id = name
        self.said = match
        """What is asked of a name, as plain data."""
        self._prices, self._variants = prices, variants

    @cached_property
    def match(self) -> Any:
        """The same as an object of the list's kinds."""
        return clause(*self.said)

    @cached_property
    def prices(self) -> ModelPrice | list[ConditionalPrice]:
        """Its price, or several of which each holds at some time."""
        if isinstance(self._prices, dict):
            return _price(self._prices)
        return [ConditionalPrice(constraint=_constraint(when), prices=_price(usd)) for when, usd in self._prices]

    @cached_property
    def price_variants(self) -> list[PriceVariant]:
        """What it costs where a request asks for another tier."""
        return [
            PriceVariant(when=when, prices=_price(usd), constraint=_constraint(constraint))
            for when, usd, constraint in self._variants
        ]

    def is_match(self, model_ref: str) -> bool:
        """Whether a name may be this model's."""
        return matches(self.said, model_ref.lower())

    def get_prices(self, request_timestamp: datetime, price_context: Mapping[str, str] | None = None) -> ModelPrice:
        """What it costs at a time, and by the words in which a request asks for another tier."""
        if isinstance(self.prices, ModelPrice):
            standard = self.prices
        else:
            active = (each for each in reversed(self.prices) if _holds(each.constraint, request_timestamp))
            standard = next(active, self.prices[0]).prices
        if not price_context:
            return standard
        other: dict[str, Any] = {}
        for variant in self.price_variants:
            asked = all(price_context.get(key) == value for key, value in variant.when.items())
            if asked and _holds(variant.constraint, request_timestamp):
                other = {**variant.prices.__dict__, **other}  # of two, the first has its way
        resolved = copy(standard)
        resolved.__dict__.update(other)
        return resolved


class ModelPrice(_Fields):
    """USD by the list's names of what is billed, each a `Decimal` or `TieredPrices`."""


class TieredPrices(_Fields):
    """A price that depends on how long the input is."""

    base: Decimal
    tiers: list[Tier]


class Tier(_Fields):
    """The price from so many input tokens on."""

    start: int
    price: Decimal


class PriceVariant(_Fields):
    """Other prices, where a request asks for them."""

    when: dict[str, str]
    prices: ModelPrice
    constraint: Constraint | None


class ConditionalPrice(_Fields):
    """Prices that hold at some time."""

    prices: ModelPrice
    constraint: Constraint | None


def _price(plain: Mapping[str, Any]) -> ModelPrice:
    return ModelPrice(**{name: _usd(usd) for name, usd in plain.items()})


def _usd(plain: Any) -> Decimal | TieredPrices:
    if isinstance(plain, str):
        return Decimal(plain)
    base, tiers = plain
    return TieredPrices(base=Decimal(base), tiers=[Tier(start=start, price=Decimal(usd)) for start, usd in tiers])


# --- when ------------------------------------------------------------------------------------------------------------


class StartDateConstraint(_Fields):
    """From a day on, by UTC."""

    start_date: date

    def active(self, request_timestamp: datetime) -> bool:
        """Whether it holds at this time."""
        return _utc(request_timestamp).date() >= self.start_date


class TimeOfDateConstraint(_Fields):
    """Between two times of the day, which may have midnight between them."""

    start_time: time
    end_time: time

    def active(self, request_timestamp: datetime) -> bool:
        """Whether it holds at this time."""
        now, start, end = _utc(request_timestamp).timetz(), _utc_time(self.start_time), _utc_time(self.end_time)
        return now >= start or now < end if end < start else start <= now < end


Constraint = StartDateConstraint | TimeOfDateConstraint


def _constraint(plain: Any) -> Constraint | None:
    if plain is None:
        return None
    kind, *at = plain
    if kind == "date":
        return StartDateConstraint(start_date=date.fromisoformat(at[0]))
    start, end = map(time.fromisoformat, at)
    return TimeOfDateConstraint(start_time=start, end_time=end)


def _holds(constraint: Constraint | None, at: datetime) -> bool:
    return constraint is None or constraint.active(at)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _utc_time(value: time) -> time:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).timetz()


# --- which name ------------------------------------------------------------------------------------------------------


_MATCHES: Final[Mapping[str, Callable[[Any, str], bool]]] = {
    "starts_with": lambda said, text: text.lower().startswith(said.lower()),
    "ends_with": lambda said, text: text.lower().endswith(said.lower()),
    "contains": lambda said, text: said.lower() in text.lower(),
    "equals": lambda said, text: text.lower() == said.lower(),
    "regex": lambda said, text: re.search(said, text) is not None,
    "or_": lambda clauses, text: any(matches(each, text) for each in clauses),
    "and_": lambda clauses, text: all(matches(each, text) for each in clauses),
}


def matches(plain: tuple[str, Any], text: str) -> bool:
    """Whether a name is as plain data asks of it."""
    kind, said = plain
    return _MATCHES[kind](said, text)


class _Clause(_Fields):
    """What is asked of a name, as the list has it; `plain` is the same as plain data."""

    __slots__ = ("plain",)
    plain: tuple[str, Any]

    def is_match(self, text: str) -> bool:
        """Whether a name is as it asks."""
        return matches(self.plain, text)


KINDS: Final = {field: type(field, (_Clause,), {}) for field in _MATCHES}


def clause(field: str, said: Any) -> Any:
    """What is asked of a name, of its plain data."""
    made = KINDS[field](**{field: [clause(*each) for each in said] if isinstance(said, list) else said})
    made.plain = (field, said)
    return made
