"""What becomes of the list that a call returns, within the function around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.rulebook import File
from tokenguard.lint.syntax import MUTATORS, spelling

# What hands a list of results on, whole or filtered: builtins by name, and methods of a retriever or an answer.
_KEEPS = frozenset({"sorted", "list", "tuple", "set", "filter", "reversed", "zip", "enumerate", "map", "dict", "range",
                    "len"})  # fmt: skip
_RUNS = frozenset({"invoke", "ainvoke", "get_relevant_documents", "aget_relevant_documents", "retrieve", "aretrieve",
                   "get", "values", "items", "copy", "to_list", "sort_values", "to_dict", "query",
                   "aquery"})  # fmt: skip
_CUTS = frozenset({"nlargest", "nsmallest", "islice", "head", "sample"})


def narrowed(file: File, call: ast.Call, below: int) -> bool:
    """Whether the list that `call` returns is cut down before it is used.

    It is sliced (to less than `below`, or nobody knows), taken from until a loop breaks, or sorted out by what the
    pieces are marked with.
    """
    place = file.module.function_of(call) or file.module.tree
    held = _held(file, call, list(ast.walk(place)))
    for node in ast.walk(place):
        match node:
            case ast.Subscript(value=value, slice=ast.Slice(upper=ast.expr() as upper)) if _is(value, call, held):
                size = file.constant(upper)
                if not isinstance(size, int) or size < below:
                    return True
            case ast.Call(func=func, args=args):
                cut = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
                sources = [*args, func.value] if isinstance(func, ast.Attribute) else args
                if cut in _CUTS and any(_is(source, call, held) for source in sources):
                    return True
            case ast.comprehension(iter=source, ifs=tests) if _is(source, call, held):
                if any(isinstance(n, ast.Attribute) and n.attr == "metadata" for test in tests for n in ast.walk(test)):
                    return True
            case ast.For(iter=source, body=body) if _is(source, call, held):
                if any(_stops(n) for statement in body for n in ast.walk(statement)):
                    return True
    return False


def _stops(node: ast.AST) -> bool:
    """Whether a loop takes only some of its items: it breaks, or asks how many it has (`if len(kept) < k:`)."""
    match node:
        case ast.Break():
            return True
        case ast.Compare(left=ast.Call(func=ast.Name(id="len")), ops=[ast.Lt() | ast.LtE()]):
            return True
    return False


def _held(file: File, call: ast.Call, nodes: list[ast.AST]) -> set[str]:
    """The names that hold the results of `call`, whole or filtered, in a function's nodes."""
    held: set[str] = set()
    for _ in range(4):  # names of names
        before = len(held)
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and _is(node.value, call, held):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                held.update(spelled for target in targets if (spelled := spelling(target)))
            elif isinstance(node, ast.For) and _is(node.iter, call, held):
                held.update(_grown(node))
        if len(held) == before:
            break
    return held


def _grown(loop: ast.For) -> Iterator[str]:
    """The lists that a loop appends to, the dicts of lists, and the lists in a dict that it goes over."""
    if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Attribute) and not loop.iter.args:
        yield from (part.id for part in ast.walk(loop.target) if isinstance(part, ast.Name))
    for node in ast.walk(loop):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            grown = node.func.value
            spelled = spelling(grown.value if isinstance(grown, ast.Subscript) else grown)
            if spelled:
                yield spelled


def _is(node: ast.expr | None, call: ast.Call, held: set[str]) -> bool:
    """Whether an expression is the result of `call` or of a name in `held`, or a list of some of its items."""
    if node is call or (node is not None and spelling(node) in held):
        return True
    match node:
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Await(value=value):
            return _is(value, call, held)
        case ast.Call(func=ast.Name(id=name), args=args) if name in _KEEPS:
            return any(_is(arg, call, held) for arg in args)
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in _RUNS:
            return any(_is(part, call, held) for part in (value, *args))
        case ast.ListComp(generators=generators) | ast.GeneratorExp(generators=generators):
            return any(_is(generator.iter, call, held) for generator in generators)
        case ast.BoolOp(values=values):
            return any(_is(value, call, held) for value in values)
        case ast.IfExp(body=body, orelse=orelse) | ast.BinOp(op=ast.Add(), left=body, right=orelse):
            return _is(body, call, held) or _is(orelse, call, held)
    return False
