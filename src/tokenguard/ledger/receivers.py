"""Who hears of a budget's thresholds: a callback and a webhook, told by a thread of their own, off the calls' path."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokenguard.facts.dollars import account
from tokenguard.ledger.entry import NANO, Alert
from tokenguard.process import ends
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.forks import at_fork
from tokenguard.process.log import Log
from tokenguard.process.named import looked_up
from tokenguard.process.native import RLock, sleep
from tokenguard.process.threads import POLL_S, Worker

if TYPE_CHECKING:
    from tokenguard.ledger.webhook import Webhook

_log = Log("tokenguard.alerts")

_MAX_WAITING: Final = 1000
"""Alerts that wait for a slow receiver; what comes beyond that is logged and dropped."""

_UNDELIVERED: Final = "an alert could not be delivered: %s"

RETRIES_S: Final = (1.0, 5.0, 25.0)
"""How long it waits before each further try of a webhook."""

Message = dict[str, Any]


def message(alert: Alert) -> Message:
    """An alert as receivers get it: JSON values, USD, times in ISO 8601 (UTC); `text` says it in a sentence."""
    entry = alert.entry
    spent = []
    if entry.limit_nano is not None:
        spent.append(f"{account(alert.spent_nano / NANO)} of {account(entry.limit_nano / NANO)}")
    if entry.limit_tokens is not None:
        spent.append(f"{alert.spent_tokens:,} of {entry.limit_tokens:,} {entry.counts}")
    whose = f" ({entry.key})" if entry.key else ""
    has = "refuses calls" if alert.refused else f"has reached {alert.threshold:.0%}"
    resets = _iso(entry.window_end) if entry.window_start else None
    since = f" since {_iso(entry.window_start)}" if entry.window_start else ""
    until = "It never resets: raise" if resets is None else f"It resets at {resets}: wait, raise"
    return {
        "text": f'Budget "{entry.budget}"{whose} {has}: {" and ".join(spent)} spent{since}. '
        f"{until} the limit, or send less.",
        "budget": entry.budget,
        "key": entry.key,
        "threshold": alert.threshold,
        "refused": alert.refused,
        "window_start": _iso(entry.window_start),
        "window_end": resets,
        "resets_at": resets,
        "spent_usd": alert.spent_nano / NANO,
        "limit_usd": None if entry.limit_nano is None else entry.limit_nano / NANO,
        f"spent_{entry.counts}": alert.spent_tokens,
        f"limit_{entry.counts}": entry.limit_tokens,
    }


class Receivers:
    """The receivers of `[alerts]`. `tell` never blocks and never raises; what fails is logged.

    `callback` is `"package.module:function"`, called with a `message`; `webhook` is a URL that gets it as a JSON POST
    and has `timeout_s` to answer.
    """

    def __init__(self, callback: str | None = None, webhook: str | None = None, *, timeout_s: float = 5.0) -> None:
        self._callback = callback
        self._webhook: Webhook | None = None
        if webhook:
            from tokenguard.ledger.webhook import Webhook

            self._webhook = Webhook(webhook)
        self._timeout_s = timeout_s
        self._function: Callable[[Message], object] | None = None
        self._forget()
        self._worker = Worker("tokenguard-alerts", self._work)
        at_fork(self._forget)
        at_end(Stage.RECEIVERS, self.finish)

    def _forget(self) -> None:
        self._waiting: deque[Alert] = deque()
        self._lock = RLock()
        self._telling: Alert | None = None
        """Who is being told of it just now."""
        self._until = math.inf
        """When the end of the process waits no longer, by the monotonic clock."""

    def tell(self, alerts: Iterable[Alert]) -> None:
        """Pass alerts on, in a moment."""
        if not (self._callback or self._webhook):
            return
        for alert in alerts:
            if len(self._waiting) >= _MAX_WAITING:
                _log.warning("an alert was dropped, because its receiver is too slow: %s", message(alert)["text"])
            else:
                self._waiting.append(alert)
        if ends.ending:
            self.finish()
        else:
            self._until = math.inf
            self._worker.wake()

    def finish(self) -> None:
        """The process ends: tell them now. What nobody took in time is in the log, whole."""
        self._until = min(self._until, time.monotonic() + ends.PATIENCE_S)
        self.close(max(self._until - time.monotonic(), 0.0))
        with self._lock:
            self._give_up()
            for alert in self._waiting:
                _log.error(_UNDELIVERED, json.dumps(message(alert)))
            self._waiting.clear()

    def _give_up(self) -> None:
        """What is being told of just now is in the log, whole: said by who tells of it, or by the end, and once."""
        with self._lock:
            late, self._telling = self._telling, None
            if late is not None:
                _log.error(_UNDELIVERED, json.dumps(message(late)))

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait until everybody was told, at most `timeout_s`; the thread ends."""
        until = time.monotonic() + timeout_s
        while (self._waiting or self._telling) and time.monotonic() < until:
            if ends.ending and not self._worker.runs:
                self._work()
            sleep(POLL_S)
        self._worker.stop(max(until - time.monotonic(), 0.0))

    def _work(self) -> None:
        """Tell of what waits."""
        while self._waiting:
            try:
                with self._lock:
                    self._telling = alert = self._waiting[0]
                    self._waiting.popleft()
                self._tell_of(alert)
            except IndexError:
                pass
            finally:
                self._telling = None

    def _tell_of(self, alert: Alert) -> None:
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
            self._function = looked_up(self._callback or "")
        self._function(what)

    def _post(self, what: Message) -> None:
        """POST it, again where that fails; what cannot be told at all is in the log, whole."""
        assert self._webhook is not None
        request = self._webhook.request(what)
        for wait_s in (*RETRIES_S, None):
            timeout_s = min(self._timeout_s, max(self._until - time.monotonic(), 0.01))
            try:
                self._webhook.post(request, timeout_s)
            except Exception as error:
                if self._webhook.refuses(error) or wait_s is None or ends.ending:
                    self._give_up()
                    raise
                sleep(wait_s)
            else:
                return


def _iso(epoch: int) -> str | None:
    """A moment as text; none for the end of a window that has none."""
    try:
        return datetime.fromtimestamp(epoch, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None
