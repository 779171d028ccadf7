"""A row of the grammar: one key of a table of the policy file, carried by the dataclass field with its value."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Any

from tokenguard.facts.frozen import dataclass
from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy.kinds import Kind

NAME_SAYS = "Unique among all rules; the `rule` of spans, metrics and exceptions."
WHEN_SAYS = "The calls it applies to: every key must match one of its globs. Empty: all calls."


class Key(NamedTuple):
    """One key of one table of the policy file."""

    field: str
    toml: str
    kind: Kind | None
    """How to read the value; `None` where `table` is set."""
    says: str
    default: Any
    """`MISSING` where the key is required."""
    table: type | None = None
    many: bool = False
    """`table` may be repeated: `[[limit]]`."""


def row(kind: Kind | None, default: Any, says: str, *, toml: str = "", table: type | None = None) -> Any:
    """A dataclass field that carries its row of the grammar; `...` as default means required."""
    told = {"kind": kind, "says": says, "toml": toml, "table": table}
    if default is ...:
        return field(metadata=told)
    if isinstance(default, dict) or callable(default):
        return field(default_factory=default if callable(default) else dict, metadata=told)
    return field(default=default, metadata=told)


def rows(table: type) -> tuple[Key, ...]:
    """The rows of a table, in the order in which they are shown."""
    out = []
    for item in fields(table):
        if "kind" not in item.metadata:
            continue
        meta, default = item.metadata, item.default
        if default is MISSING and item.default_factory is not MISSING:
            default = item.default_factory()
        many = meta["table"] is not None and default == ()
        out.append(Key(item.name, meta["toml"] or item.name, meta["kind"], meta["says"], default, meta["table"], many))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class When:
    """The calls a rule applies to: globs by key. A key that a call lacks is the empty text, which `*` matches."""

    patterns: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patterns)
