"""How the facts of a call are read out of a response, whether it is decoded JSON or an SDK's model of it.

SDK models name their fields as the JSON does, so one table serves both: the shape of the usage object, with the name of
a `Usage` count in place of each number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage

Places = tuple[tuple[tuple[str, int], ...], "tuple[tuple[str, Shape], ...]"]
"""Keys with the place of their count, and keys with the shape of the object below them."""
Take = Callable[[Any], "tuple[int | None, ...] | None"]
Kind = Any
"""The class of a model, or the keys of decoded JSON."""
MOST_KINDS: Final = 64
"""Kinds that are remembered of a shape; a provider has one or two."""
MOST_KEYS: Final = 32
"""Of decoded JSON that is remembered."""


class Shape:
    """The keys of a JSON object, each with the place of its count in a `Usage`, or the shape of the object below it.

    Made of the same with the counts' names.
    """

    __slots__ = ("_below", "_takes", "all", "keys", "places", "shapes")

    def __init__(self, keys: Mapping[str, Any]) -> None:
        places = tuple((key, Usage._fields.index(its)) for key, its in keys.items() if isinstance(its, str))
        below = tuple((key, Shape(its)) for key, its in keys.items() if not isinstance(its, str))
        self.all: Places = (places, below)
        self.places, self.shapes = dict(places), dict(below)
        self.keys: frozenset[str] = frozenset(key for key, _ in places).union(*(shape.keys for _, shape in below))
        self._takes: dict[Kind, Take] = {}
        """What takes the counts out of an object, by its kind."""
        self._below: dict[Kind, dict[str, Kind]] = {}
        """The kinds of what is below one, as far as they were seen."""

    def taken(self, node: Any) -> tuple[int | None, ...] | None:
        """The counts of an object whose kind is known; `None` where they are to be looked for one by one.

        A quarter of what that takes: only what its kind has is asked for.
        """
        kind = type(node)
        take = self._takes.get(tuple(node) if kind is dict else kind)
        try:
            return None if take is None else take(node)
        except KeyError:  # it was made without a field
            return None

    def learn(self, node: Any) -> bool:
        """Note the kinds of an object, and of those below it; whether one of them is new."""
        kind = _kind_of(node)
        if kind is None or (kind not in self._takes and len(self._takes) >= MOST_KINDS):
            return False
        below, new = self._below.setdefault(kind, {}), kind not in self._takes
        for key, its in self.all[1]:
            part = fields(node).get(key)
            if (its_kind := _kind_of(part)) is not None:
                new |= its.learn(part) or key not in below
                below.setdefault(key, its_kind)
        if new:
            self._takes[kind] = _written(self, kind)
        return new

    def copied(self, node: Any) -> dict[str, Any]:
        """The fields of a model as they are now, with those of the models below it; raises as `copied` does."""
        told = copied(node)
        for key in self.shapes:
            if (part := told.get(key)) is not None:
                told[key] = copied(part)
        return told

    def below(self, kind: Kind, key: str) -> Kind | None:
        """The kind of what is below an object; `None` where none was seen yet."""
        return self._below.get(kind, {}).get(key)


def _kind_of(node: object) -> Kind | None:
    """What objects have in common that have the same keys: the class of a model, the keys of decoded JSON."""
    if type(node) is dict:
        return tuple(node) if len(node) <= MOST_KEYS else None
    kind: Any = type(node)
    is_model = type(getattr(kind, "model_fields", None)) is dict and hasattr(kind, "__pydantic_extra__")
    return kind if is_model else None


def _written(shape: Shape, kind: Kind) -> Take:
    """What takes the counts out of an object: written out, for no loop is a third as fast.

    It gives `None` for a model that has more than its class, and for what is no plain count.
    """
    given: dict[str, Any] = {}
    used: set[int] = set()

    def took(node: str, kind: Kind, shape: Shape, indent: str) -> Iterator[str]:
        if isinstance(kind, tuple):
            keys: Iterable[str] = kind
            yield f"{indent}{node}s = {node}"
        else:
            keys = kind.model_fields
            yield f"{indent}if {node}.__pydantic_extra__: return None"
            yield f"{indent}{node}s = {node}.__dict__"
        for key, place in shape.all[0]:
            if key in keys:
                yield f"{indent}n{place} = {node}s[{key!r}]"
                yield f"{indent}if n{place} is not None and (type(n{place}) is not int or n{place} < 0): return None"
                if place in used:  # of two that say the same, the larger counts
                    yield f"{indent}return None"
                used.add(place)
        for number, (key, its) in enumerate(shape.all[1]):
            if key in keys:
                part, own = f"{node}{number}", shape.below(kind, key)
                given[f"K{part}"] = own
                yield f"{indent}{part} = {node}s[{key!r}]"
                yield f"{indent}if {part} is not None:"
                if isinstance(own, tuple):
                    yield f"{indent} if type({part}) is not dict or tuple({part}) != K{part}: return None"
                else:
                    yield f"{indent} if type({part}) is not K{part}: return None"
                if own is not None:
                    yield from took(part, own, its, f"{indent} ")

    lines = list(took("p", kind, shape, " "))
    source = [
        f"def take(p, {' '.join(f'n{place}=None,' for place in used)}):",
        *lines,
        f" return ({', '.join(f'n{place}' if place in used else 'None' for place in range(len(Usage._fields)))})",
    ]
    exec("\n".join(source), given)  # noqa: S102 - the keys are this program's
    made: Take = given["take"]
    return made


NO_FIELDS: Mapping[str, Any] = {}

MOST_TOKENS = 10**10
"""Far beyond what any call has used: the largest windows hold 10**7 tokens."""


class Part(NamedTuple):
    """One of several inferences that a provider runs for one call, each billed for itself."""

    usage: Usage
    model: str | None
    """Its own; `None` where it is the call's."""
    like: str | None = None
    """The model that it is priced like, if its own has no price."""


