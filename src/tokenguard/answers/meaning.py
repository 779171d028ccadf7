"""`match = "meaning"`: a question that is said otherwise, found by its vector among those of its own partition.

The partition is hard: whose it is, the rest of the request, the encoder with its version, and what of the text must be
equal to the letter (numbers, negations, dates, signs). Only within it are vectors compared, so none of that is ever a
matter of likeness. Encoding, reading and comparing happen in a thread, never in an event loop.
"""

from __future__ import annotations

import contextlib
import hmac
import struct
import time
from collections.abc import Generator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenguard.answers.asked import Asked
from tokenguard.answers.encoder import Encoders
from tokenguard.answers.entry import Box, Entry
from tokenguard.answers.store import Item, Store
from tokenguard.answers.vectors import Indexes, Near
from tokenguard.answers.waiting import Waiting
from tokenguard.answers.words import TOKEN
from tokenguard.call.flow import Answer, Step
from tokenguard.facts import names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tokenguard.answers.asked import Keeper
    from tokenguard.call.call import Call
    from tokenguard.call.kept import Incoming
    from tokenguard.policy import Cache
    from tokenguard.providers import Reading

WATCHED_AT: Final = 0.95
"""The threshold of a rule that has none yet, and only watches."""
SYNC_S: Final = 5.0
"""How old a process's knowledge of what others have kept may be."""
SLACK_S: Final = 2.0
"""By how much clocks, and a write and its time, may differ."""
TRIES: Final = 8
"""Vectors whose answers are gone that are passed over in one look-up."""
_HEAD: Final = struct.Struct("<32sd")
Found = tuple[bytes, "Entry | bytes"]

_NUMBERS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "third quarter double twice once first second fourth fifth last next previous both all only more less most least "
    "before after until since over under above below down out off"
)
_DATES: Final = (
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday weekday weekdays weekend weekends today tomorrow yesterday"
)
_NEGATIONS: Final = (
    "no not never none nothing nobody nor neither cannot without except unless lack lacks missing false non stop "
    "refuse deny disable forbid decrease remove"
)
EXACT: Final = frozenset(f"{_NUMBERS} {_DATES} {_NEGATIONS}".split())
"""English words that must be the same: quantities, times, negations, and one of each pair of opposites."""


NEGATING: Final = ("un", "non", "dis", "avoid", "exclud", "decreas", "prohibit", "forbid", "refus", "reject", "clos")
"""How words begin that turn a question round. Of more words than those it only asks that they be the same."""
HALVES: Final = frozenset({"am", "pm"})
"""Of a day, behind a number."""


def hard_facts(text: str) -> tuple[str, ...]:
    """What of a text must be equal to the letter, in its order.

    >>> hard_facts("Doesn't order 48213 cost more than $5 at 7 pm? I am unsure.")
    ("doesn't", '48213', 'more', '$', '5', '7', 'pm', 'unsure')
    """
    words = [token.replace("\u2019", "'").casefold() for token in TOKEN.findall(text)]
    return tuple(
        word
        for before, word in pairwise(("", *words))
        if word in EXACT
        or word.endswith("n't")
        or not word[0].isalpha()
        or word.startswith(NEGATING)
        or _has_digit(word)
        or (word in HALVES and _has_digit(before))
    )


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


class NearKeeper(Protocol):
    """Who keeps the vectors of questions (`Meanings`)."""

    def keep(self, found: NearAsked, expires: float) -> None:
        """Keep the question beside its answer."""
        ...


class NearAsked(Asked):
    """What became of looking for a question that means the same."""

    def __init__(self, answers: Keeper, rule: Cache, meanings: NearKeeper, partition: bytes, key: bytes) -> None:
        super().__init__(answers, rule)
        self._meanings = meanings
        self.partition = partition
        self.key = key
        self.vector: NDArray[Any] | None = None
        self.about = {"encoder": rule.encodes, "version": rule.version}

    def keep(self, call: Call, reading: Reading, outcome: str, came: Incoming) -> None:
        """Keep the answer, and where it is kept, its question's vector."""
        if self.vector is None:
            return
        super().keep(call, reading, outcome, came)
        if names.CACHE_REASON not in call.attributes:
            self._meanings.keep(self, time.time() + self.rule.ttl)


class Meanings:
    """The questions that answers are kept for, by their vectors."""

    def __init__(self, store: Store, waiting: Waiting, box: Box, timeout_s: float) -> None:
        self._store = store
        self._waiting = waiting
        self._box = box
        self._timeout_s = timeout_s
        self._encoders = Encoders()
        self._indexes = Indexes()

    def look_up(self, call: Call, found: NearAsked, text: str) -> Generator[Step, Answer, Found | None]:
        """Key and entry (or its data) of the answer to the nearest question; `None` where that is not near enough."""
        answer = yield self._store, self._find, (found, text)
        if answer.error is not None:
            raise answer.error
        near, kept = answer.value
        if near is not None:
            call.attributes[names.CACHE_SIMILARITY] = round(near.similarity, 4)
        if found.vector is None or kept is None:
            return None
        threshold = WATCHED_AT if found.rule.threshold is None else found.rule.threshold
        return (near.key, kept) if near.similarity >= threshold else None

    def _find(self, found: NearAsked, text: str) -> tuple[Near | None, Entry | bytes | None]:
        """The nearest question, and what is kept for it. In a thread."""
        rule = found.rule
        found.vector = self._encoders.vector(str(rule.encoder), text, self._timeout_s)
        if found.vector is None:
            return None, None
        index = self._indexes.of(found.partition)
        for _ in range(TRIES):
            with index.lock:
                self._sync(index, found.partition)
                near = index.nearest(found.vector)
            if near is None:
                return None, None
            if (kept := self._waiting.get(near.key) or self._store.get(near.key)) is not None:
                return near, kept
            with index.lock:
                index.drop(near.key)
        return None, None

    def _sync(self, index: Any, partition: bytes) -> None:
        """Learn what other processes have kept."""
        now = time.monotonic()
        if self._store.local or now - index.asked < SYNC_S:
            return
        index.asked = now
        found, until = self._store.group(partition.hex(), index.synced - SLACK_S)
        for key, data in found:
            try:
                answers, vector = _opened(self._box.open(key, data))
            except Exception:  # noqa: S112 - another program's, or damaged: it expires
                continue
            index.add(answers, vector)
        index.synced = until

    def keep(self, found: NearAsked, expires: float) -> None:
        """See `NearKeeper.keep`."""
        key, vector, partition = found.key, found.vector, found.partition
        if key is None or vector is None:
            return
        self._indexes.of(partition).add(key, vector)
        if self._store.local:
            return
        own = hmac.digest(self._box.secret, b"vector" + key, "sha256")
        data = self._box.seal(own, _HEAD.pack(key, expires) + vector.tobytes())
        item = Item(found.rule.name, found.owner, expires, data, partition.hex())
        self._store.soon(lambda: self._write(own, item))

    def _write(self, key: bytes, item: Item) -> None:
        with contextlib.suppress(Exception):  # the answer is not found by meaning, then
            self._store.put(key, item)


def _opened(data: bytes) -> tuple[bytes, NDArray[Any]]:
    import numpy as np

    key, expires = _HEAD.unpack_from(data)
    if expires <= time.time():
        raise ValueError("its time is over")
    return key, np.frombuffer(data, np.float32, offset=_HEAD.size)
