"""Budgets: how full, how fast, and what they refuse."""

from __future__ import annotations

from ..simulated import DAY, HOUR, budget, counter, gapped, gauge, generations, later, series
from .case import Case, gap, newcomer, restart, thin

NEARING, ALMOST, FULL = "TokenGuardBudgetNearing", "TokenGuardBudgetAlmostSpent", "TokenGuardBudgetSpent"
REFUSING, BURN, PROJECTED = "TokenGuardBudgetRefusing", "TokenGuardBudgetBurn", "TokenGuardBudgetProjected"
EVENING = counter((9.5 / 1440, 1380))
EVEN = {"elapsed": counter((1 / 1440, 1380)), "samples": 1380}
MONTH = 30 * 86400


def refusals(values, **labels):
    return series("tokenguard_budget_refusals_total", values, budget="b", key="k", **labels)


def pods(spent, life, number, **more):
    """Processes one after the other that show one account of a ledger they share."""
    return {
        name: values
        for n in range(number)
        for name, values in budget(spent, samples=life, after=n * life, instance=f"of{n}", **more).items()
    }


def emptied(spent, **more):
    """An account that a gap of two and a half hours finds in its window, and leaves in the next."""
    return budget(
        gauge((spent, 12), (None, 30), (0.1, 40)), elapsed=gauge((0.9, 12), (None, 30), (0.01, 40)), samples=82, **more
    )


SHARES = [
    case
    for alert, fires, not_yet in ((NEARING, 7.5, 6.9), (ALMOST, 9.5, 8.9), (FULL, 10, 9.99))
    for case in (
        Case(alert, f"{fires * 10:g} % at half time", True, budget(fires)),
        Case(alert, f"{not_yet * 10:g} %", False, budget(not_yet)),
        Case(alert, "of its tokens", True, budget(fires * 100, 1000, unit="tokens")),
        Case(alert, "of its calls", True, budget(fires * 10, 100, unit="calls")),
        Case(alert, "of one of two services with one name", True, budget(10, 100) | budget(fires / 2, 5, job="other")),
        Case(alert, "of one of two ledgers", True, budget(1) | budget(fires / 2, 5, instance="2")),
        thin(alert, "one call that takes so much", True, budget(gauge((0, 20), (fires, 20)), samples=40), 3),
        thin(alert, "one call that takes a cent", False, budget(gauge((0, 20), (0.01, 20)), samples=40), 3),
        restart(alert, "again and again, on a shared ledger", True, pods(fires, 3, 12), 2.9, 1),
        restart(alert, "of a process with its own ledger", False,
                budget(fires, samples=12) | budget(0, after=12, instance="2"), 4, 2),
        gap(alert, "in which a window ends", False, emptied(fires), 6, 2),
        gap(alert, "within a window", True, budget(gauge((fires, 12), (None, 30), (fires, 40)), samples=82), 6, 2),
        newcomer(alert, "an account that is first seen so full", True,
                 budget(0.1) | budget(fires, key="new", after=24)),
    )
]  # fmt: skip


def burns(pace, samples=240, **more):
    """An account that has half of its day's 10 USD left, and loses so much a minute."""
    return budget(
        counter((pace, samples), start=5), elapsed=counter((1 / 1440, samples), start=0.3), samples=samples, **more
    )


