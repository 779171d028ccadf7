"""PromQL for TokenGuard's metrics: names from `tokenguard.facts.names`, and the few forms that every query is made of.

What the queries keep to, so that they read the same through Prometheus' OTLP endpoint, the collector's Prometheus
exporter and remote write, on Prometheus 2.42 and 3, Mimir and VictoriaMetrics: they group by labels of the metrics'
points and by `job`, never match an `le`, name every metric, and use no syntax that is newer.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenguard.facts import meanings, names
from tokenguard.facts.names import Metric

TENANT, FEATURE, ROUTE, VERSION, TEAM = (
    names.attribution_attribute(key).replace(".", "_") for key in names.METRIC_ATTRIBUTION_KEYS
)
MODEL, PROVIDER, REQUEST_MODEL, ERROR_TYPE = (
    name.replace(".", "_") for name in (names.RESPONSE_MODEL, names.PROVIDER, names.REQUEST_MODEL, names.ERROR_TYPE)
)
SERVICE, ENVIRONMENT = "job", "deployment_environment_name"
"""`service.name` is `job` by every way to Prometheus. The other is there where the resource attribute
`deployment.environment.name` is promoted to a label, as our prometheus.yaml does."""

PICKERS = {
    "service": SERVICE,
    "environment": ENVIRONMENT,
    "team": TEAM,
    "provider": PROVIDER,
    "tenant": TENANT,
    "feature": FEATURE,
    "route": ROUTE,
    "version": VERSION,
    "model": MODEL,
}
"""The dashboards' variables, by the label that each chooses from."""
WHERE = (SERVICE, ENVIRONMENT)
"""The labels that every metric has."""
OF_HISTOGRAMS = (*WHERE, PROVIDER, MODEL)
SENT = 'outcome!="blocked",served=""'
"""Calls that went to a provider: neither refused nor answered from what was kept."""

KEPT = (
    *(names.TASKS, names.TASK_COST_USD, names.GUARD_DECISIONS, names.GUARD_PREVENTED_USD, names.CALLS, names.TOKENS),
    *(names.UNITS, names.COST_USD, names.COST_PART_USD, names.SAVED_USD, names.RETRIES, names.RETRY_COST_USD),
    *(names.UNCAPPED_CALLS, names.UNPRICED_CALLS, names.CACHE_LOOKUPS, names.CACHE_BREAKS),
)
"""The counters that are recorded, without `instance`: what a panel shows over days."""


def _labels(metric: Metric) -> tuple[tuple[str, ...], tuple[str, ...]]:
    own = [label.replace(".", "_") for label in meanings.LABELS[metric.name]]
    chosen = tuple(label for label in PICKERS.values() if label in (*WHERE, *own))
    return chosen, tuple(label for label in own if label not in chosen)


LABELS = {metric: _labels(metric) for metric in KEPT}
"""Of these: the labels that pickers choose by, and the others."""

KNOWN = "1d"
"""How far before a window a counter is looked for: one that was not there yet began at 0. A series belongs to one
process, so a longer look costs time only, and a gap in what arrives has to be longer than this to be taken for a
beginning."""
STEP = "5m"
"""How often gains are recorded, and so the narrowest bar."""
LATE = "1m"
"""Samples are this late at the most when gains are recorded."""
REPORTING = "tokenguard:processes:count"
"""Recorded: how many processes report."""


def prometheus_name(metric: Metric) -> str:
    """The name that every OTLP-to-Prometheus path gives a metric (`UnderscoreEscapingWithSuffixes`).

    >>> prometheus_name(names.COST_USD), prometheus_name(names.DURATION), prometheus_name(names.BUDGET_ELAPSED)
    ('tokenguard_cost_usd_total', 'gen_ai_client_operation_duration_seconds', 'tokenguard_budget_elapsed_ratio')
    """
    name = metric.name.replace(".", "_")
    if metric.unit == "s":
        name += "_seconds"
    return f"{name}_total" if metric.kind == "counter" else name


def recorded_name(metric: Metric) -> str:
    """The recording rule of what a counter gains in each `STEP`.

    >>> recorded_name(names.COST_USD)
    'tokenguard:cost_usd:gain5m'
    """
    return f"tokenguard:{metric.name.removeprefix('tokenguard.').replace('.', '_')}:gain{STEP}"


def picked(labels: tuple[str, ...], *matching: str) -> str:
    """The matchers of what the dashboard's variables choose by these labels, and of `matching`.

    >>> picked((SERVICE,), 'outcome="ok"')
    '{job=~"$service",outcome="ok"}'
    """
    variables = {label: name for name, label in PICKERS.items()}
    inside = ",".join([*(f'{label}=~"${variables[label]}"' for label in labels), *filter(None, matching)])
    return f"{{{inside}}}" if inside else ""


