"""Where many tasks are started together: gathers, task groups, thread pools; and what bounds them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.lint.loops import goes_over, makers
from tokenguard.lint.pools import POOLS, open_pool
from tokenguard.lint.rulebook import File
from tokenguard.lint.sending import BOUND, mentions_bound

_DEPTH = 7  # names of lists of lists
_GATHERS = frozenset({"asyncio.gather", "asyncio.as_completed", "asyncio.wait", "tqdm.asyncio.tqdm.gather",
                      "tqdm.asyncio.tqdm_asyncio.gather", "tqdm.asyncio.tqdm.as_completed"})  # fmt: skip
_GROUPS = ("asyncio.TaskGroup()", "anyio.create_task_group()", "trio.open_nursery()")


class FanOut(NamedTuple):
    """Tasks that are started together: by which call, one task's expression, and what the loops around it go over."""

    call: ast.Call
    task: ast.expr
    sources: tuple[ast.expr, ...]
    how: str


def fan_outs(file: File) -> Iterator[FanOut]:
    """Every place that starts a task for each item of something."""
    started: set[ast.expr] = set()
    for fan in (*_gathered(file), *_grouped(file), *_pooled(file)):
        if fan.task not in started:  # tasks that are waited for in two branches are started once
            started.add(fan.task)
            yield fan


def _gathered(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("gather", "as_completed", "wait")):
        if call.args and file.names.path(call.func) in _GATHERS:
            first = call.args[0]
            for task, sources in _tasks(file, first.value if isinstance(first, ast.Starred) else first, 0):
                if not _is_grouped(file, task):
                    yield FanOut(call, task, sources, "a request for every item at once")


def _tasks(file: File, node: ast.expr, depth: int) -> Iterator[tuple[ast.expr, tuple[ast.expr, ...]]]:
    """The tasks in a list: of a comprehension, of `map(f, items)`, or appended to it in a loop."""
    if depth > _DEPTH:
        return
    match node:
        case ast.ListComp(elt=elt, generators=generators) | ast.GeneratorExp(elt=elt, generators=generators):
            kept = isinstance(elt, ast.Name) and ast.unparse(generators[0].target) == elt.id
            inner = [*_tasks(file, generators[0].iter, depth + 1)] if kept else []
            yield from inner or [(_made(file, _part(file, elt)), tuple(g.iter for g in generators))]
        case ast.DictComp(key=key, value=value, generators=generators):
            task = next((part for part in (key, value) if isinstance(part, ast.Call)), value)
            yield task, tuple(g.iter for g in generators)
        case ast.Call(func=ast.Attribute(value=held, attr="keys" | "values"), args=[]):
            yield from _tasks(file, held, depth + 1)
        case ast.Call(func=ast.Name(id="map"), args=[function, *sources]):
            yield function, tuple(sources[:1])
        case ast.Call(func=ast.Name(id="list" | "tuple" | "set"), args=[inner]):
            yield from _tasks(file, inner, depth + 1)
        case ast.BinOp(left=left, right=right):
            yield from _tasks(file, left, depth + 1)
            yield from _tasks(file, right, depth + 1)
        case ast.Name(id=name):
            found = file.module.scope_at(node).lookup(name)
            scope, bindings = found or (None, [])
            for binding in bindings:
                if binding.kind in ("assign", "augment") and binding.value is not None:
                    yield from _tasks(file, binding.value, depth + 1)
            for part in scope.names.get(f"{name}[]", ()) if scope else ():
                if part.kind not in ("append", "item") or part.value is None:
                    continue
                if isinstance(part.value, ast.GeneratorExp | ast.ListComp):
                    yield from _tasks(file, part.value, depth + 1)  # tasks.extend(f(x) for x in xs)
                elif around := goes_over(file, part.node, [binding.node for binding in bindings]):
                    yield _made(file, part.value), around


def _part(file: File, task: ast.expr) -> ast.expr:
    """What `job[0] for job in jobs` takes from tuples that were added to `jobs`; else the task itself."""
    match task:
        case ast.Subscript(value=ast.Name() as job, slice=ast.Constant(value=int() as at)):
            found = file.module.scope_at(job).lookup(job.id)
            jobs = [b.value for b in found[1] if b.kind == "loop" and b.value is not None] if found else []
            kept = (made for name in jobs for made, _ in _tasks(file, name, 1))
            return next(
                (t.elts[at] for t in kept if isinstance(t, ast.Tuple) and -len(t.elts) <= at < len(t.elts)), task
            )
    return task


def _made(file: File, task: ast.expr) -> ast.expr:
    """What a task's name was last assigned in the lines before it is added to the list; else the task itself."""
    found = file.module.scope_at(task).lookup(task.id) if isinstance(task, ast.Name) else None
    made = [b for b in found[1] if b.kind == "assign" and b.node.lineno <= task.lineno] if found else []  # type: ignore[attr-defined]
    return made[-1].value or task if made else task


def _is_grouped(file: File, task: ast.expr) -> bool:
    """Whether a task is started by a group, where it counts."""
    return isinstance(task, ast.Call) and file.names.path(task.func).startswith(_GROUPS)


def _grouped(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("create_task", "start_soon")):
        if not call.args or not _is_grouped(file, call):
            continue
        assert isinstance(call.func, ast.Attribute)
        if sources := goes_over(file, call, makers(file, call.func.value)):
            yield FanOut(call, call.args[0], sources, "a request for every item at once")


def _pooled(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("map", "submit")):
        if len(call.args) < 2 or not isinstance(call.func, ast.Attribute):
            continue
        if not file.names.path(call.func.value).startswith(POOLS) or not open_pool(file, call.func.value):
            continue
        made = makers(file, call.func.value)
        if sources := (call.args[1],) if call.func.attr == "map" else goes_over(file, call, made):
            yield FanOut(call, call.args[0], sources, "as many requests at once as the pool makes threads")


# -- what bounds them ----------------------------------------------------------------------------------------------


def bounded(file: File, fan: FanOut) -> bool:
    """Whether the function around a start speaks of a bound; a pool's is the number of its threads."""
    function = file.module.function_of(fan.call)
    if function is None:
        return bool(BOUND.search(ast.unparse(fan.task)))
    return mentions_bound(file, function, fan.call)
