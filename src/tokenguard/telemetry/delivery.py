"""Whether what is exported arrives: an OTLP endpoint that is dead keeps no program from ending, and loses no record.

OpenTelemetry's OTLP exporters repeat for 10 s what did not get through, and its SDK waits for that at the end of the
program, signal by signal. Here all are sent at once, and an end that an endpoint has refused is not waited for. One
that only keeps silent may be slow: for what is TokenGuard's alone it has `PATIENCE_S`; where the program itself sends
spans or metrics with the same SDK, these have what it gives them. Whoever has set the SDK up, calls that an endpoint
did not take are told of once, and kept in the local store, where one is allowed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.process import ends
from tokenguard.process.forks import at_fork
from tokenguard.process.log import Log
from tokenguard.process.native import SimpleQueue, sleep
from tokenguard.process.threads import start
from tokenguard.telemetry.metrics import SCOPE

log = Log("tokenguard")

EXPORTERS: Final = "opentelemetry.exporter.otlp"
"""What the names of all loggers of the OTLP exporters begin with; an export that failed for good is an error there."""
SIGNALS: Final = {"tracer": ("span", "trace"), "meter": ("metric",), "logger": ("log",)}
"""One of these words is in what they say of each signal. Calls are in spans."""
POLL_S: Final = 0.005
PATIENCE_S: Final = 0.8
SILENT_S: Final = 20.0
"""So long the exporters do not say the same again: those over gRPC not even of another signal."""
GONE: Final = ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
"""What those over gRPC say of an endpoint that does not answer any signal."""


def patience_s() -> float:
    """How long the end of the process waits for what is exported, in seconds."""
    try:
        return max(float(os.environ.get(names.ENV_EXIT_SECONDS, PATIENCE_S)), 0.0)
    except ValueError:
        return PATIENCE_S


class Delivery(logging.Handler):
    """Hears of exports that failed, and sends the last ones in bounded time. `on_failure` is called once.

    `make_ready` finds out what is yet to be told of calls: an exporter that had to do it would send later, and fail
    too late to be heard.
    """

    def __init__(self, on_failure: Callable[[], None], make_ready: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.failed = False
        self._on_failure = on_failure
        self._make_ready = make_ready
        self._senders: list[_Sender] = []
        self._is_ours = False
        """Whether TokenGuard has set OpenTelemetry's SDK up."""
        self._listens = False
        self._heard: dict[str, float] = {}
        """When an exporter last said that a signal did not get through, by the monotonic clock."""

    def listen(self) -> None:
        """Hear what the exporters say of failures."""
        if not self._listens:
            self._listens = True
            logging.getLogger(EXPORTERS).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One word of an exporter. Where the SDK is ours, a failure is told in our own words, once."""
        said = record.getMessage()
        words = f"{record.name} {said}".removeprefix(EXPORTERS)
        signal = next((each for each, known in SIGNALS.items() if any(word in words for word in known)), "")
        self._heard[signal] = time.monotonic()
        # At the end, what is said of metrics may be the one word that there will be.
        if record.levelno >= logging.ERROR and (
            signal == "tracer" or (ends.ending and any(gone in said for gone in GONE))
        ):
            self._fail(said)
        theirs = logging.lastResort  # what speaks where nobody has set up logging, if we were not there
        if not self._is_ours and theirs is not None and not logging.getLogger().handlers:
            theirs.handle(record)

    def send_at_the_end(self, providers: Iterable[object]) -> None:
        """Take the place of these providers' own exit handlers, which have just been registered."""
        self._is_ours = True
        self._take(providers)
        for sender in self._senders:
            sender.waits_no_longer()
            sender.begin()
            at_fork(sender.begin)

    def send_before(self, providers: Iterable[object]) -> None:
        """Send at the end of the process what these providers have, which somebody else has set up.

        Their own exit handlers wait after that, unless an exporter has said that its endpoint does not answer.
        """
        if not self._senders and any(name.startswith(EXPORTERS) for name in list(sys.modules)):
            self._take(providers)
        for sender in self._senders:
            sender.begin()

    def _take(self, providers: Iterable[object]) -> None:
        self.listen()
        self._senders += [
            _Sender(provider)
            for provider in providers
            if hasattr(provider, "shutdown") and hasattr(provider, "force_flush")
        ]
        atexit.register(self.send)
        ends.at_leave(self.send)

    def send(self) -> None:
        """Send what is left: all signals at once, and no longer than the patience in all. Never raises."""
        with contextlib.suppress(Exception):
            self._make_ready()
        began = time.monotonic()
        for sender in self._senders:
            sender.ask()
        until = began + (0.0 if self.failed and self._is_ours else patience_s())
        late = self._senders
        while (late := [sender for sender in late if not sender.is_done()]) and time.monotonic() < until:
            if all(self._was_refused(sender, began) for sender in late):  # it tries again when we are gone
                break
            sleep(POLL_S)
        dead = self._is_ours or max(self._heard.values(), default=-math.inf) > began - SILENT_S
        if given_up := late if dead else [sender for sender in late if sender.is_ours_alone()]:
            if given_up == late:  # else there is time while the program's own is waited for
                self._fail("it did not take all that was left at the end of the program")
            for sender in given_up:
                sender.waits_no_longer()
                for name in [EXPORTERS] if given_up == late else sender.exporters():
                    # A thread that writes to stderr while Python goes down can abort it.
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def _was_refused(self, sender: _Sender, since: float) -> bool:
        """Whether an exporter of this signal has said since then that its endpoint did not take something."""
        return self._heard.get(sender.signal, -math.inf) >= since

    def _fail(self, why: str) -> None:
        if self.failed:
            return
        self.failed = True
        named = next(
            (f" ({url.rpartition('@')[2]})" for name in names.OTLP_ENDPOINTS if (url := os.environ.get(name))), ""
        )
        log.error(
            "tokenguard: the OTLP endpoint%s does not take what is sent there: %s. Calls that it may lack are kept "
            "in the local store, where one is allowed (%s).",
            named,
            why.partition("\n")[0][:200].rstrip("."),
            names.ENV_STORE,
        )
        with contextlib.suppress(Exception):
            self._on_failure()


