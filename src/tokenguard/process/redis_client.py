"""Clients of a Redis server that wait no longer than they are told, whatever the server does meanwhile."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any


class Deadline(threading.local):
    """When the question that this thread asks must be answered: connect, greeting, repeats and all.

    A socket's own timeout begins again with each byte that comes.
    """

    until = math.inf

    def begins(self, timeout_s: float) -> None:
        """A question is asked: it has so long."""
        self.until = time.monotonic() + timeout_s

    def left(self) -> float:
        """Seconds; raises `TimeoutError` where there are none."""
        if (left := self.until - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        return left


class _Timed:
    """A socket that waits for its deadline at most."""

    __slots__ = ("_deadline", "_socket", "_timeout_s")

    def __init__(self, socket: Any, deadline: Deadline) -> None:
        self._socket = socket
        self._deadline = deadline
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
            left = self._deadline.left()
            self._socket.settimeout(left if self._timeout_s is None else min(left, self._timeout_s))
        return self._socket


def _timed(connection: Any, deadline: Deadline) -> Any:
    """The class of connections, with the deadline."""

    class Timed(connection):  # type: ignore[misc] # the base is redis-py's
        socket_connect_timeout: Any
        socket_timeout: Any

        def _connect(self) -> Any:
            usual = self.socket_connect_timeout, self.socket_timeout
            self.socket_connect_timeout = self.socket_timeout = min(deadline.left(), usual[1])
            try:
                socket = super()._connect()
            finally:
                self.socket_connect_timeout, self.socket_timeout = usual
            socket.settimeout(usual[1])
            return _Timed(socket, deadline)

    return Timed


def connecting(url: str, timeout_s: float, deadline: Deadline) -> Callable[[], Any]:
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
    timed = _timed(parse(url).get("connection_class", connection.Connection), deadline)
    more: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    with contextlib.suppress(ImportError):  # older ones ask for none
        from redis.maint_notifications import MaintNotificationsConfig

        more["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return partial(redis.Redis.from_url, url, connection_class=timed, retry=retry, **more)
