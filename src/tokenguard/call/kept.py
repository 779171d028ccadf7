"""An answer as it came over HTTP, what a call knows of those that are kept, and of one that several are to get."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenguard.facts.tuples import NamedTuple

if TYPE_CHECKING:
    from tokenguard.facts.usage import Usage
    from tokenguard.providers import Reading


Headers = Iterable[tuple[str, str] | tuple[bytes, bytes]]
"""As a transport has them."""


class Body(Protocol):
    """The body of an answer that is still coming in, as one of its readers has it."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """Read no more of it."""
        ...

    async def aclose(self) -> None:
        """Read no more of it."""
        ...


class HttpAnswer(NamedTuple):
    """An answer with status 200, as the provider sent it."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    """Encoded as `content-encoding` says, if the headers name one."""
    live: Body | None = None
    """Its body, where that is still coming in."""


HEADERS_FORGOTTEN: Final = frozenset({"connection", "keep-alive", "set-cookie", "retry-after", "server-timing"})
"""Of an answer: what is of the connection it came by, or of that moment, and not of the answer."""
LENGTH: Final = "content-length"
HEADER_STEMS_FORGOTTEN: Final = ("ratelimit", "rate-limit")


class Incoming:
    """An answer as it comes in: its headers and the parts of its body, up to a number of bytes."""

    begun = False
    """Whether an answer with status 200 has begun."""
    size = 0
    _headers: Headers = ()
    done = False
    """Whether it is known that all of it has come; else see `whole`."""
    _decoded = False
    _over: Callable[[], bool] | None = None

    def __init__(self, most: int) -> None:
        self.most = most
        self.parts: list[bytes] = []

    def begins(self, headers: Headers, *, decoded: bool, over: Callable[[], bool] | None = None) -> None:
        """An answer with status 200 has begun to come in; what came of an earlier attempt is forgotten.

        `decoded` says that its parts are no longer encoded as the headers say, `over` whether all of it was read; where
        nobody can be asked that, `ends` is called.
        """
        self.begun, self._headers, self._decoded, self._over = True, headers, decoded, over
        self.parts, self.size, self.done = [], 0, False

    def comes(self, headers: Headers, body: bytes) -> None:
        """All of an answer with status 200 has come, and its body is decoded."""
        self.begun = self._decoded = self.done = True
        self._headers, self.size, self.parts = headers, len(body), []
        if self.size <= self.most:
            self.parts = [body]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Those that last."""
        return lasting(self._headers, decoded=self._decoded)

    @property
    def encoding(self) -> str:
        """How its parts are encoded."""
        return next((value.strip().lower() for name, value in self.headers if name.lower() == "content-encoding"), "")

    @property
    def body(self) -> bytes:
        """What has come of its body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def part(self, data: bytes) -> None:
        """A part of its body."""
        self.size += len(data)
        if self.size <= self.most:
            self.parts.append(data)
        else:
            self.parts.clear()

    def ends(self) -> None:
        """That was all of it."""
        self.done = True

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self.done or self._is_long_enough() or (self._over is not None and self._over())

    def _is_long_enough(self) -> bool:
        """Whether as much has come of its body as was told; a reader may stop there, and ask for no end."""
        told = "" if self._decoded else next((value for name, value in self.headers if name.lower() == LENGTH), "")
        return told.isdecimal() and int(told) == self.size


def lasting(headers: Headers, *, decoded: bool) -> tuple[tuple[str, str], ...]:
    """The headers of an answer that another one gets, too."""
    return tuple([(_text(name), _text(value)) for name, value in headers if _lasts(name, decoded)])


def _text(told: str | bytes) -> str:
    return told if isinstance(told, str) else told.decode("latin-1")


@lru_cache(maxsize=1024)
def _lasts(name: str | bytes, decoded: bool) -> bool:
    low = _text(name).lower()
    if low in HEADERS_FORGOTTEN or any(stem in low for stem in HEADER_STEMS_FORGOTTEN):
        return False
    return not (decoded and low == "content-encoding")


class Flying(Protocol):
    """A call's place among those that get one answer."""

    leads: bool
    """Whether it is this call that is sent."""
    incoming: Incoming
    """The leader's answer, where it comes whole."""

    def fans_out(
        self, headers: tuple[tuple[str, str], ...], source: Any, broken: Callable[[str], Exception], *, waits: bool
    ) -> Any:
        """The body that the leader reads in place of `source`, now that others read it too.

        `headers` are those that last, `broken` makes what the others are told where nobody can read on, and `waits`
        says that it is read asynchronously.
        """
        ...

    @property
    def answer(self) -> Future[Any]:
        """What the leader lands with."""
        ...

    def board(self, call: Any) -> None:
        """This call is made for the flight."""
        ...

    def follows(self, call: Any) -> None:
        """This call gets a copy of the leader's answer, or was never sent: it costs nothing."""
        ...

    def land(self, answer: object) -> None:
        """Give the answer to those who wait; `None`: each goes by itself."""
        ...

    def joins(self, call: Any, landed: object) -> bool:
        """Give this call what the leader has landed with; false where it is to go by itself."""
        ...

    def told(self, reading: Reading) -> Reading:
        """What the answer says, where this call pays for it and has left it, and another one has read it whole."""
        ...

    def leaves(self, call: Any, reading: Reading) -> bool:
        """The call has ended; whether another one pays for the answer. Says so on its span."""
        ...


