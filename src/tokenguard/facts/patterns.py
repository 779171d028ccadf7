"""Patterns that are compiled when they are first asked for: to compile all of them is a good part of a start."""

from __future__ import annotations

import re
from functools import cache


@cache
def compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern, of this program's own text: each is remembered for good."""
    return re.compile(pattern, flags)
