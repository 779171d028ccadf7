"""How calls lie in a store: their columns, the tables that keep them small, and the view that shows them.

Whoever reads sees one relation, `calls`, with a column for each of `CALL_COLUMNS`; every attribute that has none is in
the JSON of `more`. Beneath it a call is a row of `call_rows`, of some 200 bytes: what many calls have in
common is in `kinds`, once, the names that have many values are in `words`, and identifiers are bytes.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from tokenguard.facts import names

NS_PER_DAY: Final = 86_400 * 10**9

COLUMNS: Final[Mapping[str, str]] = {
    # column: attribute
    "operation": names.OPERATION,
    "provider": names.PROVIDER,
    "request_model": names.REQUEST_MODEL,
    "response_model": names.RESPONSE_MODEL,
    "max_tokens": names.REQUEST_MAX_TOKENS,
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cache_read_tokens": names.CACHE_READ_TOKENS,
    "cache_write_tokens": names.CACHE_WRITE_TOKENS,
    "reasoning_tokens": names.REASONING_TOKENS,
    "error_type": names.ERROR_TYPE,
    "resends": names.RESEND_COUNT,
    "code_file": names.CODE_FILE,
    "code_line": names.CODE_LINE,
    "code_function": names.CODE_FUNCTION,
    "cost_usd": names.COST,
    "input_usd": names.COST_INPUT,
    "output_usd": names.COST_OUTPUT,
    "cache_read_usd": names.COST_CACHE_READ,
    "cache_write_usd": names.COST_CACHE_WRITE,
    "cost_status": names.COST_STATUS,
    "saved_usd": names.COST_SAVED,
    "retry_attempt": names.RETRY_ATTEMPT,
    "retry_cost_usd": names.RETRY_COST,
    "tool_steps": names.TOOL_STEPS,
    "guard_action": names.GUARD_ACTION,
    "guard_rule": names.GUARD_RULE,
    "prevented_usd": names.GUARD_PREVENTED,
    "task": names.TASK,
    "task_run": names.TASK_RUN,
    "temperature": names.REQUEST_TEMPERATURE,
    "first_chunk_s": names.TIME_TO_FIRST_CHUNK,
    "conversation_id": names.CONVERSATION_ID,
    "response_id": names.RESPONSE_ID,
    "fingerprint": names.FINGERPRINT,
    "request_hash": names.REQUEST_HASH,
    **{f"{section}_tokens": names.input_attribute(section) for section in names.INPUT_SECTIONS},
    "toolset": names.INPUT_TOOLSET,
    "answer": names.CACHE_RESULT,
    "answer_reason": names.CACHE_REASON,
    "answer_saved_usd": names.CACHE_SAVED,
    "answer_likeness": names.CACHE_LIKENESS,
    "break_kind": names.BREAK_KIND,
    "break_section": names.BREAK_SECTION,
    "break_index": names.BREAK_INDEX,
    "break_offset": names.BREAK_OFFSET,
    "break_tokens": names.BREAK_TOKENS,
    "break_usd": names.BREAK_USD,
    **{key: names.attribution_attribute(key) for key in names.ATTRIBUTION_KEYS},
}
"""What reports group and add up by, with the attribute that it is."""

IN_JSON_BEFORE: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd"),
    3: ("temperature", "first_chunk_s", "conversation_id"),
    4: ("answer", "answer_reason", "answer_saved_usd"),
    5: ("answer_likeness",),
    6: ("task_run", "response_id", "fingerprint"),
}
"""Columns by the version that brought them: in files of an older one, these attributes are in the JSON."""

FIXED: Final = ("start_ns", "duration_ns", "outcome", "trace_id", "span_id")
CALL_COLUMNS: Final = (*FIXED, *COLUMNS, "more")
TOOLSET_COLUMNS: Final = ("hash", "name", "share")
TASK_COLUMNS: Final = ("name", "start_ns", "duration_ns", "outcome", "cost_usd", "calls", "attribution")
"""What a record is made of: all columns but the row's id."""
Row = tuple[int | None, int, int, str, str, str, Mapping[str, Any], Mapping[str, Any]]
"""What `insert` takes of a call: a number if it has one, what is `FIXED`, attributes, and those for the JSON alone."""

