"""huggingface_hub: every task of an `InferenceClient` goes through `_inner_post`; chat is the one with usage."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk, api_of, located
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore

HTTP = "huggingface_hub.utils._http"
"""Where the HTTP clients come from, by a function that the program may set."""


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the client in `_client` or in `_generated._async_client`; returns what to restore."""
    restore = Restore()
    if hasattr(module, "AsyncInferenceClient"):
        wrap(module, "AsyncInferenceClient._inner_post", functools.partial(_look, _sender_async), meter, restore)
    else:
        sender = lambda client: module.get_session()  # noqa: E731
        wrap(module, "InferenceClient._inner_post", functools.partial(_look, sender), meter, restore)
    return restore


def _sender_async(client: Any) -> object:
    """The client's own HTTP client, or one as it is about to make; `None` for what adds nothing."""
    own = getattr(client, "_async_client", None)
    make = getattr(sys.modules.get(HTTP), "_GLOBAL_ASYNC_CLIENT_FACTORY", None)
    return own if own is not None or make is None or make.__module__ == HTTP else make()


def _look(sender: Callable[[Any], Any], client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    request = args[0] if args else kwargs["request_parameters"]
    endpoint, path = located(request.url, "huggingface")
    api = api_of(path, "huggingface")
    if api is None or not isinstance(request.json, Mapping):
        return None
    stream = bool(kwargs.get("stream"))
    asked = request.json.get("model")

    def put(body: Mapping[str, Any]) -> None:
        request.json = body
        if (model := body.get("model")) != asked:
            # Hugging Face's own inference names the model in its URL as well.
            request.url = request.url.replace(f"/models/{asked}/", f"/models/{model}/")

    def asked_by() -> AskedBy:
        given = [client.headers, request.headers]
        return AskedBy(
            request.url, given, (client.cookies, getattr(client, "proxies", None)), clients=(sender(client),)
        )

    return SentExchange(api, endpoint, request.json, stream, put, kind="huggingface", encode=_line, asked_by=asked_by)


def _line(line: str | bytes) -> bytes:
    return (line.encode() if isinstance(line, str) else line) + b"\n"
