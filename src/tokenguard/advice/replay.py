"""The recorded calls, one after the other, as values that a proposal's steps may change and price anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.record import Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier
from tokenguard.process.progress import part
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, conditions

STORED: Final = (
    *("start_ns", "duration_ns", "outcome", "operation", "provider", "request_model", "response_model"),
    *("max_tokens", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("cost_usd", "input_usd", "output_usd", "cache_read_usd", "cache_write_usd"),
    *("retry_attempt", "tool_steps", "temperature", "request_hash", "toolset", "break_kind", "break_tokens"),
    *("system_tokens", "tools_tokens", "history_tokens", "tool_results_tokens", "last_tokens"),
    *(*names.ATTRIBUTION_KEYS, "more"),
)
PAGE: Final = 10_000
"""Calls that are in memory at a time."""
CUSTOM: Final = names.attribution_attribute("")
"""How the attributes of custom attribution keys begin."""


class Fact(NamedTuple):
    """What is recorded of one call, by the store's columns. `None` is unknown."""

    start_ns: int
    duration_ns: int
    outcome: str
    operation: str | None
    provider: str | None
    request_model: str | None
    response_model: str | None
    max_tokens: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    input_usd: float | None
    output_usd: float | None
    cache_read_usd: float | None
    cache_write_usd: float | None
    retry_attempt: int | None
    tool_steps: int | None
    temperature: float | None
    request_hash: str | None
    toolset: str | None
    break_kind: str | None
    break_tokens: int | None
    system_tokens: int | None
    tools_tokens: int | None
    history_tokens: int | None
    tool_results_tokens: int | None
    last_tokens: int | None
    tenant: str | None
    feature: str | None
    route: str | None
    prompt_version: str | None
    team: str | None
    user: str | None
    more: str | None

    @property
    def usage(self) -> Usage:
        """Its tokens, as far as the store has them."""
        return Usage(
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            reasoning=self.reasoning_tokens,
        )

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What has no column of its own."""
        return json.loads(self.more) if self.more else {}

    def attribution(self, defaults: Mapping[str, str], custom: bool) -> dict[str, str]:
        """Whose call it was; keys of one's own only if `custom`, as they take a while to read."""
        found = dict(defaults)
        if custom:
            found |= {
                key.removeprefix(CUSTOM): str(value) for key, value in self.attributes.items() if key.startswith(CUSTOM)
            }
        found |= {key: value for key in names.ATTRIBUTION_KEYS if (value := getattr(self, key)) is not None}
        return found


def facts(records: Records, query: Query) -> Iterator[Fact]:
    """The calls of a query, in the order in which they were made."""
    where, values = conditions(query, records.dialect)
    columns = ", ".join(f'"{column}"' for column in STORED)
    last = (-1, -1)

    def calls() -> int:
        number: int = records.rows(f"SELECT count(*) FROM {records.dialect.calls} WHERE {where}", values)[0][0]  # noqa: S608
        return number

    work = part("Replaying calls", calls)
    while True:
        rows = records.rows(
            f"SELECT {columns}, id FROM {records.dialect.calls} WHERE {where} "  # noqa: S608 - our own names
            f"AND (start_ns > ? OR (start_ns = ? AND id > ?)) ORDER BY start_ns, id LIMIT {PAGE}",
            (*values, last[0], last[0], last[1]),
        )
        for *row, number in rows:
            fact = Fact._make(row)
            yield fact
            last = (fact.start_ns, number)
        work.advance(len(rows))
        if len(rows) < PAGE:
            return


Parts = tuple[float, float, float, float]
"""USD of input, output, cache reads and cache writes."""
NOTHING: Final[Parts] = (0.0, 0.0, 0.0, 0.0)


