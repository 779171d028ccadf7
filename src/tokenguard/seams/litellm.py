"""litellm: what does not go through the OpenAI SDK goes through its `HTTPHandler` or `AsyncHTTPHandler`.

Both are httpx, whatever transport is below (aiohttp is, for the asynchronous one); the providers' own wire formats are
sent there, so each is read as what it is. `aiohttp_openai/` alone has a handler that speaks aiohttp itself. Everything
above (routers, fallbacks, caches, litellm's retries) is made of these calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.errors import GuardrailViolation
from tokenguard.metering import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.addressed import exchange_at
from tokenguard.seams.sending import SentExchange, wrap
from tokenguard.seams.signing import signed_again
from tokenguard.seams.wrapping import Restore, replace

PROVIDERS = {
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
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


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the handlers of `http_handler`, or the one of `aiohttp_handler`; returns what to restore."""
    restore: Restore = []
    for name in ("HTTPHandler", "AsyncHTTPHandler"):
        if (owner := module.__dict__.get(name)) is not None and owner.__module__ == module.__name__:
            wrap(owner, "post", _look, meter, restore)
            # How it sends again over a new connection, once.
            wrap(owner, "single_connection_post_request", _look, meter, restore)
    if (owner := getattr(module, "BaseLLMAIOHTTPHandler", None)) is not None:
        replace(restore, owner, "_make_common_async_call", _read)
        wrap(owner, "_make_common_async_call", _look_aiohttp, meter, restore)
    return restore


def _look(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    url = args[0] if args else kwargs["url"]
    key = next((key for key in ("json", "data", "content") if kwargs.get(key)), "json")
    given = kwargs.get(key)
    body = json.loads(given) if isinstance(given, str | bytes) else given
    if not isinstance(body, Mapping):
        return None
    details = getattr(kwargs.get("logging_obj"), "model_call_details", None) or {}
    named = str(details.get("custom_llm_provider") or "")
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
    return exchange_at(str(url), body, stream, PROVIDERS.get(named, named), put, sender="litellm")


def _look_aiohttp(client: Any, args: list[Any], kwargs: dict[str, Any]) -> SentExchange | None:
    body = kwargs.get("data")
    if not isinstance(body, Mapping):
        return None

    def put(url: str, body: Mapping[str, Any]) -> None:
        kwargs["data"] = body

    return exchange_at(str(kwargs["api_base"]), body, False, "openai", put, sender="litellm")


def _read(original: Any) -> Any:
    """What has the whole response there, as its caller is going to; aiohttp keeps what it has read."""

    async def send(*args: Any, **kwargs: Any) -> Any:
        response = await original(*args, **kwargs)
        await response.read()
        return response

    return send
