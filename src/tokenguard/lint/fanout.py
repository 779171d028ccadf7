"""Where many tasks are started together: gathers, task groups, thread pools; and what bounds them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenguard.lint.loops import makers
from tokenguard.lint.patterns import lazy
from tokenguard.lint.rulebook import File
from tokenguard.lint.sending import BOUND, last_name, mentions_bound
from tokenguard.lint.syntax import Binding

_DEPTH = 7  # names of lists of lists
_GATHERS = frozenset({"asyncio.gather", "asyncio.as_completed", "asyncio.wait", "tqdm.asyncio.tqdm.gather",
                      "tqdm.asyncio.tqdm_asyncio.gather", "tqdm.asyncio.tqdm.as_completed"})  # fmt: skip
_GROUPS = ("asyncio.TaskGroup()", "anyio.create_task_group()", "trio.open_nursery()")
_POOLS = ("concurrent.futures.ThreadPoolExecutor()", "concurrent.futures.thread.ThreadPoolExecutor()")
_BATCHED = lazy(r"batch|chunk|group|slice|window|islice|range\([^()]*,[^()]*,", re.IGNORECASE)
_BATCH = lazy(r"(?:^|_)batch$")
_TEAM = lazy(r"(?:^|[._])(?:agents?|models|metrics|judges|providers|personas|retrievers|variants)$")
_SAME = frozenset({"enumerate", "zip", "list", "tuple", "sorted", "reversed", "set", "tqdm", "iter", "filter"})


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
                elif around := _sources(file, part.node, [binding.node for binding in bindings]):
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


def _sources(file: File, node: ast.AST, collectors: Sequence[ast.AST]) -> tuple[ast.expr, ...]:
    """What the loops and the comprehension around a node go over, as far as they go round for the same collector."""
    sources: list[ast.expr] = []
    inner = node
    for outer in file.module.ancestors(node):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            break
        if isinstance(outer, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            sources += [generator.iter for generator in outer.generators]
        if isinstance(outer, ast.For | ast.AsyncFor) and inner in outer.body:
            if any(part in collectors for part in ast.walk(outer)):
                break  # each round of this loop collects anew
            sources.append(outer.iter)
        inner = outer
    return tuple(sources)


def _is_grouped(file: File, task: ast.expr) -> bool:
    """Whether a task is started by a group, where it counts."""
    return isinstance(task, ast.Call) and file.names.path(task.func).startswith(_GROUPS)


def _grouped(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("create_task", "start_soon")):
        if not call.args or not _is_grouped(file, call):
            continue
        assert isinstance(call.func, ast.Attribute)
        if sources := _sources(file, call, makers(file, call.func.value)):
            yield FanOut(call, call.args[0], sources, "a request for every item at once")


def _pooled(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("map", "submit")):
        if len(call.args) < 2 or not isinstance(call.func, ast.Attribute):
            continue
        if not file.names.path(call.func.value).startswith(_POOLS) or not _open_pool(file, call.func.value):
            continue
        made = makers(file, call.func.value)
        if sources := (call.args[1],) if call.func.attr == "map" else _sources(file, call, made):
            yield FanOut(call, call.args[0], sources, "as many requests at once as the pool makes threads")


def _open_pool(file: File, pool: ast.expr) -> bool:
    """Whether a thread pool is given no number of threads, or as many as there are items."""
    made = makers(file, pool)
    if len(made) != 1:
        return False
    known = file.arguments(made[0])
    workers = known.known.get("max_workers") or (made[0].args[0] if made[0].args else None)
    if workers is None:
        return not known.open
    return file.is_none(workers) or _as_many_as_items(file, workers)


def _as_many_as_items(file: File, number: ast.expr) -> bool:
    """Whether a number is a length, or grows with one: the least of it and another number does not."""
    match file.written(number):
        case ast.Call(func=ast.Name(id="len")):
            return True
        case ast.Call(func=ast.Name(id="min"), args=args):
            return all(_as_many_as_items(file, arg) for arg in args)
        case ast.Call(func=ast.Name(id="max"), args=args) | ast.BoolOp(values=args):
            return any(_as_many_as_items(file, arg) for arg in args)
        case ast.BinOp(left=left, right=right):
            return _as_many_as_items(file, left) or _as_many_as_items(file, right)
    return False


# -- what bounds them ----------------------------------------------------------------------------------------------


def bounded(file: File, fan: FanOut) -> bool:
    """Whether the function around a start speaks of a bound; a pool's is the number of its threads."""
    function = file.module.function_of(fan.call)
    return mentions_bound(function) if function is not None else bool(BOUND.search(ast.unparse(fan.task)))