class Rent(NamedTuple):
    """What is rented from now on."""

    amount: float
    """In what its price is of: tokens of a cache, bytes of a store, containers."""
    seconds: float | None
    """How long, if nobody deletes it; `None`: until somebody does."""


class Reading(NamedTuple):
    """What a response says of the call. `None` and empty mean that it does not say."""

    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    tool_calls: int = 0
    service_tier: str | None = None
    speed: str | None = None
    geo: str | None = None
    """Where the provider says that it did the work, where that has a price."""
    error: str | None = None
    """The type of an error that the provider reported in an answer that had begun well: the call has failed."""
    complete: bool = True
    """Whether a stream came to its own end."""
    reported_cost: float | None = None
    """USD, where the provider itself says what it charged."""
    extra_fees: bool = False
    """Whether something was billed that is not tokens (a web search, say)."""
    conversation: str | None = None
    """The id of the conversation that the provider keeps, where it names that and not each answer."""
    parts: tuple[Part, ...] = ()
    """What the provider bills the call by, where that is several; `usage` is the sum of those by the call's model."""
    variant: str | None = None
    """The size and quality of what was made, where the price depends on them."""
    resource: str | None = None
    """The provider's name of what is rented from now on: an explicit cache."""
    until: float | None = None
    """Until when, in Unix seconds; in the past once it has ended."""
    rent: Rent | None = None
    """How much is rented, and how long."""
    basis: str | None = None
    """Why its cost is an estimate, whatever is told."""
    by_total: bool | None = None
    """That some of the usage is in the total alone: `True` where nothing else says so. `None` where none is."""

    def can_wait(self, *, generates: bool) -> bool:
        """Whether nothing of this changes what is done as soon as the answer is there."""
        usage, _, _, _, _, _, _, _, error, complete, *_ = self
        return (
            usage is not None
            and tells(usage[0])
            and (tells(usage[1]) or (usage[1] is None and not generates))
            and error is None
            and complete
        )


class Later(NamedTuple):
    """An answer that is read once somebody asks: what it says is at hand, and nothing of it changes what is done now.

    So it has not failed, it is whole, and it tells a usage that is one call's.
    """

    reads: Callable[[Any], Reading]
    said: object

    def read(self) -> Reading:
        """What the answer says."""
        return self.reads(self.said)


Hears = Callable[[object], Reading | Later]
_heard_by: Final[dict[Callable[[object], Reading], Hears]] = {}


