"""Comments that silence findings: `# noqa: TG101` and `# tokenguard: ignore[TG101] reason`.

A rule is named by its id in any case, by the beginning of its id (`TG`), or by its name (`no-output-cap`). A comment
counts for a finding when it stands on any of the finding's lines, at the end of the logical line the finding begins in
(behind the closing quotes of a long f-string, say), or (`tokenguard: ignore` only) alone on the line above.
`# tokenguard: ignore-file[TG101] reason`, `# ruff: noqa: TG101` and `# flake8: noqa: TG101` count for the whole file,
and so does a bare `# flake8: noqa`. Comments that silence nothing, or name no rule, are themselves reported, as TG001.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.comments import Comment, comments
from tokenguard.lint.finding import Finding, Span
from tokenguard.lint.prefilter import Entry

UNUSED = "TG001"
_NOQAS = ("noqa", "NOQA")
OWN = lazy(rb"tokenguard:\s*ignore")
WORDS: tuple[Entry, ...] = (("tokenguard:", OWN), *((f"{tg}{n}", *_NOQAS) for n in range(10) for tg in ("TG", "tg")))
_NAME = r"(?:[A-Z]+[0-9]+|TG|[a-z]+(?:-[a-z]+)+)"
_NOQA = lazy(
    rf"#\s*(?P<file>(?:ruff|flake8)\s*:\s*)?noqa(?P<codes>\s*:\s*{_NAME}(?:[\s,]+{_NAME})*)?(?!\s*:)", re.IGNORECASE
)
_OURS = lazy(r"#\s*tokenguard:\s*ignore(?P<file>-file)?(?P<codes>\[[^\]]*\])?(?!-)")
_CANDIDATE = lazy(r"#[^\r\n]*(?:noqa|tokenguard:)", re.IGNORECASE)
_SEPARATORS = lazy(r"[\s,]+")


class Ignore(NamedTuple):
    """One comment: its place, the names in it (None: it is for all rules), and where it counts."""

    span: Span
    names: tuple[str, ...] | None
    alone: bool  # on its line
    ours: bool
    whole: bool  # for the file
    logical: tuple[int, int]  # first and last line of the logical line it stands in

    def reaches(self, finding: Finding) -> bool:
        """Whether this comment stands where it counts for `finding`."""
        first = finding.span.line - (1 if self.ours and self.alone else 0)
        ends = self.logical[0] <= finding.span.line <= self.logical[1] == self.span.line
        return self.whole or ends or first <= self.span.line <= finding.span.end_line


def ignores(text: str) -> list[Ignore]:
    """The silencing comments of a source text, in order."""
    found: list[Ignore] = []
    if not _CANDIDATE.search(text):
        return found
    pending: list[Ignore] = []
    for comment in comments(text):
        if comment.text is not None:
            pending += _ignore(comment.text, comment)
        else:
            here = (comment.begins, comment.line)
            found += (c._replace(logical=here) if c.logical[0] == comment.begins else c for c in pending)
            pending = []
    return found + pending


def _ignore(text: str, comment: Comment) -> Iterator[Ignore]:
    for pattern, ours in ((_OURS, True), (_NOQA, False)):
        match = pattern.search(text)
        if match is None:
            continue
        whole, codes = match["file"], match["codes"]
        if not ours and whole and "ruff" in whole.lower() and codes is None:
            return  # ruff's own rules alone
        line, before = comment.line, comment.before
        names = None if codes is None else tuple(n for n in _SEPARATORS.split(codes.strip(" \t:[]")) if n)
        span = Span(line, len(before.encode()), line, len((before + text).encode()))
        yield Ignore(span, names, not before.strip(), ours, bool(whole), (comment.begins or line, 0))
        return


def rules_named(name: str, known: Mapping[str, str]) -> frozenset[str]:
    """The ids that a name in a comment stands for; `known` holds the name of each rule by its id."""
    return frozenset(rule for rule, full in known.items() if rule == name.upper() or full == name.lower()) or frozenset(
        rule for rule in known if len(name) > 1 and rule.startswith(name.upper())
    )


def apply(
    findings: list[Finding], text: str, path: str, enabled: frozenset[str], known: Mapping[str, str]
) -> list[Finding]:
    """Drop the findings that a comment silences; add one for each comment of ours that silences nothing.

    A `noqa` is only judged by the names of enabled rules, and of none that could be ours: other linters read it, too.
    """
    if not _mentioned(text.lower(), known, unused=not findings):
        return findings
    comments = ignores(text)
    meant = {name: rules_named(name, known) for comment in comments for name in comment.names or ()}
    used: set[tuple[Ignore, str]] = set()

    def silenced(finding: Finding) -> bool:
        covering = [
            c
            for c in comments
            if c.reaches(finding) and (c.names is None or any(finding.rule in meant[name] for name in c.names))
        ]
        used.update((c, finding.rule) for c in covering)
        return bool(covering)

    kept = [finding for finding in findings if not silenced(finding)]
    if UNUSED in enabled:
        for comment in comments:
            spent = {rule for c, rule in used if c == comment}
            message = _idle(comment, spent, meant, enabled, known)
            if message:
                kept.append(Finding(UNUSED, "unused-ignore", "warning", message, path, comment.span))
    return kept


def _mentioned(lowered: str, known: Mapping[str, str], *, unused: bool) -> bool:
    """Whether any comment may silence a finding, or may be said to be `unused`; `# noqa: E402` does neither."""
    if "tokenguard:" in lowered and OWN.search(lowered.encode()):
        return True
    if "noqa" not in lowered:
        return False
    ours = "|".join(sorted({rule.rstrip("0123456789").lower() for rule in known}))
    bare = "" if unused else r"|(?!\s*:\s*[a-z]+\d)"
    named = rf"\s*:\s*(?:[a-z]+\d+[\s,]+)*(?:(?:{ours})|[a-z]+-[a-z])"
    return re.search(f"noqa(?:{named}{bare})", lowered) is not None


def _idle(
    comment: Ignore,
    spent: set[str],
    meant: Mapping[str, frozenset[str]],
    enabled: frozenset[str],
    known: Mapping[str, str],
) -> str | None:
    """What is to be said of a comment that silences nothing, or names no rule."""
    names = comment.names or ()
    nearest = {name: _nearest(name, known) for name in names if not meant[name]}
    wrong = [n for n, near in nearest.items() if comment.ours or near or n.upper().startswith("TG")]
    if wrong:
        near = next(filter(None, nearest.values()), "")
        return f"There is no rule {', '.join(wrong)}; " + (f"{near}?" if near else "see `tokenguard explain`.")
    idle = [n.upper() if "-" not in n else n for n in names if meant[n] & enabled and not meant[n] & spent]
    if idle or (comment.ours and comment.names is None and not spent):
        what = ", ".join(idle) or "anything"
        return f"This comment ignores {what}, but there is nothing to ignore here. Remove it."
    return None


def _nearest(name: str, known: Mapping[str, str]) -> str:
    """The name of a rule that a name like `no-output-cp` may be meant for; "" if there is none."""
    if "-" not in name:
        return ""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name.lower(), known.values(), 1, 0.8)), "")
