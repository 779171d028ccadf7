"""From finished calls to metrics and the local store, off the caller's path.

A call's span ends where the call ends. Its metrics and its row in the store are made elsewhere: the record goes on a
queue, and the queue is drained by a thread a moment later, and by OpenTelemetry's own collection before every read of
the metrics, so nothing that is read is ever behind.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from opentelemetry import trace

from tokenguard.facts import names
from tokenguard.facts.record import Record, TaskRecord
from tokenguard.process.exit import at_exit
from tokenguard.telemetry.metrics import MAX_VALUES, SCOPE, Finished, Metrics
from tokenguard.telemetry.spans import hex_ids

log = logging.getLogger("tokenguard")

DRAIN_SECONDS = 0.05
"""How long a record waits; what a process is killed with in this time is lost."""
QUEUE_LENGTH = 65_536
"""Records that wait for the drain; past it the oldest are dropped, and counted."""


class Sink(Protocol):
    """Where records are kept: the local store."""

    dropped: int
    """Records that it could not keep."""

    def write(self, records: Sequence[Record]) -> None:
        """Keep the records; may raise."""
        ...

    def hurry(self) -> None:
        """The process ends: wait for nobody, in a batch under way neither."""
        ...

    def finish(self) -> None:
        """Write what still waits, and let go of what is open; may raise."""
        ...


class Telemetry:
    """The queue, the sums and the instruments of this process."""

    def __init__(self, sink: Callable[[], Sink | None] = lambda: None, *, max_values: int = MAX_VALUES) -> None:
        self.tracer = trace.get_tracer(SCOPE)
        self.dropped = 0
        """Records lost because the drain could not keep up."""
        self.failures = 0
        """Internal errors so far: observation swallowed them, and the first of each place is in the log."""
        self._logged: set[str] = set()
        self._make_sink = sink
        self.metrics = Metrics(
            self.flush,
            self._contained,
            dropped=lambda: self.dropped + (0 if self._sink is None else self._sink.dropped),
            failures=lambda: self.failures,
            max_values=max_values,
        )
        self._reset()
        _instances.add(self)

    def _reset(self) -> None:
        self._queue: deque[Finished | TaskRecord] = deque(maxlen=QUEUE_LENGTH)
        self._lock = self.metrics.lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._sink: Sink | None = None  # a connection does not survive a fork
        self._keeps = True
        self._ending = False

    # --- the caller's side: cheap, and it never raises -----------------------------------------------------------

    def put(self, item: Finished | TaskRecord) -> None:
        """Take a finished call or task."""
        if len(self._queue) == QUEUE_LENGTH:
            self.dropped += 1
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self._start()

    def internal_error(self, where: str, error: BaseException) -> None:
        """Note an internal error: counted always, logged once for each place."""
        self.failures += 1
        if where not in self._logged:
            self._logged.add(where)
            log.warning(
                "tokenguard: %s failed (%s: %s). The call went on; further failures here are only counted.",
                where,
                type(error).__name__,
                error,
                exc_info=error,
            )
        if os.environ.get(names.ENV_STRICT) == "1":
            raise error

    def warn(self, said: str) -> None:
        """Say something in the log, once."""
        if said not in self._logged:
            self._logged.add(said)
            log.warning("tokenguard: %s", said)

    # --- the drain -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self.metrics.make()
            # Runs before the exit handlers of the OpenTelemetry SDK, which were registered before the first call.
            at_exit(self._finish)
            self._thread = threading.Thread(target=self._run, name="tokenguard-drain", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is going down; the exit handler drains
                self._thread = None

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(DRAIN_SECONDS)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """Take everything off the queue: add it up, record it, store it. Safe from any thread."""
        with self._lock:
            records: list[Record] = []
            while True:
                try:
                    item = self._queue.popleft()
                except IndexError:
                    break
                try:
                    if isinstance(item, TaskRecord):
                        records.append(item)
                        self.metrics.count_task(item)
                    else:
                        record = item.record
                        record.trace_id, record.span_id = hex_ids(item.span)
                        records.append(record)
                        self.metrics.count_call(item)
                except Exception as error:
                    self._contained("recording metrics", error)
            if records and self._keeps:
                try:
                    if self._sink is None:
                        self._sink = self._make_sink()
                    if self._sink is None:
                        self._keeps = False
                    else:
                        if self._ending:
                            self._sink.hurry()
                        self._sink.write(records)
                except Exception as error:
                    self._contained("writing the local store", error)

    def _finish(self) -> None:
        """The last drain of the process, after which the store's file is let go of."""
        self._ending = True
        if self._sink is not None:
            self._sink.hurry()  # a drain that is waiting for another process has the lock
        self.flush()
        with self._lock:
            try:
                if self._sink is not None:
                    self._sink.finish()
            except Exception as error:
                self._contained("closing the local store", error)

    def _contained(self, where: str, error: Exception) -> None:
        """An error in the drain has no caller to reach, in strict mode either."""
        try:
            self.internal_error(where, error)
        except Exception:
            log.error("tokenguard: %s failed", where, exc_info=error)


_instances: weakref.WeakSet[Telemetry] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """What was queued belongs to the parent, and so did the thread."""
    for telemetry in list(_instances):
        telemetry.metrics.forget()
        telemetry._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
