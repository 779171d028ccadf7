"""Telling people that a budget has reached a threshold: the log, the metrics, an OpenTelemetry event, the receivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenguard.ledger import Alert
from tokenguard.ledger.receivers import Receivers, message
from tokenguard.policy import Alerts
from tokenguard.process.log import Log

log = Log("tokenguard.budget")

EVENT = "tokenguard.budget.threshold"


class Alerter:
    """Tells of alerts; never raises. Callback and webhook are told by a thread of their own."""

    def __init__(self, config: Alerts) -> None:
        self._receivers = Receivers(config.callback, config.webhook, timeout_s=config.timeout)
        self.on_alert: Callable[[Alert], None] | None = None
        """Counts alerts, for the metrics."""

    def tell(self, alerts: tuple[Alert, ...]) -> None:
        """Tell everybody of these alerts."""
        for alert in alerts:
            for tell in (self.on_alert, _log, _event):
                try:
                    if tell is not None:
                        tell(alert)
                except Exception as error:
                    log.warning("tokenguard: an alert could not be recorded: %s", error)
        self._receivers.tell(alerts)

    def close(self) -> None:
        """Wait until the receivers were told."""
        self._receivers.close()


def _log(alert: Alert) -> None:
    log.warning("%s", message(alert)["text"])


def _event(alert: Alert) -> None:
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    facts: dict[str, Any] = message(alert)
    text = facts.pop("text")
    get_logger("tokenguard").emit(
        LogRecord(
            event_name=EVENT,
            body=text,
            severity_number=SeverityNumber.WARN,
            attributes={f"tokenguard.budget.{key}": value for key, value in facts.items() if value is not None},
        )
    )
