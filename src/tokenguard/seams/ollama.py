"""ollama: every request goes through `_request` of its clients; a stream is a generator that sends when it is read."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk, api_of, located
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the two clients of `ollama._client`; returns what to restore."""
    restore = Restore()
    wrap(module, "Client._request", _look, meter, restore)
    wrap(module, "AsyncClient._request", _look, meter, restore)
    return restore


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    kind, _, path = args[:3]  # the answer's model, POST, the path
    api = api_of(path, "ollama")
    if api is None:
        return None
    endpoint, _ = located(str(client._client.base_url), "ollama")
    put = functools.partial(kwargs.__setitem__, "json")
    stream = bool(kwargs.get("stream"))
    asked_by = lambda: AskedBy(f"{client._client.base_url} {path}", [client._client.headers])  # noqa: E731
    return SentExchange(
        *(api, endpoint, kwargs["json"], stream, put),
        kind=kind,
        encode=_line,
        asked_by=asked_by,
        sends_later=stream,
    )


def _line(part: Any) -> bytes:
    encoded: str = part.model_dump_json(exclude_none=True)
    return encoded.encode() + b"\n"
