"""How calls lie in a store: their columns, the tables that keep them small, and the view that shows them.

Whoever reads sees one relation, `calls`, with a column for each of `CALL_COLUMNS`; every attribute that has none is in
the JSON of `more`. Beneath it a call is a row of `call_rows`, of some 200 bytes: what many calls have in
common is in `kinds`, once, the names that have many values are in `words`, and identifiers are bytes.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.process.hashes import marshalled

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
WRITTEN: Final = ("id", *FIXED, *COLUMNS, "own", "shared")
"""What `insert` takes of a call: its number if it has one, and what has no column in two JSONs, as `divided` has it."""

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

_OWN: Final = tuple(column for column in CALL_COLUMNS[:-1] if column not in KIND)
"""The columns of a call's own row, but for its JSON."""


def divided(attributes: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Attributes as two JSONs: a call's own, and those that many calls share. Raises `ValueError` for what has none."""
    own: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for key, value in attributes.items():
        (shared if key in SHARED or value == 0 else own)[key] = value
    try:
        return _json(own), _shared_json(*shared, *shared.values())
    except TypeError:  # a list
        return _json(own), _json(shared)


@functools.lru_cache(maxsize=256, typed=True)  # 0 is not 0.0
def _shared_json(*said: Any) -> str | None:
    """The JSON of these names and then their values: written once for all calls that have them."""
    return _json(dict(zip(said[: len(said) // 2], said[len(said) // 2 :], strict=True)))


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
    return "(SELECT id FROM words WHERE word = ?)" if column in WORDS else "?"


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
    f"{', '.join(map(_declared, _OWN))}, own)",
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
_INSERT_KIND: Final = (
    f"INSERT OR IGNORE INTO kinds (digest, {_quoted(KIND)}, beginning, shared) VALUES ({marks(len(KIND) + 3)})"  # noqa: S608
)


@functools.lru_cache(maxsize=64)
def _insert_calls(columns: tuple[str, ...]) -> str:
    """The SQL that keeps calls which have nothing but these of `_OWN`: most have half of them."""
    return (
        f"INSERT INTO call_rows (id, kind, own, {_quoted(columns)}) "  # noqa: S608 - our own names
        f"VALUES (?, (SELECT id FROM kinds WHERE digest = ?), ?, {', '.join(map(_mark, columns))})"
    )


_kind_of = itemgetter(*map(WRITTEN.index, KIND))
_own_of = itemgetter(*map(WRITTEN.index, _OWN))
_words_of = itemgetter(*map(WRITTEN.index, WORDS))
_PACKED: Final = tuple(map(_OWN.index, IDENTIFIERS))
_RESPONSE: Final = _OWN.index("response_id")


def insert(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Keep calls, each as `WRITTEN` says, in the transaction that is open. Raises as SQLite does."""
    kinds: dict[bytes, tuple[Any, ...]] = {}
    digests: dict[bytes, bytes] = {}
    words: set[Any] = set()
    calls, owns = [], []
    for row in rows:
        own = list(_own_of(row))
        beginning, own[_RESPONSE] = _parted(own[_RESPONSE])
        for n in _PACKED:
            own[n] = packed(own[n])
        kind = (*_kind_of(row), beginning, row[-1])
        digest = _known_digest(kind, digests)
        kinds[digest] = kind
        words.update(_words_of(row))
        calls.append((row[0], digest, row[-2]))
        owns.append(own)
    words.discard(None)
    connection.executemany(_INSERT_WORD, [(word,) for word in words])
    connection.executemany(_INSERT_KIND, [(digest, *kind) for digest, kind in kinds.items()])
    filled = [place for place, values in enumerate(zip(*owns, strict=True)) if values.count(None) < len(values)]
    if filled:
        columns = tuple(_OWN[place] for place in filled)
        filled_of = itemgetter(*filled)
        connection.executemany(
            _insert_calls(columns), [(*call, *filled_of(own)) for call, own in zip(calls, owns, strict=True)]
        )


def written(row: Sequence[Any]) -> tuple[Any, ...]:
    """What `insert` takes of a row of `id` and `CALL_COLUMNS`."""
    *columns, more = row
    return (*columns, *(divided(json.loads(more)) if more else (None, None)))


def packed(text: Any) -> Any:
    r"""Hex digits as bytes, by twos; what is no such text stays as it is.

    >>> packed("00ff"), packed("0f0"), packed("FF"), packed("")
    (b'\x00\xff', '0f0', 'FF', '')
    """
    if not text or not isinstance(text, str):
        return text
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return text
    return packed if packed.hex() == text else text


def _parted(name: Any) -> tuple[str, Any]:
    """A response's id as its beginning, up to the last dash or underscore, and the rest."""
    if not isinstance(name, str):
        return "", name
    end = max(name.rfind("-"), name.rfind("_")) + 1
    return (name[:end], name[end:]) if end <= BEGINNING else ("", name)


def _known_digest(values: tuple[Any, ...], known: dict[bytes, bytes]) -> bytes:
    try:
        told_apart = marshalled(values)  # 1 is not 1.0
    except ValueError:  # what SQLite will not have either
        return _digest(values)
    return known.get(told_apart) or known.setdefault(told_apart, _digest(values))


def _digest(values: tuple[Any, ...]) -> bytes:
    from hashlib import blake2b  # three milliseconds, that whoever reads needs not

    return blake2b(repr(values).encode(errors="surrogatepass"), digest_size=12).digest()
