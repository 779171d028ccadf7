"""Calls: failures, slowness, repeats, refusals and open breakers."""

from __future__ import annotations

from ..simulated import (
    DAY,
    FEATURE,
    HOUR,
    MODEL,
    calls,
    counter,
    durations,
    gapped,
    gauge,
    generations,
    later,
    series,
)
from .case import Case, gap, newcomer, restart, thin

STORM, BLOCKING, OPEN = "TokenGuardRetryStorm", "TokenGuardBlocking", "TokenGuardBreakerOpen"
FAILS, SLOW, FIRST = "TokenGuardErrorRate", "TokenGuardLatency", "TokenGuardFirstChunk"
OF_MODEL = {"gen_ai_provider_name": "openai", MODEL: "m"}


def of(outcome):
    """Counts calls of an outcome."""
    return lambda values, **labels: calls(outcome, values, **labels)


def breaker(values, **labels):
    model = {"gen_ai_provider_name": "openai", "gen_ai_request_model": "m", **labels}
    return series("tokenguard_breaker_state", values, breaker="b", **model)


def failing(values, **labels):
    return calls("error", values, **{**OF_MODEL, **labels})


def retries(values, **labels):
    return series("tokenguard_retries_total", values, **{FEATURE: "chat", **labels})


BEFORE = 6 * HOUR
OLD, NEW = "gen_ai_client_operation_{}_seconds", "gen_ai_client_inference_{}_seconds"


def slow(alert, metric):
    """The cases of a duration."""
    steady = durations(metric, ((1, 20), (1, 20)), (BEFORE, 2 * HOUR))
    missing = {name: gapped(20, BEFORE, 30, 3 * HOUR) for name in steady}
    return [
        Case(alert, f"ten times as slow, {metric}", True,
             durations(metric, ((1, 20), (10, 20)), (BEFORE, 2 * HOUR)), 7.9),
        Case(alert, f"as slow as ever, {metric}", False,
             durations(metric, ((10, 20), (10, 20)), (BEFORE, 2 * HOUR)), 7.9),
        thin(alert, f"one slow call an hour, {metric}", False,
             durations(metric, ((1, 20), (10, 1 / HOUR)), (BEFORE, 2 * HOUR)), 7.9),
        restart(alert, f"another process, as slow as ever, {metric}", False, durations(metric, ((10, 20),), (BEFORE,))
                | durations(metric, ((10, 20),), (2 * HOUR,), after=BEFORE, instance="2"), 7.9),
        restart(alert, f"another process, ten times as slow, {metric}", True, durations(metric, ((1, 20),), (BEFORE,))
                | durations(metric, ((10, 20),), (2 * HOUR,), after=BEFORE, instance="2"), 7.9),
        gap(alert, f"two and a half hours, {metric}", False, missing, 11),
        newcomer(alert, f"a model that is slow from its first call, and has no day before, {metric}", False,
                 steady | durations(metric, ((10, 20),), (2 * HOUR,), after=BEFORE, **{MODEL: "new"}), 7.9),
    ]  # fmt: skip