def few(file: File, source: ast.expr, most: int) -> bool:
    """Whether there are surely at most `most` items, or one batch of them."""
    listed = file.written(source)
    if isinstance(listed, ast.Name | ast.Attribute) and (found := file.elsewhere(file.names.path(listed))):
        listed = found[1] if isinstance(found[1], ast.expr) else listed
    if isinstance(source, ast.Name) and _grown(file, source):
        return _kept_short(file, source, most)
    if _TEAM.search(ast.unparse(source)):
        return True  # written out somewhere, and short
    match listed:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) | ast.Dict(values=items):
            return len(items) <= most
        case ast.Call(func=ast.Name(id="range"), args=args):
            if any(_as_many_as_items(file, arg) for arg in args):
                return False
            counts = [file.constant(arg) for arg in args]
            return len(args) < 3 and not (isinstance(counts[-1], int) and counts[-1] > most)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[_, *_] as args) if name in _SAME:
            return any(few(file, arg, most) for arg in args)
        case ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values")):
            return few(file, value, most)
        case ast.Call():
            return bool(re.search(r"islice|sample|nlargest|head", last_name(listed.func)))
        case ast.Subscript(slice=ast.Slice(upper=ast.expr())):
            return True
        case ast.Starred(value=value):
            return few(file, value, most)
        case ast.ListComp(generators=generators) | ast.GeneratorExp(generators=generators):
            return all(few(file, generator.iter, most) for generator in generators)
        case ast.Name(id=name):
            found_name = file.module.scope_at(listed).lookup(name)
            bindings = found_name[1] if found_name else []
            return any(_is_batch(file, name, b) or _one_for_each_agent(b) for b in bindings)
    return False


def _is_batch(file: File, name: str, binding: Binding) -> bool:
    """Whether a name stands for a part of the items: set by a loop over batches, a slice, a parameter `batch`."""
    if binding.kind == "loop" and binding.value is not None and _BATCHED.search(ast.unparse(binding.value)):
        return True
    if binding.kind == "assign":
        parts = binding.value.elts if isinstance(binding.value, ast.Tuple) else [binding.value]
        return all(isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Slice) for part in parts)
    return binding.kind in ("loop", "param") and bool(_BATCH.search(name))


def _one_for_each_agent(binding: Binding) -> bool:
    """Whether a parameter is a list of agents, or of what each has said: `responses: list[AgentResponse]`."""
    note = getattr(binding.node, "annotation", None) if binding.kind == "param" else None
    return note is not None and "Agent" in ast.unparse(note)


def _kept_short(file: File, name: ast.Name, most: int) -> bool:
    """Whether a list gets its items under a test of its length: `if len(kept) < 3`, `if len(kept) == 3: break`."""
    place = file.module.function_of(name) or file.module.tree
    length = f"len({name.id})"
    for node in ast.walk(place):
        if isinstance(node, ast.If | ast.While):
            for test in ast.walk(node.test):
                if isinstance(test, ast.Compare) and ast.unparse(test.left) == length:
                    number = file.constant(test.comparators[0])
                    if isinstance(number, int) and 0 < number <= most:
                        return True
    return False


def _grown(file: File, name: ast.Name) -> bool:
    """Whether a list or dict gets more items after it was written out."""
    found = file.module.scope_at(name).lookup(name.id)
    return found is not None and f"{name.id}[]" in found[0].names