def can_wait(
    kept: Callable[[Any], Mapping[str, Any] | None],
) -> Callable[[Callable[[object], Reading]], Callable[[object], Reading]]:
    """Decorates what reads an answer with what copies all that it reads of a model, so that it can be read later.

    `kept` gives `None` for an answer that is to be read at once, and may raise `AttributeError`, `KeyError` or
    `TypeError` for what is no model, or one of a class that has other fields.
    """

    def note(read: Callable[[object], Reading]) -> Callable[[object], Reading]:
        def hear(response: object) -> Reading | Later:
            try:
                told = kept(response)
            except (AttributeError, KeyError, TypeError):
                told = None
            return read(response) if told is None else later(read, told)

        _heard_by[read] = hear
        return read

    return note


def hears(read: Callable[[object], Reading]) -> Hears:
    """What hears an answer of which nobody wants to know at once what it says."""
    return _heard_by.get(read, read)


def copied(node: Any) -> dict[str, Any]:
    """The fields of a model, as they are now; raises `AttributeError` for anything else."""
    own, extra = {**node.__dict__}, node.__pydantic_extra__
    return {**own, **extra} if extra else own


def tells(count: object) -> bool:
    """Whether it is a plain count, of one call, and not zero."""
    return type(count) is int and 0 < count <= MOST_TOKENS


def later(reads: Callable[[Any], Reading], said: object) -> Later:
    """An answer that is read by this once somebody asks, from what it says."""
    made: Later = _new(Later, (reads, said))
    return made


def reading(
    usage: Usage | None,
    model: str | None,
    answer_id: str | None,
    reasons: tuple[str, ...] = (),
    calls: int = 0,
    tier: str | None = None,
    charged: float | None = None,
    extra_fees: bool = False,
    by_total: bool | None = None,
    basis: str | None = None,
    geo: str | None = None,
    speed: str | None = None,
    error: str | None = None,
    complete: bool = True,
    parts: tuple[Part, ...] = (),
) -> Reading:
    """What an answer says that rents nothing, in a third of the time that a `Reading`'s own constructor takes."""
    # fmt: off
    made: Reading = _new(Reading, (
        usage, model, answer_id, reasons, calls, tier, speed, geo, error, complete, charged, extra_fees, None, parts,
        None, None, None, None, basis, by_total,
    ))
    # fmt: on
    return made


_new: Final = tuple.__new__


def fields(node: object) -> Mapping[str, Any]:
    """The named values of a JSON object or of a (pydantic) model, extra ones included; empty for anything else."""
    if type(node) is dict:
        return node
    if node is None:
        return NO_FIELDS
    try:
        own: dict[str, Any] = node.__dict__
    except AttributeError:
        return NO_FIELDS
    extra = getattr(node, "__pydantic_extra__", None)
    return {**own, **extra} if extra else own


def items(node: object) -> Iterable[Mapping[str, Any]]:
    """The fields of each member of a JSON array; nothing for anything else."""
    return map(fields, node) if isinstance(node, (list, tuple)) else ()


def text(value: object) -> str | None:
    """The value if it is a non-empty string."""
    return value if isinstance(value, str) and value else None


MAX_DIGITS = 15
"""Of a count that is written as text; no call has as many tokens."""


def count(value: object) -> int | None:
    """The value if it is a count of tokens, whether it is written as 19, 19.0 or "19".

    Gateways write floats, and text; fractions, as some have them for images, are rounded up.

    >>> count(19), count(19.0), count("19"), count(-1), count(True), count("many")
    (19, 19, 19, None, None, None)
    """
    if type(value) is int:
        return value if value >= 0 else None
    if type(value) is str:
        if len(value) > MAX_DIGITS:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is float and 0 <= value < 10**MAX_DIGITS:
        return math.ceil(value)
    return None


MOST_USD: Final = 1e5
"""Beyond this a cost that is reported is no cost, and the rates decide."""
TELL_COST: Final = frozenset({"cost_in_usd_ticks", "cost"})
"""Where a provider says what it charged."""
USD_PER_TICK = 1e-10
"""Of xAI's `cost_in_usd_ticks`, which covers all that a request did, tools included (`cost.py` of xai-sdk)."""