_MARKS: Final = {"id": "nullif(?, 0)", "own": "nullif(?, '')"}
WORDS: Final = ("tenant", "route", "user")
"""Columns with many values, that calls have in no common pattern: each value is kept once, in `words`."""
KIND: Final = (
    *("operation", "provider", "request_model", "response_model", "temperature", "outcome", "error_type", "resends"),
    *("code_file", "code_line", "code_function", "cost_status", "retry_attempt", "tool_steps", "guard_action"),
    *("guard_rule", "task", "toolset", "answer", "answer_reason", "feature"),
    *("prompt_version", "team"),
)
"""Columns that many calls have in common: each set of values is kept once, in `kinds`, with some JSON."""
IDENTIFIERS: Final = ("trace_id", "span_id", "task_run", "fingerprint", "request_hash", "response_id")
"""Columns of hex digits, which are kept as bytes; a response's has a beginning, as `chatcmpl-`, that is in `kinds`."""
BEGINNING: Final = 12
"""Characters of a response's id that may be the same in all: more than that is the identifier itself, as a UUID."""
SHARED: Final = frozenset(
    {
        *(names.REQUEST_STREAM, names.FINISH_REASONS, names.SERVER_ADDRESS, names.SERVER_PORT, names.TOOL_CALLS),
        *(names.COST_BASIS, names.COST_SOURCE, names.REASONING_LEVEL, names.BATCH_ID, names.CACHE_RULE),
        *(names.GUARD_MODE, names.GUARD_ORIGINAL_MODEL, names.ROUTE_RULE, names.ROUTE_VERSION, names.ROUTE_ARM),
        *(names.ROUTE_ORIGINAL_MODEL, names.ROUTE_UNFIT, names.ROUTE_ESCALATION),
    }
)
"""Attributes without a column that many calls have in common. A count of none of something is one, too."""

_encode: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Not `json.dumps`, which makes an encoder for each text."""


def _json(attributes: Mapping[str, Any]) -> str | None:
    return _encode(attributes) if attributes else None


# --- the SQL ---------------------------------------------------------------------------------------------------------


def _quoted(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def marks(count: int) -> str:
    """So many places for values."""
    return ", ".join("?" * count)


def _mark(column: str) -> str:
    """Where a value of the column is bound; of those that most rows have not, no value is 0 or the empty text.

    Not `None`: for that, and for `bytes`, Python's sqlite3 looks for an adapter each time, in 3,000 instructions.
    """
    return "(SELECT id FROM words WHERE word = ?)" if column in WORDS else _MARKS.get(column, "?")


def _declared(column: str) -> str:
    """Amounts are reals, so that zeros take no room; other columns have no type: a value comes back as it went in."""
    return f'"{column}" REAL' if column.endswith(("_usd", "_s")) else f'"{column}"'


def _read(column: str, *, numbered: bool = False, packed: bool = False) -> str:
    """The SQL of a call's column, from what is kept; `numbered`: words stay numbers, `packed`: identifiers bytes."""
    own = f'call_rows."{column}"'
    if column in KIND:
        own = f'kinds."{column}"'
    elif column in IDENTIFIERS and not packed:
        own = f"CASE typeof({own}) WHEN 'blob' THEN lower(hex({own})) ELSE {own} END"
    elif column in WORDS and not numbered:
        own = f"(SELECT word FROM words WHERE words.id = {own})"  # noqa: S608 - our own names
    if column == "response_id" and not packed:
        own = f"CASE beginning WHEN '' THEN {own} ELSE beginning || {own} END"
    return f'{own} AS "{column}"'


