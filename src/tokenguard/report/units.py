"""What was billed by other than tokens: pictures, seconds, characters, pages, searches, by model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from tokenguard.facts import names
from tokenguard.report.engine import Records
from tokenguard.report.measured import measured
from tokenguard.report.query import Query, attribute, conditions

COUNTED: Final[Mapping[str, str]] = {
    "images": names.IMAGES,
    "input_seconds": names.INPUT_SECONDS,
    "output_seconds": names.OUTPUT_SECONDS,
    "characters": names.CHARACTERS,
    "pages": names.PAGES,
    "annotated_pages": names.ANNOTATED_PAGES,
    "token_hours": names.TOKEN_HOURS,
    "requests": names.REQUESTS,
}
"""The units, with the attributes that count them."""


class Rented(NamedTuple):
    """A cache that is paid for by the hour, and is not past its time."""

    resource: str
    model: str | None
    until: float
    """Unix seconds; sooner where somebody has deleted it."""
    cost_usd: float | None


class UnitRow(NamedTuple):
    """How much of one unit the calls to one model came to."""

    operation: str
    model: str | None
    unit: str
    amount: int
    cost_usd: float | None
    """Of these calls, whatever else they are billed by; `None` where it is not known."""


def units(records: Records, query: Query) -> list[UnitRow]:
    """The units of a query's calls, the dearest first; of calls that are pruned nothing is known."""
    kept = measured(records, replace(query, by=("operation",)), ("calls",)).groups
    found = sorted(of for (of,) in kept if of in names.NOT_CAPPED and of != "embeddings")
    if not found:
        return []
    dialect = records.dialect
    where, values = conditions(query, dialect)
    sums = ", ".join(f"sum(CAST({attribute(dialect, 'more', key)} AS BIGINT))" for key in COUNTED.values())
    rows = records.rows(
        f"SELECT operation, coalesce(response_model, request_model), sum(cost_usd), {sums} "  # noqa: S608 - our own names
        f"FROM {dialect.calls} WHERE {where} AND operation IN ({', '.join('?' * len(found))}) GROUP BY 1, 2",
        [*values, *found],
    )
    told = [
        UnitRow(operation, model, unit, int(amount), cost)
        for operation, model, cost, *amounts in rows
        for unit, amount in zip(COUNTED, amounts, strict=True)
        if amount
    ]
    return sorted(told, key=lambda row: (row.cost_usd is None, -(row.cost_usd or 0.0), row.model or "", row.unit))


def rented(records: Records, query: Query) -> list[Rented]:
    """What a query's calls have rented that is not past its time, the next to end first."""
    kept = measured(records, replace(query, by=("operation",)), ("calls",)).groups
    if ("create_cache",) not in kept:
        return []
    dialect = records.dialect
    where, values = conditions(query, dialect)
    until = f"CAST({attribute(dialect, 'more', names.RESOURCE_UNTIL)} AS DOUBLE PRECISION)"
    rows = records.rows(
        f"SELECT {attribute(dialect, 'more', names.RESOURCE)}, request_model, {until}, cost_usd "  # noqa: S608
        f"FROM {dialect.calls} WHERE {where} AND operation = 'create_cache' AND {until} > ? ORDER BY 3",
        [*values, int(time.time())],
    )
    return [Rented(*row) for row in rows]
