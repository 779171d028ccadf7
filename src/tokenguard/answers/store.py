"""Where kept answers are: the interface, and the one in this process's memory."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.native import RLock
from tokenguard.process.threads import Pool, landed

OVERHEAD: Final = 256
"""Bytes that an entry is taken to need beside its data."""
THREADS: Final = 4


class Item(NamedTuple):
    """One entry, as a store has it."""

    rule: str
    tenant: str
    """Whose it is, told to nobody without the secret."""
    expires: float
    """Unix seconds."""
    data: bytes
    group: str = ""
    """Items of one group are listed together, and are part of other entries: no entries of their own."""

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.data) + OVERHEAD


class Stat(NamedTuple):
    """What is kept for one rule."""

    rule: str
    entries: int
    size: int
    """Bytes."""


class Store(ABC):
    """Entries by key, of which the least recently used go when all are larger than `max_bytes`. May raise."""

    local: ClassVar[bool] = False
    """Whether an operation is done at once: there is no round trip to wait for."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._pool = Pool("tokenguard-answers", THREADS)

    async def run(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Await one of its operations."""
        return await landed(self._pool.submit(operation, *arguments))

    def soon(self, task: Callable[[], object]) -> None:
        """Have it done, off the caller's path. `task` never raises."""
        self._pool.soon(task)

    def finish(self) -> None:
        """Do what is left to be done."""
        self._pool.finish()

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The data under this key, which has been used now."""

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The data under each of these keys."""
        return list(map(self.get, keys))

    def group(self, name: str, since: float) -> tuple[list[tuple[bytes, bytes]], float]:
        """The items of a group that were put in since then, by key, and the time now, both by the store's own clock."""
        return [], since

    @abstractmethod
    def put(self, key: bytes, item: Item) -> None:
        """Keep it, whatever was there."""

    @abstractmethod
    def delete(self, key: bytes) -> None:
        """Keep it no longer."""

    @abstractmethod
    def clear(self, rule: str | None = None, tenant: str | None = None) -> int:
        """Delete the entries of a rule and a tenant, or of all; how many there were, items of groups not counted."""

    @abstractmethod
    def stats(self) -> list[Stat]:
        """What is kept, by rule."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Let go of what is open."""


class MemoryStore(Store):
    """The entries of one process."""

    local = True

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._items: OrderedDict[bytes, Item] = OrderedDict()
        self._size = 0
        self._lock = RLock()

    def get(self, key: bytes) -> bytes | None:
        """See `Store.get`."""
        if key not in self._items:  # as most are: no lock is taken for that
            return None
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            if item.expires <= time.time():
                self.delete(key)
                return None
            self._items.move_to_end(key)
            return item.data

    def put(self, key: bytes, item: Item) -> None:
        """See `Store.put`."""
        with self._lock:
            gone = self._items.pop(key, None)
            self._items[key] = item
            self._size += item.size - (gone.size if gone is not None else 0)
            while self._size > self.max_bytes:
                _, gone = self._items.popitem(last=False)
                self._size -= gone.size

    def delete(self, key: bytes) -> None:
        """See `Store.delete`."""
        with self._lock:
            if (item := self._items.pop(key, None)) is not None:
                self._size -= item.size

    def clear(self, rule: str | None = None, tenant: str | None = None) -> int:
        """See `Store.clear`."""
        with self._lock:
            gone = {
                key: item
                for key, item in self._items.items()
                if rule in (None, item.rule) and tenant in (None, item.tenant)
            }
            for key in gone:
                self.delete(key)
            return sum(not item.group for item in gone.values())

    def stats(self) -> list[Stat]:
        """See `Store.stats`."""
        found: dict[str, Stat] = {}
        now = time.time()
        with self._lock:
            for item in self._items.values():
                if item.expires > now:
                    _, entries, size = found.get(item.rule, Stat(item.rule, 0, 0))
                    found[item.rule] = Stat(item.rule, entries + (not item.group), size + item.size)
        return sorted(found.values())
