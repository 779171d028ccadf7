"""A step of a proposal changes the calls that it is for, and says what it assumes. Here are those that refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from tokenguard.advice.proposal import Batch, Shorten
from tokenguard.advice.replay import Replayed
from tokenguard.facts import names
from tokenguard.ledger.entry import NANO
from tokenguard.policy import Budget, CompiledPolicy, Limit, Policy, Route
from tokenguard.policy.windows import window_bounds
from tokenguard.prices import PriceBook

UNCAPPED_OUTPUT: Final = 4096
"""Output tokens that a budget reserves for a call without a cap."""
Applies = Callable[[Replayed], Any]
"""Whether a rule is for a call: what it matched, or nothing."""


class Step:
    """One step of the waterfall."""

    kind: ClassVar[str]

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


def applies(rule: Route | Batch | Shorten | Limit | Budget) -> Applies:
    """Whether a rule's `when` is for a call."""
    match = matcher(Policy(limits=(Limit(name=rule.name, when=rule.when, max_tool_steps=0),)))
    return lambda call: match(call).limits


class Block(Step):
    """Calls that a limit refuses."""

    kind = "block"

    def __init__(self, limit: Limit, book: PriceBook) -> None:
        super().__init__(limit.name)
        self._limit = limit
        self._for = applies(limit)
        self._book = book

    def _change(self, call: Replayed) -> None:
        call.gone = bool(self._for(call)) and exceeds(self._limit, call, self._book)

    def _assumes(self) -> list[str]:
        return ["a refused call is not made in another way"]


def exceeds(limit: Limit, call: Replayed, book: PriceBook) -> bool:
    """Whether a call passes a ceiling of a limit that refuses it, or sends it to the cheaper model."""
    fact = call.fact
    past = (
        (limit.max_tool_steps, fact.tool_steps),
        (limit.max_retries, fact.retry_attempt),
        (limit.max_input_tokens, call.usage.input),
    )
    if any(ceiling is not None and value is not None and value > ceiling for ceiling, value in past):
        return True
    generates = fact.operation != "embeddings"
    cap = None if limit.then == "clamp" or not generates else limit.max_output_tokens
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

    def __init__(self, budget: Budget, book: PriceBook) -> None:
        super().__init__(budget.name)
        self._budget = budget
        self._match = matcher(Policy(budgets=(budget,)))
        self._book = book
        self._spent: dict[tuple[str, int], list[float]] = {}
        """USD, tokens and calls, by account and window."""

    def _change(self, call: Replayed) -> None:
        matched = self._match(call)
        for budget, key in matched.budgets:
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
