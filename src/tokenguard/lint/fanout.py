"""Where many tasks are started together: gathers, task groups, thread pools; what they send, and what bounds them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.lint.loops import innermost_loop, makers
from tokenguard.lint.patterns import lazy
from tokenguard.lint.rulebook import File, called
from tokenguard.lint.syntax import Binding, Function

_DEPTH = 7  # helpers between the start of a task and its request
_GATHERS = frozenset({"asyncio.gather", "asyncio.as_completed", "asyncio.wait", "tqdm.asyncio.tqdm.gather",
                      "tqdm.asyncio.tqdm_asyncio.gather", "tqdm.asyncio.tqdm.as_completed"})  # fmt: skip
_GROUPS = ("asyncio.TaskGroup()", "anyio.create_task_group()", "trio.open_nursery()")
_POOLS = ("concurrent.futures.ThreadPoolExecutor()", "concurrent.futures.thread.ThreadPoolExecutor()")
_BOUND = lazy(
    r"(?:^|_)sem(?:aphores?)?(?:_|$)|semaphore|limiter(?!ror)|rate_?limit(?!_?(?:error|exc|reached|hit))|throttl|concurren|(?:^|_)slots$|bounded|capacity",
    re.IGNORECASE,
)
_BATCHED = lazy(r"batch|chunk|group|slice|window|islice|range\([^()]*,[^()]*,", re.IGNORECASE)
_BATCH = lazy(r"(?:^|_)batch$")
_SAME = frozenset({"enumerate", "zip", "list", "tuple", "sorted", "reversed", "set", "tqdm", "iter", "filter"})
# What asks a model through a framework, and what it is asked of.
_ASKS = frozenset({"ainvoke", "invoke", "acomplete", "achat", "apredict", "agenerate", "agenerate_content", "acall",
                   "generate_content_async"})  # fmt: skip
# What only models have, whatever the model's object is called; and what a crew or an agent is started with.
_ALWAYS_ASKS = frozenset(
    {"kickoff_async", "akickoff", "acompletion", "completion_async", "astructured_predict", "apredict_and_call"}
)
_OF_MODELS = frozenset({"aask", "chat", "generate", "complete", "agenerate_text", "generate_text", "chat_completion",
                        "generate_response", "agenerate_response", "structured_predict", "acreate", "ask"})  # fmt: skip
_MODEL = lazy(
    r"(?:^|[._])_?(?:(?:llm|chat_?model|language_model)(?:_client|_service|_provider)?|(?:llm|model)_client)$",
    re.IGNORECASE,
)
_TOOL = lazy(r"(?:^|_)tools?(?:_|$)")
_SAYS_SO = lazy(
    r"_?(?:a?(?:call|ask|query|prompt|invoke|send)\w*|\w+_(?:with|to|via|by|using))_llm|_?llm_(?:call|generate|complete|ask|query)\w*"
)
_GATEWAY = lazy(r"LLM[A-Z]\w*")
_TEAM = lazy(r"(?:^|[._])(?:agents?|models|metrics|judges|providers|personas|retrievers|variants)$")
_AGENT = lazy(r"(?:^|[._])agent$")
_RUNNERS = lazy(
    r"pydantic_ai\.(?:.*\.)?Agent\(\)\.run|agents\.(?:run\.)?Runner\.run|.*\bcreate_react_agent\(\)\.ainvoke"
)
_ASKED = lazy(r"llm|model|chain|agent|chat|crew|runnable|structured|extractor|summari[sz]er|prompt", re.IGNORECASE)


class FanOut(NamedTuple):
    """Tasks that are started together: by which call, one task's expression, and what there is one for each of."""

    call: ast.Call
    task: ast.expr
    sources: tuple[ast.expr, ...]
    how: str


def fan_outs(file: File) -> Iterator[FanOut]:
    """Every place that starts a task for each item of something."""
    yield from _gathered(file)
    yield from _grouped(file)
    yield from _pooled(file)


def _gathered(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("gather", "as_completed", "wait")):
        if call.args and file.names.path(call.func) in _GATHERS:
            first = call.args[0]
            for task, sources in _tasks(file, first.value if isinstance(first, ast.Starred) else first, 0):
                yield FanOut(call, task, sources, "a request for every item at once")


