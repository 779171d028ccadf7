"""The answers that are kept: looked up in a call's flow, given by the transport's seam, kept when a call has ended.

Whatever fails in here is a miss, and the call is sent.
"""

from __future__ import annotations

import contextlib
import hmac
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Final

from tokenguard.answers.entry import Box, Entry, box_of, decode
from tokenguard.answers.fitting import unfit, unkept
from tokenguard.answers.key import body_text, key_of
from tokenguard.answers.open import open_store
from tokenguard.answers.store import Item, Store
from tokenguard.answers.words import by_words
from tokenguard.call.call import Call, Exchange
from tokenguard.call.flow import Answer, Step
from tokenguard.call.kept import HttpAnswer
from tokenguard.facts import names
from tokenguard.policy import AnswersConfig, Cache, Policy
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.log import Log
from tokenguard.providers import Reading

log = Log("tokenguard")

HEADERS_FORGOTTEN: Final = frozenset({"connection", "keep-alive", "set-cookie", "retry-after", "server-timing"})
"""Of an answer: what is of the connection it came by, or of that moment, and not of the answer."""
HEADER_STEMS_FORGOTTEN: Final = ("ratelimit", "rate-limit")
MAX_WAITING: Final = 1_000
"""Answers that wait to be written; past it none is kept."""
SAY_S: Final = 60.0
PAUSE_S: Final = 1.0
"""How long nothing is looked up after the store has failed."""


class Answers:
    """The answers of a policy. Replaced with it; where `[answers]` stays the same, so do the store and its secret."""

    def __init__(self, config: AnswersConfig, source: str) -> None:
        self.config = config
        self.place = (config, Path(source).parent)
        self.box: Box = box_of(config.url, config.key_env, plain=config.plain, source=source)
        self.store: Store = open_store(config, source)
        self.waiting: dict[bytes, bytes] = {}
        """What is being written, as it will be read."""
        self._until = 0.0
        """Nothing is looked up before, by the monotonic clock."""
        self._say_again = 0.0
        at_end(Stage.RECORDS, self.finish)

    @classmethod
    def of(cls, policy: Policy, after: Answers | None) -> Answers:
        """The answers of a policy, which are those of the one before where they are in the same place."""
        if after is not None and after.place == (policy.answers, Path(policy.source).parent):
            return after
        return cls(policy.answers, policy.source)

    # --- looking up --------------------------------------------------------------------------------------------------

    def look_up(
        self, call: Call, exchange: Exchange, rule: Cache, whose: str | None, *, serves: bool
    ) -> Generator[Step, Answer, None]:
        """Look for an answer to the call: what is found is on `call.look_up`."""
        found = Asked(self, rule)
        try:
            key = self._key(call, exchange, found, whose)
            if key is not None:
                data = yield from self._get(call, key)
                self._found(call, found, key, data, serves=serves)
        except Exception as failure:
            call.internal_error("looking up an answer", failure)
            found.note(call, names.MISS, "error")
        call.look_up = found

    def _key(self, call: Call, exchange: Exchange, found: Asked, whose: str | None) -> bytes | None:
        """The key of the call's answer; `None`, with the reason noted, for a call that is not looked up."""
        rule, body = found.rule, None
        asked_by = exchange.asked_by
        reason: str | None = "per" if whose is None else "wire" if asked_by is None else None
        if reason is None:
            try:
                body = body_text(call)
            except (TypeError, ValueError):  # not what is sent as JSON
                reason = "body"
            else:
                reason = unfit(call, rule, body)
        if reason is None and rule.match == "words" and body is not None:
            body = by_words(call, body)
            reason = "words" if body is None else None
        if reason is not None or body is None or whose is None or asked_by is None:
            found.note(call, names.SKIP, reason)
            return None
        if "tenant" in rule.per:
            found.tenant = call.attribution.get("tenant", "")
        return key_of(self.box.secret, call, asked_by, whose, rule.name, body)

    def _get(self, call: Call, key: bytes) -> Generator[Step, Answer, bytes | None]:
        if self.store.local:
            return self.store.get(key)
        if (data := self.waiting.get(key)) is not None or time.monotonic() < self._until:
            return data
        answer = yield self.store, self.store.get, (key,)
        if answer.error is None:
            got: bytes | None = answer.value
            return got
        if not isinstance(answer.error, Exception):
            raise answer.error
        self.lost(answer.error)
        return None

    def lost(self, error: Exception) -> None:
        """The store cannot be reached: said once a minute, and not tried again at once."""
        self._until = time.monotonic() + PAUSE_S
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + SAY_S
            log.warning("tokenguard: kept answers cannot be reached, so calls are sent: %s", error)

    def _found(self, call: Call, found: Asked, key: bytes, data: bytes | None, *, serves: bool) -> None:
        found.key = key
        entry: Entry | None = None
        if data is not None:
            try:
                entry = decode(self.box.open(key, data))
            except Exception:  # another program's, or damaged
                self.delete(key)
        if entry is None or entry.expires <= time.time():
            found.listens = True
            found.note(call, names.MISS)
            return
        found.note(call, names.HIT, None if serves else names.OBSERVED)
        call.attributes[names.CACHE_AGE] = max(0.0, time.time() - entry.kept_at)
        if serves:
            found.answer = entry.answer
            call.hide_usage = entry.hides_usage

    # --- keeping -----------------------------------------------------------------------------------------------------

    def keep(self, key: bytes, found: Asked, entry: Entry) -> None:
        """Keep an answer: at once in memory, and off the caller's path elsewhere."""
        data = self.box.seal(key, entry.encode())
        item = Item(found.rule.name, owner(self.box, found.tenant), entry.expires, data)
        if self.store.local:
            self.store.put(key, item)
        elif len(self.waiting) < MAX_WAITING:
            self.waiting[key] = data
            self.store.soon(lambda: self._write(key, item))

    def _write(self, key: bytes, item: Item) -> None:
        try:
            self.store.put(key, item)
        except Exception as error:
            self.lost(error)
        finally:
            self.waiting.pop(key, None)

    def delete(self, key: bytes) -> None:
        """Keep this one no longer; never raises."""

        def delete() -> None:
            with contextlib.suppress(Exception):
                self.store.delete(key)

        self.waiting.pop(key, None)
        delete() if self.store.local else self.store.soon(delete)

    def finish(self) -> None:
        """The process ends: what waits is written."""
        self.store.finish()


