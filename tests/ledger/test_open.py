"""From the policy to a ledger, and what a ledger does with processes and time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fresh
from tokenguard import policy
from tokenguard.facts.errors import PolicyError
from tokenguard.ledger import Entry, MemoryLedger, Reservation, nano, open_ledger, sqlite_file
from tokenguard.ledger import memory as memory_module
from tokenguard.ledger.base import RETAIN_S
from tokenguard.ledger.loss import SurvivingLedger
from tokenguard.ledger.redis import RedisLedger
from tokenguard.ledger.slices import SlicedLedger
from tokenguard.ledger.sqlite import SqliteLedger

from .engines import START, Clock, Server


def opened(text: str, source: str = ""):
    return open_ledger(policy.loads(f"[ledger]\n{text}").ledger, source)


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each URL opens its engine; a relative path starts at the policy's directory, whatever the working directory."""
    monkeypatch.chdir(tmp_path)
    assert isinstance(opened('url = "memory:"'), MemoryLedger)
    surviving = opened('url = "sqlite:///data/ledger.db"\nlease = 7', "/srv/app/tokenguard.toml")
    assert isinstance(surviving, SurvivingLedger)
    assert isinstance(surviving.inner, SqliteLedger)
    assert surviving.inner.path == Path("/srv/app/data/ledger.db")
    assert surviving.inner.lease_s == 7
    assert opened('url = "sqlite:////var/ledger.db"', "/srv/app/t.toml").inner.path == Path("/var/ledger.db")
    assert open_ledger(policy.Policy().ledger).inner.path == Path(".tokenguard/ledger.db")
    sliced = opened('url = "redis://h/0"\nslice = 0.1')
    assert isinstance(sliced, SlicedLedger)
    assert isinstance(sliced.inner.inner, RedisLedger)
    assert not list(tmp_path.iterdir()), "opening touches nothing"


def test_without_the_redis_package() -> None:
    """A fleet's ledger without its package says what to install, at start and not in a call."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from tokenguard import policy, ledger\n"
        "ledger.open_ledger(policy.loads('[ledger]\\nurl = \"redis://h\"').ledger, 'x.toml')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'PolicyError: x.toml: a redis:// ledger needs the redis package: pip install "tokenguard-otel[redis]"' in (
        done.stderr
    )


def test_light_import() -> None:
    """Importing the package loads neither an engine's package nor the event loop of anyone."""
    code = "import sys, tokenguard.ledger, tokenguard.policy; print({'redis', 'sqlite3', 'rich'} & set(sys.modules))"
    assert fresh.python(code).stdout == "set()\n"


def test_policy_error_is_at_start() -> None:
    """A ledger that cannot be meant is the policy's error."""
    with pytest.raises(PolicyError, match="memory"):
        opened('url = "memory:x"')


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("engine", ["memory", "sqlite", "redis"])
def test_fork(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """After a fork both processes go on: shared ledgers stay shared, memory goes apart without the parent's calls."""
    if engine == "redis":
        server: Server = request.getfixturevalue("redis_server")
        ledger = RedisLedger(server.url)
    else:
        ledger = MemoryLedger() if engine == "memory" else SqliteLedger(tmp_path / "ledger.db")
    it = Entry("b", "", 0, 2**32, nano(1))
    flying = ledger.reserve([it], nano(0.25), 0)
    assert isinstance(flying, Reservation)
    ledger.submit(int).result()  # a thread that the child does not have
    child = os.fork()
    if not child:
        try:
            if engine == "memory":
                assert ledger.read([it])[0].reserved_nano == 0
            made = ledger.submit(ledger.reserve, [it], nano(0.5), 0).result()
            ledger.settle(made, nano(0.5), 0)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    ledger.settle(flying, nano(0.25), 0)
    spent = nano(0.25) if engine == "memory" else nano(0.75)
    assert (ledger.read([it])[0].spent_nano, ledger.read([it])[0].reserved_nano) == (spent, 0)
    ledger.close()


def test_placeholders_that_every_python_takes() -> None:
    """Numbered ones beside a sequence are an error from Python 3.14 on, and a warning from 3.12 on."""
    statements = {name: text for name, text in vars(sqlite_file).items() if isinstance(text, str)}
    assert {name for name, text in statements.items() if "?" in text} >= {"HOLD", "IS_HELD"}
    assert [name for name, text in statements.items() if re.search(r"\?\d|[:@$][a-z]\w*", text)] == []


def test_old_windows_are_forgotten(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts of windows that ended a day ago are dropped, so a minute budget per tenant does not grow for ever."""
    monkeypatch.setattr(memory_module, "PURGE_AT", 10)
    memory, sqlite = MemoryLedger(clock=clock), SqliteLedger(tmp_path / "ledger.db", clock=clock)
    for ledger in (memory, sqlite):
        clock.time = START
        for minute in range(50):
            start = int(START) + 60 * minute
            made = ledger.reserve([Entry("b", f"tenant={minute}", start, start + 60, nano(1))], 1, 1)
            assert isinstance(made, Reservation)
            if minute:
                ledger.settle(made, 1, 1)
            clock.time += RETAIN_S / 10
    assert len(memory._accounts) < 25
    for table, most in (("account", 24), ("held", 1), ("loose", 1)):
        assert sqlite._transact(lambda db, of=table: db.execute(f"SELECT count(*) FROM {of}").fetchone()[0]) <= most
    sqlite.close()


def test_server_time(redis_server: Server) -> None:
    """A machine whose clock is wrong goes by the server's, once it has heard of it."""
    ledger = RedisLedger(redis_server.url)
    right = ledger.now()
    ledger._clock = lambda: right - 5000
    assert abs(ledger.now() - right) > 4000
    ledger.read([])
    assert abs(ledger.now() - right) < 60
    ledger.close()
