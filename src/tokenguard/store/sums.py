"""Sums of calls by day, kept in the store beside the calls, and when these are pruned.

A sum holds, for one day and one value of some keys (`KEPT`), what adds up over its calls (`MEASURES`). Every call up to
the row that `summed` names is in the sums, once, wherever in time it is; the calls after that row are not in yet. So
the figures of a day are those of its sums and of its newer calls, and a million calls answer as fast as a thousand.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tokenguard.facts import names

CAPPED: Final = f"operation NOT IN ({', '.join(map(repr, names.NOT_CAPPED))})"
"""Whether a call's answer has a length that its request could have capped."""
SERVED: Final = "answer IN ('hit', 'shared') AND answer_reason IS NULL"
"""Calls that got a kept answer: nothing was sent."""
WATCHED: Final = f"answer = '{names.HIT}' AND answer_reason = '{names.OBSERVED}'"
"""Calls that would have got a kept answer, under a rule that only watches."""
_ALIKE: Final = f"CASE WHEN {WATCHED} THEN answer_likeness END"
_ANSWERED: Final = f"{CAPPED} AND outcome <> 'blocked' AND ({SERVED}) IS NOT TRUE"
CACHEABLE: Final = 1024
"""Input tokens below which providers do not cache a prompt (OpenAI, and most of Anthropic's models)."""
_LONG: Final = f"outcome = 'ok' AND {CAPPED} AND input_tokens >= {CACHEABLE} AND cache_read_tokens IS NOT NULL"
MEASURES: Final[Mapping[str, str]] = {
    "calls": "count(*)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "counted_calls": "count(*) FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    # Over the calls that report it: those that do not are unknown, not misses.
    "cacheable_tokens": "sum(input_tokens) FILTER (WHERE cache_read_tokens IS NOT NULL)",
    "priced_calls": "count(cost_usd)",
    "priced_usd": "sum(cost_usd)",
    "estimated_usd": "sum(cost_usd) FILTER (WHERE cost_status = 'estimated')",
    # Calls that were answered, at a price nobody knows.
    "unpriced_calls": (
        "count(*) FILTER (WHERE cost_usd IS NULL AND outcome <> 'blocked' AND (cost_status = 'unpriced' OR "
        "input_tokens IS NOT NULL OR output_tokens IS NOT NULL))"
    ),
    "saved_usd": "sum(saved_usd)",
    "served": f"count(*) FILTER (WHERE {SERVED})",
    "served_usd": f"sum(answer_saved_usd) FILTER (WHERE {SERVED})",
    "watched": f"count(*) FILTER (WHERE {WATCHED})",
    "watched_usd": f"sum(cost_usd) FILTER (WHERE {WATCHED})",
    "compared": f"count({_ALIKE})",
    "likeness": f"sum({_ALIKE})",
    "resends": "sum(resends)",
    "repeats": "count(retry_attempt)",
    "retry_cost_usd": "sum(retry_cost_usd)",
    "errors": "count(*) FILTER (WHERE outcome = 'error')",
    "abandoned": "count(*) FILTER (WHERE outcome = 'abandoned')",
    "abandoned_usd": "sum(cost_usd) FILTER (WHERE outcome = 'abandoned')",
    "blocked": "count(*) FILTER (WHERE outcome = 'blocked')",
    "prevented_usd": "sum(prevented_usd) FILTER (WHERE outcome = 'blocked')",
    "generations": f"count(*) FILTER (WHERE {_ANSWERED})",
    "uncapped": f"count(*) FILTER (WHERE max_tokens IS NULL AND {_ANSWERED})",
    "uncapped_usd": f"sum(cost_usd) FILTER (WHERE max_tokens IS NULL AND {CAPPED})",
    # Prompts that are long enough to be cached.
    "long_calls": f"count(*) FILTER (WHERE {_LONG})",
    "long_tokens": f"sum(input_tokens) FILTER (WHERE {_LONG})",
    "long_read_tokens": f"sum(cache_read_tokens) FILTER (WHERE {_LONG})",
    "long_uncached_usd": f"sum(input_usd + coalesce(cache_write_usd, 0.0)) FILTER (WHERE {_LONG})",
}
"""SQL aggregates whose values add up over groups: tokens, USD or counts; null where no call says."""

KEYS: Final[Mapping[str, str]] = {
    **{key: f'"{key}"' for key in names.ATTRIBUTION_KEYS},
    "model": "coalesce(response_model, request_model)",
    "provider": "provider",
    "operation": "operation",
    "call_site": "code_file || ':' || code_line",
    "task": "task",
    "outcome": "outcome",
    "error": "error_type",
    "rule": "guard_rule",
    "action": "guard_action",
}
"""Keys of calls, with their SQL."""
KEPT: Final[tuple[tuple[str, ...], ...]] = (
    ("feature", "prompt_version", "model"),
    ("tenant",),
    ("team",),
    ("route",),
    ("task",),
    ("call_site",),
    ("provider", "operation", "model"),
    ("outcome", "error"),
    ("rule", "action"),
)
"""The keys that sums are kept by, together. What may have as many values as there are calls is none of them."""
TIMED: Final = KEPT[:2]
"""Those whose sums say how long calls took: a histogram costs more than all that adds up."""
WIDTH: Final = max(map(len, KEPT))
PLACES: Final = tuple(f"key_{n}" for n in range(WIDTH))

