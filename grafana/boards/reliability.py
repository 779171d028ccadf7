"""How the providers answer, and whether what the other dashboards show is complete."""

from __future__ import annotations

from panels import COUNT, OUTCOMES, RATIO, SECONDS, SHARE, Board, Panel, Query, bars, lines, stat, steps
from queries import (
    DURATION,
    ERROR_TYPE,
    FIRST_CHUNK,
    MODEL,
    OF_HISTOGRAMS,
    PROVIDER,
    REPORTING,
    REQUEST_MODEL,
    SENT,
    WHERE,
    gain,
    observed,
    or_zero,
    picked,
    prometheus_name,
    share,
    total,
)

from tokenguard.facts import names
from tokenguard.facts.names import Metric

from .parts import AHEAD, ANNOTATIONS, BAR, ENOUGH, FAILED, RANGE, barred, p, ranged

QUANTILES = ((0.5, "p50"), (0.95, "p95"))
STATES = {0: ("closed", "green"), 1: ("half open", "orange"), 2: ("open", "red")}
COUNTED = (names.CALLS, names.TOKENS, names.COST_USD, names.COST_PART_USD)
OVERFLOWED = " + ".join(
    f'(count({prometheus_name(metric)}{{otel_metric_overflow="true"}}) or vector(0))' for metric in COUNTED
)
UNDELIVERED = " + ".join(
    f"(sum(increase(otelcol_exporter_send_failed_{kind}{end}[{BAR}])) or vector(0))"
    for kind in ("metric_points", "spans")
    for end in ("", "_total")
)
"""The collector's counters by either spelling, each named: one selector for both would find two that cannot be told
apart."""
HERE = picked(WHERE)
ERRORS = observed(DURATION, picked(OF_HISTOGRAMS, f'{ERROR_TYPE}!=""'), BAR, (ERROR_TYPE,))
ALL = observed(DURATION, picked(OF_HISTOGRAMS), BAR, ())


def own(metric: Metric, window: str, *by: str, ago: str = "") -> str:
    """What a counter of TokenGuard's own health gained."""
    return total(gain(prometheus_name(metric) + HERE, window, ago), *by)


def latencies(metrics: tuple[Metric, ...]) -> list[Query]:
    """The quantiles of a duration by model."""
    return [Query(p(q, metrics, BAR, MODEL), f"{{{{{MODEL}}}}} {title}", exemplars=True) for q, title in QUANTILES]


BREAKERS = Panel(
    "state-timeline",
    "Breakers",
    RATIO,
    [
        Query(
            f"max by (breaker, {PROVIDER}, {REQUEST_MODEL}) ({prometheus_name(names.BREAKER_STATE)}{HERE})",
            f"{{{{breaker}}}} {{{{{REQUEST_MODEL}}}}}",
        )
    ],
    "Circuits that have seen a failure; the worst state that any process reports.",
    none="no failures",
    step="5m",
    defaults={
        "mappings": [
            {
                "type": "value",
                "options": {
                    str(value): {"text": name, "color": colour, "index": value}
                    for value, (name, colour) in STATES.items()
                },
            }
        ]
    },
)

