"""What a batch can come to at the most: its lines by model, each bounded or counted as a call would be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tokenguard.call.call import Call
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNCAPPED_OUTPUT
from tokenguard.guard.worst_case import SAFETY, Worst
from tokenguard.prices import PriceBook, Tier
from tokenguard.providers import Api, api_of
from tokenguard.providers.batches import Asked as AskedOfAll
from tokenguard.providers.batches import BatchApi, Line
from tokenguard.store.jobs import Group
from tokenguard.tokens import count_request, is_exact, upper_bound_request

BATCH: Final = Tier("batch")
COUNTABLE: Final = 64 * 2**20
"""Characters of a batch whose lines are kept between its upload and its creation, to be counted where that decides."""


class Asked(NamedTuple):
    """A line with what is to be known of it."""

    api: Api
    line: Line
    model: str | None
    output: int
    """Output tokens, at the most."""
    capped: bool


class Content:
    """The lines of a batch, added up by what they ask for."""

    def __init__(self, lines: Iterable[Line], provider: str, prices: PriceBook, at_ns: int) -> None:
        self._provider = provider
        self._prices = prices
        self._at_ns = at_ns
        self._kept: dict[tuple[str, str | None], list[Asked] | None] = {}
        self.groups: dict[tuple[str, str | None], Group] = {}
        self._length = 0
        for line in lines:
            self._add(line)

    def _add(self, line: Line) -> None:
        api = line.api or api_of(line.url, self._provider)
        if api is None:
            return
        model = line.body.get("model")
        model = model if isinstance(model, str) else None
        cap = api.output_cap(line.body)
        most = (UNCAPPED_OUTPUT if cap is None else cap) * api.answers(line.body) if api.generates else 0
        asked = Asked(api, line, model, most, cap is not None)
        bound = upper_bound_request(line.body)
        key = (api.operation, model)
        group = self.groups.setdefault(key, Group(*key))
        self._count_in(group, asked, bound.tokens if bound.complete else _counted(asked), cap)
        self._length += bound.tokens
        kept = self._kept.setdefault(key, [])
        if kept is not None:
            kept.append(asked)
        if self._length > COUNTABLE:
            self._kept = dict.fromkeys(self._kept)

    def _count_in(self, group: Group, asked: Asked, sent: int, cap: int | None) -> None:
        group.cap = None if cap is None or (group.lines and group.cap is None) else max(cap, group.cap or 0)
        group.lines += 1
        group.input += sent
        group.output += asked.output
        worst = self._worst(asked, sent)
        group.nano = None if worst is None or group.nano is None else group.nano + worst

    def _worst(self, asked: Asked, sent: int) -> int | None:
        marked = not asked.api.marks_cache or upper_bound_request(asked.line.body).marked
        return self._prices.worst_case_nano(
            self._provider,
            asked.model,
            sent,
            asked.output,
            tier=BATCH,
            at_ns=self._at_ns,
            writes=None if marked else (),
            requests=asked.api.requests(asked.line.body),
        )

    def under(self, api: BatchApi, job: AskedOfAll) -> Content:
        """The same lines in a job that names the model of those that name none."""
        lines = [asked.line for kept in self._kept.values() for asked in kept or ()]
        if job.model is None or len(lines) < sum(group.lines for group in self.groups.values()):
            return self
        named = (api.named(line, job) for line in lines)
        return Content(named, self._provider, self._prices, self._at_ns)

    def api(self, group: Group) -> Api | None:
        """The wire format of a group's lines."""
        kept = self._kept.get((group.operation, group.model))
        return kept[0].api if kept else None

    def recount(self, group: Group) -> Group:
        """A group with its input counted, which takes a tokenizer's time; as it was, where its lines are not kept."""
        kept = self._kept.get((group.operation, group.model))
        if not kept:
            return group
        counted = Group(group.operation, group.model)
        for asked in kept:
            self._count_in(counted, asked, _counted(asked), asked.output if asked.capped else None)
        counted.cap = group.cap
        return counted


def _counted(asked: Asked) -> int:
    count = count_request(asked.api.words, asked.line.body, asked.model)
    return count.tokens if count.exact and is_exact(asked.model) else int(count.tokens * SAFETY) + 1


def named(groups: Iterable[Group], model: str | None, provider: str, prices: PriceBook, at_ns: int) -> list[Group]:
    """The groups of a job, with its own model for lines that name none."""

    def one(group: Group) -> Group:
        if group.model is not None or model is None:
            return group
        most = prices.worst_case_nano(provider, model, group.input, group.output, tier=BATCH, at_ns=at_ns)
        return replace(group, model=model, nano=most)

    return [one(group) for group in groups]


class GroupCases:
    """What one group of a batch can come to: for the guard, in the place of a call's worst case."""

    def __init__(self, group: Group, content: Content | None) -> None:
        self.group = group
        self._content = content

    def of(self, call: Call, *, counted: bool) -> Worst:
        """From the bounds of its lines, or from their counts."""
        return Worst(self.group.input, self.group.output, self.group.nano, counted)

    def count(self, call: Call) -> int:
        """Count the lines."""
        if self._content is not None:
            self.group = self._content.recount(self.group)
        call.counted = self.group.input
        return call.counted
