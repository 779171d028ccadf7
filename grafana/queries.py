"""PromQL for TokenGuard's metrics: names from `tokenguard.names`, and the few forms that every query is made of.

What the queries keep to, so that they read the same through Prometheus' OTLP endpoint, the collector's Prometheus
exporter and remote write, on Prometheus 2.42 and 3: they group by labels of the metrics' points only, never match an
`le`, and use no syntax that is newer.
"""

from __future__ import annotations

from tokenguard.facts import names
from tokenguard.facts.names import Metric

TENANT, FEATURE, ROUTE, VERSION, TEAM = (
    names.attribution_attribute(key).replace(".", "_") for key in names.METRIC_ATTRIBUTION_KEYS
)
MODEL, PROVIDER, REQUEST_MODEL, ERROR_TYPE = (
    name.replace(".", "_") for name in (names.RESPONSE_MODEL, names.PROVIDER, names.REQUEST_MODEL, names.ERROR_TYPE)
)

FILTERS = {TENANT: "$tenant", FEATURE: "$feature", ROUTE: "$route", MODEL: "$model"}
"""What the dashboards' variables choose, by label."""
OF_CALLS = (TENANT, FEATURE, ROUTE, MODEL)
OF_WORK = (TENANT, FEATURE)
"""The labels of tasks and of the guard's decisions."""
OF_HISTOGRAMS = (MODEL,)

KNOWN = "1h"
"""How far before a window a counter is looked for: one that was not there yet began at 0."""


def prometheus_name(metric: Metric) -> str:
    """The name that every OTLP-to-Prometheus path gives a metric (`UnderscoreEscapingWithSuffixes`).

    >>> prometheus_name(names.COST_USD), prometheus_name(names.DURATION), prometheus_name(names.BUDGET_ELAPSED)
    ('tokenguard_cost_usd_total', 'gen_ai_client_operation_duration_seconds', 'tokenguard_budget_elapsed_ratio')
    """
    name = metric.name.replace(".", "_")
    if metric.unit == "s":
        name += "_seconds"
    return f"{name}_total" if metric.kind == "counter" else name


def series(metric: Metric, by: tuple[str, ...] = (), matching: str = "", suffix: str = "") -> str:
    """A metric's series that the dashboard's variables choose by the labels `by`, and that fit `matching` too.

    >>> series(names.CALLS, (TENANT,), 'outcome="ok"')
    'tokenguard_calls_total{tokenguard_tenant=~"$tenant",outcome="ok"}'
    """
    chosen = [f'{label}=~"{FILTERS[label]}"' for label in by]
    inside = ",".join([*chosen, *([matching] if matching else [])])
    return f"{prometheus_name(metric)}{suffix}" + (f"{{{inside}}}" if inside else "")


def gain(chosen: str, window: str, ago: str = "") -> str:
    """How much counters grew in a window, to the last cent: `increase()` loses what a counter is born with.

    A process counts a tenant's first call before anybody has seen that tenant's counter at 0, so the first sample is
    already money. This is the last value in the window less the last one before it, or less nothing where there was
    none; of a counter that began again inside the window (the same labels after a restart), `increase()` after all.
    `ago`, in days, moves the window into the past.
    """
    past = f" offset {ago}" if ago else ""
    before = f" offset {_sum(window, ago)}"
    return (
        f"(\n  increase({chosen}[{window}]{past}) and resets({chosen}[{window}]{past}) > 0"
        f"\n  or last_over_time({chosen}[{window}]{past}) - last_over_time({chosen}[{KNOWN}]{before}) >= 0"
        f"\n  or last_over_time({chosen}[{window}]{past})\n)"
    )


def change(chosen: str, window: str) -> str:
    """`gain` of what may also fall, as what caching saved does."""
    return (
        f"(\n  last_over_time({chosen}[{window}]) - last_over_time({chosen}[{KNOWN}] offset {window})"
        f"\n  or last_over_time({chosen}[{window}])\n)"
    )


def _sum(window: str, ago: str) -> str:
    return f"{int(window[:-1]) + int(ago[:-1])}d" if ago else window


def total(expression: str, *by: str) -> str:
    """The sum over everything, or by labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def or_zero(part: str, whole: str) -> str:
    """`part`, and 0 for what only `whole` has: no failure is a share of 0, not a gap."""
    return f"({part} or 0 * {whole})"


def share(part: str, whole: str) -> str:
    """How much of `whole` is `part`, both grouped alike."""
    return f"{or_zero(part, whole)} / ({whole} > 0)"


def quantile(q: float, metric: Metric, window: str, *by: str) -> str:
    """A quantile of a histogram, be it stored with explicit buckets or as a native one."""
    buckets = total(gain(series(metric, OF_HISTOGRAMS, suffix="_bucket"), window), "le", *by)
    native = total(f"rate({series(metric, OF_HISTOGRAMS)}[{window}])", *by)
    return f"histogram_quantile({q}, {buckets}) or histogram_quantile({q}, {native})"
