"""The policy file: its grammar as values, reading it, and which of its rules apply to a call."""

from __future__ import annotations

from tokenguard.policy.load import from_mapping, load, loads
from tokenguard.policy.match import CompiledPolicy, Matched
from tokenguard.policy.model import (
    Alerts,
    Attribution,
    Breaker,
    Budget,
    Ceiling,
    LedgerConfig,
    Limit,
    Policy,
    Share,
    When,
)
from tokenguard.policy.windows import window_bounds

__all__ = [
    "Alerts",
    "Attribution",
    "Breaker",
    "Budget",
    "Ceiling",
    "CompiledPolicy",
    "LedgerConfig",
    "Limit",
    "Matched",
    "Policy",
    "Share",
    "When",
    "from_mapping",
    "load",
    "loads",
    "window_bounds",
]
