"""What the ledgers' tests stand on: a clock that is moved by hand, and a redis-server."""

from __future__ import annotations

import redis_server

START = 1_800_000_000.0


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


class Server(redis_server.Server):
    """One that keeps its data while it is stopped."""

    settings = ("--appendonly", "yes", "--appendfsync", "no")
