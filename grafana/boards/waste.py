"""What prompt caching saves, and what is paid for nothing."""

from __future__ import annotations

from panels import BARS, CENTS, COUNT, SHARE, USD, Board, Panel, Query, bars, lines, ranking, stat
from queries import FEATURE, SENT, or_zero, share

from tokenguard.facts import names

from .parts import ABANDONED, ANNOTATIONS, ENOUGH, INPUT, READ, barred, ranged, trailing

PER_FEATURE = f"{{{{{FEATURE}}}}}"
CALLED = f"{trailing(names.CALLS, FEATURE, matching=SENT)} >= {ENOUGH}"
SHARES = {"min": 0, "max": 1}
SMALLER = 'action=~"clamp|trim|provider|downgrade",mode=""'


def part(name: str) -> str:
    """The matcher of a part of the cost."""
    return f'part="{name}"'


WASTE = Board(
    "tokenguard-waste",
    "TokenGuard / Cache and waste",
    "What prompt caching saves, and what is paid for nothing.",
    [
        stat(
            "Cache savings",
            USD,
            ranged(names.SAVED_USD, matching='lever="prompt_cache"'),
            "Prompt caching, against the plain input rate; negative while cache writes cost more than reads "
            "have saved. FinOps has every lever.",
            none="nothing saved",
        ),
        stat(
            "Cache hit share",
            SHARE,
            share(ranged(names.TOKENS, matching=READ), ranged(names.TOKENS, matching=INPUT)),
            "Input tokens that were read from the provider's prompt cache.",
        ),
        stat(
            "Uncached input cost",
            USD,
            ranged(names.COST_PART_USD, matching=part("input")),
            "Input that was neither read from a cache nor written to one: the upper bound of what caching could still "
            "save. How much of it repeats, no metric can tell; the traces and `tokenguard report` can.",
        ),
        stat(
            "Retry cost",
            USD,
            or_zero(ranged(names.RETRY_COST_USD), ranged(names.COST_USD)),
            "Attempts that failed or were not waited for, and that the provider is taken to have billed.",
        ),
        stat(
            "Abandoned streams",
            COUNT,
            or_zero(ranged(names.CALLS, matching=ABANDONED), ranged(names.CALLS)),
            "Streams that were closed before their end. What was generated is billed all the same.",
        ),
        stat(
            "Output share of cost",
            SHARE,
            share(ranged(names.COST_PART_USD, matching=part("output")), ranged(names.COST_PART_USD)),
            "A high share is saved on by shorter answers, a low one by shorter or cached prompts.",
        ),
        lines(
            "Cache hit share by feature",
            SHARE,
            [
                Query(
                    share(
                        trailing(names.TOKENS, FEATURE, matching=READ), trailing(names.TOKENS, FEATURE, matching=INPUT)
                    )
                    + f" and {CALLED}",
                    PER_FEATURE,
                )
            ],
            f"A feature that falls to 0 has something new at the start of its prompt. Of at least {ENOUGH} calls.",
            width=12,
            traces=[FEATURE],
            defaults=SHARES,
        ),
        bars(
            "Saved by feature",
            USD,
            barred(names.SAVED_USD, FEATURE, "lever"),
            f"{PER_FEATURE} {{{{lever}}}}",
            "What each lever saved.",
            width=12,
            none="nothing saved",
            traces=[FEATURE],
        ),
        ranking(
            "Uncached input cost by feature",
            USD,
            ranged(names.COST_PART_USD, FEATURE, matching=part("input")),
            FEATURE,
            "Where caching could save most, at the most. It is an upper bound: it does not know which input repeats.",
            traces=[FEATURE],
        ),
        ranking(
            "Calls without a cap by feature",
            SHARE,
            share(ranged(names.UNCAPPED_CALLS, FEATURE), ranged(names.CALLS, FEATURE, matching=SENT)) + " > 0",
            FEATURE,
            "The share of calls whose output is as long as the model pleases.",
            defaults=SHARES,
            traces=[FEATURE],
        ),
        Panel(
            "bargauge",
            "Cost by part",
            USD,
            [Query(f"sort_desc({ranged(names.COST_PART_USD, 'part')})", "{{part}}")],
            "Plain input, output, cache reads and cache writes.",
        ),
        bars(
            "Retry cost by feature",
            USD,
            or_zero(barred(names.RETRY_COST_USD, FEATURE), barred(names.COST_USD, FEATURE)),
            PER_FEATURE,
            "What repeated attempts cost.",
            defaults={"custom": BARS, **CENTS},
            traces=[FEATURE],
        ),
        bars(
            "Abandoned streams by feature",
            COUNT,
            or_zero(barred(names.CALLS, FEATURE, matching=ABANDONED), barred(names.CALLS, FEATURE)),
            PER_FEATURE,
            "Streams that were closed before their end.",
            traces=[FEATURE],
        ),
        bars(
            "Look-ups of kept answers",
            COUNT,
            barred(names.CACHE_LOOKUPS, "result", "reason"),
            "{{result}} {{reason}}",
            "What became of looking for a kept answer (`[[cache]]`): a hit is served and costs nothing. With the "
            "reason why a call was not looked up, or its answer not kept.",
            none="none looked up",
        ),
        bars(
            "Prompt cache breaks",
            COUNT,
            barred(names.CACHE_BREAKS, "kind", "section"),
            "{{kind}} {{section}}",
            "Prompts that the provider's cache could have held and did not: what changed, in which part of it.",
            none="no breaks",
        ),
        bars(
            "Requests made smaller",
            COUNT,
            barred(names.GUARD_DECISIONS, "rule", "action", matching=SMALLER),
            "{{rule}}: {{action}}",
            "Outputs clamped, histories trimmed or shortened by the provider, cheaper models taken; by limit.",
            none="none changed",
        ),
        lines(
            "Output share of cost by feature",
            SHARE,
            [
                Query(
                    share(
                        trailing(names.COST_PART_USD, FEATURE, matching=part("output")),
                        trailing(names.COST_PART_USD, FEATURE),
                    )
                    + f" and {CALLED}",
                    PER_FEATURE,
                )
            ],
            f"What each feature pays for its answers. Of at least {ENOUGH} calls.",
            defaults=SHARES,
            traces=[FEATURE],
        ),
    ],
    annotations=ANNOTATIONS,
)
