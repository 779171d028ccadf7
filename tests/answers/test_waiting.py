"""Answers that are yet to be written: found at once, written by a thread, and given up where the store is too slow."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tokenguard.answers import waiting
from tokenguard.answers.entry import Bare, Entry, decode
from tokenguard.answers.store import MemoryStore
from tokenguard.answers.waiting import Coming, Waiting
from tokenguard.call.kept import HttpAnswer, Incoming


class Slow(MemoryStore):
    """A store over a wire, of which some writes fail."""

    local = False

    def __init__(self):
        super().__init__(2**20)
        self.broken = 0
        self.written = []

    def put(self, key, item):
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the store is gone")
        self.written.append(key)
        super().put(key, item)


@pytest.fixture
def still(monkeypatch):
    """No thread writes meanwhile."""
    monkeypatch.setattr("tokenguard.process.threads.Worker.wake", lambda self, **_: None)


def coming(*keys, body=b"said", fails=False):
    def entries(came, now, hides_usage):
        if fails:
            raise ValueError("not what it says it is")
        return {key: Entry(HttpAnswer(came.headers, came.body), now, now + 60, hides_usage) for key in keys}

    came = Incoming(2**20)
    came.comes([(b"Content-Type", b"application/json"), (b"Set-Cookie", b"a=b")], body)
    return Coming(SimpleNamespace(rule=SimpleNamespace(name="r"), owner="o", entries=entries), came, True)


def test_found_at_once_and_written_later(still):
    """An answer is found before it is written, and as the same entry afterwards."""
    store = MemoryStore(2**20)
    there = Waiting(store, Bare(b"s"), pytest.fail)
    there.put((b"k",), coming(b"k"))
    entry = there.get(b"k")
    assert entry.answer == HttpAnswer((("Content-Type", "application/json"),), b"said")
    assert entry.hides_usage
    assert store.get(b"k") is None
    there.write()
    assert there.get(b"k") is None
    assert decode(store.get(b"k")) == entry
    assert [stat.rule for stat in store.stats()] == ["r"]


def test_a_thread_writes():
    """Nobody has to ask for it to be written."""
    store = MemoryStore(2**20)
    there = Waiting(store, Bare(b"s"), pytest.fail)
    there.put((b"k",), coming(b"k"))
    until = time.monotonic() + 20
    while store.get(b"k") is None and time.monotonic() < until:
        time.sleep(0.01)
    assert store.get(b"k") is not None
    there.finish()


def test_one_answer_under_several_keys(still):
    """Vectors that came together are found and written one by one; an answer of another number is not kept."""
    store = MemoryStore(2**20)
    there = Waiting(store, Bare(b"s"), pytest.fail)
    there.put((b"1", b"2"), coming(b"1", b"2"))
    there.put((b"3",), coming(b"3", fails=True))
    assert there.get(b"3") is None
    there.drop(b"2")
    there.write()
    assert [store.get(key) is not None for key in (b"1", b"2", b"3")] == [True, False, False]


def test_store_that_fails(still):
    """What the store could not take is given up; the rest waits, is found meanwhile, and is written afterwards."""
    store = Slow()
    told = []
    there = Waiting(store, Bare(b"s"), told.append)
    for key in (b"1", b"2", b"3"):
        there.put((key,), coming(key))
    store.broken = 1
    assert there._work() == waiting.AGAIN_S
    assert [str(each) for each in told] == ["the store is gone"]
    assert [there.get(key) is not None for key in (b"1", b"2", b"3")] == [False, True, True]
    assert there._work() is None
    assert store.written == [b"2", b"3"]


@pytest.mark.parametrize("limit", ["MOST", "MOST_BYTES"])
def test_too_many(still, monkeypatch, limit):
    """Past so many answers, or bytes, a store over a wire gets no more; into memory they are written at once."""
    monkeypatch.setattr(waiting, limit, 3 if limit == "MOST" else 2_500)
    slow, memory = Slow(), MemoryStore(2**20)
    for store in (slow, memory):
        there = Waiting(store, Bare(b"s"), pytest.fail)
        for n in range(9):
            there.put((b"%d" % n,), coming(b"%d" % n, body=b"x" * 1_000))
        there.write()
    assert slow.written == [b"0", b"1", b"2"]
    assert all(memory.get(b"%d" % n) is not None for n in range(9))


def test_another_one_comes_meanwhile(still):
    """An answer that comes while the one before it is being written is written too, and is the last word."""
    store = Slow()
    there = Waiting(store, Bare(b"s"), pytest.fail)
    there.put((b"k",), coming(b"k", body=b"first"))
    put = store.put

    def interrupted(key, item):
        put(key, item)
        if len(store.written) == 1:
            there.put((b"k",), coming(b"k", body=b"second"))

    store.put = interrupted
    there.write()
    assert store.written == [b"k", b"k"]
    assert decode(store.get(b"k")).answer.body == b"second"


def test_sustained_load(still, monkeypatch):
    """A table that is never empty takes new answers as long as those that wait are within the bound, and no longer."""
    monkeypatch.setattr(waiting, "MOST_BYTES", 100_000)
    store, put, coming_in = Slow(), Slow.put, iter(range(10, 1_000))
    there = Waiting(store, Bare(b"s"), pytest.fail)

    def written(key, item):
        put(store, key, item)
        if (n := next(coming_in, None)) is not None:
            there.put((b"%d" % n,), coming(b"%d" % n, body=b"x" * 1_000))

    store.put = written
    for n in range(10):
        there.put((b"%d" % n,), coming(b"%d" % n, body=b"x" * 1_000))
    there.write()
    assert len(store.written) == 1_000
    for n in range(1_000):
        there.put((b"%d" % n,), coming(b"%d" % n, body=b"x" * 1_000))
    assert sum(each.came.size for each in there._coming.values()) <= 101_000
    assert len(there._coming) >= 100
