"""The options of the pytest plugin, as a table. Imported at every start of pytest, so it imports nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

BASELINE: Final = os.path.join(".tokenguard", "baseline.json")

OPTIONS: Final = {
    "": ("", "measure the tests' LLM calls and print what they cost, without any budget"),
    "-max-cost": ("USD", "what the calls of the whole run may cost"),
    "-max-calls": ("N", "how many calls the whole run may make"),
    "-then": ("fail|stop", "what happens at these two: the run fails at its end, or further calls are refused [fail]"),
    "-update": ("", f"write what each test spent to {BASELINE}"),
    "-tolerance": ("10%", "how far a test may grow beyond its baseline"),
    "-growth": ("fail|warn|ignore", "what a test does that has grown further than that [fail]"),
    "-json": ("FILE", "write what was spent, by test and by call, to FILE"),
    "-top": ("N", "how many tests the summary lists [10]"),
}
"""By what follows `--tokenguard`: the value's form (empty: a switch) and the sentence. Each has an ini key, too."""


RULE: Final = "pytest session"
"""The `rule` of calls that are refused because the run's budget is spent."""
USAGE_ERROR: Final = "tokenguard-usage-error"
"""The plugin that is registered where a worker has found something wrong."""


def ini(end: str) -> str:
    """The ini key of an option.

    >>> ini("-max-cost")
    'tokenguard_max_cost'
    """
    return f"tokenguard{end}".replace("-", "_")


def setting(config: pytest.Config, end: str) -> Any:
    """What the command line says, or else the ini file; `None` when neither does."""
    said = config.getoption(ini(end))
    return config.getini(ini(end)) if said is None and end != "-update" else said
