"""genai-prices' list, in an eighth of the time that its package takes to import.

The package's data is Python that makes objects of its classes. That data alone is run here, with small classes of our
own under the same names (`types`). Where it asks for a class or a field that is not known here, and where the
application has set a list of its own, the package's own objects are used: they have the same methods.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from typing import Any, Final, NamedTuple

PACKAGE: Final = "genai_prices"
SNAPSHOTS: Final = "genai_prices.data_snapshot"


class Snapshot(NamedTuple):
    """The list that comes with the package; with the fields of genai-prices' `DataSnapshot` that are asked for."""

    providers: Any
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
        return Snapshot(_run(_data()))
    except Exception:  # the package's data is not as known here
        from genai_prices.data_snapshot import get_snapshot

        return get_snapshot()


def _data() -> Any:
    """The code of the package's data; nothing of the package is imported."""
    package = PathFinder.find_spec(PACKAGE)
    where = None if package is None else package.submodule_search_locations
    data = None if where is None else PathFinder.find_spec(f"{PACKAGE}.data", where)
    get_code: Callable[[str], Any] | None = getattr(data and data.loader, "get_code", None)
    if get_code is None:
        raise ImportError(f"no code of {PACKAGE}.data is found")
    return get_code(f"{PACKAGE}.data")


def _run(code: Any) -> Any:
    """The sellers that the data makes, when its `from .types import *` finds our classes."""
    made: dict[str, Any] = {"__name__": f"{PACKAGE}.data", "__package__": __name__}
    exec(code, made)  # noqa: S102 - it is what importing the package would run
    return made["providers"]


@cache
def version() -> str:
    """The package's version, by the name of the folder with its metadata: to ask `importlib.metadata` takes 10 ms."""
    package = PathFinder.find_spec(PACKAGE)
    folders = [] if package is None or package.origin is None else os.listdir(os.path.dirname(package.origin) + "/..")
    found = [each for each in folders if each.startswith(f"{PACKAGE}-") and each.endswith(".dist-info")]
    if len(found) == 1:
        return found[0].removeprefix(f"{PACKAGE}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(PACKAGE)
