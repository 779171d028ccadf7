"""The difference between a bill and what was measured, day by day and model by model, each part with its reason.

The order is fixed, so that every dollar has one reason: what is no use of ours first (credits, other accounts, hosted
tools), then tokens that only one side has, then prices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from tokenguard.facts.dollars import dollars
from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.lines import KINDS, TOOLS, Billed, Counted, Line, alike, bare
from tokenguard.invoice.measured import Measured, both

CREDIT: Final = "credit"
OTHERS: Final = "other keys"
HOSTED: Final = "hosted tools"
UNCOVERED: Final = "not covered"
UNBILLED: Final = "not billed"
UNPRICED: Final = "unpriced"
ESTIMATED: Final = "estimated"
PRICE: Final = "price"
ROUNDING: Final = "rounding"
UNEXPLAINED: Final = "unexplained"
REASONS: Final[Mapping[str, str]] = {
    CREDIT: "a credit or a refund, which no call has",
    OTHERS: "projects, workspaces or accounts that [reconcile.projects] does not name",
    HOSTED: "tools of the provider's that are billed by the use, beyond what was measured of them",
    UNCOVERED: "tokens that were billed and that no measured call has: a program, or a process, without TokenGuard",
    UNBILLED: "calls that were measured and are not on the bill: another organization's key, or a bill that is late",
    UNPRICED: "measured calls whose price is not known",
    ESTIMATED: "measured at an estimate, which the bill replaces",
    PRICE: "the same tokens at another price: a discount, a new price, a tier",
    ROUNDING: "less than a cent, or half a thousandth, a day and model",
    UNEXPLAINED: "the bill does not say how many tokens it is for, so use and price cannot be told apart",
}
"""What each kind of difference is."""
CENT: Final = 0.01
SHARE: Final = 0.0005
"""What may be lost to rounding, for one model and day: the larger of the two."""
SAME: Final = 0.001
"""Token counts that differ by less are the same."""

Cell = tuple[str, str, str]
"""Day, provider, model without its date; the model is empty where bills do not say."""


class Part(NamedTuple):
    """One part of the difference."""

    kind: str
    usd: float
    """Billed less measured."""
    day: str
    provider: str
    model: str
    says: str = ""


class Compared(NamedTuple):
    """One day and model: what was billed, what was measured."""

    day: str
    provider: str
    model: str
    billed_usd: float
    measured_usd: float
    parts: tuple[Part, ...]
    account: str = ""
    """Whose: a project or a key, where the comparison is by these."""


def compare(
    lines: Iterable[Line], measured: Mapping[Cell, Measured], accounts: Mapping[str, str] | None = None
) -> list[Compared]:
    """Each cell of the two, by day. `accounts` names those that are ours; `None`: all are."""
    billed: dict[Cell, list[Billed]] = defaultdict(list)
    counted: dict[Cell, list[Counted]] = defaultdict(list)
    lines = list(lines)
    names: dict[tuple[str, ...], str] = {}
    for _, _, model in measured:
        names.setdefault(alike(model), bare(model))
    told = {line.provider for line in lines if isinstance(line, Billed) and line.model}
    for line in lines:
        model = names.get(alike(line.model)) or bare(line.model)
        cell = (line.day, line.provider, model if line.provider in told else "")
        if isinstance(line, Billed):
            billed[cell].append(line)
        elif accounts is None or line.account in accounts:
            counted[cell].append(line)
    ours: dict[Cell, Measured] = {}
    for (day, provider, model), found in measured.items():
        cell = (day, provider, names[alike(model)] if provider in told else "")
        ours[cell] = both(ours[cell], found) if cell in ours else found
    has_usage = {line.provider for line in lines if isinstance(line, Counted)}
    return [
        _compared(cell, billed[cell], counted[cell], ours.get(cell, Measured()), cell[1] in has_usage, accounts)
        for cell in sorted({*billed, *ours, *(cell for cell in counted if counted[cell])})
    ]


def _compared(
    cell: Cell,
    billed: list[Billed],
    counted: list[Counted],
    measured: Measured,
    has_usage: bool,
    accounts: Mapping[str, str] | None,
) -> Compared:
    parts: list[Part] = []

    def part(kind: str, usd: float, says: str = "") -> None:
        parts.append(Part(kind, usd, *cell, says))

    rest: list[Billed] = []
    for line in billed:
        if line.credit:
            part(CREDIT, float(line.usd), line.what)
        elif accounts is not None and line.account not in accounts:
            part(OTHERS, float(line.usd), line.account or "no account")
        else:
            rest.append(line)
    hosted = sum(float(line.usd) for line in rest if line.kind == TOOLS)
    used = sum(float(line.usd) for line in rest if line.kind != TOOLS)
    if abs(hosted - measured.tools_usd) > CENT / 100:
        names = ", ".join(sorted({line.what for line in rest if line.kind == TOOLS})) or "measured alone"
        part(HOSTED, hosted - measured.tools_usd, names)
    own = measured.usd - measured.tools_usd
    left = used - own
    small = max(CENT, SHARE * max(used, own))
    if abs(left) > small:
        for kind, usd, says in _reasons(rest, counted, measured, own, left, small, has_usage):
            part(kind, usd, says)
            left -= usd
    if abs(left) > 1e-9:
        part(ROUNDING, left)
    return Compared(*cell, sum(float(line.usd) for line in billed), measured.usd, tuple(parts))


def _reasons(
    billed: list[Billed],
    counted: list[Counted],
    measured: Measured,
    own: float,
    left: float,
    small: float,
    has_usage: bool,
) -> Iterable[tuple[str, float, str]]:
    if not measured.calls:
        yield UNCOVERED, left, "no call to it was measured that day"
        return
    if not any(line.kind != TOOLS for line in billed):
        yield UNBILLED, left, f"{measured.calls:,} calls"
        return
    if has_usage:
        extra, tokens = _beyond(billed, counted, measured)
        if abs(extra) > small:
            yield (
                (UNCOVERED, extra, f"{tokens:,} tokens more than measured")
                if extra > 0
                else (
                    UNBILLED,
                    extra,
                    f"{-tokens:,} tokens fewer than measured",
                )
            )
            left -= extra
    if left > small and measured.unpriced:
        yield UNPRICED, left, f"{measured.unpriced:,} calls"
        return
    if abs(left) > small and measured.estimated_usd:
        taken = max(-measured.estimated_usd, min(left, measured.estimated_usd))
        yield ESTIMATED, taken, f"{dollars(measured.estimated_usd)} of it is an estimate"
        left -= taken
    if abs(left) > small:
        if has_usage:
            yield PRICE, left, f"billed at {(own + left) / own:.3f} times the measured price" if own else "billed"
        else:
            yield UNEXPLAINED, left, ""


def _beyond(billed: list[Billed], counted: list[Counted], measured: Measured) -> tuple[float, int]:
    """The tokens that only one side has, at what one of each kind is billed, or else measured; USD and tokens."""
    theirs = dict.fromkeys(KINDS, 0)
    for count in counted:
        theirs[count.kind] = theirs.get(count.kind, 0) + count.tokens
    by_kind: dict[str | None, float] = defaultdict(float)
    for line in billed:
        by_kind[line.kind] += float(line.usd)
    total, usd, tokens = sum(theirs.values()), 0.0, 0
    mean = sum(by_kind.values()) / total if total else 0.0
    for kind, their in theirs.items():
        mine = measured.tokens.get(kind, 0)
        if abs(their - mine) <= SAME * max(their, mine):
            continue
        rate = by_kind[kind] / their if by_kind.get(kind) and their else None
        if rate is None:
            rate = measured.parts.get(kind, 0.0) / mine if mine and measured.parts.get(kind) else mean
        usd += (their - mine) * rate
        tokens += their - mine
    return usd, tokens


def factors(compared: Iterable[Compared]) -> dict[tuple[str, str], float]:
    """Billed over measured, by provider and model, for the same tokens: what a measured cost is to be multiplied by.

    Only of days on which the price, or an estimate, was off; 1 where nothing was.
    """
    own: dict[tuple[str, str], float] = defaultdict(float)
    off: dict[tuple[str, str], float] = defaultdict(float)
    for cell in compared:
        key = (cell.provider, cell.model)
        own[key] += cell.measured_usd
        off[key] += sum(part.usd for part in cell.parts if part.kind in (PRICE, ESTIMATED, ROUNDING))
    return {key: (usd + off[key]) / usd for key, usd in own.items() if usd > 0}
