"""ollama: every request goes through `_request` of its clients; a stream is a generator that sends when it is read."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy, Call
from tokenguard.metering.meter import Meter
from tokenguard.providers import Reading, Sdk, api_of, located
from tokenguard.providers.ollama import CACHED
from tokenguard.providers.reading import count, with_cached
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the two clients of `ollama._client`; returns what to restore."""
    restore = Restore()
    wrap(module, "Client._request", _look, meter, restore)
    wrap(module, "AsyncClient._request", _look, meter, restore)
    return restore


class Made:
    """Makes the SDK's answers, and keeps what was told last: the models drop what they have no field for."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.told: Mapping[str, Any] = {}
        self._last: Any = None

    def __call__(self, **told: Any) -> Any:
        """Make an answer of the SDK's."""
        self.told = told
        self._last = made = self._kind(**told)
        return made

    def line(self, part: Any) -> bytes:
        """The bytes of a part of a stream: of the last one, which has the counts, as they came."""
        told: str = json.dumps(self.told) if part is self._last else part.model_dump_json(exclude_none=True)
        return told.encode() + b"\n"


class Exchange(SentExchange):
    """One request; what its answer says of the cache is not in the SDK's model."""

    __slots__ = ("made",)

    made: Made

    def hear(self, answer: Any, call: Call) -> Reading:
        """See `SentExchange.hear`."""
        return with_cached(call.read(answer), count(self.made.told.get(CACHED)))


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    kind, _, path = args[:3]  # the answer's model, POST, the path
    api = api_of(path, "ollama")
    if api is None:
        return None
    endpoint, _ = located(str(client._client.base_url), "ollama")
    put = functools.partial(kwargs.__setitem__, "json")
    stream = bool(kwargs.get("stream"))
    asked_by = lambda: AskedBy(f"{client._client.base_url} {path}", clients=(client._client,))  # noqa: E731
    made = args[0] = Made(kind)
    exchange = Exchange(
        *(api, endpoint, kwargs["json"], stream, put),
        kind=kind,
        encode=made.line,
        asked_by=asked_by,
        sends_later=stream,
    )
    exchange.made = made
    return exchange