class Replayed:
    """A call on its way through a proposal."""

    __slots__ = (
        *("_scale", "again_usd", "attribution", "fact", "factor", "gone", "model", "parts", "priced", "routed"),
        "usage",
    )

    def __init__(self, fact: Fact, attribution: Mapping[str, str], book: PriceBook) -> None:
        self.fact = fact
        self.attribution = attribution
        self.model: tuple[str | None, ...] = (fact.response_model, fact.request_model)
        self.usage = fact.usage
        self.priced = fact.cost_usd is not None
        """Whether what it costs is known."""
        self.routed = False
        """Whether a route has had its say, either way."""
        self.gone = False
        """Whether it would not be sent: refused, or answered from a cache."""
        self.factor = 1.0
        """What its rates are multiplied by: a batch's half."""
        self.again_usd = 0.0
        """What another model's answer in its place costs, where its own fails."""
        self.parts = _recorded(fact)
        self._scale = self._scales(book)

    @property
    def usd(self) -> float:
        """What it comes to; 0 where that is not known."""
        return 0.0 if self.gone else sum(self.parts) + self.again_usd

    def section(self, name: str) -> int | None:
        """The tokens of a section of its input, which shrinks as the input does; `None` where that is not recorded."""
        tokens: int | None = getattr(self.fact, f"{name}_tokens")
        if tokens is None or not self.fact.input_tokens or self.usage.input is None:
            return tokens
        return round(tokens * self.usage.input / self.fact.input_tokens)

    def by(self, book: PriceBook, usage: Usage, model: str) -> float | None:
        """USD of so many tokens of another model, as this call's were priced; `None` without a price for it."""
        cost = book.cost(self.fact.provider or "", (model,), usage, at_ns=self.fact.start_ns)
        if not self.priced or cost.total is None:
            return None
        return sum(part * scale * self.factor for part, scale in zip(parts_of(cost), self._scale, strict=True))

    def _scales(self, book: PriceBook) -> Parts:
        """The recorded parts over those of the price list: a tier, a geography, rates that have changed since."""
        if not self.priced:
            return (1.0, 1.0, 1.0, 1.0)
        listed = self._listed(book)
        total = sum(listed)
        whole = sum(self.parts) / total if total else 1.0
        scales = [have / want if want and have else whole for have, want in zip(self.parts, listed, strict=True)]
        return scales[0], scales[1], scales[2], scales[3]

    def _listed(self, book: PriceBook) -> Parts:
        cost = book.cost(self.fact.provider or "", self.model, self.usage, at_ns=self.fact.start_ns)
        return parts_of(cost) if cost.total is not None else NOTHING

    def changed(self, book: PriceBook, usage: Usage, model: str | None = None) -> bool:
        """Have other tokens, or another model, at the price list's rates as they were recorded.

        Without a price the parts go with their tokens, and another model cannot be had: then nothing changes, and
        this is false.
        """
        if not self.priced:
            return False
        before, asked = (self.usage, self.model), self.model if model is None else (model,)
        self.usage, self.model = usage, asked
        listed = self._listed(book)
        if sum(listed):
            a, b, c, d = (part * scale * self.factor for part, scale in zip(listed, self._scale, strict=True))
            self.parts = (a, b, c, d)
        elif model is not None:
            self.usage, self.model = before
            return False
        else:
            self.parts = _in_proportion(self.parts, before[0], usage)
        return True

    def repriced(self, book: PriceBook) -> bool:
        """Have the rates of another price book, as they are; false where it knows none."""
        listed = self._listed(book)
        if not sum(listed):
            return False
        a, b, c, d = (part * self.factor for part in listed)
        self.parts = (a, b, c, d)
        return True

    def batched(self, book: PriceBook) -> bool:
        """Have the rates of the provider's batches; false where it sells none, or where it is one already."""
        if not self.priced or max(self._scale) <= ALREADY_HALF:
            return False
        provider, at = self.fact.provider or "", self.fact.start_ns
        plain = book.cost(provider, self.model, self.usage, at_ns=at).total
        batch = book.cost(provider, self.model, self.usage, tier=Tier("batch"), at_ns=at).total
        if not plain or batch is None or batch >= plain:
            return False
        self.factor = batch / plain
        a, b, c, d = (part * self.factor for part in self.parts)
        self.parts = (a, b, c, d)
        return True


ALREADY_HALF: Final = 0.51


def parts_of(cost: Cost) -> Parts:
    """The parts of a cost."""
    return cost.input or 0.0, cost.output or 0.0, cost.cache_read or 0.0, cost.cache_write or 0.0


def _recorded(fact: Fact) -> Parts:
    """The recorded parts; a record that has only the sum has it as input, where there is no other way to know."""
    if fact.cost_usd is None:
        return NOTHING
    read, write = fact.cache_read_usd or 0.0, fact.cache_write_usd or 0.0
    if fact.input_usd is None and fact.output_usd is None:
        return fact.cost_usd - read - write, 0.0, read, write
    return fact.input_usd or 0.0, fact.output_usd or 0.0, read, write


def _in_proportion(parts: Parts, before: Usage, after: Usage) -> Parts:
    def ratio(field: str) -> float:
        had = getattr(before, field)
        return getattr(after, field) / had if had and getattr(after, field) is not None else 1.0

    plain, output, read, write = parts
    return plain * ratio("input"), output * ratio("output"), read * ratio("cache_read"), write * ratio("cache_write")
