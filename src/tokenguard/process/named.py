"""A function of the user's that a policy names: `package.module:function`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tokenguard.facts.errors import PolicyError


def looked_up(name: str) -> Any:
    """What `package.module:path` stands for. Raises what importing it raises, and `AttributeError`."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def named(name: str) -> Any:
    """The same; raises `PolicyError` where it is not there."""
    try:
        return looked_up(name)
    except (ImportError, AttributeError) as error:
        raise PolicyError(
            f"{name} cannot be imported: {error}. Check the name, and that `import {name.partition(':')[0]}` works "
            "where this runs (PYTHONPATH)."
        ) from error