def reported_cost(usage: Mapping[str, Any]) -> float | None:
    """USD that a provider itself says it charged, in an object of usage; `None` where it does not say.

    xAI: `cost_in_usd_ticks`, over HTTP and gRPC (https://docs.x.ai/docs/key-information/consumption-and-rate-limits).
    OpenRouter: `cost`, which with a key of the caller's own is its fee alone; what the provider behind it charged is
    beside it (https://openrouter.ai/docs/use-cases/usage-accounting). Perplexity: `cost.total_cost`.
    """
    told, charged = usage.get("cost_in_usd_ticks"), usage.get("cost")
    if told is None and charged is None:
        return None
    if (ticks := amount(told)) is not None:
        return believed(ticks * USD_PER_TICK)
    if charged is None:
        return None
    fee = amount(charged)
    if fee is None:
        return believed(amount(fields(charged).get("total_cost")))
    if not usage.get("is_byok"):
        return believed(fee)
    upstream = amount(fields(usage.get("cost_details")).get("upstream_inference_cost"))
    return None if upstream is None else believed(fee + upstream)


def amount(value: object) -> float | None:
    """The value if it is an amount of money, whether it is written as 0.5 or "0.5"; a negative one is none.

    >>> amount(1), amount("0.5"), amount(-1), amount(True), amount({})
    (1.0, 0.5, None, None, None)
    """
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is int or type(value) is float:
        return float(value) if 0 <= value < 10**MAX_DIGITS else None
    return None


def believed(usd: float | None) -> float | None:
    """What a call may have cost: none costs more than `MOST_USD`."""
    return usd if usd is not None and usd <= MOST_USD else None


def whole(value: object) -> int | None:
    """A number in a request, as lenient hosts read it: `5`, `5.0` and `"5"` are 5; `None` for anything else.

    >>> whole("35000"), whole(4.2), whole(True)
    (35000, 5, None)
    """
    if type(value) is int:
        return value
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return math.ceil(value) if isinstance(value, float) and math.isfinite(value) else None


def believable(usage: Usage | None) -> bool:
    """Whether these counts can be one call's: they would fill every budget, and a garbled one is nobody's usage."""
    if usage is None:
        return True
    return sum(filter(None, usage)) <= MOST_TOKENS or max(filter(None, usage)) <= MOST_TOKENS


def beyond_belief(usage: Usage | None) -> ValueError:
    """What is said of counts that are not `believable`."""
    counts = {} if usage is None else usage._asdict()
    beyond = ", ".join(f"{n:,} for {part}" for part, n in counts.items() if n is not None and n > MOST_TOKENS)
    return ValueError(f"the provider reports {beyond}, and no call has more than {MOST_TOKENS:,} tokens")


def read_usage(node: object, shape: Shape, *, excludes_cache: bool = False) -> Usage | None:
    """The usage object `node` as a `Usage`, by its `shape`; `None` when it holds no count at all.

    With `excludes_cache` the reported input leaves the cached tokens out (Anthropic) and they are added.
    """
    counts = shape.taken(node)
    if counts is None:
        found: list[int | None] = [*NO_COUNTS]
        _collect(node, shape, found)
        shape.learn(node)
        counts = (*found,)
    if counts == NO_COUNTS:
        return None
    if excludes_cache and counts[0] is not None:
        counts = (counts[0] + (counts[2] or 0) + (counts[3] or 0), *counts[1:])  # `cache_read` and `cache_write`
    return _new(Usage, counts)


NO_COUNTS: Final = (None,) * len(Usage._fields)


def _collect(node: Any, shape: Shape, counts: list[int | None]) -> None:
    """Fill in the counts of a usage object: of its keys, which are fewer than those that it may have."""
    places = shape.places
    for key, said in fields(node).items():
        if said is None:
            continue
        if (place := places.get(key)) is not None:
            value = said if type(said) is int and said >= 0 else count(said)
            before = counts[place]
            if value is not None and (before is None or value > before):  # of two, a zero is who does not know
                counts[place] = value
        elif (its := shape.shapes.get(key)) is not None:
            _collect(said, its, counts)


OWN_KEY: Final = "own_key"
"""The basis of a cost that the caller's own provider has charged, which a gateway does not tell."""
REPORTED_ESTIMATE: Final = "reported_estimate"
"""The basis of a cost that the provider says it has estimated: DeepInfra's `estimated_cost`."""


TELL_FAILURE: Final = frozenset({"error", "base_resp", "error_code", "errors", "success"})
NO_FAILURE: Final[tuple[object, ...]] = (None, False, 0, "", "0", [], {})


