"""Alerts on money: spend that is not as it was, and prompts that grew or left the cache."""

from __future__ import annotations

from boards import COST, WASTE
from queries import ENVIRONMENT, FEATURE, SENT, TENANT, kept, or_zero, share
from recording import DAILY

from tokenguard.facts import names

from .rule import Alert

FLOWING = 'type=~"input|output"'
BY = (ENVIRONMENT, FEATURE)
ON_FEATURE = f"Feature {{{{ $labels.{FEATURE} }}}}"

NOTABLE = 5
"""USD a day more than was to be expected: less is no alarm, however many times as much it is."""
NEW, NEW_SHARE = 100, 0.1
"""USD on the first day of a feature or tenant, and the share of a whole day's spend before it, to be told of."""
SWING = 0.1
"""Least deviation, as a share of the mean: a steady spend has hardly any, and the smallest change would be an alarm."""


def unusual(label: str, *reasons: str) -> str:
    """Features, tenants, or everything, whose last 24 hours are not like their past, in USD.

    `reason` says in what: `jump`, more than on any of the last 14 days by three deviations; `weekday`, four times the
    same day of each of two weeks (quiet Sundays); `growth`, for three days half as much again as a week before, of
    what is older than that; `new`, none in four weeks before.
    """
    day = DAILY[label] + (f'{{{label}!=""}}' if label else "")
    past = f"({day} and {day} offset 1d)[14d:1d] offset 1d"  # whole days: the first of all is not
    mean, deviation = f"avg_over_time({past})", f"stddev_over_time({past})"
    usual = f"(max_over_time({past}) + 3 * ({deviation} > {SWING} * {mean} or {SWING} * {mean}))"
    everything = f"on ({ENVIRONMENT}) group_left () {NEW_SHARE} * ({DAILY['']} offset 1d)"
    forms = {
        "jump": f"{day} > {usual} + {NOTABLE} and count_over_time({past}) >= 3",
        "weekday": (
            f"{day} > 4 * ({day} offset 7d) + {NOTABLE} and {day} > 4 * ({day} offset 14d)"
            f" unless {day} < 1.5 * ({day} offset 1d)"
        ),
        "growth": (
            f"{day} > 1.5 * ({day} offset 7d) + {NOTABLE}"
            f" and min_over_time({day}[3d:1d]) > 1.5 * max_over_time({day}[3d:1d] offset 7d)"
            f" and {day} offset 11d"
        ),
        "new": f"{day} > {NEW} unless max_over_time({day}[28d:1h] offset 1d) unless {day} < {everything}",
    }
    return "\nor ".join(f'label_replace({forms[reason]}, "reason", "{reason}", "", "")' for reason in reasons or forms)


def tokens_per_call(ago: str = "") -> str:
    """Tokens of a call by feature, over a day."""
    return f"{kept(names.TOKENS, '1d', BY, FLOWING, ago)} / ({kept(names.CALLS, '1d', BY, SENT, ago)} > 20)"


def hits(ago: str = "") -> str:
    """The share of input that was read from a cache in an hour, by feature, where there were calls enough."""
    read, sent = (kept(names.TOKENS, "1h", BY, f'type="{kind}"', ago) for kind in ("cache_read", "input"))
    return f"({share(read, sent)} and {kept(names.CALLS, '1h', BY, SENT, ago)} > 50)"


def fewer_hits(ago: str) -> str:
    """How much the share has fallen since the same hour of another day."""
    return f"({hits(ago)} - {hits()})"


ALERTS = (
    Alert(
        "TokenGuardSpendAnomaly",
        "warning",
        "\nor ".join((unusual(FEATURE), unusual(TENANT), unusual("", "growth"))),
        "30m",
        f'Unusual spend ({{{{ $labels.reason }}}}): {{{{ or $labels.{FEATURE} $labels.{TENANT} "everything" }}}}',
        "The last 24 hours cost {{ $value | humanize }} USD. The runbook says what the reason means.",
        COST,
        "Spend by $by",
    ),
    Alert(
        "TokenGuardTokensPerCallJump",
        "warning",
        f"{tokens_per_call()} / ({tokens_per_call('7d')}) > 1.5",
        "1h",
        ON_FEATURE + " needs more tokens per call",
        "Calls of the last 24 hours have {{ $value | humanize }} times the tokens of those a week ago.",
        COST,
        "Tokens per call",
    ),
    Alert(
        "TokenGuardCacheHitDrop",
        "warning",
        f"{fewer_hits('1d')} > 0.2 unless {fewer_hits('7d')} <= 0.2",
        "15m",
        ON_FEATURE + ": prompt cache hit rate dropped",
        "The share of input read from the cache is {{ $value | humanizePercentage }} below yesterday's at this hour.",
        WASTE,
        "Cache hit share by feature",
    ),
    Alert(
        "TokenGuardUnpricedSpend",
        "warning",
        f"{or_zero(kept(names.UNPRICED_CALLS, '1h', BY), kept(names.CALLS, '1h', BY, SENT))}"
        f" / ({kept(names.CALLS, '1h', BY, SENT)} > 0) > 0.01",
        "10m",
        ON_FEATURE + " calls a model without a known price",
        "{{ $value | humanizePercentage }} of the last hour's calls have no known cost: sums lack them.",
        COST,
        "Unpriced calls",
    ),
)
