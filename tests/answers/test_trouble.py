"""Stores in trouble: full, restarted, emptied, damaged, read-only. Always a miss, told once, and no call suffers."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx2
import openai
import pytest

import canned
import redis_server
from tokenguard.answers.sqlite import SqliteStore
from tokenguard.answers.store import Item
from tokenguard.installation import runtime

MIB = 2**20
PREFIX = "{tokenguard-answers}:"
BOOKS = ("used", "expires", "sizes", "bytes")


class Server(redis_server.Server):
    """A Redis server of ours, with a client, which is stopped and started at will."""

    def start(self):
        import redis

        super().start()
        self.client = redis.Redis.from_url(self.url)

    def stop(self):
        self.client.close()
        super().stop()

    def limit(self, policy, mib):
        """Let it use this much more memory than it does."""
        used = self.client.info("memory")["used_memory"]
        self.client.config_set("maxmemory-policy", policy)  # first: it evicts at once, by the policy that it has then
        self.client.config_set("maxmemory", int(used + mib * MIB))

    def count(self):
        """How many entries are there."""
        return len(self.client.keys(PREFIX + "e:*"))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(running):
    """The server of the module, as new."""
    running.client.config_set("maxmemory", 0)
    running.client.config_set("maxmemory-policy", "noeviction")
    running.client.flushall()
    return running


@pytest.fixture
def shared(server):
    """A store on the server: `shared(mib)`."""
    from tokenguard.answers.redis import RedisStore

    made = []

    def store(mib):
        made.append(RedisStore(server.url, mib * MIB, timeout_s=5.0))
        return made[-1]

    yield store
    for each in made:
        each.finish()
        each.close()


def key(n):
    return n.to_bytes(32, "big")


def item(n, size=20_000, left=60.0):
    return Item("r", f"t{n % 2}", time.time() + left, random.Random(n).randbytes(size))


def whole(store, numbers):
    """Those of these that are there; each as it was put in."""
    found = {n: store.get(key(n)) for n in numbers}
    assert all(data in (None, item(n).data) for n, data in found.items())
    return [n for n, data in found.items() if data is not None]


# --- Redis that is full -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
def test_redis_evicts_what_it_likes(policy, shared, server):
    """What the server evicts is a miss, and all that is there is listed, and can be deleted."""
    store = shared(64)
    server.limit(policy, 3)
    for n in range(500):
        store.put(key(n), item(n))
    server.client.config_set("maxmemory", 0)
    there = whole(store, range(500))
    assert 50 < len(there) < 500
    (stat,) = store.stats()
    assert (stat.entries, server.count()) == (len(there), len(there))
    assert stat.size <= 3 * MIB
    assert store.clear(tenant="t0") == sum(n % 2 == 0 for n in there)
    assert store.clear() == sum(n % 2 == 1 for n in there)
    assert server.count() == 0


@pytest.mark.parametrize("book", BOOKS)
def test_redis_without_one_of_its_books(book, shared, server):
    """Whichever key the server has evicted: answers go on being kept within the size, and are all listed."""
    store = shared(1)
    for n in range(30):
        store.put(key(n), item(n))
    server.client.delete(PREFIX + book)
    for n in range(30, 130):
        store.put(key(n), item(n))
        assert store.get(key(n)) is not None
    (stat,) = store.stats()
    assert (
        stat.entries == len(whole(store, range(130))) == 30 + 51
    )  # those of before are there until their time is over
    assert store.clear() == stat.entries
    for n in range(200):
        store.put(key(n), item(n))
    assert store.stats()[0].size <= MIB
    assert store.clear() == 51
    assert server.client.get(PREFIX + "bytes") in (b"0", None)


def test_redis_refuses_to_grow(shared, server):
    """A full server that evicts nothing serves what it has; answers make room for others, within its memory."""
    import redis

    store = shared(64)
    server.limit("noeviction", 3)
    refused = 0
    for n in range(500):
        try:
            store.put(key(n), item(n))
        except redis.ResponseError as error:
            assert "OOM" in str(error) or "memory" in str(error)  # noqa: PT017
            refused += 1
    assert 1 <= refused < 50
    info = server.client.info("memory")
    assert info["used_memory"] <= info["maxmemory"] + 0.2 * MIB
    assert len(whole(store, range(500))) > 50
    server.client.config_set("maxmemory", 1)  # whatever is written from now on is too much
    assert len(whole(store, range(500))) == server.count() > 50


def test_redis_takes_no_writes(shared, server, tmp_path):
    """A replica, after a failover that went wrong, say: what it has is served."""
    store = shared(64)
    store.put(key(1), item(1))
    server.client.replicaof("127.0.0.1", 1)
    try:
        assert whole(store, [1, 2]) == [1]
        with pytest.raises(Exception, match=r"(?i)read.?only|replica"):
            store.put(key(2), item(2))
    finally:
        server.client.replicaof("NO", "ONE")
    store.put(key(2), item(2))
    assert whole(store, [1, 2]) == [1, 2]


# --- a program's calls ------------------------------------------------------------------------------------------------


class Provider:
    """Says what it was asked, and counts; a client of it."""

    def __init__(self):
        self.requests = 0
        self.client = openai.OpenAI(
            api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(self))
        )

    def __call__(self, request):
        self.requests += 1
        body = canned.chat_body()
        body["choices"][0]["message"]["content"] = said(json.loads(request.content)["messages"][0]["content"])
        body["choices"][0]["finish_reason"] = "stop"
        return httpx2.Response(200, json=body)

    def sent(self, numbers):
        """Ask these questions; how many of them were sent. Each answer is the right one."""
        before = self.requests
        for n in numbers:
            asked = [{"role": "user", "content": f"question {n}"}]
            answer = self.client.chat.completions.create(
                model="gpt-4o-mini", temperature=0, max_tokens=50, messages=asked
            )
            assert answer.choices[0].message.content == said(f"question {n}")
        return self.requests - before


def said(question):
    return f"The answer to {question}. " + question[-1] * 20_000


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.client.close()


@pytest.fixture
def kept_in(under, monkeypatch):
    """Calls are kept at a place: `kept_in(url)` returns the answers."""
    monkeypatch.setenv("TOKENGUARD_CACHE_KEY", "a secret of some length")
    monkeypatch.setattr("tokenguard.answers.answers.PAUSE_S", 0.01)
    monkeypatch.setattr("tokenguard.answers.waiting.AGAIN_S", 0.01)

    def put(url, timeout="5s"):
        under(f'[[cache]]\nname = "faq"\nper = []\n[answers]\nurl = "{url}"\ntimeout = "{timeout}"\n')
        return runtime.installed().meter.guard.answers

    return put


def written(answers):
    """Wait until nothing waits to be written."""
    until = time.monotonic() + 30
    while answers.waiting._coming and time.monotonic() < until:
        time.sleep(0.01)
    assert not answers.waiting._coming
    time.sleep(0.02)  # longer than it rests after a failure


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "cache" in record.getMessage()]


def test_redis_is_emptied_and_restarted(provider, kept_in, server, caplog):
    """While it is in use: what was kept is sent again, then kept again; it is said once that it was away."""
    answers = kept_in(server.url)
    assert provider.sent(range(5)) == 5
    written(answers)
    assert provider.sent(range(5)) == 0
    server.client.flushall()
    assert provider.sent(range(5)) == 5  # its scripts are gone, too
    written(answers)
    assert provider.sent(range(5)) == 0
    assert warnings(caplog) == []
    server.stop()
    with caplog.at_level(logging.WARNING):
        assert provider.sent(range(5)) == 5
        written(answers)
    server.start()
    time.sleep(0.02)
    provider.sent(range(5))
    written(answers)
    assert provider.sent(range(5)) == 0
    assert len(warnings(caplog)) == 1


def test_redis_is_restarted_between(provider, kept_in, server, caplog):
    """A server that was restarted since the last call costs no call anything, and nothing is said."""
    answers = kept_in(server.url)
    provider.sent(range(3))
    written(answers)
    server.stop()
    server.start()
    with caplog.at_level(logging.WARNING):
        assert provider.sent(range(3)) == 3
        written(answers)
        assert provider.sent(range(3)) == 0
    assert warnings(caplog) == []


def test_redis_hangs(provider, kept_in, server, caplog):
    """A server that stands still holds up no call for longer than the timeout; what it says late is nobody's answer."""
    answers = kept_in(server.url, timeout="50ms")
    provider.sent(range(5))
    written(answers)
    with caplog.at_level(logging.WARNING):
        os.kill(server.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            assert provider.sent([*range(5), *range(10, 15)]) == 10
            assert time.monotonic() - began < 10
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
    until = time.monotonic() + 20
    while provider.sent(range(15)) and time.monotonic() < until:
        written(answers)
    assert provider.sent(range(15)) == 0
    assert len(warnings(caplog)) == 1


def test_full_redis_under_calls(provider, kept_in, server, caplog):
    """A server that takes nothing more serves what it has."""
    answers = kept_in(server.url)
    provider.sent(range(5))
    written(answers)
    server.limit("noeviction", -1)
    with caplog.at_level(logging.WARNING):
        assert provider.sent(range(5)) == 0
        assert provider.sent(range(5, 10)) == 5
        written(answers)
    assert [each for each in warnings(caplog) if "cannot be put into" not in each] == []
    assert len(warnings(caplog)) == 1


@contextmanager
def small_disk(size):
    """No file may grow past so many bytes: SQLite hears of it as of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk(provider, kept_in, tmp_path, caplog):
    """What there is no room for is sent again; what was kept before is served, and it is said once, with the file."""
    answers = kept_in(f"sqlite:///{tmp_path}/answers.db")
    provider.sent(range(3))
    written(answers)
    with caplog.at_level(logging.WARNING), small_disk(250_000):
        assert provider.sent(range(40)) == 37
        written(answers)
        assert provider.sent(range(3)) == 0
    assert len(warnings(caplog)) == 1
    assert str(tmp_path / "answers.db") in warnings(caplog)[0]
    provider.sent(range(40))
    written(answers)
    assert provider.sent(range(40)) == 0


DAMAGES = {
    "some": lambda file: [hurt(file, 4096 * n + 500) for n in range(2, 200, 3)],
    "the schema": lambda file: hurt(file, 120, 900),
    "all": lambda file: [hurt(file, 4096 * n + 5, 4000) for n in range(1, 200)],
    "its second half": lambda file: os.truncate(file, file.stat().st_size // 2 // 4096 * 4096),
    "nothing left": lambda file: os.truncate(file, 0),
}


def hurt(file, at, size=300):
    if at + size < file.stat().st_size:
        with file.open("r+b") as there:
            there.seek(at)
            there.write(random.Random(at).randbytes(size))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file(damage, provider, kept_in, tmp_path, caplog):
    """Whatever has been written over: no answer but a right one. Once it is deleted, the same process has a new one."""
    file = tmp_path / "answers.db"
    answers = kept_in(f"sqlite:///{file}")
    assert provider.sent(range(20)) == 20
    written(answers)
    answers.store._read("PRAGMA wal_checkpoint(TRUNCATE)")
    answers.store.close()
    DAMAGES[damage](file)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            provider.sent(range(40))
            written(answers)
    assert len(warnings(caplog)) <= 1
    if warnings(caplog):
        assert str(file) in warnings(caplog)[0]
        assert "Delete it" in warnings(caplog)[0]
        for each in tmp_path.glob("answers.db*"):
            each.unlink()
        for _ in range(3):  # the file that it has open may have to be found damaged once more
            provider.sent(range(20))
            written(answers)
            time.sleep(0.02)
    assert provider.sent(range(20)) == 0


WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
import logging
logging.basicConfig(level="WARNING", format="%(message)s", stream=sys.stdout)
sys.path[:0] = {path!r}
import encodings.idna
import tokenguard
from answers import test_trouble
from tokenguard import policy
from tokenguard.answers.answers import Answers
import tokenguard.answers.sqlite
provider = test_trouble.Provider()
RULE = '[[cache]]\\nname = "w"\\nper = []\\n'
tokenguard.install(policy.loads(RULE, "t.toml"))
provider.sent(range(2))
PLACE = '[answers]\\nurl = "sqlite:///{file}"\\ntimeout = "1s"\\n'
tokenguard.install(policy.loads(RULE + PLACE, "t.toml"))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print("sent", provider.sent(range(10)), provider.sent(range(10)))
"""


@pytest.mark.apart
@pytest.mark.parametrize("what", ["folder", "file", "new file", "unreadable"])
def test_no_right_to_write(what, tmp_path):
    """A folder or a file that may only be read: calls are sent, and one line of the log names the file."""
    file = tmp_path / "folder" / "answers.db"
    file.parent.mkdir()
    if what != "new file":
        with closing(SqliteStore(file, MIB, timeout_s=1.0)) as store:
            store.put(key(1), item(1))
    for each in file.parent.iterdir():
        each.chmod({"unreadable": 0}.get(what, 0o444))
    file.parent.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS.format(file=file, path=sys.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TOKENGUARD_CACHE_KEY": "a secret of some length", "TOKENGUARD_STORE": "off"},
    )
    file.parent.chmod(0o755)
    assert run.stdout.splitlines()[-1:] == ["sent 10 10"], run.stdout + run.stderr
    told = [line for line in run.stdout.splitlines() if "cache" in line]
    assert len(told) == 1
    assert str(file) in told[0]
