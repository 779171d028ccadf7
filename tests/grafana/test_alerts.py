"""Each alert fires when it should and only then: promtool, over raw counters and the recording rules as shipped."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from .parts import alerts
from .simulated import (
    DAY,
    FEATURE,
    HOUR,
    TENANT,
    budget,
    calls,
    counter,
    durations,
    gauge,
    group,
    lately,
    of_days,
    promtool,
    rule,
    series,
    spent,
    tokens,
)


class Case(NamedTuple):
    """An alert, what happens, and whether it fires at any time in the hours before the look."""

    alert: str
    what: str
    fires: bool | str
    """Or the one `reason` that the alert gives."""
    series: dict
    hours: float = 6
    """When to look."""
    before: float = 1000
    """How far back it may have fired."""
    minutes: int = 5
    """Between two samples, and two evaluations."""
    recording: bool = True
    """Whether the series are raw, and the recording rules run."""

    def __str__(self):
        return f"{self.alert.removeprefix('TokenGuard')}: {self.what}"


def noisy(count, mean, share, seed):
    """Daily amounts that vary by a share of their mean, evenly."""
    chance = random.Random(seed)
    return [mean * chance.uniform(1 - share, 1 + share) for _ in range(count)]


def chat(values, **labels):
    return spent(values, **{FEATURE: "chat", **labels})


def recorded(by, value, *amounts, late=0):
    """Daily spend of a feature or tenant, as the recording rules have it; `late` days after everything else."""
    name = {FEATURE: "feature_", TENANT: "tenant_", "": ""}[by] + "cost_usd:sum1d"
    labels = f'{by}="{value}"' if by else ""
    return {f"tokenguard:{name}{{{labels}}}": (f"_x{24 * late} " if late else "") + lately(*amounts)}


WEEK = [100, 100, 100, 100, 100, 10, 10]
ANOMALY = "TokenGuardSpendAnomaly"
STEADY = [20] * 8


def anomaly(what, reasons, series, days, before=1000):
    """A case of recorded days, looked at by the hour; it fires for these reasons."""
    return Case(ANOMALY, what, reasons, series, 24 * days - 1, before, 60, False)


SPEND = [
    anomaly("five times as much", "jump", recorded(FEATURE, "chat", *STEADY, 100), 9),
    anomaly("twice as much", "jump", recorded(FEATURE, "chat", *STEADY, 40), 9),
    anomaly("twice as much, nine hours in", "jump", recorded(FEATURE, "chat", *[200] * 8, 400), 8 + 11 / 24, 24),
    anomaly("a tenth more", "", recorded(FEATURE, "chat", *STEADY, 22), 9),
    anomaly("five times nearly nothing", "", recorded(FEATURE, "chat", *[0.1] * 8, 0.5), 9),
    anomaly("a tenth more each day", "growth", recorded(FEATURE, "chat", *(20 * 1.1**n for n in range(21))), 21),
    anomaly("a tenth more each day, in all", "growth", recorded("", "", *(20 * 1.1**n for n in range(21))), 21),
    anomaly(
        "a tenant from 2 to 80 USD inside a feature of 200 that varies by a fifth",
        "jump",
        recorded(FEATURE, "chat", *(2 + each for each in noisy(9, 200, 0.2, 1)), 280)
        | recorded(TENANT, "acme", *[2] * 9, 80),
        10,
        24,
    ),
    anomaly("a new feature of 1,000 USD on its first day", "new", recorded(FEATURE, "new", 1000, late=4), 5),
    anomaly(
        "a new feature of 120 USD beside 5,000",
        "",
        recorded("", "", *[5000] * 5) | recorded(FEATURE, "new", 120, late=4),
        5,
    ),
    anomaly("a new tenant of 8 USD a day", "", recorded(TENANT, "new", *[8] * 12, late=4), 16),
    anomaly(
        "a Sunday of ten times a Sunday", "weekday", recorded(FEATURE, "chat", *WEEK, *WEEK, *WEEK[:6], 100), 21, 24
    ),
    anomaly("weekends and weekdays as ever", "", recorded(FEATURE, "chat", *WEEK, *WEEK, *WEEK, *WEEK[:2]), 23),
    anomaly("a holiday, and the week after it", "", recorded(FEATURE, "chat", *WEEK, *WEEK, 10, *WEEK[1:], *WEEK), 28),
    *(
        anomaly(f"days that vary by half ({seed})", "", recorded(FEATURE, "chat", *noisy(28, 50, 0.5, seed)), 28)
        for seed in range(4)
    ),
    *(
        anomaly(
            f"a day of twice the mean, where days vary by half ({seed})",
            "",
            recorded(FEATURE, "chat", *noisy(15, 50, 0.5, seed), 100, *noisy(3, 50, 0.5, seed + 50)),
            19,
        )
        for seed in range(4)
    ),
    Case(
        ANOMALY,
        "two and a half hours without samples, of a process that runs on",
        False,
        chat(counter((0.05, 4 * DAY), (None, 30)) + " " + counter((0.05, 3 * DAY), start=0.05 * (4 * DAY + 30))),
        170,
    ),
    Case(
        ANOMALY,
        "a deploy: another process, another prompt version",
        False,
        chat(of_days(*STEADY[:5]), tokenguard_prompt_version="v1")
        | chat("_x" + str(5 * DAY) + " " + of_days(20), tokenguard_prompt_version="v2", instance="2"),
        143,
    ),
    Case(ANOMALY, "a restart that keeps its labels", False, chat(of_days(*STEADY[:5]) + " " + of_days(20)), 143),
    Case(ANOMALY, "five times as much, from counters", "jump", chat(of_days(*STEADY[:5], 100)), 143),
    Case(
        "TokenGuardTokensPerCallJump",
        "calls of twice the tokens",
        True,
        calls("ok", counter((1, 9 * DAY))) | tokens("input", counter((1000, 8 * DAY), (2000, DAY))),
        215,
    ),
    Case(
        "TokenGuardTokensPerCallJump",
        "twice the calls",
        False,
        calls("ok", counter((1, 8 * DAY), (2, DAY))) | tokens("input", counter((1000, 8 * DAY), (2000, DAY))),
        215,
    ),
    Case(
        "TokenGuardTokensPerCallJump",
        "ten calls a day",
        False,
        calls("ok", of_days(*[10] * 9)) | tokens("input", of_days(*[1000] * 8, 9000)),
        215,
    ),
]


def cached(*shares, calls_an_hour=300):
    """Calls with so much of their input read from the cache, as (share, samples)."""
    pace = calls_an_hour / HOUR
    total = sum(n for _, n in shares)
    return (
        calls("ok", counter((pace, total)))
        | tokens("input", counter((pace * 1000, total)))
        | tokens("cache_read", counter(*((pace * 1000 * share, n) for share, n in shares)))
    )


def nights(days):
    """By day 300 calls an hour with 75 % hits, by night 25 with 40 %."""
    paces = [(300, 0.75, 16), (25, 0.4, 8)] * days
    return (
        calls("ok", counter(*((n / HOUR, h * HOUR) for n, _, h in paces)))
        | tokens("input", counter(*((n / HOUR * 1000, h * HOUR) for n, _, h in paces)))
        | tokens("cache_read", counter(*((n / HOUR * 1000 * share, h * HOUR) for n, share, h in paces)))
    )


CACHE = [
    Case("TokenGuardCacheHitDrop", "no hits any more", True, cached((0.8, 2 * DAY - 2 * HOUR), (0, 2 * HOUR)), 47.9),
    Case(
        "TokenGuardCacheHitDrop", "a tenth fewer hits", False, cached((0.8, 2 * DAY - 2 * HOUR), (0.7, 2 * HOUR)), 47.9
    ),
    Case(
        "TokenGuardCacheHitDrop",
        "a few calls without hits",
        False,
        cached((0.8, 2 * DAY - 2 * HOUR), (0, 2 * HOUR), calls_an_hour=24),
        47.9,
    ),
    Case("TokenGuardCacheHitDrop", "nights with few calls and few hits", False, nights(4), 95.9),
    Case("TokenGuardCacheHitDrop", "a new feature", False, cached((0, 3 * HOUR)), 2.9),
    Case(
        "TokenGuardUnpricedSpend",
        "a tenth of the calls",
        True,
        calls("ok", counter((10, DAY)))
        | series("tokenguard_calls_unpriced_total", counter((1, DAY)), **{FEATURE: "chat"}),
    ),
    Case(
        "TokenGuardUnpricedSpend",
        "none since long ago, and a gap",
        False,
        calls("ok", counter((10, DAY), (None, 30), (10, DAY)))
        | series(
            "tokenguard_calls_unpriced_total", counter((0, DAY), (None, 30), (0, DAY), start=200), **{FEATURE: "chat"}
        ),
        40,
        16,
    ),
]

NEARING, ALMOST, FULL = "TokenGuardBudgetNearing", "TokenGuardBudgetAlmostSpent", "TokenGuardBudgetSpent"
REFUSING, BURN, PROJECTED = "TokenGuardBudgetRefusing", "TokenGuardBudgetBurn", "TokenGuardBudgetProjected"
EVENING = counter((9.5 / 1440, 1380))
EVEN = {"elapsed": counter((1 / 1440, 1380)), "samples": 1380}
MONTH = 30 * 86400


def refusals(values, **labels):
    return series("tokenguard_budget_refusals_total", values, budget="b", key="k", **labels)


BUDGETS = [
    Case(NEARING, "75 % at half time", True, budget(7.5)),
    Case(NEARING, "69 %", False, budget(6.9)),
    Case(NEARING, "spent evenly, to end at 95 %", False, budget(EVENING, **EVEN), 22.9, minutes=1),
    Case(NEARING, "75 % of its tokens", True, budget(750, 1000, unit="tokens")),
    Case(ALMOST, "95 % at half time", True, budget(9.5)),
    Case(ALMOST, "89 %", False, budget(8.9)),
    Case(ALMOST, "spent evenly, to end at 95 %", False, budget(EVENING, **EVEN), 22.9, minutes=1),
    Case(ALMOST, "95 % in total, without a window", True, {k: v for k, v in budget(9.5).items() if "_usd" in k}),
    Case(FULL, "all of it", True, budget(10)),
    Case(FULL, "all but a cent", False, budget(9.99)),
    Case(FULL, "of one of two services", True, budget(10, 100) | budget(5, 5, job="other")),
    Case(FULL, "of one of two processes with ledgers of their own", True, budget(1, 10) | budget(5, 5, instance="2")),
    Case(FULL, "of its tokens, while its dollars last", True, budget(1) | budget(1000, 1000, unit="tokens")),
    Case(REFUSING, "calls refused at 97 %", True, budget(9.7) | refusals("_x30 1x100"), 4),
    Case(REFUSING, "none since", False, budget(9.7) | refusals(counter((0, DAY), start=50)), 20, 15),
    Case(REFUSING, "none since, and a gap", False, refusals(counter((0, DAY), (None, 30), (0, DAY), start=50)), 40, 30),
    # An even spend of 10 USD in a day is 0.007 a minute.
    Case(BURN, "six times as fast as evenly", True, budget(counter((0.042, 240)), samples=240), 3, minutes=1),
    Case(BURN, "twice as fast", False, budget(counter((0.014, 240)), samples=240), 3.5, minutes=1),
    Case(
        BURN,
        "one agent run of 0.80 USD of 5 USD",
        False,
        budget(counter((0.0008, 540), (0.27, 3), (0.0008, 60)), 5, counter((1 / 1440, 603)), samples=603),
        9.9,
        minutes=1,
    ),
    Case(
        BURN,
        "a spurt that is over",
        False,
        budget(counter((0.02, 240), (0.1, 10), (0, 60)), samples=310),
        5,
        0.5,
        minutes=1,
    ),
    Case(
        BURN,
        "a month's budget, five times as fast for a day",
        True,
        budget(counter((1, DAY)), 600, 0.3, MONTH)
        | budget(counter((0.6, DAY), start=330), 600, 0.3, MONTH, key="late"),
        20,
    ),
    Case(
        BURN,
        "a month's budget, spent by day only",
        False,
        budget(
            counter(*[(0, 12 * HOUR), (4 / DAY, 12 * HOUR)] * 2, start=310),
            600,
            counter((1 / 30 / DAY, 2 * DAY), start=0.5),
            MONTH,
            samples=2 * DAY,
        ),
        47,
    ),
    Case(PROJECTED, "a month that ends at 150 %", True, budget(45, 100, 0.3, MONTH)),
    Case(PROJECTED, "a month that ends at 100 %", False, budget(30, 100, 0.3, MONTH)),
    Case(PROJECTED, "the first days of a month", False, budget(20, 100, 0.05, MONTH)),
    Case(PROJECTED, "a day", False, budget(4.5, 10, 0.3)),
]

STORM, BLOCKING, OPEN = "TokenGuardRetryStorm", "TokenGuardBlocking", "TokenGuardBreakerOpen"
FAILS = "TokenGuardErrorRate"
BREAKER = {"breaker": "b", "gen_ai_provider_name": "openai", "gen_ai_request_model": "m"}


def breaker(values):
    return series("tokenguard_breaker_state", values, **BREAKER)


def retries(*paces):
    return series("tokenguard_retries_total", counter(*paces), **{FEATURE: "chat"})


OLD, NEW = "gen_ai_client_operation_{}_seconds", "gen_ai_client_inference_{}_seconds"
SLOW = [
    Case(alert, f"{what}, {name.format(kind)}", fires, durations(name.format(kind), took, (DAY, 2 * HOUR)), 25.9)
    for alert, kind in (("TokenGuardLatency", "duration"), ("TokenGuardFirstChunk", "time_to_first_chunk"))
    for name in (OLD, NEW)
    for what, fires, took in (
        ("ten times as slow", True, ((1, 20), (10, 20))),
        ("as slow as ever", False, ((10, 20), (10, 20))),
        ("one slow call an hour", False, ((1, 20), (10, 1 / HOUR))),
    )
]
CALLS = [
    Case(
        FAILS,
        "every call",
        True,
        calls("ok", counter((10, DAY), (0, HOUR))) | calls("error", counter((0, DAY), (10, HOUR))),
        24.9,
    ),
    Case(
        FAILS,
        "every call of a feature with six an hour",
        True,
        calls("ok", counter((0.5, DAY), (0, 3 * HOUR))) | calls("error", counter((0, DAY), (0.5, 3 * HOUR))),
        26.9,
    ),
    Case(FAILS, "every call of a new model", True, calls("error", f"_x{DAY} " + counter((10, HOUR))), 24.9),
    Case(FAILS, "one in a hundred", False, calls("ok", counter((10, DAY))) | calls("error", counter((0.1, DAY))), 20),
    Case(
        FAILS,
        "two of three, of three in all",
        False,
        calls("ok", counter((0, 20), (1, 1), (0, DAY))) | calls("error", counter((0, 20), (2, 1), (0, DAY))),
        20,
    ),
    Case(
        FAILS,
        "a gap after an outage long ago",
        False,
        calls("ok", counter((10, DAY), (None, 30), (10, HOUR), start=5))
        | calls("error", counter((0, DAY), (None, 30), (0, HOUR), start=500)),
        27,
        26,
    ),
    Case(
        STORM,
        "two resends for each call",
        True,
        calls("ok", counter((10, DAY))) | retries((0, DAY - HOUR), (20, HOUR)),
        23.9,
    ),
    Case(
        STORM,
        "a resend for five calls",
        False,
        calls("ok", counter((10, DAY))) | retries((0, DAY - HOUR), (2, HOUR)),
        23.9,
    ),
    Case(STORM, "thin traffic", False, calls("ok", counter((0.5, DAY))) | retries((0, DAY - HOUR), (1, HOUR)), 23.9),
    Case(
        BLOCKING,
        "half of the calls, suddenly",
        True,
        calls("ok", counter((10, DAY))) | calls("blocked", counter((0, DAY - HOUR), (10, HOUR))),
        23.9,
    ),
    Case(
        BLOCKING,
        "a fifth, as ever",
        False,
        calls("ok", counter((10, DAY))) | calls("blocked", counter((2.5, DAY))),
        23.9,
        12,
    ),
    Case(
        BLOCKING,
        "three calls",
        False,
        calls("ok", counter((0.1, DAY))) | calls("blocked", counter((0, DAY - HOUR), (0.25, HOUR))),
        23.9,
        12,
    ),
    Case(OPEN, "open", True, breaker(gauge((2, DAY)))),
    Case(OPEN, "open, with a probe now and then", True, breaker(" ".join(["2 2 2 1 2"] * 24)), 1.9, minutes=1),
    Case(OPEN, "open for three minutes", False, breaker(gauge((0, 30), (2, 3), (0, 30))), 1, minutes=1),
    Case(OPEN, "closed since", False, breaker(gauge((2, 30), (0, 60))), 1.4, 0.7, minutes=1),
    *SLOW,
]

MISSING, RULES_MISSING = "TokenGuardTelemetryMissing", "TokenGuardRecordingMissing"
INTERNAL, LEDGER, OVERFLOW = "TokenGuardInternalErrors", "TokenGuardLedgerLost", "TokenGuardTelemetryOverflow"


def own(name, *paces, start=0.0, **labels):
    return series(f"tokenguard_{name}", counter(*paces, start=start), **labels)


TELEMETRY = [
    Case(MISSING, "nothing arrives any more", True, calls("ok", counter((1, 2 * DAY), (None, 2 * HOUR))), 49.5),
    Case(MISSING, "no calls, but telemetry", False, calls("ok", counter((1, DAY), (0, 2 * DAY))), 71),
    Case(
        MISSING,
        "a nightly job of two hours",
        False,
        calls(
            "ok",
            counter(
                (1, 2 * HOUR), (None, 22 * HOUR), (1, 2 * HOUR), (None, 22 * HOUR), (1, 2 * HOUR), (None, 6 * HOUR)
            ),
        ),
        55,
    ),
    Case(
        MISSING,
        "one of two processes ends",
        False,
        calls("ok", counter((1, 2 * DAY))) | calls("ok", counter((1, 3 * DAY)), instance="2"),
        71,
    ),
    Case(
        MISSING,
        "a restart as another process",
        False,
        calls("ok", counter((1, 2 * DAY))) | calls("ok", f"_x{2 * DAY} " + counter((1, DAY)), instance="2"),
        71,
    ),
    Case(
        INTERNAL,
        "with every call",
        True,
        calls("ok", counter((10, DAY))) | own("internal_errors_total", (0, DAY - HOUR), (10, HOUR)),
        23.9,
    ),
    Case(
        INTERNAL,
        "with every call of a few",
        True,
        calls("ok", counter((0.25, DAY))) | own("internal_errors_total", (0, DAY - HOUR), (0.25, HOUR)),
        23.9,
    ),
    Case(
        INTERNAL,
        "one, once",
        False,
        calls("ok", counter((10, DAY))) | own("internal_errors_total", (0, 99), (1, 1), (0, 99)),
        16,
    ),
    Case(
        INTERNAL,
        "none since, and a gap",
        False,
        calls("ok", counter((10, DAY), (None, 30), (10, DAY)))
        | own("internal_errors_total", (0, DAY), (None, 30), (0, DAY), start=99),
        40,
        30,
    ),
    Case(LEDGER, "out of reach", True, series("tokenguard_ledger_lost", gauge((0, 60), (1, 60))), 1.9, minutes=1),
    Case(
        LEDGER,
        "out of reach for a minute",
        False,
        series("tokenguard_ledger_lost", gauge((0, 60), (1, 1), (0, 60))),
        1.9,
        minutes=1,
    ),
    Case(
        OVERFLOW,
        "a label with too many values",
        True,
        calls("ok", counter((1, DAY))) | own("series_overflow_total", (1, DAY), label="x"),
    ),
    Case(OVERFLOW, "lost records", True, calls("ok", counter((1, DAY))) | own("records_dropped_total", (1, DAY))),
    Case(
        OVERFLOW,
        "the SDK's own overflow",
        True,
        series("tokenguard_calls_total", counter((1, DAY)), otel_metric_overflow="true"),
    ),
    Case(
        OVERFLOW,
        "none since, and a gap",
        False,
        calls("ok", counter((1, DAY), (None, 30), (1, DAY)))
        | own("series_overflow_total", (0, DAY), (None, 30), (0, DAY), start=9, label="x"),
        40,
        30,
    ),
    Case("TokenGuardPricesOld", "130 days", True, series("tokenguard_prices_age_seconds", gauge((130 * 86400, DAY)))),
    Case("TokenGuardPricesOld", "30 days", False, series("tokenguard_prices_age_seconds", gauge((30 * 86400, DAY)))),
    Case(RULES_MISSING, "the recording rules run", False, calls("ok", counter((1, DAY))), 20),
]
CASES = [*SPEND, *CACHE, *BUDGETS, *CALLS, *TELEMETRY]


def ever_fired(case):
    """A query of whether the alert fired in the time before."""
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    return f"count by (reason) (count_over_time({firing}[{int(case.before * 60)}m])) > bool 0"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case, tmp_path):
    """It fires for what it should, and for nothing else."""
    labels = f'{{reason="{case.fires}"}}' if isinstance(case.fires, str) else "{}"
    fired = [{"labels": labels, "value": 1}] if case.fires else []
    one = group(case.series, ever_fired(case), f"{int(case.hours * 60)}m", fired, case.minutes, case.what)
    promtool(tmp_path, [one], [rule(case.alert)], f"{case.minutes}m", case.recording)


def test_recording_rules_that_are_not_loaded_are_told(tmp_path):
    """Without them most alerts are blind, so that is an alert."""
    case = Case(RULES_MISSING, "", True, calls("ok", counter((1, DAY))))
    one = group(case.series, ever_fired(case), "6h", [{"labels": "{}", "value": 1}])
    promtool(tmp_path, [one], [rule(case.alert)], "5m")


def test_every_alert_is_tested():
    """Each rule has cases that fire it, and cases that do not."""
    for fires in (True, False):
        tested = {case.alert for case in CASES if bool(case.fires) == fires} | ({RULES_MISSING} if fires else set())
        assert tested == {each["alert"] for each in alerts()}


def test_one_alert_for_many_accounts(tmp_path):
    """Two hundred tenants at their limit are one alert for the budget, with their number."""
    many = {}
    for n in range(200):
        many |= budget(10, key=f"tenant={n}", samples=HOUR)
    firing = f'ALERTS{{alertname="{FULL}",alertstate="firing"}}'
    promtool(
        tmp_path,
        [group(many, f"count({firing})", "30m", [{"labels": "{}", "value": 1}])],
        [rule(FULL)],
        "5m",
    )
