"""One parsed file: its calls, its scopes, and where each name comes from.

`ast` and one walk of our own give what rules need at a tenth of the cost of a concrete syntax tree. Scopes are light:
they know every binding of a name but not the order of execution, so answers are "could be any of these".
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any, Literal, cast

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.patterns import TEMPLATE

Function = ast.FunctionDef | ast.AsyncFunctionDef
Kind = Literal["assign", "param", "import", "def", "class", "loop", "with", "augment", "append", "item", "opaque"]
_FUNCTIONS = frozenset({ast.FunctionDef, ast.AsyncFunctionDef})
MUTATORS = frozenset({"append", "extend", "insert", "add"})
# Nodes without children, and fields that hold no nodes, are not walked. Fields come last first: the walk is a stack.
_LEAVES = frozenset({ast.Constant, ast.Name, ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal, ast.alias})
_PLAIN = frozenset(
    [
        "ctx",
        "op",
        "ops",
        "id",
        "attr",
        "name",
        "names",
        "asname",
        "module",
        "level",
        "arg",
        "kind",
        "type_comment",
        "type_ignores",
        "conversion",
        "is_async",
        "simple",
        "tag",
    ]
)


def _holds_nodes(kind: type[ast.AST], field: str) -> bool:
    """By its name; from Python 3.13 on by its type, too, so that what a later grammar adds is known."""
    types: dict[str, Any] = getattr(kind, "_field_types", {})
    return field not in _PLAIN and "ast." in str(types.get(field, "ast."))


_NAMES: dict[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(f for f in reversed(kind._fields) if _holds_nodes(kind, f))
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
} | {ast.MatchMapping: ("keys", "patterns"), ast.MatchStar: (), ast.MatchSingleton: (), ast.TypeIgnore: ()}
_ONES = {
    kind: attrgetter("value") for kind in (ast.Attribute, ast.keyword, ast.Expr, ast.Return, ast.Await, ast.Starred)
}
"""What gets the only part of a node that has no other."""


def _getter(fields: tuple[str, ...]) -> Callable[[ast.AST], tuple[Any, ...]]:
    """What gets the values of `fields` of a node, as a tuple."""
    if len(fields) > 1:
        return attrgetter(*fields)
    return partial(_one, fields[0]) if fields else lambda _: ()


def _one(field: str, node: ast.AST) -> tuple[Any, ...]:
    return (getattr(node, field),)


_FIELDS = {kind: _getter(names) for kind, names in _NAMES.items()}


def walk(top: ast.AST) -> Iterator[ast.AST]:
    """`top` and every node below it as `ast.walk` gives them, less what no rule asks for, in half the time."""
    nodes = [top]
    for node in nodes:
        yield node
        nodes += below(node)


def names_in(top: ast.AST) -> set[str]:
    """The names that are written in a node."""
    return {node.id for node in walk(top) if isinstance(node, ast.Name)}


def reads_of(place: ast.AST, name: str) -> list[ast.Name]:
    """Where a place reads what a name stands for."""
    return [n for n in walk(place) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]


def parameters_of(function: Function) -> list[str]:
    """The names of what a function takes by place, without the object that it is a method of."""
    arguments = (*function.args.posonlyargs, *function.args.args)
    return [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]


def defaults_of(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    """Every named parameter, those that are given by place first, with its default."""
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(placed) - len(arguments.defaults)) + list(arguments.defaults)
    return [*zip(placed, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]


def last_name(node: ast.AST) -> str:
    """The last name of a name or attribute; "" of anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def below(node: ast.AST) -> list[ast.AST]:
    """The parts of a node, as they are read."""
    if node.__class__ in _LEAVES:
        return []
    found: list[ast.AST] = []
    for value in reversed(_FIELDS[node.__class__](node)):
        if value.__class__ is list:
            found += [part for part in value if part.__class__ in _FIELDS]
        elif value is not None:
            found.append(value)
    return found


class Binding(NamedTuple):
    """One way a name gets a value: the expression (if one is visible) and the node that binds it."""

    kind: Kind
    node: ast.AST
    value: ast.expr | None = None
    target: str = ""  # of an import: the dotted name it brings in; of an item: its key, if it is written out


