"""huggingface_hub: every task of an `InferenceClient` goes through `_inner_post`; chat is the one with usage."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk, api_of, located
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the client in `_client` or in `_generated._async_client`; returns what to restore."""
    restore = Restore()
    kind = "AsyncInferenceClient" if hasattr(module, "AsyncInferenceClient") else "InferenceClient"
    wrap(module, f"{kind}._inner_post", _look, meter, restore)
    return restore


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
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

    asked_by = lambda: AskedBy(request.url, [request.headers])  # noqa: E731
    return SentExchange(api, endpoint, request.json, stream, put, kind="huggingface", encode=_line, asked_by=asked_by)


def _line(line: str | bytes) -> bytes:
    return (line.encode() if isinstance(line, str) else line) + b"\n"
