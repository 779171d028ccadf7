"""Whether what a call returns gets into a prompt: through names, lists, loops, and the functions of this file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from tokenguard.lint.prompts import contents, is_tool, lasts
from tokenguard.lint.rulebook import File
from tokenguard.lint.surface import RUNS, matcher
from tokenguard.lint.syntax import MUTATORS, Function, below, parameters_of, spelling, walk

_DEPTH = 3  # functions between a search and the prompt
_RUN_PATHS = matcher(RUNS)


def reaches_prompt(file: File, call: ast.Call, depth: int = 0) -> bool:
    """Whether the result of `call` surely gets into a prompt of this file, or is what a tool returns to the model."""
    function = file.module.function_of(call)
    place = function or file.module.tree
    nodes = [node for node in walk(place) if function or file.module.function_of(node) is None]
    held = _held(call, nodes)
    if any(text is not call and _mentions(text, call, held) for text in _prompts(file).get(function, ())):
        return True
    if function is None or depth >= _DEPTH:
        return False
    if not any(_mentions(result, call, held) for result in file.module.results(function)):
        return False
    if is_tool(file, function):
        return True
    callers = (c for c in file.module.called.get(function.name, ()) if calls(file, c, function))
    return any(reaches_prompt(file, caller, depth + 1) for caller in callers)


def holds(file: File, texts: list[ast.expr], part: ast.Call) -> bool:
    """Whether what `part` returns is in one of `texts`, put together in the same function."""
    function = file.module.function_of(part)
    place: ast.AST = function or file.module.tree
    nodes = [node for node in walk(place) if function or file.module.function_of(node) is None]
    held = _held(part, nodes)
    return any(file.module.function_of(text) is function and _mentions(text, part, held) for text in texts)


def calls(file: File, call: ast.Call, function: Function) -> bool:
    """Whether `call` calls `function`, or a method of its name on an object that cannot be followed."""
    path = file.names.path(call.func)
    found = file.names.definition(path)
    return (
        found is function
        or (path.startswith("?") and isinstance(call.func, ast.Attribute))
        or (isinstance(found, Function) and _carries_out(file, function, found))
    )


def _carries_out(file: File, method: Function, announced: Function) -> bool:
    """Whether a method's class is derived from the one that announces it: `reader: Reader`, `class Pdf(Reader)`."""
    owner = file.module.class_of(method)
    bases = owner.bases if owner is not None and method.name == announced.name else ()
    base = file.module.class_of(announced)
    return base is not None and any(file.names.definition(file.names.path(b)) is base for b in bases)


def given(file: File, function: Function, name: str) -> list[ast.expr]:
    """What the calls of a function in its file give for one of its parameters."""
    parameters = parameters_of(function)
    found: list[ast.expr] = []
    for call in file.module.called.get(function.name, ()):
        if calls(file, call, function):
            place = parameters.index(name) if name in parameters else len(call.args)
            found += [k.value for k in call.keywords if k.arg == name] or call.args[place : place + 1]
    return found


def _prompts(file: File) -> dict[Function | None, list[ast.expr]]:
    """The texts of prompts, and what is sent to a model, by the function they stand in."""
    if "prompt texts" not in file.memory:
        texts: dict[Function | None, list[ast.expr]] = {}
        runs = (c for c in file.module.calls if _RUN_PATHS.fullmatch(file.names.path(c.func)) or _runs_chain(c))
        sent: Iterable[ast.expr] = (*(c for c, _ in file.generations), *runs)
        for text in (*contents(file), *lasts(file), *sent):
            texts.setdefault(file.module.function_of(text), []).append(text)
        file.memory["prompt texts"] = texts
    found: dict[Function | None, list[ast.expr]] = file.memory["prompt texts"]
    return found


def _runs_chain(call: ast.Call) -> bool:
    """Whether a call runs what is named a chain: `self.qa_chain.run(...)`."""
    match call.func:
        case ast.Attribute(value=held, attr="run" | "arun"):
            return (spelling(held) or "").endswith("chain")
    return False


def _held(call: ast.Call, nodes: list[ast.AST]) -> set[str]:
    """The names that hold something of what `call` returns."""
    held: set[str] = set()
    for _ in range(6):  # names of names
        before = len(held)
        for node in nodes:
            held.update(_taken(node, call, held))
        if len(held) == before:
            break
    return held


def _taken(node: ast.AST, call: ast.Call, held: set[str]) -> Iterator[str]:
    targets: list[ast.expr] = []
    match node:
        case ast.Assign(targets=given, value=value) if _mentions(value, call, held):
            targets = given
        case ast.AnnAssign(target=target, value=ast.expr() as value) if _mentions(value, call, held):
            targets = [target]
        case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            targets = [target] if _mentions(value, call, held) else []
        case ast.For(target=target, iter=source) | ast.AsyncFor(target=target, iter=source):
            targets = [target] if _mentions(source, call, held) else []
        case ast.Call(func=ast.Attribute(value=value, attr=method), args=args) if method in MUTATORS:
            targets = [value] if any(_mentions(arg, call, held) for arg in args) else []
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if spelled := spelling(part.value if isinstance(part, ast.Subscript | ast.Starred) else part):
                yield spelled


def _mentions(node: ast.AST, call: ast.Call, held: set[str]) -> bool:
    """Whether an expression has `call` in it, or a name that holds its result; a number of results is none of them."""
    if node is call or (isinstance(node, ast.Name | ast.Attribute) and spelling(node) in held):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        return False
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else below(node)
    return any(_mentions(part, call, held) for part in parts)
