"""One run of `tokenguard lint`: settings, files, findings, fixes, and the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint import outputs
from tokenguard.lint.config import Config, ConfigError, Settings
from tokenguard.lint.files import Found, discover, matches, relative
from tokenguard.lint.finding import Finding
from tokenguard.lint.lines import Sources
from tokenguard.lint.outputs import write
from tokenguard.lint.run import Run, lint_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tokenguard.lint.engine import Linter
    from tokenguard.lint.shelf import Rule
    from tokenguard.lint.spending import Spending

MANY = 200
"""From so many files on, linting may take longer than a second."""

_RANK = {"info": 0, "warning": 1, "error": 2}


class Options(NamedTuple):
    """The command line, as parsed."""

    fix: bool = False
    unsafe_fixes: bool = False
    diff: bool = False
    form: str = "text"
    output: str | None = None
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    baseline: str | None = None
    write_baseline: str | None = None
    add_ignore: bool = False
    statistics: bool = False
    show_files: bool = False
    show_settings: bool = False
    stdin_filename: str = "-"
    config: str | None = None
    isolated: bool = False
    allow_plugins: bool = False
    fail_on: str = "warning"
    exit_zero: bool = False
    quiet: bool = False
    spend: str | None = None
    since: str = "30d"
    min_usd: float | None = None
    watch: bool = False
    no_cache: bool = False
    no_gitignore: bool = False
    jobs: int = 0
    stdio: bool = False
    colour: bool | None = None

    @property
    def fixing(self) -> bool:
        """Whether fixes are carried out, or shown."""
        return self.fix or self.unsafe_fixes or self.diff

    @property
    def unsafe(self) -> bool:
        """Whether fixes may change what the program does."""
        return self.unsafe_fixes

    def change(self, config: Config) -> Config:
        """Settings of a file as the command line changes them."""
        return config.choosing(self.select, self.extend_select, self.ignore)._replace(
            exclude=(*config.exclude, *self.exclude),
            allow_plugins=self.allow_plugins,
        )

    def settings(self, *, watched: bool = False) -> Settings:
        """The settings of every folder; `watched`, they know when they have changed. Raises ConfigError."""
        if self.isolated and self.config is not None:
            raise ConfigError("--isolated reads no settings file, and --config names one; give one of them")
        return Settings(self.config, isolated=self.isolated, change=self.change, watched=watched)


class Session:
    """One look at the files, with the settings as they are now."""

    _spending: Spending | None

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = options.settings()
        self._run = Run(jobs=options.jobs, cached=not options.no_cache)
        self._spending = None
        if options.spend is not None:
            from tokenguard.lint.spending import Spending, sites

            self._spending = Spending(sites(options.spend, options.since))
        elif options.min_usd is not None:
            raise ConfigError("--min-usd wants --spend: without a store nothing is known to cost anything")

    def run(self, paths: tuple[str, ...]) -> int:
        """Do what the options say; the exit status. Raises ConfigError."""
        options = self._options
        if options.show_settings:
            return self._show_settings(paths)
        if "-" in paths:
            return self._stdin(paths)
        files = self.files(paths)
        if not files:
            self._linter_of(paths[0])  # settings are looked at, if nothing else is
            self._say("There are no Python files or notebooks to lint.")
        if options.show_files:
            sys.stdout.writelines(f"{file.path}\n" for file in files)
            return 0
        findings = self._lint(files)
        sources = Sources()
        if options.write_baseline is not None:
            from tokenguard.lint import baseline

            baseline.write(options.write_baseline, findings, sources)
            self._say(f"Wrote {_count(len(findings), 'finding')} to {options.write_baseline}.")
            return 0
        findings = self._new(findings, sources)
        if options.add_ignore:
            return self._add_ignores(findings)
        if self._spending is not None:
            findings = self._priced(findings, sources)
        if options.fixing:
            findings = self._fix(findings)
            if options.diff:
                return self._status(findings)
            sources = Sources()
            if self._spending is not None:
                findings = self._priced(findings, sources)
        self._report(findings, sources, files)
        return self._status(findings)

    def _new(self, findings: list[Finding], sources: Sources) -> list[Finding]:
        """The findings that the baseline does not hold, if there is one."""
        if self._options.baseline is None:
            return findings
        from pathlib import Path

        from tokenguard.lint import baseline

        return baseline.new(Path(self._options.baseline), findings, sources)

    def _priced(self, findings: list[Finding], sources: Sources) -> list[Finding]:
        """The findings by what their calls came to, the dearest first, with caps as their answers were."""
        assert self._spending is not None
        findings = self._spending.tuned(findings, sources)
        spent = sources.spent = self._spending.price(findings, sources)

        def usd(finding: Finding) -> float:
            return (spent[finding].usd or 0.0) if finding in spent else -1.0

        least = self._options.min_usd
        kept = [finding for finding in findings if least is None or usd(finding) >= least]
        return sorted(kept, key=lambda finding: (-usd(finding), finding.order))

    def _lint(self, files: list[Found]) -> list[Finding]:
        """The findings; on a terminal a bar says how far many files are."""
        if self._options.quiet or len(files) < MANY or not sys.stderr.isatty():
            return self._run.lint(files)
        from tokenguard.process.progress import working

        with working("Linting files", len(files)) as work:
            return self._run.lint(files, work.advance)

    def files(self, paths: tuple[str, ...]) -> list[Found]:
        """The files under `paths`, with their settings. Raises ConfigError."""
        options = self._options
        try:
            found = discover(paths, self._settings, gitignore=not options.no_gitignore, force=options.force_exclude)
            return list(found)
        except FileNotFoundError as error:
            raise ConfigError(f"No such file or folder: {error}") from error

    def _linter_of(self, path: str) -> Linter:
        return self._run.linter(self._settings.of(os.path.dirname(path) or "."))

    def _status(self, findings: list[Finding]) -> int:
        options = self._options
        return int(not options.exit_zero and any(_RANK[f.severity] >= _RANK[options.fail_on] for f in findings))

    def _say(self, line: str) -> None:
        """Tell the person at the terminal; reports go to standard output."""
        if not self._options.quiet:
            sys.stderr.write(f"{line}\n")

    def _report(self, findings: list[Finding], sources: Sources, files: list[Found]) -> None:
        options = self._options
        if options.statistics:
            text = outputs.statistics(findings, as_json=options.form == "json")
        elif options.form == "text":
            colour = options.colour if options.colour is not None else _on_terminal() and not options.output
            text = outputs.text(findings, sources, {}, colour=colour)
        else:
            rules = self._rules(files) if options.form == "sarif" else {}
            text = outputs.FORMATS[options.form](findings, sources, rules)
        if options.output:
            write(options.output, text)
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stdout.flush()
        if options.form == "text" and not options.statistics and files:
            self._say(_summary(findings))

    def _rules(self, files: list[Found]) -> Mapping[str, Rule]:
        configs = {id(file.config): file.config for file in files}.values()
        return {key: rule for config in configs for key, rule in self._run.linter(config).all_rules.items()}

    def _fix(self, findings: list[Finding]) -> list[Finding]:
        """Fix files in place, or show the difference; the findings that are left (or would be mended)."""
        from tokenguard.lint.fixes import diff
        from tokenguard.lint.mending import mend, replace

        done: list[Finding] = []
        tune = None if self._spending is None else self._tuned
        for outcome in mend(findings, self._linter_of, unsafe=self._options.unsafe, tune=tune):
            done += outcome.done
            if self._options.diff:
                shown = diff(outcome.before, outcome.after, outcome.path)
                sys.stdout.buffer.write(shown.encode("utf-8", "surrogateescape"))
                sys.stdout.flush()
                continue
            replace(outcome.path, outcome.after)
            findings = [f for f in findings if f.path != outcome.path] + outcome.left
        if self._options.diff:
            self._say(f"Would fix {_count(len(done), 'finding')}.")
            return done
        if done:
            self._say(f"Fixed {_count(len(done), 'finding')}.")
        return sorted(findings, key=lambda f: f.order)

    def _tuned(self, findings: list[Finding], path: str, source: bytes) -> list[Finding]:
        assert self._spending is not None
        return self._spending.tuned(findings, Sources({path: source}))

    def _add_ignores(self, findings: list[Finding]) -> int:
        from tokenguard.lint.mending import add_ignores

        added, files = add_ignores(findings)
        self._say(f"Added {_count(added, 'ignore comment')} to {_count(files, 'file')}.")
        return 0

    def _stdin(self, paths: tuple[str, ...]) -> int:
        options = self._options
        if len(paths) > 1 or options.add_ignore or options.write_baseline is not None:
            raise ConfigError(
                "`-` is one text, read from standard input: it stands alone, and neither --add-ignore nor "
                "--write-baseline can be done to it"
            )
        path = options.stdin_filename
        config = self._settings.of(os.path.dirname(path) or ".")
        excluded = options.force_exclude and matches(relative(path, config), config.exclude)
        if options.show_files:
            sys.stdout.write("" if excluded else f"{path}\n")
            return 0
        source = sys.stdin.buffer.read()
        linter = self._run.linter(config)

        def left(of: bytes) -> list[Finding]:
            return [] if excluded else self._new(lint_source(linter, of, path), Sources({path: of}))

        if not options.fixing:
            sources = Sources({path: source})
            findings = left(source)
            if self._spending is not None:
                findings = self._priced(findings, sources)
            self._report(findings, sources, [Found(path, config)])
            return self._status(findings)
        from tokenguard.lint.fixes import diff
        from tokenguard.lint.mending import Mended, mended

        outcome = (
            Mended(path, source, source, [], []) if excluded else mended(linter, source, path, unsafe=options.unsafe)
        )
        out = diff(source, outcome.after, path).encode() if options.diff else outcome.after
        sys.stdout.buffer.write(out)
        sys.stdout.flush()
        if options.diff:
            self._say(f"Would fix {_count(len(outcome.done), 'finding')}.")
            return self._status(outcome.done)
        findings = left(outcome.after)
        if outcome.done:
            self._say(f"Fixed {_count(len(outcome.done), 'finding')}.")
        self._say(_summary(findings))
        return self._status(findings)

    def _show_settings(self, paths: tuple[str, ...]) -> int:
        from tokenguard.lint.explain import settings

        path = self._options.stdin_filename if paths == ("-",) else paths[0]
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        sys.stdout.write(settings(self._run.linter(self._settings.of(folder or ".")), path))
        return 0


def _on_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _summary(findings: list[Finding]) -> str:
    if not findings:
        return "No findings."
    parts = [f"{n} {kind}" for kind in ("error", "warning", "info") if (n := sum(f.severity == kind for f in findings))]
    safe = sum(f.fix is not None and f.fix.safe for f in findings)
    unsafe = sum(f.fix is not None for f in findings) - safe
    ways = [f"{n} with {way}" for n, way in ((safe, "--fix"), (unsafe, "--unsafe-fixes")) if n]
    more = f" Can be fixed: {', '.join(ways)}." if ways else ""
    return f"{_count(len(findings), 'finding')} ({', '.join(parts)}).{more}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
