"""lm15, of which dspy has a copy: every request goes through `stream` of its own HTTP transport, or `_do_stream`.

They get the whole request, bytes and URL, and bring back a response whose body is an iterator over chunks, which is
watched.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import Call
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.common.addressed import exchange_at
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.tap import Tap
from tokenguard.seams.common.wrapping import Restore

METHODS = {"StdlibTransport": "stream", "StdlibAsyncTransport": "_do_stream"}
"""By transport: what sends."""


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the transport of `transports._sync` or of `transports._async`; returns what to restore."""

    def look(transport: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
        request = args[0] if args else kwargs["request"]
        try:
            body = json.loads(request.body) if request.method == "POST" else None
        except ValueError:  # a form, a file
            return None
        if not isinstance(body, Mapping):
            return None

        def put(url: str, body: Mapping[str, Any]) -> None:
            headers = [(name, value) for name, value in request.headers if name.lower() != "content-length"]
            fresh = dataclasses.replace(request, url=url, body=json.dumps(body).encode(), headers=headers)
            if args:
                args[0] = fresh
            else:
                kwargs["request"] = fresh

        return exchange_at(
            request.url, body, ":streamGenerateContent" in request.url, "", put, sender=sdk.provider, watch=_watch
        )

    restore = Restore()
    kind = "StdlibAsyncTransport" if module.__name__.endswith("_async") else "StdlibTransport"
    wrap(module, f"{kind}.{METHODS[kind]}", look, meter, restore)
    return restore


def _watch(response: Any, call: Call) -> None:
    watch = Tap(call, response.header("content-type") or "")
    chunks = response._chunks
    response._chunks = watch.aread(chunks) if hasattr(chunks, "__aiter__") else watch.read(chunks)
