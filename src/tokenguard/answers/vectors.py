"""The vectors of kept questions, in this process's memory: which of them is nearest.

Up to `MOST` are all compared (numpy): exact, and for 20,000 of 256 numbers about as fast as the shortest network round
trip. Beyond that they are in groups (faiss, where it is installed), and the nearest groups are compared.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.native import RLock

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST: Final = 20_000
"""Vectors of one partition that are all compared; the oldest go first."""
MOST_GROUPED: Final = 200_000
"""Vectors of one partition in groups; the oldest quarter goes first."""
MOST_INDEXES: Final = 256
"""Partitions that are in memory; the least recently asked go first."""
PROBED: Final = 0.1
"""The share of groups that is compared. Of 1,200 questions with a vector 0.90 to 0.99 alike, none missed it."""
CANDIDATES: Final = 8
"""Of the groups, how many are looked at: some may have been dropped."""


class Near(NamedTuple):
    """The nearest question."""

    key: bytes
    similarity: float
    """The cosine of the angle between the two vectors."""


class Table(Protocol):
    """What holds vectors of one length by their keys."""

    def __len__(self) -> int: ...

    def add(self, key: bytes, vector: NDArray[Any]) -> None:
        """Have this vector in it."""
        ...

    def drop(self, key: bytes) -> None:
        """The answer is not there any more."""
        ...

    def nearest(self, vector: NDArray[Any]) -> Near | None:
        """The nearest one; `None` without any."""
        ...


class Index:
    """The vectors of one partition. Whoever asks it has its lock; `add` waits for nobody."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.synced = 0.0
        """Up to when it has what the store has, by the store's clock."""
        self.asked = float("-inf")
        """When that was last looked up, by the monotonic clock."""
        self._new: deque[tuple[bytes, NDArray[Any]]] = deque()
        self._length = 0
        self._table: Table | None = None
        self._grows = True

    def __len__(self) -> int:
        self._take()
        return len(self._table or ())

    def add(self, key: bytes, vector: NDArray[Any]) -> None:
        """Have this vector in it; one of another length than the first is left out."""
        self._new.append((key, vector))

    def drop(self, key: bytes) -> None:
        """The answer is not there any more."""
        self._take()
        if self._table is not None:
            self._table.drop(key)

    def nearest(self, vector: NDArray[Any]) -> Near | None:
        """The nearest one; `None` without any."""
        self._take()
        if self._table is None or len(vector) != self._length:
            return None
        return self._table.nearest(vector)

    def _take(self) -> None:
        while self._new:
            key, vector = self._new.popleft()
            if self._table is None:
                self._length, self._table = len(vector), All(len(vector))
            if len(vector) != self._length:
                continue
            if isinstance(self._table, All) and len(self._table) >= MOST and self._grows:
                self._table, self._grows = _grouped(self._table), False
            self._table.add(key, vector)


def _grouped(table: All) -> Table:
    """The same in groups, where faiss is installed."""
    try:
        return Grouped(*table.held())
    except ImportError:
        return table


class All:
    """All are compared. Where there are `MOST`, one more takes the place of the oldest."""

    def __init__(self, length: int) -> None:
        import numpy as np

        self._keys: list[bytes | None] = []
        self._places: dict[bytes, int] = {}
        self._matrix = np.zeros((64, length), np.float32)
        self._next = 0

    def __len__(self) -> int:
        return len(self._places)

    def held(self) -> tuple[list[bytes], NDArray[Any]]:
        """The keys, and the vectors in the same order."""
        return list(self._places), self._matrix[list(self._places.values())]

    def add(self, key: bytes, vector: NDArray[Any]) -> None:
        """See `Table`."""
        import numpy as np

        if key in self._places:
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
            self.drop(gone)
        self._matrix[place] = vector  # first: whoever is broken off here has no key for another's vector
        self._keys[place], self._places[key] = key, place

    def drop(self, key: bytes) -> None:
        """See `Table`."""
        place = self._places.pop(key, None)
        if place is not None:
            self._keys[place] = None
            self._matrix[place] = 0.0

    def nearest(self, vector: NDArray[Any]) -> Near | None:
        """See `Table`."""
        if not self._places:
            return None
        likeness = self._matrix[: len(self._keys)] @ vector
        place = int(likeness.argmax())
        key = self._keys[place]
        return None if key is None else _near(key, likeness[place])


class Groups(NamedTuple):
    """What belongs together, so that it is one thing that changes."""

    index: Any
    """Faiss' IndexIVFFlat; a vector's id in it is the place of its key."""
    made_of: int
    """How many vectors the groups were made of."""
    keys: list[bytes | None]
    places: dict[bytes, int]


class Grouped:
    """Groups of vectors that are near each other, made again when there are twice as many.

    Raises ImportError without faiss.
    """

    def __init__(self, keys: list[bytes], vectors: NDArray[Any]) -> None:
        self._faiss: Any = importlib.import_module("faiss")
        self._groups = self._made(keys, vectors)

    def _made(self, keys: list[bytes], vectors: NDArray[Any]) -> Groups:
        count, length = vectors.shape
        groups = max(1, int(2 * count**0.5))
        nearest = self._faiss.IndexFlatIP(length)
        index = self._faiss.IndexIVFFlat(nearest, length, groups, self._faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = 5
        index.nprobe = max(1, int(groups * PROBED))
        index.train(vectors)
        index.add(vectors)
        return Groups(index, count, [*keys], {key: place for place, key in enumerate(keys)})

    def __len__(self) -> int:
        return len(self._groups.places)

    def add(self, key: bytes, vector: NDArray[Any]) -> None:
        """See `Table`."""
        import numpy as np

        if key in self._groups.places:
            return
        if len(self._groups.keys) >= min(2 * self._groups.made_of, MOST_GROUPED):
            self._groups = self._again()
        index, _, keys, places = self._groups
        place = len(keys)
        keys.append(key)  # first: whoever is broken off here leaves a key without a vector, and none with another's
        index.add_with_ids(vector[None], np.array([place], np.int64))
        places[key] = place

    def _again(self) -> Groups:
        """New groups, of what has not been dropped; there is room for a quarter more at least."""
        index, _, keys, places = self._groups
        kept = list(places.items())[-(3 * MOST_GROUPED // 4) :]
        vectors = index.reconstruct_n(0, len(keys))
        return self._made([key for key, _ in kept], vectors[[place for _, place in kept]])

    def drop(self, key: bytes) -> None:
        """See `Table`."""
        place = self._groups.places.pop(key, None)
        if place is not None:
            self._groups.keys[place] = None

    def nearest(self, vector: NDArray[Any]) -> Near | None:
        """See `Table`."""
        likeness, places = self._groups.index.search(vector[None], CANDIDATES)
        for place, like in zip(places[0], likeness[0], strict=True):
            key = self._groups.keys[place] if place >= 0 else None
            if key is not None:
                return _near(key, like)
        return None


def _near(key: bytes, likeness: Any) -> Near:
    return Near(key, min(1.0, float(likeness)))


class Indexes:
    """The indexes of all partitions."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[bytes, Index] = OrderedDict()
        self._lock = RLock()

    def of(self, partition: bytes) -> Index:
        """The index of a partition, which is new where it was not there."""
        with self._lock:
            index = self._indexes.get(partition)
            if index is None:
                index = self._indexes[partition] = Index()
                if len(self._indexes) > MOST_INDEXES:
                    self._indexes.popitem(last=False)
            else:
                self._indexes.move_to_end(partition)
            return index
