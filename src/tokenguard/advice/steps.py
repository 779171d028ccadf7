"""A step of a proposal changes the calls that it is for, and says what it assumes. Here are those that refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from tokenguard.advice.proposal import Batch, Shorten
from tokenguard.advice.replay import Replayed
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import UNCAPPED_OUTPUT
from tokenguard.ledger.entry import NANO
from tokenguard.policy import Budget, CompiledPolicy, Limit, Policy
from tokenguard.policy.checks import MANAGED
from tokenguard.policy.windows import window_bounds
from tokenguard.prices import PriceBook

Applies = Callable[[Replayed], Any]
"""Whether a rule is for a call: what it matched, or nothing."""


class Outlook(NamedTuple):
    """How what no record can tell turns out: as expected, or at an end of the interval."""

    length: float = 1.0
    """How long another model's answers are, beside those that are recorded."""
    fails: int = 0
    """How many of its answers fail their checks: 0 as expected, else the end of the interval on that side."""
    trimmed: float = 0.5
    """How much more than it must a history loses that is trimmed: the part of a turn."""


EXPECTED: Final = Outlook()
BEST: Final = Outlook(length=0.7, fails=-1, trimmed=1.0)
WORST: Final = Outlook(length=1.5, fails=1, trimmed=0.0)


class Step:
    """One step of the waterfall."""

    kind: ClassVar[str]
    basis: ClassVar[str]
    """What of the records its figure is reckoned from."""
    open_ended: ClassVar[bool] = False
    """Whether it depends on what no record can tell, so that it has an interval."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.saved_usd = 0.0

    def take(self, call: Replayed) -> None:
        """Change the call, if the step is for it, and add up the difference."""
        before = call.usd
        self._change(call)
        after = call.usd
        if call.gone or after != before:
            self.calls += 1
            self.saved_usd += before - after

    def _change(self, call: Replayed) -> None:
        raise NotImplementedError

    def assumptions(self) -> tuple[str, ...]:
        """What has to be so for its figure to come true, after the calls were taken."""
        return tuple(self._assumes())

    def _assumes(self) -> list[str]:
        return []


def matcher(policy: Policy) -> Callable[[Replayed], Any]:
    """What of a policy's rules is for a call."""
    compiled = CompiledPolicy(policy)

    def match(call: Replayed) -> Any:
        fact = call.fact
        return compiled.match(fact.provider or "", fact.request_model or "", fact.operation or "", call.attribution)

    return match


def applies(rule: Batch | Shorten | Limit) -> Applies:
    """Whether a rule's `when` is for a call."""
    match = matcher(Policy(limits=(Limit(name=rule.name, when=rule.when, max_tool_steps=0),)))
    return lambda call: match(call).limits


class Block(Step):
    """Calls that a limit refuses."""

    kind = "block"
    basis = "recorded tokens, rounds and repeats; sections of the input, shared out by length"

    def __init__(self, limit: Limit, book: PriceBook) -> None:
        super().__init__(limit.name)
        self._limit = limit
        self._for = applies(limit)
        self._book = book

    def _change(self, call: Replayed) -> None:
        call.gone = bool(self._for(call)) and exceeds(self._limit, call, self._book)

    def _assumes(self) -> list[str]:
        return ["a refused call is not made in another way"]


MENDS: Final = {"clamp": ("max_output_tokens",), "trim": ("max_history_tokens",), "provider": MANAGED}
"""The ceilings past which a `then` does something else than refuse."""
COUNTED: Final[dict[str, Callable[[Replayed], int | None]]] = {
    "max_tool_steps": lambda call: call.fact.tool_steps,
    "max_retries": lambda call: call.fact.retry_attempt,
    "max_system_tokens": lambda call: call.section("system"),
    "max_tools_tokens": lambda call: call.section("tools"),
    "max_history_tokens": lambda call: call.section("history"),
    "max_input_tokens": lambda call: call.usage.input,
}
"""What the records hold against a ceiling."""