class Scope:
    """The names of a module, class or function. Comprehensions bind in the function around them."""

    __slots__ = ("names", "node", "parent")

    def __init__(self, node: ast.AST, parent: Scope | None) -> None:
        self.node = node
        self.parent = parent
        self.names: dict[str, list[Binding]] = {}

    def lookup(self, name: str) -> tuple[Scope, list[Binding]] | None:
        """The nearest scope that binds `name`, seen from inside this one, with its bindings there."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                return scope, scope.names[name]
            scope = scope.parent
        return None


class TooNew(SyntaxError):
    """Valid Python, but of a version newer than the interpreter, in a way that cannot be written over."""


def parse(source: bytes) -> ast.Module:
    """The syntax tree of a source, without the warnings the compiler has about it.

    Syntax newer than the interpreter is written over in the older way first. Raises what `ast.parse` raises; TooNew, a
    SyntaxError, for what is valid and cannot be written over.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            from tokenguard.lint.newer import complaint, lowered

            older = lowered(source)
            if older is None:
                raise complaint(source, error) from None
            try:
                return ast.parse(older)
            except SyntaxError:
                raise TooNew(error.msg, (None, error.lineno, error.offset, error.text)) from error
    _without_templates(tree, source)
    return tree


def _without_templates(tree: ast.Module, source: bytes) -> None:
    """Make template strings (PEP 750) the f-strings that they are to every rule, here as in `lowered`."""
    if sys.version_info >= (3, 14) and TEMPLATE.search(source):
        for node in ast.walk(tree):
            if node.__class__ is ast.TemplateStr:
                node.__class__ = ast.JoinedStr  # type: ignore[assignment]
            elif node.__class__ is ast.Interpolation:
                node.__class__ = ast.FormattedValue  # type: ignore[assignment]


