"""The three engines, with a clock that tests move, and a real Redis of the test session's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tokenguard.ledger.base import Ledger
from tokenguard.ledger.memory import MemoryLedger
from tokenguard.ledger.redis import RedisLedger
from tokenguard.ledger.sqlite import SqliteLedger

from .engines import Clock, Server


@pytest.fixture(scope="session")
def redis_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(redis_session: Server) -> Server:
    redis_session.flush()
    return redis_session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_ledger(engine: str, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest) -> Iterator[Callable]:
    """Opens the same ledger as often as asked (in memory always a new one), or from now on a `fresh` one."""
    opened: list[Ledger] = []
    generation = 0

    def open_(*, fresh: bool = False, lease_s: float = 60.0, clock: Callable[[], float] | None = clock) -> Ledger:
        nonlocal generation
        if engine == "memory":
            ledger: Ledger = MemoryLedger(lease_s=lease_s, clock=clock or time.time)
        elif engine == "sqlite":
            generation += fresh
            ledger = SqliteLedger(
                tmp_path / f"ledger-{generation}.db", lease_s=lease_s, clock=clock or time.time, timeout_s=30
            )
        else:
            server = request.getfixturevalue("redis_server")
            if fresh:
                server.flush()
            ledger = RedisLedger(server.url, lease_s=lease_s, clock=clock, timeout_s=10)
        opened.append(ledger)
        return ledger

    yield open_
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable) -> Ledger:
    return open_ledger()
