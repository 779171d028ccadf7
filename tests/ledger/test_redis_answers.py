"""Whatever a Redis, or what stands in its place, answers: the ledger is lost in time, in words, and breaks no call."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tokenguard.ledger import Entry, Refusal, Reservation
from tokenguard.ledger.loss import SurvivingLedger
from tokenguard.ledger.redis import RedisLedger

IT = Entry("b", "", 0, 2**32, 10**9)
TIMEOUT_S = 0.5
RST = struct.pack("ii", 1, 0)


def says(line: str) -> Callable[[socket.socket, bytes], None]:
    """The same to each command."""
    return lambda peer, commands: peer.sendall(f"{line}\r\n".encode() * max(commands.count(b"\r\n*") + 1, 1))


def half(peer: socket.socket, commands: bytes) -> None:
    peer.sendall(b"$100\r\nabc")
    peer.shutdown(socket.SHUT_WR)


def trickle(peer: socket.socket, commands: bytes) -> None:
    for byte in b"$100\r\n" + b"a" * 100:
        peer.sendall(bytes([byte]))
        time.sleep(TIMEOUT_S / 5)


def greets(peer: socket.socket, commands: bytes) -> None:
    if b"EVALSHA" in commands:
        trickle(peer, commands)
    else:
        says("+OK")(peer, commands)


def reset(peer: socket.socket, commands: bytes) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    peer.close()


SERVERS: dict[str, tuple[Callable[[socket.socket, bytes], None], str]] = {
    "is silent": (lambda peer, commands: None, "Timeout"),
    "is slow": (lambda peer, commands: time.sleep(3 * TIMEOUT_S), "Timeout"),
    "trickles": (trickle, "Timeout"),
    "greets, and trickles then": (greets, "Timeout"),
    "closes": (lambda peer, commands: peer.close(), "closed"),
    "closes half of it in the midst of an answer": (half, "closed"),
    "resets": (reset, "reset by peer"),
    "is a web server": (says("HTTP/1.1 400 Bad Request"), "Protocol Error"),
    "answers a number": (says(":7"), "it answers '7', as no Redis does. Check [ledger] url"),
    "answers OK": (says("+OK"), "as no Redis does"),
    "answers nothing": (says("*0"), "as no Redis does"),
    "is loading": (says("-LOADING Redis is loading the dataset in memory"), "loading the dataset"),
    "is a replica": (says("-READONLY You can't write against a read only replica."), "Name the master"),
    "has another slot": (says("-MOVED 866 10.0.0.1:6379"), "10.0.0.1:6379 does"),
    "is full": (says("-OOM command not allowed when used memory > 'maxmemory'."), "its memory is full"),
    "wants a password": (says("-NOAUTH Authentication required."), "Authentication required"),
    "has another password": (says("-WRONGPASS invalid username-password pair"), "invalid username-password"),
    "is busy": (says("-BUSY Redis is busy running a script."), "BUSY"),
    "has no master": (says("-MASTERDOWN Link with MASTER is down"), "MASTER is down"),
    "cannot save": (says("-MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
    "has too few replicas": (says("-NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
    "has too many clients": (says("-ERR max number of clients reached"), "max number of clients"),
}


@contextmanager
def listening(answer: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """A server that answers so: its port."""
    server = socket.create_server(("127.0.0.1", 0))
    peers: list[socket.socket] = []

    def serve(peer: socket.socket) -> None:
        try:
            while commands := peer.recv(65536):
                answer(peer, commands)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            peers.append(peer)
            threads.append(threading.Thread(target=serve, args=(peer,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        threads[0].join()
        for peer in peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("server", SERVERS)
def test_an_answer(server: str, caplog: pytest.LogCaptureFixture) -> None:
    """The budget is counted here from then on, within the time-out; one line says why, and tells no secret."""
    answer, words = SERVERS[server]
    with listening(answer) as port, caplog.at_level(logging.WARNING):
        inner = RedisLedger(f"redis://:pa55word@127.0.0.1:{port}/0", timeout_s=TIMEOUT_S)
        ledger = SurvivingLedger(inner, retry_s=60)
        began = time.monotonic()
        first = ledger.reserve([IT], 600_000_000, 0)
        took = time.monotonic() - began
        second = ledger.reserve([IT], 600_000_000, 0)
        ledger.settle_soon(first, 0, 0)  # type: ignore[arg-type]
        ledger._searcher.stop()
        ledger._closes.clear()
        inner.close()
    assert isinstance(first, Reservation)
    assert isinstance(second, Refusal), "it holds the limit all the same"
    assert ledger.lost
    assert took < 4 * TIMEOUT_S + 1
    assert len(caplog.messages) == 1
    assert words in caplog.text
    assert "pa55word" not in caplog.text