def parses(source: bytes) -> bool:
    """Whether `source` is valid Python."""
    try:
        parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class Module:
    """A parsed file. `calls` are in source order; `scopes` maps each definition, lambda and call to a scope."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.tree = parse(source)
        self.calls: list[ast.Call] = []
        self.nodes: dict[type[ast.AST], list[ast.AST]] = defaultdict(list)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {}
        self.called: dict[str, list[ast.Call]] = defaultdict(list)  # the calls by the last name of what is called
        self.aliases: dict[str, str] = {}  # names that stand for another's last name: imports "as", plain assignments
        self.definitions: dict[str, ast.AST] = {}  # functions and classes by name; of equal names, the outermost
        self.top = Scope(self.tree, None)
        self._results: dict[Function, list[ast.expr]] | None = None
        self._attributes: dict[ast.ClassDef, dict[str, list[Binding]]] = {}
        self._escapes: dict[Scope, dict[str, list[ast.Call]]] | None = None
        self.scopes[self.tree] = self.top
        self._walk(self.tree, self.top)

    def scope_at(self, node: ast.AST) -> Scope:
        """The scope in which `node` is evaluated."""
        if node.__class__ is ast.Call and (scope := self.scopes.get(node)) is not None:
            return scope
        scopes, parents = self.scopes, self.parents
        at = parents.get(node)
        while at is not None:
            scope = scopes.get(at)
            if scope is not None:
                return scope
            at = parents.get(at)
        return self.top

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around `node`, innermost first."""
        at = self.parents.get(node)
        while at is not None:
            yield at
            at = self.parents.get(at)

    def function_of(self, node: ast.AST) -> Function | None:
        """The function whose body runs `node`, or None at module or class level."""
        scope: Scope | None = self.scope_at(node)
        while scope is not None:
            if scope.node.__class__ in _FUNCTIONS:
                return cast("Function", scope.node)
            scope = scope.parent
        return None

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The class around `node`, if any."""
        return next((a for a in self.ancestors(node) if isinstance(a, ast.ClassDef)), None)

    def results(self, function: Function) -> list[ast.expr]:
        """What a function returns (or yields, where it is a context manager or generator)."""
        if self._results is None:
            self._results = {}
            for node in self.all(ast.Return, ast.Yield):
                value = node.value  # type: ignore[attr-defined]
                owner = self.function_of(node)
                if value is not None and owner is not None:
                    self._results.setdefault(owner, []).append(value)
        return self._results.get(function, [])

    def attributes(self, owner: ast.ClassDef) -> dict[str, list[Binding]]:
        """What a class binds: its body's names and its methods' `self.name = ...`, bases of this file included."""
        known = self._attributes.get(owner)
        if known is None:
            known = self._attributes[owner] = {}
            for base in owner.bases:
                found = self.scope_at(owner).lookup(base.id) if isinstance(base, ast.Name) else None
                for binding in found[1] if found else ():
                    if isinstance(binding.node, ast.ClassDef) and binding.node is not owner:
                        for name, bindings in self.attributes(binding.node).items():
                            known.setdefault(name, []).extend(bindings)
            for name, bindings in self.scopes[owner].names.items():
                known[name] = list(bindings)
            for item in owner.body:
                if isinstance(item, Function):
                    for name, bindings in self.scopes[item].names.items():
                        if name.startswith("self."):
                            known.setdefault(name[5:], []).extend(bindings)
        return known

    def calls_of(self, names: Iterable[str]) -> Iterator[ast.Call]:
        """The calls whose function's last name, or what it is an alias of, is among `names`."""
        wanted = set(names)
        wanted |= {alias for alias, name in self.aliases.items() if name in wanted}
        for name in wanted & self.called.keys():
            yield from self.called[name]

    def all(self, *types: type[ast.AST]) -> Iterator[ast.AST]:
        """Every node of these exact types, among those that rules ask for."""
        for kind in types:
            yield from self.nodes.get(kind, ())

    def escapes(self, scope: Scope) -> dict[str, list[ast.Call]]:
        """The calls in a scope that each name is given to."""
        if self._escapes is None:
            self._escapes = {}
            for call in self.calls:
                keywords = (keyword.value for keyword in call.keywords if keyword.arg)
                for value in (*call.args, *keywords):
                    if isinstance(value, ast.Name):
                        self._escapes.setdefault(self.scopes[call], {}).setdefault(value.id, []).append(call)
        return self._escapes.get(scope, {})

    def _walk(self, top: ast.AST, scope: Scope) -> None:
        """Take in what is below `top`, all of it in `scope` but what opens one of its own."""
        calls, called, nodes, scopes = self.calls, self.called, self.nodes, self.scopes
        ones, fields, leaves, noted = _ONES, _FIELDS, _LEAVES, _NOTED
        parents = cast("dict[object, ast.AST]", self.parents)
        stack: list[Any] = [None]
        push, pop = stack.append, stack.pop
        node: Any = top
        while node is not None:
            kind = node.__class__
            if kind in ones:  # a chain of nodes with one part each needs no stack
                value = ones[kind](node)
                if value is None:
                    node = pop()
                else:
                    parents[value] = node
                    node = pop() if value.__class__ in leaves else value
            else:
                for value in fields[kind](node):
                    part = value.__class__
                    if part is list:
                        for child in reversed(value):
                            part = child.__class__
                            if part in leaves:
                                parents[child] = node
                            elif child is not None and part is not str:
                                parents[child] = node
                                push(child)
                    elif part in leaves:
                        parents[value] = node
                    elif value is not None:
                        parents[value] = node
                        push(value)
                node = pop()
            while (kind := node.__class__) in noted:
                if kind is ast.Call:
                    calls.append(node)
                    scopes[node] = scope
                    called[_call(node, scope)].append(node)
                    break
                nodes[kind].append(node)
                handler = noted[kind]
                inner = handler and handler(self, node, scope)
                if inner is None:
                    break
                self._walk(node, inner)
                node = pop()


def _bind(scope: Scope, name: str, binding: Binding) -> None:
    scope.names.setdefault(name, []).append(binding)


def _bind_target(scope: Scope, target: ast.expr, kind: Kind, node: ast.AST, value: ast.expr | None) -> None:
    if isinstance(target, ast.Name):
        _bind(scope, target.id, Binding(kind, node, value))
    elif isinstance(target, ast.Attribute):
        if spelled := spelling(target):  # self.client = ...
            _bind(scope, spelled, Binding(kind, node, value))
    elif isinstance(target, ast.Subscript):
        if spelled := spelling(target.value):  # params["max_tokens"] = ...
            key = target.slice.value if isinstance(target.slice, ast.Constant) else None
            _bind(
                _holder(scope, spelled),
                f"{spelled}[]",
                Binding("item", target, value, key if isinstance(key, str) else ""),
            )
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts) else None
        for index, item in enumerate(target.elts):
            if values is not None and kind == "assign":
                _bind_target(scope, item, kind, node, values[index])
            else:
                _bind_target(scope, item, "loop" if kind == "loop" else "opaque", node, value)
    elif isinstance(target, ast.Starred):
        _bind_target(scope, target.value, "opaque", node, None)


