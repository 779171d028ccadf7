"""One run of `tokenguard lint`: settings, files, findings, fixes, and the report."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tokenguard.lint import outputs
from tokenguard.lint.cache import Cache
from tokenguard.lint.config import Config, ConfigError, load
from tokenguard.lint.engine import Linter
from tokenguard.lint.files import discover
from tokenguard.lint.finding import Finding
from tokenguard.lint.run import lint_paths, lint_source, read

_RANK = {"info": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Options:
    """The command line, as parsed."""

    fix: bool = False
    unsafe_fixes: bool = False
    diff: bool = False
    form: str = "text"
    output: str | None = None
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    baseline: Path | None = None
    write_baseline: Path | None = None
    add_ignore: bool = False
    statistics: bool = False
    stdin_filename: str = "-"
    config: Path | None = None
    fail_on: str = "warning"
    no_cache: bool = False
    no_gitignore: bool = False
    jobs: int = 0
    colour: bool | None = None

    @property
    def fixing(self) -> bool:
        """Whether fixes are carried out, or shown."""
        return self.fix or self.unsafe_fixes or self.diff


def run(paths: tuple[str, ...], options: Options) -> int:
    """Do what the command line says; the exit status. Raises ConfigError."""
    config = load(options.config).override(select=options.select, ignore=options.ignore)
    if options.exclude:
        config = config.override(exclude=(*config.exclude, *options.exclude))
    if paths == ("-",):
        return _stdin(config, options)
    try:
        gitignore = config.respect_gitignore and not options.no_gitignore
        files = list(discover(paths, config.root, config.exclude, gitignore, force=options.force_exclude))
    except FileNotFoundError as error:
        raise ConfigError(f"No such file or folder: {error}") from error
    cache = None if options.no_cache else Cache(config.root / ".tokenguard" / "lint", config)
    findings = lint_paths(config, files, jobs=options.jobs, cache=cache)
    linter = Linter(config)
    sources = outputs.Sources()
    if options.write_baseline is not None:
        return _write_baseline(options.write_baseline, findings, sources)
    if options.baseline is not None:
        from tokenguard.lint import baseline

        findings = baseline.new(options.baseline, findings, sources)
    if options.add_ignore:
        return _add_ignores(findings)
    if options.fixing:
        findings = _fix_files(linter, findings, options)
        if options.diff:
            return 1 if findings else 0
        sources = outputs.Sources()
    _report(findings, sources, linter, options)
    return _status(findings, options)


def _say(line: str) -> None:
    """Tell the person at the terminal; reports go to standard output."""
    sys.stderr.write(f"{line}\n")


def _status(findings: list[Finding], options: Options) -> int:
    return int(any(_RANK[f.severity] >= _RANK[options.fail_on] for f in findings))


def _report(findings: list[Finding], sources: outputs.Sources, linter: Linter, options: Options) -> None:
    if options.statistics:
        text = outputs.statistics(findings)
    elif options.form == "text":
        colour = options.colour if options.colour is not None else _on_terminal() and not options.output
        text = outputs.text(findings, sources, linter.all_rules, colour=colour)
    else:
        text = outputs.FORMATS[options.form](findings, sources, linter.all_rules)
    if options.output:
        Path(options.output).write_text(text, encoding="utf-8")
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    if options.form == "text" and not options.statistics:
        _say(_summary(findings))


def _on_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _summary(findings: list[Finding]) -> str:
    if not findings:
        return "No findings."
    parts = [f"{n} {kind}" for kind in ("error", "warning", "info") if (n := sum(f.severity == kind for f in findings))]
    fixable = sum(f.fix is not None for f in findings)
    more = f" {fixable} can be fixed with --fix or --unsafe-fixes." if fixable else ""
    return f"{_count(len(findings), 'finding')} ({', '.join(parts)}).{more}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _write_baseline(file: Path, findings: list[Finding], sources: outputs.Sources) -> int:
    from tokenguard.lint import baseline

    baseline.write(file, findings, sources)
    _say(f"Wrote {_count(len(findings), 'finding')} to {file}.")
    return 0


def _mended(linter: Linter, source: bytes, path: str, *, unsafe: bool) -> tuple[bytes, list[Finding]]:
    if path.endswith(".ipynb"):
        from tokenguard.lint.notebooks import fix_notebook

        return fix_notebook(linter, source, path, unsafe=unsafe)
    from tokenguard.lint.fixes import fix_source

    return fix_source(source, lambda text: linter.lint(text, path), unsafe=unsafe)


def _fix_files(linter: Linter, findings: list[Finding], options: Options) -> list[Finding]:
    """Fix the files of `findings` in place, or show the difference; the findings that are left (or would be mended)."""
    from tokenguard.lint.fixes import diff

    left = [f for f in findings if not _mendable(f, options)]
    mended: list[Finding] = []
    for path in sorted({f.path for f in findings if _mendable(f, options)}):
        source = read(path)
        if isinstance(source, str):
            continue
        changed, done = _mended(linter, source, path, unsafe=options.unsafe_fixes)
        if changed == source:
            left += [f for f in findings if f.path == path and _mendable(f, options)]
            continue
        mended += done
        if options.diff:
            sys.stdout.buffer.write(diff(source, changed, path).encode("utf-8", "surrogateescape"))
            sys.stdout.flush()
            continue
        _write(path, changed)
        left = [f for f in left if f.path != path] + lint_source(linter, changed, path)
    if options.diff:
        return mended
    if mended:
        _say(f"Fixed {_count(len(mended), 'finding')}.")
    return sorted(left, key=lambda f: f.order)


def _mendable(finding: Finding, options: Options) -> bool:
    return finding.fix is not None and (finding.fix.safe or options.unsafe_fixes)


def _write(path: str, source: bytes) -> None:
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


def _add_ignores(findings: list[Finding]) -> int:
    """Add `# tokenguard: ignore[...]` to the last line of each finding of a Python file."""
    wanted: dict[str, dict[int, set[str]]] = {}
    for finding in findings:
        if finding.cell is None and finding.rule not in ("TG000", "TG001"):
            wanted.setdefault(finding.path, {}).setdefault(finding.span.line, set()).add(finding.rule)
    added = 0
    for path, places in wanted.items():
        source = read(path)
        if isinstance(source, bytes):
            changed, count = _commented(source, places)
            added += count
            _write(path, changed)
    _say(f"Added {_count(added, 'ignore comment')} to {_count(len(wanted), 'file')}.")
    return 0


def _commented(source: bytes, places: dict[int, set[str]]) -> tuple[bytes, int]:
    """The source with ignore comments at the ends of these lines, or above a line that cannot end in a comment."""
    from tokenguard.lint.fixes import parts_of
    from tokenguard.lint.suppress import logical_end

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


def _stdin(config: Config, options: Options) -> int:
    source = sys.stdin.buffer.read()
    path = options.stdin_filename
    linter = Linter(config)
    if options.fixing:
        from tokenguard.lint.fixes import diff

        changed, done = _mended(linter, source, path, unsafe=options.unsafe_fixes)
        out = diff(source, changed, path).encode() if options.diff else changed
        sys.stdout.buffer.write(out)
        sys.stdout.flush()
        left = done if options.diff else lint_source(linter, changed, path)
        return _status(left, options)
    findings = lint_source(linter, source, path)
    _report(findings, outputs.Sources({path: source}), linter, options)
    return _status(findings, options)
