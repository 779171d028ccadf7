"""Whose a bill's projects, workspaces and keys are, and which measured calls are theirs: `[reconcile]` of a policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import PolicyError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.explain import Cell, Compared, compare
from tokenguard.invoice.lines import Line
from tokenguard.invoice.measured import Measured, both

TABLES: Final[Mapping[str, str]] = {"project": "projects", "key": "keys"}
"""What a comparison is by, with its table in `[reconcile]`."""
NOBODY: Final = "(no {})"
"""Calls that no row of the table is about, and lines of bills without an account."""
OTHER: Final = "(others)"


class Account(NamedTuple):
    """A project, a workspace or a key that is ours."""

    name: str
    calls: Mapping[str, str] = {}
    """The attribution of its calls, as globs; empty where the policy does not say."""

    def has(self, attribution: Mapping[str, Any]) -> bool:
        """Whether a call is its."""
        return bool(self.calls) and all(
            fnmatchcase(str(attribution.get(key) or ""), glob) for key, glob in self.calls.items()
        )


def accounts(given: Mapping[str, Any], by: str = "project") -> dict[str, Account] | None:
    """The accounts of `[reconcile]` by their ids; `None` without a table: all that is billed is ours then.

    A row is what an account is for, or the attribution of its calls: `{ team = "search", feature = "chat-*" }`. Raises
    `PolicyError`.
    """
    if unknown := set(given) - set(TABLES.values()):
        known = ", ".join(TABLES.values())
        raise PolicyError(f"[reconcile] {', '.join(sorted(unknown))}: there is no such key. Keys here: {known}")
    table = given.get(TABLES[by])
    if table is None:
        return None
    if not isinstance(table, dict):
        raise PolicyError(f'[reconcile] {TABLES[by]}: a table of ids with what they are for, {{ abc = "search" }}')
    return {name: _account(f"[reconcile.{TABLES[by]}] {name}", row) for name, row in table.items()}


def _account(where: str, row: object) -> Account:
    if isinstance(row, str):
        return Account(row)
    if not isinstance(row, dict) or not row or not all(isinstance(value, str) for value in row.values()):
        raise PolicyError(f'{where}: what it is for, as "search", or whose its calls are, as {{ team = "search" }}')
    if unknown := set(row) - set(names.ATTRIBUTION_KEYS):
        known = ", ".join(names.ATTRIBUTION_KEYS)
        raise PolicyError(f"{where}: {', '.join(sorted(unknown))}: no such attribution. There is {known}")
    return Account(" ".join(f"{key}={value}" for key, value in row.items()), row)


def keys_of(known: Mapping[str, Account] | None) -> tuple[str, ...]:
    """The keys of the attribution by which calls are told apart."""
    return tuple(dict.fromkeys(key for account in (known or {}).values() for key in account.calls))


def by_account(
    lines: Iterable[Line],
    measured: Mapping[tuple[str | None, ...], Measured],
    keys: Sequence[str],
    known: Mapping[str, Account] | None,
    by: str,
) -> list[Compared]:
    """The comparison account by account. `measured` is by day, provider, model and `keys`."""
    billed: dict[str, list[Line]] = defaultdict(list)
    seen: dict[str, set[str]] = defaultdict(set)
    nobody = NOBODY.format(by)
    for line in lines:
        ours = known is None or line.account in known
        billed[(line.account or nobody) if ours else OTHER].append(line)
        seen[line.provider].add(line.account or "")
    calls: dict[str, dict[Cell, Measured]] = defaultdict(dict)
    for (day, provider, model, *whose), found in measured.items():
        attribution = dict(zip(keys, whose, strict=True))
        mine = (name for name, account in (known or {}).items() if name in seen[str(provider)])
        owner = next((name for name in mine if (known or {})[name].has(attribution)), nobody)
        cell = (str(day), str(provider), str(model or ""))
        calls[owner][cell] = both(calls[owner][cell], found) if cell in calls[owner] else found
    ids = None if known is None else dict.fromkeys(known, "")
    return [
        each._replace(account=f"{name} {known[name].name}" if known and name in known else name)
        for name in sorted({*billed, *calls})
        for each in compare(billed[name], calls[name], None if name == nobody else ids)
    ]
