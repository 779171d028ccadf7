"""What is known of one call: its cost, and the record that spans, metrics, the store and `meter()` are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage

_NOTHING: Final[Mapping[str, str]] = {}
AttributeValue = str | bool | int | float | tuple[str, ...]


class Cost(NamedTuple):
    """What a call cost, in USD. The parts sum to `total`; all are `None` when the model has no known price."""

    status: str = names.UNPRICED
    """`exact`, `estimated` (tokens or rate assumed: `basis` says which) or `unpriced`."""
    basis: str | None = None
    total: float | None = None
    input: float | None = None
    """The input that was neither read from nor written to the cache."""
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    saved: float | None = None
    """What prompt caching saved against the plain input rate; negative while writes cost more than reads saved."""
    tools: float | None = None
    """What the provider's own tools cost that it bills by the use; `None` where none were used."""

    def plus(self, other: Cost) -> Cost:
        """What both cost together: unpriced where one is, and estimated where one is."""
        if names.UNPRICED in (self.status, other.status):
            return Cost()
        basis = self.basis or other.basis
        sums = (
            None if a is None and b is None else (a or 0.0) + (b or 0.0)
            for a, b in zip(self[2:], other[2:], strict=True)
        )
        return Cost(self.status if self.status != names.EXACT else other.status, basis, *sums)


USAGE_ATTRIBUTES: Final = {
    "input": names.INPUT_TOKENS,
    "output": names.OUTPUT_TOKENS,
    "cache_read": names.CACHE_READ_TOKENS,
    "cache_write": names.CACHE_WRITE_TOKENS,
    "reasoning": names.REASONING_TOKENS,
    "web_searches": names.WEB_SEARCHES,
    "map_searches": names.MAP_SEARCHES,
    "file_searches": names.FILE_SEARCHES,
    "request": names.REQUESTS,
    "input_audio": names.AUDIO_INPUT_TOKENS,
    "output_audio": names.AUDIO_OUTPUT_TOKENS,
    "cache_audio_read": names.AUDIO_CACHE_READ_TOKENS,
    "input_image": names.IMAGE_INPUT_TOKENS,
    "output_image": names.IMAGE_OUTPUT_TOKENS,
    "cache_image_read": names.IMAGE_CACHE_READ_TOKENS,
    "images": names.IMAGES,
    "input_seconds": names.INPUT_SECONDS,
    "output_seconds": names.OUTPUT_SECONDS,
    "characters": names.CHARACTERS,
    "pages": names.PAGES,
    "annotated_pages": names.ANNOTATED_PAGES,
    "token_hours": names.TOKEN_HOURS,
    "megabyte_days": names.MEGABYTE_DAYS,
    "trained_tokens": names.TRAINED_TOKENS,
}
"""The attribute of each count of a `Usage` that has one."""
COST_ATTRIBUTES: Final = (
    names.COST_STATUS,
    names.COST_BASIS,
    names.COST,
    names.COST_INPUT,
    names.COST_OUTPUT,
    names.COST_CACHE_READ,
    names.COST_CACHE_WRITE,
    names.COST_SAVED,
    names.COST_TOOLS,
)
"""The attributes of a `Cost`, in its order."""


@dataclass(init=False, eq=False, repr=False, slots=True)  # to compile those takes a program's start as long as all else
class CallRecord:
    """One finished call.

    `attributes` are exactly the span's, by the names in `names.py`; everything else here is what a span has besides
    attributes. Reports need no more than this, so a record read back from the store or from OTLP is the same thing.
    """

    start_ns: int
    """Unix time, nanoseconds."""
    duration_ns: int
    outcome: str
    """`ok`, `error`, `blocked` or `abandoned`."""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    trace_id: str = ""
    """32 hex digits, or empty without a tracer."""
    span_id: str = ""
    usage: Usage | None = field(default=None, compare=False)
    """What the provider reported; from `attributes`, but for the lifetimes of cache writes."""
    cost: Cost | None = field(default=None, compare=False)
    """As in `attributes`."""

    def __init__(
        self,
        start_ns: int,
        duration_ns: int,
        outcome: str,
        attributes: dict[str, AttributeValue] | None = None,
        trace_id: str = "",
        span_id: str = "",
        usage: Usage | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.start_ns = start_ns
        self.duration_ns = duration_ns
        self.outcome = outcome
        self.attributes = {} if attributes is None else attributes
        self.trace_id = trace_id
        self.span_id = span_id
        self.usage = usage
        self.cost = cost

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallRecord):
            return NotImplemented
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        """What tells it from others; the rest follows from that."""
        return self.start_ns, self.duration_ns, self.outcome, self.attributes, self.trace_id, self.span_id

    def __repr__(self) -> str:
        return f"CallRecord({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__match_args__)})"

    @property
    def model(self) -> str | None:
        """The model that answered, or else the one that was asked."""
        value = self.attributes.get(names.RESPONSE_MODEL) or self.attributes.get(names.REQUEST_MODEL)
        return None if value is None else str(value)

    @property
    def cost_usd(self) -> float | None:
        """What the call cost; `None` when it is not known."""
        return None if self.cost is None else self.cost.total

    @property
    def call_site(self) -> str | None:
        """Where the user's code made the call, as `path:line`."""
        path = self.attributes.get(names.CODE_FILE)
        return None if path is None else f"{path}:{self.attributes.get(names.CODE_LINE, 0)}"


class TaskRecord(NamedTuple):
    """One finished `task(...)`: a unit of business work, for cost per successful task."""

    name: str
    start_ns: int
    duration_ns: int
    outcome: str
    """`ok` or `error`."""
    cost_usd: float
    """The sum over its calls whose price is known."""
    calls: int
    attribution: Mapping[str, str] = _NOTHING


class ToolsetRecord(NamedTuple):
    """The tools that requests offer, told once: `CallRecord`s name it by its hash."""

    hash: str
    """`tokenguard.input.toolset` of the calls."""
    shares: Mapping[str, float]
    """The part of the section `tools` that each tool's definition is, by name."""


class FaultRecord(NamedTuple):
    """Something that TokenGuard itself has missed, told since the last word of it."""

    kind: str
    """One of `FAULTS`."""
    at_ns: int
    """Unix time, nanoseconds."""
    count: int  # type: ignore[assignment] # and not how often a tuple has something
    said: str = ""
    """The last error, in words."""


FAULTS: Final = {
    "unguarded": "calls went out past the policy",
    "unmeasured": "calls were not measured",
    "dropped": "records were dropped",
    "ledger_lost": "times the ledger was out of reach, and each process counted by itself",
    "errors": "internal errors",
}
"""What is said of each kind of fault after its count; the worst first."""
Record = CallRecord | TaskRecord | ToolsetRecord | FaultRecord
"""What is kept of a program's calls."""
