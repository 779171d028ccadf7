"""Connections of an event loop that close behind who has used them, as aiohttp's do."""

from __future__ import annotations

import asyncio


async def all_closed(seconds: float = 1.0) -> None:
    """Wait until the running loop watches no connection any more, so that none is left to the collector."""
    watched = asyncio.get_running_loop()._selector  # type: ignore[attr-defined] # a selector loop's
    for _ in range(int(seconds / 0.005)):
        if len(watched.get_map()) <= 1:  # the loop's own
            return
        await asyncio.sleep(0.005)
