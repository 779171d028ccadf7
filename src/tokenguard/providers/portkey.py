"""Portkey's own wire format: a prompt that is saved there, with its model, and answered in chat's shape.

https://portkey.ai/docs/api-reference/inference-api/prompts/prompt-completion
"""

from __future__ import annotations

from tokenguard.facts.patterns import lazy
from tokenguard.providers import openai

PROMPTS = openai.CHAT._replace(
    paths=("/prompts/*/completions",), caps=("max_tokens",), include_usage=False, chosen_by=("prompt_id",)
)
PROMPT = lazy(r"/prompts/([^/?]+)/completions$")


def prompt_of(path: str) -> str | None:
    """The prompt that a request at this path has filled in.

    >>> prompt_of("/prompts/pp-plans-1/completions")
    'pp-plans-1'
    """
    found = PROMPT.search(path)
    return found[1] if found else None


APIS = (PROMPTS,)
