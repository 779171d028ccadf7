"""`Figures`: what calls amount to, as numbers that can be added, sent between processes and written to files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.facts.record import CallRecord
from tokenguard.facts.tuples import NamedTuple


class Figures(NamedTuple):
    """What some calls amount to. What is not known adds nothing, and is counted beside what is."""

    calls: int = 0
    """Calls that were sent."""
    blocked: int = 0
    """Calls that a guard refused; nothing was sent."""
    input_tokens: int = 0
    """All input, cached input included."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cacheable_tokens: int = 0
    """The input of the calls whose provider says what came from its cache."""
    cost_usd: float = 0.0
    unpriced: int = 0
    """Calls whose cost is not known."""
    unreported: int = 0
    """Calls that are on the bill, and whose tokens the provider did not report."""
    estimated: int = 0
    """Calls whose cost is an estimate."""
    retries: int = 0
    tool_steps: int = 0

    @property
    def cache_hit(self) -> float | None:
        """The share of the input that came from the cache; `None` when no provider told."""
        return self.cache_read_tokens / self.cacheable_tokens if self.cacheable_tokens else None

    def plus(self, other: Sequence[float]) -> Figures:
        """The sum, number by number."""
        return Figures(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type] # as they were


def figures_of(record: CallRecord) -> Figures:
    """The figures of one call. One that the provider refused has no cost: it is not billed."""
    if record.outcome == names.BLOCKED:
        return Figures(blocked=1)
    usage, cost, seen = record.usage, record.cost, record.attributes
    cached = None if usage is None else usage.cache_read
    resent = seen.get(names.RESEND_COUNT, 0)
    return Figures(
        calls=1,
        input_tokens=(usage and usage.input) or 0,
        output_tokens=(usage and usage.output) or 0,
        cache_read_tokens=cached or 0,
        cacheable_tokens=0 if usage is None or cached is None else usage.input or 0,
        cost_usd=(cost and cost.total) or 0.0,
        unpriced=cost is not None and cost.total is None,
        unreported=cost is not None and (usage is None or usage.input is None),
        estimated=cost is not None and cost.status == names.ESTIMATED,
        retries=(resent if isinstance(resent, int) else 0) + (names.RETRY_ATTEMPT in seen),
        tool_steps=int(names.TOOL_STEPS in seen),
    )


def total(several: Iterable[Figures]) -> Figures:
    """The sum of several."""
    sum_ = Figures()
    for each in several:
        sum_ = sum_.plus(each)
    return sum_


def usd(amount: float) -> str:
    """Dollars with as many digits as say something.

    >>> usd(2.5), usd(0.0123), usd(0.0002832), usd(0.0004), usd(0)
    ('$2.50', '$0.0123', '$0.000283', '$0.0004', '$0')
    """
    if not amount:
        return "$0"
    whole, point, digits = dollars(amount).partition(".")
    return f"{whole}{point}{digits.rstrip('0').ljust(2, '0')}"


def cost_text(figures: Figures) -> str:
    """The cost, and how far it is known."""
    if figures.unpriced:
        return f">{usd(figures.cost_usd)}" if figures.cost_usd else "unknown"
    return f"~{usd(figures.cost_usd)}" if figures.estimated else usd(figures.cost_usd)


def many(count: int, thing: str) -> str:
    """A count with its noun: `1 call`, `2,000 calls`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of aligned columns: the first `left` and the last of the first row are texts, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
