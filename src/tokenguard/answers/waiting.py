"""Answers that have come in, and are yet to be written: a thread makes entries of them, protects and writes them.

All that a caller does is to put one into a dictionary, where the next identical call finds it at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from tokenguard.answers.entry import Box, Entry
from tokenguard.answers.store import Item, Store
from tokenguard.process.threads import Worker

if TYPE_CHECKING:
    from tokenguard.answers.asked import Asked
    from tokenguard.call.kept import Incoming

MOST: Final = 1_000
MOST_BYTES: Final = 2**25
"""Past either no more is taken: the store is slower than the calls."""
AT_ONCE: Final = 50
"""Answers that are written before those that wait are counted anew."""
GATHER_S: Final = 0.05
SOON_S: Final = 0.005
"""The same where other processes look: until it is written, each of them sends the request."""
AGAIN_S: Final = 1.0
"""How long the writer rests after the store has failed."""


class Coming:
    """The entries that one answer becomes, made when they are first asked for."""

    __slots__ = ("_at", "_hides_usage", "_made", "came", "found")

    def __init__(self, found: Asked, came: Incoming, hides_usage: bool) -> None:
        self.found = found
        self.came = came
        self._hides_usage = hides_usage
        self._at = time.time()
        self._made: Mapping[bytes, Entry] | None = None

    def entry(self, key: bytes) -> Entry | None:
        """The one under this key."""
        if (made := self._made) is None:
            try:
                made = self.found.entries(self.came, self._at, self._hides_usage)
            except Exception:  # the answer is not what it says it is, and is not kept
                made = {}
            self._made = made
        return made.get(key)


class Waiting:
    """What waits for `store`; `failed` is told why something could not be written. One thread of ours writes."""

    def __init__(self, store: Store, box: Box, failed: Callable[[Exception], object]) -> None:
        self._store = store
        self._box = box
        self._failed = failed
        self._coming: dict[bytes, Coming] = {}
        self._size = 0
        """Bytes of the answers that wait, or about: threads add to it, and the writer counts anew."""
        self._worker = Worker("tokenguard-answers-writer", self._work, gather_s=GATHER_S if store.local else SOON_S)

    def put(self, keys: tuple[bytes, ...], coming: Coming) -> None:
        """Have the answer written under these keys."""
        if len(self._coming) >= MOST or self._size > MOST_BYTES:
            if not self._store.local:
                return
            self.write()  # into memory: that is done in no time
        self._size += coming.came.size
        for key in keys:
            self._coming[key] = coming
        self._worker.wake()

    def get(self, key: bytes) -> Entry | None:
        """The entry that waits under this key."""
        coming = self._coming.get(key)
        return None if coming is None else coming.entry(key)

    def drop(self, key: bytes) -> None:
        """Do not write it."""
        self._coming.pop(key, None)

    def write(self) -> None:
        """Write all there is, in order. Raises what the store raises, for the one that it could not take."""
        while there := tuple(self._coming.items()):
            try:
                for key, coming in there[:AT_ONCE]:
                    self._write(key, coming)
            finally:
                self._size = sum([each.came.size for each in set(self._coming.values())])

    def _write(self, key: bytes, coming: Coming) -> None:
        try:
            if (entry := coming.entry(key)) is not None:
                data = self._box.seal(key, entry.encode())
                self._store.put(key, Item(coming.found.rule.name, coming.found.owner, entry.expires, data))
        finally:
            self._done(key, coming)

    def _done(self, key: bytes, coming: Coming) -> None:
        there = self._coming.pop(key, None)
        if there is not None and there is not coming:  # another one has come meanwhile
            self._coming.setdefault(key, there)

    def _work(self) -> float | None:
        try:
            self.write()
        except Exception as error:
            self._failed(error)
            return AGAIN_S
        return None

    def finish(self) -> None:
        """Write what is left, at the process's end."""
        self._worker.stop()
        with contextlib.suppress(Exception):
            self.write()
