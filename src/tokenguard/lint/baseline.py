"""A baseline: the findings a project starts with, so that only new ones are reported.

Entries hold the rule, the path and a hash of the finding's own lines without their indentation, so they survive
shifted lines; equal ones are counted. Paths are relative to the baseline's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenguard.lint import outputs
from tokenguard.lint.config import ConfigError
from tokenguard.lint.finding import Finding
from tokenguard.lint.lines import Sources

_VERSION = 1
Key = tuple[str, str, str]
"""Path, rule and hash of the lines."""


def write(file: str, findings: Sequence[Finding], sources: Sources) -> None:
    """Write the baseline of `findings`, sorted, one entry a line. Raises ConfigError where that cannot be done."""
    counts = keys(findings, Path(file).parent, sources)
    entries = ",\n".join(f"  {json.dumps([*key, n])}" for key, n in sorted(counts.items()))
    outputs.write(file, f'{{"version": {_VERSION}, "findings": [\n{entries}\n]}}\n')


def new(file: Path, findings: Sequence[Finding], sources: Sources) -> list[Finding]:
    """The findings that the baseline does not hold. Raises ConfigError when it cannot be read."""
    try:
        document = json.loads(file.read_bytes())
        known = Counter({(path, rule, text): n for path, rule, text, n in document["findings"]})
    except OSError as error:
        raise ConfigError(
            f"Cannot read the baseline {file}: {error.strerror}. Make it with --write-baseline {file}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is not a baseline: {error}. Make a new one with --write-baseline {file}") from error
    return beyond(known, findings, file.parent, sources)


def keys(findings: Sequence[Finding], folder: Path, sources: Sources) -> Counter[Key]:
    """How often each finding is there, by what it survives shifted lines with; paths are from `folder`."""
    return Counter(_key(finding, folder, sources) for finding in findings)


def beyond(known: Counter[Key], findings: Sequence[Finding], folder: Path, sources: Sources) -> list[Finding]:
    """The findings that `known` does not hold; it is used up."""
    left = []
    for finding in findings:
        key = _key(finding, folder, sources)
        if known[key] > 0:
            known[key] -= 1
        else:
            left.append(finding)
    return left


def _key(finding: Finding, folder: Path, sources: Sources) -> Key:
    lines = sources.lines(finding.path, finding.cell)[finding.span.line - 1 : finding.span.end_line]
    text = "\n".join(line.strip() for line in lines)
    path = os.path.relpath(finding.path, folder).replace(os.sep, "/")
    return path, finding.rule, hashlib.sha256(text.encode()).hexdigest()[:16]
