"""What a wire format is: its paths, its operation, and the functions that read and change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.reading import Hears, Reading, fields, hears, whole
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words


def no_cap(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """For requests that generate nothing."""
    return body


def no_tool_steps(body: Mapping[str, Any]) -> int:
    """For requests that have no tools."""
    return 0


def one_request(body: Mapping[str, Any]) -> int:
    """For calls that are one of what the provider counts as a request."""
    return 1


class Option(NamedTuple):
    """A setting of a request, by which a provider does something that is off unless asked for."""

    key: str
    value: Callable[[int], object]
    """From a number of tokens."""
    providers: tuple[str, ...]
    """Who knows it, of those who speak the format."""
    header: tuple[str, str] | None = None
    """A header that must name it, and its word there."""


class Rental(NamedTuple):
    """How what a request makes is billed as time passes."""

    kind: str
    """The name before its id in a path: `/vector_stores/ID`."""
    unit: str
    """As `Usage` counts it."""
    per_second: float
    """Of one of what its answer tells (`Reading.rent`): a token, a byte, a container."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Api:
    """One wire format. Not a named tuple, whose fields take five times as long to read: each call reads twenty."""

    id: str
    operation: str
    """`gen_ai.operation.name`."""
    paths: tuple[str, ...]
    """The ends of the request path, as the SDK passes it; `*` stands for a name within it."""
    caps: tuple[str, ...]
    """The keys of the request's settings that may hold the output cap; the first is the one to set."""
    read: Callable[[object], Reading]
    fold: Callable[[bytes], Reading]
    words: Words
    """Where its text is."""
    tool_steps: Callable[[Mapping[str, Any]], int] = no_tool_steps
    last_tool_calls: Callable[[Mapping[str, Any]], int] = no_tool_steps
    capped: Callable[[Mapping[str, Any], int, str], Mapping[str, Any]] = no_cap
    include_usage: bool = False
    """Whether a stream tells its usage only when `stream_options.include_usage` asks for it."""
    marks_cache: bool = False
    """Whether the provider writes to its prompt cache only what the request marks (`tokens.request.CACHE_MARKS`)."""
    settings: str = ""
    """The key of the object in the request that holds the cap and the temperature; empty where the request does."""
    choices: tuple[str, ...] = ("n",)
    """The keys of the settings that say how many answers are made of a prompt; the largest number counts."""
    prompts: str = ""
    """The key of the request that may hold several prompts, each of which is answered."""
    goes_on_from: str = ""
    """The key of the request that names the answer, or the conversation, which it continues on the provider's side."""
    chosen_by: tuple[str, ...] = ()
    """The keys of the request that name what has a model of its own: an agent, or a conversation with one."""
    changes: bool = False
    """Whether a request changes what it names, so that two of the same words are not the same."""
    left_out: frozenset[str] = frozenset()
    """The keys of a request that cannot change its answer: whose it is, what is stored of it, how soon it is served."""
    fees: tuple[str, ...] = ()
    """The keys of a request that have something billed which its answer does not count."""
    shortens: Option | None = None
    """What has the provider itself shorten a context that is too long."""
    requests: Callable[[Mapping[str, Any]], int] = one_request
    """At most how many requests a call is billed as, where a request has a price."""
    units: Units | None = None
    """How its calls are billed besides their tokens; `None` where they are not."""
    rental: Rental | None = None
    """How what it makes is billed as time passes; `None` where it makes nothing that lasts."""
    default_model: str = ""
    """The model that runs where a request names none, and its answer need not either."""

    generates: bool = dataclasses.field(init=False)
    """Whether its answers have a length that a request may cap: not so of embeddings and ranks."""
    hear: Hears = dataclasses.field(init=False)
    """Reads an answer, or says how it is read later."""
    can_wait: bool = dataclasses.field(init=False)
    """Whether an answer may be read later: nothing but its price and its description depends on it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hear", hears(self.read))
        object.__setattr__(self, "can_wait", self.units is None and self.rental is None and not self.chosen_by)
        object.__setattr__(self, "generates", bool(self.caps))

    def _replace(self, **changes: Any) -> Api:
        """The same format with these fields, as named tuples have it."""
        return dataclasses.replace(self, **changes)

    def output_cap(self, body: Mapping[str, Any]) -> int | None:
        """The output tokens that a request asks for at the most; `None` where it sets no cap."""
        settings = fields(body.get(self.settings)) if self.settings else body
        for key in self.caps:
            if key in settings:
                said = settings[key]
                cap = said if type(said) is int else whole(said)
                if cap is not None and cap >= 0:  # Ollama's -1, -2 are none
                    return cap
        return None

    def answers(self, body: Mapping[str, Any]) -> int:
        """How many answers a request has the provider make: as many as it is billed for."""
        settings, each = self.settings_of(body), 1
        for key in self.choices:
            if key in settings:
                each = max(each, whole(settings[key]) or 1)
        prompts = body.get(self.prompts) if self.prompts else None
        if isinstance(prompts, (list, tuple)) and any(type(prompt) is not int for prompt in prompts):
            each *= len(prompts)
        return each

    def settings_of(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of a request that holds the cap and the temperature."""
        return fields(body.get(self.settings)) if self.settings else body
