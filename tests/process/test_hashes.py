"""Hashes of requests tell requests apart, and tell nobody else what they were."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest

from tokenguard.process import hashes

TEMPLATE = "The PIN of this customer is {:06d}. Is it safe?"
PROGRAM = """
import sys
from pathlib import Path
from tokenguard.process import hashes
hashes.salted(sys.argv[1] or None)
if sys.argv[2]:
    hashes.keep(Path(sys.argv[2]))
print(hashes.fingerprint(b"x"), hashes.stable(b"x"))
"""


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    monkeypatch.setattr(hashes, "_kept", None)
    monkeypatch.setattr(hashes, "_shared", None)


def other_process(salt: str = "", store: str = "") -> list[str]:
    command = [sys.executable, "-c", PROGRAM, salt, store]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_equal_in_one_process():
    """The same data has the same hash, other data another one."""
    assert hashes.fingerprint(b"x") == hashes.fingerprint(b"x")
    assert len({hashes.fingerprint(str(n).encode()) for n in range(10_000)}) == 10_000
    assert len(hashes.fingerprint(b"x")) == 16


def test_a_template_gives_nothing_away():
    """Without the key, trying what may have been filled in finds nothing: other processes have other hashes."""
    prompt = TEMPLATE.format(493_027).encode()
    for seen in (hashes.fingerprint(prompt), hashes.stable(prompt)):
        assert f"{zlib.crc32(prompt):08x}" not in seen
    assert other_process()[0] != hashes.fingerprint(b"x")
    assert other_process()[1] != hashes.stable(b"x")


def test_a_salt_is_shared():
    """Who has the fleet's salt gets its hashes; another salt gives others."""
    hashes.salted("of the fleet")
    assert other_process("of the fleet") == [hashes.fingerprint(b"x"), hashes.stable(b"x")]
    assert other_process("of another fleet")[0] != hashes.fingerprint(b"x")


def test_a_store_is_shared(tmp_path):
    """The processes that share a store agree on what is kept in it, by a key that only its owner can read."""
    store = tmp_path / ".tokenguard" / "usage.db"
    first, second = other_process(store=str(store)), other_process(store=str(store))
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert [file.name for file in store.parent.iterdir()] == ["usage.db.key"]
    assert (store.parent / "usage.db.key").stat().st_mode & 0o777 == 0o600
    assert other_process(store=str(tmp_path / "other.db"))[1] != first[1]


def test_a_folder_that_cannot_be_written(tmp_path):
    """Where no key can be kept, the process hashes with its own."""
    (tmp_path / "file").write_text("")
    hashes.keep(tmp_path / "file" / "usage.db")
    assert hashes.stable(b"x") == hashes.stable(b"x")


def test_a_known_hash_seed_gives_nothing_away(monkeypatch):
    """Where Python's own hashes are the same in all processes, those of requests are not."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert other_process()[0] != other_process()[0]


def test_a_python_whose_hash_is_no_keyed_one(monkeypatch):
    """There the halves of a hash come from elsewhere, with all its properties."""
    monkeypatch.setattr(hashes, "SIPHASH", False)
    test_equal_in_one_process()
