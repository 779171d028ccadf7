"""What `tokenguard` alone prints: what there is, and the next thing to type."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import click

from tokenguard import __version__
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple

PROMISE = "Know what every LLM call costs, stop the ones that cost too much, catch the waste before it ships."


class Line(NamedTuple):
    """One thing to type: what it is for, the words, and what they do."""

    part: str
    words: str
    says: str


INSTRUMENT = Line(
    "Measure", "tokenguard-instrument python app.py", "Tokens, cost and cache of every call, the program unchanged."
)


def overview(lines: Iterable[Line]) -> str:
    """The page, with `lines` in the order of their parts' first ones."""
    lines = [*lines, INSTRUMENT]
    parts = list(dict.fromkeys(line.part for line in lines))
    lines.sort(key=lambda line: (parts.index(line.part), line is not INSTRUMENT))
    width = max(len(line.words) for line in lines)
    return "\n".join(
        [
            f"{click.style(f'TokenGuard {__version__}', bold=True)}  {PROMISE}",
            *_sections(lines, width),
            "",
            *_here(),
            "",
            "Each command has --help.",
        ]
    )


def _sections(lines: Iterable[Line], width: int) -> Iterator[str]:
    for part, group in groupby(lines, lambda line: line.part):
        yield ""
        yield click.style(part, bold=True)
        for line in group:
            yield f"  {line.words.ljust(width)}  {click.style(line.says, dim=True)}"


def _here() -> Iterator[str]:
    """What is recorded, and what to do next."""
    path = names.store_path(os.environ.get(names.ENV_STORE))
    calls, last_ns = _recorded(path) if path else (0, 0)
    if calls:
        last = f"{datetime.fromtimestamp(last_ns / 1e9, UTC):%Y-%m-%d %H:%M}"
        yield f"Recorded in {path}: {calls:,} call{'' if calls == 1 else 's'}, the last at {last} UTC."
        yield _next("tokenguard report")
        return
    yield f"Nothing is recorded in {path} yet." if path else f"The local store is off ({names.ENV_STORE})."
    demo = all(importlib.util.find_spec(sdk) for sdk in ("openai", "anthropic"))
    yield _next("tokenguard demo" if demo else INSTRUMENT.words)


def _next(command: str) -> str:
    return f"Next:  {click.style(command, bold=True, fg='cyan')}"


def _recorded(path: str) -> tuple[int, int]:
    """How many calls a store holds, and when the last one began; none where it cannot be read."""
    from tokenguard.store.file import open_for_reading

    try:
        with closing(open_for_reading(Path(path))) as connection:
            calls, last_ns = connection.execute("SELECT count(*), max(start_ns) FROM calls").fetchone()
    except (OSError, sqlite3.Error):
        return 0, 0
    return calls, last_ns or 0
