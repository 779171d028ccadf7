"""Where a policy may be: the cheap question, asked before its grammar is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenguard import names

FILE: Final = "tokenguard.toml"
PYPROJECT: Final = "pyproject.toml"


def candidates() -> Iterator[Path]:
    """The files that may hold the policy, from the working directory upwards, the nearest first."""
    try:
        here = Path.cwd()
    except OSError:  # the working directory was deleted: nothing to find
        return
    for folder in (here, *here.parents):
        for name in (FILE, PYPROJECT):
            try:
                if (folder / name).exists():
                    yield folder / name
            except OSError:  # a parent that may not be searched
                continue


def may_exist() -> bool:
    """Whether there is anything that `load` should look at."""
    if os.environ.get(names.ENV_POLICY):
        return True
    for path in candidates():
        if path.name == FILE:
            return True
        try:
            data = path.read_bytes()
            # Not its mere name: a project that depends on TokenGuard need not configure it there.
            if b"tool.tokenguard" in data or (b"[tool]" in data and b"tokenguard" in data):
                return True
        except OSError:
            continue
    return False
