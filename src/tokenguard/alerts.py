"""Telling people that a budget has reached a threshold: the log, an OpenTelemetry event, a callback, a webhook.

All of it happens on a thread of its own, so that a receiver that is slow, or down, never delays a call.
"""

from __future__ import annotations

import importlib
import json
import logging
import threading
import urllib.request
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tokenguard.ledger import NANO, Alert
from tokenguard.policy import Alerts

log = logging.getLogger("tokenguard.budget")

WAITING = 1000
"""Alerts that wait for a slow receiver; past it the oldest are dropped."""


def described(alert: Alert) -> dict[str, Any]:
    """An alert as plain data, the body of a webhook's POST; amounts in USD and tokens, times in ISO 8601."""
    entry = alert.entry
    return {
        "budget": entry.budget,
        "key": entry.key,
        "threshold": alert.threshold,
        "spent_usd": alert.spent_nano / NANO,
        "spent_tokens": alert.spent_tokens,
        "limit_usd": None if entry.limit_nano is None else entry.limit_nano / NANO,
        "limit_tokens": entry.limit_tokens,
        "window_start": datetime.fromtimestamp(entry.window_start, UTC).isoformat(),
        "window_end": datetime.fromtimestamp(entry.window_end, UTC).isoformat(),
    }


class Alerter:
    """Delivers alerts, in order, from one background thread."""

    def __init__(self, config: Alerts) -> None:
        self._config = config
        self._waiting: deque[Alert] = deque(maxlen=WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.on_alert: Callable[[Alert], None] | None = None
        """Hears of every alert at once, for metrics."""

    def tell(self, alerts: tuple[Alert, ...]) -> None:
        """Take alerts for delivery; returns at once."""
        for alert in alerts:
            if self.on_alert is not None:
                self.on_alert(alert)
        with self._lock:
            self._waiting.extend(alerts)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._deliver_all, name="tokenguard-alerts", daemon=False)
                self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until what was taken is delivered."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _deliver_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                alert = self._waiting.popleft()
            for deliver in (self._log, self._event, self._call, self._post):
                try:
                    deliver(alert)
                except Exception as error:
                    log.warning("tokenguard: an alert could not be delivered by %s: %s", deliver.__name__, error)

    def _log(self, alert: Alert) -> None:
        facts = described(alert)
        spent, limit = (
            (f"${facts['spent_usd']:.4f}", f"${facts['limit_usd']:.4f}")
            if facts["limit_usd"] is not None
            else (f"{facts['spent_tokens']:,} tokens", f"{facts['limit_tokens']:,} tokens")
        )
        whose = f" ({alert.entry.key})" if alert.entry.key else ""
        log.warning(
            'budget "%s"%s has reached %.0f %%: %s of %s, until %s',
            alert.entry.budget,
            whose,
            alert.threshold * 100,
            spent,
            limit,
            facts["window_end"],
        )

    def _event(self, alert: Alert) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

        get_logger("tokenguard").emit(
            LogRecord(
                event_name="tokenguard.budget.threshold",
                severity_number=SeverityNumber.WARN,
                attributes={f"tokenguard.budget.{k}": v for k, v in described(alert).items() if v is not None},
            )
        )

    def _call(self, alert: Alert) -> None:
        if self._config.callback:
            module, _, function = self._config.callback.partition(":")
            getattr(importlib.import_module(module), function)(described(alert))

    def _post(self, alert: Alert) -> None:
        if self._config.webhook:
            request = urllib.request.Request(  # noqa: S310 - the policy's reader takes http and https only
                self._config.webhook,
                data=json.dumps(described(alert)).encode(),
                headers={"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=self._config.timeout):  # noqa: S310
                pass
