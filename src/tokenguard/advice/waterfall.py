"""What a proposal would have saved: the recorded calls, replayed through its steps.

```text
shorter -> shared -> refused -> trimmed -> cut off -> answered from a cache -> routed
        -> refused by a budget -> batched -> prompt cache holds -> for an hour -> at other prices
```

Each step is priced on what the steps before it left, so the savings add up. Nothing is counted that is not recorded:
calls without a known cost stay out of the money, and are counted beside it.
"""

from __future__ import annotations

from typing import Final

from tokenguard.advice.answered import Cached, Shared
from tokenguard.advice.levers import Batched, Group, Held, Lifetime, Priced, Shortened
from tokenguard.advice.proposal import Proposal
from tokenguard.advice.replay import Fact, Replayed, facts
from tokenguard.advice.routed import Downgraded, Failing, Routed, failing
from tokenguard.advice.steps import BEST, EXPECTED, WORST, Block, Budgeted, Clamp, Outlook, Step, ceilings, matcher
from tokenguard.advice.trimmed import Trimmed
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy import Policy
from tokenguard.policy.model import CALL_KEYS
from tokenguard.prices import PriceBook
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, conditions


class Line(NamedTuple):
    """One step of the waterfall. Money is USD."""

    name: str
    kind: str
    """`shorten`, `share`, `block`, `trim`, `clamp`, `cache`, `route`, `budget`, `batch`, `prompt_cache`, `lifetime` or
    `prices`."""
    calls: int
    """Calls that it changes."""
    saved_usd: float
    """Negative where it costs more."""
    low_usd: float
    high_usd: float
    """The interval of what it saves; the same as `saved_usd` where no tokens could change."""
    left_usd: float
    """What is left to pay after it."""
    basis: str
    """What of the records the figure is reckoned from."""
    assumes: tuple[str, ...]


class Waterfall(NamedTuple):
    """What was spent, what each step saves of it, and what is left."""

    calls: int
    unpriced: int
    """Answered calls whose cost is not known: no step counts their money."""
    spent_usd: float
    lines: tuple[Line, ...]
    left_usd: float
    low_usd: float
    high_usd: float
    """The interval of what is left."""
    first_ns: int | None
    last_ns: int | None
    notes: tuple[str, ...] = ()

    @property
    def saved_share(self) -> float | None:
        """The share of the money that is saved; `None` where nothing was spent."""
        return (self.spent_usd - self.left_usd) / self.spent_usd if self.spent_usd else None


def waterfall(records: Records, query: Query, proposal: Proposal, now: PriceBook) -> Waterfall:
    """Replay the calls of a query through a proposal; `now` has the prices that are in force."""
    fails = {route.name: failing(records, query, route) for route in proposal.routes}
    unmarked = _unmarked(records, query) if proposal.assumed.prompt_cache else {}
    ways = [_steps(proposal, now, outlook, fails, unmarked) for outlook in (EXPECTED, BEST, WORST)]
    if not any(step.open_ended for step in ways[0]):
        ways = ways[:1]
    defaults = proposal.policy.attribution.defaults
    custom = _uses_custom_keys(proposal)
    calls = unpriced = refused = 0
    spent = 0.0
    first: int | None = None
    last: int | None = None
    for fact in facts(records, query):
        calls += 1
        first, last = first or fact.start_ns, fact.start_ns
        if fact.outcome == names.BLOCKED:
            refused += 1
            continue
        unpriced += fact.cost_usd is None and (fact.input_tokens is not None or fact.output_tokens is not None)
        spent += fact.cost_usd or 0.0
        attribution = fact.attribution(defaults, custom)
        for steps in ways:
            _replay(fact, attribution, steps, now)
    return _summed(ways, spent, calls, unpriced, refused, (first, last), proposal)


def _replay(fact: Fact, attribution: dict[str, str], steps: list[Step], now: PriceBook) -> None:
    call = Replayed(fact, attribution, now)
    for step in steps:
        step.take(call)
        if call.gone:
            return


def _summed(
    ways: list[list[Step]],
    spent: float,
    calls: int,
    unpriced: int,
    refused: int,
    period: tuple[int | None, int | None],
    proposal: Proposal,
) -> Waterfall:
    lines, left = [], spent
    for same in zip(*ways, strict=True):
        step = same[0]
        saved = [each.saved_usd for each in same]
        left -= step.saved_usd
        interval = (min(saved), max(saved))
        lines.append(
            Line(
                step.name,
                step.kind,
                step.calls,
                step.saved_usd,
                *interval,
                left,
                step.basis,
                step.assumptions(),
            )
        )
    ends = [spent - sum(step.saved_usd for step in steps) for steps in ways]
    return Waterfall(
        calls, unpriced, spent, tuple(lines), left, min(ends), max(ends), *period, tuple(_notes(refused, proposal))
    )


