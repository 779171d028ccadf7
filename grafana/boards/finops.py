"""Budget, actual and forecast; unit cost; showback; and what each lever saved."""

from __future__ import annotations

from budgets import ACCOUNT, ANY, MONTHLY
from panels import CENTS, COUNT, SHARE, USD, Board, Column, Panel, Query, bars, lines, ranking, stat, steps
from queries import FEATURE, REPORTING, SENT, TEAM, WHERE, picked, prometheus_name

from tokenguard.facts import names

from .parts import (
    ANNOTATIONS,
    MONTH,
    RANGE,
    SUCCEEDED,
    TEAMS,
    UNRECORDED,
    barred,
    forecast,
    ranged,
    recorded,
    trailing,
)

LIMIT = prometheus_name(names.BUDGET_LIMIT_USD) + picked(WHERE, 'key=~"team=[^,]*"')
OF_MONTHS = f"{ANY} ({LIMIT}) and on ({', '.join(ACCOUNT)}) {MONTHLY}"
BUDGET_OF_TEAM = f'sum by ({TEAM}) (label_replace({OF_MONTHS}, "{TEAM}", "$1", "key", "team=(.*)"))'
ACTUAL, FORECAST = recorded(names.COST_USD, RANGE, TEAM), forecast(TEAM)
SHOWN, BEFORE = recorded(names.COST_USD, RANGE, *TEAMS), recorded(names.COST_USD, RANGE, *TEAMS, ago="30d")
COVERED = f"300 * scalar(count_over_time(sum({REPORTING})[$__range:5m])) / $__range_s"
MORE = {**steps((None, "text"), (0.2, "orange"), (0.5, "red")), "custom.cellOptions": {"type": "color-text"}}
OVER = {**steps((None, "text"), (1.0, "red")), "custom.cellOptions": {"type": "color-text"}}

FINOPS = Board(
    "tokenguard-finops",
    "TokenGuard / FinOps",
    "Budget, actual and forecast by team; unit cost; showback; and what was saved.",
    [
        stat(
            "Month to date",
            USD,
            recorded(names.COST_USD, RANGE),
            "Since the first of the month, UTC.",
            time_from=MONTH,
            none=UNRECORDED,
        ),
        stat(
            "Projected month",
            USD,
            forecast(),
            "The month so far, and its rest at the pace of the last seven days.",
            time_from=MONTH,
            none=UNRECORDED,
        ),
        stat(
            "Month covered",
            SHARE,
            COVERED,
            "How much of the month so far the recording rules have seen. Below 100 %, the month's figures lack the "
            "rest: the rules were loaded later, or Prometheus keeps less than a month (its default is 15 days; start "
            "it with `--storage.tsdb.retention.time=90d`).",
            time_from=MONTH,
            none=UNRECORDED,
            defaults=steps((None, "red"), (0.9, "orange"), (0.99, "green")),
        ),
        stat(
            "Cost per 1,000 calls",
            USD,
            f"1000 * {ranged(names.COST_USD)} / ({ranged(names.CALLS, matching=SENT)} > 0)",
            "Calls that were sent, in the dashboard's range.",
        ),
        stat(
            "Cost per successful task",
            USD,
            f"{ranged(names.TASK_COST_USD)} / ({ranged(names.TASKS, matching=SUCCEEDED)} > 0)",
            "All that tasks cost, failed ones included, over the tasks that succeeded.",
            none="no tasks",
            defaults=CENTS,
        ),
        stat(
            "Saved",
            USD,
            ranged(names.SAVED_USD),
            "In the dashboard's range, by all levers: caching, sharing, routes, batches.",
            none="nothing saved",
        ),
        Panel(
            "table",
            "Budget, actual and forecast by team",
            USD,
            [
                Query(BUDGET_OF_TEAM, "budget"),
                Query(ACTUAL, "actual"),
                Query(FORECAST, "forecast"),
                Query(f"{FORECAST} / {BUDGET_OF_TEAM}", "share"),
            ],
            'This month. A team\'s budget is that of `[[budget]]` with `per = ["team"]` and `window = "month"`.',
            width=10,
            time_from=MONTH,
            none=UNRECORDED,
            traces=[TEAM],
            columns=(
                Column(TEAM, "Team"),
                Column("budget", "Budget", USD),
                Column("actual", "Actual", USD),
                Column("forecast", "Forecast", USD),
                Column("share", "Of budget", SHARE, OVER),
            ),
            options={"sortBy": [{"displayName": "Forecast", "desc": True}]},
        ),
        Panel(
            "table",
            "Showback by team and model",
            USD,
            [
                Query(SHOWN, "month"),
                Query(f"{BEFORE} and {SHOWN}", "before"),
                Query(f"{SHOWN} / ({BEFORE} > 0) - 1", "change"),
                Query(recorded(names.CALLS, RANGE, *TEAMS, matching=SENT), "calls"),
            ],
            "This month to date, and the same days 30 days earlier. Export it with the panel's *Inspect, Data*.",
            width=14,
            time_from=MONTH,
            none=UNRECORDED,
            traces=TEAMS,
            columns=(
                Column(TEAMS[0], "Team"),
                Column(TEAMS[1], "Model", more={"custom.width": 170}),
                Column("month", "Month to date", USD),
                Column("before", "30 d earlier", USD),
                Column("change", "Change", SHARE, MORE),
                Column("calls", "Calls", COUNT),
            ),
            options={"sortBy": [{"displayName": "Month to date", "desc": True}]},
        ),
        bars(
            "Spend by team",
            USD,
            barred(names.COST_USD, TEAM),
            f"{{{{{TEAM}}}}}",
            "USD in each bar.",
            width=12,
        ),
        lines(
            "Cost per 1,000 calls by feature",
            USD,
            [
                Query(
                    f"topk(10, 1000 * {trailing(names.COST_USD, FEATURE)}"
                    f" / ({trailing(names.CALLS, FEATURE, matching=SENT)} > 20))",
                    f"{{{{{FEATURE}}}}}",
                )
            ],
            "Unit cost over time, of features with more than 20 calls in a step.",
            width=12,
            step="$bucket",
        ),
        bars(
            "Saved by lever",
            USD,
            barred(names.SAVED_USD, "lever"),
            "{{lever}}",
            "Prompt caching, shared flights, kept answers, routes, batches; `escalation` is what routes lost again "
            "where the larger model had to answer as well. Prompt caching is below 0 while writes cost more than reads "
            "have saved. What clamped and trimmed requests saved, nobody knows.",
            none="nothing saved",
        ),
        ranking(
            "Saved by lever, in total",
            USD,
            ranged(names.SAVED_USD, "lever"),
            "lever",
            "Against the plain rate of what was asked for.",
            none="nothing saved",
        ),
        lines(
            "Cost per successful task",
            USD,
            [
                Query(
                    f"{trailing(names.TASK_COST_USD, 'task')}"
                    f" / ({trailing(names.TASKS, 'task', matching=SUCCEEDED)} > 0)",
                    "{{task}}",
                )
            ],
            "All that tasks cost over those that succeeded, by task.",
            step="$bucket",
            none="no tasks",
            defaults=CENTS,
        ),
    ],
    annotations=ANNOTATIONS,
    time_from="now-30d",
)
