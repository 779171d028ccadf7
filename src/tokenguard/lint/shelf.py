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
`tokenguard.rules`. What our own say of themselves is kept from run to run: to import them all takes as long as to parse
a dozen files, and most files concern none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.finding import SEVERITIES, Severity
from tokenguard.lint.kept import KEPT, own_code
from tokenguard.lint.prefilter import Entry

if TYPE_CHECKING:
    from types import ModuleType

    from tokenguard.lint.rulebook import File, Report

_FILE = lazy(r"([a-z]+\d+)_(\w+)\.py")
_BLOCK = lazy(r"^(Bad|Good):\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)
_OURS = "tokenguard.rules"
Check = Callable[["File"], Iterator["Report"]]


class Rule(NamedTuple):
    """A rule, as its file says. Its `module`, by name or as it is, is imported when more than that is asked for."""

    id: str
    name: str
    severity: Severity
    words: tuple[Entry, ...]
    options: Mapping[str, Any]
    source: str
    default: bool  # else it runs only where it is selected by itself or by its group
    tests: bool  # else that holds for files of tests
    module: str | ModuleType

    @property
    def _loaded(self) -> ModuleType:
        return import_module(self.module) if isinstance(self.module, str) else self.module

    @property
    def check(self) -> Check:
        """What looks for findings."""
        check: Check = self._loaded.check
        return check

    @property
    def page(self) -> str:
        """What `tokenguard explain` prints."""
        return (self._loaded.__doc__ or "").strip() + "\n"

    def examples(self) -> list[tuple[str, str]]:
        """The page's blocks in order, each with "Bad" or "Good" and its code."""
        return [(kind, "\n".join(line[4:] for line in code.rstrip().split("\n")) + "\n")
                for kind, code in _BLOCK.findall(self.page + "\n")]  # fmt: skip


def load(plugins: tuple[str, ...] = (), root: str | os.PathLike[str] = ".") -> dict[str, Rule]:
    """All rules by id: our own, then those of the folders `plugins`, relative to `root`.

    Raises ValueError for a folder without rules, a file that is not one, or an id that is taken.
    """
    known: dict[int, Any] = {}
    rows = KEPT.get(("rules", *own_code()), lambda: [_row(rule, known) for rule in _ours().values()])
    kept = (Rule(*row) for row in rows)
    entries: dict[int, Entry] = {}
    rules = {rule.id: rule._replace(words=tuple(_entry(part, entries) for part in rule.words)) for rule in kept}
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

    for point in entry_points(group=_OURS):
        _add_package(rules, point.value)


def is_test(path: str) -> bool:
    """Whether a file is one of tests, by its name."""
    name = os.path.basename(path)
    return name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"


def _ours() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    _add_package(rules, _OURS)
    return rules


def _row(rule: Rule, known: dict[int, Any]) -> tuple[Any, ...]:
    """A rule of ours as it is kept."""
    words = [_plain(entry, known) for entry in rule.words]
    return rule._replace(words=words, module=f"{_OURS}.{_stem(rule.source)}")[:]  # type: ignore[arg-type]


def _plain(entry: Entry, known: dict[int, Any]) -> Any:
    """An entry of a rule's words as it is kept, where a pattern is its text and flags. What is shared stays shared."""
    if isinstance(entry, str):
        return entry
    if id(entry) not in known:
        if isinstance(entry, tuple):
            known[id(entry)] = tuple(_plain(part, known) for part in entry)
        else:
            known[id(entry)] = [entry.pattern, entry.flags]
    return known[id(entry)]


def _entry(plain: Any, known: dict[int, Entry]) -> Entry:
    """The entry that was kept so."""
    if isinstance(plain, str):
        return plain
    if id(plain) not in known:
        parts = isinstance(plain, tuple)
        known[id(plain)] = tuple(_entry(part, known) for part in plain) if parts else lazy(*plain)
    return known[id(plain)]


def _add_package(rules: dict[str, Rule], name: str) -> None:
    for folder in getattr(import_module(name), "__path__", []):
        for file in _rule_files(folder):
            _add(rules, file, import_module(f"{name}.{_stem(file)}"))


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
        source=file,
        default=bool(getattr(module, "DEFAULT", True)),
        tests=bool(getattr(module, "TESTS", True)),
        module=module,
    )