def ceilings(limit: Limit) -> dict[str, float]:
    """The ceilings of a limit past which it refuses a call, or sends it to the cheaper model."""
    named = (*COUNTED, "max_output_tokens", "max_cost_usd")
    mended = MENDS.get(limit.then, ())
    return {name: most for name in named if name not in mended and (most := getattr(limit, name)) is not None}


def exceeds(limit: Limit, call: Replayed, book: PriceBook) -> bool:
    """Whether a call passes one of the `ceilings` of a limit. What is not recorded of it passes none."""
    fact, most = call.fact, ceilings(limit)
    if any((found := COUNTED[name](call)) is not None and found > most[name] for name in most if name in COUNTED):
        return True
    cap = most.get("max_output_tokens") if fact.operation != "embeddings" else None
    if cap is not None and (fact.max_tokens is None or fact.max_tokens > cap):
        return True
    if limit.max_cost_usd is not None:
        worst = worst_case(call, book)
        return worst is None or worst > limit.max_cost_usd
    return False


def worst_case(call: Replayed, book: PriceBook) -> float | None:
    """USD that the call could have come to, as the guard would have reckoned it; `None` without a price."""
    fact = call.fact
    output = 0 if fact.operation == "embeddings" else fact.max_tokens or UNCAPPED_OUTPUT
    nano = book.worst_case_nano(
        fact.provider or "",
        call.model,
        call.usage.input or 0,
        output,
        at_ns=fact.start_ns,
        writes=None if call.usage.cache_write else (),
    )
    return None if nano is None else nano / NANO


class Clamp(Step):
    """Answers that a cap cuts off."""

    kind = "clamp"
    basis = "recorded lengths of answers"

    def __init__(self, limit: Limit, book: PriceBook) -> None:
        super().__init__(limit.name)
        self._cap = int(limit.max_output_tokens or 0)
        self._for = applies(limit)
        self._book = book

    def _change(self, call: Replayed) -> None:
        usage = call.usage
        if usage.output is not None and usage.output > self._cap and self._for(call):
            reasoning = None if usage.reasoning is None else min(usage.reasoning, self._cap)
            call.changed(self._book, usage._replace(output=self._cap, reasoning=reasoning))

    def _assumes(self) -> list[str]:
        return [f"answers past {self._cap:,} tokens end there, and nobody asks again for the rest"]


class Budgeted(Step):
    """Calls that a budget refuses, in the order in which they were made."""

    kind = "budget"
    basis = "recorded tokens and times; the worst case of each call at the price list"

    def __init__(self, budget: Budget, book: PriceBook) -> None:
        super().__init__(budget.name)
        self._budget = budget
        self._match = matcher(Policy(budgets=(budget,)))
        self._book = book
        self._spent: dict[tuple[str, int], list[float]] = {}
        """USD, tokens and calls, by account and window."""

    def _change(self, call: Replayed) -> None:
        matched = self._match(call)
        for budget, key in matched.accounts():
            if budget.by_run:
                run = call.fact.attributes.get(names.TASK_RUN)
                if run is None:
                    return
                key = f"{key},{run}"
            start, _ = window_bounds(budget.window, budget.timezone, call.fact.start_ns / 1e9)
            spent = self._spent.setdefault((key, start), [0.0, 0.0, 0.0])
            worst = worst_case(call, self._book)
            tokens = (call.usage.input or 0) + (call.fact.max_tokens or UNCAPPED_OUTPUT)
            usd_over = budget.limit_usd is not None and spent[0] + (worst or 0.0) > budget.limit_usd
            tokens_over = budget.limit_tokens is not None and spent[1] + tokens > budget.limit_tokens
            calls_over = budget.limit_calls is not None and spent[2] + 1 > budget.limit_calls
            if (usd_over or tokens_over or calls_over) and budget.then == "block":
                call.gone = True
                return
            spent[0] += call.usd
            spent[1] += call.usage.total
            spent[2] += 1

    def _assumes(self) -> list[str]:
        return ["calls come one after the other; a refused one is not made in another way, or in the next window"]
