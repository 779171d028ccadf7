"""The linter's settings: the `[lint]` table of tokenguard.toml, or `[tool.tokenguard.lint]` of pyproject.toml.

Only what the linter needs is read here; the policy's own reader judges the rest of the file. The nearest file above a
linted file holds for it, as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from tokenguard.lint.finding import SEVERITIES, Severity

_KEYS = ("select", "extend-select", "ignore", "severity", "exclude", "per-file-ignores", "plugins", "rules",
         "respect-gitignore")  # fmt: skip
Place = str | os.PathLike[str]
FILES = ("tokenguard.toml", "pyproject.toml")
_EMPTY: Mapping[str, Any] = {}


class ConfigError(ValueError):
    """A setting that cannot be followed; the message names the file, the key and the nearest valid one."""


class OutputCap(NamedTuple):
    """A `[[limit]]` with `max_output_tokens`: its name, its globs, the number, and whether it clamps."""

    name: str
    when: Mapping[str, tuple[str, ...]]
    max_output_tokens: int
    clamps: bool


class Config(NamedTuple):
    """What to lint and how. `root` is the folder that relative patterns start from, `file` where this was read."""

    root: Place
    select: tuple[str, ...] = ("TG",)
    ignore: tuple[str, ...] = ()
    severity: Mapping[str, Severity] = _EMPTY
    exclude: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, tuple[str, ...]] = _EMPTY
    plugins: tuple[str, ...] = ()
    rules: Mapping[str, Mapping[str, Any]] = _EMPTY
    respect_gitignore: bool = True
    limits: tuple[OutputCap, ...] = ()
    file: Place | None = None
    allow_plugins: bool = False  # only a person's own command line says so

    def enabled(self, rule: str) -> bool:
        """Whether `rule` is selected and not ignored; the longer prefix wins, and `ignore` wins a tie."""
        chosen = max((len(p) for p in self.select if _prefixes(p, rule)), default=-1)
        dropped = max((len(p) for p in self.ignore if _prefixes(p, rule)), default=-1)
        return chosen > dropped

    def override(self, **values: Any) -> Config:
        """A copy in which the values that are not None replace these."""
        return self._replace(**{k: v for k, v in values.items() if v is not None})


def _prefixes(prefix: str, rule: str) -> bool:
    return prefix == "ALL" or rule.startswith(prefix)


class Settings:
    """The settings of every folder: those of `file` for all, or for each those of the nearest file above it.

    `change` is applied to each: what the command line says holds everywhere.
    """

    def __init__(
        self, file: Place | None = None, *, isolated: bool = False, change: Callable[[Config], Config] = lambda c: c
    ) -> None:
        self._change = change
        self._known: dict[str, Config] = {}
        named = file or _named()
        self._all: Config | None = None
        if isolated:
            self._all = change(Config(root=os.getcwd()))
        elif named is not None:
            self._all = change(read(named))

    def of(self, folder: str) -> Config:
        """The settings that hold in a folder. Raises ConfigError."""
        if self._all is not None:
            return self._all
        folder = os.path.abspath(folder)
        known = self._known.get(folder)
        if known is None:
            found = settings_file(folder)
            above = os.path.dirname(folder)
            if found is not None:
                known = self._change(read(found))
            elif above == folder:
                known = self._change(Config(root=os.getcwd()))
            else:
                known = self.of(above)
            self._known[folder] = known
        return known


def load(file: Place | None = None, start: Place | None = None) -> Config:
    """The settings in `file`, or those that hold in the folder `start` (the working directory). Raises ConfigError."""
    return Settings(file).of(str(start or os.getcwd()))


def read(file: Place) -> Config:
    """The settings in a file. Raises ConfigError."""
    import tomllib

    try:
        with open(file, "rb") as opened:
            document = tomllib.loads(opened.read().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    if os.path.basename(file) == "pyproject.toml":
        document = document.get("tool", {}).get("tokenguard", {})
    return parse(document, file)


def _named() -> str | None:
    return os.environ.get("TOKENGUARD_POLICY") or None


def settings_file(folder: str) -> str | None:
    """The file with settings in `folder` itself, if it has one."""
    own, project = (os.path.join(folder, name) for name in FILES)
    if os.path.isfile(own):
        return own
    try:
        with open(project, "rb") as file:
            return project if b"[tool.tokenguard" in file.read() else None
    except OSError:
        return None


def parse(document: Mapping[str, Any], file: Place) -> Config:
    """The settings in a policy document read from `file`. Raises ConfigError."""
    table = document.get("lint", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: lint must be a table, not {table!r}")
    for key in table:
        if key not in _KEYS:
            import difflib

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
        root=os.path.dirname(file) or ".",
        select=(*_strings(file, table, "select", ("TG",)), *_strings(file, table, "extend-select")),
        ignore=_strings(file, table, "ignore"),
        severity=cast("Mapping[str, Severity]", severity),
        exclude=_strings(file, table, "exclude"),
        per_file_ignores={k: _strings(file, table["per-file-ignores"], k) for k in table.get("per-file-ignores", {})},
        plugins=_strings(file, table, "plugins"),
        rules=rules,
        respect_gitignore=bool(table.get("respect-gitignore", True)),
        limits=_limits(document),
        file=file,
    )


def _strings(file: Place, table: Mapping[str, Any], key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    value = table.get(key, default)
    if isinstance(value, str) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{file}: [lint] {key} = {value!r}; it must be a list of strings")
    return tuple(value)


def _limits(document: Mapping[str, Any]) -> tuple[OutputCap, ...]:
    """The output limits of the policy. Malformed entries are the policy reader's to report."""
    found = []
    clamping = document.get("mode", "enforce") == "enforce"
    for entry in document.get("limit", ()):
        tokens = entry.get("max_output_tokens") if isinstance(entry, dict) else None
        if isinstance(tokens, int):
            when = entry.get("when", {})
            globs = {k: (v,) if isinstance(v, str) else tuple(map(str, v)) for k, v in when.items()}
            found.append(
                OutputCap(str(entry.get("name", "limit")), globs, tokens, clamping and entry.get("then") == "clamp")
            )
    return tuple(found)
