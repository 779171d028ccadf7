"""Where a policy may be: the cheap question, asked before its grammar is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tokenguard.facts import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PLATFORM: Final = "/etc/tokenguard/tokenguard.toml"
"""A floor under the policies of all programs of the machine, where there is such a file."""
FILE: Final = "tokenguard.toml"
PYPROJECT: Final = "pyproject.toml"


def candidates() -> Iterator[str]:
    """The files that may hold the policy, from the working directory upwards, the nearest first."""
    try:
        folder = os.getcwd()
    except OSError:  # the working directory was deleted: nothing to find
        return
    while True:
        yield from filter(os.path.exists, (os.path.join(folder, name) for name in (FILE, PYPROJECT)))
        above = os.path.dirname(folder)
        if above == folder:
            return
        folder = above


def floors() -> Iterator[str]:
    """The files of the platform, on which the nearest one is laid: the machine's, then the environment's."""
    if os.path.exists(PLATFORM):
        yield PLATFORM
    if named := os.environ.get(names.ENV_POLICY):
        yield named


def may_exist() -> bool:
    """Whether there is anything that `load` should look at."""
    if any(floors()):
        return True
    for path in candidates():
        if path.endswith(FILE):
            return True
        try:
            with open(path, "rb") as file:
                data = file.read()
            # Not its mere name: a project that depends on TokenGuard need not configure it there.
            if b"tool.tokenguard" in data or (b"[tool]" in data and b"tokenguard" in data):
                return True
        except OSError:
            continue
    return False
