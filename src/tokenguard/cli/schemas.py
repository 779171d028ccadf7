"""JSON Schemas of what commands print with `--format json`. Units are in the names; unknown is null."""

from __future__ import annotations

from typing import Any, Final

from tokenguard.report.figures import FIGURES
from tokenguard.report.measured import QUANTILES

VERSION: Final = 1
"""Of all of these. A new one means that a key was changed or removed; keys may be added without."""

Schema = dict[str, Any]

NUMBER: Final[Schema] = {"type": ["number", "null"]}
COUNT: Final[Schema] = {"type": "integer"}
TEXT: Final[Schema] = {"type": "string"}
UNTOLD: Final[Schema] = {"type": ["string", "null"]}
TIME: Final[Schema] = {"type": ["string", "null"], "description": "ISO 8601, UTC"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_FIGURES: Final = dict.fromkeys((*FIGURES, *QUANTILES, "change_usd", "cost_share"), NUMBER)
_ARM: Final = _object(
    arm=TEXT,
    unit=TEXT,
    tasks=COUNT,
    successes=COUNT,
    success_share=NUMBER,
    usd_per_success=NUMBER,
    calls=COUNT,
    input_tokens_per_call=NUMBER,
    output_tokens_per_call=NUMBER,
    latency_p50_s=NUMBER,
    latency_p95_s=NUMBER,
)

SCHEMAS: Final[dict[str, Schema]] = {
    "tokenguard report --format json": _object(
        by=_list(TEXT),
        first_call=TIME,
        last_call=TIME,
        total=_object(**_FIGURES),
        rows=_list(_object(keys={"type": "object", "additionalProperties": UNTOLD}, **_FIGURES)),
        more_rows=COUNT,
        tasks=_list(
            _object(
                task=TEXT,
                succeeded={"type": ["integer", "null"]},
                failed={"type": ["integer", "null"]},
                cost_usd=NUMBER,
                cost_per_success_usd=NUMBER,
            )
        ),
        unpriced=_list(_object(model=TEXT, calls=COUNT)),
        estimated=_list(_object(basis=UNTOLD, cost_usd=NUMBER)),
        trend={"type": ["object", "null"]},
        findings=_list(_object(says=TEXT, usd=NUMBER, usd_is=TEXT, next_step=TEXT)),
    ),
    "tokenguard calls --format json": _list(
        _object(id=TEXT, start=TIME, duration_s=NUMBER, outcome=TEXT, attributes={"type": "object"})
    ),
    "tokenguard budgets --format json": _list(
        _object(
            budget=TEXT,
            key=TEXT,
            unit=TEXT,
            limit=NUMBER,
            spent=NUMBER,
            reserved=NUMBER,
            remaining=NUMBER,
            used_share=NUMBER,
            window_start=TIME,
            window_end=TIME,
            runs_out=TIME,
        )
    ),
    "tokenguard compare --format json": _object(
        arms={**_list(_ARM), "minItems": 2, "maxItems": 2},
        ratio=NUMBER,
        ratio_interval=_list(NUMBER),
        verdict=TEXT,
        more_tasks={"type": ["integer", "null"]},
    ),
    "tokenguard whatif --format json": _object(
        proposal=TEXT,
        calls=COUNT,
        unpriced_calls=COUNT,
        spent_usd=NUMBER,
        steps=_list({"type": "object"}),
        left_usd=NUMBER,
        left_usd_interval=_list(NUMBER),
        saved_usd=NUMBER,
        saved_share=NUMBER,
        first_call=TIME,
        last_call=TIME,
        notes=_list(TEXT),
    ),
    "tokenguard doctor --format json": _list({"type": "object"}),
    "tokenguard lint --format json": _list(
        _object(
            rule=TEXT,
            name=TEXT,
            path=TEXT,
            line=COUNT,
            column=COUNT,
            end_line=COUNT,
            severity={"enum": ["info", "warning", "error"]},
            message=TEXT,
            fix={"type": ["object", "null"], "properties": {"summary": TEXT, "safe": {"type": "boolean"}}},
        )
    ),
}
"""By the command that prints it."""
