"""The local store: what goes in comes out, from many processes, and trouble is told."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, TaskRecord, ToolsetRecord
from tokenguard.store import file as storefile
from tokenguard.store import layout, sums
from tokenguard.store import store as storing
from tokenguard.store.file import TEMPORARY, gather, open_for_reading, open_for_writing
from tokenguard.store.store import BUSY_SECONDS, Store, read_store

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


@pytest.mark.apart
def test_many_processes(tmp_path):
    """Several processes write one file at once, from its creation on, and nothing is lost."""
    path = tmp_path / "u.db"
    program = (
        "import sys, time\nfrom tokenguard.facts.record import CallRecord\nfrom tokenguard.store.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for n in range(25):\n    store.write([CallRecord(time.time_ns(), 1, 'ok') for _ in range(4)])\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(6)]
    assert [worker.wait() for worker in workers] == [0] * 6
    assert len(list(read_store(path))) == 600


RACERS = 8
RACES = 40


@pytest.mark.apart
def test_many_processes_create_the_file(tmp_path):
    """Where processes meet at a file that is not there yet, the first batch of each is kept."""
    program = (
        "import sys, time\nfrom tokenguard.facts.record import CallRecord\nfrom tokenguard.store.store import Store\n"
        "print(flush=True)\n"
        "for line in sys.stdin:\n"
        "    store = Store(line.strip())\n"
        "    store.write([CallRecord(time.time_ns(), 1, 'ok')])\n"
        "    store.close()\n"
        "    print(flush=True)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(RACERS)
    ]
    for racer in racers:
        racer.stdout.readline()
    for race in range(RACES):
        for racer in racers:
            racer.stdin.write(f"{tmp_path / str(race)}.db\n")
            racer.stdin.flush()
        for racer in racers:
            racer.stdout.readline()
    for racer in racers:
        racer.communicate(timeout=30)
    assert [racer.returncode for racer in racers] == [0] * RACERS
    assert [len(list(read_store(tmp_path / f"{race}.db"))) for race in range(RACES)] == [RACERS] * RACES


def test_a_file_that_is_busy_when_it_is_opened(tmp_path):
    """A file that another process holds while it is being made is waited for, where SQLite itself would not."""
    path = tmp_path / "u.db"
    other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    other.execute("CREATE TABLE unrelated (x)")
    other.execute("BEGIN IMMEDIATE")
    let_go = threading.Timer(0.4, lambda: other.execute("COMMIT"))
    let_go.start()
    store = Store(path)
    store.write([call()])
    store.close()
    let_go.join()
    other.close()
    assert list(read_store(path)) == [call()]


def test_what_a_busy_file_refused_is_written_later(tmp_path, monkeypatch):
    """A batch that could not be written in time is told, and goes with the next; a child leaves it to its parent."""
    monkeypatch.setattr(storing, "BUSY_SECONDS", 0.2)
    path = tmp_path / "u.db"
    first = Store(path)
    first.write([call()])
    first.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = Store(path)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            waiting.write([call(1)])
    child = os.fork()
    if child == 0:
        try:
            waiting.write([call(3)])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    waiting.write([call(2)])
    waiting.close()
    assert list(read_store(path)) == [call(n) for n in range(4)]


def test_what_is_lost_is_counted(tmp_path, monkeypatch):
    """More than can wait for a busy file, and what a full disk refuses: it is known how much the file lacks."""
    monkeypatch.setattr(storing, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(storing, "MAX_WAITING", 2)
    store = Store(tmp_path / "u.db")
    store.write([call()])
    store.close()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                store.write([call(1), call(2)])
    assert store.dropped == 2
    store.write([])
    assert len(list(read_store(store.path))) == 3

    pages = store.connection().execute("PRAGMA page_count").fetchone()[0]
    store.connection().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.write([call(n) for n in range(3, 503)])
    store.close()
    assert store.dropped == 2 + 500
    assert len(list(read_store(store.path))) == 3


def test_a_fork_does_not_wait_for_another_process(tmp_path):
    """While a batch waits for a busy file, the program may fork."""
    path = tmp_path / "u.db"
    busy = Store(path)
    busy.write([call()])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        writer = threading.Thread(target=busy.write, args=([call(1)],))
        writer.start()
        time.sleep(0.2)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(0)
        took = time.monotonic() - began
        os.waitpid(child, 0)
        other.execute("COMMIT")
        writer.join()
    busy.close()
    assert took < BUSY_SECONDS / 2
    assert list(read_store(path)) == [call(), call(1)]


VERSION_1 = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, outcome TEXT NOT NULL,
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, operation, provider, request_model, response_model, max_tokens,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, error_type, resends,
    code_file, code_line, code_function, cost_usd, cost_status, saved_usd, retry_attempt, retry_cost_usd, tool_steps,
    guard_action, guard_rule, prevented_usd, task, tenant, feature, route, prompt_version, team, user, more TEXT
);
CREATE INDEX calls_by_start ON calls (start_ns);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
    outcome TEXT NOT NULL, cost_usd REAL NOT NULL, calls INTEGER NOT NULL, attribution TEXT NOT NULL
);
CREATE INDEX tasks_by_start ON tasks (start_ns);
PRAGMA user_version = 1;
"""
VERSION_2 = VERSION_1.replace(
    "cost_status,", "input_usd, output_usd, cache_read_usd, cache_write_usd, cost_status,"
).replace("user_version = 1", "user_version = 2")
LATER = (
    *("temperature", "first_chunk_s", "conversation_id", "request_hash", "system_tokens", "tools_tokens"),
    *("history_tokens", "tool_results_tokens", "last_tokens", "media_tokens", "toolset", "break_kind", "break_section"),
    *("break_index", "break_offset", "break_tokens", "break_usd"),
)
VERSION_3 = VERSION_2.replace("prevented_usd,", f"prevented_usd, {', '.join(LATER)},").replace(
    "user_version = 2", "user_version = 3; CREATE TABLE toolsets (hash TEXT, name TEXT, share REAL)"
)
VERSION_4 = VERSION_3.replace("toolset,", "toolset, answer, answer_reason, answer_saved_usd,").replace(
    "user_version = 3", "user_version = 4"
)
VERSION_5 = VERSION_4.replace("answer_saved_usd,", "answer_saved_usd, answer_likeness,").replace(
    "user_version = 4", "user_version = 5"
)
PARTS = {names.COST_INPUT: 0.125, names.COST_OUTPUT: 0.0625, names.COST_CACHE_READ: 0.0625, names.COST_CACHE_WRITE: 0.0}
SUMS = "SELECT count(*), sum(cost_usd), sum(input_usd), sum(output_usd), sum(cache_read_usd) FROM calls"