def _notes(refused: int, proposal: Proposal) -> list[str]:
    notes = []
    if refused:
        notes.append(f"{refused:,} calls were refused when they were made: what they would cost is not known")
    for limit in proposal.policy.limits:
        notes += [
            f'{ceiling} of "{limit.name}" is not replayed: {why}'
            for ceiling, why in UNKNOWN.items()
            if getattr(limit, ceiling) is not None
        ]
        if limit.then == "warn":
            notes.append(f'"{limit.name}" only warns')
        if limit.then == "provider":
            notes.append(f'"{limit.name}" is not replayed: what the provider leaves out is its own to choose')
    notes.extend(
        f'"{budget.name}" only {"warns" if budget.then == "warn" else "is replayed as if it warned"}'
        for budget in proposal.policy.budgets
        if budget.then != "block"
    )
    return notes


UNKNOWN: Final = {
    "max_tool_calls_per_turn": "requests do not record it",
    "max_tool_result_tokens": "of tool results only the sum is recorded",
    "max_session_usd": "a session's calls are recorded one by one",
    "max_session_seconds": "a session's calls are recorded one by one",
}
"""The ceilings that the records cannot be held against, and why."""


def _steps(
    proposal: Proposal,
    now: PriceBook,
    outlook: Outlook,
    fails: dict[str, Failing | None],
    unmarked: dict[Group, int],
) -> list[Step]:
    """The steps, in the order in which a call meets them."""
    policy, assumed = proposal.policy, proposal.assumed
    offered = PriceBook(policy.prices) if policy.prices else now
    books = (now, offered)
    chosen = matcher(Policy(shares=policy.shares, caches=proposal.caches, routes=proposal.routes))
    limits = {then: [limit for limit in policy.limits if limit.then == then] for then in ("trim", "clamp", "downgrade")}
    refusing = [limit for limit in policy.limits if limit.then not in ("warn", "downgrade") and ceilings(limit)]
    steps: list[Step] = [Shortened(each, now) for each in assumed.shortens]
    steps += [Shared(share, chosen) for share in policy.shares]
    steps += [Block(limit, now) for limit in refusing]
    steps += [Trimmed(limit, now, outlook) for limit in limits["trim"]]
    steps += [Clamp(limit, now) for limit in limits["clamp"]]
    steps += [Cached(cache, chosen) for cache in proposal.caches]
    steps += [Routed(route, chosen, books, outlook, fails[route.name]) for route in proposal.routes]
    steps += [Downgraded(limit, books, outlook) for limit in limits["downgrade"]]
    steps += [Budgeted(budget, now) for budget in policy.budgets if budget.then == "block"]
    steps += [Batched(batch, now) for batch in assumed.batches]
    if assumed.prompt_cache:
        steps.append(Held(now, unmarked))
    if assumed.cache_lifetime == "1h":
        steps.append(Lifetime(now))
    if policy.prices:
        steps.append(Priced(offered, now))
    return steps


def _unmarked(records: Records, query: Query) -> dict[Group, int]:
    """The prompts that nobody marks for the provider's cache, with their tokens."""
    where, values = conditions(query, records.dialect)
    return {
        tuple(group): round(tokens)
        for *group, tokens in records.rows(
            "SELECT provider, request_model, tenant, feature, prompt_version, avg(break_tokens) "  # noqa: S608
            f"FROM {records.dialect.calls} WHERE {where} AND break_kind = 'unmarked' GROUP BY 1, 2, 3, 4, 5",
            values,
        )
    }


def _uses_custom_keys(proposal: Proposal) -> bool:
    """Whether a rule looks at a key that has no column."""
    rules = (
        *proposal.policy.rules,
        *proposal.caches,
        *proposal.routes,
        *proposal.assumed.batches,
        *proposal.assumed.shortens,
    )
    keys = {key for rule in rules for key, _ in rule.when.patterns}
    keys |= {key for rule in rules for key in (*getattr(rule, "per", ()), *getattr(rule, "by", ()))}
    return not keys <= {*CALL_KEYS, *names.ATTRIBUTION_KEYS}
