"""Frameworks that call models in a pool of threads without handing them the caller's context.

Attribution, tasks and the current span are the context's: without it their calls would be nobody's. The module's name
for the executor is given one that hands it on; so is its name for asyncio, whose loops run work in executors, and what
makes an executor when it is first asked for.
"""

from __future__ import annotations

import asyncio
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


class ContextLoop:
    """An event loop whose work in threads runs in a copy of the context that asked for it."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """As the loop does. A context cannot go to another process: other executors get the work as it is."""
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            return self._loop.run_in_executor(executor, copy_context().run, func, *args)
        return self._loop.run_in_executor(executor, func, *args)


class ContextAsyncio:
    """What stands for `asyncio` in one module: the same, but for the loops that it hands out."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def get_event_loop(self) -> ContextLoop:
        """As asyncio's."""
        return ContextLoop(asyncio.get_event_loop())

    def get_running_loop(self) -> ContextLoop:
        """As asyncio's."""
        return ContextLoop(asyncio.get_running_loop())


def _handing_on(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What makes or finds an owner's executor, which hands the context on from then."""

    def background_executor(owner: Any) -> Any:
        made = make(owner)
        if type(made) is ThreadPoolExecutor:
            made.__class__ = ContextExecutor
        return made

    return background_executor


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Replace what a module's work in threads goes through; returns what to restore."""
    restore = Restore()
    if getattr(module, "ThreadPoolExecutor", None) is ThreadPoolExecutor:
        restore.placed.append(Put(module, "ThreadPoolExecutor", ContextExecutor))
    if getattr(module, "asyncio", None) is asyncio:
        restore.placed.append(Put(module, "asyncio", ContextAsyncio()))
    if callable(made := getattr(module, "background_executor", None)):
        restore.placed.append(Put(module, "background_executor", _handing_on(made)))
    agent = getattr(module, "Agent", None)
    if isinstance(own := getattr(agent, "background_executor", None), property) and own.fget:
        restore.placed.append(Put(agent, "background_executor", property(_handing_on(own.fget))))
    return restore
