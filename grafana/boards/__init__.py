"""The dashboards: what each panel asks, and why."""

from __future__ import annotations

from .budgets import BUDGETS
from .cost import COST
from .finops import FINOPS
from .overview import OVERVIEW
from .reliability import RELIABILITY
from .waste import WASTE

__all__ = ["BUDGETS", "COST", "FINOPS", "OVERVIEW", "RELIABILITY", "WASTE"]

BOARDS = (OVERVIEW, COST, FINOPS, WASTE, BUDGETS, RELIABILITY)
