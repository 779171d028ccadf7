"""Calls and tasks out of OTLP-JSON, as OpenTelemetry's collector writes it to files (`format: json`)."""

from __future__ import annotations

import gzip
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord, TaskRecord
from tokenguard.providers import operations
from tokenguard.report.lines import GZIP_MAGIC, WOULD_DO, SourceError, begins
from tokenguard.store.layout import COLUMNS, packed

AGENTS: Final = "invoke_agent"
"""The operation of agents. A framework's own spans of it carry sums of the calls within, which are not counted again;
where the agent is the provider's, the span is TokenGuard's."""
OURS: Final = "tokenguard."
COUNTED: Final = frozenset(
    [
        *(COLUMNS[column] for column in COLUMNS if column.endswith(("_tokens", "_usd"))),
        names.TASK_COST,
        names.TASK_CALLS,
    ]
)
"""Attributes that reports add up."""
MAY_BE_NEGATIVE: Final = frozenset({names.COST_SAVED})
PLAIN_PREFIX: Final = "tokenguard."
PLAIN_KEYS: Final = frozenset(map(names.attribution_attribute, names.ATTRIBUTION_KEYS))
Ended = AttributeValue | tuple[str, int]
"""Which task it was: its run, or its name and its start, as stores have them; its span starts with it."""
BREAKS: Final = {column: name for column, name in COLUMNS.items() if column.startswith("break_")}
"""What the span `cache_break` below a call's says of it: the columns with their attributes."""


class Lines:
    """What files of OTLP-JSON hold, one after the other: calls, the tasks that no store has, and what came late."""

    def __init__(self, ended: Iterable[tuple[str, int]]) -> None:
        self._ended: set[Ended] = set(ended)
        self._late: dict[tuple[str, str], dict[str, AttributeValue]] = {}
        """What spans below those of calls say of these, by trace and span id."""

    def records(self, path: Path) -> Iterator[CallRecord | TaskRecord]:
        """The calls of a file, and the tasks that are in no store and no line before. Raises `SourceError`."""
        opener = gzip.open if begins(path, GZIP_MAGIC) else open
        with cast("IO[bytes]", opener(path, "rb")) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    records = self._of_line(json.loads(line, parse_constant=_no_number))
                except RecursionError as error:
                    raise SourceError(f"{path}, line {number}: no OTLP-JSON (nested too deep). {WOULD_DO}") from error
                except (ValueError, TypeError, AttributeError, KeyError) as error:
                    if number > 1 and not line.endswith(b"\n"):
                        return  # the collector is still writing it
                    raise SourceError(
                        f"{path}, line {number}: no OTLP-JSON ({type(error).__name__}: {error}). {WOULD_DO}"
                    ) from error
                yield from records

    def _of_line(self, line: Mapping[str, Any]) -> list[CallRecord | TaskRecord]:
        """What one line holds: spans, or the logs of coding agents. Lines of metrics have other keys."""
        found = [
            record
            for resource in line.get("resourceSpans") or ()
            for scope in resource.get("scopeSpans") or ()
            for span in scope.get("spans") or ()
            if (record := self._record(span)) is not None
        ]
        for resource in line.get("resourceLogs") or ():
            found += _logged(resource)
        return found

    def _record(self, span: Mapping[str, Any]) -> CallRecord | TaskRecord | None:
        attributes = _attributes(span)
        if names.BREAK_KIND in attributes and names.OPERATION not in attributes:  # below a call, and none itself
            _check_numbers(attributes)
            whose = (str(span.get("traceId") or ""), str(span.get("parentSpanId") or ""))
            self._late[whose] = {key: attributes[key] for key in BREAKS.values() if key in attributes}
            return None
        return _call(span, attributes) or _task(span, attributes, self._ended)

    def add_late(self, connection: sqlite3.Connection) -> None:
        """Give the calls what was found out of them after they had ended, wherever it stood in the files."""
        changes = ", ".join(f"{column} = ?" for column in BREAKS)
        with connection:
            connection.execute("CREATE INDEX IF NOT EXISTS call_rows_by_span ON call_rows (trace_id, span_id)")
            connection.executemany(
                f"UPDATE call_rows SET {changes} WHERE trace_id = ? AND span_id = ? AND break_kind IS NULL",  # noqa: S608
                ((*map(said.get, BREAKS.values()), *map(packed, whose)) for whose, said in self._late.items()),
            )