def failure_of(answer: Mapping[str, Any]) -> str | None:
    """The type of an error that stands in an answer's place, though the server has called it a success; or `None`.

    OpenRouter, whose status is sent before the provider behind it has answered, says it as `error`
    (https://openrouter.ai/docs/api-reference/errors); MiniMax in `base_resp`, Z.ai by `success` and a code,
    Cloudflare in `errors`, Baidu as `error_code`.

    >>> failure_of({"error": {"code": 429}}), failure_of({"base_resp": {"status_code": 0}}), failure_of({"error": None})
    ('429', None, None)
    """
    if TELL_FAILURE.isdisjoint(answer):
        return None
    if (kind := error_type(answer.get("error"))) is not None:
        return kind
    if (status := count(fields(answer.get("base_resp")).get("status_code"))) is not None and status:
        return str(status)
    if (code := answer.get("error_code")) not in NO_FAILURE:
        return str(code)
    told = next((code for each in items(answer.get("errors")) if (code := each.get("code")) not in NO_FAILURE), None)
    if told is not None or answer.get("success") is False:
        return str(told or answer.get("code") or "error")
    return None


def error_type(error: object) -> str | None:
    """The type or code of an error that is told as an object or as text; `None` where there is none."""
    if error in NO_FAILURE:
        return None
    told = fields(error)
    code = told.get("code")
    return text(told.get("type")) or text(code) or (str(code) if type(code) is int else "error")


def with_total(usage: Usage | None, total: object) -> tuple[Usage | None, bool | None, str | None]:
    """The usage by its total, whether that made a difference which nothing else confirms, and a reason for doubt.

    The second is `None` where it made none.

    What is in the total alone was generated: thoughts of Gemini through the OpenAI-compatible endpoint, reasoning of
    Grok. But where it is just what the cache has, the input was told without that. A part that is larger than the
    whole is beside it, whatever the total says. A total below its parts, be they without what the cache has, makes
    them doubtful: Vertex AI has told the input as the output (openai-scala-client#96).
    """
    if usage is None:
        return usage, None, None
    sent, made, read, written, _, _, _, thought = usage[:8]
    if sent is None:
        return usage, None, None
    told = total if type(total) is int else count(total)
    if made is None:
        rest = None if told is None else told - sent
        return (usage, None, None) if rest is None or rest < 0 else (usage._replace(output=rest), True, None)
    beside = 0 if told is None or told <= sent + made else told - sent - made
    read, written, thought = read or 0, written or 0, thought or 0
    if not beside and read <= sent and written <= sent and thought <= made:
        return usage, None, names.INCONSISTENT_USAGE if told and told < sent + made - read - written else None
    cached = read + written
    if max(read, written) > sent or (cached and beside == cached):  # one of them: OpenRouter has one cache in both
        return usage._replace(input=sent + cached), False, None if beside == cached else names.INCONSISTENT_USAGE
    generated = made + (beside or thought)
    return usage._replace(output=generated, reasoning=thought or beside), thought != beside, None


def with_cached(reading: Reading, cached: int | None) -> Reading:
    """What an answer says, with the tokens of its input that were cached where something beside the usage tells more.

    >>> with_cached(Reading(Usage(100, 10)), 80).usage.cache_read
    80
    """
    usage = reading.usage
    if not cached or usage is None or not (usage.cache_read or 0) < cached <= (usage.input or 0):
        return reading
    return reading._replace(usage=usage._replace(cache_read=cached))


def untold(told: Mapping[str, Any], keys: frozenset[str]) -> frozenset[str]:
    """Those of the keys of counts that an account of usage has nothing, or zero, under.

    >>> sorted(untold({"a": 3, "b": 0, "more": {"c": 1}}, frozenset("abcd")))
    ['b', 'd']
    """
    for key, value in told.items():
        if isinstance(value, Mapping):
            keys = untold(value, keys)
        elif value:
            keys -= {key}
    return keys


def larger(told: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Two accounts of one usage: of each count the larger, so that a late zero does not undo what was told.

    What is no count is as the later one says, unless that says nothing.
    """
    both = dict(told)
    for key, value in later.items():
        before = both.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            both[key] = larger(before, value)
        elif before is None or (value is not None and value != [] and not _less(value, before)):
            both[key] = value
    return both


def _less(value: object, before: object) -> bool:
    """Whether both are numbers, and the first the smaller."""
    return isinstance(value, (int, float)) and isinstance(before, (int, float)) and value < before