def _holder(scope: Scope, spelled: str) -> Scope:
    """The scope that binds what is changed: a nested function changes dicts and lists of the outer one."""
    found = scope.lookup(spelled.partition(".")[0])
    return found[0] if found else scope


def spelling(node: ast.expr) -> str | None:
    """`a.b.c` as written, for names and attributes of names; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = spelling(node.value)
        return base and f"{base}.{node.attr}"
    return None


def _assign(module: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.Assign)
    for target in node.targets:
        if isinstance(node.value, ast.Attribute) and isinstance(target, ast.Name):
            module.aliases[target.id] = node.value.attr
        _bind_target(scope, target, "assign", node, node.value)


def _annotated(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.AnnAssign)
    _bind_target(scope, node.target, "assign" if node.value else "param", node, node.value)


def _augmented(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.AugAssign)
    _bind_target(scope, node.target, "augment", node, node.value)


def _named(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.NamedExpr)
    _bind_target(scope, node.target, "assign", node, node.value)


def _for(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.For | ast.AsyncFor | ast.comprehension)
    _bind_target(scope, node.target, "loop", node, node.iter)


def _with(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.With | ast.AsyncWith)
    for item in node.items:
        if item.optional_vars is not None:
            _bind_target(scope, item.optional_vars, "with", node, item.context_expr)


def _except(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.ExceptHandler)
    if node.name:
        _bind(scope, node.name, Binding("opaque", node))


def _import(_: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.Import)
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        _bind(scope, name, Binding("import", node, target=alias.name if alias.asname else name))


def _import_from(module: Module, node: ast.AST, scope: Scope) -> None:
    assert isinstance(node, ast.ImportFrom)
    base = "." * node.level + (node.module or "")
    for alias in node.names:
        dot = "" if base.endswith(".") else "."
        if alias.asname:
            module.aliases[alias.asname] = alias.name
        _bind(scope, alias.asname or alias.name, Binding("import", node, target=f"{base}{dot}{alias.name}"))


def _function(module: Module, node: ast.AST, scope: Scope) -> Scope:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    inner = Scope(node, scope)
    if not isinstance(node, ast.Lambda):
        _bind(scope, node.name, Binding("def", node))
        module.definitions.setdefault(node.name, node)
    module.scopes[node] = inner
    for arg, default in defaults_of(node.args):
        _bind(inner, arg.arg, Binding("param", arg, default))
    for rest in (node.args.vararg, node.args.kwarg):
        if rest is not None:
            _bind(inner, rest.arg, Binding("param", rest))
    return inner


def _class(module: Module, node: ast.AST, scope: Scope) -> Scope:
    assert isinstance(node, ast.ClassDef)
    _bind(scope, node.name, Binding("class", node))
    module.definitions.setdefault(node.name, node)
    inner = module.scopes[node] = Scope(node, scope)
    return inner


def _call(node: ast.Call, scope: Scope) -> str:
    """Take in a call; the last name of what it calls."""
    func = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    if isinstance(func, ast.Attribute):  # above, a generic class: Agent[Deps](...)
        name = func.attr
        if name in MUTATORS and node.args and (spelled := spelling(func.value)):
            _bind(_holder(scope, spelled), f"{spelled}[]", Binding("append", node, node.args[-1]))
        return name
    return func.id if isinstance(func, ast.Name) else ""


# What the walk notes, and what takes it in besides; a handler gives the scope that a node opens, if any.
_NOTED: dict[type[ast.AST], Callable[[Module, ast.AST, Scope], Scope | None] | None] = {
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.NamedExpr: _named,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.comprehension: _for,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.ExceptHandler: _except,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.Lambda: _function,
    ast.ClassDef: _class,
    ast.Call: None,
    ast.Await: None,
    ast.While: None,
    ast.Dict: None,
    ast.Return: None,
    ast.Yield: None,
    ast.Tuple: None,
}