def version_1(path, rows, schema=VERSION_1):
    """A store as an older version wrote it, with this many calls, and the calls."""
    ids = {names.RESPONSE_ID: "chatcmpl-abc", names.FINGERPRINT: "0f" * 16, names.REQUEST_TEMPERATURE: 0.5}
    calls = [call(n, **PARTS, **ids) if n % 2 else call(n) for n in range(rows)]
    kept = {names.OPERATION: "operation", names.INPUT_TOKENS: "input_tokens", names.COST: "cost_usd"}
    if schema is not VERSION_1:
        kept |= dict(zip(PARTS, ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd"), strict=True))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(schema)
        connection.executemany(
            f"INSERT INTO calls (start_ns, duration_ns, outcome, trace_id, span_id, {', '.join(kept.values())}, more) "
            f"VALUES (?, ?, ?, ?, ?, {'?, ' * len(kept)} ?)",
            [
                (
                    *(each.start_ns, each.duration_ns, each.outcome, each.trace_id, each.span_id),
                    *map(each.attributes.get, kept),
                    json.dumps({key: value for key, value in each.attributes.items() if key not in kept}),
                )
                for each in calls
            ],
        )
    return calls


def test_values_of_other_kinds(tmp_path):
    """What is kept once for many calls is told apart by its kind, too: 1 comes back as 1, and 1.0 as 1.0."""
    odd = [
        call(n, **{names.REQUEST_TEMPERATURE: value})
        for n, value in enumerate((1, 1.0, 0, 0.0, "1", 1, 1.0, ("1",), ["1"]))
    ]
    store = Store(tmp_path / "u.db")
    store.write(odd)
    store.close()
    found = [record.attributes[names.REQUEST_TEMPERATURE] for record in read_store(tmp_path / "u.db")]
    assert [*map(repr, found)] == ["1", "1.0", "0", "0.0", "'1'", "1", "1.0", "('1',)", "('1',)"]


@pytest.mark.parametrize("schema", [VERSION_1, VERSION_2, VERSION_4, VERSION_5])
def test_an_older_version_is_migrated(tmp_path, schema):
    """The first batch of a writer brings an older file up to date, and its records are the same as before."""
    path = tmp_path / "u.db"
    calls = version_1(path, 10, schema)
    writer = Store(path)
    writer.write([call(10, **PARTS)])
    writer.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (storefile.VERSION,)
        assert connection.execute(SUMS).fetchone() == (11, 11 * 0.25, 6 * 0.125, 6 * 0.0625, 6 * 0.0625)
        assert connection.execute("SELECT count(temperature), count(request_hash) FROM calls").fetchone() == (5, 0)
    assert list(read_store(path)) == [*calls, call(10, **PARTS)]


def test_an_older_version_is_read(tmp_path):
    """A reader sees the columns of an older file, and does not change it; nor where it is half migrated."""
    path = tmp_path / "u.db"
    calls = version_1(path, 10)
    for statements in ("", "ALTER TABLE calls ADD COLUMN input_usd; UPDATE calls SET input_usd = 0.125 WHERE id = 2"):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(statements)
        with closing(open_for_reading(path)) as connection:
            assert connection.execute(SUMS).fetchone() == (10, 10 * 0.25, 5 * 0.125, 5 * 0.0625, 5 * 0.0625)
            assert connection.execute("SELECT sum(temperature), count(break_kind) FROM calls").fetchone() == (2.5, 0)
            assert connection.execute("SELECT count(*) FROM toolsets").fetchone() == (0,)
        assert list(read_store(path)) == calls
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_stores_are_gathered(tmp_path):
    """Stores of any version are added up in a temporary one, and a call that it has already is left out."""
    calls = version_1(tmp_path / "old.db", 10)
    assert len({each.span_id for each in calls}) == 1
    new = Store(tmp_path / "new.db")
    new.write([call(1, **PARTS), replace(call(2, **PARTS), span_id="c" * 16), replace(call(3, **PARTS), span_id="")])
    new.write([TaskRecord("resolve", NOW, 5, "ok", 0.5, 2), ToolsetRecord("abc", {"search": 0.75, "look": 0.25})])
    new.close()
    gathered = Store(TEMPORARY)
    target = gathered.connection()
    assert gather(target, tmp_path / "old.db") == 0
    assert target.execute(SUMS).fetchone() == (10, 10 * 0.25, 5 * 0.125, 5 * 0.0625, 5 * 0.0625)
    assert gather(target, tmp_path / "new.db") == 1
    assert gather(target, tmp_path / "new.db") == 2
    assert target.execute(SUMS).fetchone()[:3] == (13, 13 * 0.25, 8 * 0.125)
    assert target.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    assert target.execute("SELECT * FROM toolsets ORDER BY name").fetchall() == [
        ("abc", "look", 0.25),
        ("abc", "search", 0.75),
    ]
    with pytest.raises(FileNotFoundError):
        gather(target, tmp_path / "none.db")
    gathered.close()


def test_a_large_file_of_version_1(tmp_path, monkeypatch):
    """No batch waits for a large file to be migrated: each does a part, and a writer goes on where another ended."""
    monkeypatch.setattr(storefile, "MIGRATION_ROWS", 7)
    monkeypatch.setattr(storing, "TIDYING_SECONDS", 1e-9)
    path = tmp_path / "u.db"
    version_1(path, 50)
    left = []
    writer = Store(path)
    for n in range(50, 65):
        writer.write([call(n, **PARTS)])
        if n == 52:
            writer.close()
            writer = Store(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (storefile.VERSION,)
            left.append(
                connection.execute(f"SELECT count(*) FROM {storefile.BEFORE}").fetchone()[0]
                if storefile.is_migrating(connection)
                else None
            )
        # Whatever the state, a reader of the file sees all, and each call keeps its number.
        with closing(open_for_reading(path)) as connection:
            assert connection.execute(SUMS).fetchone()[2] == (25 + n - 49) * 0.125
            assert connection.execute("SELECT count(DISTINCT id), max(id) FROM calls").fetchone() == (n + 1, n + 1)
    writer.close()
    assert left[:3] == [43, 36, 29]
    assert left[-1] is None


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


@pytest.mark.apart
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


def test_reading_leaves_one_file(tmp_path):
    """A reader changes nothing, and takes the log of SQLite's that it made away with it."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([call()])
    store.close()
    with closing(open_for_reading(path)) as reader:
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM call_rows")
    assert [file.name for file in tmp_path.iterdir()] == ["u.db"]


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


PROGRAM = """
import os, sys, time
from tokenguard.facts.record import TaskRecord
from tokenguard.store.store import Store
from tokenguard.telemetry.drain import Telemetry

telemetry = Telemetry(lambda: Store(sys.argv[1]))

def put(name):
    telemetry.put(TaskRecord(name, time.time_ns(), 1, "ok", 0.5, 1))

put("first")
"""


def started(path, rest=""):
    """The program, when all its lines are done and its end begins."""
    program = subprocess.Popen(
        [sys.executable, "-c", f"{PROGRAM}{rest}\nprint(flush=True)", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program.stdout.readline()
    return program


def ran(path, rest=""):
    """Run the program to its end: how long that took after its lines were done, and what it said on standard error."""
    program = started(path, rest)
    began = time.monotonic()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    return time.monotonic() - began, errors


@pytest.mark.parametrize("rest", ["", "time.sleep(0.3)", "time.sleep(0.3)\nput('last')"])
def test_exit_leaves_one_file(tmp_path, rest):
    """At its exit, after the last drain, a program closes the store: no log of SQLite's is left beside it."""
    path = tmp_path / "u.db"
    _, errors = ran(path, rest)
    # From 3.12 on Python warns of any fork beside a thread, and from 3.13 on shows the line; docs/processes.md says so.
    warning = ("use of fork() may lead to deadlocks", "child = os.fork()")
    assert [line for line in errors.splitlines() if not any(part in line for part in warning)] == []
    assert [file.name for file in tmp_path.iterdir()] == ["u.db"]
    assert len(list(read_store(path))) == 1 + rest.count("put")


@pytest.mark.parametrize("rest", ["", "time.sleep(0.3)"], ids=["before the drain", "during the drain"])
def test_exit_waits_for_nobody(tmp_path, rest):
    """A program whose store another process holds ends all the same, with its own exit code, and not much later.

    Than the same program whose store is free, in the same moments: others use the machine too.
    """
    path = tmp_path / "u.db"
    Store(path).write([call()])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(2) as beside:
            free = beside.submit(ran, tmp_path / "free.db", rest)
            seconds, errors = ran(path, rest)
    assert seconds < free.result()[0] + 2.5, "the batch waits for 5 s where the program does not end"
    assert "database is locked" in errors


def test_exit_writes_what_waited(tmp_path):
    """What a busy file refused is written at the exit, though no call came after it."""
    path, let_go = tmp_path / "u.db", tmp_path / "let go"
    Store(path).write([call()])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        program = started(
            path,
            f"""from tokenguard.store import store
store.BUSY_SECONDS = 0.1
telemetry.flush()
print(flush=True)
while not os.path.exists({str(let_go)!r}):
    time.sleep(0.01)""",
        )
        other.execute("COMMIT")
        let_go.touch()
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "database is locked" in errors
    assert [getattr(record, "name", None) for record in read_store(path)] == [None, "first"]


def test_exit_of_a_forked_child(tmp_path):
    """A child that ends leaves its parent's connection alone, and the parent writes on."""
    path = tmp_path / "u.db"
    rest = """
telemetry.flush()
for name in ("quiet", "busy"):
    child = os.fork()
    if child == 0:
        if name == "busy":
            put("child")
        sys.exit()
    os.waitpid(child, 0)
put("second")
telemetry.flush()
put("third")
"""
    _, errors = ran(path, rest)
    # From 3.12 on Python warns of any fork beside a thread, and from 3.13 on shows the line; docs/processes.md says so.
    warning = ("use of fork() may lead to deadlocks", "child = os.fork()")
    assert [line for line in errors.splitlines() if not any(part in line for part in warning)] == []
    assert [file.name for file in tmp_path.iterdir()] == ["u.db"]
    assert [record.name for record in read_store(path)] == ["first", "child", "second", "third"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_only_its_owner_reads_it(tmp_path):
    """Whose calls cost what is the owner's to read, whatever the umask; a symbolic link is not followed."""
    umask = os.umask(0)
    try:
        path = tmp_path / ".tokenguard" / "usage.db"
        open_for_writing(str(path)).close()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
            "usage.db": 0o600,
            ".gitignore": 0o600,
        }
    finally:
        os.umask(umask)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(OSError, match="symbolic link"):
        open_for_writing(str(link))
    assert not (tmp_path / "elsewhere.db").exists()


def aged(path):
    """Make a store one of version 3, which knew no kept answers."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for column in SERVED:
            connection.execute(f"ALTER TABLE sums DROP COLUMN {column}")
        columns = "id, start_ns, duration_ns, outcome, trace_id, span_id, operation, input_tokens, cost_usd, more"
        rows = connection.execute(f"SELECT {columns} FROM calls").fetchall()
        connection.execute("DROP VIEW calls")
        for table in ("call_rows", "kinds", "words", "tasks", "toolsets"):
            connection.execute(f"DROP TABLE {table}")
        for statement in VERSION_3.split(";"):
            connection.execute(statement)
        connection.executemany(f"INSERT INTO calls ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


SERVED = ("served", "served_usd", "watched", "watched_usd", "compared", "likeness")


def test_the_sums_of_an_older_version(tmp_path):
    """A file whose sums lack what was measured later is read as it is, and gets it when it is written to."""
    path = tmp_path / "u.db"
    store = Store(path)
    store.write([call(n) for n in range(5)])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        while sums.fold(connection):
            pass
    aged(path)
    with closing(open_for_reading(path)) as connection:
        assert connection.execute("SELECT sum(calls), sum(served) FROM sums WHERE kept = 0").fetchone() == (5, None)
        assert connection.execute("SELECT count(*), count(answer) FROM calls").fetchone() == (5, 0)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    store = Store(path)
    store.write([call(5), call(6, **{names.CACHE_RESULT: names.HIT, names.CACHE_SAVED: 0.5})])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        while sums.fold(connection):
            pass
        assert connection.execute("PRAGMA user_version").fetchone() == (storefile.VERSION,)
        found = connection.execute(
            "SELECT sum(calls), sum(served), sum(served_usd) FROM sums WHERE kept = 0"
        ).fetchone()
    assert found == (7, 1, 0.5)


def test_a_new_column_is_a_new_version():
    """Whoever adds a column raises `VERSION`, or the files of the version before are written with what they lack.

    Then set the digest, and say in `IN_JSON_BEFORE` what older files have in their JSON.
    """
    columns = repr(
        (layout.TABLES, layout.CALL_COLUMNS, tuple(sums.MEASURES), layout.TASK_COLUMNS, layout.TOOLSET_COLUMNS)
    )
    assert (storefile.VERSION, blake2b(columns.encode(), digest_size=4).hexdigest()) == (6, "82b6c716")


def test_a_call_takes_200_bytes(tmp_path):
    """A traced call's row in the file: what many have in common is there once, and identifiers are bytes."""
    path = tmp_path / "u.db"
    store = Store(path)
    written = [full(n) for n in range(2_000)]
    store.write(written)
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        (taken,) = connection.execute("SELECT sum(payload) FROM dbstat WHERE name = 'call_rows'").fetchone()
        assert connection.execute("SELECT count(*) FROM kinds").fetchone() == (4,)
    assert taken / len(written) <= 200
    assert list(read_store(path)) == written


def full(n):
    """A call as a traced program's are, with all that is usual."""
    digest = blake2b(str(n).encode()).hexdigest()
    return CallRecord(
        NOW + n * 10**9,
        1_234_567_890 + n,
        "ok",
        {
            names.OPERATION: "chat",
            names.PROVIDER: "openai",
            names.REQUEST_MODEL: "gpt-4o",
            names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
            names.REQUEST_MAX_TOKENS: 800,
            names.INPUT_TOKENS: 2000 + n,
            names.OUTPUT_TOKENS: 300 + n,
            names.CACHE_READ_TOKENS: 1024,
            names.REASONING_TOKENS: 0,
            names.AUDIO_INPUT_TOKENS: 0,
            names.AUDIO_OUTPUT_TOKENS: 0,
            names.CODE_FILE: "/srv/app/support/answers.py",
            names.CODE_LINE: 65 + n % 4,
            names.CODE_FUNCTION: "answer",
            names.COST: 0.0051 + n,
            names.COST_INPUT: 0.0021 + n,
            names.COST_OUTPUT: 0.003,
            names.COST_CACHE_READ: 0.0007,
            names.COST_CACHE_WRITE: 0.0,
            names.COST_SAVED: 0.0013,
            names.COST_STATUS: "exact",
            names.REQUEST_HASH: digest[16:32],
            names.FINGERPRINT: digest[32:64],
            names.RESPONSE_ID: f"chatcmpl-{digest[-29:].upper()}",
            names.SERVER_ADDRESS: "api.openai.com",
            names.SERVER_PORT: 443,
            names.FINISH_REASONS: ("stop",),
            **{names.input_attribute(part): 500 + n for part in ("system", "history", "last")},
            "tokenguard.tenant": f"tenant-{n % 500}",
            "tokenguard.feature": "support",
            "tokenguard.route": "/chat",
            "tokenguard.prompt_version": "v14",
            "tokenguard.user": f"user-{n % 1999}",
        },
        digest[64:96],
        digest[96:112],
    )