LATENCIES: Final[Mapping[str, str]] = {
    "latency": "CASE WHEN outcome = 'ok' AND duration_ns > 0 THEN duration_ns / 1000000000.0 END",
    "first_chunk": "first_chunk_s",
}
"""What quantiles are asked of, in seconds: over the calls that were answered. A batch's lines have no duration."""
GROWTH: Final = 1.1
"""How much wider each bucket of a histogram is than the one below: a quantile of sums is within 5 % of the calls'."""
_LOG_GROWTH: Final = math.log(GROWTH)
FOLD_ROWS: Final = 10_000
"""Calls that one transaction adds to the sums: some 0.15 s, which is what other writers wait."""

_SPAN: Final = {"first_ns": "min", "last_ns": "max"}
_SPAN_SQL: Final = {"first_ns": "min(start_ns)", "last_ns": "max(start_ns)"}
_VALUES: Final = (*MEASURES, *_SPAN, *LATENCIES)
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS sums (
    kept INTEGER NOT NULL, day TEXT NOT NULL, {", ".join(f"{place} TEXT NOT NULL" for place in PLACES)},
    {", ".join(_VALUES)}, PRIMARY KEY (kept, day, {", ".join(PLACES)})
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS summed (id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS task_sums (
    day TEXT NOT NULL, name TEXT NOT NULL, succeeded INTEGER, failed INTEGER, cost_usd REAL, PRIMARY KEY (day, name)
) WITHOUT ROWID;
INSERT INTO summed SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM summed);
"""  # noqa: S608 - our own names


def bucket(seconds: float | None) -> int | None:
    """The bucket of a histogram that a duration is in."""
    return None if seconds is None else math.floor(math.log(max(seconds, 1e-9)) / _LOG_GROWTH)


class Histogram:
    """An aggregate: how many durations are in each bucket, as JSON; null without any."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def step(self, seconds: Any, /) -> None:
        """Count a duration, or nothing."""
        if seconds is not None:
            number = str(bucket(seconds))
            self.counts[number] = self.counts.get(number, 0) + 1

    def finalize(self) -> str | None:
        """What SQLite gets."""
        return json.dumps(self.counts, separators=(",", ":")) if self.counts else None


class Merged:
    """An aggregate: several histograms together."""

    def __init__(self) -> None:
        self.histograms: list[str | None] = []
        self.step = self.histograms.append  # SQLite calls it for each row: the list's own method is the fastest

    def finalize(self) -> str | None:
        """What SQLite gets."""
        return merged(self.histograms)


def merged(histograms: Iterable[str | None]) -> str | None:
    """Several histograms together; null without any."""
    known = [histogram for histogram in histograms if histogram is not None]
    if len(known) < 2:
        return known[0] if known else None
    both: dict[str, int] = {}
    for counts in json.loads(f"[{','.join(known)}]"):  # at once: to begin takes longer than to read one
        for number, count in counts.items():
            both[number] = both.get(number, 0) + count
    return json.dumps(both, separators=(",", ":"))


def quantile(histogram: str | None, q: float) -> float | None:
    """A quantile of the values that a histogram counts, within 5 %."""
    if histogram is None:
        return None
    counts = sorted((int(number), count) for number, count in json.loads(histogram).items())
    whole, part = divmod(q * (sum(count for _, count in counts) - 1), 1)
    low, high = (_ranked(counts, int(whole) + more) for more in (0, bool(part)))
    return float(low + (high - low) * part)


def _ranked(counts: Sequence[tuple[int, int]], rank: int) -> float:
    """The middle of the bucket that holds the value of a rank, counted from 0."""
    held = 0
    for number, count in counts:
        held += count
        if rank < held:
            return float(GROWTH ** (number + 0.5))
    raise IndexError(rank)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of the sums where a file has none yet, and what older ones lack. Raises `sqlite3.Error`."""
    if _lacking(connection) == []:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        for column in _lacking(connection) or ():
            connection.execute(f"ALTER TABLE sums ADD COLUMN {column}")


def read_older(connection: sqlite3.Connection) -> None:
    """Give a reader of an older file the sums that it lacks, as nothing."""
    if lacking := _lacking(connection):
        nothing = ", ".join(f"NULL AS {column}" for column in lacking)
        connection.execute(f"CREATE TEMP VIEW sums AS SELECT *, {nothing} FROM main.sums")  # noqa: S608


def _lacking(connection: sqlite3.Connection) -> list[str] | None:
    """The columns that a file's sums do not have; `None` where it has no sums."""
    there = {row[1] for row in connection.execute("PRAGMA main.table_info(sums)")}
    return [column for column in _VALUES if column not in there] if there else None


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection the aggregates that sums are made and read with."""
    connection.create_function("bucket", 1, bucket, deterministic=True)
    aggregates: tuple[type, ...] = (Histogram, Merged)  # typeshed would have them all give an int
    for aggregate in aggregates:
        connection.create_aggregate(aggregate.__name__.lower(), 1, aggregate)
    connection.create_function("joined", 2, _joined, deterministic=True)


def _joined(one: str | None, other: str | None) -> str | None:
    return merged((one, other))


def summed_to(connection: sqlite3.Connection) -> int | None:
    """The last row of the calls that is in the sums, 0 where those in them are gone; `None` where there are no sums."""
    if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'summed'").fetchone()[0]:
        return None
    last, some = connection.execute("SELECT id, EXISTS (SELECT 1 FROM sums) FROM summed").fetchone()
    return int(last) if some else None


def fold(connection: sqlite3.Connection, rows: int = FOLD_ROWS, *, least: int = 1) -> bool:
    """Add the next calls to the sums, if there are `least`; returns whether it did. Raises `sqlite3.Error`."""
    state = "SELECT (SELECT id FROM summed), (SELECT coalesce(max(id), 0) FROM call_rows)"
    done, last = connection.execute(state).fetchone()
    if 0 <= last - done < least:
        return False  # found out without a lock
    teach(connection)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        done, last = connection.execute(state).fetchone()
        if last < done:  # the newest were deleted, and their numbers are given again
            connection.execute("UPDATE summed SET id = ?", (last,))
            return False
        if last - done < least:
            return False
        last = min(last, done + rows)
        _fold(connection, done, last)
        connection.execute("UPDATE summed SET id = ?", (last,))
    return True


_DAY: Final = "strftime('%Y-%m-%d', start_ns / 1000000000, 'unixepoch') AS day"
_ALL_KEYS: Final = tuple(dict.fromkeys(key for kept in KEPT for key in kept))


def _fold(connection: sqlite3.Connection, after: int, last: int) -> None:
    """By all keys at once, and then each of the kept ones from that: calls have few combinations of keys."""
    keys = ", ".join(f"{stored(KEYS[key])} AS key_{key}" for key in _ALL_KEYS)
    measures = ", ".join(f"{sql} AS {name}" for name, sql in (*MEASURES.items(), *_SPAN_SQL.items()))
    buckets = ", ".join(f"bucket({sql}) AS {name}" for name, sql in LATENCIES.items())
    some = "FROM calls WHERE id > ? AND id <= ?"
    connection.execute(
        f"CREATE TEMP TABLE folding AS SELECT {_DAY}, {keys}, {measures} {some} "
        f"GROUP BY {', '.join(str(n + 1) for n in range(1 + len(_ALL_KEYS)))}",
        (after, last),
    )
    connection.execute(f"CREATE TEMP TABLE timing AS SELECT {_DAY}, {keys}, {buckets} {some}", (after, last))
    for n, kept in enumerate(KEPT):
        _fold_one(connection, n, [*(f"key_{key}" for key in kept), *["''"] * (WIDTH - len(kept))])
    connection.execute("DROP TABLE folding")
    connection.execute("DROP TABLE timing")


def _fold_one(connection: sqlite3.Connection, number: int, places: list[str]) -> None:
    """Add what was measured to the sums of some keys; then, each by itself, how often it took how long."""
    groups = ", ".join(str(n + 2) for n in range(1 + len(places)))
    named = ", ".join(f"{place} AS {name}" for place, name in zip(places, PLACES, strict=True))
    first = f"SELECT {number} AS kept, day, {named}"
    sums = [f"sum({name})" for name in MEASURES] + [f"{how}({name})" for name, how in _SPAN.items()]
    _add(connection, (*MEASURES, *_SPAN), f"{first}, {', '.join(sums)} FROM folding GROUP BY {groups}")
    for name in LATENCIES if KEPT[number] in TIMED else ():
        counted = f"{first}, {name}, count(*) AS times FROM timing WHERE {name} IS NOT NULL GROUP BY {groups}, {name}"
        _add(
            connection,
            (name,),
            f"SELECT kept, day, {', '.join(PLACES)}, json_group_object({name}, times) FROM ({counted}) "  # noqa: S608
            f"GROUP BY kept, day, {', '.join(PLACES)}",
        )


def _add(connection: sqlite3.Connection, values: Sequence[str], selected: str) -> None:
    changes = ", ".join(f"{name} = {_added(name)}" for name in values)
    connection.execute(
        f"INSERT INTO sums (kept, day, {', '.join((*PLACES, *values))}) {selected} ON CONFLICT DO UPDATE SET {changes}"
    )


def _added(name: str) -> str:
    """A value of a sum with another's; what neither says stays unknown."""
    other = f"excluded.{name}"
    if name in LATENCIES:
        return f"joined({name}, {other})"
    both = f"{_SPAN[name]}({name}, {other})" if name in _SPAN else f"{name} + {other}"
    return f"coalesce({both}, {name}, {other})"


def stored(key: str) -> str:
    """The SQL of a key's value in a sum, where what calls do not say is the empty text."""
    return f"coalesce('=' || ({key}), '')"


def shown(place: str) -> str:
    """The SQL of the key that a sum has in a place."""
    return f"CASE WHEN {place} = '' THEN NULL ELSE substr({place}, 2) END"
