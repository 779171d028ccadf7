"""`python -m tokenguard.lint` is `tokenguard lint`."""

from tokenguard.cli.lint import lint

lint(prog_name="tokenguard lint")
