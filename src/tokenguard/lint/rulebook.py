"""The rules: one Python file each, found by its name.

`rules/tg101_no_output_cap.py` is rule TG101, `no-output-cap`. Its docstring is the page that `tokenguard explain`
prints; the `Bad:` and `Good:` blocks in it are its tests. It defines

    SEVERITY = "warning"                     # of a finding that names none itself
    WORDS = (".completions", "ChatOpenAI")   # a file without any of these cannot have a finding (see `prefilter`)
    OPTIONS = {"max_top_k": 20}              # optional: what [lint.rules.TG101] may set, with defaults
    DEFAULT = False                          # optional: it is off unless it is selected itself, or its group (TG11)
    TESTS = False                            # optional: so it is in files of tests
    def check(file: File) -> Iterator[Report]: ...

Third-party rules are such files in a folder (`[lint] plugins`) or in a package under the entry point
`tokenguard.rules`.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

from tokenguard.facts.patterns import lazy
from tokenguard.lint.config import OutputCap
from tokenguard.lint.facts import Facts
from tokenguard.lint.finding import SEVERITIES, Fix, Severity
from tokenguard.lint.limits import limit_for
from tokenguard.lint.names import is_double
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.surface import APPLIERS, Surface, last_names, surface_of

_FILE = lazy(r"([a-z]+\d+)_(\w+)\.py")
_BLOCK = lazy(r"^(Bad|Good):\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)


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


def is_test(path: str) -> bool:
    """Whether a file is one of tests, by its name."""
    name = os.path.basename(path)
    return name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"


def called(call: ast.Call) -> ast.expr:
    """What is called: `client.messages.create` also in `asyncio.to_thread(client.messages.create, model=...)`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return call.args[0] if name in APPLIERS and call.args else call.func


class Rule(NamedTuple):
    """A loaded rule."""

    id: str
    name: str
    severity: Severity
    words: tuple[Entry, ...]
    options: Mapping[str, Any]
    check: Callable[[File], Iterator[Report]]
    page: str
    source: str
    default: bool = True  # else it runs only where it is selected by itself or by its group
    tests: bool = True  # else that holds for files of tests

    def examples(self) -> list[tuple[str, str]]:
        """The page's blocks in order, each with "Bad" or "Good" and its code."""
        return [(kind, "\n".join(line[4:] for line in code.rstrip().split("\n")) + "\n")
                for kind, code in _BLOCK.findall(self.page + "\n")]  # fmt: skip


def load(plugins: tuple[str, ...] = (), root: str | os.PathLike[str] = ".") -> dict[str, Rule]:
    """All rules by id: our own, installed ones, then those of the folders `plugins`, relative to `root`.

    Raises ValueError for a folder without rules, a file that is not one, or an id that is taken.
    """
    import tokenguard.rules

    rules: dict[str, Rule] = {}
    for folder in tokenguard.rules.__path__:
        for file in _rule_files(folder):
            _add(rules, file, importlib.import_module(f"tokenguard.rules.{_stem(file)}"))
    for plugin in plugins:
        folder = os.path.join(root, plugin)
        files = _rule_files(folder)
        if not files:
            raise ValueError(f"[lint] plugins: no rule files (like tg201_my_rule.py) in {folder}")
        for file in files:
            _add(rules, file, _from_file(file))
    return rules


def load_installed(rules: dict[str, Rule]) -> None:
    """Add the rules of packages that name themselves under the entry point `tokenguard.rules`."""
    from importlib.metadata import entry_points

    for point in entry_points(group="tokenguard.rules"):
        package = importlib.import_module(point.value)
        for folder in getattr(package, "__path__", []):
            for file in _rule_files(folder):
                _add(rules, file, importlib.import_module(f"{point.value}.{_stem(file)}"))


def _rule_files(folder: str) -> list[str]:
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if _FILE.fullmatch(name)]


def _stem(file: str) -> str:
    return os.path.basename(file).removesuffix(".py")


def _from_file(file: str) -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"tokenguard_plugin_{_stem(file)}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _add(rules: dict[str, Rule], file: str, module: ModuleType) -> None:
    match = _FILE.fullmatch(os.path.basename(file))
    assert match is not None
    rule_id = match[1].upper()
    if rule_id in rules:
        raise ValueError(f"{file}: the id {rule_id} is taken by {rules[rule_id].source}; ids are never shared")
    severity = getattr(module, "SEVERITY", "warning")
    if severity not in SEVERITIES or not callable(getattr(module, "check", None)):
        raise ValueError(f"{file}: a rule needs check(file) and SEVERITY, one of {', '.join(SEVERITIES)}")
    words = tuple(getattr(module, "WORDS", ()))
    if lone := next((entry for entry in words if isinstance(entry, tuple) and len(entry) < 2), None):
        raise ValueError(f"{file}: WORDS has {lone!r}, which no text matches: a tuple is a word and any of the others")
    rules[rule_id] = Rule(
        id=rule_id,
        name=match[2].replace("_", "-"),
        severity=severity,
        words=words,
        options=dict(getattr(module, "OPTIONS", {})),
        check=module.check,
        page=(module.__doc__ or "").strip() + "\n",
        source=file,
        default=bool(getattr(module, "DEFAULT", True)),
        tests=bool(getattr(module, "TESTS", True)),
    )
