"""Embeddings, looked up input by input: only those that are missing are sent.

An entry is one vector with what stands beside it in the answer. Answers are put together from such entries, or from
them and what the provider sends for the others, and are what the provider would have sent for all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tokenguard.answers.asked import Asked, why_unkept
from tokenguard.answers.entry import Entry
from tokenguard.answers.fitting import unkept
from tokenguard.answers.key import canonical, counted
from tokenguard.call.call import Call
from tokenguard.call.kept import HttpAnswer, Incoming
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.inputs.sections import shared_out
from tokenguard.providers import Reading
from tokenguard.providers.openai import EMBEDDINGS_USAGE
from tokenguard.providers.reading import read_usage

if TYPE_CHECKING:
    from tokenguard.answers.asked import Keeper
    from tokenguard.policy import Cache

EMBEDDINGS: Final = "embeddings"
"""The wire format whose inputs are looked up one by one."""
INPUT, DATA, INDEX, USAGE = "input", "data", "index", "usage"
"""Where a request has its inputs, and an answer its vectors, their places, and the usage: OpenAI's wire format."""


class Vector(NamedTuple):
    """What is kept of one input."""

    item: dict[str, Any]
    usage: dict[str, Any]
    """Its share of the usage of the request that it came with, by its length."""
    beside: dict[str, Any]
    """What else the answer said: the model."""


def inputs_of(call: Call) -> list[Any] | None:
    """The inputs of a request for `EMBEDDINGS`; `None` where it has none."""
    given = call.request.get(INPUT)
    if not given:
        return None
    if isinstance(given, str) or (isinstance(given, list | tuple) and all(type(each) is int for each in given)):
        return [given]  # a text, or the tokens of one
    return list(given) if isinstance(given, list | tuple) else None


def bodies_of(call: Call, inputs: Sequence[Any]) -> list[bytes]:
    """For each input, the body of a request for it alone, as it counts."""
    alone = counted(call, {**call.request, INPUT: None}).data
    return [alone + canonical(each) for each in inputs]


class Several(Asked):
    """What became of looking up each of several inputs."""

    def __init__(self, answers: Keeper, rule: Cache, inputs: list[Any], keys: list[bytes]) -> None:
        super().__init__(answers, rule)
        self._inputs = inputs
        self._keys = keys
        self._kept: dict[int, Vector] = {}
        self._headers_kept: tuple[tuple[str, str], ...] = ()
        self._since = time.time()
        self._asked: Mapping[str, Any] = {}

    def found(self, place: int, entry: Entry) -> None:
        """The vector of one input is there."""
        self._kept[place] = Vector(*json.loads(entry.answer.body))
        self._headers_kept = entry.answer.headers
        self._since = min(self._since, entry.kept_at)

    def decide(self, call: Call, *, serves: bool) -> list[Any] | None:
        """Note what was found; the inputs that are to be sent in place of all, or `None`."""
        missing = self._missing()
        if not self._kept or (missing and not serves):
            self._kept.clear()
            self.listen(len(self._inputs))
            self.note(call, names.MISS)
            return None
        call.attributes[names.CACHE_AGE] = max(0.0, time.time() - self._since)
        if not missing:
            self.note(call, names.HIT, None if serves else names.OBSERVED)
            whole = HttpAnswer(self._headers_kept, self._put_together({}))
            if serves:
                self.answer = whole
            else:
                self.watched = whole
                self.listen(len(self._inputs))
            return None
        self.merges, self._asked = True, call.request
        self.listen(len(self._inputs))
        self.note(call, names.HIT, names.PARTIAL)
        self.kept_usage = read_usage(_summed([each.usage for each in self._kept.values()]), EMBEDDINGS_USAGE) or Usage()
        return [self._inputs[place] for place in missing]

    def _missing(self) -> list[int]:
        return [place for place in range(len(self._inputs)) if place not in self._kept]

    def merge(self, body: bytes) -> bytes:
        """The answer to all inputs, from the provider's answer to those that were missing.

        Where nobody can tell which vector belongs to which input, it is as it is, and `whole` is to be sent.
        """
        try:
            answer = json.loads(body)
            sent = dict(zip(self._missing(), _in_order(answer, len(self._missing())), strict=True))
            return self._put_together(sent, answer)
        except Exception:
            self.whole = self._asked
            return body

    def _put_together(self, sent: Mapping[int, dict[str, Any]], answer: Mapping[str, Any] | None = None) -> bytes:
        """An answer with the usage of what was sent for it, or, where nothing was, of what is kept."""
        items = {**{place: each.item for place, each in self._kept.items()}, **sent}
        data = [{**items[place], INDEX: place} for place in range(len(self._inputs))]
        if answer is not None:
            return json.dumps({**answer, DATA: data}).encode()
        usage = _summed([self._kept[place].usage for place in range(len(self._inputs))])
        return json.dumps({**self._kept[0].beside, DATA: data, USAGE: usage}).encode()

    def forget(self, call: Call) -> None:
        """See `LookUp.forget`."""
        super().forget(call)
        self.merges = False
        self.listen(len(self._inputs))
        self._kept.clear()

    def drop(self) -> None:
        """See `Asked.drop`."""
        for key in self._keys:
            self._answers.delete(key)

    def keep(self, call: Call, reading: Reading, outcome: str, came: Incoming) -> None:
        """Keep the vectors that have come in, each with its share of the usage."""
        reason = unkept(call, reading, outcome) or why_unkept(came)
        if reason is not None:
            call.attributes.setdefault(names.CACHE_REASON, reason)
            return
        self.incoming = None
        keys = tuple([self._keys[place] for place in self._missing()])
        self._answers.keep(keys, self, came, hides_usage=False)

    def entries(self, came: Incoming, now: float, hides_usage: bool) -> Mapping[bytes, Entry]:
        """See `Asked.entries`: one of each input; there must be as many vectors as were asked for."""
        answer, missing = json.loads(came.body), self._missing()
        items = _in_order(answer, len(missing))
        beside = {key: value for key, value in answer.items() if key not in (DATA, USAGE)}
        lengths = [max(1, len(self._inputs[place])) for place in missing]
        shares = {
            name: shared_out(count, missing, lengths) if type(count) is int else dict.fromkeys(missing, count)
            for name, count in (answer.get(USAGE) or {}).items()
        }
        entries, headers = dict[bytes, Entry](), came.headers
        for place, item in zip(missing, items, strict=True):
            usage = {name: each[place] for name, each in shares.items()}
            body = json.dumps(Vector(item, usage, beside)).encode()
            if len(body) <= self.rule.max_entry_kib * 1024:
                entries[self._keys[place]] = Entry(HttpAnswer(headers, body), now, now + self.rule.ttl)
        return entries


def _in_order(answer: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The vectors of an answer by their places; raises `ValueError` where they are not as many as were asked for."""
    items: list[dict[str, Any]] = sorted(answer[DATA], key=lambda item: item[INDEX])
    if [item[INDEX] for item in items] != list(range(count)):
        raise ValueError(f"the provider has sent {len(items)} vectors for {count} inputs")
    return items


def _summed(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several shares; what is no count is as the first has it."""
    first = usages[0]
    return {
        name: sum(each.get(name) or 0 for each in usages) if type(value) is int else value
        for name, value in first.items()
    }
