"""`tokenguard demo`."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Run a small product against a simulated provider on loopback, through the real SDKs, and report what it cost."""
    from tokenguard.demo import DemoUnavailable, run_demo
    from tokenguard.facts.errors import TokenGuardError

    try:
        run_demo()
    except DemoUnavailable as missing:
        raise TokenGuardError(str(missing)) from missing
