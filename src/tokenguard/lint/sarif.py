"""SARIF 2.1.0 (OASIS), as GitHub and other code-scanning services read it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tokenguard.lint.files import from_here
from tokenguard.lint.finding import Finding
from tokenguard.lint.lines import Sources

if TYPE_CHECKING:
    from tokenguard.lint.rulebook import Rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_DESCRIPTION = 1024  # characters of a rule's description that GitHub takes
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def document(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """One run with its rules and results. Columns count in Unicode code points, from 1."""
    used = sorted({(f.rule, f.name) for f in findings})
    seen: Counter[tuple[str, ...]] = Counter()
    index = {rule: i for i, (rule, _) in enumerate(used)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "TokenGuard",
                "informationUri": "https://pypi.org/project/tokenguard-otel/",
                "rules": [_rule(rule, name, rules.get(rule)) for rule, name in used],
            }},
            "columnKind": "unicodeCodePoints",
            "results": [_result(f, index[f.rule], sources, seen) for f in findings],
        }],
    }  # fmt: skip


def _rule(rule_id: str, name: str, rule: Rule | None) -> dict[str, Any]:
    page = rule.page if rule is not None else f"{name}\n"
    return {
        "id": rule_id,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": page.partition("\n")[0]},
        "fullDescription": {"text": _described(page)},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": _LEVELS[rule.severity if rule is not None else "error"]},
    }


def _described(page: str) -> str:
    """The paragraphs before a page's examples, as many as a description may have; `help` has all."""
    text, *more = page.partition("\nBad:")[0].strip().split("\n\n")
    for paragraph in more:
        if len(text) + 2 + len(paragraph) > _DESCRIPTION:
            break
        text += f"\n\n{paragraph}"
    return text[:_DESCRIPTION]


def _result(finding: Finding, index: int, sources: Sources, seen: Counter[tuple[str, ...]]) -> dict[str, Any]:
    line = sources.line(finding)
    last = sources.lines(finding.path, finding.cell)
    end = last[finding.span.end_line - 1] if 0 < finding.span.end_line <= len(last) else ""
    end_column = len(end.encode()[: finding.span.end_column].decode(errors="replace")) + 1
    region: dict[str, Any] = {"startLine": finding.span.line, "startColumn": sources.column(finding)}
    if finding.cell is not None:  # code scanning shows the notebook's text
        region = {"startLine": sources.line_of_file(finding, finding.span.line)}
    elif finding.span.end_line > finding.span.line or end_column >= region["startColumn"]:
        region |= {"endLine": finding.span.end_line, "endColumn": end_column}
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
        "partialFingerprints": {"tokenguard/v1": print_of},
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
