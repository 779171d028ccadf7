"""The command `tokenguard`, also as `python -m tokenguard`.

`tokenguard lint` runs at every save and commit: it goes past the command line of the others, which costs half as much
to import as linting a file.
"""

import sys
from typing import Any


def main() -> Any:
    """Run the command."""
    if sys.argv[1:2] == ["lint"]:
        from tokenguard.lint.arguments import main as lint

        return lint(sys.argv[2:])
    from tokenguard.cli import main as commands

    return commands()


if __name__ == "__main__":
    main()