TABLES: Final = (
    f"CREATE TABLE kinds (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, {_quoted(KIND)}, beginning, shared)",
    "CREATE TABLE words (id INTEGER PRIMARY KEY, word NOT NULL UNIQUE)",
    "CREATE TABLE call_rows (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, "
    f"{', '.join(_declared(column) for column in CALL_COLUMNS[:-1] if column not in KIND)}, own)",
    "CREATE INDEX call_rows_by_start ON call_rows (start_ns)",
)
MORE: Final = "CASE WHEN shared IS NULL THEN own WHEN own IS NULL THEN shared ELSE json_patch(shared, own) END AS more"


def _select(**as_kept: bool) -> str:
    columns = ", ".join(_read(column, **as_kept) for column in CALL_COLUMNS[:-1])
    return (
        f"SELECT call_rows.id, {columns}, {MORE}, own, shared "  # noqa: S608 - our names
        "FROM call_rows CROSS JOIN kinds ON kinds.id = call_rows.kind"  # in this order
    )


CALLS: Final = _select()
"""What the view `calls` selects."""
NUMBERED: Final = _select(numbered=True)
"""The same with the numbers of `WORDS`: what groups by them looks a word up for each group, and not for each call."""
PACKED: Final = _select(packed=True)
"""The same with `IDENTIFIERS` as they lie: what compares them, and does not tell them, need not write them out."""

# --- keeping ---------------------------------------------------------------------------------------------------------

_INSERT_WORD: Final = "INSERT OR IGNORE INTO words (word) VALUES (?)"
_SELECT_KIND: Final = "SELECT id FROM kinds WHERE digest = ?"
_INSERT_KIND: Final = (
    f"INSERT OR IGNORE INTO kinds (digest, {_quoted(KIND)}, beginning, shared) VALUES ({marks(len(KIND) + 3)})"  # noqa: S608
)


class _Shape:
    """What attributes of some names are to a store: the columns that they fill. Programs have few sets of them."""

    __slots__ = ("identifiers_of", "insert", "json", "kinds", "of_kind", "own_of", "responds", "shared", "words")

    def __init__(self, attributes: tuple[str, ...]) -> None:
        columns = {column: name for name in attributes if (column := _COLUMN_OF.get(name))}
        own = [column for column in columns if column not in KIND and column != _RESPONSE]
        own.sort(key=lambda column: column not in IDENTIFIERS)
        identifiers = [column for column in own if column in IDENTIFIERS]
        self.identifiers_of = _picked(columns[column] for column in identifiers)
        self.own_of = _picked(columns[column] for column in own[len(identifiers) :])
        self.words = tuple(columns[column] for column in own if column in WORDS)
        self.responds = _RESPONSE in columns
        keys = ("id", "kind", "own", *_FIXED, *((_RESPONSE,) if self.responds else ()), *own)
        marked = ", ".join(map(_mark, keys))
        self.insert = f"INSERT INTO call_rows ({_quoted(keys)}) VALUES ({marked})"  # noqa: S608 - our own names
        self.kinds = tuple(column for column in KIND if column in columns)
        self.shared = tuple(name for name in attributes if name not in _COLUMN_OF and name in SHARED)
        self.of_kind = _picked((*map(COLUMNS.__getitem__, self.kinds), *self.shared))
        """Takes the values of `kinds` and of `shared` out of the attributes."""
        self.json = tuple(name for name in attributes if name not in _COLUMN_OF and name not in SHARED)
        """The attributes that have no other place than the JSON."""


_shape_of: Final = functools.lru_cache(maxsize=512)(_Shape)
_COLUMN_OF: Final = {attribute: column for column, attribute in COLUMNS.items()}
_FIXED: Final = tuple(column for column in FIXED if column not in KIND)
_RESPONSE: Final = "response_id"


