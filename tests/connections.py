"""Connections that an event loop's clients leave open, or close behind who has used them, as aiohttp's do.

Nobody closes them when the loop has ended: the collector does, in another test, which fails of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, and no connection is open when it has ended."""
    with asyncio.Runner() as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(closed())


async def closed() -> None:
    """Close what the running loop is still connected to."""
    loop = asyncio.get_running_loop()
    for transport in list(loop._transports.values()):  # type: ignore[attr-defined] # a selector loop's
        transport.abort()
    await asyncio.sleep(0)
