"""What the lines of findings cost, from the local store: `tokenguard lint --spend`.

The store says where the user's code made each call. A call that is chained over lines is another line there than here,
so any recorded line in the range of a finding is meant. A finding at an expression has the calls of its function, or,
where that makes none, of the functions that use it by name. A file that has changed since its last call is joined by
the names of functions alone.
"""

from __future__ import annotations

import ast
import math
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.config import ConfigError
from tokenguard.lint.finding import Edit, Finding, Fix, Span
from tokenguard.lint.lines import Sources
from tokenguard.lint.spent import Spent
from tokenguard.lint.syntax import names_in, walk

DEFAULT: Final = ".tokenguard/usage.db"
ENV: Final = "TOKENGUARD_STORE"
ENOUGH: Final = 200
"""Answers from which on their longest say what a cap may be."""
LEAST_CAP: Final = 64
HEADROOM: Final = 1.25
"""A cap beyond the longest of a hundred answers: what is cut off is asked for again, and paid twice."""
STEP: Final = 32
FLOWS: Final = frozenset({"TG102", "TG108", "TG110", "TG114", "TG115"})
"""Rules that speak of an expression, and mean the calls that it goes into."""
UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SQL: Final = (
    "SELECT code_file, code_line, coalesce(code_function, ''), count(*), sum(cost_usd), max(start_ns), "
    "group_concat(CASE WHEN outcome = 'ok' THEN output_tokens END) FROM calls "
    "WHERE start_ns >= ? AND code_file IS NOT NULL GROUP BY 1, 2, 3"
)


class Site(NamedTuple):
    """One place in the code, as the calls made there recorded it."""

    file: str
    line: int
    function: str
    calls: int
    usd: float | None
    last_ns: int
    lengths: tuple[int, ...]
    """The output tokens of the answers, ascending."""


def sites(store: str, since: str, now: float | None = None) -> list[Site]:
    """The places of a store's calls since a time as `30d` ago. Raises ConfigError."""
    path = Path(store or os.environ.get(ENV) or DEFAULT)
    match = re.fullmatch(r"(\d+)([mhdw])", since)
    if match is None:
        raise ConfigError(f"--since {since}: use 90m, 24h, 30d or 4w before now")
    if not path.is_file():
        raise ConfigError(f"--spend: there is no store at {path}. Name one, as in --spend=path/to/usage.db")
    begin = int(((now or time.time()) - int(match[1]) * UNITS[match[2]]) * 1e9)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=5)
        try:
            rows = connection.execute(_SQL, (begin,)).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"--spend: {path} cannot be read: {error}") from error
    return [
        Site(file, int(line or 0), function, calls, usd, last, tuple(sorted(map(int, (lengths or "").split(",")))))
        if lengths
        else Site(file, int(line or 0), function, calls, usd, last, ())
        for file, line, function, calls, usd, last, lengths in rows
    ]


