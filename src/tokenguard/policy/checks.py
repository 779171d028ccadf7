"""Combinations of a policy's values that cannot be meant, and what to do about each."""

from __future__ import annotations

from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy.caching import Cache
from tokenguard.policy.grammar import rows
from tokenguard.policy.model import Budget, LedgerConfig, Limit, Route


class Check(NamedTuple):
    """One of them: on which table and key, when, and what to do."""

    table: type
    key: str
    fails: Any
    why: str


MANAGED: Final = ("max_input_tokens", "max_history_tokens", "max_tool_result_tokens")
"""The ceilings past which `then = "provider"` asks the provider to shorten the context."""
_CEILINGS = tuple(row.field for row in rows(Limit) if row.field.startswith("max_"))
_DOWNGRADE = 'then = "downgrade" needs a model to go down to; add downgrade_to = "a cheaper model of the same provider"'

CHECKS: Final = (
    Check(Limit, "then", lambda r: r.then == "downgrade" and not r.downgrade_to, _DOWNGRADE),
    Check(Budget, "then", lambda r: r.then == "downgrade" and not r.downgrade_to, _DOWNGRADE),
    Check(
        Limit,
        "then",
        lambda r: r.then == "clamp" and r.max_output_tokens is None,
        'then = "clamp" lowers a call\'s output cap, so it needs max_output_tokens; add it, or use then = "block"',
    ),
    Check(
        Limit,
        "then",
        lambda r: r.then == "trim" and r.max_history_tokens is None,
        'then = "trim" shortens the history, so it needs max_history_tokens; add it, or use then = "block"',
    ),
    Check(
        Limit,
        "then",
        lambda r: r.then == "provider" and all(getattr(r, name) is None for name in MANAGED),
        f'then = "provider" is for a long context; add one of {", ".join(MANAGED)}',
    ),
    Check(
        Limit,
        "name",
        lambda r: all(getattr(r, name) is None for name in _CEILINGS),
        f"the limit limits nothing; add one of {', '.join(_CEILINGS)}",
    ),
    Check(
        Route,
        "escalate_to",
        lambda r: (r.escalate_to is None) is not (not r.escalate_when),
        "escalate_to and escalate_when go together: the model that is asked again, and when",
    ),
    Check(
        Route,
        "escalate_to",
        lambda r: r.escalate_to == r.to,
        "it is the model that has just failed; name a larger one",
    ),
    Check(
        Budget,
        "name",
        lambda r: r.limit_usd is None and r.limit_tokens is None and r.limit_calls is None,
        "the budget has no limit; add limit_usd = ..., limit_tokens = ... or limit_calls = ...",
    ),
    Check(
        Budget,
        "limit_calls",
        lambda r: r.limit_calls is not None and (r.limit_usd is not None or r.limit_tokens is not None),
        "a budget counts calls, or money and tokens: write a [[budget]] for each",
    ),
    Check(
        Budget,
        "then",
        lambda r: r.limit_calls is not None and r.then == "downgrade",
        "a call of another model is a call too; use block or warn",
    ),
    Check(
        Budget,
        "window",
        lambda r: r.by_run and r.window != "total",
        "a run of a task is the window of its budget: leave window out",
    ),
    Check(
        Cache,
        "encoder",
        lambda r: (r.match == "meaning") is not (r.encoder is not None),
        'match = "meaning" and encoder go together: a function from texts to vectors, such as "app.search:encode"',
    ),
    Check(
        Cache,
        "serve",
        lambda r: r.serve and (r.match != "meaning" or None in (r.threshold, r.wrong_share, r.pairs, r.judged)),
        'it needs match = "meaning" and a threshold found with labelled pairs of your own: run '
        "`tokenguard cache eval PAIRS.jsonl --rule NAME`, which writes threshold, wrong_share, pairs and judged",
    ),
    Check(
        Cache,
        "judged",
        lambda r: r.serve and r.judged is not None and r.judged != r.encodes,
        "the threshold was found for another encoder, or another version of it: run `tokenguard cache eval` again",
    ),
    Check(
        LedgerConfig,
        "slice",
        lambda r: r.slice > 0.5,
        "a slice above half of the limit starves the other processes; use 0.01 to 0.1",
    ),
)
