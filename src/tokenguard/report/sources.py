"""Where a report's records come from: a local store, or OTLP-JSON as OpenTelemetry's collector writes it to files.

Both become a store, on disk or in memory, so that every figure has one definition, in SQL.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from tokenguard import names
from tokenguard.call import AttributeValue, CallRecord
from tokenguard.errors import TokenGuardError
from tokenguard.store import Store, open_for_reading

OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
"""Operations of calls to a model. Spans of agents and workflows carry sums of these, and are not counted again."""
BATCH = 2000
SQLITE_MAGIC = b"SQLite format 3\x00"
GZIP_MAGIC = b"\x1f\x8b"


class SourceError(TokenGuardError):
    """A source that cannot be read; the message says what it is and what would do."""


def open_source(path: Path) -> sqlite3.Connection:
    """A connection to the records in `path`: a store, a file of OTLP-JSON lines (maybe gzipped), or a folder of them.

    Raises `SourceError`.
    """
    try:
        if path.is_dir():
            files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
            return _from_otlp(files)
        with path.open("rb") as file:
            magic = file.read(16)
        return open_for_reading(path) if magic == SQLITE_MAGIC else _from_otlp([path])
    except (OSError, sqlite3.Error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"{path}: cannot be read: {said}. Give a store, or a file of OTLP-JSON lines.") from error


def _from_otlp(files: list[Path]) -> sqlite3.Connection:
    store = Store(":memory:")
    for file in files:
        records = _records(file)
        while batch := list(islice(records, BATCH)):
            store.write(batch)
    return store.connection()


def _records(path: Path) -> Iterator[CallRecord]:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    with cast("IO[str]", gzip.open(path, "rt") if packed else path.open(encoding="utf-8")) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                batch = json.loads(line)
                if not isinstance(batch, dict):
                    raise TypeError("not an object")
            except (ValueError, TypeError) as error:
                raise SourceError(
                    f"{path}, line {number}: no JSON object ({error}). Give a store, or the lines that the collector's "
                    "file exporter writes."
                ) from error
            # Lines of metrics and logs are none of our business.
            for resource in batch.get("resourceSpans", ()):
                for scope in resource.get("scopeSpans", ()):
                    for span in scope.get("spans", ()):
                        if (record := _call(span)) is not None:
                            yield record


def _call(span: Mapping[str, Any]) -> CallRecord | None:
    """A span as a record, if it is a model call's."""
    attributes = {
        each["key"]: value for each in span.get("attributes", ()) if (value := _value(each.get("value"))) is not None
    }
    if names.COST_STATUS not in attributes and attributes.get(names.OPERATION) not in OPERATIONS:
        return None
    start, end = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
    failed = span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR")
    blocked = attributes.get(names.GUARD_ACTION) == names.BLOCK and names.GUARD_MODE not in attributes
    abandoned = attributes.get(names.COST_BASIS) in ("abandoned_stream", "cancelled")
    outcome = names.BLOCKED if blocked else names.ERROR if failed else names.ABANDONED if abandoned else names.OK
    return CallRecord(start, end - start, outcome, attributes, span.get("traceId", ""), span.get("spanId", ""))


def _value(value: Mapping[str, Any] | None) -> AttributeValue | None:
    """An OTLP attribute value; integers come as strings, as JSON has no 64-bit ones."""
    if not value:
        return None
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return tuple(str(_value(each)) for each in content.get("values", ()))
    return content if isinstance(content, str | bool) else None
