"""Where answers are kept: each store, alone and with other processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import pytest

from redis_server import Server
from tokenguard.answers.answers import Answers
from tokenguard.answers.entry import Entry, Plain, Sealed, box_of, decode
from tokenguard.answers.sqlite import SqliteStore
from tokenguard.answers.store import OVERHEAD, Item, MemoryStore, Stat
from tokenguard.call.kept import HttpAnswer
from tokenguard.facts.errors import PolicyError
from tokenguard.policy import loads

MIB = 2**20


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    """A store of each kind, empty, of one MiB."""
    if request.param == "memory":
        yield MemoryStore(MIB)
        return
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "answers.db", MIB, timeout_s=5.0)
    else:
        from tokenguard.answers.redis import RedisStore

        made = RedisStore(request.getfixturevalue("redis_url"), MIB, timeout_s=5.0)
        made.clear()
    yield made
    made.finish()
    made.close()


def key(n):
    return n.to_bytes(32, "big")


def item(data, rule="r", tenant="t", left=60.0):
    return Item(rule, tenant, time.time() + left, data)


def test_kept_and_deleted(store):
    """What is kept is there, the last word goes, and what is deleted is gone."""
    assert store.get(key(1)) is None
    store.put(key(1), item(b"one"))
    store.put(key(1), item(b"two"))
    assert store.get(key(1)) == b"two"
    assert store.stats() == [Stat("r", 1, 3 + OVERHEAD)]
    store.delete(key(1))
    assert store.get(key(1)) is None
    assert store.stats() == []


def test_time_is_over(store):
    """An entry whose time is over is not given."""
    store.put(key(1), item(b"one", left=1.0))
    assert store.get(key(1)) == b"one"
    time.sleep(1.1)
    assert store.get(key(1)) is None


def test_cleared(store):
    """By rule, by tenant, and all."""
    for n in range(8):
        store.put(key(n), item(b"x", rule=f"r{n % 2}", tenant=f"t{n // 4}"))
    assert store.clear("r0", "t0") == 2
    assert [stat.entries for stat in store.stats()] == [2, 4]
    assert store.clear(tenant="t1") == 4
    assert store.clear("r1") == 2
    assert store.clear() == 0
    store.put(key(9), item(b"x"))
    assert store.clear() == 1


def test_vectors_are_no_answers(store):
    """Items of a group are listed together, and stand in the sizes; only answers are counted, kept or deleted."""
    for n in range(600):
        store.put(key(2 * n), item(b"x"))
        store.put(key(2 * n + 1), item(b"v")._replace(group="g"))
    store.put(key(5000), item(b"v", left=0.2)._replace(group="g"))
    time.sleep(0.25)
    listed, _ = store.group("g", 0)
    kept = [] if store.local else [key(2 * n + 1) for n in range(600)]  # one process has them where it compares them
    assert sorted(found for found, _ in listed) == kept
    (stat,) = store.stats()
    assert stat.entries == 600
    assert stat.size > 1200
    assert store.clear() == 600
    assert store.stats() == []
    assert store.group("g", 0)[0] == []


def test_within_its_size(store):
    """However much is kept, all of it is within the size, and what was used last stays."""
    data = os.urandom(100_000)
    for n in range(40):
        store.put(key(n), item(data))
    sizes = store.stats()[0]
    assert sizes.size <= MIB
    assert sizes.entries <= 10
    assert store.get(key(39)) == data
    assert store.get(key(0)) is None


def test_file_of_something_else(tmp_path):
    """A file that is damaged, or another program's, is left as it is, and the error names it and the next step."""
    other = tmp_path / "ledger.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE account (name TEXT)")
        db.execute("PRAGMA user_version = 3")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"garbage" * 1000)
    for path, said in ((other, r"tables of something else: account.*another file"), (damaged, r"damaged.*Delete it")):
        before = path.read_bytes()
        store = SqliteStore(path, MIB, timeout_s=1.0)
        with pytest.raises(sqlite3.DatabaseError, match=f"{path.name}.*{said}"):
            store.put(key(1), item(b"x"))
        assert path.read_bytes() == before


def test_sealed_entries_are_bound_to_their_key():
    """An encrypted entry is opened under its own key alone, with the same secret alone."""
    box = Sealed("a secret of some length")
    sealed = box.seal(key(1), b"an answer")
    assert b"answer" not in sealed
    assert box.open(key(1), sealed) == b"an answer"
    for other, data in ((box, sealed[:-1]), (Sealed("another secret of some"), sealed)):
        with pytest.raises(Exception):  # noqa: B017, PT011 - the library's own
            other.open(key(1), data)
    with pytest.raises(Exception):  # noqa: B017, PT011
        box.open(key(2), sealed)
    plain = Plain(b"k")
    with pytest.raises(ValueError, match="not what was kept"):
        plain.open(key(2), plain.seal(key(1), b"an answer"))


def test_entry_is_read_as_it_was():
    """Headers, times, any bytes."""
    entry = Entry(HttpAnswer((("content-type", "application/json"),), bytes(range(256))), 1.5, 2.5, True)
    assert decode(entry.encode()) == entry
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own
        decode(b"")


def test_secret_is_needed(monkeypatch):
    """Without a secret nothing is kept in a file, unless that is said."""
    monkeypatch.delenv("TOKENGUARD_CACHE_KEY", raising=False)
    with pytest.raises(PolicyError, match="TOKENGUARD_CACHE_KEY is not set"):
        box_of("sqlite:///a.db", "TOKENGUARD_CACHE_KEY", plain=False)
    monkeypatch.setenv("TOKENGUARD_CACHE_KEY", "short")
    with pytest.raises(PolicyError, match="has 5 characters, the least is 16"):
        box_of("redis://h", "TOKENGUARD_CACHE_KEY", plain=False)
    box_of("memory:", "TOKENGUARD_CACHE_KEY", plain=False)
    assert isinstance(box_of("sqlite:///a.db", "TOKENGUARD_CACHE_KEY", plain=True), Plain)


