"""Pools of threads: how many requests they let out at once, and what is run in one."""

from __future__ import annotations

import ast

from tokenguard.lint.loops import makers
from tokenguard.lint.rulebook import File

POOLS = ("concurrent.futures.ThreadPoolExecutor()", "concurrent.futures.thread.ThreadPoolExecutor()")


def open_pool(file: File, pool: ast.expr) -> bool:
    """Whether every pool a name stands for is given no number of threads, or as many as there are items."""
    made = makers(file, pool)
    return bool(made) and all(_is_open(file, each) for each in made)


def _is_open(file: File, made: ast.Call) -> bool:
    known = file.arguments(made)
    workers = known.known.get("max_workers") or (made.args[0] if made.args else None)
    if workers is None:
        return not known.open
    return file.is_none(workers) or as_many_as_items(file, workers)


def as_many_as_items(file: File, number: ast.expr) -> bool:
    """Whether a number is a length, or grows with one: the least of it and another number does not."""
    match file.written(number):
        case ast.Call(func=ast.Name(id="len")):
            return True
        case ast.Call(func=ast.Name(id="int"), args=[number]):
            return as_many_as_items(file, number)
        case ast.Call(func=ast.Name(id="min"), args=args):
            return all(as_many_as_items(file, arg) for arg in args)
        case ast.Call(func=ast.Name(id="max"), args=args) | ast.BoolOp(values=args):
            return any(as_many_as_items(file, arg) for arg in args)
        case ast.BinOp(left=left, right=right):
            return as_many_as_items(file, left) or as_many_as_items(file, right)
    return False


def run_in_executor(call: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    """The pool and the function of `loop.run_in_executor(pool, f, x)`; None of anything else."""
    match call:
        case ast.Call(func=ast.Attribute(attr="run_in_executor"), args=[pool, function, *_]):
            return pool, function
    return None


def in_closed_pool(file: File, node: ast.AST) -> bool:
    """Whether a node runs something in a pool that may have few threads: neither the loop's own, nor an open one."""
    found = run_in_executor(node)
    if found is None:
        return False
    if file.is_none(found[0]):
        return b"set_default_executor" in file.module.source
    return not (file.names.path(found[0]).startswith(POOLS) and open_pool(file, found[0]))
