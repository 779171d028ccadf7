"""Where a report's records come from: a local store, or OTLP-JSON as OpenTelemetry's collector writes it to files.

Both become a store, on disk or in memory, so that every figure has one definition, in SQL.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import AttributeValue, CallRecord, TaskRecord
from tokenguard.providers import OPERATIONS
from tokenguard.report.engine import Records, SqliteRecords
from tokenguard.store.file import MEMORY, TEMPORARY, gather, open_for_reading
from tokenguard.store.layout import COLUMNS
from tokenguard.store.store import Store

AGENTS = "invoke_agent"
"""The operation of agents. A framework's own spans of it carry sums of the calls within, which are not counted again;
where the agent is the provider's, the span is TokenGuard's."""
OURS = "tokenguard."
COUNTED = frozenset(
    [
        *(COLUMNS[column] for column in COLUMNS if column.endswith(("_tokens", "_usd"))),
        names.TASK_COST,
        names.TASK_CALLS,
    ]
)
"""Attributes that reports add up."""
MAY_BE_NEGATIVE = frozenset({names.COST_SAVED})
PLAIN_PREFIX = "tokenguard."
PLAIN_KEYS = frozenset(map(names.attribution_attribute, names.ATTRIBUTION_KEYS))
Ended = AttributeValue | tuple[str, int]
"""Which task it was: its run, or its name and its start, as stores have them; its span starts with it."""
BATCH = 2000
SQLITE_MAGIC = b"SQLite format 3\x00"
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
WOULD_DO = (
    "Give a store, the lines that the OpenTelemetry collector's file exporter writes (format: json), or a folder that "
    "tokenguard store export wrote."
)


def is_address(source: str) -> bool:
    """Whether a source is a table in ClickHouse."""
    return source.startswith(("clickhouse://", "clickhouses://"))


def shown(source: Path | str) -> str:
    """A source without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1@", str(source)) if isinstance(source, str) else str(source)


class SourceError(TokenGuardError):
    """A source that cannot be read; the message says what it is and what would do."""


class Source(NamedTuple):
    """The records that were asked for."""

    records: Records
    repeated: int = 0
    """Calls that were left out because an earlier source, or an earlier line of OTLP-JSON, has their span."""


def open_sources(given: Sequence[Path | str]) -> Source:
    """The records in what is given: each a store, OTLP-JSON lines (maybe gzipped), Parquet, or a folder of any of them.

    Or one address of a table in ClickHouse.

    A span that several of them hold is counted once, by trace id and span id; a store's record goes before that of a
    file, as it knows more. Parquet is asked where it is, and is not read together with others. Raises `SourceError`.
    """
    tables = [source for source in given if isinstance(source, str) and is_address(source)]
    if tables:
        if len(given) > 1:
            raise SourceError("a table in ClickHouse cannot be read together with others. Ask one after the other")
        from tokenguard.report.clickhouse import ClickRecords

        return Source(ClickRecords(tables[0]))
    paths = [Path(source) for source in given]
    packed = [file for path in paths for file in _parquet_in(path)]
    if packed:
        if other := [path for path in paths if not _parquet_in(path)]:
            raise SourceError(
                f"{other[0]}: is no Parquet, and cannot be read together with it. Ask one after the other"
            )
        from tokenguard.report.duck import DuckRecords

        return Source(DuckRecords(packed))
    stores: dict[Path, Path] = {}
    files: dict[Path, Path] = {}
    for path in paths:
        with _told(path):
            store = path / Path(names.DEFAULT_STORE).name if path.is_dir() else path
            if _begins(store, SQLITE_MAGIC):
                stores[store.resolve()] = store
            else:
                files |= {file.resolve(): file for file in (_lines_in(path) if path.is_dir() else [path])}
    if len(stores) == 1 and not files:
        return Source(_opened(*stores.values()))
    together = Store(TEMPORARY)
    try:
        return _gathered(together, list(stores.values()), list(files.values()))
    except BaseException:
        together.close()
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a source names it, and says what would do."""
    try:
        yield
    except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"{path}: cannot be read: {said}. {WOULD_DO}") from error


def _opened(store: Path) -> Records:
    with _told(store):
        return SqliteRecords(open_for_reading(store))


def empty() -> Records:
    """No records at all."""
    return SqliteRecords(Store(MEMORY).connection())


def _gathered(together: Store, stores: list[Path], files: list[Path]) -> Source:
    """All the records in one temporary store, each span once."""
    connection = together.connection()
    repeated = 0
    for path in stores:
        with _told(path):
            repeated += gather(connection, path)
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM call_rows").fetchone()
    ended: set[Ended] = set(connection.execute("SELECT name, start_ns FROM tasks"))
    for path in files:
        with _told(path):
            records = _records(path, ended)
            while batch := list(islice(records, BATCH)):
                together.write(batch)
    return Source(SqliteRecords(connection), repeated + _forget_repeated(connection, last))


def _forget_repeated(connection: sqlite3.Connection, last: int) -> int:
    """Delete the calls after row `last` whose span an earlier row has; returns how many.

    They are from files, and a collector may write a line again: there is no span twice in one of them either.
    """
    with connection:
        connection.execute("CREATE INDEX IF NOT EXISTS call_rows_by_span ON call_rows (trace_id, span_id)")
        return connection.execute(
            "DELETE FROM call_rows WHERE id > ? AND span_id <> '' AND EXISTS (SELECT 1 FROM call_rows AS earlier WHERE "
            "earlier.trace_id = call_rows.trace_id AND earlier.span_id = call_rows.span_id AND "
            "earlier.id < call_rows.id)",
            (last,),
        ).rowcount


def _begins(path: Path, *magics: bytes) -> bool:
    """Whether a file begins with one of these; not, where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(16).lstrip().startswith(magics)
    except FileNotFoundError:
        return False


