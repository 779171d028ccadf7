"""The four dashboards: what each panel asks, and why."""

from __future__ import annotations

from panels import (
    BARS,
    COUNT,
    SECONDS,
    SHARE,
    TOKENS,
    USD,
    Board,
    Panel,
    Query,
    bars,
    custom,
    lines,
    ranking,
    stat,
    steps,
    textbox,
)
from queries import (
    ERROR_TYPE,
    FEATURE,
    MODEL,
    OF_CALLS,
    OF_HISTOGRAMS,
    OF_WORK,
    PROVIDER,
    REQUEST_MODEL,
    ROUTE,
    TEAM,
    TENANT,
    VERSION,
    change,
    gain,
    or_zero,
    prometheus_name,
    quantile,
    series,
    share,
    total,
)

from tokenguard.facts import names
from tokenguard.facts.names import Metric

RANGE, BAR = "$__range", "$__interval"

DIMENSIONS = {
    "Tenant": TENANT,
    "Feature": FEATURE,
    "Route": ROUTE,
    "Prompt version": VERSION,
    "Model": MODEL,
    "Team": TEAM,
}


def of(metric: Metric, window: str, matching: str = "", ago: str = "") -> str:
    """What a counter of calls gained in a window, for what the variables choose."""
    return gain(series(metric, OF_CALLS, matching), window, ago)


def worked(metric: Metric, window: str, matching: str = "") -> str:
    """The same of tasks and decisions, which have no route and no model."""
    return gain(series(metric, OF_WORK, matching), window)


SENT, SUCCEEDED, FAILED, BLOCKED, ABANDONED = (
    'outcome!="blocked"',
    'outcome="ok"',
    'outcome="error"',
    'outcome="blocked"',
    'outcome="abandoned"',
)
FLOWING = 'type=~"input|output"'
"""Input tokens include those of the cache, and output those of reasoning."""


# --- cost ------------------------------------------------------------------------------------------------------------

MONTH_SPENT = total(of(names.COST_USD, RANGE))
PROJECTED = f"{MONTH_SPENT} * scalar(days_in_month()) * 86400 / ((scalar(day_of_month()) - 1) * 86400 + time() % 86400)"
BY_MODEL = total(of(names.COST_USD, BAR), MODEL)
PRICE_PER_MTOK = f"{BY_MODEL} / ({total(of(names.TOKENS, BAR, FLOWING), MODEL)} > 0) * 1e6"
LARGE = (
    f"(sum({BY_MODEL} and on ({MODEL}) ({PRICE_PER_MTOK} >= $large)) or 0 * sum({BY_MODEL})) / (sum({BY_MODEL}) > 0)"
)
PER_CALL = {
    "today": f"{total(of(names.TOKENS, '1d', FLOWING), FEATURE)} / {total(of(names.CALLS, '1d', SENT), FEATURE)}",
    "a week ago": (
        f"{total(of(names.TOKENS, '1d', FLOWING, '7d'), FEATURE)} / {total(of(names.CALLS, '1d', SENT, '7d'), FEATURE)}"
    ),
}
SPENDER = (TENANT, FEATURE, MODEL)