def gain(chosen: str, window: str, ago: str = "") -> str:
    """How much counters grew in a window, to the last cent: `increase()` loses what a counter is born with.

    A process counts a tenant's first call before anybody has seen that tenant's counter at 0, so the first sample is
    already money. This is the last value in the window less the last one before it, or less nothing where there was
    none; of a counter that began again inside the window (the same labels after a restart), `increase()` after all.
    `ago` moves the window into the past; "-" and the window itself, to what follows.
    """
    past, before = _moved(ago), _moved(_sum(window, ago))
    return (
        f"(\n  increase({chosen}[{window}]{past}) and resets({chosen}[{window}]{past}) > 0"
        f"\n  or last_over_time({chosen}[{window}]{past}) - last_over_time({chosen}[{KNOWN}]{before}) >= 0"
        f"\n  or last_over_time({chosen}[{window}]{past})\n)"
    )


def change(chosen: str, window: str, ago: str = "") -> str:
    """`gain` of what may also fall, as what caching saved does."""
    past, before = _moved(ago), _moved(_sum(window, ago))
    return (
        f"(\n  last_over_time({chosen}[{window}]{past}) - last_over_time({chosen}[{KNOWN}]{before})"
        f"\n  or last_over_time({chosen}[{window}]{past})\n)"
    )


def growth(metric: Metric, chosen: str, window: str, ago: str = "") -> str:
    """`gain` of a counter, `change` of what goes up and down."""
    return (change if metric.kind == "updown" else gain)(chosen, window, ago)


def _moved(ago: str) -> str:
    return f" offset {ago}" if ago else ""


def _sum(window: str, ago: str) -> str:
    if ago == f"-{window}":
        return ""
    if not ago:
        return window
    return f"{_minutes(window) + _minutes(ago)}m"


def _minutes(duration: str) -> int:
    return int(duration[:-1]) * {"m": 1, "h": 60, "d": 1440}[duration[-1]]


def grown(metric: Metric, window: str, by: tuple[str, ...] = (), matching: str = "", ago: str = "") -> str:
    """What a counter gained in a window, for what the pickers choose: the sum of what is recorded, or of the counters.

    The variable `recorded` lets one of the two find nothing: the counters where the recording rules have covered the
    whole of the dashboard's range.
    """
    labels, _ = LABELS[metric]
    kept = f"sum_over_time({recorded_name(metric)}{picked(labels, matching)}[{window}]{_moved(ago)})"
    counters = prometheus_name(metric) + picked(labels, matching, 'recorded=~"$recorded"')
    return f"({total(kept, *by)} or {total(growth(metric, counters, window, ago), *by)})"


def kept(metric: Metric, window: str, by: tuple[str, ...] = (), matching: str = "", ago: str = "") -> str:
    """What a counter gained in a window, of everybody, from what is recorded: right over days and past gaps."""
    chosen = recorded_name(metric) + (f"{{{matching}}}" if matching else "")
    return total(f"sum_over_time({chosen}[{window}]{_moved(ago)})", *by)


def total(expression: str, *by: str) -> str:
    """The sum over everything, or by labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def or_zero(part: str, whole: str) -> str:
    """`part`, and 0 for what only `whole` has: no failure is a share of 0, not a gap."""
    return f"({part} or 0 * {whole})"


def share(part: str, whole: str, least: int = 0) -> str:
    """How much of `whole` is `part`, both grouped alike; nothing where `whole` is not more than `least`."""
    return f"{or_zero(part, whole)} / ({whole} > {least})"


def quantile(q: float, metrics: tuple[Metric, ...], labels: str, window: str, by: tuple[str, ...]) -> str:
    """A quantile of a histogram by all its names, with explicit buckets or as a native one."""
    buckets = _named(metrics, lambda name: gain(f"{name}_bucket{labels}", window))
    native = _named(metrics, lambda name: f"rate({name}{labels}[{window}])")
    forms = (total(buckets, "le", *by), total(native, *by))
    return "(" + " or ".join(f"histogram_quantile({q}, {form})" for form in forms) + ")"


def observed(metrics: tuple[Metric, ...], labels: str, window: str, by: tuple[str, ...]) -> str:
    """How many calls a histogram has seen, by all its names."""
    return total(_named(metrics, lambda name: gain(f"{name}_count{labels}", window)), *by)


def _named(metrics: tuple[Metric, ...], form: Callable[[str], str]) -> str:
    """An expression of every name that a histogram has, series by series.

    A process may export either name or both (then they are the same calls, and count once), and what is no inference
    keeps the older one: so neither name alone is everything.
    """
    return "(" + " or ".join(form(prometheus_name(metric)) for metric in metrics) + ")"


DURATION = (names.DURATION, names.INFERENCE_DURATION)
FIRST_CHUNK = (names.FIRST_CHUNK, names.INFERENCE_FIRST_CHUNK)
"""The same histogram by the older and by the newer semantic conventions."""
