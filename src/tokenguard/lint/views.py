"""The named parts of calls, dicts and config objects, wherever they were put together.

Followed are keywords, `**params`, `params["max_tokens"] = ...`, `config.max_output_tokens = ...`, `update` and
`setdefault`, merged dicts, dict builders of the same class or of another module, the fields of data classes, pydantic
models and TypedDicts, and settings files that are read by a literal path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.project import Project
from tokenguard.lint.settings_files import parsed
from tokenguard.lint.surface import last_names
from tokenguard.lint.syntax import Binding, Function, Module, Scope, spelling
from tokenguard.lint.values import DEPTH, Values

_HARMLESS = frozenset({"print", "len", "str", "repr", "dict", "bool", "type", "isinstance", "sorted", "list", "dumps"})
_HARMLESS_METHODS = frozenset(
    {"debug", "info", "warning", "error", "log", "dumps", "append", "deepcopy", "copy", "pformat", "update"}
)
_SAME = frozenset({"copy", "model_dump", "dict", "to_dict", "_asdict"})  # methods that give the parts of their object
_COPIES = frozenset({"copy.copy", "copy.deepcopy", "?dict", "?vars", "dataclasses.asdict", "dataclasses.replace"})
_DATA_BASES = frozenset({"TypedDict", "NamedTuple", "BaseModel"})


class View(NamedTuple):
    """The named parts of a call, dict or config object: those known, and whether there may be others (`open`)."""

    known: dict[str, ast.expr]
    open: bool = False

    def merge(self, other: View) -> View:
        """Both together; a later value wins, and either being open leaves the whole open."""
        return View({**self.known, **other.known}, self.open or other.open)


OPEN = View({}, open=True)


class Views(Values):
    """Views of one module's expressions; answers are remembered."""

    _by_receiver: dict[str, list[ast.Call]] | None = None

    def __init__(self, module: Module, project: Project | None = None) -> None:
        super().__init__(module, project)
        self._views: dict[ast.AST, View] = {}
        self._arguments: dict[ast.Call, View] = {}  # of calls whose keywords are all written out

    def view(self, node: ast.expr, depth: int = 0) -> View:
        """The named parts of `node`: keywords of a call, keys of a dict, wherever they were put together."""
        if depth > DEPTH:
            return OPEN
        known = self._views.get(node)
        if known is None:
            self._views[node] = OPEN  # a cycle is unknown
            known = self._views[node] = self._view(node, depth + 1)
        return known

    def arguments(self, node: ast.Call, depth: int = 0) -> View:
        """The keyword arguments of a call."""
        known = self._arguments.get(node)
        if known is not None:
            return known
        opened = any(isinstance(a, ast.Starred) for a in node.args)
        if all(keyword.arg for keyword in node.keywords):
            view = self._arguments[node] = View({k.arg: k.value for k in node.keywords if k.arg}, opened)
            return view
        view = View({}, opened)
        for keyword in node.keywords:
            view = view.merge(View({keyword.arg: keyword.value}) if keyword.arg else self.view(keyword.value, depth))
        return view

    def _view(self, node: ast.expr, depth: int) -> View:
        match node:
            case ast.Constant():
                return View({})  # a text or number has no parts
            case ast.Call():
                return self._call_view(node, depth)
            case ast.Dict(keys=keys, values=values):
                return self._merged([self._entry(k, v, depth) for k, v in zip(keys, values, strict=True)])
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return self.view(left, depth).merge(self.view(right, depth))
            case ast.IfExp(body=body, orelse=orelse):
                return self.view(body, depth).merge(self.view(orelse, depth))
            case ast.BoolOp(values=values):
                return self._merged([self.view(value, depth) for value in values])
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.view(value, depth)
            case ast.Name(id=name):
                found = self.module.scope_at(node).lookup(name)
                return self._bound_view(name, *found, depth) if found else OPEN
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                return self._attribute_view(node, attr, depth)
            case ast.Attribute(value=value, attr=attr):
                part = self.view(value, depth).known.get(attr)
                return self.view(part, depth) if part else self._imported_view(self.names.path(node), depth)
            case ast.Subscript(value=value, slice=key):
                return self._part(value, self.constant(key), depth)
        return OPEN

    @staticmethod
    def _merged(views: list[View]) -> View:
        view = View({})
        for other in views:
            view = view.merge(other)
        return view

    def _entry(self, key: ast.expr | None, value: ast.expr, depth: int) -> View:
        if key is None:
            return self.view(value, depth)
        text = self.constant(key)
        return View({text: value}) if isinstance(text, str) else OPEN

    def _part(self, whole: ast.expr, key: object, depth: int) -> View:
        """The parts of `whole[key]`."""
        part = self.view(whole, depth).known.get(key) if isinstance(key, str) else None
        return self.view(part, depth) if part is not None else OPEN

    def _attribute_view(self, node: ast.Attribute, attr: str, depth: int) -> View:
        owner = self.module.class_of(node)
        attributes = self.module.attributes(owner) if owner else {}
        return self._bindings_view(attr, attributes[attr], attributes, depth) if attr in attributes else OPEN

    # -- calls and classes -----------------------------------------------------------------------------------------

    def _call_view(self, node: ast.Call, depth: int) -> View:
        path = self.names.path(node.func)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _SAME:
                return self.view(node.func.value, depth).merge(self.arguments(node, depth))
            if node.func.attr == "get" and node.args and self.view(node.func.value, depth).known:
                return self._part(node.func.value, self.constant(node.args[0]), depth)
        if path in _COPIES:
            base = self.view(node.args[0], depth) if node.args else View({})
            return base.merge(self.arguments(node, depth))
        data = parsed(self, node, path)
        if data is not None:
            return self.view(data, depth)
        if path.startswith("@"):
            definition = self.names.definition(path)
            if isinstance(definition, ast.ClassDef):
                return self._object_view(definition, node, depth)
            return self._results_view(definition, depth) if isinstance(definition, Function) else OPEN
        if path.rpartition(".")[2][:1].isupper():
            found = self.elsewhere(path)
            defaults = found[0].fields(found[1]) if found and isinstance(found[1], ast.ClassDef) else None
            return (defaults or View({})).merge(self.arguments(node, depth))  # its object holds what it was given
        return self._imported_view(path, depth)

    def _object_view(self, definition: ast.ClassDef, node: ast.Call, depth: int) -> View:
        """The parts of an object of a class of this file: the fields' defaults, and what it was given."""
        fields = self.fields(definition)
        return OPEN if fields is None else fields.merge(self.arguments(node, depth))

    def fields(self, definition: ast.ClassDef) -> View | None:
        """The fields with defaults of a data class, pydantic model or TypedDict; None for any other class."""
        bases = [self.names.path(base).rpartition(".")[2].lstrip("?@") for base in definition.bases]
        marks = [self.names.path(d).removesuffix("()").rpartition(".")[2] for d in definition.decorator_list]
        if not (set(bases) & _DATA_BASES or any("dataclass" in mark for mark in marks)):
            return None
        known = {
            item.target.id: item.value
            for item in definition.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
        }
        return View(known, open=not set(bases) <= _DATA_BASES)

    def _typed_view(self, binding: Binding) -> View:
        """What is known of a parameter by its annotation: a TypedDict of this file names all its keys."""
        note = getattr(binding.node, "annotation", None)
        definition = self.names.definition(self.names.path(note)) if note is not None else None
        if not isinstance(definition, ast.ClassDef):
            return OPEN
        if [self.names.path(base).rpartition(".")[2] for base in definition.bases] != ["TypedDict"]:
            return OPEN
        known: dict[str, ast.expr] = {}
        for item in definition.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                known[item.target.id] = item.target  # a value that nobody knows
        return View(known)

    def _results_view(self, function: Function, depth: int) -> View:
        results = self.module.results(function)
        return self._merged([self.view(result, depth) for result in results]) if results else OPEN

    def _imported_view(self, path: str, depth: int) -> View:
        found = self.elsewhere(path)
        if found is None:
            return OPEN
        other, definition = found
        if isinstance(definition, Function):
            return other._results_view(definition, depth)
        return other.view(definition, depth) if isinstance(definition, ast.expr) else OPEN

    # -- names -----------------------------------------------------------------------------------------------------

    def _bound_view(self, name: str, scope: Scope, bindings: list[Binding], depth: int) -> View:
        if any(b.kind == "import" for b in bindings):
            return self._imported_view(bindings[0].target, depth)
        view = self._bindings_view(name, bindings, scope.names, depth)
        if not all(self._harmless(call) for call in self.module.escapes(scope).get(name, ())):
            return view.merge(OPEN)
        for call in self._updates(name, scope):
            view = view.merge(self._update(call, depth))
        return view

    def _bindings_view(self, name: str, bindings: list[Binding], around: dict[str, list[Binding]], depth: int) -> View:
        """What a name is bound to, with the items and attributes set on it later."""
        view = self._merged([self._binding_view(binding, depth) for binding in bindings])
        for item in around.get(f"{name}[]", ()):
            if item.kind == "item":
                view = view.merge(View({item.target: item.value}) if item.target and item.value is not None else OPEN)
        for spelled, later in around.items():
            if spelled.startswith(f"{name}.") and "." not in (attr := spelled[len(name) + 1 :]) and "[" not in attr:
                view = view.merge(self._merged([View({attr: b.value}) for b in later if b.value is not None]))
        return view

    def _binding_view(self, binding: Binding, depth: int) -> View:
        if binding.kind in ("assign", "augment") and binding.value is not None:
            return self.view(binding.value, depth)
        return self._typed_view(binding) if binding.kind == "param" else OPEN

    def _harmless(self, call: ast.Call) -> bool:
        """Whether passing a dict to `call` leaves it as it is."""
        func = call.func
        if isinstance(func, ast.Attribute):
            return func.attr in _HARMLESS_METHODS or func.attr in last_names()
        return isinstance(func, ast.Name) and func.id in _HARMLESS

    def _update(self, call: ast.Call, depth: int) -> View:
        """What `params.update(...)` or `params.setdefault(...)` adds."""
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr == "update":
            return self._merged([*(self.view(arg, depth) for arg in call.args), self.arguments(call, depth)])
        return self._entry(call.args[0], call.args[1], depth) if len(call.args) == 2 else View({})

    def _updates(self, name: str, scope: Scope) -> Iterator[ast.Call]:
        if self._by_receiver is None:
            self._by_receiver = {}
            for call in self.module.calls_of(("update", "setdefault")):
                if isinstance(call.func, ast.Attribute) and (spelled := spelling(call.func.value)):
                    self._by_receiver.setdefault(spelled, []).append(call)
        for call in self._by_receiver.get(name, ()):
            if self.module.scope_at(call).lookup(name) == (scope, scope.names[name]):
                yield call
