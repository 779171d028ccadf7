"""Spend that is not as it was."""

from __future__ import annotations

import random

from ..simulated import DAY, FEATURE, HOUR, TENANT, gapped, generations, lately, later, of_days, spent
from .case import NEWCOMER, THIN, Case, gap, newcomer, restart


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
    return {f"tokenguard:{name}{{{labels}}}": later(8 * late, lately(*amounts))}


WEEK = [100, 100, 100, 100, 100, 10, 10]
ANOMALY = "TokenGuardSpendAnomaly"
STEADY = [20] * 8


def anomaly(what, reasons, series, days, before=1000, of=""):
    """A case of recorded days, looked at every three hours; it fires for these reasons."""
    return Case(ANOMALY, what, reasons, series, 24 * days - 3, before, 180, False, of)


CASES = [
    anomaly("five times as much", "jump", recorded(FEATURE, "chat", *STEADY, 100), 9),
    anomaly("twice as much", "jump", recorded(FEATURE, "chat", *STEADY, 40), 9),
    anomaly("twice as much, twelve hours in", "jump", recorded(FEATURE, "chat", *[200] * 8, 400), 8 + 15 / 24, 24),
    anomaly("a tenth more", "", recorded(FEATURE, "chat", *STEADY, 22), 9),
    anomaly("five times nearly nothing", "", recorded(FEATURE, "chat", *[0.1] * 8, 0.5), 9, of=THIN),
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
    anomaly(
        "a new feature of 1,000 USD on its first day", "new", recorded(FEATURE, "new", 1000, late=4), 5, of=NEWCOMER
    ),
    anomaly(
        "a new feature of 120 USD beside 5,000",
        "",
        recorded("", "", *[5000] * 5) | recorded(FEATURE, "new", 120, late=4),
        5,
        of=NEWCOMER,
    ),
    anomaly("a new tenant of 8 USD a day", "", recorded(TENANT, "new", *[8] * 12, late=4), 16, of=NEWCOMER),
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
    gap(
        ANOMALY,
        "two and a half hours without samples, of a process that runs on",
        False,
        chat(gapped(0.05, 5 * DAY, 30, 36 * HOUR)),
        158,
    ),
    restart(
        ANOMALY,
        "a deploy: another process, another prompt version",
        False,
        chat(of_days(*STEADY[:5]), tokenguard_prompt_version="v1")
        | chat(later(5 * DAY, of_days(20)), tokenguard_prompt_version="v2", instance="2"),
        143,
    ),
    restart(ANOMALY, "one that keeps its labels", False, chat(of_days(*STEADY[:5]) + " " + of_days(20)), 143),
    restart(
        ANOMALY,
        "two pods that are replaced four times a day, pushed and scraped",
        False,
        generations(chat, 0.05, 6 * HOUR, 24) | generations(chat, 0.05, 6 * HOUR, 24, "stale", job="scraped"),
        143,
    ),
    Case(ANOMALY, "five times as much, from counters", "jump", chat(of_days(*STEADY[:5], 100)), 143),
    newcomer(
        ANOMALY,
        "a tenant whose counter is born at 150 USD",
        "new",
        chat(of_days(*STEADY[:5])) | spent(later(4 * DAY, "150x200"), **{TENANT: "new"}),
        104,
    ),
]
