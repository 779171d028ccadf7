"""What became of looking up one call: the answer that was found, or the one that comes in, to be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from tokenguard.answers.entry import Entry
from tokenguard.answers.fitting import unkept
from tokenguard.call.call import Call
from tokenguard.call.kept import HttpAnswer
from tokenguard.facts import names
from tokenguard.facts.usage import Usage
from tokenguard.providers import Reading

if TYPE_CHECKING:
    from tokenguard.policy import Cache

HEADERS_FORGOTTEN: Final = frozenset({"connection", "keep-alive", "set-cookie", "retry-after", "server-timing"})
"""Of an answer: what is of the connection it came by, or of that moment, and not of the answer."""
HEADER_STEMS_FORGOTTEN: Final = ("ratelimit", "rate-limit")


class Keeper(Protocol):
    """Who keeps answers (`answers.Answers`)."""

    def keep(self, key: bytes, found: Asked, entry: Entry) -> None:
        """Keep an answer."""
        ...

    def delete(self, key: bytes) -> None:
        """Keep this one no longer."""
        ...


class Asked:
    """What became of looking up one call (`call.kept.LookUp`)."""

    def __init__(self, answers: Keeper, rule: Cache) -> None:
        self._answers = answers
        self.rule = rule
        self.tenant = ""
        self.key: bytes | None = None
        self.answer: HttpAnswer | None = None
        self.listens = self.served = self.merges = False
        self.kept_usage: Usage | None = None
        self._headers: tuple[tuple[str, str], ...] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = False
        self._over: Callable[[], bool] | None = None

    def note(self, call: Call, result: str, reason: str | None = None) -> None:
        """Write down what became of it."""
        attributes = call.attributes
        attributes[names.CACHE_RULE] = self.rule.name
        attributes[names.CACHE_RESULT] = result
        if reason is not None:
            attributes[names.CACHE_REASON] = reason

    # --- the answer as it comes in -----------------------------------------------------------------------------------

    def begins(
        self, headers: Iterable[tuple[str, str]], *, decoded: bool, over: Callable[[], bool] | None = None
    ) -> None:
        """See `LookUp.begins`."""
        self._headers = tuple(
            (name, value)
            for name, value in headers
            if (low := name.lower()) not in HEADERS_FORGOTTEN
            and not any(stem in low for stem in HEADER_STEMS_FORGOTTEN)
            and not (decoded and low == "content-encoding")
        )
        self._over = over
        self._parts = []
        self._size = 0
        self._whole = False

    def part(self, data: bytes) -> None:
        """See `LookUp.part`."""
        self._size += len(data)
        if self._size <= self._most():
            self._parts.append(data)
        else:
            self._parts.clear()

    def _most(self) -> int:
        """Bytes of an answer that are remembered."""
        return self.rule.max_entry_kib * 1024

    def ends(self) -> None:
        """See `LookUp.ends`."""
        self._whole = True

    # --- the call's end ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """See `LookUp.forget`."""
        self.answer = None
        self.served = False
        self.listens = True
        if self.key is not None:
            self._answers.delete(self.key)

    def settle(self, call: Call, reading: Reading, outcome: str) -> None:
        """See `LookUp.settle`."""
        if not self.served:
            if self.listens:
                self.keep(call, reading, outcome)
        elif outcome == names.ERROR:  # a stream, of which the SDK had got the beginning
            self.forget()
            self.served = True

    def merge(self, body: bytes) -> bytes:
        """See `LookUp.merge`."""
        return body

    def keep(self, call: Call, reading: Reading, outcome: str) -> None:
        """Keep the answer that has come in, if it is whole and one of those that may be kept."""
        reason = unkept(call, reading, outcome) or self._unkept()
        if reason is not None or self.key is None:
            call.attributes[names.CACHE_REASON] = reason or "error"
            return
        now = time.time()
        answer = HttpAnswer(self._headers or (), b"".join(self._parts))
        self._answers.keep(self.key, self, Entry(answer, now, now + self.rule.ttl, call.hide_usage))
        self._parts = []

    def _unkept(self, *, limit: bool = True) -> str | None:
        """Why what has come in is not kept."""
        if self._headers is None:
            return "wire"
        if limit and self._size > self.rule.max_entry_kib * 1024:
            return "size"
        whole = self._whole or (self._over is not None and self._over()) or _has_ended(b"".join(self._parts[-2:]))
        return None if whole else "incomplete"


LAST_EVENTS: Final = (b"[DONE]", b"message_stop", b"response.completed")


def _has_ended(tail: bytes) -> bool:
    """Whether a stream ends with an event that is its last: many SDKs read to that, and not to the end."""
    last = tail.rstrip().replace(b"\r\n", b"\n").rpartition(b"\n\n")[2]
    return any(mark in last for mark in LAST_EVENTS)