CASES = [
    *SHARES,
    Case(NEARING, "spent evenly, to end at 95 %", False, budget(EVENING, **EVEN), 22.9, minutes=1),
    Case(ALMOST, "spent evenly, to end at 95 %", False, budget(EVENING, **EVEN), 22.9, minutes=1),
    Case(ALMOST, "95 % in total, without a window", True, {k: v for k, v in budget(9.5).items() if "_usd" in k}),
    Case(FULL, "of its tokens, while its dollars last", True, budget(1) | budget(1000, 1000, unit="tokens")),
    Case(REFUSING, "calls refused at 97 %", True, budget(9.7) | refusals(counter((0, 30), (1, 20))), 4),
    Case(REFUSING, "none since", False, budget(9.7) | refusals(counter((0, DAY), start=50)), 20, 15),
    thin(REFUSING, "one call in six hours: somebody was refused", True, refusals(counter((0, 40), (1, 1), (0, 40)))),
    restart(REFUSING, "with the same labels, none since", False,
            refusals(counter((0, 12), start=50) + " " + counter((0, 60))), 5, 3.5),
    restart(REFUSING, "as another process, none since", False,
            refusals("50x12") | refusals(later(13, "0x60"), instance="2"), 5, 3.5),
    restart(REFUSING, "again and again, and calls refused", True, generations(refusals, 1, 3, 12), 2.9, 1),
    gap(REFUSING, "none since", False, refusals(gapped(0, DAY, 30, DAY, start=50)), 40, 30),
    newcomer(REFUSING, "an account whose counter is born at 1", True, budget(9.7) | refusals("_x30 1x100"), 4),
    # An even spend of 10 USD in a day is 0.007 a minute.
    Case(BURN, "six times as fast as evenly", True, budget(counter((0.042, 240)), samples=240), 3, minutes=1),
    Case(BURN, "six times as fast, in calls", True,
         budget(counter((0.42, 240)), 100, unit="calls", samples=240), 3, minutes=1),
    Case(BURN, "twice as fast", False, budget(counter((0.014, 240)), samples=240), 3.5, minutes=1),
    Case(BURN, "a day that begins anew", False,
         budget(counter((0.007, 60), start=9.4) + " " + counter((0.007, 180)),
                elapsed=counter((1 / 1440, 60), start=0.95) + " " + counter((1 / 1440, 180)), samples=240),
         3.9, minutes=1),
    thin(BURN, "one agent run of 0.80 USD of 5 USD", False,
         budget(counter((0.0008, 540), (0.27, 3), (0.0008, 60)), 5, counter((1 / 1440, 603)), samples=603),
         9.9, minutes=1),
    Case(BURN, "a spurt that is over", False, budget(counter((0.02, 240), (0.1, 10), (0, 60)), samples=310), 5, 0.5,
         minutes=1),
    Case(BURN, "a month's budget, five times as fast for a day", True,
         budget(counter((1, DAY)), 600, 0.3, MONTH)
         | budget(counter((0.6, DAY), start=330), 600, 0.3, MONTH, key="late"), 20),
    Case(BURN, "a month's budget, spent by day only", False,
         budget(counter(*[(0, 12 * HOUR), (4 / DAY, 12 * HOUR)] * 2, start=310), 600,
                counter((1 / 30 / DAY, 2 * DAY), start=0.5), MONTH, samples=2 * DAY), 47),
    restart(BURN, "again and again, on a shared ledger, and an even spend", False,
            {name: values for n in range(10) for name, values in budget(
                later(20 * n, counter((0.007, 20), start=5.5 + 0.14 * n)), elapsed=0.55, samples=20 * n + 20,
                instance=f"of{n}").items()}, 3.3, minutes=1),
    restart(BURN, "with a ledger of its own: the account is empty again", False,
            budget(counter((0.007, 120), start=6) + " " + counter((0.007, 120)), samples=240), 3.9, minutes=1),
    gap(BURN, "of two and a half hours, in which it is spent evenly", False,
        budget(gapped(0.007, 120, 150, 100, start=5), elapsed=gapped(1 / 1440, 120, 150, 100, start=0.5), samples=370),
        6, minutes=1),
    gap(BURN, "of twenty minutes, in which it is spent evenly", False,
        budget(gapped(0.007, 120, 20, 100, start=5), elapsed=gapped(1 / 1440, 120, 20, 100, start=0.5), samples=240),
        3.9, minutes=1),
    newcomer(BURN, "an account that is first seen at half, and burns", True,
             budget(1) | burns(0.04, key="new", after=30), 3, minutes=1),
    newcomer(BURN, "an account that is first seen at half, and rests", False, budget(1) | burns(0, key="new", after=30),
             3, minutes=1),
    Case(PROJECTED, "a month that ends at 150 %", True, budget(45, 100, 0.3, MONTH)),
    Case(PROJECTED, "a month of calls that ends at 150 %", True, budget(45, 100, 0.3, MONTH, unit="calls")),
    Case(PROJECTED, "a month that ends at 100 %", False, budget(30, 100, 0.3, MONTH)),
    Case(PROJECTED, "the first days of a month", False, budget(20, 100, 0.05, MONTH)),
    Case(PROJECTED, "a day", False, budget(4.5, 10, 0.3)),
    thin(PROJECTED, "one call in a month's first week, of 15 %", False, budget(15, 100, 0.1, MONTH)),
    restart(PROJECTED, "again and again, on a shared ledger", True,
            pods(45, 6, 6, limit=100, elapsed=0.3, window=MONTH), 2.9),
    restart(PROJECTED, "of a process with its own ledger", False,
            budget(45, 100, 0.3, MONTH, samples=12) | budget(0, 100, 0.3, MONTH, after=12, instance="2"), 5, 3.5),
    gap(PROJECTED, "within a month that ends at 100 %", False, budget(gauge((30, 12), (None, 30), (31, 40)), 100,
        gauge((0.3, 12), (None, 30), (0.31, 40)), MONTH, samples=82)),
    newcomer(PROJECTED, "an account that is first seen ahead of its month", True,
             budget(1, 100, 0.3, MONTH) | budget(45, 100, 0.3, MONTH, key="new", after=12)),
]  # fmt: skip
