"""What repeats a call: loops, retry decorators; and the client a call goes through."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.facts import Presence
from tokenguard.lint.rulebook import File
from tokenguard.lint.syntax import Binding, Function, below, walk

Loop = ast.While | ast.For | ast.AsyncFor
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
RETRIES = {
    "backoff.on_exception": "backoff", "backoff.on_predicate": "backoff", "tenacity.retry": "tenacity",
    "tenacity.AsyncRetrying": "tenacity", "tenacity.Retrying": "tenacity", "retry.retry": "retry",
    "retrying.retry": "retrying", "stamina.retry": "stamina", "stamina.retry_context": "stamina",
    "retry_async.retry": "retry",
}  # fmt: skip
_RETRYING = lazy(r"retr(?:y|ies|ying)|backoff|attempts", re.IGNORECASE)
_DEPTH = 4  # names of names


def innermost_loop(file: File, node: ast.AST) -> Loop | None:
    """The loop whose body runs `node`, within the same function; None if there is none."""
    inner = node
    for outer in file.module.ancestors(node):
        if isinstance(outer, _NESTED):
            return None
        if isinstance(outer, ast.While) and (inner in outer.body or inner is outer.test):
            return outer
        if isinstance(outer, ast.For | ast.AsyncFor) and inner in outer.body:
            return outer
        inner = outer
    return None


def through_helpers(file: File, calls: list[ast.Call]) -> list[tuple[ast.Call, Function]]:
    """The calls of those functions of this file that make one of `calls` outside of a loop, each with its function."""
    helpers = {}
    for call in calls:
        function = file.module.function_of(call)
        if function is not None and innermost_loop(file, call) is None:
            helpers[function.name] = function
    found = [(call, helpers[name]) for name in helpers for call in file.module.calls_of((name,))]
    return [(c, f) for c, f in found if file.names.definition(file.names.path(c.func)) is f]


def own_nodes(loop: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a loop without those of functions defined in it."""
    pending = below(loop)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _NESTED):
            pending.extend(below(node))


class Retry(NamedTuple):
    """A library's retry: where it stands, which library it is of, and what sets it up, with the facts of its file."""

    node: ast.expr
    library: str
    made: ast.expr
    file: File


def retry_decorators(file: File, node: ast.AST) -> list[Retry]:
    """The retry decorators of the function around `node`."""
    function = next((a for a in file.module.ancestors(node) if isinstance(a, Function)), None)
    return retries(file, function.decorator_list if function is not None else ())


def retry_loops(file: File, node: ast.AST) -> list[Retry]:
    """What the loops around `node` go over that is a library's attempts: `for attempt in Retrying(...)`."""
    function = file.module.function_of(node)
    loops = (a for a in file.module.ancestors(node) if isinstance(a, ast.For | ast.AsyncFor))
    return retries(file, [loop.iter for loop in loops if file.module.function_of(loop) is function])


def retries(file: File, nodes: Iterable[ast.expr]) -> list[Retry]:
    """Those of some expressions that are a library's retries: written out, kept under a name, or made by a function."""
    return [retry for node in nodes if (retry := _retry(file, node)) is not None]


def _retry(file: File, node: ast.expr) -> Retry | None:
    library = RETRIES.get(file.names.path(node.func if isinstance(node, ast.Call) else node))
    if library is not None:
        return Retry(node, library, node, file)
    path = file.names.path(node)
    if (library := RETRIES.get(path.removesuffix("()"))) is not None:
        made = makers(file, node)
        return Retry(node, library, made[0], file) if len(made) == 1 else None
    if not _RETRYING.search(path.rpartition(".")[2]):
        return None
    other, value = file.elsewhere(path) or (file, None)
    found = _retry(other, value) if isinstance(value, ast.Call) else None
    return found and found._replace(node=node)


def made_by(file: File, node: ast.expr) -> ast.Call | None:
    """The one call that made the object at the root of `client.chat.completions.create`."""
    made = makers(file, node)
    return made[0] if len(made) == 1 else None


def makers(file: File, node: ast.expr) -> list[ast.Call]:
    """The calls that may have made the object at the root of `client.chat.completions.create`; none if one is unknown.

    There are several where a branch chooses the client; the None that a name may start with does not count. A function
    of this file that makes the client is looked into.
    """
    return [maker for made in _makers(file, node) for maker in _within(file, made)]


