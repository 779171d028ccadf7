"""Integrations that send with an httpx client of their own, and with no SDK.

The client's `send` is the one place: chat, streams, embeddings, and each time tenacity has it sent again. A client is
made with its owner, maybe before TokenGuard is there, or by the application; so the methods that are about to use it
are watched, and give it a subclass of its own class first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.common.addressed import exchange_at
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore, replace

METHODS = {
    "langchain_mistralai.chat_models": ("ChatMistralAI.completion_with_retry", "acompletion_with_retry"),
    "langchain_mistralai.embeddings": ("MistralAIEmbeddings.embed_documents", "MistralAIEmbeddings.aembed_documents"),
}
"""By watched module: what sends. The first argument of each is the owner of the clients."""

CLIENTS = ("client", "async_client")
"""Where an owner has them."""


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what uses the clients in `module`; returns what to restore."""
    restore = Restore()
    kinds: dict[type, type] = {}

    def watch(owner: Any) -> None:
        for client in (getattr(owner, name, None) for name in CLIENTS):
            kind = type(client)
            if client is None or kind in kinds.values():
                continue
            if kind not in kinds:
                kinds[kind] = type(kind.__name__, (kind,), {"__module__": kind.__module__})
                wrap(kinds[kind], "send", look, meter, restore)
            client.__class__ = kinds[kind]

    def look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
        request = args[0] if args else kwargs["request"]
        if request.method != "POST" or request.headers.get("content-type") != "application/json":
            return None

        def put(url: str, body: Mapping[str, Any]) -> None:
            headers = {name: value for name, value in request.headers.items() if name != "content-length"}
            fresh = type(request)("POST", url, headers=headers, json=body, extensions=request.extensions)
            if args:
                args[0] = fresh
            else:
                kwargs["request"] = fresh

        body = json.loads(request.content)
        stream, headers = bool(kwargs.get("stream")), request.headers
        url, sender = str(request.url), sdk.package
        return exchange_at(url, body, stream, sdk.provider, put, sender=sender, headers=headers, client=client)

    def watching(original: Callable[..., Any]) -> Callable[..., Any]:
        def use(*args: Any, **kwargs: Any) -> Any:  # its value may be a coroutine: it is passed on as it is
            if args:
                meter.contain("watching a client", watch, args[0])
            return original(*args, **kwargs)

        return use

    for path in METHODS[sdk.module]:
        replace(restore, module, path, watching)
    return restore
