"""Why costs are estimates, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.prices.made import FEES, MADE, made
from tokenguard.prices.models import SPELLINGS
from tokenguard.prices.rates import DERIVED
from tokenguard.prices.tiers import FACTORS, SERVICES, STANDARD, assumed
from tokenguard.report.reasons import REASONS, reason

MARKS = {mark for mark, _ in FACTORS} | {service for service in SERVICES.values() if service} | {"tier"}
BASES = {
    *(assumed([mark], "openai")[1] for mark in MARKS),
    *(derived.basis for derived in DERIVED.values()),
    *(spelling.basis for spelling in SPELLINGS),
    *(fee.basis for fee in FEES),
    *(rates.basis for row in MADE if (rates := made(row.sellers.split()[0], row.models[0].rstrip("$"), STANDARD))),
} - {None}


@pytest.mark.parametrize("basis", sorted(BASES))
def test_every_basis_has_words(basis):
    """What a price can be marked with is said in words, and not by its name."""
    assert " " in reason(basis)
    assert basis not in reason(basis)


def test_the_page_has_every_reason():
    """docs/concepts/cost.md says each basis that has words of its own."""
    page = (Path(__file__).parents[2] / "docs/concepts/cost.md").read_text()
    assert [basis for basis in REASONS if f"`{basis}`" not in page and basis] == []
