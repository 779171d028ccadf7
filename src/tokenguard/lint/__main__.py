"""`python -m tokenguard.lint` is `tokenguard lint`."""

import sys

from tokenguard.__main__ import lint

if __name__ == "__main__":
    lint(sys.argv[1:])