RELIABILITY = Board(
    "tokenguard-reliability",
    "TokenGuard / Reliability and telemetry",
    "How the providers answer, and whether what the other dashboards show is complete.",
    [
        stat(
            "Failed calls",
            SHARE,
            share(ranged(names.CALLS, matching=FAILED), ranged(names.CALLS, matching=SENT)),
            "The share of calls that ended in an error after all retries.",
            defaults=steps((None, "green"), (0.01, "orange"), (0.05, "red")),
        ),
        stat(
            "Retries per 100 calls",
            COUNT,
            f"100 * {share(ranged(names.RETRIES), ranged(names.CALLS, matching=SENT))}",
            "Requests that an SDK or the application sent again.",
            defaults={"decimals": 1},
        ),
        stat(
            "Dropped label values",
            COUNT,
            or_zero(own(names.SERIES_OVERFLOW, RANGE), own(names.DROPPED_RECORDS, RANGE)),
            "How often a label had too many values, and one was counted under `other`. Totals stay right.",
            none="no telemetry",
            defaults=steps((None, "green"), (1, "orange")),
        ),
        stat(
            "SDK overflow series",
            COUNT,
            OVERFLOWED,
            "Series in which OpenTelemetry's SDK put what was over its limit of 2,000 for an instrument.",
            defaults=steps((None, "green"), (1, "red")),
        ),
        stat(
            "Lost records",
            COUNT,
            own(names.DROPPED_RECORDS, RANGE),
            "Calls dropped because the exporter fell behind; missing from all totals.",
            none="no telemetry",
            defaults=steps((None, "green"), (1, "red")),
        ),
        stat(
            "Age of the price table",
            SECONDS,
            f"max({prometheus_name(names.PRICES_AGE)}{HERE})",
            "Age of the newest price in the oldest price table still in use.",
            none="no telemetry",
            defaults=steps((None, "green"), (60 * 86400, "orange"), (180 * 86400, "red")),
        ),
        lines(
            "Latency by model",
            SECONDS,
            latencies(DURATION),
            f"Of at least {2 * ENOUGH} calls. Points lead to their traces.",
            width=12,
            traces=[MODEL],
        ),
        lines(
            "Time to first chunk by model",
            SECONDS,
            latencies(FIRST_CHUNK),
            "Of streamed calls: what a person waits until something is to be read.",
            width=12,
            traces=[MODEL],
        ),
        lines(
            "Errors by type",
            SHARE,
            [Query(f"{ERRORS} / on () group_left () ({ALL} >= {ENOUGH})", f"{{{{{ERROR_TYPE}}}}}")],
            f"The share of at least {ENOUGH} calls that ended with each error. A gap: none did.",
            none="no errors",
            defaults={"min": 0},
        ),
        bars(
            "Calls by outcome",
            COUNT,
            barred(names.CALLS, "outcome"),
            "{{outcome}}",
            "Answered, failed, blocked by the guard, closed before their end.",
            named=OUTCOMES,
        ),
        BREAKERS,
        bars(
            "Retries by model",
            COUNT,
            or_zero(barred(names.RETRIES, MODEL), barred(names.CALLS, MODEL)),
            f"{{{{{MODEL}}}}}",
            "Requests that were sent again.",
            traces=[MODEL],
        ),
        bars(
            "Dropped label values by label",
            COUNT,
            own(names.SERIES_OVERFLOW, BAR, "label", ago=AHEAD),
            "{{label}}",
            "The label that has too many values, and `all` where their combinations are too many.",
            none="none dropped",
        ),
        lines(
            "Lost and failed telemetry",
            COUNT,
            [
                Query(own(names.DROPPED_RECORDS, BAR), "lost records"),
                Query(own(names.INTERNAL_ERRORS, BAR), "errors inside TokenGuard"),
                Query(UNDELIVERED, "exports that the collector dropped"),
            ],
            "Records that a process lost, steps of ours that failed (the calls went on), and what the collector could "
            "not deliver, where Prometheus scrapes the collector.",
            none="no telemetry",
            defaults={"min": 0},
        ),
        lines(
            "Processes reporting",
            COUNT,
            [Query(f"sum by (job) ({REPORTING}{HERE})", "{{job}}")],
            "Processes whose metrics arrive, by service. A service that ends here no longer tells anything.",
            none="needs recording rules",
            step="5m",
            defaults={"min": 0},
        ),
        lines(
            "Ledger",
            COUNT,
            [Query(f"max by (job) ({prometheus_name(names.LEDGER_LOST)}{HERE})", "{{job}}")],
            "1 while a service cannot reach its shared ledger: each process counts budgets alone, or refuses calls.",
            none="no shared ledger",
            step="5m",
            defaults={"min": 0, "max": 1},
        ),
    ],
    annotations=ANNOTATIONS,
)
