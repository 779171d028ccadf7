"""A fleet's spans in ClickHouse as records: the collector's own `otel_traces`, or a narrow table fed from it.

The collector's exporter writes each span's attributes to one column, a `Map` of texts or (with `json: true`) of type
`JSON`: both are read. Where a table `tokenguard_calls` stands beside it, that one is asked, which takes a hundredth of
the time; `tokenguard store ddl clickhouse` prints how it is made.

Schema: https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import USAGE_ATTRIBUTES
from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers import operations
from tokenguard.report.engine import Dialect
from tokenguard.report.lines import shown
from tokenguard.report.otlp import AGENTS
from tokenguard.store.layout import COLUMNS
from tokenguard.store.parquet import sql_type

SCHEMES: Final = {"clickhouse": False, "clickhouses": True}
"""The schemes of a source, and whether they are encrypted."""
ENV_PASSWORD: Final = "CLICKHOUSE_PASSWORD"  # noqa: S105 - its name
TABLE: Final = "otel_traces"
CALLS: Final = "tokenguard_calls"
TASKS: Final = "tokenguard_tasks"
MISSING: Final = "ClickHouse is asked through its client. Install it: pip install 'tokenguard-otel[clickhouse]'"
SETTINGS: Final = {"prefer_column_name_to_alias": 1, "cast_keep_nullable": 1}
KNOWN: Final = frozenset(COLUMNS.values())
NUMBERS: Final = (*USAGE_ATTRIBUTES.values(), names.SERVER_PORT, names.TOOL_CALLS, names.BATCH_LINES)
"""Attributes without a column that are numbers, where a map has all as texts."""


class Form(NamedTuple):
    """How a column has a span's attributes."""

    attribute: Callable[[str], str]
    """The SQL of an attribute's value as text, null where there is none."""
    named: Callable[[str], str]
    """Whether an attribute's name begins so."""
    text: str
    """Those that have no column, as JSON; or all of them, as `_plain` takes them."""


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))


def _path(key: str) -> str:
    """A path in a JSON column."""
    return "attributes.{}".format(".".join(f"`{part}`" for part in key.replace("`", "").split(".")))


_NUMBERS = ", ".join(map(_quoted, NUMBERS))
_IN_COLUMNS = ", ".join(map(_quoted, COLUMNS.values()))
_REST = f"mapFilter((k, v) -> k NOT IN ({_IN_COLUMNS}), attributes)"
MAP: Final = Form(
    attribute=lambda key: f"nullIf(attributes[{_quoted(key)}], '')",
    named=lambda beginning: f"arrayExists(k -> startsWith(k, {_quoted(beginning)}), mapKeys(attributes))",
    text="concat('{', arrayStringConcat(arrayMap((k, v) -> concat(toJSONString(k), ':', if(v IN ('true', 'false') OR "
    f"(startsWith(v, '[') AND isValidJSON(v)) OR (k IN ({_NUMBERS}) AND isValidJSON(v)), v, toJSONString(v))), "
    f"mapKeys({_REST}), mapValues({_REST})), ','), '}}')",
)
JSON: Final = Form(
    attribute=lambda key: f"CAST({_path(key)}, 'Nullable(String)')",
    named=lambda beginning: f"arrayExists(k -> startsWith(k, {_quoted(beginning)}), JSONAllPaths(attributes))",
    text="toJSONString(attributes)",
)
FORMS: Final[Mapping[str, Form]] = {"map": MAP, "json": JSON}


def _column(form: Form, column: str) -> str:
    """An attribute in the type of its column; a number that is none is null."""
    value = form.attribute(COLUMNS[column])
    cast = {"BIGINT": "toInt64OrNull", "DOUBLE": "toFloat64OrNull"}.get(sql_type(column))
    return f"{cast}({value})" if cast else value


def _outcome(form: Form) -> str:
    refused = f"{form.attribute(names.GUARD_ACTION)} = '{names.BLOCK}' AND {form.attribute(names.GUARD_MODE)} IS NULL"
    given_up = f"{form.attribute(names.COST_BASIS)} IN ('abandoned_stream', 'cancelled')"
    return (
        f"CASE WHEN {refused} THEN '{names.BLOCKED}' WHEN StatusCode IN ('Error', 'STATUS_CODE_ERROR') "
        f"THEN '{names.ERROR}' WHEN {given_up} THEN '{names.ABANDONED}' ELSE '{names.OK}' END"
    )


def _is_call(form: Form) -> str:
    """Whether a span is a model call's, as `sources` has it of OTLP-JSON."""
    operation = form.attribute(names.OPERATION)
    known = ", ".join(map(_quoted, sorted(operations() - {AGENTS})))
    return (
        f"({form.attribute(names.COST_STATUS)} IS NOT NULL OR {operation} IN ({known}) OR "
        f"({operation} = '{AGENTS}' AND {form.named('tokenguard.')}))"
    )


