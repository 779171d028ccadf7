"""Hashes of requests that tell nothing: without the key, nobody finds the request to a hash, nor two with the same one.

A plain checksum of a prompt from a template gives away what was filled in: a million PINs are tried in seconds.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import sys
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any, Final

KEY_BYTES: Final = 32
_word: Final = Struct(">q").pack
_own: Final = os.urandom(KEY_BYTES)
"""This process's, and its forked children's."""
_front: Final = os.urandom(KEY_BYTES)
"""The same, to be hashed by SipHash before all else: so its secret is in the state, whatever PYTHONHASHSEED says."""
SIPHASH: Final = sys.hash_info.algorithm.startswith("siphash")
"""Whether this Python's `hash` of bytes is a keyed one (https://peps.python.org/pep-0456/), faster than BLAKE2."""
_kept: bytes | None = None
"""One that other processes have too: the machine's, by the file beside its store."""
_shared: bytes | None = None
"""The fleet's, by the policy's salt."""


def salted(salt: str | None) -> None:
    """Hash by this salt from now on, as all who have it do; `None` ends that."""
    global _shared
    _shared = blake2b(salt.encode(), digest_size=KEY_BYTES).digest() if salt else None


def keep(store: Path) -> None:
    """Have `stable` agree over the processes that share this store: the key is a file beside it, its owner's alone."""
    global _kept
    file, whole = (store.with_name(f"{store.name}.{end}") for end in ("key", f"key.{os.getpid()}"))
    with contextlib.suppress(OSError):  # who cannot write there hashes with a key of its own
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            with os.fdopen(os.open(whole, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as new:
                new.write(os.urandom(KEY_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(whole, file)  # whole, or not there: another process may be reading it
            whole.unlink()
        key = file.read_bytes()
        _kept = key if len(key) == KEY_BYTES else None


def canonical(value: Any) -> Any:
    """The same plain data, with the keys of every dictionary in one order.

    >>> canonical({"b": [{"d": 1, "c": 2}], "a": 0})
    {'a': 0, 'b': [{'c': 2, 'd': 1}]}
    """
    if type(value) is str:  # as nearly all are
        return value
    if isinstance(value, dict):
        return {key: its if type(its := value[key]) is str else canonical(its) for key in _in_order((*value,))}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


@functools.lru_cache(maxsize=1024)
def _in_order(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """Remembered, as messages and schemas have few sets of keys."""
    return tuple(sorted(keys, key=str))


def marshalled(value: object) -> bytes:
    """Plain data in bytes: equal values give equal bytes. Raises `ValueError` for a value that is none.

    Those are an iterator, an SDK's own object. Version 2 of the format has no back references; `marshal` is an order
    faster than JSON, which escapes every text.
    """
    return marshal.dumps(value, 2)  # type: ignore[arg-type] # it says so itself


def loosely(value: object) -> bytes:
    """Plain data in bytes, in half the time: equal values give equal bytes only where they share the same objects.

    Version 4 refers back to what came before. What is written is read back as it was. Raises as `marshalled` does.
    """
    return marshal.dumps(value, 4)  # type: ignore[arg-type] # it says so itself


def in_bytes(value: object) -> tuple[bytes, bool]:
    """The same for any value, and whether it is plain data; other values are spelled out."""
    try:
        return marshal.dumps(value, 2), True  # type: ignore[arg-type] # `marshalled`
    except ValueError:
        return repr(value).encode("utf-8", "backslashreplace"), False


def read_back(data: bytes) -> Any:
    """What was `marshalled`: in this process, and by us."""
    return marshal.loads(data)  # noqa: S302


def is_salted() -> bool:
    """Whether fingerprints are to be those of other processes, and so go by the bytes alone."""
    return _shared is not None or not SIPHASH


def in_tuple(values: tuple[Any, ...]) -> str:
    """16 hex digits, equal for equal tuples of texts, bytes, numbers and such tuples in this process.

    Python keeps the hash of a text with it: what was hashed before takes no time. Each is a keyed one, and all of them
    together are hashed with a key once more, as whoever has set PYTHONHASHSEED may know the first. He could find two
    tuples with the same digits then, and still not what any digits are of.
    """
    return _word(hash(_front + _word(hash(values)))).hex()


def fingerprint(data: bytes) -> str:
    """16 hex digits, equal for equal data in this process, and over all that have the same salt."""
    if _shared is None and SIPHASH:
        return _word(hash(_front + data)).hex()
    return blake2b(data, digest_size=8, key=_shared or _own).hexdigest()


def stable(data: bytes) -> str:
    """16 hex digits, equal for equal data over all processes that share a salt or a store."""
    return blake2b(data, digest_size=8, key=_shared or _kept or _own).hexdigest()