COST = Board(
    "tokenguard-cost",
    "TokenGuard / Cost",
    "What LLM calls cost, and on what.",
    [
        stat("Today", USD, MONTH_SPENT, "Since midnight, UTC, as the ledger counts a day.", time_from="now/d"),
        stat("Month to date", USD, MONTH_SPENT, "Since the first of the month, UTC.", time_from="now/M"),
        stat("Projected month", USD, PROJECTED, "The whole month at the pace of the month so far.", time_from="now/M"),
        stat(
            "Cost per successful task",
            USD,
            f"{total(worked(names.TASK_COST_USD, RANGE))} / ({total(worked(names.TASKS, RANGE, SUCCEEDED))} > 0)",
            "All that tasks cost, failed ones included, over the tasks that succeeded.",
        ),
        stat(
            "Cost per 1,000 calls",
            USD,
            f"1000 * {MONTH_SPENT} / ({total(of(names.CALLS, RANGE, SENT))} > 0)",
            "Calls that were sent; those that the guard blocked cost nothing.",
        ),
        stat(
            "Unpriced calls",
            SHARE,
            share(total(of(names.UNPRICED_CALLS, RANGE)), total(of(names.CALLS, RANGE, SENT))),
            "The share of calls whose model has no known price: they are missing in every sum of money here.",
            defaults=steps((None, "green"), (0.001, "orange"), (0.05, "red")),
        ),
        bars(
            "Spend by $by",
            USD,
            total(of(names.COST_USD, BAR), "$by"),
            "__auto",
            "USD in each interval. The bars add up to the totals.",
            width=16,
            height=9,
        ),
        Panel(
            "table",
            "Top spenders",
            USD,
            [
                Query(f"topk(20, {total(of(names.COST_USD, RANGE), *SPENDER)})", "usd"),
                Query(total(of(names.CALLS, RANGE, SENT), *SPENDER), "calls"),
            ],
            "By tenant, feature and model. A row leads to its traces.",
            height=9,
            traces=SPENDER,
            columns={TENANT: "Tenant", FEATURE: "Feature", MODEL: "Model", "usd": "USD", "calls": "Calls"},
            units={"Calls": COUNT},
            options={"sortBy": [{"displayName": "USD", "desc": True}]},
        ),
        *(
            ranking(
                f"By {title.lower()}",
                USD,
                f"{total(of(names.COST_USD, RANGE), label)} > 0",
                label,
                "The ten that cost most in the chosen range.",
                width=4,
                traces=[label] if label in (TENANT, FEATURE, ROUTE, MODEL) else [],
            )
            for title, label in DIMENSIONS.items()
        ),
        lines(
            "Tokens per call",
            TOKENS,
            [Query(expr, f"{{{{{FEATURE}}}}} {when}") for when, expr in PER_CALL.items()],
            "Over a day, now and seven days ago: a prompt that grew shows here before it shows on the bill.",
            width=12,
        ),
        lines(
            "Share going to large models",
            SHARE,
            [Query(LARGE, "large models")],
            "The share of spend on models that came to at least $large USD per million tokens, cached ones included.",
            width=12,
            defaults={"min": 0, "max": 1},
        ),
    ],
    [custom("by", "Spend by", DIMENSIONS), textbox("large", "Large from USD/Mtok", "2")],
)

# --- cache and waste --------------------------------------------------------------------------------------------------

INPUT, READ = 'type="input"', 'type="cache_read"'


def parts(window: str, part: str, *by: str) -> str:
    """What a part of the cost came to."""
    return total(of(names.COST_PART_USD, window, f'part="{part}"'), *by)


