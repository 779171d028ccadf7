"""The answers that are kept: looked up in a call's flow, given by the transport's seam, kept when a call has ended.

Whatever fails in here is a miss, and the call is sent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tokenguard.answers.asked import Asked
from tokenguard.answers.each import EMBEDDINGS, Several, bodies_of, inputs_of
from tokenguard.answers.entry import Box, Entry, box_of, decode
from tokenguard.answers.fitting import refers, unfit
from tokenguard.answers.key import Body, Hashing, canonical, counted, hashing
from tokenguard.answers.key import key as key_of
from tokenguard.answers.open import open_store
from tokenguard.answers.store import Store
from tokenguard.answers.waiting import Coming, Waiting
from tokenguard.answers.words import content_words, question_of, with_instead
from tokenguard.call.call import Call, Exchange
from tokenguard.call.flow import Answer, Step
from tokenguard.call.kept import Incoming
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy import AnswersConfig, Cache, Policy
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.answers.meaning import Meanings

log = Log("tokenguard")

SAY_S: Final = 60.0
_new: Final = tuple.__new__
PAUSE_S: Final = 1.0
"""How long nothing is looked up after the store has failed."""


SKEW_S: Final = 60.0
"""How far ahead another machine's clock may be; an entry from later than that is from before a clock was set back."""


Steps: TypeAlias = Generator[Step, Answer, Asked]
"""What looking up takes that cannot be done at once, and what became of it."""


class Fit(NamedTuple):
    """What is looked up."""

    body: Body
    begun: Hashing
    """What keys are made from: see `key.key`."""
    whose: str
    merges: bool
    """See `AskedBy`."""


