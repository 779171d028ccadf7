"""litellm: what does not go through the OpenAI SDK goes through its `HTTPHandler` or `AsyncHTTPHandler`.

The providers' own wire formats are sent there, so each is read as what it is. Everything above (routers, fallbacks,
caches, its retries) is made of these calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.errors import GuardrailViolation
from tokenguard.metering import Meter
from tokenguard.providers import api_of, located
from tokenguard.seams.sending import SentExchange, wrap
from tokenguard.seams.wrapping import Restore

PROVIDERS = {
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "moonshot": "moonshot_ai",
}
"""litellm's names of providers that are called otherwise here."""


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap the two handlers of `litellm.llms.custom_httpx.http_handler`; returns what to restore."""
    restore: Restore = []
    wrap(module.HTTPHandler, "post", _look, meter, restore)
    wrap(module.AsyncHTTPHandler, "post", _look, meter, restore)
    # How it sends again over a new connection, once.
    wrap(module.AsyncHTTPHandler, "single_connection_post_request", _look, meter, restore)
    return restore


def _look(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SentExchange | None:
    url = args[0] if args else kwargs["url"]
    details = getattr(kwargs.get("logging_obj"), "model_call_details", None) or {}
    named = str(details.get("custom_llm_provider") or "litellm")
    endpoint, path = located(str(url), PROVIDERS.get(named, named))
    api = api_of(path, endpoint.provider)
    if api is None:
        return None
    key = next((key for key in ("json", "data", "content") if kwargs.get(key)), "json")
    given = kwargs.get(key)
    body = json.loads(given) if isinstance(given, str | bytes) else given
    if not isinstance(body, Mapping):
        return None
    signed = any(name.lower() == "x-amz-date" for name in kwargs.get("headers") or ())

    def put(body: Mapping[str, Any]) -> None:
        if signed:
            raise GuardrailViolation(
                f"{endpoint.provider} {path}: the request is signed and cannot be changed any more. Use a limit with "
                'then = "block" for what goes through litellm, or lower the cap in the application.',
                rule="signed request",
            )
        kwargs[key] = body if given is not None and isinstance(given, Mapping) else json.dumps(body)

    stream = bool(kwargs.get("stream")) or body.get("stream") is True
    return SentExchange(api, endpoint, body, stream, put, kind="litellm")
