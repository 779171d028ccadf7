"""What a proposal that a change brings would have saved, on the calls that are recorded."""

from __future__ import annotations

from pathlib import Path

from tokenguard.advice.proposal import load
from tokenguard.advice.shown import as_markdown
from tokenguard.advice.waterfall import Waterfall, waterfall
from tokenguard.policy import load as load_policy
from tokenguard.prices import PriceBook
from tokenguard.report.engine import Records
from tokenguard.report.numbers import change, usd
from tokenguard.report.query import Query
from tokenguard.review.section import Section


def is_new(proposal: Path, before: Path) -> bool:
    """Whether a proposal is none that the base has as it is. Raises `OSError`."""
    return not before.is_file() or before.read_bytes() != proposal.read_bytes()


def section(records: Records, query: Query, proposal: Path, before: Path) -> Section | None:
    """The proposal's steps, and what it comes to beside the one that the base has; `None` where no call is recorded."""
    prices = PriceBook(load_policy().prices)
    fall = waterfall(records, query, load(proposal), prices)
    if not fall.calls:
        return None
    lines = [as_markdown(fall, proposal.name).rstrip()]
    old = waterfall(records, query, load(before), prices) if before.is_file() else None
    if old is not None:
        lines += ["", _beside(old, fall)]
    return Section("What if", "\n".join(lines), old is not None and fall.left_usd > old.left_usd * (1 + 1e-9))


def _beside(old: Waterfall, new: Waterfall) -> str:
    by = change(new.left_usd - old.left_usd, old.left_usd)
    return f"As the base has it, it would be {usd(old.left_usd)}; here {usd(new.left_usd)} ({by})."