def owner(box: Box, tenant: str) -> str:
    """Whose an entry is, for those who clear it: a name that tells nothing without the secret."""
    return hmac.digest(box.secret, tenant.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]


class Asked:
    """What became of looking up one call (`call.kept.LookUp`)."""

    __slots__ = (
        *("_answers", "_headers", "_over", "_parts", "_size", "_whole"),
        *("answer", "key", "listens", "rule", "served", "tenant"),
    )

    def __init__(self, answers: Answers, rule: Cache) -> None:
        self._answers = answers
        self.rule = rule
        self.tenant = ""
        self.key: bytes | None = None
        self.answer: HttpAnswer | None = None
        self.listens = self.served = False
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
        if self._size <= self.rule.max_entry_kib * 1024:
            self._parts.append(data)
        else:
            self._parts.clear()

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
        if self.served:
            if outcome == names.ERROR:  # a stream, of which the SDK had got the beginning
                self.forget()
                self.served = True
            return
        if not self.listens or self.key is None:
            return
        reason = unkept(call, reading, outcome) or self._unkept()
        if reason is not None:
            call.attributes[names.CACHE_REASON] = reason
            return
        now = time.time()
        answer = HttpAnswer(self._headers or (), b"".join(self._parts))
        self._answers.keep(self.key, self, Entry(answer, now, now + self.rule.ttl, call.hide_usage))
        self._parts = []

    def _unkept(self) -> str | None:
        """Why what has come in is not kept."""
        if self._headers is None:
            return "wire"
        if self._size > self.rule.max_entry_kib * 1024:
            return "size"
        # Many SDKs read a stream to this mark, and not to its end.
        whole = (
            self._whole
            or (self._over is not None and self._over())
            or b"".join(self._parts[-2:]).rstrip().endswith(b"[DONE]")
        )
        return None if whole else "incomplete"
