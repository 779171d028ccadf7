"""What was billed by other than tokens: pictures, seconds, characters, pages, searches, by model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.record import USAGE_ATTRIBUTES
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNITS
from tokenguard.report.engine import Records
from tokenguard.report.measured import measured
from tokenguard.report.query import Query, attribute, conditions

COUNTED: Final[Mapping[str, str]] = {
    **{unit: USAGE_ATTRIBUTES[unit] for unit in UNITS},
    "requests": names.REQUESTS,
}
"""The units, with the attributes that count them."""


class Rented(NamedTuple):
    """What is paid for by time, and is not past it: a cache, a vector store, a container."""

    resource: str
    kind: str
    """The operation that made it: `create_cache`, `create_vector_store`, `create_container`."""
    model: str | None
    until: float | None
    """Unix seconds, as the provider told it last; `None`: until somebody deletes it."""
    cost_usd: float | None
    """What it has come to, as far as it is recorded."""


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
    """What a query's calls have rented that is not past its time, the next to end first.

    The last word of each counts: a deletion, or another lifetime.
    """
    kept = measured(records, replace(query, by=("operation",)), ("calls",)).groups
    if not any((operation,) in kept for operation in names.RENTING):
        return []
    dialect = records.dialect
    where, values = conditions(query, dialect)
    until = f"CAST({attribute(dialect, 'more', names.RESOURCE_UNTIL)} AS DOUBLE PRECISION)"
    operations = (*names.RENTING, "rent")
    rows = records.rows(
        f"SELECT {attribute(dialect, 'more', names.RESOURCE)}, operation, request_model, {until}, cost_usd "  # noqa: S608
        f"FROM {dialect.calls} WHERE {where} AND operation IN ({', '.join('?' * len(operations))}) ORDER BY start_ns",
        [*values, *operations],
    )
    last: dict[str, Rented] = {}
    for resource, operation, model, until_s, cost in rows:
        before = last.get(resource)
        if before is None:
            last[resource] = Rented(resource, operation, model, until_s, cost)
        else:
            sums = [each for each in (before.cost_usd, cost) if each is not None]
            kind = operation if operation != "rent" else before.kind
            last[resource] = Rented(resource, kind, before.model or model, until_s, sum(sums) if sums else None)
    now = time.time()
    running = [each for name, each in last.items() if name and (each.until is None or each.until > now)]
    return sorted(running, key=lambda each: (each.until is None, each.until or 0.0))
