"""What becomes of an object that a call makes: the names it is given, and the places that use those."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.rulebook import File
from tokenguard.lint.syntax import spelling


def names_of(file: File, made: ast.expr) -> set[str]:
    """The names that the statement around `made` assigns it to, as written."""
    for node in file.module.ancestors(made):
        if isinstance(node, ast.Assign):
            return {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.AnnAssign | ast.NamedExpr):
            return {ast.unparse(node.target)}
        if isinstance(node, ast.stmt):
            return set()
    return set()


def uses(file: File, made: ast.expr) -> list[ast.expr]:
    """Where an object is used: where it is made, if it goes somewhere right away, and every mention of its names."""
    parent = file.module.parents.get(made)
    if isinstance(parent, ast.keyword | ast.Attribute | ast.Call):
        return [made]
    names = names_of(file, made)
    return [node for name in names for node in _loads(file).get(name, ())]


def _loads(file: File) -> dict[str, list[ast.expr]]:
    if "loads" not in file.memory:
        loads: dict[str, list[ast.expr]] = {}
        for node in file.module.parents:
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                loads.setdefault(spelling(node) or "", []).append(node)
        file.memory["loads"] = loads
    found: dict[str, list[ast.expr]] = file.memory["loads"]
    return found


def chain(file: File, node: ast.expr) -> Iterator[ast.Call]:
    """The calls of methods on `node`, and on what they return: `.with_retry()` and `.bind(...)` of one expression."""
    parent = file.module.parents.get(node)
    while isinstance(parent, ast.Attribute):
        call = file.module.parents.get(parent)
        if not isinstance(call, ast.Call) or call.func is not parent:
            return
        yield call
        parent = file.module.parents.get(call)