SAVED = change(series(names.SAVED_USD, OF_CALLS), RANGE)
WASTE = Board(
    "tokenguard-waste",
    "TokenGuard / Cache and waste",
    "What prompt caching saves, and what is paid for nothing.",
    [
        stat(
            "Saved",
            USD,
            total(SAVED),
            "Against the plain input rate, by prompt caching and shared flights; negative while cache writes cost more "
            "than reads have saved.",
        ),
        stat(
            "Cache hit share",
            SHARE,
            share(total(of(names.TOKENS, RANGE, READ)), total(of(names.TOKENS, RANGE, INPUT))),
            "Input tokens that were read from the provider's prompt cache.",
        ),
        stat(
            "Input at full price",
            USD,
            parts(RANGE, "input"),
            "Input that was neither read from a cache nor written to one: the upper bound of what caching could still "
            "save. How much of it repeats, no metric can tell; the traces and `tokenguard report` can.",
        ),
        stat(
            "Retry cost",
            USD,
            or_zero(total(of(names.RETRY_COST_USD, RANGE)), MONTH_SPENT),
            "Attempts that failed or were not waited for, and that the provider is taken to have billed.",
        ),
        stat(
            "Abandoned streams",
            COUNT,
            or_zero(total(of(names.CALLS, RANGE, ABANDONED)), total(of(names.CALLS, RANGE))),
            "Streams that were closed before their end. What was generated is billed all the same.",
        ),
        stat(
            "Output share of cost",
            SHARE,
            share(parts(RANGE, "output"), total(of(names.COST_PART_USD, RANGE))),
            "A high share is saved on by shorter answers, a low one by shorter or cached prompts.",
        ),
        lines(
            "Cache hit share by feature",
            SHARE,
            [
                Query(
                    share(total(of(names.TOKENS, BAR, READ), FEATURE), total(of(names.TOKENS, BAR, INPUT), FEATURE)),
                    f"{{{{{FEATURE}}}}}",
                )
            ],
            "A feature that falls to 0 has something new at the start of its prompt.",
            width=12,
            traces=[FEATURE],
            defaults={"min": 0, "max": 1},
        ),
        bars(
            "Saved by feature",
            USD,
            total(change(series(names.SAVED_USD, OF_CALLS), BAR), FEATURE, "lever"),
            f"{{{{{FEATURE}}}}} {{{{lever}}}}",
            "What each lever saved in each interval.",
            width=12,
        ),
        ranking(
            "Input at full price by feature",
            USD,
            parts(RANGE, "input", FEATURE),
            FEATURE,
            "Where caching could save most, at the most. It is an upper bound: it does not know which input repeats.",
            traces=[FEATURE],
        ),
        ranking(
            "Calls without a cap by feature",
            SHARE,
            share(total(of(names.UNCAPPED_CALLS, RANGE), FEATURE), total(of(names.CALLS, RANGE, SENT), FEATURE)),
            FEATURE,
            "The share of calls whose output is as long as the model pleases.",
            defaults={"min": 0, "max": 1},
            traces=[FEATURE],
        ),
        Panel(
            "bargauge",
            "What the money went to",
            USD,
            [Query(f"sort_desc({total(of(names.COST_PART_USD, RANGE), 'part')})", "{{part}}")],
            "Plain input, output, cache reads and cache writes.",
            defaults={"min": 0},
        ),
        bars(
            "Retry cost by feature",
            USD,
            or_zero(total(of(names.RETRY_COST_USD, BAR), FEATURE), total(of(names.COST_USD, BAR), FEATURE)),
            f"{{{{{FEATURE}}}}}",
            "What repeated attempts cost in each interval.",
            traces=[FEATURE],
        ),
        bars(
            "Abandoned streams by feature",
            COUNT,
            or_zero(total(of(names.CALLS, BAR, ABANDONED), FEATURE), total(of(names.CALLS, BAR), FEATURE)),
            f"{{{{{FEATURE}}}}}",
            "Streams that were closed before their end, in each interval.",
            traces=[FEATURE],
        ),
        lines(
            "Output share of cost by feature",
            SHARE,
            [
                Query(
                    share(parts(BAR, "output", FEATURE), total(of(names.COST_PART_USD, BAR), FEATURE)),
                    f"{{{{{FEATURE}}}}}",
                )
            ],
            "What each feature pays its answers.",
            defaults={"min": 0, "max": 1},
        ),
    ],
)

# --- budgets and guard ------------------------------------------------------------------------------------------------

ACCOUNT = ("budget", "key")


def balance(metric: Metric) -> str:
    """A budget's gauge. Processes that share a ledger report the same account: the largest is the latest."""
    return f"max by (budget, key) ({prometheus_name(metric)})"


LIMIT, SPENT, RESERVED, ELAPSED = map(
    balance, (names.BUDGET_LIMIT_USD, names.BUDGET_SPENT_USD, names.BUDGET_RESERVED_USD, names.BUDGET_ELAPSED)
)
LEFT = f"({LIMIT} - {SPENT} - {RESERVED})"
PACE = f"max by (budget, key) (rate({prometheus_name(names.BUDGET_SPENT_USD)}[1h]))"
"""USD per second."""
NAMED = "{{budget}} {{key}}"
DECIDED = worked(names.GUARD_DECISIONS, RANGE)

