"""What a rule is written with: the file that it is given, and what it reports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.config import OutputCap
from tokenguard.lint.facts import Facts
from tokenguard.lint.finding import Fix, Severity
from tokenguard.lint.limits import limit_for
from tokenguard.lint.names import is_double
from tokenguard.lint.surface import APPLIERS, WRAPPERS, Surface, last_names, surface_of
from tokenguard.lint.syntax import last_name


class Report(NamedTuple):
    """What a rule's check yields: the node at fault, the sentence, and optionally its severity and fix.

    What is not `sure` is told only where the rule is selected by itself, or by its group.
    """

    node: ast.expr | ast.stmt
    message: str
    severity: Severity | None = None
    fix: Fix | None = None
    sure: bool = True


class File(Facts):
    """What a check is given: the facts of a file, its generation calls, the rule's options and the policy's limits."""

    options: Mapping[str, Any] = {}
    limits: tuple[OutputCap, ...] = ()

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What rules found out about this file and share, by name."""
        return {}

    @cached_property
    def surfaces(self) -> list[tuple[ast.Call, Surface]]:
        """Every call of a generation API or model constructor, in source order, with its row."""
        found = []
        for call in self.module.calls_of((*last_names(), *APPLIERS, *self._subclasses())):
            path = self.names.path(called(call))
            surface = surface_of(self.names.base(path) or path) or self._passed_on(path)
            if surface is None or is_double(path) or (surface.needs and not self._has(call, surface.needs)):
                continue
            if path.startswith("agents.") and self.elsewhere(path):
                continue  # a package of the project's own
            found.append((call, surface))
        return sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset))

    def _passed_on(self, path: str) -> Surface | None:
        """The row of a class that another module of the project imports for this one."""
        if self.project is None or path[:1] in "?@" or "(" in path:
            return None
        outside = self.project.imported(self.module, path)
        return surface_of(outside) if outside is not None else None

    @cached_property
    def generations(self) -> list[tuple[ast.Call, Surface]]:
        """Those of `surfaces` that send a request."""
        return [(call, surface) for call, surface in self.surfaces if surface.kind == "call"]

    def _subclasses(self) -> Iterator[str]:
        """The classes of this file that are derived from others."""
        return (n for n, node in self.module.definitions.items() if isinstance(node, ast.ClassDef) and node.bases)

    def _has(self, call: ast.Call, name: str) -> bool:
        view = self.arguments(call)
        return name in view.known or view.open

    def limit_at(self, call: ast.Call) -> OutputCap | None:
        """The policy's output limit that is known to hold for `call`."""
        return limit_for(self, call, self.limits) if self.limits else None


def called(call: ast.Call) -> ast.expr:
    """What is called: `client.messages.create` also in `asyncio.to_thread(client.messages.create, model=...)`."""
    func = call.func
    if isinstance(func, ast.Call) and func.args and last_name(func.func) in WRAPPERS:
        return func.args[0]
    return call.args[0] if last_name(func) in APPLIERS and call.args else func
