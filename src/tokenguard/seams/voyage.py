"""voyageai: every request goes through `request` or `arequest` of its `APIRequestor`, within the SDK's retrying."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy, Call
from tokenguard.metering.meter import Meter
from tokenguard.providers import Reading, Sdk, api_of, located
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore


class VoyageExchange(SentExchange):
    """One request of voyageai: its answer is what the SDK has decoded."""

    __slots__ = ()

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read the decoded answer."""
        return call.hear(result.data)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the two methods of `voyageai.api_resources.api_requestor`; returns what to restore."""
    restore = Restore()
    wrap(module, "APIRequestor.request", _look, meter, restore)
    wrap(module, "APIRequestor.arequest", _look_async, meter, restore)
    return restore


def _look(
    client: Any, args: list[Any], kwargs: dict[str, Any], asked_by: Callable[[], AskedBy] | None = None
) -> SentExchange | None:
    _, path = args[:2]  # POST, the path
    body = kwargs.get("params")
    api = api_of(path, "voyage_ai")
    if api is None or not isinstance(body, Mapping):
        return None
    url = f"{client.base_url}{path}"
    endpoint, _ = located(url, "voyage_ai")
    put = functools.partial(kwargs.__setitem__, "params")
    return VoyageExchange(api, endpoint, body, False, put, kind="voyage", asked_by=asked_by)


def _look_async(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    # It sends with aiohttp, whose answers can be given back; `requests`, which the other uses, cannot be handed bytes.
    voyageai = sys.modules["voyageai"]

    def asked_by() -> AskedBy:
        sender = voyageai.aiosession.get()  # the program's; else one is made for each request
        more = client.api_key, voyageai.proxy
        return AskedBy(f"{client.base_url}{args[1]}", [kwargs.get("headers")], more, clients=(sender,))

    return _look(client, args, kwargs, None if kwargs.get("files") else asked_by)
