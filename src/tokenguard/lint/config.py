"""The linter's settings: the `[lint]` table of tokenguard.toml, or `[tool.tokenguard.lint]` of pyproject.toml.

Only what the linter needs is read here; the policy's own reader judges the rest of the file. The nearest file above a
linted file holds for it, as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.finding import SEVERITIES, Severity
from tokenguard.lint.sources import Stamp, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
        chosen = max((len(p) for p in self.select if prefixes(p, rule)), default=-1)
        dropped = max((len(p) for p in self.ignore if prefixes(p, rule)), default=-1)
        return chosen > dropped

    def choosing(self, select: tuple[str, ...] | None, extend: tuple[str, ...], ignore: tuple[str, ...]) -> Config:
        """These settings with what a command line chooses: it is said later, so it wins, however general it is.

        A `select` of its own puts aside what the settings select and ignore.
        """
        if select is not None:
            return self._replace(select=(*select, *extend), ignore=ignore)
        kept = _beside(ignore, self.select)
        return self._replace(select=(*kept, *extend), ignore=(*_beside(extend, self.ignore), *ignore))


def prefixes(prefix: str, rule: str) -> bool:
    """Whether `prefix` names a rule, or a group that it is in."""
    return prefix == "ALL" or rule.startswith(prefix)


def _beside(wider: tuple[str, ...], codes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `codes` that none of `wider` takes in."""
    return tuple(code for code in codes if not any(prefixes(other, code) for other in wider))


def code(name: str) -> str:
    """A rule's id, or the beginning of one, as it is compared: in capitals, however it was typed."""
    return name if "-" in name else name.upper()


class Settings:
    """The settings of every folder: those of `file` for all, or for each those of the nearest file above it.

    `change` is applied to each: what the command line says holds everywhere. Only where they are `watched` can they say
    whether they have `changed`.
    """

    def __init__(
        self,
        file: Place | None = None,
        *,
        isolated: bool = False,
        change: Callable[[Config], Config] = lambda c: c,
        watched: bool = False,
    ) -> None:
        self._change = change
        self._known: dict[str, Config] = {}
        self._watched = watched
        self._seen: dict[str, Stamp | None] = {}
        named = file or _named()
        self._all: Config | None = None
        if isolated:
            self._all = change(Config(root=os.getcwd()))
        elif named is not None:
            self._look(str(named))
            self._all = change(read(named))

    def of(self, folder: str) -> Config:
        """The settings that hold in a folder. Raises ConfigError."""
        if self._all is not None:
            return self._all
        folder = os.path.abspath(folder)
        known = self._known.get(folder)
        if known is None:
            for name in FILES:
                self._look(os.path.join(folder, name))
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

    def _look(self, file: str) -> None:
        if self._watched:
            self._seen[file] = stamp(file)

    def changed(self) -> bool:
        """Whether a settings file has changed, come or gone since it was looked for."""
        return any(stamp(file) != seen for file, seen in self._seen.items())


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
        tools = _table(file, "tool", document.get("tool", {}))
        document = _table(file, "tool.tokenguard", tools.get("tokenguard", {}))
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
    table = _table(file, "lint", document.get("lint", {}))
    for key in table:
        if key not in _KEYS:
            import difflib

            near = difflib.get_close_matches(key, _KEYS, 1)
            raise ConfigError(
                f"{file}: [lint] has no key {key!r}"
                + (f"; did you mean {near[0]!r}?" if near else f". Keys: {', '.join(_KEYS)}")
            )

    def codes(key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(map(code, _strings(file, key, table.get(key, default))))

    def tables(key: str) -> dict[str, Any]:
        return _table(file, f"lint.{key}", table.get(key, {}))

    severity: Mapping[str, Any] = {code(rule): value for rule, value in tables("severity").items()}
    for rule, value in severity.items():
        if value not in SEVERITIES:
            raise ConfigError(f"{file}: [lint] severity.{rule} = {value!r}; it must be one of {', '.join(SEVERITIES)}")
    gitignore = table.get("respect-gitignore", True)
    if not isinstance(gitignore, bool):
        raise ConfigError(f"{file}: [lint] respect-gitignore = {gitignore!r}; it must be true or false")
    ignored = {
        glob: tuple(map(code, _strings(file, f'per-file-ignores."{glob}"', value)))
        for glob, value in tables("per-file-ignores").items()
    }
    return Config(
        root=os.path.dirname(file) or ".",
        select=(*codes("select", ("TG",)), *codes("extend-select")),
        ignore=codes("ignore"),
        severity=severity,
        exclude=_strings(file, "exclude", table.get("exclude", ())),
        per_file_ignores=ignored,
        plugins=_strings(file, "plugins", table.get("plugins", ())),
        rules={code(rule): _table(file, f"lint.rules.{rule}", value) for rule, value in tables("rules").items()},
        respect_gitignore=gitignore,
        limits=_limits(document),
        file=file,
    )


def _table(file: Place, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: {name} = {value!r}; it must be a table")
    return value


def _strings(file: Place, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{file}: [lint] {key} = {value!r}; it must be a list of strings")
    return tuple(value)


def _limits(document: Mapping[str, Any]) -> tuple[OutputCap, ...]:
    """The output limits of the policy. Malformed entries are the policy reader's to report."""
    clamping = document.get("mode", "enforce") == "enforce"
    entries = document.get("limit")
    found = []
    for entry in entries if isinstance(entries, list) else ():
        match entry:
            case {"max_output_tokens": int(tokens), **rest} if (when := _globs(rest.get("when", {}))) is not None:
                clamps = clamping and rest.get("then") == "clamp"
                found.append(OutputCap(str(rest.get("name", "limit")), when, tokens, clamps))
    return tuple(found)


def _globs(when: object) -> Mapping[str, tuple[str, ...]] | None:
    """The globs of each name in `when`; None where it holds anything else."""
    if not isinstance(when, dict) or not all(isinstance(value, str | list) for value in when.values()):
        return None
    return {key: (value,) if isinstance(value, str) else tuple(map(str, value)) for key, value in when.items()}
