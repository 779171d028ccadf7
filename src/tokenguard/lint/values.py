"""What an expression is worth, where the source says so: a literal, or a name that is bound once to one."""

from __future__ import annotations

import ast
from typing import Self

from tokenguard.lint.names import Names
from tokenguard.lint.project import Project
from tokenguard.lint.syntax import Binding, Function, Module

DEPTH = 8


class Values:
    """Literal values in one module; `project` reads the other modules it imports from."""

    def __init__(self, module: Module, project: Project | None = None) -> None:
        self.module = module
        self.names = Names(module)
        self.project = project
        self._beside: dict[Module, Self] = {}

    def elsewhere(self, path: str) -> tuple[Self, Function | ast.ClassDef | ast.expr] | None:
        """What another module of the project defines as `path`, with that module's facts; None if out of sight."""
        if self.project is None or path[:1] in "?@" or "(" in path:
            return None
        found = self.project.find(self.module, path)
        if found is None:
            return None
        module, definition = found
        self._beside.setdefault(self.module, self)
        if module not in self._beside:
            other = self._beside[module] = type(self)(module, self.project)
            other._beside = self._beside
        return self._beside[module], definition

    def forget(self) -> None:
        """Let go of the facts of other modules: they know each other, and no collector runs while files are linted."""
        self._beside.clear()

    def constant(self, node: ast.expr | None, depth: int = 0) -> object:
        """The literal value of `node`, through names bound once to a literal; None when it has none."""
        if node is None or depth > DEPTH:
            return None
        match node:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self.constant(operand, depth + 1)
                return -number if isinstance(number, int | float) else None
            case ast.BinOp(op=ast.Mult() | ast.Pow() as op, left=left, right=right):
                return _product(op, self.constant(left, depth + 1), self.constant(right, depth + 1))
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
        found = self.elsewhere(binding.target) if binding.kind == "import" else None
        return found[0].constant(found[1], depth + 1) if found and isinstance(found[1], ast.expr) else None

    def written(self, node: ast.expr) -> ast.expr:
        """The expression that `node` stands for: itself, or what a name of this file is bound to once."""
        for _ in range(DEPTH):
            found = self.module.scope_at(node).lookup(node.id) if isinstance(node, ast.Name) else None
            if not found or len(found[1]) != 1 or found[1][0].kind != "assign" or found[1][0].value is None:
                break
            node = found[1][0].value
        return node

    def literal_node(self, node: ast.expr) -> ast.Constant | None:
        """The literal that gives `node` its value, if it is in this file."""
        written = self.written(node)
        return written if isinstance(written, ast.Constant) else None


def _product(op: ast.Mult | ast.Pow, left: object, right: object) -> int | None:
    """`4 * 1024`, `10**6`: the number, where it is one that a person would write."""
    if not (type(left) is int and type(right) is int and abs(left) < 1 << 32 and 0 <= right < 1 << 32):
        return None
    if isinstance(op, ast.Mult):
        return left * right
    return int(left**right) if right < 64 else None
