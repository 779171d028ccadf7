"""Whether what is exported arrives: an OTLP endpoint that is dead keeps no program from ending, and loses no record.

OpenTelemetry's OTLP exporters repeat for 10 s what did not get through, and its SDK waits for that at the end of the
program, signal by signal. Where TokenGuard has set the SDK up, the end waits for `PATIENCE_S` in all; and whoever has
set it up, calls that an endpoint did not take are told of once and kept in the local store, where one is allowed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.process import ends
from tokenguard.process.forks import at_fork
from tokenguard.process.log import Log
from tokenguard.process.threads import start

log = Log("tokenguard")

EXPORTERS: Final = "opentelemetry.exporter.otlp"
"""What the names of all loggers of the OTLP exporters begin with; an export that failed for good is an error there."""
OF_SPANS: Final = ("span", "trace")
"""One of these is in what they say of spans, in which the calls are."""
PATIENCE_S: Final = 0.8


def patience_s() -> float:
    """How long the end of the process waits for what is exported, in seconds."""
    try:
        return max(float(os.environ.get(names.ENV_EXIT_SECONDS, PATIENCE_S)), 0.0)
    except ValueError:
        return PATIENCE_S


class Delivery(logging.Handler):
    """Hears of exports that failed, and sends the last ones in bounded time. `on_failure` is called once."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.failed = False
        self._on_failure = on_failure
        self._senders: list[_Sender] = []
        self._listens = False

    def listen(self) -> None:
        """Hear what the exporters say of failures."""
        if not self._listens:
            self._listens = True
            logging.getLogger(EXPORTERS).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One word of an exporter. Where the SDK is ours, a failure is told in our own words, once."""
        said = record.getMessage()
        if record.levelno >= logging.ERROR and any(word in f"{record.name} {said}" for word in OF_SPANS):
            self._fail(said)
        theirs = logging.lastResort  # what speaks where nobody has set up logging, if we were not there
        if not self._senders and theirs is not None and not logging.getLogger().handlers:
            theirs.handle(record)

    def send_at_the_end(self, providers: Iterable[object]) -> None:
        """Take the place of these providers' own exit handlers, which have just been registered."""
        self.listen()
        for provider in providers:
            if (shutdown := getattr(provider, "shutdown", None)) and hasattr(provider, "force_flush"):
                atexit.unregister(shutdown)
                self._senders.append(_Sender(provider))
        atexit.register(self.send)
        ends.at_leave(self.send)

    def send(self) -> None:
        """Send what is left: all signals at once, and no longer than the patience in all. Never raises."""
        patience = 0.0 if self.failed else patience_s()
        for sender in self._senders:
            sender.ask()
        until = time.monotonic() + patience
        late = [sender for sender in self._senders if not sender.is_done(until - time.monotonic())]
        if late:
            self._fail(f"it did not take all within {patience:g} s at the end of the program")
            # A thread that writes to stderr while Python goes down can abort it.
            logging.getLogger(EXPORTERS).setLevel(logging.CRITICAL + 1)

    def _fail(self, why: str) -> None:
        if self.failed:
            return
        self.failed = True
        where = next((os.environ[name] for name in names.OTLP_ENDPOINTS if os.environ.get(name)), "the default one")
        log.error(
            "tokenguard: the OTLP endpoint (%s) does not take what is sent there: %s. Calls that it may lack are kept "
            "in the local store, where one is allowed (%s).",
            where.rpartition("@")[2],
            why.partition("\n")[0][:200],
            names.ENV_STORE,
        )
        with contextlib.suppress(Exception):
            self._on_failure()


class _Sender:
    """A thread for one provider, there from the start: at the end of a process none can be started any more."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._begin()
        at_fork(self._begin)

    def _begin(self) -> None:
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._done: SimpleQueue[bool] = SimpleQueue()
        start(self._run)

    def _run(self) -> None:
        while self._asked.get():
            with contextlib.suppress(Exception):  # an exporter has said it
                self._provider.force_flush()
            self._done.put(True)

    def ask(self) -> None:
        self._asked.put(True)

    def is_done(self, within_s: float) -> bool:
        """Whether what was asked for is done by then."""
        try:
            return self._done.get(timeout=max(within_s, 0.0))
        except Empty:
            return False
