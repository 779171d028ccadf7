"""What the calls of a finding came to."""

from __future__ import annotations

from tokenguard.facts.dollars import dollars
from tokenguard.facts.tuples import NamedTuple


class Spent(NamedTuple):
    """What the calls of a finding came to."""

    usd: float | None
    calls: int
    p50: int | None
    p99: int | None
    """Output tokens of the answers."""
    how: str
    """`line`, `flow` (the calls that an expression is for) or `function`."""

    def says(self) -> str:
        """In a few words."""
        parts = ["cost unknown" if self.usd is None else dollars(self.usd)]
        parts.append(f"{self.calls:,} call{'' if self.calls == 1 else 's'}")
        if self.p50 is not None:
            parts.append(f"answers p50 {self.p50:,}, p99 {self.p99:,} tokens")
        return ", ".join(parts) + (f" (by {self.how})" if self.how != "line" else "")
