"""Lints one source text: word prefilter, `ast`, rules, suppressions. Never raises for what a file contains."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING

from tokenguard.lint import suppress
from tokenguard.lint.config import Config, ConfigError, prefixes
from tokenguard.lint.files import matches, relative
from tokenguard.lint.finding import Finding, Severity, Span
from tokenguard.lint.prefilter import Prefilter
from tokenguard.lint.shelf import Check, Rule, is_test, load, load_installed
from tokenguard.lint.sources import decode

if TYPE_CHECKING:  # most files concern no rule, and are not parsed
    from tokenguard.lint.project import Project
    from tokenguard.lint.syntax import Module

BROKEN = "TG000"
_LARGEST = 5_000_000  # bytes; a larger file is generated


class Linter:
    """The enabled rules with their options, ready to lint files. One per process; not shared between threads."""

    def __init__(self, config: Config, *, prefilter: bool = True, everything: bool = False) -> None:
        """Load the rules, those of installed packages when they are selected or `everything` is asked for.

        Raises ConfigError for an unknown rule id or option, and for settings that name a folder of rules where the
        command line does not allow it: whoever clones a repository would run its code.
        """
        self.config = config
        if config.plugins and not config.allow_plugins:
            raise ConfigError(
                f"{config.file}: [lint] plugins = {list(config.plugins)} would run the code in these folders. If you "
                "trust it, pass --allow-plugins; if not, --isolated lints without these settings."
            )
        try:
            self.all_rules = load(config.plugins, config.root)
            if everything or any(
                not code.startswith("TG") for code in config.select
            ):  # a look at every installed package
                load_installed(self.all_rules)
        except (ValueError, ImportError, SyntaxError) as error:
            raise ConfigError(str(error)) from error
        self._names = {BROKEN: "unreadable-file", suppress.UNUSED: "unused-ignore"}
        self._names |= {rule.id: rule.name for rule in self.all_rules.values()}
        self._known(config)
        self.rules = [
            rule
            for rule in self.all_rules.values()
            if config.enabled(rule.id) and (rule.default or self._named(rule.id))
        ]
        self._not_in_tests = {rule.id for rule in self.rules if not rule.tests and not self._named(rule.id)}
        self.options = {rule.id: self._options(rule) for rule in self.rules}
        own = {BROKEN, suppress.UNUSED}
        self.enabled = frozenset({*(r for r in own if config.enabled(r)), *(rule.id for rule in self.rules)})
        wanted = {rule.id: rule.words if prefilter else () for rule in self.rules}
        if suppress.UNUSED in self.enabled:
            wanted[suppress.UNUSED] = suppress.WORDS
        self._prefilter = Prefilter(wanted)
        self._checks: dict[str, Check] = {}  # of the rules that a file has concerned
        self._parses_all = BROKEN in self.enabled and BROKEN in config.select

    @cached_property
    def project(self) -> Project:
        """The tree around the files that are linted."""
        from tokenguard.lint.project import Project

        return Project()

    def consulted(self) -> tuple[str, ...]:
        """The files that were looked at for another's sake since this was asked last."""
        if "project" not in vars(self):
            return ()
        files, self.project.consulted = self.project.consulted, set()
        return tuple(sorted(files))

    def _known(self, config: Config) -> None:
        """Raise ConfigError for a rule that does not exist, or half a rule's id where a whole one is wanted."""
        groups = (*config.select, *config.ignore, *(c for codes in config.per_file_ignores.values() for c in codes))
        for code in groups:
            if code != "ALL" and (not code or not any(rule.startswith(code) for rule in self._names)):
                raise ConfigError(f"There is no rule {code!r}{self._meant(code)}")
        for code in (*config.severity, *config.rules):
            if code not in self._names:
                raise ConfigError(f"{config.file}: [lint] has settings of a rule {code!r}. There is none"
                                  f"{self._meant(code)}")  # fmt: skip

    def _meant(self, code: str) -> str:
        """The end of a sentence about a rule that does not exist: the one that may be meant, or all."""
        from difflib import get_close_matches

        ids = {name: rule for rule, name in self._names.items()}
        group = any(rule.startswith(code) for rule in self._names)
        near = ids.get(code.lower()) or next(iter(get_close_matches(code, () if group else self._names, 1, 0.75)), "")
        return f"; did you mean {near}?" if near else f". Rules: {', '.join(sorted(self._names))}"

    def _options(self, rule: Rule) -> dict[str, object]:
        given = self.config.rules.get(rule.id, {})
        for key, value in given.items():
            if key not in rule.options:
                raise ConfigError(
                    f"[lint.rules.{rule.id}] has no option {key!r}; it has: {', '.join(rule.options) or 'none'}"
                )
            default = rule.options[key]
            if default is not None and type(value) not in (type(default), int if type(default) is float else None):
                raise ConfigError(f"[lint.rules.{rule.id}] {key} = {value!r}; its default is {default!r}: it must be "
                                  "of the same kind")  # fmt: skip
        return {**rule.options, **given}

    def skips(self, source: bytes) -> bool:
        """Whether the prefilter already knows that `source` has no finding."""
        return not self._prefilter.rules(source)

    def lint(self, source: bytes, path: str) -> list[Finding]:
        """The findings of a Python source, in order; a file that cannot be parsed has one, TG000.

        What no rule is concerned with is not parsed, so its syntax errors are another linter's to report, unless
        TG000 is selected by its full id.
        """
        ignored = self._ignored_for(path)
        concerned = self._prefilter.rules(source) - ignored
        if concerned & self._not_in_tests and is_test(path):
            concerned -= self._not_in_tests
        if not concerned and not self._parses_all:
            return []
        if len(source) > _LARGEST:
            return self.broken(
                path,
                f"The file has {len(source):,} bytes; above {_LARGEST:,} it is taken for generated and not linted.",
            )
        from tokenguard.lint.syntax import TooNew, parse

        try:
            if not concerned:
                parse(source)
                return []
            findings = self._check(self.project.module(path, source), concerned)
        except TooNew as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            message = (
                f"Valid in a newer Python than {version}, which cannot read it: run TokenGuard with the newer one."
            )
            return self.broken(path, message, error.lineno or 1, "info")
        except SyntaxError as error:
            return self.broken(path, f"Not valid Python: {error.msg}", error.lineno or 1)
        except (ValueError, RecursionError, MemoryError) as error:
            return self.broken(path, f"Cannot be parsed: {error or type(error).__name__}")
        except LookupError as error:  # an encoding nobody knows, in a coding comment
            return self.broken(path, f"Cannot be decoded: {error}")
        if findings or suppress.UNUSED in concerned:
            judged = self.enabled - ignored
            findings = suppress.apply(findings, decode(source), path, judged, self._names)
            unused = self.config.severity.get(suppress.UNUSED)
            if unused is not None:
                findings = [f._replace(severity=unused) if f.rule == suppress.UNUSED else f for f in findings]
        return sorted(findings, key=lambda f: f.order)

    def broken(self, path: str, message: str, line: int = 1, severity: Severity = "error") -> list[Finding]:
        """The TG000 finding of a file that could not be read or parsed, if TG000 is enabled.

        A template (`{{cookiecutter.name}}/app.py`) has none: it becomes Python where it is filled in.
        """
        if BROKEN not in self.enabled or "{{" in path or BROKEN in self._ignored_for(path):
            return []
        severity = self.config.severity.get(BROKEN, severity)
        return [Finding(BROKEN, self._names[BROKEN], severity, message, path, Span(line, 0, line, 0))]

    def _check(self, module: Module, concerned: set[str]) -> list[Finding]:
        from tokenguard.lint.rulebook import File

        file = File(module, self.project)
        file.limits = self.config.limits
        findings: dict[tuple[str, Span], Finding] = {}
        for rule in self.rules:
            if rule.id not in concerned:
                continue
            file.options = self.options[rule.id]
            named = self._named(rule.id)
            check = self._checks.get(rule.id) or self._checks.setdefault(rule.id, rule.check)
            for report in check(file):
                if not (report.sure or named):
                    continue
                severity = self.config.severity.get(rule.id) or report.severity or rule.severity
                span = Span.of(report.node)
                fix = report.fix if severity != "info" or named else None  # notes only when asked for
                found = Finding(rule.id, rule.name, severity, report.message, module.path, span, fix)
                findings.setdefault((rule.id, span), found)
        file.forget()
        return list(findings.values())

    def _named(self, rule_id: str) -> bool:
        """Whether a rule is selected by itself or by its group (TG116, TG11), rather than with all others."""
        return any(code[-1:].isdigit() and rule_id.startswith(code) for code in self.config.select)

    def _ignored_for(self, path: str) -> set[str]:
        ignores = self.config.per_file_ignores
        if not ignores:
            return set()
        place = relative(path, self.config)
        codes = [code for glob, codes in ignores.items() if matches(place, (glob,)) for code in codes]
        return {rule for rule in self._names if any(prefixes(code, rule) for code in codes)}
