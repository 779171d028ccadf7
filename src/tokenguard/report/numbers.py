"""Numbers as people read them: as many digits as say something, and one format for all the numbers of a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tokenguard.facts.dollars import decimals, dollars, fixed

UNKNOWN: Final = "-"
THOUSANDS: Final = 1e5
"""The tokens from which on a column is in thousands: below, each digit is worth its room."""
MILLIONS: Final = 1e8


def spent(values: Sequence[float | None]) -> list[str]:
    """A column of dollars where most are nothing, which is left blank."""
    return [shown if value else "" for value, shown in zip(values, usds(values), strict=True)]


def usd(value: float | None) -> str:
    """Dollars, with as many digits as say something."""
    return UNKNOWN if value is None else dollars(value)


def usds(values: Sequence[float | None]) -> list[str]:
    """A column of dollars with one number of digits: what the smallest needs, four beside a dollar, six beside a cent.

    >>> usds([30.0, 0.0340, None, 0.00001])
    ['$30.0000', '$0.0340', '-', '<$0.0001']
    """
    known = [value for value in values if value]
    largest = max(map(abs, known), default=0.0)
    most = 4 if largest >= 1 else 6 if largest >= 0.01 else 9
    digits = min(most, max(map(decimals, known), default=2))
    return [UNKNOWN if value is None else fixed(value, digits) for value in values]


def tokens(value: float | None) -> str:
    """Tokens, in thousands and millions where there are many."""
    if value is None:
        return UNKNOWN
    for size, unit, start in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if value >= start * 0.99995:  # from where on it is rounded up to the start
            return f"{value / size:,.1f}{unit}"
    return f"{value:,.0f}"


def token_counts(values: Sequence[float | None]) -> list[str]:
    """A column of tokens in one unit, which the largest decides.

    >>> token_counts([2_400_000, 400, None, 0])
    ['2,400.0k', '0.4k', '-', '0.0k']
    """
    largest = max((value for value in values if value is not None), default=0)
    size, unit = (1e6, "M") if largest >= MILLIONS else (1e3, "k") if largest >= THOUSANDS else (1, "")
    digits = 1 if unit else 0

    def shown(value: float | None) -> str:
        if value is None:
            return UNKNOWN
        return f"<0.1{unit}" if unit and 0 < value < size / 20 else f"{value / size:,.{digits}f}{unit}"

    return [shown(value) for value in values]


def share(value: float | None, digits: int | None = None) -> str:
    """A share of 1 as a percentage: 0% is nothing and 100% is all, not nearly so. `digits` after the point if said."""
    if value is None:
        return UNKNOWN
    if digits is None:
        digits = 0 if value == 0 or value >= 0.0995 else 1
    least = 10 ** -(digits + 2)
    if 0 < value < min(least, 0.001) / 2:
        return f"<{100 * min(least, 0.001):.1f}%"
    if 1 - least / 2 <= value < 1 - 1e-9:  # sums in another order differ by less
        return f">{100 - 100 * least:.{digits}f}%"
    return f"{value:.{digits}%}"


def shares(values: Sequence[float | None]) -> list[str]:
    """A column of percentages.

    >>> shares([0.75, 0.083, 0.0, 1.0, None])
    ['75.0%', '8.3%', '0.0%', '100.0%', '-']
    """
    digits = int(any(value is not None and share(value)[-3:-2] == "." for value in values))
    return [share(value, digits) for value in values]


def signed_shares(values: Sequence[float | None]) -> list[str]:
    """A column of percentages that may be below zero.

    >>> signed_shares([0.75, -0.5, None])
    ['75%', '-50%', '-']
    """
    sizes = shares([None if value is None else abs(value) for value in values])
    return [f"-{size}" if value is not None and value < 0 else size for value, size in zip(values, sizes, strict=True)]


def seconds(value: float | None) -> str:
    """A duration: milliseconds below a second, minutes from two on."""
    if value is None:
        return UNKNOWN
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 119.95 else f"{value / 60:.1f} min"


def durations(values: Sequence[float | None]) -> list[str]:
    """A column of durations in one unit: milliseconds where none is a second long."""
    if all(value is None or value < 0.9995 for value in values):
        return [UNKNOWN if value is None else f"{value * 1000:.0f} ms" for value in values]
    digits = 1 if any(value is not None and value >= 9.995 for value in values) else 2
    return [UNKNOWN if value is None else f"{value:,.{digits}f} s" for value in values]


def counts(values: Sequence[int | None]) -> list[str]:
    """A column of counts; nothing where there was none."""
    return [UNKNOWN if value is None else f"{value:,}" if value else "" for value in values]


def change(value: float | None, before: float | None) -> str:
    """A change as a percentage of what was before: `+12%`; `new` where that was nothing.

    >>> change(12.0, 100.0), change(-3.0, 100.0), change(0.01, 100.0), change(5.0, 0.0), change(None, None)
    ('+12%', '-3.0%', '0%', 'new', '-')
    """
    if value is None or before is None:
        return UNKNOWN
    if not before:
        return "new" if value else "0%"
    part = value / before
    if abs(part) < 0.0005:
        return "0%"
    if abs(part) >= 10:
        return f"x{1 + part:,.0f}"
    return f"{'+' if part > 0 else '-'}{share(abs(part))}"


def changes(values: Sequence[tuple[float, float] | None]) -> list[str]:
    """A column of changes, each with what was before."""
    return [UNKNOWN if value is None else change(*value) for value in values]


def plain(values: Sequence[Any]) -> list[str]:
    """A column of counts in full."""
    return [f"{value:,}" for value in values]
