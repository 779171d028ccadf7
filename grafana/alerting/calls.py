"""Alerts on calls: failures, slowness, repeats, refusals and open breakers."""

from __future__ import annotations

from boards import BUDGETS, RELIABILITY
from queries import (
    DURATION,
    ENVIRONMENT,
    FEATURE,
    FIRST_CHUNK,
    MODEL,
    PROVIDER,
    REQUEST_MODEL,
    SENT,
    SERVICE,
    gain,
    kept,
    observed,
    prometheus_name,
    quantile,
    share,
    total,
)

from tokenguard.facts import names
from tokenguard.facts.names import Metric

from .rule import Alert

FAILED, BLOCKED = 'outcome="error"', 'outcome="blocked"'
BY_FEATURE = (SERVICE, ENVIRONMENT, FEATURE)
BY_MODEL = (SERVICE, ENVIRONMENT, PROVIDER, MODEL)
ON_FEATURE = f"Feature {{{{ $labels.{FEATURE} }}}}"
ON_MODEL = f"{{{{ $labels.{PROVIDER} }}}} {{{{ $labels.{MODEL} }}}}"


def failing(window: str, most: float, least: int) -> str:
    """Models of which more than this share of calls fails, and at least so many."""
    failed, sent = kept(names.CALLS, window, BY_MODEL, FAILED), kept(names.CALLS, window, BY_MODEL, SENT)
    return f"({share(failed, sent)} > {most} and {failed} >= {least})"


def slower(metrics: tuple[Metric, ...], least: float) -> str:
    """Models whose p95 has doubled against the day before, to more than `least` seconds, over calls enough."""
    now, before = (quantile(0.95, metrics, "", window, BY_MODEL) for window in ("15m", "1d"))
    return f"{now} > 2 * {before} and {now} > {least} and {observed(metrics, '', '15m', BY_MODEL)} > 30"


def blocked(window: str) -> str:
    """The share of a service's calls that the guard refused."""
    where = (SERVICE, ENVIRONMENT)
    return share(kept(names.CALLS, window, where, BLOCKED), kept(names.CALLS, window, where))


REPEATS, SENT_LATELY = kept(names.RETRIES, "15m", BY_FEATURE), kept(names.CALLS, "15m", BY_FEATURE, SENT)
CIRCUIT = (SERVICE, ENVIRONMENT, PROVIDER, REQUEST_MODEL)
OPEN = f"max by ({', '.join(CIRCUIT)}, breaker) ({prometheus_name(names.BREAKER_STATE)}) >= 1"
UNANSWERED = gain(prometheus_name(names.CALLS) + '{outcome=~"error|blocked"}', "15m")
"""From the counters: an open breaker is told of without the recording rules, too."""
WANTED = total(f'label_replace({UNANSWERED}, "{REQUEST_MODEL}", "$1", "{MODEL}", "(.*)")', *CIRCUIT)
"""Calls that a model did not answer. A circuit is open until a call tries it: one that nobody calls is no outage."""

ALERTS = (
    Alert(
        "TokenGuardErrorRate",
        "critical",
        f"{failing('15m', 0.2, 20)} or {failing('1h', 0.5, 5)}",
        "5m",
        ON_MODEL + ": calls fail",
        "{{ $value | humanizePercentage }} of the calls ended in an error after all retries.",
        RELIABILITY,
        "Errors by type",
    ),
    Alert(
        "TokenGuardLatency",
        "warning",
        slower(DURATION, 5),
        "10m",
        ON_MODEL + " answers slowly",
        "p95 of the last 15 minutes is {{ $value | humanizeDuration }}, more than twice that of the last day.",
        RELIABILITY,
        "Latency by model",
    ),
    Alert(
        "TokenGuardFirstChunk",
        "warning",
        slower(FIRST_CHUNK, 2),
        "10m",
        ON_MODEL + " begins to answer slowly",
        "p95 of the time to the first chunk is {{ $value | humanizeDuration }}, more than twice that of the last day.",
        RELIABILITY,
        "Time to first chunk by model",
    ),
    Alert(
        "TokenGuardRetryStorm",
        "critical",
        f"{REPEATS} / ({SENT_LATELY} > 0) > 0.5 and {REPEATS} > 20",
        "5m",
        ON_FEATURE + " repeats its calls over and over",
        "{{ $value | humanize }} resends for each call in the last 15 minutes.",
        RELIABILITY,
        "Retries by model",
    ),
    Alert(
        "TokenGuardBlocking",
        "critical",
        f"{blocked('15m')} > 0.1\nand {blocked('15m')} > 3 * ({blocked('1d')})\n"
        f"and {kept(names.CALLS, '15m', (SERVICE, ENVIRONMENT), BLOCKED)} > 10",
        "5m",
        f"The guard suddenly blocks many calls of {{{{ $labels.{SERVICE} }}}}",
        "{{ $value | humanizePercentage }} of the last 15 minutes' calls were refused.",
        BUDGETS,
        "Decisions by action",
    ),
    Alert(
        "TokenGuardBreakerOpen",
        "warning",
        f"{OPEN}\nand on ({', '.join(CIRCUIT)}) {WANTED} > 0",
        "5m",
        f"Breaker {{{{ $labels.breaker }}}} is open for {{{{ $labels.{REQUEST_MODEL} }}}}",
        "The provider has failed again and again, and calls to this model are refused, but for probes.",
        RELIABILITY,
        "Breakers",
    ),
)
