"""The ceilings of a `[[limit]]`: what each of them looks at, and what it says of a call that passes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from tokenguard.call.call import Call
from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import GuardrailViolation, LimitExceeded
from tokenguard.facts.tuples import NamedTuple
from tokenguard.guard.context import Context
from tokenguard.guard.worst_case import WorstCase
from tokenguard.policy import Limit

V = TypeVar("V", bound=GuardrailViolation)

Shown = Callable[[float], str]


def _plain(value: float) -> str:
    return f"{value:,}"


def _money(usd: float) -> str:
    return dollars(usd, least=6)


class Question(NamedTuple):
    """Whether this call is within this limit."""

    call: Call
    limit: Limit
    worst_case: WorstCase
    refuses_unpriced: bool
    """Whether a model without a price passes every ceiling in USD."""
    context: Context

    def passed(self, what: str, value: float, ceiling: float, advice: str, show: Shown = _plain) -> LimitExceeded:
        """The refusal: what the call has, what the limit allows, and the next step."""
        call, name = self.call, self.limit.name
        return LimitExceeded(
            f"{call.api.operation} {call.model}: {what} {show(value)}, and the limit "
            f'"{name}" allows {show(ceiling)}. {advice}',
            rule=name,
            limit=ceiling,
            observed=value,
            attribution=call.attribution,
        )


def _tool_steps(asked: Question) -> LimitExceeded | None:
    most, steps = asked.limit.max_tool_steps, asked.call.tool_steps
    if most is None or steps <= most:
        return None
    return asked.passed("tool rounds", steps, most, "End the run, or ask the user how to go on.")


def _tool_calls(asked: Question) -> LimitExceeded | None:
    most, call = asked.limit.max_tool_calls_per_turn, asked.call
    if most is None or not call.tool_steps:
        return None
    made = call.api.last_tool_calls(call.request)
    return None if made <= most else asked.passed("tool calls in one turn", made, most, "Offer fewer tools.")


def _retries(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_retries
    if most is None:
        return None
    attempt = asked.call.repeated_within(asked.limit.retry_window)
    if attempt <= most:
        return None
    return asked.passed("retries", attempt, most, "Stop retrying; the same request keeps failing.")


def _output(asked: Question) -> LimitExceeded | None:
    """A clamp sets the cap, and has nothing to refuse."""
    limit, call = asked.limit, asked.call
    most = limit.max_output_tokens
    if limit.then == "clamp" or most is None or not beyond(call, most):
        return None
    setting = call.api.caps[0]
    if call.output_cap is not None:
        return asked.passed("output cap", call.output_cap, most, f'Lower {setting}, or use then = "clamp".')
    return LimitExceeded(
        f'{call.api.operation} {call.model}: no output cap, and the limit "{limit.name}" wants one of '
        f'at most {most:,} tokens. Set {setting}, or use then = "clamp".',
        rule=limit.name,
        limit=most,
        attribution=call.attribution,
    )


def _input(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_input_tokens
    if most is None:
        return None
    sent = asked.worst_case.input(asked.call, most)
    if sent <= most:
        return None
    return asked.passed("input tokens", sent, most, "Send less: fewer chunks, a shorter history.")


def _system(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_system_tokens
    if most is None or (sent := asked.context.tokens("system", most)) <= most:
        return None
    return asked.passed("tokens of the system prompt", sent, most, "Shorten it.")


def _tools(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_tools_tokens
    if most is None or (sent := asked.context.tokens("tools", most)) <= most:
        return None
    return asked.passed("tokens of tools", sent, most, "Offer fewer tools, or shorter descriptions.")


def _history(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_history_tokens
    if most is None or (sent := asked.context.tokens("history", most)) <= most:
        return None
    return asked.passed("tokens of history", sent, most, 'Keep fewer turns, or use then = "trim".')


def _tool_result(asked: Question) -> LimitExceeded | None:
    most = asked.limit.max_tool_result_tokens
    if most is None or (sent := asked.context.largest("tool_results", most)) <= most:
        return None
    return asked.passed("tokens of a tool result", sent, most, "Return what is needed of it, or a summary.")


def _cost(asked: Question) -> LimitExceeded | None:
    most, call = asked.limit.max_cost_usd, asked.call
    if most is None:
        return None
    worst = asked.worst_case.of(call, counted=False)
    if worst.usd is None or worst.usd > most:
        worst = asked.worst_case.of(call, counted=True)
    if worst.usd is None:
        return no_price(call, asked.limit.name, most, LimitExceeded) if asked.refuses_unpriced else None
    if worst.usd <= most:
        return None
    what = f"{worst.input:,} input and up to {worst.output:,} output tokens can cost"
    return asked.passed(what, worst.usd, most, "Send less, lower the output cap, or use a cheaper model.", _money)


Ceiling = Callable[[Question], LimitExceeded | None]
CEILINGS: Final[tuple[Ceiling, ...]] = (
    *(_tool_steps, _tool_calls, _retries, _output),
    *(_system, _tools, _history, _tool_result),
    *(_input, _cost),
)
"""All there are, the cheapest question first; each answers `None` for a call that is within it."""


MENDS: Final[Mapping[str, tuple[Ceiling, ...]]] = {"trim": (_history,), "provider": (_history, _tool_result, _input)}
"""The ceilings past which a `then` does something else than refuse."""


def beyond(call: Call, most: int) -> bool:
    """Whether a call may generate more than this: its cap is larger, or it has none."""
    return call.api.generates and (call.output_cap is None or call.output_cap > most)


def no_price(call: Call, rule: str, limit: float | None, kind: type[V]) -> V:
    """The refusal of a call whose worst case nobody knows in USD."""
    model = call.priced_as
    what = f"no price is known for it at {call.endpoint.provider}"
    advice = f'Add "{call.endpoint.provider}/{model}" under [prices], or set unpriced = "estimate" '
    advice += "(the price of the model most like it, where there is one), or a ceiling"
    if model is None:
        what, advice = "its model is the provider's to choose", "Name the model, or set a ceiling as `unpriced`"
    return kind(
        f'{call.api.operation} {model or "with an agent"}: {what}, so "{rule}" cannot be kept. {advice}.',
        rule=rule,
        limit=limit,
        attribution=call.attribution,
    )
