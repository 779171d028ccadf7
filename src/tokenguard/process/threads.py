"""Threads of ours, for work that no caller waits for.

What a caller does here is a handful of calls into C, each of which is done or not done when a signal handler raises:
`threading.Event`, `Condition`, `queue.Queue` and `ThreadPoolExecutor` take their locks in Python, and an exception that
comes between taking one and the `try` behind it leaves it locked for good. Only threads of ours, in which no signal
handler ever runs, do more. Nothing is started once the process ends; who gets work then does it at once.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from tokenguard.process import ends, forks
from tokenguard.process.forks import REST_S, at_fork, at_rest, leads
from tokenguard.process.native import Empty, Lock, SimpleQueue, leave, sleep, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any, Final, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

IDLE_S: Final = 5.0
"""After so long without work a thread ends; at once, where the process would wait for it to end."""
POLL_S: Final = 0.002


class Worker:
    """At most one thread, that does `work` a moment after it was woken.

    `work` never raises; it returns after how many seconds it wants to be called again, `None` for when it is woken.
    Where it is `brief`, a fork has it done first, and needs no thread of it afterwards.
    """

    def __init__(
        self, name: str, work: Callable[[], float | None], *, gather_s: float = 0.0, brief: bool = False
    ) -> None:
        self._name = name
        self._work = work
        self.gather_s = gather_s
        """How long it waits for more to do, once it was woken."""
        self._brief = brief
        self._forget()
        at_fork(self._forget, in_parent=self._go_on)
        at_rest(self._rest)

    def _forget(self) -> None:
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._seat = Lock()
        self._woken = self._hurried = self.runs = False
        self._stopping = False
        self._due = self._owed = False
        """Whether it is to work again by itself, and whether it was kept from it."""

    def wake(self, *, hurry: bool = False) -> None:
        """See to it that `work` is done soon; at once, in a `hurry`.

        A signal handler may raise in here: then the next call sees to it.
        """
        if self._woken and self.runs and (self._hurried or not hurry):
            return
        if hurry:
            self._hurried = True
        self._tokens.put(True)
        self._woken = True
        if not self.runs and not ends.ending:
            self.runs = start(self._run)

    def stop(self, patience_s: float = ends.PATIENCE_S) -> None:
        """End the thread, after what it is doing just now. It starts again when it is woken."""
        if not self.runs:
            return
        self._stopping = True
        self._tokens.put(False)
        until = time.monotonic() + patience_s
        while self.runs and time.monotonic() < until:
            sleep(POLL_S)
        self._stopping = self._woken = self._hurried = False
        self.runs = self._seat.locked()

    def _rest(self) -> int:
        """Before a fork."""
        if not self.runs:
            return 0
        self._owed = self._due or self._woken
        self.stop(REST_S)
        if self._owed and self._brief and not self.runs:
            self._owed = self._work() is not None
        return 1

    def _go_on(self) -> None:
        """After it, in the parent."""
        if self._owed:
            self._owed = False
            self.wake()

    def _run(self) -> None:
        if not self._seat.acquire(blocking=False):
            return  # there is one
        try:
            self.runs = True
            threading.current_thread().name = self._name
            again_s: float | None = None
            while not self._stopping:
                if again_s is None:
                    try:
                        if not self._tokens.get(timeout=_idle_s()):
                            continue
                    except Empty:
                        return
                if not self._slept(self.gather_s if again_s is None else again_s):
                    continue
                while not self._tokens.empty():
                    self._tokens.get()
                self._woken = self._hurried = False
                again_s = self._work()
                self._due = again_s is not None
        finally:
            self.runs = False
            self._seat.release()
            if not self._tokens.empty() and not self._stopping and not ends.ending:
                self.runs = start(self._run)  # somebody came while it was leaving

    def _slept(self, seconds: float) -> bool:
        """Wait, whoever wakes it meanwhile without a hurry; false when it is to stop."""
        until = time.monotonic() + seconds
        while not self._hurried and (left := until - time.monotonic()) > 0:
            try:
                if not self._tokens.get(timeout=left):
                    return False
            except Empty:
                break
        return True


class Pool:
    """A few threads that do what they are given, in order; the caller may wait for what comes of it."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._threads = threads
        self._forget()
        at_fork(self._forget)
        at_rest(self._rest)

    def _forget(self) -> None:
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._counting = Lock()
        self._running = self._idle = 0
        self._undone: set[int] = set()
        """The tasks that are not done: a thread that has taken one may not have counted itself as busy yet."""

    def soon(self, task: Callable[[], object]) -> None:
        """Have `task`, which never raises, done in a thread; at once where the process ends."""
        if ends.ending:
            task()
            return
        try:
            self._undone.add(id(task))
            self._tasks.put(task)
        except BaseException:  # of a signal handler
            self._undone.discard(id(task))
            raise
        if self._idle < self._tasks.qsize() and self._running < self._threads:
            start(self._run)

    def submit(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The same for an operation that answers or raises."""
        from concurrent.futures import Future  # with asyncio, 30 ms that the linter does without

        done: Future[T] = Future()
        self.fulfil(done, operation, *args, **kwargs)
        return done

    def fulfil(self, promise: Future[T], operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        """`submit` for who has the future beforehand, and can cancel it if a signal handler raises in here."""

        def task() -> None:
            if not promise.set_running_or_notify_cancel():
                return
            try:
                answer = operation(*args, **kwargs)
            except BaseException as error:
                promise.set_exception(error)
            else:
                promise.set_result(answer)

        self.soon(task)

    def finish(self, patience_s: float = ends.PATIENCE_S) -> None:
        """Do here what nobody has begun yet, and wait for what is under way."""
        while (task := self._next()) is not None:
            self._do(task)
        until = time.monotonic() + patience_s
        while self._undone and self._running and time.monotonic() < until:
            sleep(POLL_S)

    def stop(self) -> None:
        """Do all there is, and end the threads."""
        self.finish()
        for _ in range(self._running):
            self._tasks.put(None)
        until = time.monotonic() + ends.PATIENCE_S
        while self._running and time.monotonic() < until:
            sleep(POLL_S)

    def _rest(self) -> int:
        """Before a fork: the threads that wait for work end; the next one who wants some starts one."""
        idle = self._idle
        for _ in range(idle):
            self._tasks.put(None)
        return idle

    def _do(self, task: Callable[[], object]) -> None:
        try:
            task()
        finally:
            self._undone.discard(id(task))

    def _next(self) -> Callable[[], object] | None:
        try:
            return self._tasks.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        with self._counting:
            if self._running >= self._threads:
                return
            self._running += 1
        threading.current_thread().name = self._name
        try:
            while True:
                with self._counting:
                    self._idle += 1
                try:
                    task = self._tasks.get(timeout=_idle_s())
                except Empty:
                    task = None
                finally:
                    with self._counting:
                        self._idle -= 1
                if task is None:
                    return
                self._do(task)
        finally:
            with self._counting:
                self._running -= 1
            if not self._tasks.empty() and not ends.ending:
                start(self._run)  # somebody came while it was leaving


def _idle_s() -> float:
    return IDLE_S if leads() else POLL_S


def in_event_loop() -> bool:
    """Whether this thread runs an event loop, asyncio's or trio's, which nothing may block."""
    asyncio = sys.modules.get("asyncio")
    return _trio() is not None or (asyncio is not None and asyncio._get_running_loop() is not None)


async def landed(promise: Future[T], *, shared: bool = False) -> T:
    """Await what a thread brings, in asyncio's event loop or in trio's.

    Who is cancelled meanwhile may cancel what has not begun, unless it is `shared`.
    """
    trio = _trio()
    if trio is None:
        import asyncio

        coming = asyncio.wrap_future(promise)
        return await (asyncio.shield(coming) if shared else coming)
    came, loop = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            loop.run_sync_soon(came.set)

    promise.add_done_callback(tell)
    await came.wait()
    return promise.result()


def _trio() -> Any:
    """The module, where a task of trio's is running."""
    trio: Any = sys.modules.get("trio")
    try:
        return trio and trio.lowlevel.current_task() and trio
    except RuntimeError:
        return None


def elsewhere(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do it in a thread of its own, and wait for it; here, where none can be started."""
    came: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            came.put((operation(*args, **kwargs), None))
        except BaseException as error:
            came.put((None, error))

    if ends.ending or not start(run):
        return operation(*args, **kwargs)
    answer, error = came.get()
    if error is not None:
        raise error
    answered: T = answer
    return answered


def start(run: Callable[[], Any]) -> bool:
    """Start a thread: one call, which starts it or does not, and waits for nothing. Whether it could be started."""
    try:
        start_new_thread(_run, (run,))
    except RuntimeError:  # the machine has no more: the next call tries again, or the process's end does the work
        return False
    return True


def _run(run: Callable[[], Any]) -> None:
    me = threading.get_ident()
    forks.ours.add(me)
    try:
        run()
    finally:
        leave()
        forks.ours.discard(me)
