"""What commands that read records share: the options that choose them, and opening them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.progress import working

if TYPE_CHECKING:
    from tokenguard.report.engine import Records
    from tokenguard.report.query import Query
    from tokenguard.store.faults import Fault

NOTHING_YET = """No calls are recorded at {} yet. Run a program under TokenGuard first:

    tokenguard-instrument python app.py

or see what a report looks like:  tokenguard demo"""
STORE_IS_OFF = """No calls are recorded: {}={} switches the local store off. To read one all the same:

    tokenguard report --source {}"""
NOTHING_THERE = "{} holds no call that matches; without --since, --until and --where all are shown."

F = TypeVar("F", bound=Callable[..., Any])

SINCE = click.option(
    "--since", metavar="TIME", help="Only calls since then: 30m, 24h, 7d, or a date such as 2026-11-01."
)
UNTIL = click.option("--until", metavar="TIME", help="Only calls before this time; the same formats as --since.")
WHERE = click.option(
    "--where", multiple=True, metavar="KEY=GLOB", help="Only calls whose key matches the glob. Repeatable."
)
SOURCE = click.option(
    "--source",
    multiple=True,
    metavar="PATH",
    help="A store, an OTLP-JSON file, a folder of them, or clickhouse://HOST/DATABASE. Repeatable.",
)


def chosen(command: F) -> F:
    """The options that choose calls: when, whose, and from where."""
    for option in (SOURCE, WHERE, UNTIL, SINCE):
        command = option(command)
    return command


def now() -> datetime:
    """When the command is run."""
    return datetime.now(UTC)


def given_or_local(source: tuple[str, ...]) -> list[Path | str]:
    """What `--source` names, paths and addresses, or else the local store; nothing where that is off."""
    from tokenguard.report.lines import is_address

    asked = source or (names.store_path(os.environ.get(names.ENV_STORE)) or "",)
    return [each if is_address(each) else Path(each) for each in asked if each]


class Recorded(NamedTuple):
    """The records that a command reads."""

    records: Records
    shown: str
    """Where they are."""
    nothing_yet: bool
    """Whether nobody has recorded anything there."""
    repeated: int
    """Calls that several sources hold, and that are counted once."""
    paths: Sequence[Path] = ()

    def faults(self, query: Query) -> list[Fault]:
        """What TokenGuard itself has missed in this time, by the stores among the sources."""
        from tokenguard.store.faults import read

        return [fault for path in self.paths for fault in read(path, query.since_ns, query.until_ns)]

    def nothing(self) -> str:
        """What to say where no call matches."""
        if not self.nothing_yet:
            return NOTHING_THERE.format(self.shown)
        if not self.shown:
            return STORE_IS_OFF.format(names.ENV_STORE, os.environ[names.ENV_STORE], names.DEFAULT_STORE)
        return NOTHING_YET.format(self.shown)


@contextmanager
def recorded(source: tuple[str, ...]) -> Iterator[Recorded]:
    """The records of the sources, or of the local store. Raises `SourceError` for what cannot be read."""
    from tokenguard.report import lines, sources

    given = given_or_local(source)
    paths = [path for path in given if isinstance(path, Path)]
    shown = " + ".join(map(lines.shown, given))
    nothing_yet = not source and not any(path.exists() for path in paths)
    with working("Reading calls"):
        opened = sources.Source(sources.empty()) if nothing_yet else sources.open_sources(given)
        try:
            yield Recorded(opened.records, shown, nothing_yet, opened.repeated, paths)
        except sqlite3.Error as error:
            raise lines.SourceError(f"{shown}: cannot be read: {error}. {lines.WOULD_DO}") from error
        finally:
            opened.records.close()


def asked(since: str | None, until: str | None, where: tuple[str, ...], by: tuple[str, ...] = (), **more: Any) -> Query:
    """The query of the options."""
    from tokenguard.report.query import Query, moment, wheres

    at = now()
    keys = tuple(dict.fromkeys(key.strip() for group in by for key in group.split(",") if key.strip()))
    return Query(
        by=keys or ("feature",),
        since_ns=moment(since, at) if since else None,
        until_ns=moment(until, at) if until else None,
        where=wheres(where),
        now_ns=int(at.timestamp()) * 10**9,
        **more,
    )