GUARD = Board(
    "tokenguard-budgets",
    "TokenGuard / Budgets and guard",
    "How far the budgets are, and what the guard decides.",
    [
        stat(
            "Fullest budget",
            SHARE,
            f"max({SPENT} / {LIMIT})",
            "What is spent of the budget that is nearest to its limit.",
            defaults=steps((None, "green"), (0.7, "orange"), (0.9, "red")),
        ),
        stat(
            "Reserved now",
            USD,
            f"sum({RESERVED})",
            "The worst case of calls that are under way. It is given back when they end.",
        ),
        stat(
            "Blocked calls",
            COUNT,
            or_zero(total(worked(names.CALLS, RANGE, BLOCKED)), total(worked(names.CALLS, RANGE))),
            "Calls that were refused before they were sent.",
        ),
        stat(
            "Blocked share",
            SHARE,
            share(total(worked(names.CALLS, RANGE, BLOCKED)), total(worked(names.CALLS, RANGE))),
            "Of all calls.",
        ),
        stat(
            "Prevented",
            USD,
            f"{total(worked(names.GUARD_PREVENTED_USD, RANGE))} or 0 * {total(worked(names.CALLS, RANGE))}",
            "What refused calls could have cost at the most. The real cost would have been less.",
        ),
        stat(
            "Thresholds reached",
            COUNT,
            f"{total(gain(prometheus_name(names.BUDGET_ALERTS), RANGE))} or 0 * count({LIMIT})",
            "How often a budget reached one of its `alert_at` shares.",
        ),
        Panel(
            "table",
            "Budgets",
            USD,
            [
                Query(LIMIT, "limit"),
                Query(SPENT, "spent"),
                Query(RESERVED, "reserved"),
                Query(LEFT, "left"),
                Query(f"{SPENT} / {LIMIT}", "share"),
            ],
            "The open accounts of all budgets in USD.",
            width=16,
            columns={
                "budget": "Budget",
                "key": "Key",
                "limit": "Limit",
                "spent": "Spent",
                "reserved": "Reserved",
                "left": "Remaining",
                "share": "Used",
            },
            units={"Used": SHARE},
            options={"sortBy": [{"displayName": "Used", "desc": True}]},
        ),
        Panel(
            "bargauge",
            "Decisions by rule and action",
            COUNT,
            [Query(f"sort_desc(topk(15, {total(DECIDED, 'rule', 'action')}))", "{{rule}}: {{action}}")],
            "What the guard decided in the chosen range; calls that simply pass are not decisions.",
            defaults={"min": 0},
        ),
        lines(
            "Used",
            SHARE,
            [Query(f"topk(10, {SPENT} / {LIMIT})", NAMED)],
            "Spent of the limit, for the ten fullest.",
            defaults={"min": 0},
        ),
        lines(
            "Burn rate",
            COUNT,
            [Query(f"topk(10, {SPENT} / {LIMIT} / ({ELAPSED} > 0.01))", NAMED)],
            "Against an even spend over the budget's window: 1 ends exactly at the limit, 2 is spent at half time.",
        ),
        lines(
            "Time to exhaustion",
            SECONDS,
            [Query(f"bottomk(10, {LEFT} / ({PACE} > 0))", NAMED)],
            "At the pace of the last hour. A budget that nobody spends from has none.",
        ),
        lines("Reserved", USD, [Query(f"topk(10, {RESERVED})", NAMED)], "The worst case of calls that are under way."),
        bars(
            "Decisions by action",
            COUNT,
            total(worked(names.GUARD_DECISIONS, BAR), "action"),
            "{{action}}",
            "In each interval.",
        ),
        bars(
            "Prevented by rule",
            USD,
            total(worked(names.GUARD_PREVENTED_USD, BAR), "rule"),
            "{{rule}}",
            "What refused calls could have cost at the most, in each interval.",
        ),
    ],
)

# --- reliability and telemetry ----------------------------------------------------------------------------------------


def histogram_count(window: str, matching: str = "") -> str:
    """How many calls a histogram of durations has seen."""
    return gain(series(names.DURATION, OF_HISTOGRAMS, matching, "_count"), window)


QUANTILES = ((0.5, "p50"), (0.95, "p95"))
STATES = {0: ("closed", "green"), 1: ("half open", "orange"), 2: ("open", "red")}
OVERFLOWED = 'count({otel_metric_overflow="true"}) or vector(0)'


UNDELIVERED = '{__name__=~"otelcol_exporter_send_failed_.+"}'
WITH_ERROR = f'{ERROR_TYPE}!=""'


def latencies(metric: Metric) -> list[Query]:
    """The quantiles of a duration by model."""
    return [
        Query(quantile(q, metric, BAR, MODEL), f"{{{{{MODEL}}}}} {title}", exemplars=True) for q, title in QUANTILES
    ]


