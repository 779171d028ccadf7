"""Work that a module hands to threads runs in the context of who asked for it, until TokenGuard is uninstalled."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from types import ModuleType

import pytest

from tokenguard.seams import threads

ASKED_BY: ContextVar[str] = ContextVar("asked_by", default="nobody")

FRAMEWORK = """
import asyncio
from concurrent.futures import ThreadPoolExecutor

def pooled(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()

def looped(work, get="get_running_loop", executor=None):
    async def main():
        return await getattr(asyncio, get)().run_in_executor(executor, work)
    return asyncio.run(main())

def kept(work):
    return background_executor(None).submit(work).result()

def of_an_agent(work):
    return Agent().background_executor.submit(work).result()

def background_executor(owner):
    import concurrent.futures
    return concurrent.futures.ThreadPoolExecutor(1)

class Agent:
    background_executor = property(background_executor)
"""


@pytest.fixture
def framework():
    module = ModuleType("framework")
    exec(FRAMEWORK, module.__dict__)
    return module


@pytest.mark.parametrize("how", ["pooled", "looped", "kept", "of_an_agent"])
def test_context_is_handed_on(how, framework):
    """Patched, the work is the caller's; restored, it is nobody's again."""
    token = ASKED_BY.set("acme")
    try:
        restore = threads.patch(framework, None, None)
        assert getattr(framework, how)(ASKED_BY.get) == "acme"
        restore.undo()
        assert getattr(framework, how)(ASKED_BY.get) == "nobody"
    finally:
        ASKED_BY.reset(token)


@pytest.mark.parametrize("get", ["get_running_loop", "get_event_loop"])
def test_executors_of_the_callers_own(get, framework):
    """A pool of threads is given the context; one of processes, which cannot take it, gets the work as it is."""
    threads.patch(framework, None, None)
    token = ASKED_BY.set("acme")
    try:
        with ThreadPoolExecutor(1) as pool:
            assert framework.looped(ASKED_BY.get, get, pool) == "acme"
    finally:
        ASKED_BY.reset(token)
    with ProcessPoolExecutor(1) as pool:
        assert framework.looped(os.getpid, get, pool) != os.getpid()


def test_the_rest_of_asyncio_is_asyncio(framework):
    """What the module asks of asyncio and of its loop is what they are."""
    threads.patch(framework, None, None)
    assert framework.asyncio.Future is asyncio.Future

    async def main():
        return framework.asyncio.get_running_loop().time() > 0

    assert asyncio.run(main())
