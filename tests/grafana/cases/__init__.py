"""The cases of every alert."""

from __future__ import annotations

from . import budgets, cache, calls, spend, telemetry
from .case import SCENARIOS, Case

__all__ = ["CASES", "SCENARIOS", "Case"]

CASES = [*spend.CASES, *cache.CASES, *budgets.CASES, *calls.CASES, *telemetry.CASES]
