"""Single flight: identical calls that are under way at the same time are sent once, and share the answer.

By HTTP each of them gets the bytes that its leader got, through its own SDK: whole answers when they are there, streams
from their beginning, as they come in. One of them pays: the leader, or where it gives up, one that reads on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from tokenguard.call.failures import refuses
from tokenguard.call.flow import Answer
from tokenguard.call.kept import HttpAnswer, Incoming, LookUp
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.guard.fan_out import FanOut, running_loop
from tokenguard.process.native import RLock

if TYPE_CHECKING:
    from tokenguard.call.call import Call, Guarding
    from tokenguard.ledger import Reservation
    from tokenguard.policy import Matched
    from tokenguard.providers import Reading

Key = tuple[Any, ...]
REFUSING: Final = range(400, 600)
"""Statuses of an answer that is a failure: some SDKs bring it back, and raise later."""
MOST: Final = 2**26
"""Bytes of a whole answer that is shared, at the most."""


class Place:
    """A caller's place in a flight (`call.kept.Flying`), and the body that it reads, where that is still coming in."""

    def __init__(self, flight: _Flight, rule: str, *, leads: bool) -> None:
        self._flight = flight
        self._rule = rule
        self.leads = leads
        """Whether this caller makes the call, and must `land` the flight."""
        self.late = False
        """Whether the call is sent when its answer is first read: then nobody but its end lands the flight."""
        self.call: Call | None = None
        self.incoming = Incoming(MOST)
        self._hid = self._out = False
        self._waits = not leads
        flight.waiting += self._waits

    def __del__(self) -> None:
        self.land(None)  # the caller was interrupted before it could: those who wait go by themselves
        if self._waits:
            with self._flight.lock:
                self._stop_waiting()
            if self._flight.unread:
                self._flight.over()

    def _stop_waiting(self) -> None:
        self._flight.waiting -= self._waits
        self._waits = False

    @property
    def answer(self) -> Future[Any]:
        """What the leader lands with."""
        return self._flight.answer

    @property
    def _hides(self) -> bool:
        """Whether the stream tells its usage only because TokenGuard has asked for it."""
        return self._hid if self.call is None else self.call.hide_usage

    # --- the leader --------------------------------------------------------------------------------------------------

    def board(self, call: Call) -> None:
        """This call is the one whose answer all get."""
        self.call = call
        call.flight = self

    def lands(self, answer: Answer | None) -> None:
        """The call has ended, or its answer has begun: give those who wait what there is to be given.

        They go by themselves where no answer came (the leader was cancelled, or refused), or none that can be shared.
        """
        came = self.incoming
        if answer is not None and (isinstance(answer.error, Exception) or refuses(answer, REFUSING)):
            self.land(answer)
        elif answer is None or answer.error is not None or came.size > came.most:
            self.land(None)
        elif came.begun and came.whole:
            self.land(_Landed(HttpAnswer(came.headers, came.body), self._hides))
        else:
            self.land(answer if self._flight.by_object else None)
        self.incoming = Incoming(0)

    def fans_out(
        self, headers: tuple[tuple[str, str], ...], source: Any, broken: Callable[[str], Exception], *, waits: bool
    ) -> Any:
        """See `Flying.fans_out`."""
        loop = running_loop() if waits else None
        if waits and loop is None:
            return source  # trio's: there is no task of asyncio's that could read on
        flight = self._flight
        with flight.lock:
            flight.out = FanOut(source, broken, loop)
            flight.payer = self
            flight.readers.append(self)
        self.land(_Landed(HttpAnswer(headers, b"", self), self._hides))
        return self

    def land(self, answer: object) -> None:
        """Give the answer to those who wait. Unless it is still coming in, later calls start a flight of their own."""
        if self.leads and not self._flight.answer.done():
            self._flight.answer.set_result(answer)
        if self.leads and self._flight.out is None:
            self._flight.over()

    # --- a follower --------------------------------------------------------------------------------------------------

    def joins(self, call: Call, landed: object) -> bool:
        """Give this call what the leader has landed with; false where it is to go by itself."""
        if not isinstance(landed, _Landed):
            return False
        flight, answer = self._flight, landed.answer
        if answer.live is not None:
            if flight.out is None or flight.out.loop is not running_loop():
                return False
            with flight.lock:
                self._stop_waiting()
                flight.readers.append(self)
                if flight.left is not None:
                    flight.payer = self
                    self._inherit(call, flight.left)
                    flight.left = None
            answer = answer._replace(live=self)
        self.board(call)
        call.hide_usage = landed.hides_usage
        call.look_up = Followed(answer)
        return True

    def follows(self, call: Call) -> None:
        """Give this call a copy of the leader's answer, an object of the SDK's or an error, in place of its bytes."""
        self.board(call)
        call.look_up = Followed(None, served=True)

    # --- the end -----------------------------------------------------------------------------------------------------

    def told(self, reading: Reading) -> Reading:
        """See `Flying.told`."""
        whole = self._flight.whole
        return reading if reading.complete or whole is None or self._flight.payer is not self else whole

    def leaves(self, call: Call, reading: Reading) -> bool:
        """See `Flying.leaves`."""
        flight, complete = self._flight, reading.complete and reading.usage is not None
        if complete:
            flight.whole = reading
        if self.late:
            self.land(None)
        with flight.lock:
            if self in flight.readers:
                flight.readers.remove(self)
            if not self.leads and flight.payer is not self:
                served = call.look_up is not None and call.look_up.served
            else:
                served = flight.payer is self and not complete and self._hand_over(call, flight)
        self._hid, self.call = self._hides, None
        if flight.unread:
            flight.over()
        if served:
            call.attributes[names.CACHE_RESULT] = names.SHARED
            call.attributes[names.CACHE_RULE] = self._rule
            call.attributes.pop(names.CACHE_REASON, None)
        return served

    def _hand_over(self, call: Call, flight: _Flight) -> bool:
        """Have a call that reads on pay in place of this one, which gives up; false where there is none."""
        heir = next((each for each in flight.readers if each.call is not None), None)
        if heir is None and not flight.waiting:
            return False
        left = _Left(call.guard, call.matched, call.reservation, call.turn, call.most_output)
        call.matched = call.reservation = call.turn = None
        flight.payer = heir
        if heir is None or heir.call is None:
            flight.left = left
        else:
            self._inherit(heir.call, left)
        return True

    def _inherit(self, call: Call, left: _Left) -> None:
        call.guard, call.matched, call.reservation, call.turn, call.most_output = left

    # --- the body ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[bytes]:
        out = self._flight.out
        return iter(()) if out is None else out.read()

    def __aiter__(self) -> AsyncIterator[bytes]:
        out = self._flight.out
        assert out is not None
        return out.aread()

    def close(self) -> None:
        """See `Body.close`."""
        if self._last_out():
            self._flight.close()

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        if self._last_out():
            await self._flight.aclose()

    def _last_out(self) -> bool:
        """This reader closes the body; whether nobody else reads it."""
        with self._flight.lock:
            self._out = True
            flight = self._flight
            return (flight.out is not None and flight.out.ended) or (
                not flight.waiting and all(each._out for each in flight.readers)
            )