class Spending:
    """The recorded places, by file."""

    def __init__(self, recorded: Sequence[Site]) -> None:
        self._by_name: dict[str, dict[tuple[str, ...], list[Site]]] = {}
        for site in recorded:
            parts = Path(site.file.replace("\\", "/")).parts
            self._by_name.setdefault(parts[-1], {}).setdefault(parts, []).append(site)
        self._trees: dict[str, ast.Module | None] = {}

    def price(self, findings: Sequence[Finding], sources: Sources) -> dict[Finding, Spent]:
        """What each finding's calls came to; those that nothing is recorded of are left out."""
        priced = {}
        for finding in findings:
            found = self._of(finding, sources)
            if found is not None:
                priced[finding] = found
        return priced

    def _of(self, finding: Finding, sources: Sources) -> Spent | None:
        recorded = self._file(finding.path)
        if not recorded:
            return None
        span = finding.span
        around = _Around(self._tree(finding.path, sources), span)
        if _changed_at(finding.path) > max(site.last_ns for site in recorded):
            named = [site for site in recorded if around.function and _last(site.function) == around.function]
            return _sum(named, "function") if named else None
        if here := [site for site in recorded if span.line <= site.line <= span.end_line]:
            return _sum(here, "line")
        there = self._flows(recorded, around) if finding.rule in FLOWS else []
        return _sum(there, "flow") if there else None

    def _flows(self, recorded: list[Site], around: _Around) -> list[Site]:
        """The calls of the function that an expression is in, or of those that use what it is or is in."""
        own = [site for site in recorded if any(first <= site.line <= last for first, last in around.lines)]
        if own:
            return own
        users = list(around.users())
        return [site for site in recorded if any(first <= site.line <= last for first, last in users)]

    def _file(self, path: str) -> list[Site]:
        """The places of a file: of those with its name the one whose path ends most alike, if there is only one."""
        parts = Path(os.path.abspath(path)).parts
        there = self._by_name.get(parts[-1], {})
        lengths = {each: _common_end(each, parts) for each in there}
        best = max(lengths.values(), default=0)
        alike = [each for each, length in lengths.items() if length == best]
        return there[alike[0]] if len(alike) == 1 else []

    def _tree(self, path: str, sources: Sources) -> ast.Module | None:
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse("\n".join(line.rstrip("\r\n") for line in sources.lines(path)))
            except (SyntaxError, ValueError):
                self._trees[path] = None
        return self._trees[path]

    def tuned(self, findings: list[Finding], sources: Sources) -> list[Finding]:
        """The findings with caps from the answers that were observed, where there are enough."""
        priced = self.price([finding for finding in findings if finding.rule == CAPS], sources)
        return [_tuned(finding, priced[finding]) if finding in priced else finding for finding in findings]


CAPS: Final = "TG101"
"""The rule whose fix adds an output cap."""


def _tuned(finding: Finding, spent: Spent) -> Finding:
    if finding.fix is None or spent.p99 is None or spent.calls < ENOUGH or spent.how == "function":
        return finding
    cap = max(LEAST_CAP, math.ceil(spent.p99 * HEADROOM / STEP) * STEP)
    edits = tuple(edit._replace(value=_with_cap(edit, cap)) for edit in finding.fix.edits)
    if edits == finding.fix.edits:
        return finding
    said = re.sub(r"\d[\d,_]*", str(cap), finding.fix.summary, count=1)
    summary = f"{said} (99 of 100 of {spent.calls:,} answers had at most {spent.p99:,} tokens)"
    return finding._replace(fix=Fix(summary, edits, finding.fix.safe))


def _with_cap(edit: Edit, cap: int) -> str:
    return re.sub(r"\b\d[\d_]*\b", str(cap), edit.value, count=1) if edit.action == "set" else edit.value


def _sum(found: list[Site], how: str) -> Spent:
    costs = [site.usd for site in found if site.usd is not None]
    lengths = sorted(length for site in found for length in site.lengths)

    def at(share: float) -> int | None:
        return lengths[max(0, math.ceil(share * len(lengths)) - 1)] if lengths else None

    calls = sum(site.calls for site in found)
    return Spent(math.fsum(costs) if costs else None, calls, at(0.5), at(0.99), how)


def _last(function: str) -> str:
    return function.rpartition(".")[2]


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    length = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        length += 1
    return length


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


class _Around:
    """What stands around a finding."""

    def __init__(self, tree: ast.Module | None, span: Span) -> None:
        self._tree = tree
        self.function = ""
        """The function that it is in; empty at the top of a file."""
        self.lines: list[tuple[int, int]] = []
        """The lines of that function."""
        self._names: set[str] = set()
        for node in walk(tree) if tree is not None else ():
            first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0) or 0
            if not (first <= span.line and span.end_line <= last):
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if not self.lines or first >= self.lines[0][0]:
                    self.function, self.lines = node.name, [(first, last)]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self._names |= {target.id for target in targets if isinstance(target, ast.Name)}

    def users(self) -> Iterator[tuple[int, int]]:
        """The lines of the functions that use the function or the names that it is in."""
        names = self._names | ({self.function} if self.function else set())
        for node in walk(self._tree) if self._tree is not None else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != self.function:
                used = names_in(node)
                used |= {each.attr for each in walk(node) if isinstance(each, ast.Attribute)}
                if names & used:
                    yield node.lineno, node.end_lineno or node.lineno
