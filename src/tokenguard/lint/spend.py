"""What the calls of a line have cost, where a store is near: its records name the file and line of each call."""

from __future__ import annotations

import os
from pathlib import Path

from tokenguard.facts.tuples import NamedTuple


class Spend(NamedTuple):
    """The calls recorded for some lines of a file; `usd` is None where none of them has a price."""

    calls: int
    usd: float | None


def store_near(path: str) -> Path | None:
    """The store that `TOKENGUARD_STORE` names, or `.tokenguard/usage.db` in the nearest folder above that has one."""
    from tokenguard.facts.names import DEFAULT_STORE, ENV_STORE, store_path

    setting = os.environ.get(ENV_STORE)
    if setting is not None:
        named = store_path(setting)
        return Path(named) if named and os.path.exists(named) else None
    return next((file for folder in Path(path).absolute().parents if (file := folder / DEFAULT_STORE).is_file()), None)


def spent(path: str, first: int, last: int) -> Spend | None:
    """What was recorded for the lines `first` to `last` of a file; None without a store or without a call."""
    store = store_near(path)
    if store is None:
        return None
    import sqlite3

    from tokenguard.store.file import open_for_reading

    query = "SELECT count(*), sum(cost_usd) FROM calls WHERE code_line BETWEEN ? AND ? AND code_file IN (?, ?)"
    absolute = os.path.abspath(path)
    try:
        connection = open_for_reading(store)
        try:
            row = connection.execute(query, (first, last, absolute, os.path.realpath(path))).fetchone()
        finally:
            connection.close()
    except (OSError, sqlite3.Error):
        return None
    return Spend(*row) if row[0] else None
