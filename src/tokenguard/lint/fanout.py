"""Where many tasks are started together: gathers, task groups, thread pools; and what bounds them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.loops import goes_over, makers
from tokenguard.lint.pools import POOLS, open_pool
from tokenguard.lint.rulebook import File
from tokenguard.lint.sending import BOUND, function_of, mentions_bound
from tokenguard.lint.syntax import Binding, last_name

_DEPTH = 7  # names of lists of lists
_GATHERS = lazy(r"asyncio\.(?:gather|as_completed|wait)|tqdm\.(?:\w+\.)?tqdm(?:_asyncio)?\.(?:gather|as_completed)")
_GROUPS = ("asyncio.TaskGroup()", "anyio.create_task_group()", "trio.open_nursery()")
_AT_ONCE = "a request for every item at once"
_BY_THREADS = "as many requests at once as the pool makes threads"
# What starts a task, or a thread, without waiting for it; and what waits for those that have been started.
_LOOPS = lazy(r"asyncio\.(?:create_task|ensure_future)|(?:asyncio\..*\(\)|[?@](?:self\.)?\w*loop)\.create_task")
_WAITS = ("gather", "wait", "as_completed", "wait_for", "join", "result", "shield")


class FanOut(NamedTuple):
    """Tasks that are started together: by which call, one task's expression, and what the loops around it go over."""

    call: ast.Call
    task: ast.expr
    sources: tuple[ast.expr, ...]
    how: str


def fan_outs(file: File) -> Iterator[FanOut]:
    """Every place that starts a task for each item of something; a task may be met where it starts and is gathered."""
    yield from _gathered(file)
    yield from _mapped(file)
    yield from _batched(file)
    yield from _started(file)


def _gathered(file: File) -> Iterator[FanOut]:
    calls = file.module.calls_of(("gather", "as_completed", "wait"))
    for call in sorted(calls, key=lambda c: (c.lineno, c.col_offset)):
        if call.args and _GATHERS.fullmatch(file.names.path(call.func)):
            starred = [arg.value for arg in call.args if isinstance(arg, ast.Starred)]
            for listed in starred or call.args[:1]:
                for task, sources in _tasks(file, listed, 0):
                    starter = _starter(file, task)
                    yield FanOut(call, starter.task if starter else task, sources, _AT_ONCE)


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
        case ast.Call(func=ast.Attribute(value=table, attr="apply" | "map"), args=[function, *_]):
            yield function, (table,)
        case ast.Call(func=ast.Name(id="list" | "tuple" | "set"), args=[inner]):
            yield from _tasks(file, inner, depth + 1)
        case ast.Call(func=ast.Name() | ast.Attribute() as func) if found_in := function_of(file, func):
            if found_in[0] is file:  # a function that makes the tasks
                for result in file.module.results(found_in[1]):
                    yield from (made for made in _tasks(file, result, depth + 1) if _starter(file, made[0]) is None)
        case ast.BinOp(left=left, right=right):
            yield from _tasks(file, left, depth + 1)
            yield from _tasks(file, right, depth + 1)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            for each in parts:
                if isinstance(each, ast.Starred):
                    yield from _tasks(file, each.value, depth + 1)
        case ast.Name(id=name):
            found = file.module.scope_at(node).lookup(name)
            scope, bindings = found or (None, [])
            for binding in _before(bindings, node):
                if binding.kind in ("assign", "augment") and binding.value is not None:
                    yield from _tasks(file, binding.value, depth + 1)
            for part in _before(scope.names.get(f"{name}[]", []), node) if scope else ():
                if part.kind not in ("append", "item") or part.value is None:
                    continue
                if isinstance(part.value, ast.GeneratorExp | ast.ListComp):
                    yield from _tasks(file, part.value, depth + 1)  # tasks.extend(f(x) for x in xs)
                elif around := goes_over(file, part.node, [binding.node for binding in bindings]):
                    yield _made(file, part.value), around


