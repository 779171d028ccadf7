"""What the linter says of the lines that calls were made at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from tokenguard.lint.config import ConfigError, Settings
from tokenguard.lint.files import Found
from tokenguard.lint.lines import Sources
from tokenguard.lint.run import Run
from tokenguard.lint.spending import Site, Spending


def rules_at(call_sites: Iterable[str | None]) -> dict[str, list[str]]:
    """The rules that have a finding about the calls of a line, by `path:line`; of files that are still there."""
    settings, run, sources = Settings(), Run(jobs=1), Sources()
    told = {}
    for call_site in call_sites:
        path, _, line = (call_site or "").rpartition(":")
        if not (path.endswith(".py") and line.isdigit() and os.path.isfile(path)):
            continue
        try:
            findings = run.lint([Found(path, settings.of(os.path.dirname(path)))])
        except ConfigError:
            continue
        site = Site(path, int(line), "", 1, None, sys.maxsize, ())  # as if it were called now: by its lines
        found = Spending([site]).price(findings, sources)
        if found:
            told[f"{path}:{line}"] = sorted({f"{each.rule} {each.name}" for each in found})
    return told
