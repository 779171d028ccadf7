"""The local store: what goes in comes out, from many processes, and trouble is told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time

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