class _Landed:
    """What those who wait get, by HTTP."""

    def __init__(self, answer: HttpAnswer, hides_usage: bool) -> None:
        self.answer = answer
        self.hides_usage = hides_usage


class _Left(NamedTuple):
    """What is to be seen to by whoever pays."""

    guard: Guarding | None
    matched: Matched | None
    reservation: Reservation | None
    turn: Reservation | None
    most_output: int | None


class Followed(LookUp):
    """The answer of an identical call, for one that waited for it."""

    def __init__(self, answer: HttpAnswer | None, *, served: bool = False) -> None:
        self.answer = answer
        self.served = served


class _Flight:
    def __init__(self, over: Callable[[], None], *, by_object: bool) -> None:
        self.answer: Future[Any] = Future()
        self.by_object = by_object
        """Whether its answer is the SDK's object, each of those who wait getting a copy: it does not come by HTTP."""
        self.over = over
        """Later calls start a flight of their own."""
        self.lock = RLock()
        self.out: FanOut | None = None
        self.readers: list[Place] = []
        """Whose calls have not ended, of those that read it as it comes in."""
        self.payer: Place | None = None
        self.left: _Left | None = None
        """What a payer has left that gave up, for the next one that reads."""
        self.whole: Reading | None = None
        """What it says, once somebody has read all of it."""
        self.waiting = 0
        """Callers that have not heard of an answer yet."""
        self.followers = 0

    @property
    def unread(self) -> bool:
        """Whether nobody reads, or will, what is still coming in."""
        return self.out is not None and not self.readers and not self.waiting

    def close(self) -> None:
        self.over()
        if self.out is not None:
            self.out.close()

    async def aclose(self) -> None:
        self.over()
        if self.out is not None:
            await self.out.aclose()


class Flights:
    """The calls under way that may be shared."""

    def __init__(self) -> None:
        self._flying: dict[Key, _Flight] = {}
        self._lock = RLock()  # a signal handler may raise, and a place be given up, where it is held

    def join(self, key: Key, rule: str = "", *, by_object: bool = False) -> Place:
        """A place in the flight of this key: the first caller leads it."""
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None and (flight.out is None or flight.out.takes_more()):
                flight.followers += 1
                return Place(flight, rule, leads=False)

            def over() -> None:
                with self._lock:
                    if self._flying.get(key) is flight:
                        del self._flying[key]

            flight = _Flight(over, by_object=by_object)
            self._flying[key] = flight
            return Place(flight, rule, leads=True)
