"""A call is retried without end.

A retry with no stop turns an outage, or a request that can never succeed, into an endless bill: failed generations are
often charged, and the retries of many workers keep a rate limit exceeded. Stop after a few attempts or a set time.

Bad:

    import backoff
    from openai import OpenAI, RateLimitError
    from tenacity import retry, wait_exponential

    client = OpenAI()

    @backoff.on_exception(backoff.expo, RateLimitError)  # TG105
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    @retry(wait=wait_exponential())  # TG105
    def ask_again(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    def ask_for_ever(messages):
        while True:
            try:
                return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)  # TG105
            except RateLimitError:
                continue

Good:

    import backoff
    from openai import OpenAI, RateLimitError
    from tenacity import retry, stop_after_attempt

    client = OpenAI(max_retries=0)

    @backoff.on_exception(backoff.expo, RateLimitError, max_tries=4)
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    @retry(stop=stop_after_attempt(3))
    def ask_again(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    def ask_three_times(messages):
        for attempt in range(3):
            try:
                return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)
            except RateLimitError:
                continue
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import Retry, innermost_loop, own_nodes, retry_decorators
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import walk

SEVERITY = "warning"
WORDS = CALL_WORDS
_STOPS = {"backoff": ("max_tries", "max_time"), "tenacity": ("stop",), "retry": ("tries",), "retrying":
          ("stop_max_attempt_number", "stop_max_delay", "stop_func")}  # fmt: skip
_COUNTS = lazy(
    r"attempt|retry|retries|tries|count|budget|deadline|max_(?!(?:\w+_)?(?:tokens|length))|elapsed|time_?left|time_?limit",
    re.IGNORECASE,
)
_CLOCKS = frozenset({"time", "monotonic", "perf_counter", "now"})


def check(file: File) -> Iterator[Report]:
    """Report retry decorators without a stop around generation calls, and endless loops that swallow their errors."""
    told: set[ast.While] = set()
    for call, _ in file.generations:
        for retry in retry_decorators(file, call):
            stops, made = _STOPS.get(retry.library), retry.made
            if stops and (not isinstance(made, ast.Call) or _endless(retry, made, stops)):
                yield Report(retry.node, f"This retries without end. Set {' or '.join(stops[:2])}.")
        loop = innermost_loop(file, call)
        if isinstance(loop, ast.While) and loop not in told and isinstance(loop.test, ast.Constant) and loop.test.value:
            attempt = _endless_attempt(file, call, loop)
            if attempt is not None:
                told.add(loop)
                yield Report(
                    call,
                    "A failure repeats this call without end: the loop swallows the error and nothing counts. "
                    "Limit the attempts.",
                )


def _endless(retry: Retry, made: ast.Call, stops: tuple[str, ...]) -> bool:
    """Whether a retry is set up without a stop; tenacity's first argument may be one."""
    placed = retry.library == "tenacity" and made.args
    return not placed and retry.file.any_of(made, stops).presence is Presence.ABSENT


def _endless_attempt(file: File, call: ast.Call, loop: ast.While) -> ast.Try | None:
    """The `try` around `call` in the loop, if its handlers go round again with nothing counted, and success leaves."""
    inside = set(own_nodes(loop))
    for node in file.module.ancestors(call):
        if node is loop:
            return None
        if isinstance(node, ast.Try) and node in inside:
            if any(map(_counts, inside)):
                return None
            succeeds = any(isinstance(n, ast.Return | ast.Break) for s in (*node.body, *node.orelse) for n in walk(s))
            swallows = any(_goes_round(handler) for handler in node.handlers)
            return node if succeeds and swallows and any(call is n for s in node.body for n in walk(s)) else None
    return None


def _counts(node: ast.AST) -> bool:
    """Whether a node of a loop counts attempts, or looks at a clock; how long to sleep, and a cap, count nothing."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in _CLOCKS
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return bool(_COUNTS.search(name))


def _goes_round(handler: ast.ExceptHandler) -> bool:
    """Whether an error may lead back to the request, with nothing counted."""
    counted = any(
        isinstance(n, ast.AugAssign) and isinstance(n.op, ast.Add | ast.Sub) for s in handler.body for n in walk(s)
    )
    return not counted and _falls_through(handler.body)


def _falls_through(statements: list[ast.stmt]) -> bool:
    """Whether there is a way through `statements` that does not leave the loop."""
    for statement in statements:
        if isinstance(statement, ast.Raise | ast.Return | ast.Break):
            return False
        if isinstance(statement, ast.Continue):
            return True
        if isinstance(statement, ast.If) and not (_falls_through(statement.body) or _falls_through(statement.orelse)):
            return False
    return True
