"""SARIF 2.1.0 (OASIS), as GitHub and other code-scanning services read it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tokenguard import __version__
from tokenguard.lint.files import from_here
from tokenguard.lint.finding import Finding, Severity
from tokenguard.lint.lines import Sources
from tokenguard.lint.prints import prints

if TYPE_CHECKING:
    from tokenguard.lint.shelf import Rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_DESCRIPTION = 1024  # characters of a rule's description that GitHub takes
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def document(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """One run with its rules and results. Columns count in Unicode code points, from 1."""
    used = sorted({(f.rule, f.name) for f in findings})
    seen: Counter[tuple[str, ...]] = Counter()
    index = {rule: i for i, (rule, _) in enumerate(used)}
    lines: dict[str, set[int]] = {}
    for finding in findings:
        lines.setdefault(finding.path, set()).add(sources.line_of_file(finding, finding.span.line))
    hashes = {path: prints(sources.source(path), wanted) for path, wanted in lines.items()}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "TokenGuard",
                "semanticVersion": __version__,
                "informationUri": "https://pypi.org/project/tokenguard-otel/",
                "rules": [_rule(rule, name, rules.get(rule)) for rule, name in used],
            }},
            "columnKind": "unicodeCodePoints",
            "results": [_result(f, index[f.rule], sources, seen, hashes[f.path]) for f in findings],
        }],
    }  # fmt: skip


def _rule(rule_id: str, name: str, rule: Rule | None) -> dict[str, Any]:
    page = rule.page if rule is not None else f"{name}\n"
    severity: Severity = rule.severity if rule is not None else "error"
    return {
        "id": rule_id,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": page.partition("\n")[0]},
        "fullDescription": {"text": _described(page)},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": _LEVELS[severity]},
        "properties": {
            "tags": ["cost"],
            "precision": "high" if rule is None or rule.default else "medium",
            "problem.severity": "recommendation" if severity == "info" else severity,
        },
    }


def _described(page: str) -> str:
    """The paragraphs before a page's examples, as many as a description may have; `help` has all."""
    text, *more = page.partition("\nBad:")[0].strip().split("\n\n")
    for paragraph in more:
        if len(text) + 2 + len(paragraph) > _DESCRIPTION:
            break
        text += f"\n\n{paragraph}"
    return text[:_DESCRIPTION]


def _hashed(hashes: Mapping[int, str], line: int) -> dict[str, str]:
    return {"primaryLocationLineHash": hashes[line]} if line in hashes else {}


def _region(finding: Finding, sources: Sources) -> dict[str, int]:
    """Where a finding is in its file; code scanning shows a notebook's text, so there it is a whole line of that."""
    first, last = finding.span.line, finding.span.end_line
    if finding.cell is not None:
        first = last = sources.line_of_file(finding, first)
        text = sources.lines(finding.path)[first - 1 : first] or [""]
        column, end = len(text[0]) - len(text[0].lstrip()) + 1, len(text[0]) + 1
    else:
        lines = sources.lines(finding.path)
        text = lines[last - 1 : last] or [""]
        column, end = (
            sources.column(finding),
            len(text[0].encode()[: finding.span.end_column].decode(errors="replace")) + 1,
        )
    return {"startLine": first, "startColumn": column, "endLine": last, "endColumn": end}


def _result(
    finding: Finding, index: int, sources: Sources, seen: Counter[tuple[str, ...]], hashes: Mapping[int, str]
) -> dict[str, Any]:
    line = sources.line(finding)
    region = _region(finding, sources)
    # The same finding keeps its fingerprint when lines move above it; equal lines are told apart by their number.
    key = (finding.rule, from_here(finding.path), line.strip())
    print_of = hashlib.sha256("\0".join((*key, str(seen[key]))).encode()).hexdigest()[:32]
    seen[key] += 1
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": quote(from_here(finding.path))},
            "region": region,
        }}],
        "partialFingerprints": {"tokenguard/v1": print_of, **_hashed(hashes, region["startLine"])},
    }  # fmt: skip
    in_cell = {"cell": finding.cell, "line": finding.span.line}
    properties: dict[str, Any] = {} if finding.cell is None else in_cell
    if (spent := sources.spent.get(finding)) is not None:
        properties |= {**spent._asdict(), "spent": spent.says()}
        if spent.usd is not None:
            dearest = max(each.usd or 0.0 for each in sources.spent.values())
            result["rank"] = round(100 * spent.usd / dearest, 1) if dearest else 0.0
    if properties:
        result["properties"] = properties
    return result
