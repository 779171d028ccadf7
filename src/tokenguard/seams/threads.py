"""Frameworks that call models in a pool of threads without handing them the caller's context.

Attribution, tasks and the current span are the context's: without it their calls would be nobody's. The module's name
for the executor is given one that hands it on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any

from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.common.wrapping import Put, Restore


class ContextExecutor(ThreadPoolExecutor):
    """Runs each piece of work in a copy of the context that it was submitted in."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the base does; `map` comes through here too."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Replace the executor that a module has imported by name; returns what to restore."""
    restore = Restore()
    if getattr(module, "ThreadPoolExecutor", None) is ThreadPoolExecutor:
        restore.placed.append(Put(module, "ThreadPoolExecutor", ContextExecutor))
    return restore
