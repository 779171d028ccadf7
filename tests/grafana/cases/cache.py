"""Prompts that grew, left the cache, or have no price."""

from __future__ import annotations

from ..simulated import DAY, FEATURE, HOUR, calls, counter, gapped, generations, later, of_days, series, tokens
from .case import Case, gap, newcomer, restart, thin

GROWN, DROP, UNPRICED = "TokenGuardTokensPerCallJump", "TokenGuardCacheHitDrop", "TokenGuardUnpricedSpend"


def sized(per_call, *paces, after=0, **labels):
    """Calls of so many input tokens each."""
    calls_of, tokens_of = (
        later(after, counter(*((pace * times, n) for pace, n in paces), start=paces[0][0] * times if after else 0.0))
        for times in (1, per_call)
    )
    return calls("ok", calls_of, **labels) | tokens("input", tokens_of, **labels)


def cached(*shares, calls_an_hour=300, after=0, **labels):
    """Calls with so much of their input read from the cache, as (share, samples)."""
    pace = calls_an_hour / HOUR
    whole = sum(n for _, n in shares)
    read = [(pace * 1000 * share, n) for share, n in shares]
    return sized(1000, (pace, whole), after=after, **labels) | tokens(
        "cache_read", later(after, counter(*read, start=read[0][0] if after else 0.0)), **labels
    )


def nights(days):
    """By day 300 calls an hour with 75 % hits, by night 25 with 40 %."""
    paces = [(300, 0.75, 16), (25, 0.4, 8)] * days
    return sized(1000, *((n / HOUR, h * HOUR) for n, _, h in paces)) | tokens(
        "cache_read", counter(*((n / HOUR * 1000 * share, h * HOUR) for n, share, h in paces))
    )


def unpriced(values, **labels):
    return series("tokenguard_calls_unpriced_total", values, **{FEATURE: "chat", **labels})


def with_gap(pace, missing=30):
    """Two days of calls with 80 % of their input from the cache, and hours of them unseen."""
    paces = {"calls": pace, "input": 1000 * pace, "cache_read": 800 * pace}
    seen = {kind: gapped(each, 36 * HOUR, missing, 26 * HOUR) for kind, each in paces.items()}
    return calls("ok", seen.pop("calls")) | {
        name: values for kind, each in seen.items() for name, values in tokens(kind, each).items()
    }


CASES = [
    Case(
        GROWN,
        "calls of twice the tokens",
        True,
        sized(1000, (1, 8 * DAY)) | sized(2000, (1, DAY), after=8 * DAY, instance="2"),
        215,
    ),
    Case(GROWN, "twice the calls", False, sized(1000, (1, 8 * DAY), (2, DAY)), 215),
    thin(
        GROWN,
        "ten calls a day",
        False,
        calls("ok", of_days(*[10] * 9)) | tokens("input", of_days(*[1000] * 8, 9000)),
        215,
    ),
    restart(
        GROWN,
        "two pods that are replaced twice a day",
        False,
        generations(lambda v, **kw: calls("ok", v, **kw), 1, DAY // 2, 18)
        | generations(lambda v, **kw: tokens("input", v, **kw), 1000, DAY // 2, 18),
        215,
    ),
    gap(
        GROWN,
        "two and a half hours",
        False,
        calls("ok", gapped(1, 8 * DAY, 30, DAY)) | tokens("input", gapped(1000, 8 * DAY, 30, DAY)),
        215,
    ),
    newcomer(
        GROWN,
        "a tenant with prompts of four times the size, whose counters are born with 500 calls",
        True,
        sized(1000, (1, 9 * DAY)) | sized(4000, (500, 1), (0, DAY), after=8 * DAY, tokenguard_tenant="new"),
        215,
    ),
    newcomer(
        GROWN,
        "a tenant with prompts like everybody's",
        False,
        sized(1000, (1, 9 * DAY)) | sized(1000, (500, 1), (0, DAY), after=8 * DAY, tokenguard_tenant="new"),
        215,
    ),
    Case(DROP, "no hits any more", True, cached((0.8, 2 * DAY - 2 * HOUR), (0, 2 * HOUR)), 47.9),
    Case(DROP, "a tenth fewer hits", False, cached((0.8, 2 * DAY - 2 * HOUR), (0.7, 2 * HOUR)), 47.9),
    thin(
        DROP,
        "a few calls without hits",
        False,
        cached((0.8, 2 * DAY - 2 * HOUR), (0, 2 * HOUR), calls_an_hour=24),
        47.9,
    ),
    thin(DROP, "nights with few calls and few hits", False, nights(4), 95.9),
    restart(
        DROP,
        "a deploy",
        False,
        cached((0.8, 36 * HOUR)) | cached((0.8, 12 * HOUR), after=36 * HOUR, instance="2"),
        47.9,
    ),
    gap(DROP, "two and a half hours", False, with_gap(25), 62),
    newcomer(DROP, "a feature without hits", False, cached((0, 3 * HOUR)), 2.9),
    newcomer(
        DROP,
        "a tenant that brings a fifth of the calls, and fills its cache first",
        False,
        cached((0.8, 2 * DAY))
        | cached((0, 1), (0.8, 2 * HOUR - 1), calls_an_hour=75, after=2 * DAY - 2 * HOUR, tokenguard_tenant="new"),
        47.9,
    ),
    Case(UNPRICED, "a tenth of the calls", True, calls("ok", counter((10, DAY))) | unpriced(counter((1, DAY)))),
    Case(UNPRICED, "one of two hundred", False, calls("ok", counter((20, DAY))) | unpriced(counter((0.1, DAY)))),
    thin(
        UNPRICED,
        "one of three calls an hour: a price is known or not, and chance has no part in it",
        True,
        calls("ok", counter((0.25, DAY))) | unpriced(counter((0, 6 * HOUR), (1, 1), (0, 6 * HOUR))),
        11,
    ),
    restart(
        UNPRICED,
        "processes with unpriced calls long ago, one that keeps its labels",
        False,
        calls("ok", counter((10, DAY)) + " " + counter((10, DAY)))
        | unpriced(counter((0, DAY), start=200) + " " + counter((0, DAY)))
        | unpriced(later(DAY, counter((0, DAY))), instance="2"),
        40,
        38,
    ),
    gap(
        UNPRICED,
        "none since long ago",
        False,
        calls("ok", gapped(10, DAY, 30, DAY)) | unpriced(gapped(0, DAY, 30, DAY, start=200)),
        40,
        16,
    ),
    newcomer(
        UNPRICED,
        "a tenant whose counter is born with thirty unpriced calls",
        True,
        calls("ok", counter((10, DAY)))
        | calls("ok", later(DAY // 2, "30x100"), tokenguard_tenant="new")
        | unpriced(later(DAY // 2, "30x100"), tokenguard_tenant="new"),
        14,
    ),
]