class LookUp:
    """What became of looking for a kept answer to a call; its transport asks it what is wanted of it."""

    answer: HttpAnswer | None = None
    """The kept answer, to be given in place of the provider's; `None` where the request is sent."""
    incoming: Incoming | None = None
    """The provider's answer, where that is wanted, to be kept."""
    served: bool = False
    """Whether the SDK has got the kept answer."""
    merges: bool = False
    """Whether only a part of the request is sent, and its answer is to be completed by `merge`."""
    kept_usage: Usage | None = None
    """What was not used because of that."""
    whole: Mapping[str, Any] | None = None
    """The request as it was looked up, where the answer to a part of it could not be completed: this is to be sent."""
    reads_later: bool = False
    """Whether others may read the answer too, while the application reads it when and as it likes."""

    def settle(self, call: Any, reading: Reading, outcome: str) -> None:
        """The call has ended: keep its answer, or put away the one that it was given and could not use."""

    def forget(self, call: Any) -> None:
        """The kept answer cannot be used: delete it, and have the request sent."""
        self.answer = None
        self.served = False

    # --- what a transport tells --------------------------------------------------------------------------------------

    def given(self) -> None:
        """The SDK has got the answer."""
        self.served = True

    def merge(self, body: bytes) -> bytes:
        """The whole answer, from the provider's answer to the part that was sent; as it is, where it cannot be made."""
        return body

    def fans_out(
        self,
        headers: Headers,
        source: Any,
        broken: Callable[[str], Exception],
        *,
        waits: bool,
        decoded: bool = False,
    ) -> Any:
        """The body that is read in place of `source`: where others wait for it, one that they read too.

        `decoded` says that what the source gives is no longer encoded as the headers say.
        """
        return source

    def begins(self, headers: Headers, *, decoded: bool, over: Callable[[], bool] | None = None) -> None:
        """See `Incoming.begins`."""
        if self.incoming is not None:
            self.incoming.begins(headers, decoded=decoded, over=over)

    def comes(self, headers: Headers, body: bytes) -> None:
        """See `Incoming.comes`."""
        if self.incoming is not None:
            self.incoming.comes(headers, body)

    def part(self, data: bytes) -> None:
        """See `Incoming.part`."""
        if self.incoming is not None:
            self.incoming.part(data)

    def ends(self) -> None:
        """See `Incoming.ends`."""
        if self.incoming is not None:
            self.incoming.ends()
