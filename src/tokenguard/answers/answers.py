"""The answers that are kept: looked up in a call's flow, given by the transport's seam, kept when a call has ended.

Whatever fails in here is a miss, and the call is sent.
"""

from __future__ import annotations

import contextlib
import hmac
import time
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenguard.answers.asked import Asked
from tokenguard.answers.each import Several, inputs_of, texts_of
from tokenguard.answers.entry import Box, Entry, box_of, decode
from tokenguard.answers.fitting import unfit
from tokenguard.answers.key import body_text, key_of
from tokenguard.answers.open import open_store
from tokenguard.answers.store import Item, Store
from tokenguard.answers.words import content_words, question_of, with_instead
from tokenguard.call.call import AskedBy, Call, Exchange
from tokenguard.call.flow import Answer, Step
from tokenguard.facts import names
from tokenguard.policy import AnswersConfig, Cache, Policy
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.answers.meaning import Meanings

log = Log("tokenguard")

MAX_WAITING: Final = 10_000
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
        self.meanings: Meanings | None = None
        """The vectors of questions; `None` until a rule wants them."""
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
            fit = self._fit(call, exchange, found, whose)
            if fit is not None:
                asked_by, body = fit
                inputs = inputs_of(call) if asked_by.merges and rule.match == "exact" else None
                if rule.match == "meaning":
                    found = yield from self._near(call, rule, asked_by, whose, body, serves=serves)
                elif inputs is None:
                    found.key = self._key(call, asked_by, whose, rule, body)
                    (entry,) = yield from self._get((found.key,))
                    self._found(call, found, entry, serves=serves)
                else:
                    keys = [self._key(call, asked_by, whose, rule, text) for text in texts_of(call, inputs)]
                    several = Several(self, rule, inputs, keys)
                    several.owner, found = found.owner, several
                    for place, entry in enumerate((yield from self._get(tuple(keys)))):
                        if entry is not None:
                            several.found(place, entry)
                    if (send := several.decide(call, serves=serves)) is not None:
                        call.change(exchange, {**call.request, "input": send})
        except Exception as failure:
            call.internal_error("looking up an answer", failure)
            found = Asked(self, rule)
            found.note(call, names.MISS, "error")
        call.look_up = found

    def _fit(self, call: Call, exchange: Exchange, found: Asked, whose: str | None) -> tuple[AskedBy, str] | None:
        """Who asks, and the body that counts; `None`, with the reason noted, for a call that is not looked up."""
        rule, body = found.rule, None
        asked_by = exchange.asked_by
        reason: str | None = "per" if whose is None else names.WIRE if asked_by is None else None
        if reason is None:
            try:
                body = body_text(call, call.request)
            except (TypeError, ValueError):  # not what is sent as JSON
                reason = "body"
            else:
                reason = unfit(call, rule, body)
        if reason is None and rule.match == "words" and body is not None:
            text = question_of(call, body)
            body = None if text is None else with_instead(body, text, content_words(text))
            reason = "words" if body is None else None
        if reason is not None or body is None or asked_by is None:
            found.note(call, names.SKIP, reason)
            return None
        if "tenant" in rule.per:
            found.owner = owner(self.box, call.attribution.get("tenant", ""))
        return asked_by, body

    def _key(self, call: Call, asked_by: AskedBy, whose: str | None, rule: Cache, body: str) -> bytes:
        return key_of(self.box.secret, call, asked_by, str(whose), f"{rule.name} {rule.version}", body)

    def _near(
        self, call: Call, rule: Cache, asked_by: AskedBy, whose: str | None, body: str, *, serves: bool
    ) -> Generator[Step, Answer, Asked]:
        """Look for a question that means the same."""
        from tokenguard.answers.meaning import Meanings, NearAsked, hard_facts

        text = question_of(call, body)
        if text is None:
            found = Asked(self, rule)
            found.note(call, names.SKIP, "words")
            return found
        if self.meanings is None:
            self.meanings = Meanings(self.store, self.box, self.config.timeout)
        rest = f"{rule.encodes}\n{with_instead(body, text, hard_facts(text))}"
        partition = self._key(call, asked_by, whose, rule, rest)
        own = self._key(call, asked_by, whose, rule, f"{rest}\n{text}")
        near = NearAsked(self, rule, self.meanings, partition, own)
        near.about = {"encoder": rule.encodes, "version": rule.version, "per": str(whose)}
        if "tenant" in rule.per:
            near.owner = owner(self.box, call.attribution.get("tenant", ""))
        there = (yield from self.meanings.look_up(call, near, text)) if time.monotonic() >= self._until else None
        entry = None if there is None else self._entry(*there)
        if there is not None and entry is not None:
            near.key, _ = there
        if near.vector is None:
            near.note(call, names.MISS, "encoder")
        else:
            self._found(call, near, entry, serves=serves and rule.serve)
        return near

    def _get(self, keys: tuple[bytes, ...]) -> Generator[Step, Answer, list[Entry | None]]:
        """What is kept under these keys."""
        store = self.store
        if store.local:
            return list(map(self._entry, keys, store.get_all(keys)))
        found = [self.waiting.get(key) for key in keys]
        if None in found and time.monotonic() >= self._until:
            answer = yield store, store.get_all, (keys,)
            if answer.error is None:
                found = [here or there for here, there in zip(found, answer.value, strict=True)]
            elif isinstance(answer.error, Exception):
                self.lost(answer.error)
            else:
                raise answer.error
        return list(map(self._entry, keys, found))

    def _entry(self, key: bytes, data: bytes | None) -> Entry | None:
        """The entry in these bytes; what is none is deleted."""
        if data is None:
            return None
        try:
            entry = decode(self.box.open(key, data))
        except Exception:  # another program's, or damaged
            self.delete(key)
            return None
        return entry if entry.expires > time.time() else None

    def lost(self, error: Exception) -> None:
        """The store cannot be reached: said once a minute, and not tried again at once."""
        self._until = time.monotonic() + PAUSE_S
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + SAY_S
            log.warning("tokenguard: the answer cache cannot be reached, so calls are sent to the provider: %s", error)

    def _found(self, call: Call, found: Asked, entry: Entry | None, *, serves: bool) -> None:
        if entry is None:
            found.listen()
            found.note(call, names.MISS)
            return
        found.note(call, names.HIT, None if serves else names.OBSERVED)
        call.attributes[names.CACHE_AGE] = max(0.0, time.time() - entry.kept_at)
        if serves:
            found.answer = entry.answer
            call.hide_usage = entry.hides_usage
        else:
            found.watched = entry.answer
            found.listen()

    # --- keeping -----------------------------------------------------------------------------------------------------

    def keep(self, key: bytes, found: Asked, entry: Entry) -> None:
        """Keep an answer: at once in memory, and off the caller's path elsewhere."""
        data = self.box.seal(key, entry.encode())
        item = Item(found.rule.name, found.owner or owner(self.box, ""), entry.expires, data)
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
    return _owner(box.secret, tenant)


@lru_cache(maxsize=1024)
def _owner(secret: bytes, tenant: str) -> str:
    return hmac.digest(secret, tenant.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]
