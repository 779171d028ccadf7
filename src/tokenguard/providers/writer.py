"""Writer's wire formats: OpenAI's shapes, at a path of its own."""

from __future__ import annotations

from tokenguard.providers import openai

CHAT = openai.CHAT._replace(paths=("/v1/chat",), caps=("max_tokens",))

APIS = (CHAT,)
