"""What becomes of the list that a call returns, within the function around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.rulebook import File
from tokenguard.lint.syntax import MUTATORS, spelling, walk

# What hands a list of results on, whole or filtered: builtins by name, and methods of a retriever or an answer.
_KEEPS = frozenset({"sorted", "list", "tuple", "set", "filter", "reversed", "zip", "enumerate", "map", "dict", "range",
                    "len"})  # fmt: skip
_RUNS = frozenset({"invoke", "ainvoke", "get_relevant_documents", "aget_relevant_documents", "retrieve", "aretrieve",
                   "get", "values", "items", "copy", "to_list", "sort_values", "to_dict", "query",
                   "aquery"})  # fmt: skip
_CUTS = frozenset({"nlargest", "nsmallest", "islice", "head", "sample"})


def narrowed(file: File, call: ast.Call, below: int) -> bool:
    """Whether the list that `call` returns is cut down before it is used: sliced, or taken from until a loop breaks.

    A slice counts when its length is under `below`, or not known.
    """
    place = file.module.function_of(call) or file.module.tree
    held = _held(file, call, list(walk(place)))
    for node in walk(place):
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
            case ast.For(iter=source, body=body) if _is(source, call, held):
                if any(_stops(n) for statement in body for n in walk(statement)):
                    return True
    return False


def sorted_out(file: File, call: ast.Call) -> bool:
    """Whether only some of what `call` returns may be used: a loop or comprehension over it asks about each item.

    To leave out what has been there before is not meant.
    """
    place = file.module.function_of(call) or file.module.tree
    held = _held(file, call, list(walk(place)))
    for node in walk(place):
        match node:
            case ast.comprehension(iter=source, ifs=[_, *_]) if _is(source, call, held):
                return True
            case ast.For(iter=source, body=body) if _is(source, call, held):
                if any(_chooses(n) for statement in body for n in walk(statement)):
                    return True
    return False


def _chooses(node: ast.AST) -> bool:
    """Whether an `if` skips an item, or adds it to a list."""
    match node:
        case ast.If(test=ast.Compare(ops=[ast.NotIn()])):
            return False
        case ast.If(body=body):
            return any(isinstance(n, ast.Continue) or _adds(n) for statement in body for n in walk(statement))
    return False


def _adds(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS


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
    """The lists and dicts that a loop fills, and the lists in a dict that it goes over."""
    if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Attribute) and not loop.iter.args:
        yield from (part.id for part in walk(loop.target) if isinstance(part, ast.Name))
    for node in walk(loop):
        match node:
            case ast.Call(func=ast.Attribute(value=grown, attr=attr)) if attr in MUTATORS:
                grown = grown.value if isinstance(grown, ast.Subscript) else grown
            case ast.Assign(targets=[ast.Subscript(value=grown)]):
                pass
            case _:
                continue
        if spelled := spelling(grown):
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
