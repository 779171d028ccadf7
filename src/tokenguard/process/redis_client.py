"""Clients of a Redis server that wait no longer than they are told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def connecting(url: str, timeout_s: float) -> Callable[[], Any]:
    """What makes clients of the server at `url`: `timeout_s` bounds each round trip and each connect, in seconds.

    A connection that the server has closed meanwhile is tried once more; a timeout is not. Raises `ImportError`
    without the `redis` package.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return partial(redis.Redis.from_url, url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