def _before(bindings: list[Binding], name: ast.Name) -> list[Binding]:
    """What a name was set to in the lines before; where there is nothing, all that it is ever set to."""
    return [b for b in bindings if b.node.lineno <= name.lineno] or bindings  # type: ignore[attr-defined]


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


def _mapped(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("map",)):
        if len(call.args) > 1 and isinstance(call.func, ast.Attribute) and _open(file, call.func.value):
            yield FanOut(call, call.args[0], (call.args[1],), _BY_THREADS)


def _batched(file: File) -> Iterator[FanOut]:
    """LangChain's `chain.abatch(inputs)` and `chain.batch(inputs)`, without a configuration that could bound them."""
    if b"langchain" in file.module.source:
        for call in file.module.calls_of(("abatch", "batch")):
            inputs = (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "inputs"))
            if isinstance(call.func, ast.Attribute) and len(inputs) == 1 == len(call.args) + len(call.keywords):
                yield FanOut(call, call.func, inputs, _AT_ONCE if call.func.attr == "abatch" else _BY_THREADS)


def _started(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("create_task", "ensure_future", "start_soon", "submit", "Thread")):
        starter = _starter(file, call)
        if starter is not None and (sources := goes_over(file, call, starter.waits)):
            yield FanOut(call, starter.task, sources, starter.how)


class _Starter(NamedTuple):
    """A call that starts a task: the task, what the loop around it may not hold, and how requests come of it."""

    task: ast.expr
    waits: Collection[ast.AST]
    how: str


def _starter(file: File, node: ast.expr) -> _Starter | None:
    """What a call starts that does not wait for it; None of any other expression."""
    if not isinstance(node, ast.Call):
        return None
    path = file.names.path(node.func)
    if path == "threading.Thread":
        target = next((keyword.value for keyword in node.keywords if keyword.arg == "target"), None)
        return _Starter(target, _waits(file, node), _AT_ONCE) if target is not None else None
    if not node.args:
        return None
    if isinstance(node.func, ast.Attribute):
        held, method = node.func.value, node.func.attr
        if path.startswith(_GROUPS) and method in ("create_task", "start_soon"):
            return _Starter(node.args[0], makers(file, held), _AT_ONCE)
        if method == "submit" and _open(file, held):
            return _Starter(node.args[0], makers(file, held), _BY_THREADS)
    return _Starter(node.args[0], _waits(file, node), _AT_ONCE) if _LOOPS.fullmatch(path) else None


def _open(file: File, pool: ast.expr) -> bool:
    """Whether what `map` or `submit` is called of is a thread pool without a number of threads."""
    return file.names.path(pool).startswith(POOLS) and open_pool(file, pool)


def _waits(file: File, start: ast.Call) -> Collection[ast.AST]:
    """What waits for tasks in the function around a start: gathers, joins, and `await task`."""
    place = file.module.function_of(start)
    calls = (call for call in file.module.calls_of(_WAITS) if file.module.function_of(call) is place)
    awaits = (n for n in file.module.all(ast.Await) if isinstance(n, ast.Await) and isinstance(n.value, ast.Name))
    awaited = (n for n in awaits if place is None or place in file.module.ancestors(n))
    return {*(call for call in calls if not _text_join(call)), *awaited}


def _text_join(call: ast.Call) -> bool:
    """Whether a call joins texts or paths; `thread.join(5)` waits."""
    return last_name(call.func) == "join" and bool(call.args) and not isinstance(call.args[0], ast.Constant)


# -- what bounds them ----------------------------------------------------------------------------------------------


def bounded(file: File, fan: FanOut) -> bool:
    """Whether the function around a start speaks of a bound; a pool's is the number of its threads."""
    function = file.module.function_of(fan.call)
    if function is None:
        return bool(BOUND.search(ast.unparse(fan.task)))
    return mentions_bound(file, function, (fan.call, fan.task))