class _Sender:
    """A thread for one provider, there in time: at the end of a process none can be started any more."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.signal = next((signal for signal in SIGNALS if hasattr(provider, f"get_{signal}")), "")
        self._pid = 0
        """The process in which the thread is."""

    def begin(self) -> None:
        """Start the thread, once in each process."""
        if self._pid != os.getpid():
            self._asked: SimpleQueue[bool] = SimpleQueue()
            self._is_done = True
            if start(self._run):
                self._pid = os.getpid()

    def _run(self) -> None:
        while self._asked.get():
            with contextlib.suppress(Exception):  # an exporter has said it
                self._provider.force_flush()
            self._is_done = True

    def waits_no_longer(self) -> None:
        """The end of the program does not wait for the provider itself."""
        atexit.unregister(self._provider.shutdown)

    def is_ours_alone(self) -> bool:
        """Whether it is seen that nobody else has asked for a tracer or a meter, and all goes by OTLP."""
        made = getattr(self._provider, "_tracers", None) or getattr(self._provider, "_meters", None) or ()
        names = self.exporters()
        ours = {scope.name for scope in list(made)} == {SCOPE}
        return ours and bool(names) and all(name.startswith(EXPORTERS) for name in names)

    def exporters(self) -> list[str]:
        """The modules that its exporters are of."""
        processors = getattr(getattr(self._provider, "_active_span_processor", None), "_span_processors", ())
        readers = getattr(self._provider, "_metric_readers", ())
        found = [getattr(each, "span_exporter", None) for each in processors]
        found += [getattr(each, "_exporter", None) for each in readers]
        return [type(each).__module__ for each in found]

    def ask(self) -> None:
        """Have it send what it has."""
        was_shut_down = getattr(self._provider, "_atexit_handler", self) is None
        if self._pid == os.getpid() and not was_shut_down:
            self._is_done = False
            self._asked.put(True)

    def is_done(self) -> bool:
        """Whether what was asked for is done."""
        return self._is_done or self._pid != os.getpid()
