"""From the mapping that TOML gave to a `Policy`, or to one `PolicyError` that names everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, Final

from tokenguard.facts.errors import PolicyError
from tokenguard.policy.checks import CHECKS
from tokenguard.policy.grammar import Key, rows
from tokenguard.policy.kinds import LEDGER_URL, Wrong, nearest
from tokenguard.policy.locate import Path
from tokenguard.policy.model import TASK_RUN, Budget, Policy

MAX_PROBLEMS: Final = 20
MAX_RULES: Final = 1000
_MISSING: Final = object()


def read(raw: Mapping[str, Any], filename: str, line_of: Callable[[Path], int] | None, source: str = "") -> Policy:
    """The policy that `raw` states.

    `line_of` gives the line of a key (`None`: no file, no lines). Raises `PolicyError` with a line per problem:
    file, line, table, key, value, what is wrong with it, and what to write instead.
    """
    reader = _Reader(raw, filename, line_of)
    policy: Policy | None = reader.table(Policy, raw, (), source=source)
    if policy is not None:
        reader.check_whole(policy)
    if policy is None or reader.problems:
        raise PolicyError(_message(filename, reader.problems))
    return policy


def read_table(table: type, raw: Mapping[str, Any], filename: str, line_of: Callable[[Path], int] | None) -> Any:
    """An instance of `table`, whose fields are rows of the grammar, from what `raw` states; raises `PolicyError`."""
    reader = _Reader(raw, filename, line_of)
    made = reader.table(table, raw, ())
    if reader.problems:
        raise PolicyError(_message(filename, reader.problems))
    return made


def _message(filename: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    more = [f"... and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "\n  ".join([f"{filename}: {len(problems)} problems", *problems[:MAX_PROBLEMS], *more])


class _Reader:
    """One pass over one file; collects problems instead of stopping at the first."""

    def __init__(self, raw: Mapping[str, Any], filename: str, line_of: Callable[[Path], int] | None) -> None:
        self._found: list[tuple[int, str]] = []
        self._raw = raw
        self._filename = filename
        self._line_of = line_of

    @property
    def problems(self) -> list[str]:
        """What is wrong, in the order of the file."""
        return [problem for _, problem in sorted(self._found, key=lambda found: found[0])]

    def table(self, table: type, raw: object, path: Path, **given: Any) -> Any:
        """An instance of `table`, or `None` after noting why not."""
        if not isinstance(raw, Mapping):
            return self._wrong(path, "it must be a table")
        grammar = {row.toml: row for row in rows(table)}
        before = len(self._found)
        for key in raw.keys() - grammar.keys():
            known = ", ".join(grammar)
            self._wrong((*path, key), f"there is no such key{nearest(key, grammar)} Keys here: {known}")
        values = {row.field: self._value(row, raw, (*path, row.toml)) for row in grammar.values()}
        if len(self._found) > before:
            return None
        made = table(**values, **given)
        for check in CHECKS:
            if check.table is table and check.fails(made):
                self._wrong((*path, check.key), check.why)
        return made

    def _value(self, row: Key, raw: Mapping[str, Any], path: Path) -> Any:
        value = raw.get(row.toml, _MISSING)
        if value is _MISSING:
            if row.default is not MISSING:
                return row.default
            return self._wrong(path, f"it is missing; add {row.toml} = ... ({row.kind.words if row.kind else 'table'})")
        if row.many and row.table is not None:
            return self._tables(row.table, value, path)
        if row.table is not None and (row.kind is None or isinstance(value, Mapping)):
            return self.table(row.table, value, path)
        try:
            read = row.kind.read(value) if row.kind else value
        except Wrong as wrong:
            return self._wrong((*path, *wrong.at), wrong.why)
        return type(row.default)(read) if row.toml == "when" else read

    def _tables(self, table: type, value: object, path: Path) -> Any:
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            return self._wrong(path, f"it is a list of tables: write [[{path[-1]}]] above each")
        if len(value) > MAX_RULES:
            return self._wrong(path, f"{len(value)} of them, the most is {MAX_RULES}")
        return tuple(self.table(table, item, (*path, index)) for index, item in enumerate(value))

    def check_whole(self, policy: Policy) -> None:
        """What no single table can know: names are unique, and rules name only keys that exist."""
        first: dict[str, Path] = {}
        known = policy.known_keys
        for row in (row for row in rows(Policy) if row.many):
            for index, rule in enumerate(getattr(policy, row.field)):
                path: Path = (row.toml, index)
                if rule.name in first:
                    self._wrong(
                        (*path, "name"), f"{self._label(first[rule.name])} has this name too; rename one of them"
                    )
                first.setdefault(rule.name, path)
                keys: list[tuple[str, str | int, str]] = [("when", key, key) for key, _ in rule.when.patterns]
                for listed in ("per", "by"):
                    keys += [(listed, position, key) for position, key in enumerate(getattr(rule, listed, ()))]
                for table, at, key in keys:
                    if key not in known and not (key == TASK_RUN and table == "per" and isinstance(rule, Budget)):
                        self._wrong(
                            (*path, table, at),
                            f'no such attribution key "{key}"{nearest(key, known)} '
                            f'A key of your own is declared once: [attribution] keys = ["{key}"]',
                        )

    def _label(self, path: Path) -> str:
        """`[[limit]] "support answers"` (line 12)."""
        raw: Any = self._at(path)
        name = raw.get("name") if isinstance(raw, Mapping) else None
        where = f" (line {self._line_of(path)})" if self._line_of else ""
        return f"[[{path[0]}]] {json.dumps(name, ensure_ascii=False)}{where}"

    def _at(self, path: Path) -> Any:
        value: Any = self._raw
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return _MISSING
        return value

    def _wrong(self, path: Path, why: str) -> None:
        where = self._filename + (f":{self._line_of(path)}" if self._line_of else "")
        table = ""
        keys = list(path)
        if len(path) > 1 and isinstance(path[1], int):
            raw = self._at(path[:2])
            name = raw.get("name") if isinstance(raw, Mapping) else None
            table = f"[[{path[0]}]] " + (
                json.dumps(name, ensure_ascii=False)[:80] if isinstance(name, str) else f"#{path[1] + 1}"
            )
            keys = keys[2:]
        elif len(path) > 1:
            table = f"[{path[0]}]"
            keys = keys[1:]
        key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in keys).lstrip(".")
        value = self._at(path)
        shown = key if value is _MISSING else f"{key} = {_shown(value)}" if key else ""
        line = self._line_of(path) if self._line_of else 0
        self._found.append((line, ": ".join(part for part in (where, table, shown, why) if part)))


def _shown(value: object) -> str:
    """A value as the file has it, shortened, without a URL's credentials."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = str(type(value).__name__)
    text = LEDGER_URL.mask(text)
    return text if len(text) <= 60 else text[:57] + "..."
