"""The command `tokenguard`, also as `python -m tokenguard`.

`tokenguard lint` runs at every save and commit: it goes past the command line of the others, which costs half as much
to import as linting a file.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YOUNG = 100_000
"""New objects that are looked through for cycles at once: what a command imports and reads stays to its end."""


def main() -> Any:
    """Run the command."""
    if sys.argv[1:2] == ["lint"]:
        return lint(sys.argv[2:])
    gc.set_threshold(YOUNG)
    atexit.register(gc.freeze)  # the last of all: Python looks through everything twice more as it ends
    from tokenguard.cli import main as commands

    return commands()


def lint(arguments: list[str]) -> None:
    """Run the linter and end the process at once: to take it down object by object takes a tenth of the time."""
    gc.disable()  # what is imported stays
    from tokenguard.facts import patterns
    from tokenguard.lint.arguments import main as run
    from tokenguard.lint.kept import KEPT

    patterns.compiler = KEPT.compile
    try:
        run(arguments)
        KEPT.save()
    except SystemExit as end:
        KEPT.save()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed before we began
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)


if __name__ == "__main__":
    main()
