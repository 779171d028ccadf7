"""Alerts on TokenGuard itself: what it no longer sees, no longer guards, or cannot count."""

from __future__ import annotations

from boards import RELIABILITY
from queries import REPORTING, SERVICE, gain, or_zero, prometheus_name, total

from tokenguard.facts import names

from .rule import ON_SERVICE, PLACE, Alert

ERRORS = total(gain(prometheus_name(names.INTERNAL_ERRORS), "15m"), *PLACE)
CALLS = total(gain(prometheus_name(names.CALLS), "15m"), *PLACE)
OVERFLOW = " + ".join(
    or_zero(total(gain(prometheus_name(metric), "1h"), *PLACE), f"count by ({', '.join(PLACE)}) ({REPORTING})")
    for metric in (names.SERIES_OVERFLOW, names.DROPPED_RECORDS)
)
SDK_OVERFLOW = " or ".join(
    f'count by ({", ".join(PLACE)}) (last_over_time({prometheus_name(metric)}{{otel_metric_overflow="true"}}[1h]))'
    for metric in (names.CALLS, names.TOKENS, names.COST_USD, names.COST_PART_USD)
)

ALERTS = (
    Alert(
        "TokenGuardTelemetryMissing",
        "critical",
        f"{REPORTING} offset 1d and count_over_time({REPORTING}[1d]) >= 144\nunless last_over_time({REPORTING}[15m])",
        "5m",
        ON_SERVICE + " no longer sends telemetry",
        "{{ $value }} processes reported at this time yesterday, and for most of the day since; now none does.",
        RELIABILITY,
        "Processes reporting",
    ),
    Alert(
        "TokenGuardRecordingMissing",
        "warning",
        f"count({prometheus_name(names.CALLS)}) unless count(last_over_time({REPORTING}[30m]))",
        "30m",
        "The recording rules are not loaded, or not evaluated",
        "Alerts on spend and calls see nothing without rules/tokenguard.yaml.",
        RELIABILITY,
        "Processes reporting",
    ),
    Alert(
        "TokenGuardInternalErrors",
        "warning",
        f"{ERRORS} >= 5 or {ERRORS} > 0.1 * ({CALLS} > 0)",
        "5m",
        "TokenGuard fails inside " + f"{{{{ $labels.{SERVICE} }}}}",
        "{{ $value | humanize }} internal errors in 15 minutes. Such calls go on unguarded, unless the policy says "
        "otherwise.",
        RELIABILITY,
        "Lost and failed telemetry",
    ),
    Alert(
        "TokenGuardLedgerLost",
        "critical",
        f"max by ({', '.join(PLACE)}) ({prometheus_name(names.LEDGER_LOST)}) > 0",
        "2m",
        f"The shared ledger is out of reach of {{{{ $labels.{SERVICE} }}}}",
        "Each process counts budgets on its own, or refuses, as `on_loss` says.",
        RELIABILITY,
        "Ledger",
    ),
    Alert(
        "TokenGuardTelemetryOverflow",
        "warning",
        f"({OVERFLOW}) > 0 or {SDK_OVERFLOW}",
        "15m",
        ON_SERVICE + ": label values or records were dropped",
        "{{ $value | humanize }} values of the last hour were counted under `other`, overflowed, or were lost.",
        RELIABILITY,
        "Dropped label values by label",
    ),
    Alert(
        "TokenGuardPricesOld",
        "info",
        f"max by ({', '.join(PLACE)}) ({prometheus_name(names.PRICES_AGE)}) > 120 * 86400",
        "1h",
        ON_SERVICE + " has an old price table",
        "Its newest price took effect {{ $value | humanizeDuration }} ago: update genai-prices.",
        RELIABILITY,
        "Age of the price table",
    ),
)
