"""Regular expressions that are compiled when they are first used: most runs use few, and each takes 0.2 ms."""

from __future__ import annotations

import re
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr

compiler: Callable[..., re.Pattern[Any]] = re.compile
"""What compiles them; the linter puts one in its place that remembers."""


class _Lazy:
    def __init__(self, text: str | bytes, flags: int) -> None:
        self._given = (text, flags)
        self.pattern = text

    def __getattr__(self, name: str) -> Any:
        compiled = compiler(*self._given)
        for method in ("search", "match", "fullmatch", "findall", "finditer", "sub", "split"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """`re.compile`, but at the first use."""
    waiting: Any = _Lazy(text, flags)
    pattern: re.Pattern[AnyStr] = waiting
    return pattern
