"""The formats findings are written in: text, json, github, junit, and SARIF (in `sarif`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tokenguard.lint.config import ConfigError
from tokenguard.lint.files import from_here
from tokenguard.lint.finding import Finding
from tokenguard.lint.lines import Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tokenguard.lint.shelf import Rule

_COLOURS = {"error": "31", "warning": "33", "info": "36"}


def where(finding: Finding, column: int) -> str:
    """`path:line:column`, with the cell for notebooks."""
    cell = f":cell {finding.cell}" if finding.cell is not None else ""
    return f"{finding.path}{cell}:{finding.span.line}:{column}"


def text(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule], *, colour: bool = False) -> str:
    """For people: place, rule, message, then the line with a caret."""
    out: list[str] = []

    def paint(what: str, code: str) -> str:
        return f"\x1b[{code}m{what}\x1b[0m" if colour else what

    for finding in findings:
        column = sources.column(finding)
        head = f"{paint(where(finding, column), '1')}: {paint(finding.severity, _COLOURS[finding.severity])}"
        out.append(f"{head} {paint(finding.rule, '1')} {finding.name}: {finding.message}")
        line = sources.line(finding)
        if line.strip():
            end = finding.span.end_column if finding.span.end_line == finding.span.line else len(line.encode())
            last = len(line.encode()[:end].decode(errors="replace"))
            indent = len(line) - len(line.lstrip())
            before = line[indent : column - 1]
            pad = "".join("\t" if c == "\t" else " " for c in before) if "\t" in before else " " * len(before)
            out.append(f"    {line.strip()}")
            out.append(f"    {pad}{paint('^' * max(1, min(last, len(line.rstrip())) - column + 1), '32')}")
        if (spent := sources.spent.get(finding)) is not None:
            out.append(f"    {paint(spent.says(), '1')}")
        if finding.fix is not None:
            out.append(f"    {'--fix' if finding.fix.safe else '--unsafe-fixes'}: {finding.fix.summary}")
    return "".join(f"{line}\n" for line in out)


def as_json(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> str:
    """The findings as objects; columns in characters, from 1."""
    from tokenguard.facts import printed

    return printed.document({"findings": [_row(f, sources) for f in findings]}) + "\n"


def _row(finding: Finding, sources: Sources) -> dict[str, Any]:
    fix = finding.fix and {"summary": finding.fix.summary, "safe": finding.fix.safe}
    row: dict[str, Any] = {"rule": finding.rule, "name": finding.name, "path": finding.path, "line": finding.span.line,
                           "column": sources.column(finding), "end_line": finding.span.end_line,
                           "severity": finding.severity, "message": finding.message, "fix": fix}  # fmt: skip
    if (spent := sources.spent.get(finding)) is not None:
        row["spent"] = spent._asdict()
    return row if finding.cell is None else {**row, "cell": finding.cell}


def github(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> str:
    """GitHub's workflow commands, shown beside the changed lines of a pull request."""
    kinds = {"error": "error", "warning": "warning", "info": "notice"}

    def escape(value: str) -> str:
        return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return "".join(
        f"::{kinds[f.severity]} title=TokenGuard {f.rule} "
        f"{f.name},file={escape(from_here(f.path)).replace(',', '%2C').replace(':', '%3A')},"
        f"{_place(f, sources)}::{escape(f.message)}\n"
        for f in findings
    )


def _place(finding: Finding, sources: Sources) -> str:
    line, end = (sources.line_of_file(finding, n) for n in (finding.span.line, finding.span.end_line))
    column = f",col={sources.column(finding)}" if finding.cell is None else ""
    return f"line={line}{column},endLine={end}"


def junit(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> str:
    """JUnit XML: a test case per finding, a note as a skipped one; one passing case when there is none."""
    cases = [_case(f, sources) for f in findings] or ['    <testcase name="tokenguard lint" classname="tokenguard"/>\n']
    notes = sum(f.severity == "info" for f in findings)
    head = f'name="tokenguard lint" tests="{len(cases)}" failures="{len(findings) - notes}" errors="0"'
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {head}>\n'
            f'  <testsuite {head} skipped="{notes}">\n{"".join(cases)}  </testsuite>\n</testsuites>\n')  # fmt: skip


def _case(finding: Finding, sources: Sources) -> str:
    from xml.sax.saxutils import escape, quoteattr

    path, message = quoteattr(_xml(finding.path)), quoteattr(_xml(finding.message))
    place = escape(_xml(where(finding, sources.column(finding))))
    verdict = (
        f"<skipped message={message}>{place}</skipped>"
        if finding.severity == "info"
        else f'<failure type="{finding.severity}" message={message}>{place}</failure>'
    )
    return (f'    <testcase name={quoteattr(f"{finding.rule} {finding.name}")} classname={path} file={path} '
            f'line="{finding.span.line}">\n      {verdict}\n    </testcase>\n')  # fmt: skip


def _xml(value: str) -> str:
    return "".join(c if c in "\t\n" or c >= " " else "\ufffd" for c in value)


def sarif(findings: Sequence[Finding], sources: Sources, rules: Mapping[str, Rule]) -> str:
    """SARIF 2.1.0, for code-scanning services."""
    import json

    from tokenguard.lint.sarif import document

    return json.dumps(document(findings, sources, rules), indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Finding], Sources, Mapping[str, Rule]], str]] = {
    "text": text, "json": as_json, "sarif": sarif, "github": github, "junit": junit,
}  # fmt: skip


def write(path: str, text: str) -> None:
    """Write a report to a file. Raises ConfigError where that cannot be done."""
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}") from error


def statistics(findings: Sequence[Finding], *, as_json: bool = False) -> str:
    """How often each rule spoke, most often first."""
    counts: dict[tuple[str, str], list[int]] = {}
    for finding in findings:
        count = counts.setdefault((finding.rule, finding.name), [0, 0])
        count[0] += 1
        count[1] += finding.fix is not None
    rows = sorted(counts.items(), key=lambda row: (-row[1][0], row[0]))
    if as_json:
        from tokenguard.facts import printed

        keys = ("rule", "name", "count", "fixable")
        return printed.document({"statistics": [dict(zip(keys, (*r, *n), strict=True)) for r, n in rows]}) + "\n"
    return "".join(
        f"{n:>6}  {rule}  {name}{f'  ({fixable} fixable)' if fixable else ''}\n" for (rule, name), (n, fixable) in rows
    )
