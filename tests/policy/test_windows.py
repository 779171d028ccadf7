"""A budget's windows follow the calendar of their time zone, across clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenguard.policy import window_bounds
from tokenguard.policy.windows import FOREVER

WINDOWS = ["minute", "hour", "day", "week", "month"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # its changes were at midnight
    "America/Havana",  # repeats midnight
    "Australia/Lord_Howe",  # changes by half an hour
    "Asia/Kolkata",  # half an hour off
    "Pacific/Apia",  # skipped a whole day
    "Africa/Cairo",
]


def at(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("window", "zone", "now", "start", "end"),
    [
        ("day", "Europe/Berlin", "2026-11-20T23:30", "2026-11-20T00:00", "2026-11-21T00:00"),
        ("week", "Europe/Berlin", "2026-11-22T23:30", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("month", "America/New_York", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "UTC", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("hour", "Asia/Kolkata", "2026-11-20T10:59", "2026-11-20T10:00", "2026-11-20T11:00"),
        ("minute", "Asia/Kolkata", "2026-11-20T10:59:59", "2026-11-20T10:59", "2026-11-20T11:00"),
        ("week", "America/New_York", "2026-03-08T12:00", "2026-03-02T00:00", "2026-03-09T00:00"),
    ],
)
def test_calendar(window: str, zone: str, now: str, start: str, end: str) -> None:
    """Windows begin and end where the wall clock says; a week begins on Monday."""
    assert window_bounds(window, zone, at(now, zone)) == (at(start, zone), at(end, zone))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Havana", "2024-11-03", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("Pacific/Apia", "2011-12-29", 24),
    ],
)
def test_days_across_clock_changes(zone: str, day: str, hours: float) -> None:
    """A day is as long as the clock makes it."""
    start, end = window_bounds("day", zone, at(f"{day}T12:00", zone))
    assert (end - start) / 3600 == hours


def test_total_never_ends() -> None:
    """`total` is one window for all time."""
    assert window_bounds("total", "UTC", 0) == window_bounds("total", "Asia/Kolkata", 4e9) == (0, FOREVER)


@given(
    st.sampled_from(WINDOWS),
    st.sampled_from(ZONES),
    st.one_of(
        st.integers(min_value=1_000_000_000, max_value=3_000_000_000),
        st.builds(
            lambda day, offset: int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) + day * 86400 + offset,
            st.sampled_from([59, 60, 66, 67, 87, 88, 93, 94, 95, 297, 298, 304, 305]),
            st.integers(0, 86400),
        ),
        st.integers(min_value=1_325_000_000, max_value=1_325_400_000),  # Samoa's skipped day
        st.integers(min_value=1_541_200_000, max_value=1_541_400_000),  # midnight skipped in Sao Paulo
    ),
)
def test_windows_tile_time(window: str, zone: str, now: int) -> None:
    """Every moment lies in exactly one window, and the next window begins where this one ends."""
    start, end = window_bounds(window, zone, now)
    assert start <= now < end
    assert window_bounds(window, zone, start) == (start, end)
    assert window_bounds(window, zone, end - 1) == (start, end)
    assert window_bounds(window, zone, (start + now) / 2) == (start, end)
    assert window_bounds(window, zone, end)[0] == end
