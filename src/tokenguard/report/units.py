"""What was billed by other than tokens: pictures, seconds, characters, pages, searches, by model."""

from __future__ import annotations

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
    "requests": names.REQUESTS,
}
"""The units, with the attributes that count them."""


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
