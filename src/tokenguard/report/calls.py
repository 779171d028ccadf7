"""Single calls: the dearest, the slowest, the failed, those that were sent again, and one with all its facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import AttributeValue, CallRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.labels import iso
from tokenguard.report.query import COLUMNS, Query, answered, check_keys, conditions, newest
from tokenguard.store.layout import CALL_COLUMNS
from tokenguard.store.store import call_of

ORDERS: Final = {
    "cost": "cost_usd",
    "latency": "duration_ns",
    "first_chunk": "first_chunk_s",
    "input": "input_tokens",
    "output": "output_tokens",
    "time": "start_ns",
}
"""What calls can be sorted by, the largest and the last first."""
SHORT: Final = 8
"""So much of a span id tells calls apart, nearly always."""
MIN_PREFIX: Final = 4
MANY: Final = 20


class Call(NamedTuple):
    """A recorded call."""

    row: int
    record: CallRecord

    @property
    def id(self) -> str:
        """By what it is named: its span id, or `#` and the number of its row where it has none."""
        return self.record.span_id or f"#{self.row}"


class Repeat(NamedTuple):
    """A request that was answered more than once, exactly the same."""

    request: str
    """What its calls have in common: a hash."""
    times: int
    usd: float | None
    repeats_usd: float | None
    """What all but the first answer cost."""
    feature: str | None
    model: str | None
    call_site: str | None
    temperature: float | None
    first_ns: int
    last_ns: int


def calls(
    records: Records, query: Query, sort: str = "cost", *, failed: bool = False, last: int | None = None
) -> list[Call]:
    """The calls of a query, in an order of `ORDERS`; only those that ended in an error, if asked.

    With `last` only so many of the newest rows are looked at.
    """
    check_keys(records, query)
    where, values = _among(records, query, last)
    if failed:
        where += f" AND outcome = '{names.ERROR}'"
    order = f"{ORDERS[sort]} DESC NULLS LAST, start_ns DESC, id"
    return list(_selected(records, f"{where} ORDER BY {order} LIMIT ?", (*values, query.limit or MANY)))


def call(records: Records, name: str) -> Call:
    """The call of an id, or of the beginning of one. Raises `TokenGuardError` where there is none, or several."""
    name = name.strip().lower()
    if name.startswith("#") and name[1:].isdigit():
        found = list(_selected(records, "id = ?", (int(name[1:]),)))
    elif len(name) < MIN_PREFIX or set(name) - set("0123456789abcdef"):
        raise TokenGuardError(
            f"{name!r} is no id of a call: give {MIN_PREFIX} hex digits or more of its span id, or # and the number of "
            "its row, as tokenguard calls shows them"
        )
    else:
        test = f"{records.dialect.glob('span_id')} OR {records.dialect.glob('trace_id')}"
        pattern = records.dialect.pattern(f"{name}*")
        found = list(_selected(records, f"{test} ORDER BY start_ns LIMIT {MANY}", (pattern, pattern)))
    if len(found) == 1:
        return found[0]
    if not found:
        raise TokenGuardError(f"no call has the id {name}: tokenguard calls lists them")
    some = ", ".join(f"#{each.row}" if each.id == found[0].id else each.id for each in found[:5])
    raise TokenGuardError(f"{len(found)} calls have an id that begins with {name}: say which, {some}")


def _selected(records: Records, rest: str, values: tuple[Any, ...]) -> Iterator[Call]:
    columns = ", ".join(f'"{column}"' for column in CALL_COLUMNS)
    for number, *row in records.rows(f"SELECT id, {columns} FROM {records.dialect.calls} WHERE {rest}", values):  # noqa: S608
        yield Call(number, call_of(row))


def _among(records: Records, query: Query, last: int | None) -> tuple[str, list[int | str]]:
    return conditions(query if last is None else newest(records, query, last), records.dialect)


def repeats(records: Records, query: Query, *, last: int | None = None) -> list[Repeat]:
    """The requests that were sent again though they had been answered, the dearest first; of the `last` rows."""
    check_keys(records, query)
    where, values = _among(records, query, last)
    calls = records.dialect.calls
    return [
        Repeat(request, times, usd, None if usd is None else usd * (times - 1) / times, *more)
        for request, times, usd, *more in records.rows(
            "WITH same AS (SELECT request_hash AS request, count(*) AS times, sum(cost_usd) AS usd, "  # noqa: S608
            f"max(id) AS newest, min(start_ns) AS first_ns, max(start_ns) AS last_ns FROM {calls} "
            f"WHERE {where} AND {answered(records.dialect)} GROUP BY 1 HAVING count(*) > 1 "
            "ORDER BY sum(cost_usd * 1.0) * (count(*) - 1) / count(*) DESC NULLS LAST, 2 DESC, 1 LIMIT ?) "
            f"SELECT request, times, usd, feature, {COLUMNS['model']}, {COLUMNS['call_site']}, temperature, first_ns, "
            f"last_ns FROM same JOIN {calls} AS one ON one.id = same.newest "
            "ORDER BY usd * 1.0 * (times - 1) / times DESC NULLS LAST, times DESC, request",
            (*values, query.limit or MANY),
        )
    ]


SECTIONS: Final = (
    ("whose", (names.TASK, *map(names.attribution_attribute, names.ATTRIBUTION_KEYS), "tokenguard.attr.")),
    ("where", ("code.", "server.")),
    ("request", ("gen_ai.operation.", "gen_ai.provider.", "gen_ai.request.", "gen_ai.conversation.")),
    ("answer", ("gen_ai.response.", "error.", "http.", "tokenguard.tool.", "tokenguard.retry.")),
    ("tokens", ("gen_ai.usage.", "tokenguard.input.")),
    ("cost", ("tokenguard.cost.",)),
    ("cache", ("tokenguard.cache.",)),
    ("guard", ("tokenguard.guard.", "tokenguard.route.")),
    ("more", ("",)),
)
"""The parts of a call's facts, with the beginnings of the attributes that are in each: an attribute is in the first."""
PREFIXES: Final = ("gen_ai.", "tokenguard.attr.", "tokenguard.")


def sections(record: CallRecord) -> list[tuple[str, list[tuple[str, AttributeValue]]]]:
    """All the facts of a call, part by part, under the names of their attributes without what those have in common."""
    left = dict(record.attributes)
    parts = []
    for title, beginnings in SECTIONS:
        inside = [key for key in left if key.startswith(beginnings)]
        if inside:
            parts.append((title, [(_short(key), left.pop(key)) for key in sorted(inside)]))
    return parts


def _short(attribute: str) -> str:
    return next((attribute.removeprefix(each) for each in PREFIXES if attribute.startswith(each)), attribute)


def as_facts(found: Call) -> dict[str, Any]:
    """A call for programs: attributes by their full names."""
    record = found.record
    return {
        "id": found.id,
        "start": iso(record.start_ns),
        "start_ns": record.start_ns,
        "duration_s": record.duration_ns / 1e9,
        "outcome": record.outcome,
        "trace_id": record.trace_id or None,
        "span_id": record.span_id or None,
        "attributes": record.attributes,
    }


def shown(label: str, value: AttributeValue) -> str:
    """A fact in words: counts of tokens have separators, ports and lines have none."""
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) and "tokens" in label else str(value)
