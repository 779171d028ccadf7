"""Three-valued facts about calls: an argument is present, absent, or unknown.

`Facts.look(call, "config.max_output_tokens")` looks into whatever holds the argument (see `views`). Rules report only
what is ABSENT.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from enum import Enum
from functools import cache

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.syntax import spelling
from tokenguard.lint.views import Views

_SENTINELS = frozenset({"NOT_GIVEN", "omit", "Omit", "NotGiven", "UNSET"})


class Presence(Enum):
    """What is known of an argument."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Fact(NamedTuple):
    """The presence of an argument and, when present, an expression that gives it."""

    presence: Presence
    value: ast.expr | None = None

    def __bool__(self) -> bool:
        raise TypeError("A fact has three values; compare `.presence`")


ABSENT = Fact(Presence.ABSENT)
UNKNOWN = Fact(Presence.UNKNOWN)


@cache
def _heads(paths: tuple[str, ...]) -> frozenset[str]:
    """The keywords that `paths` begin with."""
    return frozenset(path.partition(".")[0] for path in paths)


class Facts(Views):
    """Answers questions about one module; `project` reads the other modules it imports from."""

    def look(self, node: ast.expr, path: str, *, nested: bool = False) -> Fact:
        """The fact about the part of `node` that `path` names: a keyword, or `config.max_output_tokens` within one."""
        name, _, rest = path.partition(".")
        view = self.arguments(node) if isinstance(node, ast.Call) and not nested else self.view(node)
        value = view.known.get(name)
        if value is None:
            return UNKNOWN if view.open else ABSENT
        if self.is_none(value):
            return ABSENT
        if not rest:
            return Fact(Presence.PRESENT, value)
        return self.look(value, rest, nested=True)

    def any_of(self, node: ast.expr, paths: Iterable[str]) -> Fact:
        """The strongest fact over several paths: present if one is, absent only if all are."""
        facts = [self.look(node, path) for path in paths]
        present = next((f for f in facts if f.presence is Presence.PRESENT), None)
        if present is not None:
            return present
        return UNKNOWN if any(f.presence is Presence.UNKNOWN for f in facts) else ABSENT

    def shows(self, call: ast.Call, paths: tuple[str, ...]) -> bool:
        """Whether a call is certainly given one of `paths`."""
        if _heads(paths).isdisjoint(self.arguments(call).known):
            return False
        return any(self.look(call, path).presence is Presence.PRESENT for path in paths)

    def is_none(self, node: ast.expr) -> bool:
        """Whether `node` is literally nothing: None, or an SDK's "not given" mark."""
        if isinstance(node, ast.Constant):
            return node.value is None
        return isinstance(node, ast.Name | ast.Attribute) and (spelling(node) or "").rpartition(".")[2] in _SENTINELS
