"""What is below the SDKs: where an answer is given in the place of the network, and a new one is listened to.

The SDK does all that it does for any request, and gets a kept answer, or that of an identical call, as the bytes that
the provider had sent. So what comes of it is the SDK's own: its types, streams, raw responses and helpers. A transport
is wrapped only while a policy has answers kept or shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

from tokenguard.call.call import Call, current_call
from tokenguard.call.kept import Flying, Headers, HttpAnswer, LookUp, lasting
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore

TRANSPORTS = {
    "httpx._client": "httpx",
    "httpx2._client": "httpx",
    "aiohttp.client": "aiohttp",
    "botocore.httpsession": "botocore",
    "ssl": "certificates",
}
"""The module that is wrapped, and the one here whose `patch(module, meter)` wraps it; `ssl` for whose a request is."""


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap a transport; returns what to restore."""
    own = import_module(f"{__name__}.{TRANSPORTS[module.__name__]}")
    placed: Restore = own.patch(module, meter)
    return placed


class Shared(LookUp):
    """What a call wants whose answer others wait for: its own look-up listens as well, if it has one."""

    def __init__(self, found: LookUp | None, flight: Flying, reads_later: bool) -> None:
        self.reads_later = reads_later
        self._found = found
        self._flight = flight
        self._listeners = [flight.incoming]
        if found is not None:
            self.answer, self.merges = found.answer, found.merges
            if found.incoming is not None:
                self._listeners.append(found.incoming)

    def given(self) -> None:
        """See `LookUp.given`."""
        if self._found is not None:
            self._found.given()

    def merge(self, body: bytes) -> bytes:
        """See `LookUp.merge`; those who wait get the whole answer too."""
        whole = body if self._found is None else self._found.merge(body)
        self._flight.incoming.parts = [whole]
        return whole

    def fans_out(
        self,
        headers: Headers,
        source: Any,
        broken: Callable[[str], Exception],
        *,
        waits: bool,
        decoded: bool = False,
    ) -> Any:
        """See `LookUp.fans_out`."""
        self._listeners.remove(self._flight.incoming)
        return self._flight.fans_out(lasting(headers, decoded=decoded), source, broken, waits=waits)

    def begins(self, headers: Headers, *, decoded: bool, over: Callable[[], bool] | None = None) -> None:
        """See `Incoming.begins`."""
        for each in self._listeners:
            each.begins(headers, decoded=decoded, over=over)

    def comes(self, headers: Headers, body: bytes) -> None:
        """See `Incoming.comes`."""
        for each in self._listeners:
            each.comes(headers, body)

    def part(self, data: bytes) -> None:
        """See `Incoming.part`."""
        for each in self._listeners:
            each.part(data)

    def ends(self) -> None:
        """See `Incoming.ends`."""
        for each in self._listeners:
            each.ends()


class Following:
    """What a call gets that is sent only now, while an identical one is under way."""

    def __init__(self, call: Call, place: Flying) -> None:
        self.call = call
        self._place = place

    @property
    def landing(self) -> Future[Any]:
        """What the other one lands with."""
        return self._place.answer

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """This call waits meanwhile; where that is interrupted, it was never sent, and costs nothing."""
        try:
            yield
        except BaseException:
            self._place.follows(self.call)
            self._is_free()
            raise

    def lands(self, landed: object) -> None:
        """Give this call what the other one gets, where that can be shared."""
        if self._place.joins(self.call, landed):
            self._is_free()

    def _is_free(self) -> None:
        call = self.call
        if call.guard is not None:
            call.guard.give_back(call)
        call.matched = None  # it is no test of the provider, and costs nothing


heard_above: ContextVar[bool] = ContextVar("tokenguard_heard_above", default=False)
"""Whether what is sent just now is listened to already: one client may send by another (httpx by aiohttp)."""


Where = Callable[[Any], tuple[str, str | None]]
"""The method of a transport's request, and the host."""


def wanted(request: Any, where: Where, late: bool) -> LookUp | Following | None:
    """What is wanted of a request: `None` where it has nothing to do with kept and shared answers.

    `late` says that the transport can wait for the answer to an identical request.
    """
    call = current_call.get()
    if call is None or (call.look_up is None and call.flight is None and call.joins is None) or heard_above.get():
        return None
    method, host = where(request)
    if method != "POST" or host != call.endpoint.host:  # an SDK may ask for a token meanwhile
        return None
    return (follows(call) if late and call.joins is not None else None) or asked(call)


def follows(call: Call) -> Following | None:
    """The call, if it is sent only now, and an identical one is under way."""
    if call.joins is None:
        return None
    join, call.joins = call.joins, None
    if call.look_up is not None and call.look_up.answer is not None:
        return None
    place = join()
    return None if place is None or place.leads else Following(call, place)


def asked(call: Call) -> LookUp | None:
    """What is wanted of the call that is being sent; `None` for nothing."""
    found, flight = call.look_up, call.flight
    if flight is not None and flight.leads:
        return Shared(found, flight, call.stream or call.reads_later)
    return None if found is None or (found.answer is None and found.incoming is None) else found


def headers_of(answer: HttpAnswer) -> list[tuple[str, str]]:
    """The headers of a kept answer: its body may be another length than what came, which was compressed."""
    length = str(len(answer.body))
    told = [(name, value) for name, value in answer.headers if answer.live is None or name.lower() != "content-length"]
    return [(name, length if name.lower() == "content-length" else value) for name, value in told]