def _within(file: File, made: ast.Call) -> list[ast.Call]:
    """The calls that make what a call of this file's function returns; the call itself, where that is not known.

    What it returns may be kept under a name: `self._client = OpenAI(...)`, `return self._client`.
    """
    function = file.names.definition(file.names.path(made.func))
    results = file.module.results(function) if isinstance(function, Function) else []
    kept = [_calls(file, [result], 0) for result in results]
    return list(dict.fromkeys(maker for makers in kept for maker in makers)) if kept and all(kept) else [made]


def _makers(file: File, node: ast.expr, depth: int = 0) -> list[ast.Call]:
    while isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            owner = file.module.class_of(node)
            bindings = file.module.attributes(owner).get(node.attr, []) if owner else []
            return _calls(file, [v for b in bindings for v in _set_to(file, b)], depth)
        node = node.value
    if isinstance(node, ast.Name):
        found = file.module.scope_at(node).lookup(node.id)
        return _calls(file, [b.value for b in found[1] if b.kind in ("assign", "with")] if found else [], depth)
    return [node] if isinstance(node, ast.Call) else []


def _set_to(file: File, binding: Binding) -> list[ast.expr | None]:
    """What an attribute is set to: of a property what it returns, of an annotation alone nothing."""
    if isinstance(binding.node, Function) and any("property" in ast.unparse(d) for d in binding.node.decorator_list):
        return [*file.module.results(binding.node)]
    return [] if binding.kind == "param" and binding.value is None else [binding.value]


def other_server(file: File, call: ast.Call) -> bool:
    """Whether the client of a request may talk to another server than its maker's.

    It does where it is given a `base_url`. Where nothing shows how it is made, it may if the file speaks of one.
    """
    made = makers(file, call.func)
    if not made:
        return b"base_url" in file.module.source
    return any(file.look(maker, "base_url").presence is not Presence.ABSENT for maker in made)


def _calls(file: File, values: list[ast.expr | None], depth: int) -> list[ast.Call]:
    """The calls that values are, or that the names they are made; none if one is not known."""
    made: list[ast.Call] = []
    for value in values:
        branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        for branch in branches:
            if isinstance(branch, ast.Await):
                branch = branch.value
            match branch:
                case ast.Call(
                    func=ast.Attribute(attr="enter_context" | "enter_async_context"), args=[ast.expr() as held]
                ):
                    branch = held
            if isinstance(branch, ast.Call):
                made.append(branch)
            elif isinstance(branch, ast.Name | ast.Attribute) and depth < _DEPTH:
                found = _makers(file, branch, depth + 1)
                if not found:
                    return []
                made += found
            elif not (isinstance(branch, ast.Constant) and branch.value is None):
                return []
    return made


def goes_over(file: File, node: ast.AST, collectors: Collection[ast.AST]) -> tuple[ast.expr, ...]:
    """What the loops and the comprehension around a node go over, as far as they go round for the same collector."""
    sources: list[ast.expr] = []
    inner = node
    for outer in file.module.ancestors(node):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            break
        if isinstance(outer, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            sources += [generator.iter for generator in outer.generators]
        if isinstance(outer, Loop) and inner in outer.body:
            if any(part in collectors for part in walk(outer)):
                break  # each round of this loop collects anew
            over = _used_up(outer.test) if isinstance(outer, ast.While) else outer.iter
            sources += [over] if over is not None else []
        inner = outer
    return tuple(sources)


def _used_up(test: ast.expr) -> ast.expr | None:
    """What a `while` loop goes over until nothing is left: `i < len(items)`, `not queue.empty()`; None if unknown."""
    match test:
        case ast.Name() | ast.Attribute():
            return test
        case ast.Compare(left=left, comparators=[right]):
            return next(
                (s.args[0] for s in (left, right) if isinstance(s, ast.Call) and ast.unparse(s.func) == "len"), None
            )
        case ast.UnaryOp(op=ast.Not(), operand=ast.Call(func=ast.Attribute(value=held, attr="empty"))):
            return held
        case ast.Call(func=ast.Attribute(value=held, attr="isOpened")):
            return held
    return None
