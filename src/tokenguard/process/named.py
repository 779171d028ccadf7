"""A function of the user's that a policy names: `package.module:function`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tokenguard.facts.errors import PolicyError


def named(name: str) -> Any:
    """What `package.module:path` stands for. Raises `PolicyError` where it is not there."""
    module, _, path = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise PolicyError(
            f"{name} cannot be imported: {error}. Check the name, and that `import {module}` works where this runs "
            "(PYTHONPATH)."
        ) from error
    return found
