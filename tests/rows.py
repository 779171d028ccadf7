"""The rows of a wide table: some, evenly spread, in the quick loop, and the others with what is marked `everywhere`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(rows: Iterable[Any], quick: int) -> list[Any]:
    """For `pytest.mark.parametrize`: all the rows, of which `quick` are not marked `everywhere`.

    Of two tables that multiply, the quick loop runs the product of the quick ones.
    """
    rows = list(rows)
    chosen = {n * len(rows) // quick for n in range(quick)}
    return [
        pytest.param(*row if type(row) is tuple else (row,), marks=[] if n in chosen else [pytest.mark.everywhere])
        for n, row in enumerate(rows)
    ]
