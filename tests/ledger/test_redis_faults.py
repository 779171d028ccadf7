"""What a Redis is that cannot be a ledger, or not a safe one: said by real servers of each kind, in words that help."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from tokenguard import PolicyError, policy
from tokenguard.ledger import Entry, LedgerError, Reservation, open_ledger
from tokenguard.ledger.redis import RedisLedger

from .engines import Server

pytestmark = [
    pytest.mark.apart,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server on PATH"),
]

IT = Entry("b", "", 0, 2**32, 10**9)


@contextmanager
def server(folder: Path, *settings: str) -> Iterator[int]:
    """A server with these settings: its port."""
    with socket.socket() as free, socket.socket() as bus:
        for each in (free, bus):
            each.bind(("127.0.0.1", 0))
        port, other = free.getsockname()[1], bus.getsockname()[1]
    clustered = ["--cluster-port", str(other)] if "--cluster-enabled" in settings else []
    where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen(["redis-server", *where, *clustered, *settings], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                redis.Redis(port=port, socket_timeout=1).ping()
                break
            except redis.RedisError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def said(port: int) -> str:
    """What the ledger at this port says of itself."""
    ledger = RedisLedger(f"redis://127.0.0.1:{port}/0")
    try:
        with pytest.raises(LedgerError) as caught:
            ledger.reserve([IT], 1, 0)
    finally:
        ledger.close()
    return str(caught.value)


def test_a_node_of_a_cluster_without_the_keys(tmp_path: Path) -> None:
    """It is said which node has them, and that it is to be named."""
    clustered = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--save", "")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with server(tmp_path / "a", *clustered) as one, server(tmp_path / "b", *clustered) as other:
        here, there = (redis.Redis(port=port, decode_responses=True) for port in (one, other))
        slot = int(here.execute_command("CLUSTER", "KEYSLOT", "{tokenguard}:"))
        assert "nobody has the ledger's slot" in said(one)
        there.execute_command("CLUSTER", "ADDSLOTS", slot)
        here.execute_command("CLUSTER", "ADDSLOTS", slot + 1)
        bus = (tmp_path / "b/nodes.conf").read_text().split("@")[1].split(" ")[0].split(",")[0]
        here.execute_command("CLUSTER", "MEET", "127.0.0.1", other, bus)
        until = time.monotonic() + 30
        while "MOVED" not in (now := said(one)) and "does not have" not in now:
            assert time.monotonic() < until, now
            time.sleep(0.1)
        assert f"this node of a cluster does not have the ledger's keys, 127.0.0.1:{other} does" in now
        assert "Name that node in [ledger] url" in now
        while "cluster_state:ok" not in there.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < until
            time.sleep(0.1)
        ledger = RedisLedger(f"redis://127.0.0.1:{other}/0")
        assert isinstance(ledger.reserve([IT], 1, 0), Reservation), "the node that has them is as good as any server"
        ledger.close()


def test_a_replica(tmp_path: Path) -> None:
    """It takes no writes: the master is to be named."""
    (tmp_path / "r").mkdir()
    with ExitStack() as servers:
        master = servers.enter_context(server(tmp_path, "--save", ""))
        replica = servers.enter_context(server(tmp_path / "r", "--save", "", "--replicaof", f"127.0.0.1 {master}"))
        assert "this is a replica, which takes no writes. Name the master" in said(replica)


def test_a_sentinel(tmp_path: Path) -> None:
    """It runs no scripts; neither is it asked for its master."""
    file = tmp_path / "sentinel.conf"
    file.write_text("sentinel monitor m 127.0.0.1 1 1\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", str(file), "--sentinel", "--port", str(port), "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        while True:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "as a Sentinel does not. Name the master that it watches" in said(port)
    finally:
        process.terminate()
        process.wait(20)
    with pytest.raises(PolicyError, match="Sentinel is not asked for its master; name the master itself"):
        policy.loads('[ledger]\nurl = "redis+sentinel://host:26379/mymaster"\n')


def test_a_full_memory(tmp_path: Path) -> None:
    """Nothing is evicted, and what the ledger needs is said."""
    with server(tmp_path, "--save", "", "--maxmemory", "100kb", "--maxmemory-policy", "noeviction") as port:
        assert "its memory is full (maxmemory)" in said(port)


@pytest.mark.parametrize("kind", ["allkeys-lru", "volatile-ttl"])
def test_one_that_evicts(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """It would forget what was spent: said once, off the caller's path, and by `doctor`."""
    from tokenguard.cli.doctor import _ledger

    with server(tmp_path, "--save", "", "--maxmemory", "100mb", "--maxmemory-policy", kind) as port:
        text = f'[ledger]\nurl = "redis://127.0.0.1:{port}/0"\n[[budget]]\nname = "b"\nlimit_usd = 1\n'
        found = policy.loads(text)
        ledger = open_ledger(found.ledger)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                ledger.reserve([IT], 1, 0)
            ledger.close()
        assert caplog.text.count(f'evicts keys when its memory is full (maxmemory-policy "{kind}")') == 1
        checks = list(_ledger(found))
        assert [check.ok for check in checks] == [True, False]
        assert "maxmemory-policy noeviction" in checks[1].said


def test_one_that_does_not(redis_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of a server that keeps what it is told."""
    ledger = RedisLedger(redis_server.url)
    with caplog.at_level(logging.WARNING):
        ledger.reserve([IT], 1, 0)
        assert ledger.doubts() == []
        ledger.close()
    assert caplog.text == ""


def test_a_release_that_comes_first(redis_server: Server) -> None:
    """What was interrupted on its way is given back, and is void when it comes after all."""
    ledger = RedisLedger(redis_server.url)
    uncertain = Reservation("id-1", (IT,), 5, 0, 0.0)
    ledger.release(uncertain)
    ledger.reserve([IT], 5, 0, "id-1")
    assert ledger.read([IT])[0].reserved_nano == 0
    made = ledger.reserve([IT], 5, 0, "id-2")
    assert isinstance(made, Reservation)
    ledger.settle(made, 5, 0)
    ledger.settle(made, 5, 0)
    assert ledger.read([IT])[0].spent_nano == 5
    ledger.close()


def test_while_logging_is_locked(redis_server: Server) -> None:
    """Nothing is logged under `logging`'s own lock to connect: a signal handler's exception can leave it locked."""
    ledger, took = RedisLedger(redis_server.url, timeout_s=30), threading.Event()
    ledger.read([IT])  # what is logged once has been

    def connect() -> None:
        ledger._server.begin()
        ledger.reserve([IT], 5, 0)
        took.set()

    with logging._lock:  # type: ignore[attr-defined]
        threading.Thread(target=connect, daemon=True).start()
        assert took.wait(10)
    ledger.close()
