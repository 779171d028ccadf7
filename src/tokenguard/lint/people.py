"""Who a loop waits for: a person who types, speaks or writes a message, or the next item of a queue."""

from __future__ import annotations

import ast
import re

from tokenguard.facts.patterns import lazy
from tokenguard.lint.pools import run_in_executor
from tokenguard.lint.rulebook import File
from tokenguard.lint.sending import function_of
from tokenguard.lint.syntax import last_name, walk

_DEPTH = 3  # helpers between a loop and the question to a person
_PEOPLE = frozenset({"input", "prompt", "ask", "getpass", "readline", "recv", "receive", "receive_text",
                "receive_json", "get_message", "prompt_async", "listen", "text_input", "text_area", "chat_input",
                "accept", "get", "get_nowait", "popleft", "pop", "blpop", "brpop", "read", "anext",
                "next", "sleep"})  # fmt: skip
_GETTERS = frozenset({"get", "pop", "popleft", "read", "next", "anext", "sleep"})
# What a function does for certain that is called without anything of the conversation.
_SURELY = frozenset({"input", "getpass", "readline", "recv", "receive", "receive_text", "receive_json", "prompt_async",
                     "listen", "record", "text_input", "chat_input"})  # fmt: skip
_HEARS = lazy(  # a person who speaks, or is asked
    r"(?:record|recogni[sz]e|transcribe|listen|hear|asr|take_?command|speech_?to_?text)(?:_\w+)?|\w*get_?updates"
    r"|(?:get|read|ask|wait_?for|take|capture|prompt)_?(?:the_?)?(?:users?|humans?|person|player|audio|voice|speech|mic\w*)"
    r"(?:_?(?:input|query|question|message|command|prompt|text|choice))?"
    r"|read_?(?:prompt|input|line|command|question)",
    re.IGNORECASE,
)
_PROMPTS = ("prompt_toolkit.", "questionary.", "inquirer.", "click.prompt", "typer.prompt", "rich.prompt.")


def waits(file: File, call: ast.Call, loop: ast.AST | None = None) -> bool:
    """Whether a call waits for a person, or for the next item of a queue, itself or in a helper of this file.

    A helper that is given something which changes in the loop may be a tool that asks for leave: it does not count.
    """
    name = (_default(file, call.func) or last_name(call.func)).lstrip("_")
    searched = bool(call.args) and (name in ("get", "pop") or isinstance(call.args[0], ast.GeneratorExp))
    if name in _PEOPLE:
        return not (name in _GETTERS and searched)  # a key of a dict, an item of an answer
    if _HEARS.fullmatch(name) or _in_a_thread(call):
        return not name.startswith("record") or loop is None or not _changes(call, loop)  # `record_reply(reply)`
    if name == "wait_for":  # an event by its name: `bot.wait_for("message")`
        return bool(call.args) and isinstance(call.args[0], ast.Constant)
    return loop is not None and not _changes(call, loop) and _asks_in_helper(file, call.func, 0)


def _default(file: File, func: ast.expr) -> str:
    """What a parameter is if no caller says otherwise: `read=input`."""
    found = file.module.scope_at(func).lookup(func.id) if isinstance(func, ast.Name) else None
    default = found[1][0].value if found and found[1][0].kind == "param" else None
    return last_name(default) if default is not None else ""


def _changes(call: ast.Call, loop: ast.AST) -> bool:
    """Whether a call is given what is set in the loop."""
    bound = {n.id for n in walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    given = (*call.args, *(keyword.value for keyword in call.keywords))
    return any(isinstance(n, ast.Name) and n.id in bound for value in given for n in walk(value))


def _asks_in_helper(file: File, func: ast.expr, depth: int) -> bool:
    found = function_of(file, func) if isinstance(func, ast.Name | ast.Attribute) and depth < _DEPTH else None
    if found is None:
        return False
    other, function = found
    known: dict[ast.AST, bool] = other.memory.setdefault("asks a person", {})
    if function not in known:
        known[function] = False  # a circle adds nothing
        inside = [node for node in walk(function) if isinstance(node, ast.Call)]
        known[function] = any(_surely(other, c) or _asks_in_helper(other, c.func, depth + 1) for c in inside)
    return known[function]


def _in_a_thread(call: ast.Call) -> bool:
    """Whether a call has a thread ask: `asyncio.to_thread(input, "> ")`, `loop.run_in_executor(None, input)`."""
    in_pool = run_in_executor(call)
    asked = in_pool[1] if in_pool else call.args[0] if last_name(call.func) == "to_thread" and call.args else None
    return asked is not None and last_name(asked) in _SURELY


def _surely(file: File, call: ast.Call) -> bool:
    return last_name(call.func) in _SURELY or _in_a_thread(call) or file.names.path(call.func).startswith(_PROMPTS)
