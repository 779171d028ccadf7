"""How long a framework's memory of a conversation lasts: for one run, or from question to question."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.loops import Loop
from tokenguard.lint.rulebook import File
from tokenguard.lint.sizes import few
from tokenguard.lint.syntax import Function, walk

_FEW = 10  # questions that are written out
_PASSES = 6  # names of names
_RERUN = lazy(rb"^\s*(?:import|from) streamlit\b")
_KEPT_ELSEWHERE = lazy(r".*\.(?!InMemory)[A-Z]\w+ChatMessageHistory\(\)")  # of a session, a file, a database
_KEEPS = frozenset({"set", "append", "add", "setdefault", "put", "update"})


def outlives(file: File, memory: ast.Call) -> bool:
    """Whether a memory, or what is made with it, is kept for more than one run: a chat's next question finds it."""
    known = file.arguments(memory).known
    if "chat_memory" in known:
        return bool(_KEPT_ELSEWHERE.fullmatch(file.names.path(known["chat_memory"])))
    function = file.module.function_of(memory)
    place: ast.AST = function or file.module.tree
    own = [node for node in walk(place) if file.module.function_of(node) is function]
    held = _holders(memory, own)
    if any(_stored(node, memory, held) for node in own):
        return True
    if function is None and _RERUN.search(file.module.source):
        return False  # Streamlit runs a script anew for each question
    used = [n for n in walk(place) if isinstance(n, ast.Name) and n.id in held and isinstance(n.ctx, ast.Load)]
    if any(file.module.function_of(n) is not function or _again(file, n, memory) for n in used):
        return True
    if function is not None:
        return any(_passes_on(result, memory, held) for result in file.module.results(function))
    return not any(_runs(file, n) for n in used)  # at the top of a module: what another one imports


def _holders(memory: ast.Call, nodes: list[ast.AST]) -> set[str]:
    """The names that hold the memory, or what is made with it."""
    held: set[str] = set()
    for _ in range(_PASSES):
        before = len(held)
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if _passes_on(node.value, memory, held):
                    held |= {t.id for target in targets for t in walk(target) if isinstance(t, ast.Name)}
        if len(held) == before:
            break
    return held


def _passes_on(value: ast.expr, memory: ast.Call, held: set[str]) -> bool:
    """Whether an expression gives the memory, or what has it in it; what a run of that answers is not it."""
    return any(part is memory or (isinstance(part, ast.Name) and part.id in held) for part in _given(value))


def _given(value: ast.AST) -> Iterator[ast.AST]:
    yield value
    for name, field in ast.iter_fields(value):
        if isinstance(value, ast.Call) and name == "func":
            continue
        for part in field if isinstance(field, list) else [field]:
            if isinstance(part, ast.AST):
                yield from _given(part)


def _stored(node: ast.AST, memory: ast.Call, held: set[str]) -> bool:
    """Whether a statement keeps the memory in an object, a session or a list, or hands it to a function for good."""
    match node:
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_], value=value):
            return _passes_on(value, memory, held)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return bool(held & {*names})
        case ast.Expr(value=ast.Call(func=ast.Name()) as call):
            return _passes_on(call, memory, held)
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _KEEPS:
            return _passes_on(node, memory, held)
    return False


def _again(file: File, use: ast.AST, memory: ast.Call) -> bool:
    """Whether a loop goes round a use, but not around what makes the memory; a few written questions are no chat."""
    for node in file.module.ancestors(use):
        if isinstance(node, Function):
            return False
        if isinstance(node, Loop) and not (isinstance(node, ast.For) and few(file, node.iter, _FEW)):
            return memory not in walk(node)
    return False


def _runs(file: File, use: ast.Name) -> bool:
    """Whether a use asks something: `chain.run(question)`, `chain(question)`."""
    node: ast.AST | None = use
    while isinstance(parent := file.module.parents.get(node), ast.Attribute):  # type: ignore[arg-type]
        node = parent
    return isinstance(parent, ast.Call) and parent.func is node
