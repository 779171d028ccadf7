"""A case of an alert: what happens, and whether it fires; and the six scenarios that each alert has cases of."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

FIRING, QUIET, THIN, RESTART, GAP, NEWCOMER = SCENARIOS = (
    "firing",
    "not firing",
    "thin traffic",
    "a restart",
    "a gap",
    "a newcomer",
)
"""A newcomer is a new tenant, account, feature, model or service: whatever has no past, and is born with a value."""


class Case(NamedTuple):
    """An alert, what happens, and whether it fires at any time in the hours before the look."""

    alert: str
    what: str
    fires: bool | str
    """Or the one `reason` that the alert gives."""
    series: dict
    hours: float = 6
    """When to look."""
    before: float = 1000
    """How far back it may have fired."""
    minutes: int = 5
    """Between two samples, and two evaluations."""
    recording: bool = True
    """Whether the series are raw, and the recording rules run."""
    of: str = ""
    """One of `SCENARIOS`; by default whether it fires."""

    def __str__(self):
        return f"{self.alert.removeprefix('TokenGuard')}, {self.scenario}: {self.what}"

    @property
    def scenario(self):
        return self.of or (FIRING if self.fires else QUIET)


thin, restart, gap, newcomer = (partial(Case, of=scenario) for scenario in (THIN, RESTART, GAP, NEWCOMER))
