"""Clients of a Redis server that wait no longer than they are told, whatever the server does meanwhile."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process import native

_until: Final = ContextVar("_until", default=math.inf)
"""When the question that is asked here must be answered: connect, greeting, repeats and all.

A socket's own timeout begins again with each byte that comes. A greenlet has a context of its own, as a thread has.
"""


def _left() -> float:
    """Seconds; raises `TimeoutError` where there are none."""
    if (left := _until.get() - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


_numbers: Final = count()


class Server:
    """A Redis server, and the scripts that are run on it. Raises `ImportError` without the `redis` package.

    `timeout_s` bounds each question, with all that it takes to connect. Threads share connections; where sockets are
    gevent's or eventlet's, each thread of the system has its own: its greenlets wait in the thread's hub, and a socket
    that another hub has made raises.
    """

    def __init__(self, url: str, timeout_s: float, scripts: Mapping[str, str]) -> None:
        self._timeout_s = timeout_s
        self._connect = _connecting(url, timeout_s)
        self._texts = scripts
        self._name = f"redis {next(_numbers)}"
        self._shared = self._connected()

    def begin(self) -> None:
        """Begin with new connections: an answer may be on its way in these that nobody has waited for."""
        if native.green():
            setattr(native.here, self._name, self._connected())
        else:
            self._shared = self._connected()

    def run(self, script: str, keys: list[Any], args: list[Any]) -> Any:
        """What one of the scripts answers."""
        return self._asked().scripts[script](keys=keys, args=args)

    def run_each(self, script: str, keys: list[Any], each: Iterable[list[Any]]) -> list[Any]:
        """What a script answers to each of these arguments, in one round trip."""
        mine = self._asked()
        with mine.client.pipeline(transaction=False) as pipe:
            for args in each:
                mine.scripts[script](keys=keys, args=args, client=pipe)
            answers: list[Any] = pipe.execute()
        return answers

    def info(self, section: str) -> Any:
        """What the server says of itself."""
        return self._asked().client.info(section)

    def close(self) -> None:
        """Let go of the connections of this thread, and of those that are shared."""
        vars(native.here).pop(self._name, self._shared).close()
        self._shared.close()

    def _asked(self) -> _Connected:
        """The connections to ask with here; the question's time begins."""
        _until.set(time.monotonic() + self._timeout_s)
        if not native.green():
            return self._shared
        mine: _Connected | None = getattr(native.here, self._name, None)
        if mine is None:
            mine = self._connected()
            setattr(native.here, self._name, mine)
        return mine

    def _connected(self) -> _Connected:
        client = self._connect()
        return _Connected(client, {name: client.register_script(text) for name, text in self._texts.items()})


class _Connected(NamedTuple):
    """A client, which connects when it is first asked, and the scripts as it runs them."""

    client: Any
    scripts: dict[str, Any]

    def close(self) -> None:
        self.client.close()


class _Timed:
    """A socket that waits for its deadline at most."""

    __slots__ = ("_socket", "_timeout_s")

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._timeout_s: float | None = socket.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._socket.settimeout(timeout_s)

    def recv(self, *args: Any) -> bytes:
        data: bytes = self._in_time().recv(*args)
        return data

    def recv_into(self, *args: Any) -> int:
        length: int = self._in_time().recv_into(*args)
        return length

    def sendall(self, *args: Any) -> None:
        self._in_time().sendall(*args)

    def _in_time(self) -> Any:
        if self._timeout_s != 0:  # else it waits for nothing
            left = _left()
            self._socket.settimeout(left if self._timeout_s is None else min(left, self._timeout_s))
        return self._socket


def _timed(connection: Any) -> Any:
    """The class of connections, with the deadline."""

    class Timed(connection):  # type: ignore[misc] # the base is redis-py's
        socket_connect_timeout: Any
        socket_timeout: Any

        def _connect(self) -> Any:
            usual = self.socket_connect_timeout, self.socket_timeout
            self.socket_connect_timeout = self.socket_timeout = min(_left(), usual[1])
            try:
                socket = super()._connect()
            finally:
                self.socket_connect_timeout, self.socket_timeout = usual
            socket.settimeout(usual[1])
            return _Timed(socket)

    return Timed


def _connecting(url: str, timeout_s: float) -> Callable[[], Any]:
    """What makes clients of the server at `url`: `timeout_s` bounds each connect and each wait, the deadline them all.

    A connection that the server has closed meanwhile is tried once more; a timeout is not. Raises `ImportError`
    without the `redis` package.

    They ask for no notices of maintenance, which stretch time-outs. redis-py asks at each connect; of a server that has
    none it logs, under `logging`'s own lock, and an exception out of a signal handler leaves that locked for all other
    threads.
    """
    import redis
    from redis import connection
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    parse: Callable[[str], Any] = connection.parse_url
    timed = _timed(parse(url).get("connection_class", connection.Connection))
    more: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    with contextlib.suppress(ImportError):  # older ones ask for none
        from redis.maint_notifications import MaintNotificationsConfig

        more["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return partial(redis.Redis.from_url, url, connection_class=timed, retry=retry, **more)
