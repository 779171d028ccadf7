"""Where a budget's window begins and ends: aligned to the calendar of a time zone, right across its clock changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

FOREVER: Final = 253_402_300_800
"""The end of a `total` window: the year 10000, as Unix seconds. Finite, so that every ledger can store it as an int."""

_NEXT: Final[dict[str, Callable[[datetime], datetime]]] = {
    "day": lambda start: start + timedelta(days=1),
    "week": lambda start: start + timedelta(days=7),
    "month": lambda start: (start + timedelta(days=32)).replace(day=1),
}


def window_bounds(window: str, timezone: str, now: float) -> tuple[int, int]:
    """The Unix seconds [start, end) of the window that holds `now`.

    Minutes are minutes of Unix time. Hours are hours of the zone's wall clock (they differ where an offset is not whole
    hours); the hour that a clock change repeats is two windows. A day lasts 23 or 25 hours when the clocks change, and
    begins at its first existing moment where midnight itself is skipped.
    """
    if window == "total":
        return 0, FOREVER
    if window == "minute":
        start = int(now // 60) * 60
        return start, start + 60
    zone = load_zone(timezone)
    local = datetime.fromtimestamp(now, zone)
    if window == "hour":
        shift = int(_offset(now, zone).total_seconds())
        start = int((now + shift) // 3600) * 3600 - shift
        return _since_change(start, int(now), zone), _until_change(int(now), start + 3600, zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if window == "week":
        midnight -= timedelta(days=midnight.weekday())
    elif window == "month":
        midnight = midnight.replace(day=1)
    return _epoch(midnight, zone), _epoch(_NEXT[window](midnight), zone)


def _epoch(naive: datetime, zone: ZoneInfo) -> int:
    """The first moment at which the zone's clock shows `naive`, or else the moment at which it skips that time."""
    moment = int(naive.replace(tzinfo=zone).timestamp())
    if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == naive:
        return moment
    return _since_change(moment - 86400, moment, zone)  # skipped: `moment` lies as far behind the gap as inside it


def _since_change(low: int, high: int, zone: ZoneInfo) -> int:
    """The first moment after `low` with the offset that `high` has; `low` itself if that has it too."""
    offset = _offset(high, zone)
    if _offset(low, zone) == offset:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) == offset else (middle, high)
    return high


def _until_change(low: int, high: int, zone: ZoneInfo) -> int:
    """The first moment with another offset than `low`; `high` if none is before it."""
    return high if _offset(high - 1, zone) == _offset(low, zone) else _since_change(low, high - 1, zone)


def _offset(moment: float, zone: ZoneInfo) -> timedelta:
    return datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()


@lru_cache(maxsize=256)
def load_zone(name: str) -> ZoneInfo:
    """The rules of a time zone by its IANA name; read from a file the first time."""
    return ZoneInfo(name)


def utc(epoch: float) -> str:
    """A moment for people: `2026-11-20 12:00 UTC`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")
