"""The linter's findings that a change brings, and what their calls have cost; and those that it takes away."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.baseline import Key, beyond, keys
from tokenguard.lint.config import ConfigError, Settings
from tokenguard.lint.files import discover
from tokenguard.lint.finding import Finding
from tokenguard.lint.lines import Sources
from tokenguard.lint.outputs import where
from tokenguard.lint.run import Run
from tokenguard.lint.spending import Spending, sites
from tokenguard.lint.spent import Spent
from tokenguard.report.labels import markdown
from tokenguard.review.section import Section, cut, listed


class Changed(NamedTuple):
    """How the findings differ."""

    new: list[Finding]
    """The dearest first."""
    gone: Counter[Key]
    spent: Mapping[Finding, Spent]
    sources: Sources


def changed(paths: tuple[str, ...], base: Path, stores: Sequence[Path], since: str) -> Changed:
    """The findings under `paths` that are not in the folder `base`, each place with the settings it has there.

    With `stores` each has what its calls came to since a time as `30d` ago. Raises `TokenGuardError`.
    """
    for path in paths:
        if not os.path.exists(path) and not (base / path).exists():
            raise TokenGuardError(f"no such file or folder: {path}, neither here nor at the base")
    try:
        with chdir(base):
            before = keys(_findings(paths, cached=False), Path(), Sources())
        sources = Sources()
        findings = _findings(paths)
        gone = before - keys(findings, Path(), sources)
        new = beyond(before, findings, Path(), sources)
        spending = Spending([site for store in stores for site in sites(str(store), since)])
    except ConfigError as error:
        raise TokenGuardError(str(error)) from error
    spent = spending.price(new, sources)
    new.sort(key=lambda finding: (-_usd(spent.get(finding)), finding.order))
    return Changed(new, gone, spent, sources)


def _usd(spent: Spent | None) -> float:
    return -1.0 if spent is None else spent.usd or 0.0


def _findings(paths: tuple[str, ...], *, cached: bool = True) -> list[Finding]:
    there = tuple(filter(os.path.exists, paths))
    return Run(cached=cached).lint(discover(there, Settings()))


def section(found: Changed) -> Section | None:
    """The findings that are new, with what their calls came to, and how many are gone; `None` where nothing changed."""
    if not found.new and not found.gone:
        return None
    lines = []
    if found.new:
        lines += [f"{len(found.new):,} new.", ""]
        priced = bool(found.spent)
        lines += ["| where | rule | finding | its calls |", "|---|---|---|---|"] if priced else []
        lines += [] if priced else ["| where | rule | finding |", "|---|---|---|"]
        lines += listed([_row(finding, found, priced) for finding in found.new], "finding")
    if found.gone:
        rules = Counter[str]()
        for (_, rule, _), times in found.gone.items():
            rules[rule] += times
        told = ", ".join(f"{rule} ({times:,})" if times > 1 else rule for rule, times in sorted(rules.items()))
        lines += ["", f"{found.gone.total():,} gone: {told}."]
    return Section("Lint", "\n".join(lines).strip(), any(finding.severity != "info" for finding in found.new))


def _row(finding: Finding, found: Changed, priced: bool) -> str:
    place = where(finding, found.sources.column(finding)).removeprefix(f".{os.sep}")
    cells = [cut(place), f"{finding.rule} {finding.name}", cut(finding.message)]
    if priced:
        spent = found.spent.get(finding)
        cells.append("" if spent is None else spent.says())
    return f"| {' | '.join(map(markdown, cells))} |"
