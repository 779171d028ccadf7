"""An exception out of a signal handler, at any moment of a call, harms nothing and reaches the program."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.conftest import redis_server, redis_session  # noqa: F401 - fixtures
from tokenguard.ledger.entry import Entry, Reservation, nano
from tokenguard.ledger.sqlite import SqliteLedger
from tokenguard.process.interrupts import interrupt

PROGRAM = Path(__file__).parent / "interrupted.py"
CALLS = 400
"""With an alarm each, in the suite; `scripts/soak.py` makes many more."""

WATCHER = """
import sqlite3, sys, time
slowest = 0.0
while not sys.stdin.closed:
    began = time.monotonic()
    try:
        db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
        db.execute("BEGIN IMMEDIATE"); db.execute("ROLLBACK"); db.close()
    except sqlite3.OperationalError as error:
        slowest = 30.0
    slowest = max(slowest, time.monotonic() - began)
    print(slowest, flush=True)
    time.sleep(0.01)
"""


def policy_at(folder: Path, url: str, request: pytest.FixtureRequest) -> Path:
    """The file of a policy with a budget in this ledger."""
    if url == "redis":
        server = request.getfixturevalue("redis_server")
        server.flush()
        url = server.url
    policy = folder / "tokenguard.toml"
    policy.write_text(f'[ledger]\nurl = "{url}"\n[[budget]]\nname = "all"\nlimit_usd = 1000\nwindow = "total"\n')
    return policy


def run(folder: Path, program: Path, *arguments: str) -> dict[str, Any]:
    """What a program has found."""
    env = {**os.environ, "TOKENGUARD_STORE": "off", "TOKENGUARD_STRICT": "0"}
    command = [sys.executable, str(program), *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.apart
@pytest.mark.parametrize("kind", ["call", "stream"])
@pytest.mark.parametrize("url", ["memory:", "sqlite:///ledger.db", "redis"])
def test_an_alarm_in_every_call(tmp_path: Path, url: str, kind: str, request: pytest.FixtureRequest) -> None:
    """Nothing stays reserved or locked, nothing counts as a fault of ours, and nearly all exceptions reach the program.

    Those that do not come while an object is finalized (`__del__`), where Python itself swallows them; without
    TokenGuard it is one or two in a hundred.
    """
    policy = policy_at(tmp_path, url, request)
    watcher = None
    if url.startswith("sqlite"):
        command = [sys.executable, "-c", WATCHER, str(tmp_path / "ledger.db")]
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    result = run(tmp_path, PROGRAM, str(policy), str(CALLS), "1", kind)
    assert result["fired"] > CALLS / 10
    assert result["reached"] + result["other"] > 0.9 * result["fired"]
    assert {key: result[key] for key in ("other", "errors", "reserved")} == {"other": 0, "errors": 0, "reserved": 0}
    assert result["open"] <= CALLS / 200, "calls that never began are taken for open"
    if watcher is not None:
        watcher.terminate()
        printed, _ = watcher.communicate()
        assert float(printed.split()[-1]) < 10, "another process was locked out"


STEPPED = Path(__file__).parent / "stepped.py"
EVERY = 5
"""Of the points of a call, in the suite, from a random one on; `1` for all of them takes minutes."""


@pytest.mark.apart
@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("plain", "sqlite:///ledger.db"),
        ("read", "memory:"),
        ("read", "sqlite:///ledger.db"),
        ("read", "redis"),
        ("broken off", "sqlite:///ledger.db"),
        ("closed", "redis"),
        ("collected", "sqlite:///ledger.db"),
        ("raw", "sqlite:///ledger.db"),
        ("asynchronous", "redis"),
        ("asynchronous stream", "sqlite:///ledger.db"),
    ],
)
def test_at_every_point_of_a_call(tmp_path: Path, kind: str, url: str, request: pytest.FixtureRequest) -> None:
    """Wherever in our code a signal handler raises, the call ends, nothing stays reserved, and the program is told."""
    policy = policy_at(tmp_path, url, request)
    found = run(tmp_path, STEPPED, str(policy), str(random.randint(1, EVERY)), str(EVERY), kind)
    assert found["points"] > 100
    assert (found["left"], found["other"], found["errors"]) == ([], [], 0)


IT = Entry("b", "", 0, 2**32, nano(1))


@pytest.mark.parametrize("step", ["_begin", "_take_along", "_charge_orphans"])
def test_the_sqlite_ledger_rolls_back(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the exception comes, the file is free at once, and the ledger works on.

    Its traceback is still held, and with it a statement that is half read: SQLite keeps a closed connection alive, lock
    and all, as long as there is one.
    """
    ledger = SqliteLedger(tmp_path / "ledger.db")
    made = ledger.reserve([IT], nano(0.25), 0)
    assert isinstance(made, Reservation)
    original = getattr(SqliteLedger, step)

    def interrupted(self, db, *more):
        original(self, db, *more)
        half_read = db.execute("SELECT 1 UNION ALL SELECT 2")
        next(half_read)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, step, interrupted)
        with pytest.raises(KeyboardInterrupt) as held:
            ledger.alerts([IT])
        other = sqlite3.connect(tmp_path / "ledger.db", timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        assert held.tb is not None
    ledger.settle(made, nano(0.125), 0)
    assert ledger.read([IT])[0].spent_nano == nano(0.125)
    ledger.close()


class Limit(Exception):
    """What the handlers below raise."""


def _function(number, frame):
    raise Limit


class _Method:
    def handle(self, number, frame):
        self.deeper()

    def deeper(self):
        raise Limit

    def __call__(self, *arguments):
        raise Limit


HANDLERS = {
    "a function": _function,
    "a method, from deeper down": _Method().handle,
    "an object": _Method(),
    "a lambda": lambda *_: _Method().deeper(),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "in another"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_it_is_known(handler: str, wrapped: bool) -> None:
    """What a signal handler raises is told from the same exception raised by what we call, also inside another one."""
    found = None
    before = signal.signal(signal.SIGUSR1, HANDLERS[handler])
    try:
        try:
            try:
                os.kill(os.getpid(), signal.SIGUSR1)
                for _ in range(1000):
                    time.sleep(0)
            except Limit as error:
                if wrapped:
                    raise OSError("as a library says it") from error
                raise
        except (Limit, OSError) as error:
            found = interrupt(error)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(found, Limit)
    with pytest.raises(Limit) as raised:
        _Method().deeper()
    assert interrupt(raised.value) is None
