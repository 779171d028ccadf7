"""The policy's `[prices]`: globs of `provider/model` to another model, or to rates in USD per million tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import translate
from typing import Final

from tokenguard.facts.errors import PolicyError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNITS
from tokenguard.prices.models import seller, spellings
from tokenguard.prices.rates import BY_USE, FACTOR, NAMES_A_PRICE, Card

OVERRIDE_KEYS: Final = tuple(name for name in Card._fields if name != "reasoning")
"""The rates that an override may state: one for each thing that is billed apart, per million of it."""
LAID_OVER: Final = BY_USE | {FACTOR}
"""What is laid over the price that holds otherwise, in a table of nothing else."""
STATED_KEYS: Final = (*OVERRIDE_KEYS, FACTOR)


class Override(NamedTuple):
    """One line of `[prices]`."""

    key: str
    matches: re.Pattern[str]
    value: str | Mapping[str, Decimal]
    """`provider/model`, in lower case, or rates in USD per million tokens by their names in `Usage`."""
    source: str

    @property
    def of_fees(self) -> bool:
        """Whether it states fees of hosted tools and a factor alone: the rest is as it would be without it."""
        return is_of_fees(self.value)

    def covers(self, provider: str, model: str) -> bool:
        """Whether this is for a model, by the provider's name or the price list's and any spelling of the same."""
        provider_id, name = seller(provider, model)
        same = [model, *(spelling for spelling, guessed in spellings(provider_id, name) if not guessed)]
        return any(self.matches.match(f"{each}/{it}") for each in {provider.lower(), provider_id} for it in same)


def is_of_fees(value: str | Mapping[str, object]) -> bool:
    """Whether a value of `[prices]` is a table of fees for hosted tools and a factor, and of nothing else."""
    return not isinstance(value, str) and bool(value) and value.keys() <= LAID_OVER


def fault(rates: Mapping[str, object]) -> str | None:
    """What is wrong with the names in a table of `[prices]`; `None`: nothing.

    >>> fault({"input": 3.0, "output": 12.0}), fault({"factor": 1.1})
    (None, None)
    """
    if FACTOR in rates and not is_of_fees(rates):
        return f'"{FACTOR}" is for the price that holds otherwise: leave it out where rates are given'
    if not (rates.keys() & NAMES_A_PRICE or is_of_fees(rates)):  # who sells pictures may ask nothing for tokens
        return (
            f'"input" is missing; give it in USD per million tokens, or one of {", ".join(UNITS)}, in USD per million '
            "of them: images = 40000 is $0.04 a picture"
        )
    return None


def read(raw: Mapping[str, str | Mapping[str, float]], origin: str) -> tuple[Override, ...]:
    """The overrides, ready to match; raises `PolicyError` with the line's key, its fault and the fix."""
    return tuple(_override(key, value, origin) for key, value in raw.items())


def _override(key: str, value: str | Mapping[str, float], origin: str) -> Override:
    where = f'{origin} "{key}"'
    provider, slash, model = key.partition("/")
    if not (slash and provider and model):
        raise PolicyError(f'{where}: a key is "provider/model", such as "azure/my-gpt4o-prod"; put the provider first')
    matches = re.compile(translate(key.lower()))
    if isinstance(value, str):
        return Override(key, matches, _alias(where, value), f'override "{key}" = "{value}" in {origin}')
    if not isinstance(value, Mapping):
        raise PolicyError(f'{where}: {value!r} is no price; give "provider/model", or {{ input = 3.0, output = 12.0 }}')
    return Override(key, matches, _rates(where, value), f'override "{key}" in {origin}')


def _alias(where: str, value: str) -> str:
    provider, slash, model = value.lower().partition("/")
    if not (slash and provider and model):
        raise PolicyError(f'{where} = "{value}": a value is "provider/model", such as "openai/gpt-4o"')
    return f"{provider}/{model}"


def _rates(where: str, raw: Mapping[str, float]) -> dict[str, Decimal]:
    for name, rate in raw.items():
        if name not in STATED_KEYS:
            from difflib import get_close_matches

            near = get_close_matches(str(name), STATED_KEYS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise PolicyError(f'{where}: there is no rate "{name}"{hint} Rates are {", ".join(OVERRIDE_KEYS)}')
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
            raise PolicyError(f"{where}: {name} = {rate!r} is not a rate: write USD per million tokens, 0 or more")
    if (wrong := fault(raw)) is not None:
        raise PolicyError(f"{where}: {wrong}")
    return {name: Decimal(str(rate)) for name, rate in raw.items()}
