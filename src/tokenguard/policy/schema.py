"""The policy file as a JSON Schema, for editors and for checks by other tools; from the same rows that read it."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any, Final

from tokenguard.policy.grammar import Key, rows
from tokenguard.policy.model import Budget, Limit, Policy

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
"""The draft that editors of TOML files (taplo, Even Better TOML, PyCharm) understand."""


def schema() -> dict[str, Any]:
    """The schema of `tokenguard.toml`. What no schema can say (names are unique, globs close) `policy check` says."""
    return {
        "$schema": DRAFT,
        "title": "TokenGuard policy",
        "description": "tokenguard.toml, or the tables under [tool.tokenguard] in pyproject.toml.",
        **_table(Policy),
    }


def _table(table: type) -> dict[str, Any]:
    grammar = rows(table)
    required = [row.toml for row in grammar if row.default is MISSING]
    made: dict[str, Any] = {
        "type": "object",
        "properties": {row.toml: _value(row) for row in grammar},
        "additionalProperties": False,
    }
    if required:
        made["required"] = required
    return made | _together(table)


def _together(table: type) -> dict[str, Any]:
    """What must be there together: the checks of `CHECKS` that a schema can say."""
    down = {
        "if": {"properties": {"then": {"const": "downgrade"}}, "required": ["then"]},
        "then": {"required": ["downgrade_to"]},
    }
    if table is Limit:
        ceilings = [row.toml for row in rows(Limit) if row.toml.startswith("max_")]
        return {"anyOf": [{"required": [key]} for key in ceilings], "allOf": [down]}
    if table is Budget:
        limits = [row.toml for row in rows(Budget) if row.toml.startswith("limit_")]
        return {"anyOf": [{"required": [key]} for key in limits], "allOf": [down]}
    return {}


def _value(row: Key) -> dict[str, Any]:
    said = {"description": row.says.replace("`", "")} if row.says else {}
    if row.table is None:
        shown = dict(row.kind.schema) if row.kind else {}
    elif row.many:
        shown = {"type": "array", "items": _table(row.table)}
    elif row.kind is not None:
        shown = {"anyOf": [dict(row.kind.schema), _table(row.table)]}
    else:
        shown = _table(row.table)
    if row.table is not None and row.table.__doc__ and not said:
        said = {"description": row.table.__doc__.replace("`", "")}
    if isinstance(row.default, str | bool | int | float):
        said["default"] = row.default  # type: ignore[assignment]
    return {**said, **shown}
