"""What an expression refers to, as one dotted path.

`client.chat.completions.create`, with `client = OpenAI()` and `from openai import OpenAI`, is
`openai.OpenAI().chat.completions.create`: imports and aliases are followed, `()` stands for a call. A root that cannot
be followed keeps its spelling behind a `?` (`?client.chat...`), and what this file defines itself starts with `@`.
"""

from __future__ import annotations

import ast

from tokenguard.facts.patterns import lazy
from tokenguard.lint.syntax import Binding, Function, Module

_DEPTH = 12
_WRAPPERS = frozenset({"Optional", "Annotated", "Union", "Final", "ClassVar"})
# Objects that only stand in for clients and models, in tests.
_DOUBLE = lazy(
    r"(?:^|[^A-Za-z])(?:Magic|Async|NonCallable|Property)*(?:[Mm]ock(?:ed)?|[Ff]ake|[Ss]tub|[Dd]ummy)(?:s?(?![a-z]))"
    r"|create_autospec|mocker\.|(?<!instructor\.)\bpatch(?:\.object)?\(\)"
)


class Names:
    """Resolves expressions of one module; answers are remembered."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._known: dict[ast.AST, str] = {}

    def path(self, node: ast.expr | None, depth: int = 0) -> str:
        """The dotted path of `node`; "?" when nothing is known of it."""
        if node is None or depth > _DEPTH:
            return "?"
        known = self._known.get(node)
        if known is None:
            self._known[node] = "?"  # a cycle answers "unknown"
            known = self._known[node] = self._path(node, depth + 1)
        return known

    def _path(self, node: ast.expr, depth: int) -> str:
        match node:
            case ast.Name():
                return self._name(node, depth)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                return self._attribute_of_self(node, attr, depth)
            case ast.Attribute(value=value, attr=attr):
                return f"{self.path(value, depth)}.{attr}"
            case ast.Call(func=ast.Attribute(attr="enter_context" | "enter_async_context"), args=[entered]):
                return self.path(entered, depth)
            case ast.Call(func=func):
                return self._result(self.path(func, depth), depth)
            case ast.Await(value=value) | ast.NamedExpr(value=value) | ast.Starred(value=value):
                return self.path(value, depth)
            case ast.BoolOp(values=values):
                return self._first(values, depth)
            case ast.IfExp(body=body, orelse=orelse):
                return self._first([body, orelse], depth)
            case ast.Constant(value=str() as text) if text.isidentifier():  # a quoted annotation
                return self._name_in(text, node, depth)
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):  # OpenAI | None
                return self._first([left, right], depth)
            case ast.Subscript(value=value, slice=inner):  # Optional[OpenAI], Annotated[...]
                outer = self.path(value, depth).rpartition(".")[2]
                if outer in _WRAPPERS:
                    return self._first(inner.elts if isinstance(inner, ast.Tuple) else [inner], depth)
                if outer[:1].isupper() and not (generic := self.path(value, depth)).endswith("()"):
                    return generic  # Agent[Deps]
        return "?"

    def _first(self, nodes: list[ast.expr], depth: int) -> str:
        paths = [self.path(n, depth) for n in nodes]
        return next((p for p in paths if p[0] != "?"), next((p for p in paths if p != "?"), "?"))

    def _name(self, node: ast.Name, depth: int) -> str:
        return self._name_in(node.id, node, depth)

    def _name_in(self, name: str, node: ast.expr, depth: int) -> str:
        found = self.module.scope_at(node).lookup(name)
        if found is None:
            return f"?{name}"
        return self._best(name, found[1], depth)

    def _best(self, name: str, bindings: list[Binding], depth: int) -> str:
        paths = [self._bound(name, b, depth) for b in bindings]
        return next((p for p in paths if not p.startswith("?")), f"?{name}")

    def _bound(self, name: str, binding: Binding, depth: int) -> str:
        match binding.kind:
            case "import":
                return binding.target
            case "def" | "class":
                return f"@{name}"
            case "assign" | "with" if binding.value is not None:
                return self.path(binding.value, depth)
            case "param":
                note = getattr(binding.node, "annotation", None)
                noted = self.path(note, depth) if note is not None else "?"
                if not noted.startswith("?") and noted != "None":
                    return f"{noted}()"
                return self.path(binding.value, depth) if binding.value is not None else "?"
        return "?"

    def _attribute_of_self(self, node: ast.Attribute, attr: str, depth: int) -> str:
        owner = self.module.class_of(node)
        bindings = self.module.attributes(owner).get(attr, []) if owner else []
        return self._best(f"self.{attr}", bindings, depth).replace(f"@{attr}", f"@self.{attr}")

    def _result(self, called: str, depth: int) -> str:
        """The path of what a call returns; functions of this file are looked into."""
        if called.startswith("@"):
            definition = self.definition(called)
            if isinstance(definition, Function):
                noted = self.path(definition.returns, depth) if definition.returns else "?"
                if not noted.startswith("?"):
                    return f"{noted}()"
                for result in self.module.results(definition):
                    found = self.path(result, depth)
                    if not found.startswith("?"):
                        return found
            elif isinstance(definition, ast.ClassDef) and (base := self.base(called)):
                return f"{base}()"
        return f"{called}()"

    def base(self, path: str, depth: int = 0) -> str | None:
        """The imported class that a class of this file, named by an `@` path, is derived from; None if there is none.

        A class whose name says that it stands in for another (`FakeClient`) has none.
        """
        definition = self.definition(path)
        if not isinstance(definition, ast.ClassDef) or is_double(path) or depth > _DEPTH:
            return None
        for base in map(self.path, definition.bases):
            if base.startswith("@"):
                found = self.base(base, depth + 1)
                if found:
                    return found
            elif base[0] != "?" and base != "?":
                return base
        return None

    def definition(self, path: str) -> ast.AST | None:
        """The function or class of this file that an `@` path names; of `@Reader().ask`, the class's method."""
        name = path[1:].removeprefix("self.")
        if not path.startswith("@"):
            return None
        owner, _, method = name.partition("().")
        if "." in owner or "(" in owner or "." in method or "(" in method:
            return None
        found = self.module.definitions.get(owner)
        if not method or not isinstance(found, ast.ClassDef):
            return found if not method else None
        bound = (binding.node for binding in self.module.attributes(found).get(method, ()))
        return next((node for node in bound if isinstance(node, Function)), None)


def is_double(path: str) -> bool:
    """Whether a dotted path leads through a test double: a mock, a fake, a patched name."""
    return _DOUBLE.search(path) is not None
