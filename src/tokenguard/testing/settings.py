"""What a run asks for: options, ini keys and markers, read with a sentence for everything that is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import pytest

from tokenguard.facts.tuples import NamedTuple
from tokenguard.testing.options import OPTIONS, setting

MARK: Final = "token_budget"


class Wrong(ValueError):
    """A value that cannot be meant; the text says what it should be."""


def _number(value: object, low: float = 0.0) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Wrong("it must be a number")
    if number < low:
        raise Wrong("it must not be negative")
    return number


def usd(value: object) -> float:
    """An amount of money: 0.01, "5", "$5"."""
    return _number(value.removeprefix("$") if isinstance(value, str) else value)


def count(value: object) -> int:
    """A whole number from 0 on."""
    number = _number(value)
    if not number.is_integer():
        raise Wrong("it must be a whole number")
    return int(number)


def share(value: object) -> float:
    """A part of 1: 0.1, "0.1" or "10%"."""
    if isinstance(value, str) and value.endswith("%"):
        return _number(value[:-1]) / 100
    return _number(value)


def part(value: object) -> float:
    """A share of at most 1."""
    if (found := share(value)) > 1:
        raise Wrong("it must be a share from 0 to 1, or from 0% to 100%")
    return found


def one_of(*words: str) -> Callable[[object], str]:
    """One of these words."""

    def read(value: object) -> str:
        if value not in words:
            raise Wrong(f"it must be one of {', '.join(words)}")
        return str(value)

    return read


def text(value: object) -> str:
    """A text that says something."""
    if not str(value).strip():
        raise Wrong("it must not be empty")
    return str(value)


class Settings(NamedTuple):
    """The options of a run."""

    max_cost: float | None = None
    max_calls: int | None = None
    then: str = "fail"
    update: bool = False
    tolerance: float = 0.1
    growth: str = "fail"
    json: str | None = None
    top: int = 10


READERS: Final[dict[str, Callable[[object], Any]]] = {
    "": bool,
    "-max-cost": usd,
    "-max-calls": count,
    "-then": one_of("fail", "stop"),
    "-update": bool,
    "-tolerance": share,
    "-growth": one_of("fail", "warn", "ignore"),
    "-json": text,
    "-top": count,
}


def settings(config: pytest.Config) -> Settings:
    """Read the options and ini keys. Raises `pytest.UsageError`."""
    found = {}
    for end in OPTIONS:
        value = setting(config, end)
        if value is None or not end:
            continue
        try:
            found[end[1:].replace("-", "_")] = READERS[end](value)
        except Wrong as wrong:
            raise pytest.UsageError(f"--tokenguard{end}: {value!r}: {wrong}.") from None
    return Settings(**found)


KEYS: Final[dict[str, Callable[[object], Any]]] = {
    "max_cost_usd": usd,
    "max_input_tokens": count,
    "max_output_tokens": count,
    "max_calls": count,
    "max_retries": count,
    "max_tool_steps": count,
    "min_cache_hit": part,
    "tolerance": share,
}
"""The keys of the marker, and what reads their values."""


def budget_of(item: pytest.Item) -> dict[str, Any]:
    """What a test's markers allow; the nearest one wins, key by key. Raises `pytest.UsageError`."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers(MARK):
        for key, value in _read(mark, item.nodeid).items():
            found.setdefault(key, value)
    return {key: value for key, value in found.items() if value is not None}


def _read(mark: pytest.Mark, nodeid: str) -> dict[str, Any]:
    known = ", ".join(KEYS)
    if mark.args:
        raise pytest.UsageError(
            f"{nodeid}: {MARK}({mark.args[0]!r}): a value without a name; write {MARK}(max_cost_usd=...). Keys: {known}"
        )
    if not mark.kwargs:
        raise pytest.UsageError(f"{nodeid}: {MARK}() allows anything; give it one of {known}")
    read = {}
    for key, value in mark.kwargs.items():
        if key not in KEYS:
            from tokenguard.policy.kinds import nearest

            raise pytest.UsageError(
                f"{nodeid}: {MARK}({key}={value!r}): there is no such key{nearest(key, KEYS)} Keys: {known}"
            )
        try:
            # None takes away what a class or module allows.
            read[key] = None if value is None else KEYS[key](value)
        except Wrong as wrong:
            raise pytest.UsageError(f"{nodeid}: {MARK}({key}={value!r}): {wrong}.") from None
    return read
