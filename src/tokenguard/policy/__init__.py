"""The policy file: its grammar as values, reading it, and which of its rules apply to a call.

The names are imported when they are used: most programs have no policy file, and should not pay for its grammar.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tokenguard.policy.caching import AnswersConfig, Cache
    from tokenguard.policy.files import from_mapping, load, loads
    from tokenguard.policy.grammar import When
    from tokenguard.policy.match import CompiledPolicy, Matched
    from tokenguard.policy.model import (
        Alerts,
        Attribution,
        Breaker,
        Budget,
        Ceiling,
        FinopsConfig,
        LedgerConfig,
        Limit,
        Policy,
        Route,
        Share,
        StoreConfig,
    )
    from tokenguard.policy.windows import window_bounds

_WHERE = {
    "caching": ("AnswersConfig", "Cache"),
    "files": ("from_mapping", "load", "loads"),
    "grammar": ("When",),
    "match": ("CompiledPolicy", "Matched"),
    "model": (
        "Alerts",
        "Attribution",
        "Breaker",
        "Budget",
        "Ceiling",
        "FinopsConfig",
        "LedgerConfig",
        "Limit",
        "Policy",
        "Route",
        "Share",
        "StoreConfig",
    ),
    "windows": ("window_bounds",),
}
_MODULES = {name: module for module, named in _WHERE.items() for name in named}

__all__ = [
    "Alerts",
    "AnswersConfig",
    "Attribution",
    "Breaker",
    "Budget",
    "Cache",
    "Ceiling",
    "CompiledPolicy",
    "FinopsConfig",
    "LedgerConfig",
    "Limit",
    "Matched",
    "Policy",
    "Route",
    "Share",
    "StoreConfig",
    "When",
    "from_mapping",
    "load",
    "loads",
    "window_bounds",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
