"""Three-valued facts about calls: an argument is present, absent, or unknown.

`Facts.look(call, "config.max_output_tokens")` follows keywords, `**params`, dict builders, config objects held in
locals, same-class `_kwargs()` methods and helpers of other modules. Rules report only what is ABSENT.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tokenguard.lint.names import Names
from tokenguard.lint.surface import last_names
from tokenguard.lint.syntax import Binding, Function, Module, Scope, spelling

if TYPE_CHECKING:
    from tokenguard.lint.project import Project

_DEPTH = 8
_HARMLESS = frozenset({"print", "len", "str", "repr", "dict", "bool", "type", "isinstance", "sorted", "list", "dumps"})
_HARMLESS_METHODS = frozenset(
    {"debug", "info", "warning", "error", "log", "dumps", "append", "deepcopy", "copy", "pformat", "update"}
)
_SENTINELS = frozenset({"NOT_GIVEN", "omit", "Omit", "NotGiven", "UNSET"})


class Presence(Enum):
    """What is known of an argument."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Fact(NamedTuple):
    """The presence of an argument and, when present, an expression that gives it."""

    presence: Presence
    value: ast.expr | None = None

    def __bool__(self) -> bool:
        raise TypeError("A fact has three values; compare `.presence`")


ABSENT = Fact(Presence.ABSENT)
UNKNOWN = Fact(Presence.UNKNOWN)


class View(NamedTuple):
    """The named parts of a call, dict or config object: those known, and whether there may be others (`open`)."""

    known: dict[str, ast.expr]
    open: bool = False

    def merge(self, other: View) -> View:
        """Both together; a later value wins, and either being open leaves the whole open."""
        return View({**self.known, **other.known}, self.open or other.open)


OPEN = View({}, open=True)


