"""The vectors of kept questions, in this process's memory: which of them is nearest.

All are compared (numpy): exact, and for 20,000 of 256 numbers about as fast as the shortest network round trip. An
approximate index would have to be kept in step with what expires, for little.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST: Final = 20_000
"""Vectors of one partition; the oldest go first."""
MOST_INDEXES: Final = 256
"""Partitions that are in memory; the least recently asked go first."""


class Near(NamedTuple):
    """The nearest question."""

    key: bytes
    similarity: float
    """The cosine of the angle between the two vectors."""


class Index:
    """The vectors of one partition. Not for several threads at once."""

    def __init__(self) -> None:
        self.synced = 0.0
        """Up to when it has what the store has, by the store's clock."""
        self.asked = float("-inf")
        """When that was last looked up, by the monotonic clock."""
        self._keys: list[bytes | None] = []
        self._places: dict[bytes, int] = {}
        self._matrix: Any = None
        self._next = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: bytes, vector: NDArray[Any]) -> None:
        """Have this vector in it; one of another length than the others is left out."""
        import numpy as np

        if self._matrix is None:
            self._matrix = np.zeros((64, len(vector)), np.float32)
        if len(vector) != self._matrix.shape[1] or key in self._places:
            return
        place = self._next
        self._next = (place + 1) % MOST
        if place >= len(self._keys):
            self._keys.append(None)
        if place >= len(self._matrix):
            more = np.zeros((min(MOST, 2 * len(self._matrix)), self._matrix.shape[1]), np.float32)
            more[: len(self._matrix)] = self._matrix
            self._matrix = more
        if (gone := self._keys[place]) is not None:
            self._places.pop(gone, None)
        self._keys[place], self._places[key] = key, place
        self._matrix[place] = vector

    def drop(self, key: bytes) -> None:
        """The answer is not there any more."""
        place = self._places.pop(key, None)
        if place is not None:
            self._keys[place] = None
            self._matrix[place] = 0.0

    def nearest(self, vector: NDArray[Any]) -> Near | None:
        """The nearest one; `None` without any."""
        if not self._places or len(vector) != self._matrix.shape[1]:
            return None
        likeness = self._matrix[: len(self._keys)] @ vector
        place = int(likeness.argmax())
        key = self._keys[place]
        return None if key is None else Near(key, min(1.0, float(likeness[place])))


class Indexes:
    """The indexes of all partitions."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[bytes, Index] = OrderedDict()
        self.lock = threading.RLock()

    def of(self, partition: bytes) -> Index:
        """The index of a partition, which is new where it was not there. The caller has the lock."""
        index = self._indexes.get(partition)
        if index is None:
            index = self._indexes[partition] = Index()
            if len(self._indexes) > MOST_INDEXES:
                self._indexes.popitem(last=False)
        else:
            self._indexes.move_to_end(partition)
        return index
