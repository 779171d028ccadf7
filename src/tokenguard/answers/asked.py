"""What became of looking up one call: the answer that was found, or the one that comes in, to be kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from tokenguard.answers import likeness
from tokenguard.answers.entry import Entry
from tokenguard.answers.fitting import unkept
from tokenguard.answers.zipped import unzipped
from tokenguard.call.call import Call
from tokenguard.call.kept import HttpAnswer, Incoming, LookUp
from tokenguard.facts import names
from tokenguard.providers import Reading

if TYPE_CHECKING:
    from tokenguard.policy import Cache


class Keeper(Protocol):
    """Who keeps answers (`answers.Answers`)."""

    def keep(self, keys: tuple[bytes, ...], found: Asked, came: Incoming, *, hides_usage: bool) -> None:
        """Keep the entries that `found` makes of an answer, under these keys."""
        ...

    def delete(self, key: bytes) -> None:
        """Keep this one no longer."""
        ...


class Asked(LookUp):
    """What became of looking up one call."""

    owner: str = ""
    """Whose it is, for those who clear it: a name that tells nothing without the secret."""
    about: Mapping[str, str] = MappingProxyType({})
    key: bytes | None = None
    watched: HttpAnswer | None = None
    """The kept answer, where it is only compared with the provider's."""

    def __init__(self, answers: Keeper, rule: Cache) -> None:
        self._answers = answers
        self.rule = rule

    def listen(self, entries: int = 1) -> None:
        """The provider's answer is wanted, to be kept."""
        self.incoming = Incoming(self.rule.max_entry_kib * 1024 * entries)

    def note(self, call: Call, result: str, reason: str | None = None) -> None:
        """Write down what became of it."""
        attributes = call.attributes
        attributes[names.CACHE_RULE] = self.rule.name
        attributes[names.CACHE_RESULT] = result
        if reason is not None:
            attributes[names.CACHE_REASON] = reason

    def skip(self, call: Call, reason: str) -> None:
        """It is not looked up."""
        self.note(call, names.SKIP, reason)

    # --- the call's end ----------------------------------------------------------------------------------------------

    def forget(self, call: Call) -> None:
        """See `LookUp.forget`."""
        super().forget(call)
        self.listen()
        self.note(call, names.MISS, "error")
        call.attributes.pop(names.CACHE_AGE, None)
        self.drop()

    def drop(self) -> None:
        """Keep what was found no longer."""
        if self.key is not None:
            self._answers.delete(self.key)

    def settle(self, call: Call, reading: Reading, outcome: str) -> None:
        """See `LookUp.settle`."""
        if self.served:
            if outcome == names.ERROR:  # a stream, of which the SDK had got the beginning
                self.drop()
        elif (came := self.incoming) is not None:
            if self.watched is None:
                self.keep(call, reading, outcome, came)
            elif outcome == names.OK and reading.complete and why_unkept(came) is None:
                likeness.note(call, self.watched, HttpAnswer(came.headers, came.body))

    def keep(self, call: Call, reading: Reading, outcome: str, came: Incoming) -> None:
        """Keep the answer that has come in, if it is whole and one of those that may be kept."""
        reason = unkept(call, reading, outcome) or why_unkept(came)
        if reason is not None or self.key is None:
            call.attributes[names.CACHE_REASON] = reason or "error"
            return
        if REFUSAL in (body := came.body) and REFUSES.search(body):
            call.attributes[names.CACHE_REASON] = "finish"
            return
        self.incoming = None
        self._answers.keep((self.key,), self, came, hides_usage=call.hide_usage)

    def entries(self, came: Incoming, now: float, hides_usage: bool) -> Mapping[bytes, Entry]:
        """What is kept of an answer that has come at that time, by key. Raises for one that is none."""
        answer = HttpAnswer(came.headers, came.body)
        return {} if self.key is None else {self.key: Entry(answer, now, now + self.rule.ttl, hides_usage, self.about)}


def why_unkept(came: Incoming) -> str | None:
    """Why what has come in is not kept."""
    if not came.begun:
        return names.WIRE
    if came.size > came.most:
        return "size"
    return None if came.done or came.whole or _has_ended(came) else "incomplete"


REFUSAL: Final = b'"refusal"'
REFUSES: Final = re.compile(rb'"refusal"\s*:\s*"[^"]')
"""An answer in which OpenAI's model says that it will not, though it ends by itself."""
LAST_EVENTS: Final = (b"[DONE]", b"message_stop", b"response.completed")


def _has_ended(came: Incoming) -> bool:
    """Whether a stream ends with an event that is its last: many SDKs read to that, and not to the end."""
    tail = unzipped(came.encoding, came.body) if came.encoding else b"".join(came.parts[-2:])
    last = (tail or b"").rstrip().replace(b"\r\n", b"\n").rpartition(b"\n\n")[2]
    return any(mark in last for mark in LAST_EVENTS)
