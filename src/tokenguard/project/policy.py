"""The policy that a project starts with: observe mode, and budgets that its recorded traffic would not have reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tokenguard.facts.dollars import dollars
from tokenguard.report.engine import Records
from tokenguard.report.figures import ask
from tokenguard.report.query import Query

ROOM: Final = 3.0
"""A suggested budget is so many times the most expensive day, rounded up."""

HEAD: Final = """\
# TokenGuard's policy. Every key: tokenguard policy show. Check it: tokenguard policy check.
# "observe" records what each rule would do and changes nothing. Change it to "enforce" when the report shows what you
# expect: tokenguard report --by rule,action
mode = "observe"
"""

LIMITS: Final = """
[[limit]]
name = "agents stop"
max_tool_steps = 20          # rounds of tool calls since the last user message

[[limit]]
name = "every answer has a cap"
max_output_tokens = 4096     # the budget below reserves this much for a call
then = "clamp"               # lower or add the output cap; do not refuse
"""


@dataclass(frozen=True)
class Traffic:
    """What was recorded, as far as budgets go. USD."""

    days: int = 0
    dearest_day: float = 0.0
    tenants: int = 0
    dearest_tenant_day: float = 0.0


def traffic(records: Records) -> Traffic:
    """What the recorded calls say."""
    days = [row.figures["cost_usd"] or 0.0 for row in ask(records, Query(by=("day",))).rows]
    by_tenant = [row for row in ask(records, Query(by=("tenant", "day"))).rows if row.keys[0] is not None]
    return Traffic(
        len(days),
        max(days, default=0.0),
        len({row.keys[0] for row in by_tenant}),
        max((row.figures["cost_usd"] or 0.0 for row in by_tenant), default=0.0),
    )


def first_policy(seen: Traffic) -> str:
    """The text of `tokenguard.toml`."""
    return HEAD + LIMITS + _budgets(seen)


def _budgets(seen: Traffic) -> str:
    if not seen.dearest_day:
        return _budget("all calls per day", 20.0, "no calls are recorded yet: set what a day may cost")
    many = "the one recorded day" if seen.days == 1 else f"the most expensive of {seen.days} recorded days"
    why = f"{many} cost {dollars(seen.dearest_day)}"
    text = _budget("all calls per day", round_up(seen.dearest_day * ROOM), why)
    if seen.tenants > 1:
        why = f"the most expensive day of one of {seen.tenants} tenants cost {dollars(seen.dearest_tenant_day)}"
        text += _budget("tenant per day", round_up(seen.dearest_tenant_day * ROOM), why, 'per = ["tenant"]\n')
    return text


def _budget(name: str, limit: float, why: str, per: str = "") -> str:
    amount = f"limit_usd = {limit:.15g}  # {why}"
    return f'\n[[budget]]\nname = "{name}"\n{per}window = "day"\n{amount}\nalert_at = [0.5, 0.8, 1.0]\n'


def round_up(usd: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ...

    >>> round_up(0.0834), round_up(3.0), round_up(61)
    (0.1, 5.0, 100.0)
    """
    if usd <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(usd))
    found = next((step * power for step in (1, 2, 5) if step * power >= usd * (1 - 1e-9)), 10 * power)
    return float(f"{found:.6g}")