def _attributes(span: Mapping[str, Any]) -> dict[str, AttributeValue]:
    return {
        str(each["key"]): value
        for each in span.get("attributes") or ()
        if (value := _value(each.get("value"))) is not None
    }


def _logged(resource: Mapping[str, Any]) -> Iterator[CallRecord]:
    """The calls in the logs of coding agents."""
    from tokenguard.report.coding import call  # knows prices, which take a while to load

    whose = _attributes(resource.get("resource") or {})
    for scope in resource.get("scopeLogs") or ():
        for log in scope.get("logRecords") or ():
            at = next((at for at in (log.get("timeUnixNano"), log.get("observedTimeUnixNano")) if int(at or 0)), None)
            name = log.get("eventName") or (log.get("body") or {}).get("stringValue") or ""
            if (record := call(_attributes(log), whose, str(name), at)) is not None:
                yield record


def _call(span: Mapping[str, Any], attributes: dict[str, AttributeValue]) -> CallRecord | None:
    """A span as a record, if it is a model call's. Raises what a malformed span makes Python raise."""
    operation = attributes.get(names.OPERATION)
    known = operation in operations()
    ours = known and any(name.startswith(OURS) for name in attributes)
    if names.COST_STATUS not in attributes and not ours and (not known or operation == AGENTS):
        return None
    _check_numbers(attributes)
    start, end = (_nanoseconds(span.get(key)) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    trace_id, span_id = (str(span.get(key) or "") for key in ("traceId", "spanId"))
    return CallRecord(start, max(0, end - start), _outcome(span, attributes), attributes, trace_id, span_id)


def _task(span: Mapping[str, Any], attributes: dict[str, AttributeValue], ended: set[Ended]) -> TaskRecord | None:
    """A span as a task, if it is one's. Raises what a malformed span makes Python raise."""
    run = attributes.get(names.TASK_RUN)
    if names.TASK_OUTCOME not in attributes or run is None or run in ended:
        return None
    start, end = (_nanoseconds(span.get(key)) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    name = str(attributes.get(names.TASK, "?"))
    if (name, start) in ended:
        return None
    ended.add(run)
    _check_numbers(attributes)
    attribution = {
        key.removeprefix(names.attribution_attribute("")).removeprefix(PLAIN_PREFIX): str(value)
        for key, value in attributes.items()
        if key.startswith(names.attribution_attribute("")) or key in PLAIN_KEYS
    }
    return TaskRecord(
        name=name,
        start_ns=start,
        duration_ns=max(0, end - start),
        outcome=str(attributes[names.TASK_OUTCOME]),
        cost_usd=float(cast("float", attributes.get(names.TASK_COST, 0.0))),
        calls=int(cast("int", attributes.get(names.TASK_CALLS, 0))),
        attribution=attribution,
    )


def _check_numbers(attributes: Mapping[str, AttributeValue]) -> None:
    """Raise `ValueError` for a cost or a count that is none: a sum with it in would be none either."""
    for name in COUNTED:
        value = attributes.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} is no number: {value!r}")
        if value < 0 and name not in MAY_BE_NEGATIVE:
            raise ValueError(f"{name} is negative: {value!r}")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _outcome(span: Mapping[str, Any], attributes: Mapping[str, AttributeValue]) -> str:
    if attributes.get(names.GUARD_ACTION) == names.BLOCK and names.GUARD_MODE not in attributes:
        return names.BLOCKED
    if (span.get("status") or {}).get("code") in (2, "STATUS_CODE_ERROR"):
        return names.ERROR
    if attributes.get(names.COST_BASIS) in (names.ABANDONED_STREAM, "cancelled"):
        return names.ABANDONED
    return names.OK


def _nanoseconds(value: Any) -> int:
    """A Unix time, which JSON carries as a string."""
    time = int(value or 0)
    if not 0 <= time < 2**63:
        raise ValueError(f"no Unix time in nanoseconds: {value}")
    return time


def _value(value: Mapping[str, Any] | None) -> AttributeValue | None:
    """An OTLP attribute value; integers come as strings, as JSON has no 64-bit ones. Maps and bytes are left out."""
    for kind, content in (value or {}).items():
        if kind == "intValue":
            return int(content)
        if kind == "doubleValue":
            return float(content)
        if kind == "arrayValue":
            return tuple(str(_value(each)) for each in content.get("values") or ())
        if kind in ("stringValue", "boolValue"):
            return cast("str | bool", content)
    return None
