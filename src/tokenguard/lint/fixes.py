"""Carries out fixes: each edit re-parses the one expression it changes with libcst; nothing else of the file moves."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tokenguard.lint.finding import Edit, Finding
from tokenguard.lint.sources import shared
from tokenguard.lint.syntax import parses

if TYPE_CHECKING:
    import libcst as cst

_ROUNDS = 100  # fixes that touch each other are made in turns, and those of a rule that reports one place at a time
_BOM = b"\xef\xbb\xbf"
_NEWLINE = re.compile(r"\r\n|\r|\n")


def fix_source(source: bytes, lint: Callable[[bytes], list[Finding]], *, unsafe: bool) -> tuple[bytes, list[Finding]]:
    """The mended source and the findings that were mended in it.

    `lint` finds what is left after each round. A round whose result would not parse, or that mends nothing, is dropped:
    as many findings as before are left, and one of those that it was for is among them.
    """
    fixed: list[Finding] = []
    findings = lint(source)
    for _ in range(_ROUNDS):
        todo = [f for f in findings if f.fix is not None and (unsafe or f.fix.safe)]
        changed, done, pieces = _applied(source, todo)
        if not done or changed == source or not parses(changed):
            break
        left = lint(changed)
        if len(left) >= len(findings) and _stay(source, done, changed, left, pieces):
            break
        source, findings = changed, left
        fixed += done
    return source, fixed


def apply_edits(source: bytes, findings: Sequence[Finding]) -> tuple[bytes, list[Finding]]:
    """Carry out the fixes of `findings` that do not touch each other; the new source and the findings mended."""
    changed, done, _ = _applied(source, findings)
    return changed, done


_Piece = tuple[int, int, bytes]
"""A stretch of a text in UTF-8 without its mark, and what comes into its place."""


def _applied(source: bytes, findings: Sequence[Finding]) -> tuple[bytes, list[Finding], list[_Piece]]:
    """What `apply_edits` says, and the pieces that were replaced, in order."""
    encoding, _, bom = parts_of(source)
    text = _utf8(source)
    if text is None:
        return source, [], []
    starts = _line_starts(text)
    pieces: list[_Piece] = []
    done: list[Finding] = []
    for finding in findings:
        assert finding.fix is not None
        new = [_edit(text, starts, edit) for edit in finding.fix.edits]
        same = [piece for piece in new if piece in pieces]
        if None in new or any(_touch(p, q) for p in new if p is not None and p not in same for q in pieces):
            continue
        pieces += [piece for piece in new if piece is not None and piece not in same]
        done.append(finding)
    for start, end, replacement in sorted(pieces, reverse=True):
        text = text[:start] + replacement + text[end:]
    try:
        return bom + text.decode().encode(encoding), done, sorted(pieces)
    except UnicodeEncodeError:
        return source, [], []


def _utf8(source: bytes) -> bytes | None:
    """The text of a source in UTF-8, in which spans count; None where it is not in its encoding."""
    encoding, body, _ = parts_of(source)
    try:
        return body.decode(encoding).encode()
    except (UnicodeDecodeError, LookupError):
        return None


def _stay(before: bytes, done: list[Finding], after: bytes, left: list[Finding], pieces: list[_Piece]) -> bool:
    """Whether one of the findings that were mended is still among those that are left."""

    def back(offset: int) -> int:
        """Where a place of the new text was in the old one."""
        grown = 0
        for start, end, replacement in pieces:
            if offset < start + grown:
                break
            if offset < start + grown + len(replacement):
                return start
            grown += len(replacement) - (end - start)
        return offset - grown

    gone = {(finding.rule, place) for finding, place in _places(before, done)}
    return any((finding.rule, back(place)) in gone for finding, place in _places(after, left))


def _places(source: bytes, findings: list[Finding]) -> list[tuple[Finding, int]]:
    """Each finding with the offset at which it begins."""
    starts = _line_starts(_utf8(source) or b"")
    return [(finding, starts[finding.span.line - 1] + finding.span.column) for finding in findings]


def diff(before: bytes, after: bytes, path: str) -> str:
    """A unified diff of two versions of a file."""
    from tokenguard.lint.sources import decode

    old, new = (decode(version).splitlines(keepends=True) for version in (before, after))
    out = difflib.unified_diff(old, new, path, path)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in out)


def parts_of(source: bytes) -> tuple[str, bytes, bytes]:
    """The encoding, the bytes without a byte order mark, and the mark."""
    import io
    import tokenize

    bom = _BOM if source.startswith(_BOM) else b""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    except (SyntaxError, LookupError):
        encoding = "utf-8"
    return "utf-8" if encoding == "utf-8-sig" else encoding, source[len(bom) :], bom


def _line_starts(text: bytes) -> list[int]:
    return [0, *(m.end() for m in re.finditer(rb"\r\n|\r|\n", text))]


def _touch(one: _Piece, other: _Piece) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _edit(text: bytes, starts: list[int], edit: Edit) -> _Piece | None:
    start = starts[edit.span.line - 1] + edit.span.column
    end = starts[edit.span.end_line - 1] + edit.span.end_column
    segment = text[start:end].decode()
    replaced = _rewritten(segment, edit)
    return None if replaced is None else (start, end, replaced.encode())


def _rewritten(segment: str, edit: Edit) -> str | None:
    """The expression `segment` after `edit`; None where it cannot be done and kept the same otherwise."""
    import libcst as cst

    if edit.action == "replace":
        return edit.value
    if edit.action == "wrap":
        return f"{edit.value}({segment})"
    plain = _NEWLINE.sub("\n", segment)
    try:
        tree = cst.parse_expression(f"({plain})", config=cst.PartialParserConfig(default_newline="\n"))
        writer = cst.Module([], default_newline="\n")
        if writer.code_for_node(tree) != f"({plain})":
            return None
        change = _with if edit.action == "set" else _without
        changed = change(tree, edit)
        return None if changed is None else _with_newlines(segment, plain, writer.code_for_node(changed)[1:-1])
    except (cst.ParserSyntaxError, cst.CSTValidationError, RecursionError):
        return None


def _with_newlines(segment: str, plain: str, changed: str) -> str:
    """`changed`, which was made of `plain`, with the line ends that `segment` has; new lines end as the one before."""
    ends = _NEWLINE.findall(segment)
    head = plain.count("\n", 0, shared(plain, changed))
    first, *lines = changed.split("\n")
    tail = plain.count("\n", len(plain) - shared(plain[::-1], changed[::-1]))
    tail = min(tail, len(ends) - head, len(lines) - head)
    new = ends[max(0, head - 1)] if ends else "\n"
    all_ends = [*ends[:head], *[new] * (len(lines) - head - tail), *ends[len(ends) - tail :]]
    return first + "".join(end + line for end, line in zip(all_ends, lines, strict=True))


def _with(tree: cst.BaseExpression, edit: Edit) -> cst.BaseExpression | None:
    import libcst as cst

    value = cst.parse_expression(edit.value)
    if isinstance(tree, cst.Call):
        for arg in tree.args:
            if arg.keyword is not None and arg.keyword.value == edit.name:
                return tree.with_deep_changes(arg, value=value)
        if any(isinstance(a.value, cst.GeneratorExp) and not a.value.lpar for a in tree.args):
            return None
        tight = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        new = cst.Arg(value, keyword=cst.Name(edit.name), equal=tight)
        if not tree.args:
            return tree.with_changes(args=[new])
        *rest, last = tree.args
        before, comma, tail = _spacing(
            [a.comma for a in tree.args], tree.whitespace_before_args, last.whitespace_after_arg
        )
        last = last.with_changes(comma=before, whitespace_after_arg=cst.SimpleWhitespace(""))
        new = new.with_changes(comma=comma, whitespace_after_arg=tail)
        return tree.with_changes(args=[*rest, last, new])
    if isinstance(tree, cst.Dict):
        for element in tree.elements:
            key = element.key if isinstance(element, cst.DictElement) else None
            if isinstance(key, cst.SimpleString) and key.evaluated_value == edit.name:
                return tree.with_deep_changes(element, value=value)
        key = cst.SimpleString(f'"{edit.name}"')
        entry = cst.DictElement(key, value)
        if not tree.elements:
            return tree.with_changes(elements=[entry])
        *others, end = tree.elements
        opening, closing = tree.lbrace.whitespace_after, tree.rbrace.whitespace_before
        before, comma, tail = _spacing([e.comma for e in tree.elements], opening, closing)
        elements = [*others, end.with_changes(comma=before), entry.with_changes(comma=comma)]
        return tree.with_changes(elements=elements, rbrace=tree.rbrace.with_changes(whitespace_before=tail))
    return None


def _spacing(
    commas: Sequence[cst.Comma | cst.MaybeSentinel],
    opening: cst.BaseParenthesizableWhitespace,
    closing: cst.BaseParenthesizableWhitespace,
) -> tuple[cst.Comma, cst.Comma | cst.MaybeSentinel, cst.BaseParenthesizableWhitespace]:
    """How a new last item is set off: the comma before it, its own comma, and the space before the bracket.

    It goes on its own line where its neighbours do; a comment behind the old last item stays with that item.
    """
    import libcst as cst

    last = commas[-1]
    inside = last.whitespace_after if isinstance(last, cst.Comma) else cst.SimpleWhitespace("")
    tail = inside if isinstance(inside, cst.ParenthesizedWhitespace) else closing
    between = [c.whitespace_after for c in commas[:-1] if isinstance(c, cst.Comma)]
    lined = [w for w in (*between[-1:], opening) if isinstance(w, cst.ParenthesizedWhitespace)]
    if not lined or (between and not isinstance(between[-1], cst.ParenthesizedWhitespace)):
        gap: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace(" ")
        if isinstance(tail, cst.ParenthesizedWhitespace) and tail.first_line.comment is not None:
            gap = tail.with_changes(last_line=cst.SimpleWhitespace(tail.last_line.value + "    "))
            tail = _bare(tail)
    else:
        comment = tail.first_line if isinstance(tail, cst.ParenthesizedWhitespace) else cst.TrailingWhitespace()
        above = tail.empty_lines if isinstance(tail, cst.ParenthesizedWhitespace) else []
        gap = lined[0].with_changes(first_line=comment, empty_lines=above)
        tail = _bare(tail) if isinstance(tail, cst.ParenthesizedWhitespace) else tail
    before = cst.Comma(whitespace_after=gap)
    if not isinstance(last, cst.Comma):
        return before, cst.MaybeSentinel.DEFAULT, tail
    if isinstance(inside, cst.ParenthesizedWhitespace):
        return before, last.with_changes(whitespace_after=tail), cst.SimpleWhitespace("")
    return before, last, tail


def _bare(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    """The same line break without its comment and blank lines."""
    import libcst as cst

    return space.with_changes(first_line=cst.TrailingWhitespace(newline=space.first_line.newline), empty_lines=[])


def _without(tree: cst.BaseExpression, edit: Edit) -> cst.BaseExpression | None:
    import libcst as cst

    if not isinstance(tree, cst.Call):
        return None
    kept = [a for a in tree.args if a.keyword is None or a.keyword.value != edit.name]
    if len(kept) != len(tree.args) - 1:
        return None
    if kept and tree.args[-1] not in kept:
        gone, last = tree.args[-1], kept[-1]
        if isinstance(last.comma, cst.Comma) and _commented(last.comma.whitespace_after):
            return None  # a comment hangs on the comma; leave it to a person
        kept[-1] = last.with_changes(comma=gone.comma, whitespace_after_arg=gone.whitespace_after_arg)
    elif kept and any(
        isinstance(a.comma, cst.Comma) and _commented(a.comma.whitespace_after) for a in tree.args if a not in kept
    ):
        return None
    return tree.with_changes(args=kept)


def _commented(space: cst.BaseParenthesizableWhitespace) -> bool:
    import libcst as cst

    return isinstance(space, cst.ParenthesizedWhitespace) and space.first_line.comment is not None
