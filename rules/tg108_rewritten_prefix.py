r"""The beginning of a conversation is rewritten inside its loop.

A conversation grows at its end, so each turn finds the turns before it in the provider's cache. Rewriting `messages[0]`
or the system prompt in between makes the whole history full price again, in every turn. Append what is new instead.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def chat(messages, turns):
        for turn in turns:
            messages[0]["content"] = f"You are helpful. Known so far: {turn.facts}"  # TG108
            messages.append({"role": "user", "content": turn.text})
            client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    def chat_claude(client, system, history, turns):
        for turn in turns:
            system += turn.note  # TG108
            history.append({"role": "user", "content": turn.text})
            client.messages.create(model="claude-sonnet-4-5", system=system, messages=history, max_tokens=500)

Good:

    from openai import OpenAI

    client = OpenAI()

    def chat(messages, turns):
        for turn in turns:
            messages.append({"role": "user", "content": f"{turn.text}\n\nKnown so far: {turn.facts}"})
            client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    def separate(questions):
        for question in questions:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}]
            messages[0]["content"] = f"Answer in {question.language}."
            client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.loops import innermost_loop, own_nodes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS

SEVERITY = "warning"
WORDS = CALL_WORDS
_CONVERSATION = ("messages", "input", "contents")


def check(file: File) -> Iterator[Report]:
    """Report writes to the first message, or to the system prompt, of a conversation that its loop keeps."""
    for call, _ in file.generations:
        loop = innermost_loop(file, call)
        known = file.arguments(call).known
        history = next(
            (ast.unparse(known[n]) for n in _CONVERSATION if isinstance(known.get(n), ast.Name | ast.Attribute)), ""
        )
        if loop is None or not history:
            continue
        nodes = list(own_nodes(loop))
        if _made_anew(nodes, history) or not _grows(nodes, history):
            continue
        system = ast.unparse(known["system"]) if isinstance(known.get("system"), ast.Name | ast.Attribute) else ""
        for node in nodes:
            if _rewrites(node, history, system):
                assert isinstance(node, ast.stmt)
                yield Report(
                    node,
                    "This rewrites the conversation's beginning in its loop, so no turn finds the earlier ones "
                    "cached. Append instead.",
                )


def _made_anew(nodes: list[ast.AST], history: str) -> bool:
    return any(isinstance(n, ast.Assign) and any(ast.unparse(t) == history for t in n.targets) for n in nodes)


def _grows(nodes: list[ast.AST], history: str) -> bool:
    """Whether the loop adds to the conversation, so that its turns share a beginning."""
    for node in nodes:
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == history:
            return True
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("append", "extend")
        ) and ast.unparse(node.func.value) == history:
            return True
    return False


def _rewrites(node: ast.AST, history: str, system: str) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(_first_of(t, history) or (system and ast.unparse(t) == system) for t in targets)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        call, func = node.value, node.value.func
        return (
            func.attr == "insert" and bool(call.args) and _is_zero(call.args[0]) and ast.unparse(func.value) == history
        )
    return False


def _first_of(target: ast.expr, history: str) -> bool:
    while isinstance(target, ast.Subscript):
        if _is_zero(target.slice) and ast.unparse(target.value) == history:
            return True
        target = target.value
    return False


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0 and node.value is not False
