"""What a bill says, in one form for all providers: money by day, model and kind, and the tokens it is for."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple

INPUT: Final = "input"
OUTPUT: Final = "output"
CACHE_READ: Final = "cache_read"
CACHE_WRITE: Final = "cache_write"
TOOLS: Final = "tools"
KINDS: Final = (INPUT, OUTPUT, CACHE_READ, CACHE_WRITE)


class InvoiceError(TokenGuardError):
    """A bill that cannot be read: where, what is wrong with it, and the next step."""


class Billed(NamedTuple):
    """Money on one day's bill."""

    day: str
    """UTC, as 2026-11-25."""
    provider: str
    """OpenTelemetry's name."""
    usd: Decimal
    model: str | None = None
    kind: str | None = None
    """One of `KINDS`, or `TOOLS`; `None` where the bill does not say."""
    account: str | None = None
    """Whose: a project, a workspace, a key, an account."""
    credit: bool = False
    what: str = ""
    """In the bill's own words."""


class Counted(NamedTuple):
    """Tokens that the provider counted on one day. `input` is what was neither read from a cache nor written to one."""

    day: str
    provider: str
    model: str | None
    kind: str
    tokens: int
    account: str | None = None


Line = Billed | Counted

_DATED: Final = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2})$")
_BEDROCK: Final = re.compile(
    r"^(?:(?:us|eu|apac|jp|au|global)\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen)\.|-v\d+(?::\d+)?$"
)


def bare(model: str | None) -> str:
    """A model's name without its maker and its date, by which bills and answers agree.

    >>> bare("openai/gpt-4o-mini-2024-07-18"), bare("claude-haiku-4-5-20251001"), bare(None)
    ('gpt-4o-mini', 'claude-haiku-4-5', '')
    """
    return _DATED.sub("", _BEDROCK.sub("", (model or "").strip().lower().rpartition("/")[2]))


def alike(model: str | None) -> tuple[str, ...]:
    """What two names of one model have in common: their words, in any order and however joined.

    >>> alike("us.anthropic.claude-haiku-4-5-20251001-v1:0") == alike("Claude4.5Haiku")
    True
    """
    return tuple(sorted(re.findall(r"[a-z]+|\d+", bare(model))))