def _picked(names: Iterable[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What takes these values out of a mapping."""
    some = (*names,)
    return itemgetter(*some) if len(some) > 1 else lambda mapping: tuple(mapping[name] for name in some)


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Keep calls, in the transaction that is open. Raises as SQLite does, or `ValueError` for what JSON cannot hold."""
    numbers: dict[bytes, int] = {}
    words: set[Any] = set()
    batches: dict[_Shape, list[tuple[Any, ...]]] = {}
    for number, start, duration, outcome, trace, span, attributes, more in rows:
        shape = _shape_of(tuple(attributes))
        own: dict[str, Any] = {}
        zeros: dict[str, Any] = {}
        for name in shape.json:
            value = attributes[name]
            (zeros if value == 0 else own)[name] = value
        for name, value in more.items():
            (zeros if value == 0 or name in SHARED else own)[name] = value
        beginning: str = ""
        ids: tuple[Any, ...] = trace, span
        if shape.responds:
            beginning, response = _parted(attributes[names.RESPONSE_ID])
            ids = trace, span, response
        said = shape.of_kind(attributes)
        if zeros:
            said += (*zeros.values(),)
        try:
            digest, kind = _kind(shape, outcome, beginning, (*zeros,), *said)
        except TypeError:  # a list
            digest, kind = _kind.__wrapped__(shape, outcome, beginning, (*zeros,), *said)
        if digest not in numbers:
            numbers[digest] = _number(connection, digest, kind)
        for name in shape.words:
            words.add(attributes[name])
        if (batch := batches.get(shape)) is None:
            batch = batches[shape] = []
        batch.append(
            (
                *(number or 0, numbers[digest], _encode(own) if own else "", start, duration, *map(packed, ids)),
                *(*map(packed, shape.identifiers_of(attributes)), *shape.own_of(attributes)),
            )
        )
    if words:
        connection.executemany(_INSERT_WORD, [(word,) for word in words])
    for shape, batch in batches.items():
        connection.executemany(shape.insert, batch)


@functools.lru_cache(maxsize=512, typed=True)  # 0 is not 0.0
def _kind(
    shape: _Shape, outcome: str, beginning: str, zeros: tuple[str, ...], *said: Any
) -> tuple[bytes, tuple[Any, ...]]:
    """The digest of what a call has in common with others, and that: the values of `KIND`, a beginning, the JSON."""
    columns = {**dict(zip(shape.kinds, said, strict=False)), "outcome": outcome}
    shared = dict(zip((*shape.shared, *zeros), said[len(shape.kinds) :], strict=True))
    kind = (*map(columns.get, KIND), beginning, _json(shared))
    return _digest(kind), kind


def _number(connection: sqlite3.Connection, digest: bytes, kind: tuple[Any, ...]) -> int:
    """The number of what calls have in common; it gets one, if it has none."""
    while (found := connection.execute(_SELECT_KIND, (digest,)).fetchone()) is None:
        connection.execute(_INSERT_KIND, (digest, *kind))
    return int(found[0])


def written(row: Sequence[Any]) -> Row:
    """What `insert` takes of a row of `id` and `CALL_COLUMNS`."""
    number, start, duration, outcome, trace, span, *values, more = row
    attributes = {name: value for name, value in zip(_COLUMN_OF, values, strict=True) if value is not None}
    return number, start, duration, outcome, trace, span, attributes, json.loads(more) if more else {}


def packed(text: Any) -> Any:
    r"""Hex digits as bytes, by twos; what is no such text stays as it is.

    >>> packed("00ff"), packed("0f0"), packed("FF"), packed("")
    (bytearray(b'\x00\xff'), '0f0', 'FF', '')
    """
    if not isinstance(text, str) or text[:1] not in _DIGITS:
        return text
    try:
        packed = _from_hex(text)
    except ValueError:
        return text
    return packed if packed.hex() == text else text


_from_hex: Final = bytearray.fromhex
_DIGITS: Final = frozenset("0123456789abcdef")


def _parted(name: Any) -> tuple[str, Any]:
    """A response's id as its beginning, up to the last dash or underscore, and the rest."""
    if not isinstance(name, str):
        return "", name
    end, other = name.rfind("-") + 1, name.rfind("_") + 1
    if end < other:
        end = other
    return (name[:end], name[end:]) if end <= BEGINNING else ("", name)


def _digest(values: tuple[Any, ...]) -> bytes:
    from hashlib import blake2b  # three milliseconds, that whoever reads needs not

    return blake2b(repr(values).encode(errors="surrogatepass"), digest_size=12).digest()
