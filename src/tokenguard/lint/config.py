"""The linter's settings: the `[lint]` table of tokenguard.toml, or `[tool.tokenguard.lint]` of pyproject.toml.

Only what the linter needs is read here; the policy's own reader judges the rest of the file.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from tokenguard.lint.finding import SEVERITIES, Severity
from tokenguard.lint.limits import Limit

_KEYS = ("select", "ignore", "severity", "exclude", "per-file-ignores", "plugins", "rules", "respect-gitignore")


class ConfigError(ValueError):
    """A setting that cannot be followed; the message names the file, the key and the nearest valid one."""


@dataclass(frozen=True)
class Config:
    """What to lint and how. `root` is the folder that relative patterns start from."""

    root: Path
    select: tuple[str, ...] = ("TG",)
    ignore: tuple[str, ...] = ()
    severity: Mapping[str, Severity] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    respect_gitignore: bool = True
    limits: tuple[Limit, ...] = ()

    def enabled(self, rule: str) -> bool:
        """Whether `rule` is selected and not ignored; the longer prefix wins, and `ignore` wins a tie."""
        chosen = max((len(p) for p in self.select if _prefixes(p, rule)), default=-1)
        dropped = max((len(p) for p in self.ignore if _prefixes(p, rule)), default=-1)
        return chosen > dropped

    def override(self, **values: Any) -> Config:
        """A copy in which the values that are not None replace these."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})


def _prefixes(prefix: str, rule: str) -> bool:
    return prefix == "ALL" or rule.startswith(prefix)


def load(file: Path | None = None, start: Path | None = None) -> Config:
    """The settings in `file`, or in the nearest file that has any, from `start` (the working directory) upwards."""
    found = file or _named() or _discover(start or Path.cwd())
    if found is None:
        return Config(root=start or Path.cwd())
    try:
        document = tomllib.loads(found.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"Cannot read {found}: {error.strerror}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{found} is not valid TOML: {error}") from error
    if found.name == "pyproject.toml":
        document = document.get("tool", {}).get("tokenguard", {})
    return parse(document, found)


def _named() -> Path | None:
    named = os.environ.get("TOKENGUARD_POLICY")
    return Path(named) if named else None


def _discover(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        if (folder / "tokenguard.toml").is_file():
            return folder / "tokenguard.toml"
        project = folder / "pyproject.toml"
        if project.is_file() and b"[tool.tokenguard" in project.read_bytes():
            return project
    return None


def parse(document: Mapping[str, Any], file: Path) -> Config:
    """The settings in a policy document read from `file`. Raises ConfigError."""
    table = document.get("lint", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: lint must be a table, not {table!r}")
    for key in table:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            raise ConfigError(
                f"{file}: [lint] has no key {key!r}"
                + (f"; did you mean {near[0]!r}?" if near else f". Keys: {', '.join(_KEYS)}")
            )
    severity = table.get("severity", {})
    for rule, value in severity.items():
        if value not in SEVERITIES:
            raise ConfigError(f"{file}: [lint] severity.{rule} = {value!r}; it must be one of {', '.join(SEVERITIES)}")
    rules = table.get("rules", {})
    if not isinstance(rules, dict) or not all(isinstance(v, dict) for v in rules.values()):
        raise ConfigError(f"{file}: [lint.rules.ID] must be tables of options")
    return Config(
        root=file.parent,
        select=_strings(file, table, "select", ("TG",)),
        ignore=_strings(file, table, "ignore"),
        severity=cast("Mapping[str, Severity]", severity),
        exclude=_strings(file, table, "exclude"),
        per_file_ignores={k: _strings(file, table["per-file-ignores"], k) for k in table.get("per-file-ignores", {})},
        plugins=_strings(file, table, "plugins"),
        rules=rules,
        respect_gitignore=bool(table.get("respect-gitignore", True)),
        limits=_limits(document),
    )


def _strings(file: Path, table: Mapping[str, Any], key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    value = table.get(key, default)
    if isinstance(value, str) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{file}: [lint] {key} = {value!r}; it must be a list of strings")
    return tuple(value)


def _limits(document: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The output limits of the policy. Malformed entries are the policy reader's to report."""
    found = []
    clamping = document.get("mode", "enforce") == "enforce"
    for entry in document.get("limit", ()):
        tokens = entry.get("max_output_tokens") if isinstance(entry, dict) else None
        if isinstance(tokens, int):
            when = entry.get("when", {})
            globs = {k: (v,) if isinstance(v, str) else tuple(map(str, v)) for k, v in when.items()}
            found.append(
                Limit(str(entry.get("name", "limit")), globs, tokens, clamping and entry.get("then") == "clamp")
            )
    return tuple(found)
