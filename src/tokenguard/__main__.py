"""`python -m tokenguard` is `tokenguard`."""

from tokenguard.cli import main

main()
