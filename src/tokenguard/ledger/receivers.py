"""Who hears of a budget's thresholds: a callback and a webhook, told by a thread of their own, off the calls' path."""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from tokenguard.ledger.entry import NANO, Alert

_log = logging.getLogger("tokenguard.alerts")

_MAX_WAITING: Final = 1000
"""Alerts that wait for a slow receiver; what comes beyond that is logged and dropped."""

Message = dict[str, Any]


def message(alert: Alert) -> Message:
    """An alert as receivers get it: JSON values, USD, times in ISO 8601 (UTC); `text` says it in a sentence."""
    entry = alert.entry
    spent = []
    if entry.limit_nano is not None:
        spent.append(f"${alert.spent_nano / NANO:,.4f} of ${entry.limit_nano / NANO:,.4f}")
    if entry.limit_tokens is not None:
        spent.append(f"{alert.spent_tokens:,} of {entry.limit_tokens:,} tokens")
    whose = f" ({entry.key})" if entry.key else ""
    return {
        "text": f'Budget "{entry.budget}"{whose} has reached {alert.threshold:.0%}: {" and ".join(spent)} spent',
        "budget": entry.budget,
        "key": entry.key,
        "threshold": alert.threshold,
        "window_start": _iso(entry.window_start),
        "window_end": _iso(entry.window_end),
        "spent_usd": alert.spent_nano / NANO,
        "limit_usd": None if entry.limit_nano is None else entry.limit_nano / NANO,
        "spent_tokens": alert.spent_tokens,
        "limit_tokens": entry.limit_tokens,
    }


class Receivers:
    """The receivers of `[alerts]`. `tell` never blocks and never raises; what fails is logged.

    `callback` is `"package.module:function"`, called with a `message`; `webhook` is a URL that gets it as a JSON POST
    and has `timeout_s` to answer.
    """

    _thread: threading.Thread | None

    def __init__(self, callback: str | None = None, webhook: str | None = None, *, timeout_s: float = 5.0) -> None:
        self._callback = callback
        self._webhook = webhook
        self._timeout_s = timeout_s
        self._start_afresh()

    def tell(self, alerts: Iterable[Alert]) -> None:
        """Pass alerts on, in a moment."""
        if not (self._callback or self._webhook):
            return
        if self._process != os.getpid():  # a forked child has neither the thread nor a lock it could trust
            self._start_afresh()
        for alert in alerts:
            try:
                self._waiting.put_nowait(alert)
            except queue.Full:
                _log.warning("an alert is dropped, its receiver is too slow: %s", message(alert)["text"])
        with self._lock:
            if self._thread is None and not self._waiting.empty():
                self._thread = threading.Thread(target=self._work, name="tokenguard-alerts", daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait until everybody was told, at most `timeout_s`."""
        until = time.monotonic() + timeout_s
        while (thread := self._thread) is not None and time.monotonic() < until:
            thread.join(min(0.1, timeout_s))

    def _start_afresh(self) -> None:
        self._process = os.getpid()
        self._waiting: queue.Queue[Alert] = queue.Queue(_MAX_WAITING)
        self._lock = threading.Lock()
        self._thread = None
        self._function: Callable[[Message], object] | None = None

    def _work(self) -> None:
        """Tell of what waits, and end when nothing does."""
        while True:
            try:
                alert = self._waiting.get_nowait()
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._thread = None
                        return
                continue
            for kind, name, tell in (
                ("callback", self._callback, self._call),
                ("webhook", self._webhook, self._post),
            ):
                if name:
                    try:
                        tell(message(alert))
                    except Exception as error:
                        # Not the URL: chat systems keep their secret in it.
                        where = name if kind == "callback" else "[alerts] webhook"
                        _log.warning("%s failed: %s: %s", where, type(error).__name__, error)

    def _call(self, what: Message) -> None:
        if self._function is None:
            module, _, path = (self._callback or "").partition(":")
            function: Any = importlib.import_module(module)
            for name in path.split("."):
                function = getattr(function, name)
            self._function = function
        self._function(what)

    def _post(self, what: Message) -> None:
        request = urllib.request.Request(  # noqa: S310 - the policy admits http and https
            self._webhook or "",
            data=json.dumps(what).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "tokenguard"},
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s):  # noqa: S310
            pass


def _iso(epoch: int) -> str | None:
    """A moment as text; none for the end of a window that has none."""
    try:
        return datetime.fromtimestamp(epoch, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None