_NUMBER: Final = "toInt64(bitShiftRight(cityHash64(TraceId, SpanId), 1)) AS id"
_FIXED: Final = "toUnixTimestamp64Nano(Timestamp) AS start_ns, toInt64(Duration) AS duration_ns"


def _spans(table: str) -> str:
    """The collector's table, with the attributes by the name that they have here."""
    return f"(SELECT TraceId, SpanId, Timestamp, Duration, StatusCode, SpanAttributes AS attributes FROM {table})"  # noqa: S608


def select_calls(form: Form, table: str) -> str:
    """The calls of the collector's table, with the columns of a store."""
    columns = ", ".join(f'{_column(form, column)} AS "{column}"' for column in COLUMNS)
    return (
        f"SELECT {_NUMBER}, {_FIXED}, {_outcome(form)} AS outcome, TraceId AS trace_id, SpanId AS span_id, {columns}, "  # noqa: S608
        f"attributes FROM {_spans(table)} WHERE {_is_call(form)}"
    )


def select_tasks(form: Form, table: str) -> str:
    """The tasks that ended, by their spans."""
    told = {"name": names.TASK, "outcome": names.TASK_OUTCOME}
    texts = ", ".join(f"coalesce({form.attribute(name)}, char(63)) AS {column}" for column, name in told.items())
    return (
        f"SELECT {_NUMBER}, {_FIXED}, {texts}, "  # noqa: S608 - our own names
        f"coalesce(toFloat64OrNull({form.attribute(names.TASK_COST)}), 0.0) AS cost_usd, "
        f"coalesce(toInt64OrNull({form.attribute(names.TASK_CALLS)}), 0) AS calls, attributes FROM {_spans(table)} "
        f"WHERE {form.attribute(names.TASK_OUTCOME)} IS NOT NULL AND {form.attribute(names.TASK_RUN)} IS NOT NULL"
    )


def dialect(form: Form, calls: str, tasks: str) -> Dialect:
    """What ClickHouse says in its own words."""

    def attribute(column: str, key: str) -> str:
        return form.attribute(names.attribution_attribute(key) if column == "attribution" else key)

    return Dialect(
        calls=calls,
        tasks=tasks,
        stamp=lambda ns, pattern: (
            f"formatDateTime(fromUnixTimestamp64Nano({ns}, 'UTC'), '{pattern.replace('%M', '%i')}')"
        ),
        quantile=lambda value, q: f"quantileExactInclusive({q})({value})",
        glob=lambda text: f"match({text}, ?)",
        pattern=as_regex,
        attribute=attribute,
        came="start_ns",
    )


def as_regex(glob: str) -> str:
    r"""A glob of SQLite's as a regular expression.

    >>> as_regex("support_*"), as_regex("a?[bc]."), as_regex("[x")
    ('(?s)^support_.*$', '(?s)^a.[bc]\\\\.$', '(?s)^\\\\[x$')
    """
    parts = re.findall(r"\[\^?\]?[^\]]*\]|.", glob, re.DOTALL)
    special = {"*": ".*", "?": "."}
    return "(?s)^{}$".format(
        "".join(
            special.get(part) or (part.replace("\\", "\\\\") if len(part) > 1 else re.escape(part)) for part in parts
        )
    )


# --- the client ------------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """Where a table is."""

    host: str
    port: int
    user: str
    password: str
    database: str
    table: str
    secure: bool


def address(source: str) -> Address:
    """`clickhouse://[user[:password]@]host[:port][/database[/table]]`; the password may be in the environment."""
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError as error:
        raise TokenGuardError(f"the address of ClickHouse cannot be read: {error}") from None
    if not parts.hostname or parse_qs(parts.query):
        raise TokenGuardError("a source in ClickHouse is clickhouse://user@host:8123/database/otel_traces")
    secure = SCHEMES[parts.scheme]
    database, _, table = unquote(parts.path.strip("/")).partition("/")
    for name in filter(None, (database, table)):
        if not re.fullmatch(r"\w+", name):
            raise TokenGuardError(f"{name!r} is no name of a database or a table in ClickHouse")
    return Address(
        parts.hostname,
        port or (8443 if secure else 8123),
        unquote(parts.username or "default"),
        unquote(parts.password or "") or os.environ.get(ENV_PASSWORD, ""),
        database or "default",
        table or TABLE,
        secure,
    )