def _parquet_in(path: Path) -> list[Path]:
    """The Parquet files of a source, by their beginning and their names."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*.parquet") if each.is_file())
    with suppress(OSError):
        return [path] if _begins(path, PARQUET_MAGIC) else []
    return []


def _lines_in(folder: Path) -> list[Path]:
    """The files in a folder, and in those in it, that hold JSON lines, maybe gzipped: the collector's, rotated ones."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and _begins(each, b"{", GZIP_MAGIC))
    if not files:
        raise SourceError(f"{folder}: holds no store, no OTLP-JSON lines and no Parquet. {WOULD_DO}")
    return files


def _records(path: Path, ended: set[Ended]) -> Iterator[CallRecord | TaskRecord]:
    """The calls of a file, and the tasks that are in no store and no line before; `ended` has those there were."""
    opener = gzip.open if _begins(path, GZIP_MAGIC) else open
    with cast("IO[bytes]", opener(path, "rb")) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                # Lines of metrics and logs have other keys.
                records = [
                    record
                    for resource in json.loads(line, parse_constant=_no_number).get("resourceSpans") or ()
                    for scope in resource.get("scopeSpans") or ()
                    for span in scope.get("spans") or ()
                    if (record := _call(span) or _task(span, ended)) is not None
                ]
            except RecursionError as error:
                raise SourceError(f"{path}, line {number}: no OTLP-JSON (nested too deep). {WOULD_DO}") from error
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                if number > 1 and not line.endswith(b"\n"):
                    return  # the collector is still writing it
                raise SourceError(
                    f"{path}, line {number}: no OTLP-JSON ({type(error).__name__}: {error}). {WOULD_DO}"
                ) from error
            yield from records


def _attributes(span: Mapping[str, Any]) -> dict[str, AttributeValue]:
    return {
        str(each["key"]): value
        for each in span.get("attributes") or ()
        if (value := _value(each.get("value"))) is not None
    }


def _call(span: Mapping[str, Any]) -> CallRecord | None:
    """A span as a record, if it is a model call's. Raises what a malformed span makes Python raise."""
    attributes = _attributes(span)
    operation = attributes.get(names.OPERATION)
    ours = operation in OPERATIONS and any(name.startswith(OURS) for name in attributes)
    if names.COST_STATUS not in attributes and not ours and (operation not in OPERATIONS or operation == AGENTS):
        return None
    _check_numbers(attributes)
    start, end = (_nanoseconds(span.get(key)) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    trace_id, span_id = (str(span.get(key) or "") for key in ("traceId", "spanId"))
    return CallRecord(start, max(0, end - start), _outcome(span, attributes), attributes, trace_id, span_id)


def _task(span: Mapping[str, Any], ended: set[Ended]) -> TaskRecord | None:
    """A span as a task, if it is one's. Raises what a malformed span makes Python raise."""
    attributes = _attributes(span)
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
    if attributes.get(names.COST_BASIS) in ("abandoned_stream", "cancelled"):
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
