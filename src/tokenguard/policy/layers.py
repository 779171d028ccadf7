"""Policies in layers: a floor that the platform lays, and a nearer file that may tighten it and never loosen it.

Every limit, budget and breaker applies that matches a call, so those of the nearer file only add. Rules that change
what a call gets (`CHANGES`) are the floor's alone. The nearer file's other values are taken where they are stricter, or
where the floor says nothing and no money hangs on it, or where the floor's `may_override` names them. What is not taken
is told (`Policy.untaken`), and every value knows where it is from (`Policy.origins`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy import kinds
from tokenguard.policy.grammar import Key, rows
from tokenguard.policy.locate import Path
from tokenguard.policy.model import Policy

STRICTNESS: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("observe", "enforce"),
    "on_internal_error": ("allow", "block"),
    "unpriced": ("allow", "", "block_budgets"),
}
"""Words of a key from the loosest to the strictest; an empty one stands for all others."""
GUARDED: Final = ("prices", "hosts", "may_override")
"""What a nearer file may not say on its own: at what rates the money is counted. Nor where, if the floor has budgets,
nor where answers are kept, if it has a cache; nor which code is run."""
CHANGES: Final = ("cache", "route", "share")
"""Kinds of rules that refuse nothing: they give a call another's answer, keep its own, or send it to another model."""
FREE: Final = ("lint", "whatif")
"""What is no part of the guard: the nearer file's word, as a whole."""


class Layer(NamedTuple):
    """A policy as one file states it."""

    policy: Policy
    raw: Mapping[str, Any]
    line_of: Callable[[Path], int]
    file: str

    def says(self, *path: str) -> bool:
        """Whether the file has this key."""
        value: Any = self.raw
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return False
            value = value[key]
        return True

    def at(self, *path: str | int) -> str:
        """Where in the file: `tokenguard.toml:3`."""
        return f"{self.file}:{self.line_of(path)}"


def alone(layer: Layer) -> Policy:
    """The policy of one file, with the place of each value in it."""
    return replace(layer.policy, origins=dict(_places(layer)))


def laid(floor: Layer, near: Layer) -> Layer:
    """A nearer file on a floor: what comes of both, as a floor for a file that is nearer still."""
    raw = {key: _union(floor.raw.get(key), near.raw.get(key)) for key in {**floor.raw, **near.raw}}
    return Layer(_Laying(floor, near).policy(), raw, floor.line_of, floor.file)


def _union(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**above, **below}
    return above if below is None else below


def _places(layer: Layer) -> Iterator[tuple[str, str]]:
    for row in rows(Policy):
        if row.many:
            for index, rule in enumerate(getattr(layer.policy, row.field)):
                yield label(row, rule), layer.at(row.toml, index)
        elif row.table is not None and row.kind is None:
            yield from (
                (f"{row.toml}.{each.toml}", layer.at(row.toml, each.toml))
                for each in rows(row.table)
                if layer.says(row.toml, each.toml)
            )
        elif layer.says(row.toml):
            yield row.toml, layer.at(row.toml)


def label(row: Key, rule: Any) -> str:
    """How a rule is named: `[[limit]] "support answers"`."""
    return f"[[{row.toml}]] {json.dumps(rule.name, ensure_ascii=False)}"


class _Laying:
    """One file laid on another."""

    def __init__(self, floor: Layer, near: Layer) -> None:
        self.floor = floor
        self.near = near
        self.places = dict(floor.policy.origins or _places(floor))
        self.untaken: list[str] = []

    def policy(self) -> Policy:
        values = {row.field: self._value(row) for row in rows(Policy)}
        # A ledger's file is where the layer is that names it; the default one stays the nearer file's.
        source = (self.floor if self.floor.says("ledger", "url") else self.near).policy.source
        return Policy(**values, source=source, origins=self.places, untaken=tuple(self.untaken))

    def _value(self, row: Key) -> Any:
        below, above = (getattr(layer.policy, row.field) for layer in (self.floor, self.near))
        if row.many:
            return (*self._kept(row, below, above), *self._added(row, above))
        if row.table is None or row.kind is not None:
            return self._chosen(row, below, above, row.toml)
        taken = {
            each.field: self._chosen(each, getattr(below, each.field), getattr(above, each.field), row.toml, each.toml)
            for each in rows(row.table)
        }
        return replace(below, **taken)

    def _kept(self, row: Key, below: tuple[Any, ...], above: tuple[Any, ...]) -> Iterator[Any]:
        """The floor's rules, but for those that a nearer one may take the place of."""
        names = {rule.name for rule in above}
        yield from (rule for rule in below if rule.name not in names or not self._may(rule.name))

    def _added(self, row: Key, above: tuple[Any, ...]) -> Iterator[Any]:
        """The nearer file's rules, but for those with the name of a floor's, that name code, or that change answers."""
        taken = {rule.name for rule in self.floor.policy.rules}
        for index, rule in enumerate(above):
            code = any(each.kind in kinds.CODE and getattr(rule, each.field) for each in rows(type(rule)))
            changes = row.toml in CHANGES and not self._may(row.toml)
            if (code or changes or rule.name in taken) and not self._may(rule.name):
                self._refuse(label(row, rule), self.near.at(row.toml, index))
                continue
            self.places[label(row, rule)] = self.near.at(row.toml, index)
            yield rule

    def _chosen(self, row: Key, below: Any, above: Any, *path: str) -> Any:
        """The value of a key: the nearer file's word where that counts. Where it does not, that is told."""
        key = ".".join(path)
        if not self.near.says(*path) or above == below:
            return below
        may, said = self._may(key) or path[0] in FREE, self.floor.says(*path)
        if may or self._is_stricter(key) or (not said and not self._is_guarded(row, key)):
            self.places[key] = self.near.at(*path)
            if key == "prices":  # the first that matches wins
                return {**above, **{name: rate for name, rate in below.items() if name not in above}}
            return above
        if isinstance(below, Mapping) and not self._is_guarded(row, key):
            return {**above, **below}
        if isinstance(below, tuple) and not self._is_guarded(row, key):
            return tuple(dict.fromkeys((*below, *above)))
        self._refuse(key, self.near.at(*path))
        return below

    def _may(self, key: str) -> bool:
        return any(fnmatchcase(key, glob) for glob in self.floor.policy.may_override)

    def _is_stricter(self, key: str) -> bool:
        words = STRICTNESS.get(key)
        if words is None:
            return False
        below, above = (getattr(layer.policy, key) for layer in (self.floor, self.near))
        rank = [words.index(word) if word in words else words.index("") for word in (below, above)]
        return rank[1] > rank[0]

    def _is_guarded(self, row: Key, key: str) -> bool:
        counts = key.startswith("ledger.") and (self.floor.policy.budgets or self.floor.says("ledger"))
        keeps = key.startswith("answers.") and (self.floor.policy.caches or self.floor.says("answers"))
        return bool(counts or keeps) or row.kind in kinds.CODE or key in STRICTNESS or key in GUARDED

    def _refuse(self, key: str, place: str) -> None:
        self.untaken.append(
            f"{place}: {key} is not taken: {self.floor.file} is the floor, which a nearer file may tighten only. "
            "Take it out, or have the floor name it in may_override"
        )
