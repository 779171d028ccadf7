"""Single flight: identical calls that are under way at the same time are sent once, and share the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Key = tuple[Any, ...]


class Place:
    """A caller's place in a flight."""

    __slots__ = ("_flight", "_land", "leads")

    def __init__(self, flight: _Flight, land: Callable[[Any], None] | None) -> None:
        self._flight = flight
        self._land = land
        self.leads = land is not None
        """Whether this caller makes the call, and must `land` the flight."""

    def __del__(self) -> None:
        self.land(None)  # the caller was interrupted before it could: those who wait go by themselves

    @property
    def answer(self) -> Future[Any]:
        """What the leader lands with."""
        return self._flight.answer

    @property
    def followers(self) -> int:
        """How many wait for the leader so far."""
        return self._flight.followers

    def land(self, answer: Any) -> None:
        """Give the answer to those who wait; calls that come later start a flight of their own."""
        land, self._land = self._land, None
        if land is not None:
            land(answer)


class _Flight:
    __slots__ = ("answer", "followers")

    def __init__(self) -> None:
        self.answer: Future[Any] = Future()
        self.followers = 0


class Flights:
    """The calls under way that may be shared."""

    def __init__(self) -> None:
        self._flying: dict[Key, _Flight] = {}
        self._lock = threading.RLock()  # a signal handler may raise, and a place be given up, where it is held

    def join(self, key: Key) -> Place:
        """A place in the flight of this key: the first caller leads it."""
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None:
                flight.followers += 1
                return Place(flight, None)
            flight = _Flight()

            def land(answer: Any) -> None:
                with self._lock:
                    self._flying.pop(key, None)
                if not flight.answer.done():
                    flight.answer.set_result(answer)

            place = Place(flight, land)
            self._flying[key] = flight
            return place
