"""A loop around a generation call can run for ever.

`while True` around a model call ends when the model decides to. When a tool keeps failing, or the model keeps asking
for one more step, nothing else ends it: each turn sends the whole, growing conversation again, so the cost grows with
the square of the turns. Count the turns, or watch a budget or a deadline.

A loop with a counter, a budget, a deadline, a person in it (`input()`), or one that waits for a queue is not reported.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def run(messages, tools):
        while True:  # TG104
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.extend(call_tools(message))

    def run_claude(client, messages, tools):
        reply = client.messages.create(model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900)
        while reply.stop_reason == "tool_use":  # TG104
            messages += call_tools(reply)
            reply = client.messages.create(model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900)
        return reply

Good:

    from openai import OpenAI

    client = OpenAI()

    def run(messages, tools):
        for _ in range(12):
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.extend(call_tools(message))
        raise RuntimeError("no answer in 12 turns")

    def chat(messages):
        while True:
            messages.append({"role": "user", "content": input("> ")})
            print(client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=900))

    def run_with_counter(messages, tools):
        turns = 0
        while True:
            turns += 1
            if turns > 12:
                raise RuntimeError("no answer in 12 turns")
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            if reply.choices[0].finish_reason == "stop":
                return reply
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.loops import innermost_loop, own_nodes, through_helpers
from tokenguard.lint.patterns import lazy
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS

SEVERITY = "warning"
WORDS = CALL_WORDS

# What bounds a loop from outside, or makes it a person's or a queue's loop.
_BOUNDED = lazy(
    r"budget|deadline|timeout|time_left|max_|_max$|limit|remaining|attempt|retries|n_steps|num_steps|is_last_step|elapsed|monotonic|perf_counter"
    r"|should_stop|cancel|shutdown|stop_event|is_set|running$|closed|has_next|next_page|page_token|cursor|poll|after$",
    re.IGNORECASE,
)
_PEOPLE = frozenset({"input", "prompt", "ask", "getpass", "readline", "recv", "receive", "receive_text",
                "receive_json", "get_message", "get_user_input", "user_input", "prompt_async", "listen",
                "accept", "get", "get_nowait", "popleft", "pop", "blpop", "brpop", "read", "anext",
                "next", "sleep"})  # fmt: skip
_GETTERS = frozenset({"get", "pop", "popleft", "read", "next", "anext", "sleep"})
_ENDLESS = lazy(r"stop_reason|finish_reason|tool_calls|function_call|tool_use|status\b")


def check(file: File) -> Iterator[Report]:
    """Report the `while` loops around generation calls that only the model can end."""
    direct = [call for call, _ in file.generations]
    helped = [call for call, _ in through_helpers(file, direct)]  # `reply = self.ask(messages)`
    loops: dict[ast.While, ast.Call] = {}
    for call in (*direct, *helped):
        loop = innermost_loop(file, call)
        if not isinstance(loop, ast.While) or _leaves_after(file, call, loop):
            continue
        if call in direct or _ENDLESS.search(ast.unparse(loop)):  # the loop looks into the reply
            loops.setdefault(loop, call)
    for loop in loops:
        if _model_decides(file, loop) and not _bounded(file, loop, {*direct, *helped}):
            message = (
                "Only the model ends this loop of requests, and each turn sends the conversation again. "
                "Count the turns, or set a deadline or budget."
            )
            yield Report(loop.test, message)


def _leaves_after(file: File, call: ast.Call, loop: ast.While) -> bool:
    """Whether the loop ends once the call has succeeded: it retries, rather than converses."""
    inner: ast.AST = call
    for node in file.module.ancestors(call):
        if isinstance(node, ast.Return):
            return True
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and inner in block:
                after = [*block[block.index(inner) + 1 :], *(node.orelse if isinstance(node, ast.Try) else ())]
                if any(isinstance(statement, ast.Return | ast.Break) for statement in after):
                    return True
        if node is loop:
            return False
        inner = node
    return False


def _model_decides(file: File, loop: ast.While) -> bool:
    if isinstance(loop.test, ast.Constant):
        return bool(loop.test.value)
    text = ast.unparse(loop.test)
    return bool(_ENDLESS.search(text)) and not _BOUNDED.search(text)


def _bounded(file: File, loop: ast.While, requests: set[ast.Call]) -> bool:
    counted = {n.target.id for n in own_nodes(loop) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
    counted |= {
        n.target.attr for n in own_nodes(loop) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Attribute)
    }
    for node in own_nodes(loop):
        if isinstance(node, ast.Compare | ast.BoolOp | ast.If | ast.Assert):
            test = node.test if isinstance(node, ast.If | ast.Assert) else node
            for part in ast.walk(test):
                name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
                if name in counted or (name and _BOUNDED.search(name)):
                    return True
        elif isinstance(node, ast.Call) and node not in requests:
            func = node.func
            name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
            searched = bool(node.args) and (name in ("get", "pop") or isinstance(node.args[0], ast.GeneratorExp))
            if name in _PEOPLE and not (name in _GETTERS and searched):  # a key of a dict, an item of an answer
                return True
            if _BOUNDED.search(name) and isinstance(file.module.parents.get(node), ast.Expr | ast.Await):
                return True  # budget.charge(...), check_limits(...)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            return True  # the caller pulls, and may stop
    return False
