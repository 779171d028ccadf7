"""Comments that silence findings: `# noqa: TG101` and `# tokenguard: ignore[TG101] reason`.

A comment counts for a finding when it stands on any of the finding's lines, at the end of the logical line the finding
begins in (behind the closing quotes of a long f-string, say), or (`tokenguard: ignore` only) alone on the line above.
Comments that silence nothing are themselves reported, as TG001.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.lint.finding import Finding, Span
from tokenguard.lint.prefilter import Entry

UNUSED = "TG001"
_NOQAS = ("noqa", "NOQA")
WORDS: tuple[Entry, ...] = ("tokenguard:", *((code, *_NOQAS) for code in ("TG0", "TG1", "tg0", "tg1")))
_NOQA = re.compile(r"#\s*noqa(?P<codes>\s*:\s*[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*)?(?!\s*:)", re.IGNORECASE)
_OURS = re.compile(r"#\s*tokenguard:\s*ignore(?:\[(?P<codes>[^\]]*)\])?(?!-)")
_MENTIONED = re.compile(r"noqa|tokenguard:", re.IGNORECASE)
_NAMED = re.compile(r"#\s*noqa\s*:[^\n]*\bTG\d|tokenguard:\s*ignore", re.IGNORECASE)  # may be unused
_CODE = re.compile(r"[A-Z]+[0-9]+")


class Ignore(NamedTuple):
    """One comment: its place, the codes it names (empty: all), and whether it stands alone on its line."""

    span: Span
    codes: frozenset[str]
    alone: bool
    ours: bool
    logical: tuple[int, int]  # first and last line of the logical line it stands in

    def covers(self, finding: Finding) -> bool:
        """Whether this comment silences `finding`."""
        if self.codes and finding.rule not in self.codes:
            return False
        first = finding.span.line - (1 if self.ours and self.alone else 0)
        ends = self.logical[0] <= finding.span.line <= self.logical[1] == self.span.line
        return ends or first <= self.span.line <= finding.span.end_line


def ignores(text: str) -> list[Ignore]:
    """The silencing comments of a source text, in order."""
    found: list[Ignore] = []
    start = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                found += _ignore(token, start)
            elif token.type == tokenize.NEWLINE:
                here = (start, token.start[0])
                found = [c._replace(logical=here) if c.logical[1] == 0 and c.logical[0] == start else c for c in found]
                start = 0
            elif start == 0 and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                start = token.start[0]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        pass  # the parser has reported it, or accepts what tokenize does not
    return found


def _ignore(token: tokenize.TokenInfo, start: int) -> Iterator[Ignore]:
    for pattern, ours in ((_OURS, True), (_NOQA, False)):
        match = pattern.search(token.string)
        if match:
            line, column = token.start
            before = token.line.split("\n")[-2 if token.line.endswith("\n") else -1][:column]
            codes = frozenset(_CODE.findall((match["codes"] or "").upper()))
            span = Span(line, len(before.encode()), line, len((before + token.string).encode()))
            yield Ignore(span, codes, not before.strip(), ours, (start or line, 0))
            return


def logical_end(text: str, line: int) -> int:
    """The last line of the logical line that `line` is in."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE and token.start[0] >= line:
                return token.start[0]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        pass
    return line


def apply(findings: list[Finding], text: str, path: str, enabled: frozenset[str]) -> list[Finding]:
    """Drop the findings that a comment silences; add one for each comment of ours that silences nothing.

    A `noqa` is only judged by the codes of enabled rules: other linters read it, too.
    """
    if not (_MENTIONED if findings else _NAMED).search(text):
        return findings
    comments = ignores(text)
    kept: list[Finding] = []
    used: set[tuple[Ignore, str]] = set()
    for finding in findings:
        covering = [c for c in comments if c.covers(finding)]
        used.update((c, finding.rule) for c in covering)
        if not covering:
            kept.append(finding)
    if UNUSED in enabled:
        for comment in comments:
            spent = {rule for c, rule in used if c == comment}
            idle = sorted((comment.codes & enabled) - spent) if comment.codes else []
            if idle or (comment.ours and not comment.codes and not spent):
                what = ", ".join(idle) or "anything"
                message = f"This comment ignores {what}, but there is nothing to ignore here. Remove it."
                kept.append(Finding(UNUSED, "unused-ignore", "warning", message, path, comment.span))
    return kept