def _tasks(file: File, node: ast.expr, depth: int) -> Iterator[tuple[ast.expr, tuple[ast.expr, ...]]]:
    """The tasks in a list: of a comprehension, of `map(f, items)`, or appended to it in a loop."""
    if depth > _DEPTH:
        return
    match node:
        case ast.ListComp(elt=elt, generators=generators) | ast.GeneratorExp(elt=elt, generators=generators):
            yield _made(file, _part(file, elt)), tuple(g.iter for g in generators)
        case ast.Call(func=ast.Name(id="map"), args=[function, *sources]):
            yield function, tuple(sources)
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
                if part.kind == "append" and part.value is not None and (source := _source(file, part.node)):
                    yield _made(file, part.value), (source,)


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


def _source(file: File, node: ast.AST) -> ast.expr | None:
    """What the `for` loop or comprehension around a node goes over."""
    for outer in file.module.ancestors(node):
        if isinstance(outer, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            return outer.generators[0].iter
        if isinstance(outer, ast.stmt):
            break
    loop = innermost_loop(file, node)
    return loop.iter if isinstance(loop, ast.For | ast.AsyncFor) else None


def _grouped(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("create_task", "start_soon")):
        if not call.args or not file.names.path(call.func).startswith(_GROUPS):
            continue
        source = _source(file, call)
        if source is not None:
            yield FanOut(call, call.args[0], (source,), "a request for every item at once")


def _pooled(file: File) -> Iterator[FanOut]:
    for call in file.module.calls_of(("map", "submit")):
        if len(call.args) < 2 or not isinstance(call.func, ast.Attribute):
            continue
        if not file.names.path(call.func.value).startswith(_POOLS) or not _open_pool(file, call.func.value):
            continue
        source = call.args[1] if call.func.attr == "map" else _source(file, call)
        if source is not None:
            yield FanOut(call, call.args[0], (source,), "as many requests at once as the pool makes threads")


def _open_pool(file: File, pool: ast.expr) -> bool:
    """Whether a thread pool is given no number of threads, or as many as there are items."""
    made = makers(file, pool)
    if len(made) != 1:
        return False
    known = file.arguments(made[0])
    workers = known.known.get("max_workers") or (made[0].args[0] if made[0].args else None)
    if workers is None:
        return not known.open
    return file.is_none(workers) or "len(" in ast.unparse(file.written(workers))


# -- what a task sends ---------------------------------------------------------------------------------------------


def sends(file: File, task: ast.expr) -> bool:
    """Whether a task makes a request, itself or through functions of the project, and none of these has a bound."""
    calls = [part for part in ast.walk(task) if isinstance(part, ast.Call)]
    names = [_last(call.func) for call in calls]
    if any(map(_BOUND.search, names)) or any(_bounds(file, call.func) for call in calls):
        return False
    if any(map(_TOOL.search, names)):
        return False  # the tool calls of one answer are few
    if isinstance(task, ast.Name | ast.Attribute):
        return _reaches(file, task, 0)
    return any(_asks(file, call) or any(_reaches(file, f, 0) for f in (call.func, *call.args)) for call in calls)


def _asks(file: File, call: ast.Call) -> bool:
    if "requests" not in file.memory:
        file.memory["requests"] = {id(c) for c, _ in file.generations}
    if id(call) in file.memory["requests"]:
        return True
    if _RUNNERS.fullmatch(_path(file, called(call))):
        return True
    func = call.func
    if _SAYS_SO.fullmatch(_last(func)):
        return not _bounds(file, func)
    if not isinstance(func, ast.Attribute):
        return False
    if func.attr in _ALWAYS_ASKS:
        return True
    if _GATEWAY.fullmatch(_last(func.value)):
        return func.attr.startswith(("acreate", "agenerate", "acomplete", "achat"))
    of = ast.unparse(func.value)
    if func.attr in ("run", "arun"):  # awaited: of a thread or a script, `agent.run()` may be anything
        return bool(_AGENT.search(of)) and isinstance(file.module.parents.get(call), ast.Await | ast.ListComp)
    return bool(_ASKED.search(of) if func.attr in _ASKS else func.attr in _OF_MODELS and _MODEL.search(of))


def _path(file: File, func: ast.expr) -> str:
    """The path of a function; of a method of an object that another module of the project makes, that object's."""
    path = file.names.path(func)
    owner, _, method = path.rpartition(".")
    found = file.elsewhere(owner) if owner and isinstance(func, ast.Attribute) else None
    if found is not None and isinstance(found[1], ast.Call):
        return f"{found[0].names.path(found[1])}.{method}"
    return path


def _bounds(file: File, func: ast.expr) -> bool:
    """Whether a function of this file, like `limited(f(x))`, bounds what it is given."""
    definition = file.names.definition(file.names.path(func))
    return isinstance(definition, Function) and _mentions_bound(definition)


def _reaches(file: File, func: ast.expr, depth: int) -> bool:
    """Whether calling `func` makes a request, without a bound on the way."""
    if not isinstance(func, ast.Name | ast.Attribute) or depth > _DEPTH:
        return False
    path = file.names.path(func)
    definition: ast.AST | None = file.names.definition(path)
    other = file
    if definition is None and (found := file.elsewhere(path)):
        other, definition = found
    if not isinstance(definition, Function):
        return False
    known: dict[Function, bool] = other.memory.setdefault("reaches", {})
    if definition not in known:
        known[definition] = False  # a circle adds nothing
        inside = [node for node in ast.walk(definition) if isinstance(node, ast.Call)]
        known[definition] = not _mentions_bound(definition) and any(
            _asks(other, call) or _reaches(other, call.func, depth + 1) for call in inside
        )
    return known[definition]


# -- what bounds them ----------------------------------------------------------------------------------------------


def bounded(file: File, fan: FanOut) -> bool:
    """Whether the function around a start speaks of a bound; a pool's is the number of its threads."""
    function = file.module.function_of(fan.call)
    return _mentions_bound(function) if function is not None else bool(_BOUND.search(ast.unparse(fan.task)))


def _mentions_bound(function: Function) -> bool:
    for node in ast.walk(function):
        name = node.arg if isinstance(node, ast.keyword) else _last(node)
        if name and _BOUND.search(name):
            return True
    return False


def _last(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def few(file: File, source: ast.expr, most: int) -> bool:
    """Whether there are surely at most `most` items, or one batch of them."""
    listed = file.written(source)
    if isinstance(listed, ast.Name | ast.Attribute) and (found := file.elsewhere(file.names.path(listed))):
        listed = found[1] if isinstance(found[1], ast.expr) else listed
    if isinstance(source, ast.Name) and _grown(file, source):
        return False
    if _TEAM.search(ast.unparse(source)):
        return True  # written out somewhere, and short
    match listed:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) | ast.Dict(values=items):
            return len(items) <= most
        case ast.Call(func=ast.Name(id="range"), args=args):
            counts = [file.constant(arg) for arg in args]
            return len(args) < 3 and not (isinstance(counts[-1], int) and counts[-1] > most)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[_, *_] as args) if name in _SAME:
            return any(few(file, arg, most) for arg in args)
        case ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values")):
            return few(file, value, most)
        case ast.Call():
            return bool(re.search(r"islice|sample|nlargest|head", _last(listed.func)))
        case ast.Subscript(slice=ast.Slice(upper=ast.expr())):
            return True
        case ast.Name(id=name):
            found_name = file.module.scope_at(listed).lookup(name)
            return any(_is_batch(file, name, binding) for binding in found_name[1]) if found_name else False
    return False


def _is_batch(file: File, name: str, binding: Binding) -> bool:
    """Whether a name stands for a part of the items: set by a loop over batches, a slice, a parameter `batch`."""
    if binding.kind == "loop" and binding.value is not None and _BATCHED.search(ast.unparse(binding.value)):
        return True
    if binding.kind == "assign" and isinstance(binding.value, ast.Subscript):
        return isinstance(binding.value.slice, ast.Slice)
    return binding.kind in ("loop", "param") and bool(_BATCH.search(name))


def _grown(file: File, name: ast.Name) -> bool:
    """Whether a list or dict gets more items after it was written out."""
    found = file.module.scope_at(name).lookup(name.id)
    return found is not None and f"{name.id}[]" in found[0].names