class Facts:
    """Answers questions about one module; `project` reads the other modules it imports from."""

    def __init__(self, module: Module, project: Project | None = None) -> None:
        self.module = module
        self.names = Names(module)
        self.project = project
        self._views: dict[ast.AST, View] = {}

    # -- arguments -------------------------------------------------------------------------------------------------

    def look(self, node: ast.expr, path: str, *, nested: bool = False) -> Fact:
        """The fact about the part of `node` that `path` names: a keyword, or `config.max_output_tokens` within one."""
        name, _, rest = path.partition(".")
        view = self.arguments(node) if isinstance(node, ast.Call) and not nested else self.view(node)
        value = view.known.get(name)
        if value is None:
            return UNKNOWN if view.open else ABSENT
        if self.is_none(value):
            return ABSENT
        if not rest:
            return Fact(Presence.PRESENT, value)
        return self.look(value, rest, nested=True)

    def any_of(self, node: ast.expr, paths: Iterable[str]) -> Fact:
        """The strongest fact over several paths: present if one is, absent only if all are."""
        facts = [self.look(node, path) for path in paths]
        present = next((f for f in facts if f.presence is Presence.PRESENT), None)
        if present is not None:
            return present
        return UNKNOWN if any(f.presence is Presence.UNKNOWN for f in facts) else ABSENT

    def is_none(self, node: ast.expr) -> bool:
        """Whether `node` is literally nothing: None, or an SDK's "not given" mark."""
        if isinstance(node, ast.Constant):
            return node.value is None
        return isinstance(node, ast.Name | ast.Attribute) and (spelling(node) or "").rpartition(".")[2] in _SENTINELS

    def view(self, node: ast.expr, depth: int = 0) -> View:
        """The named parts of `node`: keywords of a call, keys of a dict, wherever they were put together."""
        if depth > _DEPTH:
            return OPEN
        known = self._views.get(node)
        if known is None:
            self._views[node] = OPEN  # a cycle is unknown
            known = self._views[node] = self._view(node, depth + 1)
        return known

    def _view(self, node: ast.expr, depth: int) -> View:
        match node:
            case ast.Call():
                return self._call_view(node, depth)
            case ast.Dict(keys=keys, values=values):
                view = View({})
                for key, value in zip(keys, values, strict=True):
                    if key is None:
                        view = view.merge(self.view(value, depth))
                    elif isinstance(text := self.constant(key), str):
                        view = view.merge(View({text: value}))
                    else:
                        view = view.merge(OPEN)
                return view
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return self.view(left, depth).merge(self.view(right, depth))
            case ast.IfExp(body=body, orelse=orelse):
                return self.view(body, depth).merge(self.view(orelse, depth))
            case ast.BoolOp(values=values):
                view = View({})
                for value in values:
                    view = view.merge(self.view(value, depth))
                return view
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.view(value, depth)
            case ast.Name(id=name):
                found = self.module.scope_at(node).lookup(name)
                return self._bound_view(name, *found, depth) if found else OPEN
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                owner = self.module.class_of(node)
                attributes = self.module.attributes(owner) if owner else {}
                if attr not in attributes:
                    return OPEN
                return self._bindings_view(attributes[attr], attributes.get(f"{attr}[]", []), depth)
            case ast.Attribute():
                path = self.names.path(node)
                return self._imported_view(path, depth)
        return OPEN

    def _call_view(self, node: ast.Call, depth: int) -> View:
        path = self.names.path(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if path.startswith("@"):
            inner = self._function_view(path, depth)
            if inner is not None:
                return inner
        if method in ("copy", "model_dump", "dict", "to_dict") and isinstance(node.func, ast.Attribute):
            return self.view(node.func.value, depth).merge(self.arguments(node, depth))
        if path in ("copy.copy", "copy.deepcopy", "?dict"):
            base = self.view(node.args[0], depth) if node.args else View({})
            return base.merge(self.arguments(node, depth))
        if path.rpartition(".")[2][:1].isupper():
            return self.arguments(node, depth)  # a class: its object holds what it was given
        return self._imported_view(path, depth)

    def arguments(self, node: ast.Call, depth: int = 0) -> View:
        """The keyword arguments of a call."""
        view = View({}, open=any(isinstance(a, ast.Starred) for a in node.args))
        for keyword in node.keywords:
            view = view.merge(View({keyword.arg: keyword.value}) if keyword.arg else self.view(keyword.value, depth))
        return view

    def _function_view(self, path: str, depth: int) -> View | None:
        definition = self.names.definition(path)
        if not isinstance(definition, Function):
            return None if isinstance(definition, ast.ClassDef) else OPEN
        results = self.module.results(definition)
        view = View({}, open=not results)
        for result in results:
            view = view.merge(self.view(result, depth))
        return view

    def _imported_view(self, path: str, depth: int) -> View:
        found = self.project.find(self.module, path) if self.project else None
        if found is None:
            return OPEN
        other, definition = found
        if isinstance(definition, Function):
            view = View({}, open=not other.module.results(definition))
            for result in other.module.results(definition):
                view = view.merge(other.view(result, depth))
            return View({}, open=view.open) if not view.known else view
        return other.view(definition, depth) if isinstance(definition, ast.expr) else OPEN

    def _bound_view(self, name: str, scope: Scope, bindings: list[Binding], depth: int) -> View:
        if any(b.kind == "import" for b in bindings):
            return self._imported_view(bindings[0].target, depth)
        view = self._bindings_view(bindings, scope.names.get(f"{name}[]", []), depth)
        for call in scope.escapes.get(name, ()):
            if not self._harmless(call):
                return view.merge(OPEN)
        for call in self._updates(name, scope):
            if call.func.attr == "setdefault" and len(call.args) == 2:  # type: ignore[attr-defined]
                key = self.constant(call.args[0])
                view = view.merge(View({key: call.args[1]}) if isinstance(key, str) else OPEN)
            elif call.func.attr == "update":  # type: ignore[attr-defined]
                for arg in call.args:
                    view = view.merge(self.view(arg, depth))
                view = view.merge(self.arguments(call, depth))
        return view

    def _bindings_view(self, bindings: list[Binding], items: list[Binding], depth: int) -> View:
        view = View({})
        for binding in bindings:
            plain = binding.kind in ("assign", "augment") and binding.value is not None
            view = view.merge(self.view(binding.value, depth) if plain and binding.value is not None else OPEN)
        for item in items:
            if item.kind == "item":
                view = view.merge(View({item.target: item.value}) if item.target and item.value is not None else OPEN)
        return view

    def _harmless(self, call: ast.Call) -> bool:
        """Whether passing a dict to `call` leaves it as it is."""
        func = call.func
        if isinstance(func, ast.Attribute):
            return func.attr in _HARMLESS_METHODS or func.attr in last_names()
        return isinstance(func, ast.Name) and func.id in _HARMLESS

    def _updates(self, name: str, scope: Scope) -> Iterator[ast.Call]:
        if self._by_receiver is None:
            self._by_receiver = {}
            for call in self.module.calls:
                func = call.func
                if (
                    isinstance(func, ast.Attribute)
                    and func.attr in ("update", "setdefault")
                    and isinstance(func.value, ast.Name)
                ):
                    self._by_receiver.setdefault(func.value.id, []).append(call)
        for call in self._by_receiver.get(name, ()):
            if self.module.scope_at(call).lookup(name) == (scope, scope.names[name]):
                yield call

    _by_receiver: dict[str, list[ast.Call]] | None = None

    # -- values ----------------------------------------------------------------------------------------------------

    def constant(self, node: ast.expr | None, depth: int = 0) -> object:
        """The literal value of `node`, through names bound once to a literal; None when it has none."""
        if node is None or depth > _DEPTH:
            return None
        match node:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self.constant(operand, depth + 1)
                return -number if isinstance(number, int | float) else None
            case ast.Name(id=name):
                found = self.module.scope_at(node).lookup(name)
                return self._constant_of(found[1], depth) if found else None
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                owner = self.module.class_of(node)
                return self._constant_of(self.module.attributes(owner).get(attr, []), depth) if owner else None
        return None

    def _constant_of(self, bindings: list[Binding], depth: int) -> object:
        if len(bindings) != 1:
            return None
        binding = bindings[0]
        if binding.kind == "assign":
            return self.constant(binding.value, depth + 1)
        if binding.kind == "import" and self.project is not None:
            found = self.project.find(self.module, binding.target)
            if found is not None and isinstance(found[1], ast.expr):
                return found[0].constant(found[1], depth + 1)
        return None

    def written(self, node: ast.expr) -> ast.expr:
        """The expression that `node` stands for: itself, or what a name of this file is bound to once."""
        for _ in range(_DEPTH):
            found = self.module.scope_at(node).lookup(node.id) if isinstance(node, ast.Name) else None
            if not found or len(found[1]) != 1 or found[1][0].kind != "assign" or found[1][0].value is None:
                break
            node = found[1][0].value
        return node

    def literal_node(self, node: ast.expr) -> ast.Constant | None:
        """The literal that gives `node` its value, if it is in this file."""
        written = self.written(node)
        return written if isinstance(written, ast.Constant) else None