HEALTH = Board(
    "tokenguard-reliability",
    "TokenGuard / Reliability and telemetry",
    "How the providers answer, and whether what the other dashboards show is complete.",
    [
        stat(
            "Failed calls",
            SHARE,
            share(total(of(names.CALLS, RANGE, FAILED)), total(of(names.CALLS, RANGE, SENT))),
            "The share of calls that ended in an error after all retries.",
            defaults=steps((None, "green"), (0.01, "orange"), (0.05, "red")),
        ),
        stat(
            "Resends per 100 calls",
            COUNT,
            f"100 * {share(total(of(names.RETRIES, RANGE)), total(of(names.CALLS, RANGE, SENT)))}",
            "Requests that an SDK or the application sent again.",
        ),
        stat(
            "Values counted as other",
            COUNT,
            or_zero(total(gain(prometheus_name(names.SERIES_OVERFLOW), RANGE)), total(of(names.CALLS, RANGE))),
            "How often a label had too many values, and one was counted under `other`. Totals stay right.",
            defaults=steps((None, "green"), (1, "orange")),
        ),
        stat(
            "Overflowing series",
            COUNT,
            OVERFLOWED,
            "Series in which OpenTelemetry's SDK put what was over its limit of 2,000 for an instrument.",
            defaults=steps((None, "green"), (1, "red")),
        ),
        stat(
            "Lost records",
            COUNT,
            total(gain(prometheus_name(names.DROPPED_RECORDS), RANGE)),
            "Calls that a process could not count in time. Every sum here lacks them.",
            defaults=steps((None, "green"), (1, "red")),
        ),
        stat(
            "Age of the price table",
            SECONDS,
            f"max({prometheus_name(names.PRICES_AGE)})",
            "Since the newest price that the oldest table in use knows of took effect.",
            defaults=steps((None, "green"), (60 * 86400, "orange"), (180 * 86400, "red")),
        ),
        lines("Latency by model", SECONDS, latencies(names.DURATION), "Points lead to their traces.", width=12),
        lines(
            "Time to first chunk by model",
            SECONDS,
            latencies(names.FIRST_CHUNK),
            "Of streamed calls: what a person waits until something is to be read.",
            width=12,
        ),
        lines(
            "Errors by type",
            SHARE,
            [
                Query(
                    f"{total(histogram_count(BAR, WITH_ERROR), ERROR_TYPE)}"
                    f" / on () group_left () ({total(histogram_count(BAR))} > 0)",
                    f"{{{{{ERROR_TYPE}}}}}",
                )
            ],
            "The share of calls that ended with each error. A gap: none did.",
            defaults={"min": 0},
        ),
        bars(
            "Calls by outcome",
            COUNT,
            total(of(names.CALLS, BAR), "outcome"),
            "{{outcome}}",
            "In each interval: answered, failed, blocked by the guard, closed before their end.",
        ),
        Panel(
            "state-timeline",
            "Breakers",
            "none",
            [
                Query(
                    f"max by (breaker, {PROVIDER}, {REQUEST_MODEL}) ({prometheus_name(names.BREAKER_STATE)})",
                    f"{{{{breaker}}}} {{{{{REQUEST_MODEL}}}}}",
                )
            ],
            "Circuits that have seen a failure; the worst state that any process reports.",
            defaults={
                "mappings": [
                    {
                        "type": "value",
                        "options": {
                            str(value): {"text": text, "color": colour, "index": value}
                            for value, (text, colour) in STATES.items()
                        },
                    }
                ]
            },
        ),
        bars(
            "Resends by model",
            COUNT,
            or_zero(total(of(names.RETRIES, BAR), MODEL), total(of(names.CALLS, BAR), MODEL)),
            f"{{{{{MODEL}}}}}",
            "Requests that were sent again, in each interval.",
            traces=[MODEL],
        ),
        bars(
            "Values counted as other by label",
            COUNT,
            total(gain(prometheus_name(names.SERIES_OVERFLOW), BAR), "label"),
            "{{label}}",
            "The label that has too many values, and `all` where their combinations are too many.",
        ),
        lines(
            "Lost and failed telemetry",
            COUNT,
            [
                Query(total(gain(prometheus_name(names.DROPPED_RECORDS), BAR)), "lost records"),
                Query(total(gain(prometheus_name(names.INTERNAL_ERRORS), BAR)), "errors inside TokenGuard"),
                Query(f"sum(increase({UNDELIVERED}[{BAR}]))", "exports that the collector dropped"),
            ],
            "Records that a process lost, steps of ours that failed (the calls went on), and what the collector could "
            "not deliver, where Prometheus scrapes the collector.",
            defaults={"custom": BARS},
        ),
    ],
)

BOARDS = (COST, WASTE, GUARD, HEALTH)