CASES = [
    Case(FAILS, "every call", True,
         calls("ok", counter((10, DAY), (0, HOUR))) | calls("error", counter((0, DAY), (10, HOUR))), 24.9),
    Case(FAILS, "one in a hundred", False, calls("ok", counter((10, DAY))) | calls("error", counter((0.1, DAY))), 20),
    thin(FAILS, "every call of a feature with six an hour", True,
         calls("ok", counter((0.5, DAY), (0, 3 * HOUR))) | calls("error", counter((0, DAY), (0.5, 3 * HOUR))), 26.9),
    thin(FAILS, "two of three, of three in all", False,
         calls("ok", counter((0, 20), (1, 1), (0, DAY))) | calls("error", counter((0, 20), (2, 1), (0, DAY))), 20),
    restart(FAILS, "three pods again and again, one call in a hundred", False,
            {name: values for pod in "abc" for outcome, pace in (("ok", 10), ("error", 0.1))
               for name, values in generations(of(outcome), pace, 6, 20, pod=pod).items()}, 9.9),
    restart(FAILS, "again and again, as no call succeeds", True, generations(of("error"), 5, 3, 12), 2.9),
    restart(FAILS, "that keeps its labels, after an outage long ago", False,
            calls("ok", counter((10, DAY)) + " " + counter((10, HOUR), start=10))
            | calls("error", counter((0, DAY), start=500) + " " + counter((0, HOUR))), 24.9, 20),
    gap(FAILS, "after an outage long ago", False, calls("ok", gapped(10, DAY, 30, HOUR, start=5))
        | calls("error", gapped(0, DAY, 30, HOUR, start=500)), 27, 26),
    newcomer(FAILS, "every call of a new model", True, calls("error", later(DAY, counter((10, HOUR)))), 24.9),
    newcomer(FAILS, "a tenant whose counter is born with 30 errors", True,
             calls("ok", counter((5, 40))) | calls("error", later(20, "30x20"), tokenguard_tenant="new"), 3.2),
    Case(STORM, "two resends for each call", True, calls("ok", counter((10, DAY)))
         | retries(counter((0, DAY - HOUR), (20, HOUR))), 23.9),
    Case(STORM, "a resend for five calls", False, calls("ok", counter((10, DAY)))
         | retries(counter((0, DAY - HOUR), (2, HOUR))), 23.9),
    thin(STORM, "two calls an hour", False, calls("ok", counter((0.5, DAY)))
         | retries(counter((0, DAY - HOUR), (1, HOUR))), 23.9),
    restart(STORM, "three pods again and again, a resend for five calls", False,
            {name: values for pod in "abc" for make, pace in ((of("ok"), 10), (retries, 2))
             for name, values in generations(make, pace, 6, 20, pod=pod).items()}, 9.9),
    restart(STORM, "that keeps its labels, after a storm long ago", False,
            calls("ok", counter((10, DAY)) + " " + counter((10, HOUR), start=10))
            | retries(counter((0, DAY), start=900) + " " + counter((2, HOUR))), 24.9, 20),
    gap(STORM, "two and a half hours, a resend for five calls", False, calls("ok", gapped(10, 4 * HOUR, 30, 3 * HOUR))
        | retries(gapped(2, 4 * HOUR, 30, 3 * HOUR)), 9),
    newcomer(STORM, "a tenant whose counters are born with thirty calls and sixty resends", True,
             calls("ok", counter((10, 40))) | calls("ok", later(20, "30x20"), tokenguard_tenant="new")
             | retries(counter((0, 40))) | retries(later(20, "60x20"), tokenguard_tenant="new"), 3.2),
    Case(BLOCKING, "half of the calls, suddenly", True, calls("ok", counter((10, DAY)))
         | calls("blocked", counter((0, DAY - HOUR), (10, HOUR))), 23.9),
    Case(BLOCKING, "a fifth, as ever", False, calls("ok", counter((10, DAY))) | calls("blocked", counter((2.5, DAY))),
         23.9, 12),
    thin(BLOCKING, "three calls", False, calls("ok", counter((0.1, DAY)))
         | calls("blocked", counter((0, DAY - HOUR), (0.25, HOUR))), 23.9, 12),
    restart(BLOCKING, "three pods again and again, a fifth as ever", False,
            {name: values for pod in "abc" for outcome, pace in (("ok", 10), ("blocked", 2.5))
             for name, values in generations(of(outcome), pace, 6, 20, pod=pod).items()}, 9.9),
    restart(BLOCKING, "with a new policy that refuses half", True, calls("ok", counter((10, DAY)))
            | calls("ok", later(DAY, counter((10, HOUR), start=10)), instance="2")
            | calls("blocked", later(DAY, counter((10, HOUR), start=10)), instance="2"), 24.9),
    gap(BLOCKING, "two and a half hours, a fifth as ever", False, calls("ok", gapped(10, DAY, 30, 3 * HOUR))
        | calls("blocked", gapped(2.5, DAY, 30, 3 * HOUR)), 29, 16),
    newcomer(BLOCKING, "a tenant whose counter is born with forty refused calls", True,
             calls("ok", counter((10, DAY))) | calls("blocked", later(DAY - HOUR, "40x12"), tokenguard_tenant="new"),
             23.9),
    Case(OPEN, "open, and calls refused", True,
         breaker(gauge((2, DAY))) | calls("blocked", counter((1, DAY)), **OF_MODEL)),
    Case(OPEN, "open, with a probe now and then", True, breaker(" ".join(["2 2 2 1 2"] * 24))
         | failing(counter((1, 120))), 1.9, minutes=1),
    Case(OPEN, "open for three minutes", False, breaker(gauge((0, 30), (2, 3), (0, 30))) | failing(counter((1, 63))), 1,
         minutes=1),
    Case(OPEN, "closed since", False, breaker(gauge((2, 30), (0, 60))) | failing(counter((1, 30), (0, 60))), 1.4, 0.7,
         minutes=1),
    thin(OPEN, "one call every ten minutes, a probe each, and each fails", True, breaker(gauge((2, 60)))
         | failing(counter((0.5, 60))), 4.9),
    thin(OPEN, "open since a failure three hours ago, and no call since", False, breaker(gauge((2, 60)))
         | failing(counter((1, 5), (0, 55))), 4.9, 3),
    thin(OPEN, "no call to its model, while another's fail", False, breaker(gauge((2, 60)))
         | failing(counter((1, 60)), **{MODEL: "other"}), 4.9),
    restart(OPEN, "of the process with the open breaker", False, breaker(gauge((2, 24))) | failing(counter((1, 24)))
            | breaker(later(24, gauge((0, 36))), instance="2") | calls("ok", later(24, counter((1, 36))), instance="2"),
            4.9, 2.5),
    restart(OPEN, "again and again, while the provider is down", True, {
        name: values for n in range(8) for name, values in (breaker(later(4 * n, "2x3"), instance=str(n))
        | failing(later(4 * n, counter((2, 4), start=2)), instance=str(n))).items()}, 2.5),
    gap(OPEN, "while it is closed", False, breaker(gauge((0, 12), (None, 30), (0, 30)))
        | failing(gapped(0.1, 12, 30, 30))),
    gap(OPEN, "while it is open", True, breaker(gauge((2, 12), (None, 30), (2, 30)))
        | failing(gapped(1, 12, 30, 30)), 6, 2),
    newcomer(OPEN, "a model whose first calls open it", True, breaker(later(12, gauge((2, 30))))
             | failing(later(12, "6x30")), 1.5),
    thin(SLOW, "twenty slow calls under both names are twenty", False, {
        name: values for metric in (OLD, NEW)
        for name, values in durations(metric.format("duration"), ((1, 20), (10, 7)), (BEFORE, 2 * HOUR)).items()}, 7.9),
    *(case for name in (OLD, NEW) for alert, kind in ((SLOW, "duration"), (FIRST, "time_to_first_chunk"))
      for case in slow(alert, name.format(kind))),
]  # fmt: skip