class ClickRecords:
    """The calls and tasks of a fleet. Raises `TokenGuardError` where they cannot be read."""

    summed: int | None = None
    toolsets = False

    def __init__(self, source: str) -> None:
        at = address(source)
        try:
            import clickhouse_connect
            from clickhouse_connect.driver.exceptions import ClickHouseError
        except ModuleNotFoundError:
            raise TokenGuardError(MISSING) from None
        self._error = ClickHouseError
        self._shown = shown(source)
        try:
            self._client = clickhouse_connect.get_client(
                host=at.host,
                port=at.port,
                username=at.user,
                password=at.password,
                database=at.database,
                secure=at.secure,
                settings=SETTINGS,
                autogenerate_session_id=False,
            )
        except ClickHouseError as error:
            raise self._told(error) from None
        self.dialect = self._dialect(at)

    def _told(self, error: Exception) -> TokenGuardError:
        said = str(error).strip().partition("\n")[0][:300]
        return TokenGuardError(f"{self._shown}: cannot be read: {said}")

    def _dialect(self, at: Address) -> Dialect:
        columns = dict(
            self.rows(
                "SELECT concat(table, '.', name), type FROM system.columns WHERE database = ? AND table IN (?, ?, ?)",
                (at.database, at.table, CALLS, TASKS),
            )
        )
        kind = columns.get(f"{at.table}.SpanAttributes") or columns.get(f"{CALLS}.attributes")
        if kind is None:
            raise TokenGuardError(
                f"{self._shown}: has no table {at.table} of the OpenTelemetry collector's. Name one as "
                "clickhouse://host/database/table"
            )
        form = JSON if kind.startswith(("JSON", "Object")) else MAP
        table = f"{at.database}.{at.table}"
        narrow = f"{CALLS}.start_ns" in columns and at.table in (TABLE, CALLS)
        calls = f"{at.database}.{CALLS}" if narrow else f"({select_calls(form, table)})"
        tasks = f"{at.database}.{TASKS}" if narrow else f"({select_tasks(form, table)})"
        # All the attributes as one text, last: it is made where it is asked for.
        return dialect(form, f"(SELECT *, {form.text} AS more FROM {calls})", tasks)  # noqa: S608 - our own SQL

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        kinds = {int: "Int64", float: "Float64", str: "String"}
        first, *rest = sql.split("?")
        asked = first + "".join(
            f"{{v{n}:{kinds[type(value)]}}}{text}" for n, (value, text) in enumerate(zip(values, rest, strict=True))
        )
        named = {f"v{n}": value for n, value in enumerate(values)}
        try:
            found = self._client.query(asked, parameters=named)
        except self._error as error:
            raise self._told(error) from None
        at = found.column_names.index("more") if "more" in found.column_names else None
        return [tuple(_plain(each) if n == at else each for n, each in enumerate(row)) for row in found.result_rows]

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON, which may have a key twice: as a value, and as what is below it."""


def _plain(text: str) -> str:
    """Attributes as JSON by their whole names, less those that have a column: ClickHouse nests them at their dots."""
    return json.dumps(
        {key: value for key, value in _flat(json.loads(text, object_pairs_hook=_Pairs)) if key not in KNOWN}
    )


def _flat(pairs: _Pairs, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in pairs:
        if isinstance(value, _Pairs):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


# --- the narrow table ------------------------------------------------------------------------------------------------


def _type(column: str) -> str:
    kind = {"BIGINT": "Nullable(Int64)", "DOUBLE": "Nullable(Float64)"}.get(sql_type(column))
    many = column in ("user", "tenant", "conversation_id", "response_id", "fingerprint", "request_hash", "task_run")
    return kind or ("Nullable(String)" if many else "LowCardinality(Nullable(String))")


def ddl(form: str = "map", table: str = TABLE) -> str:
    """The statements of the narrow tables, of what fills them as spans come, and of what fills them once."""
    attributes = {"map": "Map(LowCardinality(String), String)", "json": "JSON"}[form]
    own = ",\n    ".join(f'"{column}" {_type(column)}' for column in COLUMNS)
    engine = "ENGINE = MergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY start_ns"
    times = "id Int64, start_ns Int64, duration_ns Int64"
    calls, tasks = select_calls(FORMS[form], table), select_tasks(FORMS[form], table)
    return f"""\
-- Narrow tables beside {table}, which tokenguard asks where they are. New spans go in as they come.
CREATE TABLE IF NOT EXISTS {CALLS} (
    {times},
    outcome LowCardinality(String), trace_id String, span_id String,
    {own},
    attributes {attributes}
) {engine};
CREATE TABLE IF NOT EXISTS {TASKS} (
    {times},
    name String, outcome LowCardinality(String), cost_usd Float64, calls Int64,
    attributes {attributes}
) {engine};
CREATE MATERIALIZED VIEW IF NOT EXISTS {CALLS}_fill TO {CALLS} AS
{calls};
CREATE MATERIALIZED VIEW IF NOT EXISTS {TASKS}_fill TO {TASKS} AS
{tasks};

-- Once, for the spans that are there already. Leave it out where there are none:
INSERT INTO {CALLS}
{calls};
INSERT INTO {TASKS}
{tasks};
"""
