"""portkey-ai's own client, beside the OpenAI SDK that it carries: prompts that are saved at the gateway.

Every request of it goes through `_request`, which calls itself to send again. It names a prompt, whose model and words
the gateway knows; the answer is as in chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import Call
from tokenguard.metering.meter import Meter
from tokenguard.providers import Reading, Sdk, api_of, located
from tokenguard.providers.portkey import prompt_of
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.tap import tap
from tokenguard.seams.common.wrapping import Restore


class Exchange(SentExchange):
    """One request; a stream has its response, an answer the headers that came with it."""

    __slots__ = ()

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read the SDK's model, or put a tap on what is yet to be read."""
        response: Any = getattr(result, "response", None)
        if hasattr(response, "iter_bytes"):
            call.came_with(response.headers)
            tap(response, call)
            return None
        call.came_with(getattr(result, "_headers", None))
        return call.hear(result)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the two clients of `portkey_ai.api_resources.base_client`; returns what to restore."""
    restore = Restore()
    wrap(module, "APIClient._request", _look, meter, restore)
    wrap(module, "AsyncAPIClient._request", _look, meter, restore)
    return restore


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    options = kwargs["options"]
    api = api_of(options.url, "portkey") if options.method == "post" else None
    if api is None or not isinstance(options.json_body, Mapping):
        return None
    endpoint, _ = located(str(client._client.base_url), "portkey")
    named = {"prompt_id": found} if (found := prompt_of(options.url)) else {}

    def put(body: Mapping[str, Any]) -> None:
        options.json_body = {key: value for key, value in body.items() if key not in named}

    def cap(most: int) -> None:
        kwargs["retry_count"] = max(kwargs.get("retry_count", 0), client.max_retries - most)

    return Exchange(api, endpoint, {**options.json_body, **named}, bool(kwargs.get("stream")), put, cap=cap)
