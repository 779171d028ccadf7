"""The local store: what goes in comes out, from many processes, and trouble is told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from tokenguard import names
from tokenguard.call import CallRecord, TaskRecord
from tokenguard.store import Store, read_store

NOW = time.time_ns()


def call(n=0, **attributes):
    return CallRecord(
        NOW + n,
        1_000,
        "ok",
        {
            names.OPERATION: "chat",
            names.INPUT_TOKENS: 12,
            names.COST: 0.25,
            names.FINISH_REASONS: ("stop", "length"),
            "tokenguard.attr.region": "eu",
            **attributes,
        },
        "a" * 32,
        "b" * 16,
    )


def test_round_trip(tmp_path):
    """Records come back equal: ints as ints, floats as floats, sequences as tuples, absent as absent."""
    store = Store(tmp_path / "u.db")
    task = TaskRecord("resolve", NOW, 5, "ok", 0.5, 2, {"tenant": "ü"})
    store.write([call(), task, call(1, **{names.COST: 1.0, names.CACHE_READ_TOKENS: 0, "tokenguard.user": "7"})])
    records = list(read_store(tmp_path / "u.db"))
    assert records == [
        call(),
        call(1, **{names.COST: 1.0, names.CACHE_READ_TOKENS: 0, "tokenguard.user": "7"}),
        task,
    ]
    assert type(records[1].attributes[names.COST]) is float
    assert list(read_store(tmp_path / "u.db", since_ns=NOW + 1)) == [records[1]]
    store.close()


def test_default_folder_is_ignored_by_git(tmp_path, monkeypatch):
    """The default folder keeps itself out of version control."""
    monkeypatch.chdir(tmp_path)
    store = Store(names.DEFAULT_STORE)
    store.write([call()])
    store.close()
    assert (tmp_path / ".tokenguard" / ".gitignore").read_text() == "*\n"


def test_old_records_go(tmp_path, monkeypatch):
    """Opening a store deletes what is older than it keeps."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([CallRecord(NOW - 100 * 86_400 * 10**9, 1, "ok"), call()])
    store.close()
    store = Store(path)
    store.write([])
    store.close()
    assert len(list(read_store(path))) == 1


def test_many_processes(tmp_path):
    """Several processes write one file at once, from its creation on, and nothing is lost."""
    path = tmp_path / "u.db"
    program = (
        "import sys, time\nfrom tokenguard.call import CallRecord\nfrom tokenguard.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for n in range(25):\n    store.write([CallRecord(time.time_ns(), 1, 'ok') for _ in range(4)])\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(6)]
    assert [worker.wait() for worker in workers] == [0] * 6
    assert len(list(read_store(path))) == 600


def test_fork(tmp_path):
    """A forked child opens the file for itself."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([call()])
    child = os.fork()
    if child == 0:
        try:
            store.write([call(1)])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.write([call(2)])
    store.close()
    assert len(list(read_store(path))) == 3


def test_a_fork_while_a_thread_writes(tmp_path):
    """No connection crosses a fork: parent and children write on, and the file stays whole."""
    path = tmp_path / "u.db"
    store = Store(path)
    done = threading.Event()

    def keep_writing():
        while not done.is_set():
            store.write([call()])

    writer = threading.Thread(target=keep_writing)
    writer.start()
    children = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            try:
                store.write([call(**{"tokenguard.user": "child"})] * 10)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    done.set()
    writer.join()
    store.close()
    records = list(read_store(path))
    assert sum(record.attributes.get("tokenguard.user") == "child" for record in records) == 50
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_odd_values(tmp_path):
    """What no column can hold is kept all the same, and does not take its batch along; what is no number is unknown."""
    odd = call(
        1,
        **{
            names.INPUT_TOKENS: 2**70,
            names.REQUEST_MODEL: ("a", "b"),
            "tokenguard.user": "half a \ud83d",
            "tokenguard.attr.page": "\udfff",
        },
    )
    store = Store(tmp_path / "u.db")
    store.write([call(), odd, call(2, **{names.COST: float("nan"), names.REQUEST_TEMPERATURE: float("inf")})])
    store.close()
    first, second, third = read_store(tmp_path / "u.db")
    assert (first, second) == (call(), odd)
    assert names.COST not in third.attributes
    assert names.REQUEST_TEMPERATURE not in third.attributes


def test_a_deleted_file_is_made_again(tmp_path):
    """Where the file was deleted under a running program, the next write makes it again."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([call()])
    for file in tmp_path.iterdir():
        file.unlink()
    store.write([call(1)])
    store.close()
    assert list(read_store(path)) == [call(1)]


@pytest.mark.parametrize("days", ["0", "inf", "-1", "many"])
def test_keeping_all(tmp_path, monkeypatch, days):
    """0 keeps all records; a number of days that is none is the default."""
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", days)
    path = tmp_path / "u.db"
    for _ in range(2):
        store = Store(path)
        store.write([CallRecord(NOW - 50 * 86_400 * 10**9, 1, "ok")])
        store.close()
    assert len(list(read_store(path))) == 2


def test_any_file_name(tmp_path):
    """A path with characters that mean something in a URI is a path."""
    path = tmp_path / "a#b?c%20d" / "ü e.db"
    store = Store(path)
    store.write([call()])
    store.close()
    assert list(read_store(path)) == [call()]


def test_reading_does_not_need_writing(tmp_path):
    """A reader sees what a writer that is still there has written."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([call()])
    assert list(read_store(path)) == [call()]
    store.write([call(1)])
    assert len(list(read_store(path))) == 2
    store.close()


def test_trouble(tmp_path):
    """A missing file, a file that is no database and one of another version say so."""
    with pytest.raises(FileNotFoundError):
        list(read_store(tmp_path / "none.db"))
    (tmp_path / "text").write_text("not a database, though long enough to look at twice" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Store(tmp_path / "text").write([call()])
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(sqlite3.DatabaseError, match="version 99"):
        Store(tmp_path / "other.db").write([call()])
