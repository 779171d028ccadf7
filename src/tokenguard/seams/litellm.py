"""litellm: what does not go through the OpenAI SDK goes through its `HTTPHandler` or `AsyncHTTPHandler`.

Both are httpx, whatever transport is below (aiohttp is, for the asynchronous one); the providers' own wire formats are
sent there, so each is read as what it is. `aiohttp_openai/` alone has a handler that speaks aiohttp itself. Everything
above (routers, fallbacks, caches, litellm's retries) is made of these calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any
from weakref import ref

from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.common.addressed import exchange_at
from tokenguard.seams.common.sending import SentExchange, wrap
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.signing import signed_again

PROVIDERS = {
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "text-completion-codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "aiohttp_openai": "openai",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "xai": "x_ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "moonshot": "moonshot_ai",
}
"""litellm's names of providers that are called otherwise here."""


asked: ContextVar[Callable[[], Any]] = ContextVar("tokenguard_litellm_asked", default=lambda: None)
"""The `Logging` of what litellm does now: made as it begins, it learns on the way whom litellm asks."""


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap those of the classes below that `module` defines; returns what to restore."""
    restore = Restore()
    for kind, wrap_methods in CLASSES.items():
        owner = getattr(module, kind, None)
        if owner is not None and owner.__module__ == module.__name__:
            wrap_methods(owner, meter, restore)
    return restore


def _handler(owner: Any, meter: Meter, restore: Restore) -> None:
    wrap(owner, "post", _look, meter, restore)
    # How the asynchronous one sends again over a new connection, once.
    for name in ("single_connection_post_request", "single_connection_request"):
        wrap(owner, name, _look, meter, restore, optional=True)


def _aiohttp_handler(owner: Any, meter: Meter, restore: Restore) -> None:
    replace(restore, owner, "_make_common_async_call", _read)
    wrap(owner, "_make_common_async_call", _look_aiohttp, meter, restore)


def _logging(owner: Any, meter: Meter, restore: Restore) -> None:
    def init(original: Any) -> Any:
        def begin(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            meter.contain("noting a call", _note, self)

        return begin

    replace(restore, owner, "__init__", init)


def _note(logging: Any) -> None:
    asked.set(ref(logging))


CLASSES = {
    "HTTPHandler": _handler,
    "AsyncHTTPHandler": _handler,
    "BaseLLMAIOHTTPHandler": _aiohttp_handler,
    "Logging": _logging,
}
"""By the name of a class, what wraps it."""


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    url = str(args[0] if args else kwargs["url"])
    key = next((key for key in ("json", "data", "content") if kwargs.get(key)), "json")
    given = kwargs.get(key)
    try:
        body = json.loads(given) if isinstance(given, str | bytes) else given
    except ValueError:  # a form, a file
        return None
    if not isinstance(body, Mapping):
        return None
    headers = kwargs.get("headers") or {}
    signed = any(name.lower() == "x-amz-date" for name in headers)

    def put(url: str, body: Mapping[str, Any]) -> None:
        sent = body if isinstance(given, Mapping) else json.dumps(body)
        if signed:
            fresh = signed_again(headers, url, sent) if isinstance(sent, str) else None
            if fresh is None:
                raise GuardrailViolation(
                    f"{url}: the request is signed, and how is not known, so that it cannot be changed any more. Use a "
                    'limit with then = "block" for it, or lower the cap in the application.',
                    rule="signed request",
                )
            kwargs["headers"] = fresh
        kwargs[key] = sent
        if args:
            args[0] = url
        else:
            kwargs["url"] = url

    stream = bool(kwargs.get("stream"))
    sent_by = None if kwargs.get("files") else headers  # whose content is not known here
    sends, query = kwargs.get("client") or client.client, kwargs.get("params")
    return exchange_at(
        url, body, stream, _provider(), put, sender="litellm", headers=sent_by, client=sends, query=query
    )


def _provider() -> str:
    named = str(getattr(asked.get()(), "model_call_details", {}).get("custom_llm_provider") or "")
    return PROVIDERS.get(named, named)


def _look_aiohttp(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    body = kwargs.get("data")
    if not isinstance(body, Mapping):
        return None

    def put(url: str, body: Mapping[str, Any]) -> None:
        kwargs["data"] = body

    return exchange_at(str(kwargs["api_base"]), body, False, _provider(), put, sender="litellm")


def _read(original: Any) -> Any:
    """What has the whole response there, as its caller is going to; aiohttp keeps what it has read."""

    async def send(*args: Any, **kwargs: Any) -> Any:
        response = await original(*args, **kwargs)
        await response.read()
        return response

    return send
