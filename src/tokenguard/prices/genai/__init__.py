"""genai-prices' list, in a small part of the time that its package takes to import.

The package's data is Python that makes objects of its classes. That data alone is run here, with makers of plain data
under the same names (`types`); the plain data is kept in the user's cache (`kept`), and of it are made small objects
with the same methods, as they are asked for (`sellers`). Where the data asks for a class or a field that is not known
here, and where the application has set a list of its own, the package's own objects are used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from importlib.machinery import PathFinder
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple

PACKAGE: Final = "genai_prices"
SNAPSHOTS: Final = "genai_prices.data_snapshot"


class Snapshot(NamedTuple):
    """The list that comes with the package; with the fields of genai-prices' `DataSnapshot` that are asked for."""

    providers: Any
    starts: Sequence[str] = ()
    """The days on which its prices take effect, of its own."""
    from_auto_update: bool = False
    timestamp: Any = None


def snapshot() -> Any:
    """The list as it is now: an update that the application has asked genai-prices for is seen at once."""
    package = sys.modules.get(SNAPSHOTS)
    if package is None:
        return bundled()
    own = getattr(package, "_custom_snapshot", package)
    if own is None:
        return bundled()
    return package.get_snapshot() if own is package else own


@cache
def bundled() -> Any:
    """The list that comes with the package."""
    try:
        return _bundled()
    except Exception:  # the package's data is not as known here
        from genai_prices.data_snapshot import get_snapshot

        return get_snapshot()


def _bundled() -> Snapshot:
    from tokenguard.prices.genai import kept
    from tokenguard.prices.genai.sellers import Provider

    source = f"{_folder()}/data.py"
    packed = kept.read(source, version())
    if packed is None:
        packed = kept.packed(_run(_data()))
        kept.write(source, version(), packed)
    starts, sellers = packed
    return Snapshot([Provider(*each) for each in sellers], starts)


def starts(snapshot: Any) -> Iterable[date]:
    """The days on which prices of a list take effect."""
    if isinstance(snapshot, Snapshot):
        return map(date.fromisoformat, snapshot.starts)
    prices = (model.prices for provider in snapshot.providers for model in provider.models)
    days = (getattr(each.constraint, "start_date", None) for some in prices if isinstance(some, list) for each in some)
    return (day for day in days if day is not None)


@cache
def _folder() -> str:
    """Where the package is; nothing of it is imported."""
    package = PathFinder.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"{PACKAGE} is not installed")
    return package.submodule_search_locations[0]


def _data() -> Any:
    """The code of the package's data."""
    data = PathFinder.find_spec(f"{PACKAGE}.data", [_folder()])
    get_code: Callable[[str], Any] | None = getattr(data and data.loader, "get_code", None)
    if get_code is None:
        raise ImportError(f"no code of {PACKAGE}.data is found")
    return get_code(f"{PACKAGE}.data")


def _run(code: Any) -> Any:
    """The sellers that the data makes, when its `from .types import *` finds our makers."""
    made: dict[str, Any] = {"__name__": f"{PACKAGE}.data", "__package__": __name__}
    exec(code, made)  # noqa: S102 - it is what importing the package would run
    return made["providers"]


@cache
def version() -> str:
    """The package's version, by the name of the folder with its metadata: to ask `importlib.metadata` takes 10 ms."""
    found = [
        each for each in os.listdir(f"{_folder()}/..") if each.startswith(f"{PACKAGE}-") and each.endswith(".dist-info")
    ]
    if len(found) == 1:
        return found[0].removeprefix(f"{PACKAGE}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(PACKAGE)