class Answers:
    """The answers of a policy. Replaced with it; where `[answers]` stays the same, so do the store and its secret."""

    def __init__(self, config: AnswersConfig, source: str) -> None:
        self.config = config
        self.place = (config, Path(source).parent)
        self.box: Box = box_of(config.url, config.key_env, plain=config.plain, source=source)
        self.store: Store = open_store(config, source)
        self.waiting = Waiting(self.store, self.box, self.unwritten)
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
    ) -> Generator[Step, Answer, None] | None:
        """Look for an answer to the call: what is found is on `call.look_up`.

        Most is done at once; where something must be waited for, the steps that do so are returned.
        """
        call.look_up = found = Asked(self, rule)
        try:
            fit = self._fit(call, exchange, found, whose)
            steps = None if fit is None else WAYS[rule.match](self, call, exchange, found, fit, serves)
        except Exception as failure:
            self._failed(call, rule, failure)
            return None
        return None if steps is None else self._waited(call, rule, steps)

    def _waited(self, call: Call, rule: Cache, steps: Steps) -> Generator[Step, Answer, None]:
        try:
            call.look_up = yield from steps
        except Exception as failure:
            self._failed(call, rule, failure)

    def _failed(self, call: Call, rule: Cache, failure: Exception) -> None:
        call.internal_error("looking up an answer", failure)
        call.look_up = found = Asked(self, rule)
        found.note(call, names.MISS, "error")

    def _fit(self, call: Call, exchange: Exchange, found: Asked, whose: str | None) -> Fit | None:
        """What is looked up; `None` for a call that is not, which then says why."""
        rule = found.rule
        asked_by = None if whose is None else exchange.asked_by
        if whose is None or asked_by is None:
            found.skip(call, "per" if whose is None else names.WIRE)
            return None
        if (reason := unfit(call, rule)) is not None:
            found.skip(call, reason)
            return None
        try:
            body = counted(call, call.request)
        except (TypeError, ValueError, RecursionError):  # not what is sent as JSON
            found.skip(call, "body")
            return None
        if body.telling and (reason := refers(body.telling)) is not None:
            found.skip(call, reason)
            return None
        begun, found.owner = hashing(self.box.secret, call, asked_by, whose, rule)
        return _new(Fit, (body, begun, whose, asked_by.merges))

    def _exact(self, call: Call, exchange: Exchange, found: Asked, fit: Fit, serves: bool) -> Steps | None:
        body, begun, _, merges = fit
        if merges and call.api.id == EMBEDDINGS and (inputs := inputs_of(call)) is not None:
            return self._each(call, exchange, found, fit, inputs, serves)
        return self._one(call, found, key_of(begun, body.data), serves)

    def _words(self, call: Call, exchange: Exchange, found: Asked, fit: Fit, serves: bool) -> Steps | None:
        text = question_of(call, fit.body)
        if text is None:
            found.skip(call, "words")
            return None
        key = key_of(fit.begun, with_instead(fit.body, text, content_words(text)))
        return self._one(call, found, key, serves)

    def _one(self, call: Call, found: Asked, key: bytes, serves: bool) -> Steps | None:
        found.key = key
        kept: Entry | bytes | None = self.waiting.get(key)
        if kept is None:
            if not self.store.local:
                return self._far(call, found, key, serves)
            kept = self.store.get(key)
        self._found(call, found, None if kept is None else self._entry(found.rule, key, kept), serves=serves)
        return None

    def _far(self, call: Call, found: Asked, key: bytes, serves: bool) -> Steps:
        """See `_one`, of a store that answers later."""
        kept = (yield from self._fetch((key,)))[0]
        self._found(call, found, None if kept is None else self._entry(found.rule, key, kept), serves=serves)
        return found

    def _each(self, call: Call, exchange: Exchange, found: Asked, fit: Fit, inputs: list[Any], serves: bool) -> Steps:
        """Look for the answer to each of several inputs; only the others are sent."""
        keys = [key_of(fit.begun, each) for each in bodies_of(call, inputs)]
        several = Several(self, found.rule, inputs, keys)
        several.owner = found.owner
        for place, entry in enumerate((yield from self._get(found.rule, tuple(keys)))):
            if entry is not None:
                several.found(place, entry)
        if (send := several.decide(call, serves=serves)) is not None:
            call.change(exchange, {**call.request, "input": send})
        return several

    def _near(self, call: Call, exchange: Exchange, found: Asked, fit: Fit, serves: bool) -> Steps:
        """Look for a question that means the same."""
        from tokenguard.answers.meaning import Meanings, NearAsked, hard_facts

        rule, text = found.rule, question_of(call, fit.body)
        if text is None:
            found.skip(call, "words")
            return found
        if self.meanings is None:
            self.meanings = Meanings(self.store, self.waiting, self.box, self.config.timeout)
        rest = canonical(rule.encodes) + with_instead(fit.body, text, hard_facts(text))
        own = key_of(fit.begun, rest + canonical(text))
        near = NearAsked(self, rule, self.meanings, key_of(fit.begun, rest), own)
        near.about = {"encoder": rule.encodes, "version": rule.version, "per": fit.whose}
        near.owner = found.owner
        there = (yield from self.meanings.look_up(call, near, text)) if time.monotonic() >= self._until else None
        entry = None if there is None else self._entry(rule, *there)
        if there is not None and entry is not None:
            near.key, _ = there
        if near.vector is None:
            near.note(call, names.MISS, "encoder")
        else:
            self._found(call, near, entry, serves=serves and rule.serve)
        return near

    def _get(self, rule: Cache, keys: tuple[bytes, ...]) -> Generator[Step, Answer, list[Entry | None]]:
        """What is kept under these keys."""
        found: list[Entry | bytes | None] = [self.waiting.get(key) for key in keys]
        if None in found:
            there = self.store.get_all(keys) if self.store.local else (yield from self._fetch(keys))
            found = [here or other for here, other in zip(found, there, strict=True)]
        return [None if kept is None else self._entry(rule, key, kept) for key, kept in zip(keys, found, strict=True)]

    def _fetch(self, keys: tuple[bytes, ...]) -> Generator[Step, Answer, list[bytes | None]]:
        """What a store that is asked over a wire, or on a disk, has under these keys."""
        if time.monotonic() >= self._until:
            answer = yield self.store, self.store.get_all, (keys,)
            if answer.error is None:
                return list(answer.value)
            if not isinstance(answer.error, Exception):
                raise answer.error
            self.lost(answer.error)
        return [None] * len(keys)

    def _entry(self, rule: Cache, key: bytes, kept: Entry | bytes) -> Entry | None:
        """The entry that is kept so, if its time is not over by the rule as it is now; what is none is deleted."""
        try:
            entry = decode(self.box.open(key, kept)) if isinstance(kept, bytes) else kept
        except Exception:  # another program's, or damaged
            self.delete(key)
            return None
        now = time.time()
        return entry if now < entry.expires and -SKEW_S < now - entry.kept_at < rule.ttl else None

    def lost(self, error: Exception) -> None:
        """The store cannot be asked, and is not asked again at once."""
        self._until = time.monotonic() + PAUSE_S
        self._say("the answer cache cannot be used, so calls are sent to the provider", error)

    def unwritten(self, error: Exception) -> None:
        """The store has not taken an answer; what it has is served."""
        self._say("an answer cannot be put into the answer cache", error)

    def _say(self, what: str, error: Exception) -> None:
        """Say it, once a minute."""
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + SAY_S
            log.warning("tokenguard: %s: %s", what, error)

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

    def keep(self, keys: tuple[bytes, ...], found: Asked, came: Incoming, *, hides_usage: bool) -> None:
        """See `Keeper.keep`: they are found from now on, and written off the caller's path."""
        if self._until == 0.0 or time.monotonic() >= self._until:
            self.waiting.put(keys, Coming(found, came, hides_usage))

    def delete(self, key: bytes) -> None:
        """Keep this one no longer; never raises."""

        def delete() -> None:
            with contextlib.suppress(Exception):
                self.store.delete(key)

        self.waiting.drop(key)
        delete() if self.store.local else self.store.soon(delete)

    def finish(self) -> None:
        """The process ends: what waits is written."""
        self.waiting.finish()
        self.store.finish()


Way = Callable[[Answers, Call, Exchange, Asked, Fit, bool], "Steps | None"]
WAYS: Final[Mapping[str, Way]] = {"exact": Answers._exact, "words": Answers._words, "meaning": Answers._near}
"""How each kind of match looks a call up."""
