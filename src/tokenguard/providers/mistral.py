"""Mistral's wire formats: OpenAI's chat shape, but streams tell their usage unasked, and the asking is refused."""

from __future__ import annotations

from tokenguard.providers import openai

CHAT = openai.CHAT._replace(
    paths=("/chat/completions", "/agents/completions"), caps=("max_tokens",), include_usage=False
)
FIM = openai.COMPLETIONS._replace(paths=("/fim/completions",), include_usage=False)
"""Fill in the middle: a prompt and a suffix, answered in chat's shape."""
EMBEDDINGS = openai.EMBEDDINGS._replace(read=openai.read_chat)
"""They tell of zero tokens of output."""

APIS = (CHAT, FIM, EMBEDDINGS)
