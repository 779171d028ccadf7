"""Changes files: carries out fixes in place, and adds ignore comments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.comments import logical_end
from tokenguard.lint.config import ConfigError
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Finding
from tokenguard.lint.run import lint_source
from tokenguard.lint.sources import read


class Mended(NamedTuple):
    """A file before and after its fixes, what was mended in it, and what is left."""

    path: str
    before: bytes
    after: bytes
    done: list[Finding]
    left: list[Finding]


Tune = Callable[[list[Finding], str, bytes], list[Finding]]
"""What changes the fixes of findings before they are carried out; of a path, and its source as it was."""


def mended(linter: Linter, source: bytes, path: str, *, unsafe: bool, tune: Tune | None = None) -> Mended:
    """The outcome of all fixes in a source; nothing is written."""
    if path.endswith(".ipynb"):
        from tokenguard.lint.notebooks import fix_notebook

        after, done = fix_notebook(linter, source, path, unsafe=unsafe)
    else:
        from tokenguard.lint.fixes import fix_source

        def lint(text: bytes) -> list[Finding]:
            found = linter.lint(text, path)
            return found if tune is None else tune(found, path, source)

        after, done = fix_source(source, lint, unsafe=unsafe)
    return Mended(path, source, after, done, lint_source(linter, after, path) if after != source else [])


def mend(
    findings: list[Finding], linter_of: Callable[[str], Linter], *, unsafe: bool, tune: Tune | None = None
) -> Iterator[Mended]:
    """What the fixes of `findings` make of their files, where they change anything; nothing is written."""
    for path in sorted({f.path for f in findings if mendable(f, unsafe=unsafe)}):
        source = read(path)
        if isinstance(source, bytes):
            outcome = mended(linter_of(path), source, path, unsafe=unsafe, tune=tune)
            if outcome.after != source:
                yield outcome


def mendable(finding: Finding, *, unsafe: bool) -> bool:
    """Whether a finding has a fix that may be carried out."""
    return finding.fix is not None and (finding.fix.safe or unsafe)


def replace(path: str, source: bytes) -> None:
    """Replace a file's content in one step, keeping its permissions and the link that leads to it."""
    import shutil
    import tempfile

    target = os.path.realpath(path)
    handle, name = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".tokenguard-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(source)
        shutil.copymode(target, name)
        os.replace(name, target)
    except OSError as error:
        os.unlink(name)
        raise ConfigError(f"Cannot write {path}: {error.strerror}") from error


def add_ignores(findings: list[Finding]) -> tuple[int, int]:
    """Add `# tokenguard: ignore[...]` to the last line of each finding of a Python file; the comments and the files."""
    wanted: dict[str, dict[int, set[str]]] = {}
    for finding in findings:
        if finding.cell is None and finding.rule not in ("TG000", "TG001"):
            wanted.setdefault(finding.path, {}).setdefault(finding.span.line, set()).add(finding.rule)
    added = 0
    for path, places in wanted.items():
        source = read(path)
        if isinstance(source, bytes):
            changed, count = commented(source, places)
            added += count
            replace(path, changed)
    return added, len(wanted)


def commented(source: bytes, places: dict[int, set[str]]) -> tuple[bytes, int]:
    """The source with ignore comments at the ends of these lines, or above a line that cannot end in a comment."""
    from tokenguard.lint.fixes import parts_of

    encoding, body, bom = parts_of(source)
    text = body.decode(encoding)
    lines = _keep_ends(text)
    added = 0
    for number in sorted(places, reverse=True):
        comment = f"# tokenguard: ignore[{', '.join(sorted(places[number]))}]"
        for candidate in (_behind(lines, number, comment), _above(lines, number, comment),
                          _behind(lines, logical_end(text, number), comment)):  # fmt: skip
            if _same_program(text, candidate):
                text = candidate
                lines = _keep_ends(text)
                added += 1
                break
    return bom + text.encode(encoding), added


def _behind(lines: list[str], number: int, comment: str) -> str:
    line = lines[number - 1]
    content = line.rstrip("\r\n")
    return "".join([*lines[: number - 1], f"{content}  {comment}{line[len(content) :]}", *lines[number:]])


def _above(lines: list[str], number: int, comment: str) -> str:
    line = lines[number - 1]
    content = line.rstrip("\r\n")
    indent = content[: len(content) - len(content.lstrip())]
    return "".join([*lines[: number - 1], f"{indent}{comment}{line[len(content) :] or chr(10)}", *lines[number - 1 :]])


def _same_program(before: str, after: str) -> bool:
    """Whether two texts are the same program but for comments and line numbers."""
    import ast

    from tokenguard.lint.syntax import parse

    try:
        return ast.dump(parse(before.encode())) == ast.dump(parse(after.encode()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _keep_ends(text: str) -> list[str]:
    import re

    return [part for part in re.split(r"(?<=\n)|(?<=\r)(?!\n)", text) if part]
