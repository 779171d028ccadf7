"""Regular expressions that are compiled when they are first used: most runs use few, and compiling all takes 15 ms."""

from __future__ import annotations

import re
from typing import Any, cast


class _Lazy:
    def __init__(self, text: str, flags: int) -> None:
        self._given = (text, flags)

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._given)
        for method in ("search", "match", "fullmatch", "findall", "finditer", "sub", "pattern"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy(text: str, flags: int = 0) -> re.Pattern[str]:
    """`re.compile`, but at the first use."""
    return cast("re.Pattern[str]", _Lazy(text, flags))