def test_file_is_its_owners(tmp_path):
    """The file is readable by its owner alone."""
    store = SqliteStore(tmp_path / "deep" / "answers.db", MIB, timeout_s=1.0)
    store.put(key(1), item(b"x"))
    store.close()
    assert (tmp_path / "deep" / "answers.db").stat().st_mode & 0o077 == 0


def test_reload_keeps_the_answers(monkeypatch):
    """A new policy with the same `[answers]` goes on with the same store; another place is another store."""
    text = '[[cache]]\nname = "a"\n'
    first = Answers.of(loads(text, "t.toml"), None)
    assert Answers.of(loads(text + 'ttl = "2h"\n', "t.toml"), first) is first
    assert Answers.of(loads(text + "[answers]\nmax_mib = 2\n", "t.toml"), first) is not first


WRITER = """
import os, sys, time
from pathlib import Path
from tokenguard.answers.entry import Sealed
from tokenguard.answers.sqlite import SqliteStore
from tokenguard.answers.store import Item
store = SqliteStore(Path(sys.argv[1]), 2**30, timeout_s=5.0)
box = Sealed("a secret of some length")
print("ready", flush=True)
n = 0
while True:
    key = (n % 50).to_bytes(32, "big")
    store.put(key, Item("r", "t", time.time() + 60, box.seal(key, bytes([n % 256]) * 60_000)))
    n += 1
"""


@pytest.mark.apart
def test_killed_while_writing(tmp_path):
    """A writer that is killed at any moment leaves whole entries, or none."""
    path = tmp_path / "answers.db"
    box = Sealed("a secret of some length")
    for attempt in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.1 + random.random() / 10)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        store = SqliteStore(path, 2**30, timeout_s=5.0)
        found = [box.open(key(n), data) for n in range(50) if (data := store.get(key(n))) is not None]
        assert found, attempt
        assert all(len(data) == 60_000 and len(set(data)) == 1 for data in found)
        store.close()


PROGRAM = """
import json, os, sys
import httpx2, openai
import tokenguard
from tokenguard import policy
answers = 0
def answer(request):
    global answers
    answers += 1
    asked = json.loads(request.content)
    return httpx2.Response(200, json={
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "The answer: " + asked["messages"][0]["content"]}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}})
tokenguard.install(policy.loads(open(sys.argv[1]).read(), sys.argv[1]))
client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
def ask(n):
    with tokenguard.attribution(tenant="t"):
        said = client.chat.completions.create(model="gpt-4o-mini", temperature=0, max_tokens=50,
            messages=[{"role": "user", "content": f"confidential question {n}"}])
    assert said.choices[0].message.content == f"The answer: confidential question {n}"
for n in range(int(sys.argv[2])):
    ask(n)
print(answers)
"""


def run_program(policy_file, questions, **env):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(policy_file), str(questions)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TOKENGUARD_CACHE_KEY": "a secret of some length", "TOKENGUARD_STORE": "off", **env},
    )


def policy_file(tmp_path, url, more=""):
    path = tmp_path / "tokenguard.toml"
    path.write_text(
        textwrap.dedent(f"""
        [[cache]]
        name = "faq"
        [answers]
        url = "{url}"
        timeout = "5s"
        {more}
        """)
    )
    return path


@pytest.mark.apart
@pytest.mark.parametrize("where", ["sqlite", "redis"])
def test_processes_share(where, tmp_path, request):
    """What one process was told, the others are not told again; nothing that was said is in clear on disk."""
    url = request.getfixturevalue("redis_url") if where == "redis" else "sqlite:///answers.db"
    path = policy_file(tmp_path, url)
    first = run_program(path, 20)
    assert first.communicate(timeout=60)[0] == "20\n"
    fleet = [run_program(path, 20) for _ in range(4)]
    assert [each.communicate(timeout=60)[0] for each in fleet] == ["0\n"] * 4
    other = run_program(path, 5, TOKENGUARD_CACHE_KEY="another secret, as long")
    assert other.communicate(timeout=60)[0] == "5\n"
    if where == "sqlite":
        kept = b"".join(each.read_bytes() for each in tmp_path.iterdir() if each.name.startswith("answers.db"))
        assert kept
        assert b"confidential" not in kept
        assert b"answer:" not in kept
    else:
        import redis

        client = redis.Redis.from_url(url)
        kept = [value for name in client.keys("*:e:*") for value in client.hgetall(name).values()]
        client.close()
        assert kept
        assert not any(b"confidential" in value for value in kept)


@pytest.mark.apart
def test_redis_is_gone(tmp_path):
    """Without the server every call is sent, and hardly later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = policy_file(tmp_path, f"redis://127.0.0.1:{port}/0")
    gone = run_program(path, 20)
    assert gone.communicate(timeout=60)[0] == "20\n"


def test_hundred_thousand_entries():
    """A hundred thousand answers are kept within `max_mib`, and found at once."""
    store = MemoryStore(16 * MIB)
    data = json.dumps({"answer": "x" * 200}).encode()
    began = time.perf_counter()
    for n in range(100_000):
        store.put(key(n), item(data))
    for n in range(99_000, 100_000):
        assert store.get(key(n)) == data
    assert time.perf_counter() - began < 5
    assert store.stats()[0].size <= 16 * MIB
