"""JSON Schemas of what commands print with `--format json`, a row each. Units are in the names; unknown is null."""

from __future__ import annotations

from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.printed import VERSION
from tokenguard.report.figures import FIGURES
from tokenguard.report.measured import QUANTILES

Schema = dict[str, Any]

NUMBER: Final[Schema] = {"type": ["number", "null"]}
COUNT: Final[Schema] = {"type": "integer"}
SOME: Final[Schema] = {"type": ["integer", "null"]}
TEXT: Final[Schema] = {"type": "string"}
UNTOLD: Final[Schema] = {"type": ["string", "null"]}
TIME: Final[Schema] = {"type": ["string", "null"], "description": "ISO 8601, UTC"}
YES: Final[Schema] = {"type": "boolean"}
INTERVAL: Final[Schema] = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _documents(**properties: Schema) -> Schema:
    return _object(version={"const": VERSION}, **properties)


_FIGURES: Final = dict.fromkeys((*FIGURES, *QUANTILES, "change_usd", "cost_share"), NUMBER)
_CALL: Final = {
    "id": TEXT,
    "start": TIME,
    "start_ns": COUNT,
    "duration_s": NUMBER,
    "outcome": _one_of(names.OK, names.ERROR, names.BLOCKED, names.ABANDONED),
    "trace_id": UNTOLD,
    "span_id": UNTOLD,
    "attributes": {"type": "object", "description": "Span attributes, by their full names"},
}
_ARM: Final = _object(
    arm=TEXT,
    unit=_one_of("task", "call"),
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
_OUTLIER: Final = _object(feature=UNTOLD, day=TEXT, usd=NUMBER, usual_usd=NUMBER, days=COUNT)
_TREND: Final = _object(month_usd=NUMBER, forecast_usd=NUMBER, per_day_usd=NUMBER, outliers=_list(_OUTLIER))
_TASK: Final = _object(task=TEXT, succeeded=SOME, failed=SOME, cost_usd=NUMBER, cost_per_success_usd=NUMBER)
_UNIT: Final = _object(operation=UNTOLD, model=UNTOLD, unit=TEXT, amount=COUNT, cost_usd=NUMBER)
_RENTED: Final = _object(resource=UNTOLD, kind=TEXT, model=UNTOLD, until=NUMBER, cost_usd=NUMBER)
_LOOKUPS: Final = _object(
    rule=UNTOLD,
    result=_one_of(names.HIT, names.MISS, names.SKIP, names.SHARED),
    reason=UNTOLD,
    calls=COUNT,
    cost_usd=NUMBER,
    saved_usd=NUMBER,
    why=TEXT,
)
_STEP: Final = _object(
    name=TEXT,
    kind=TEXT,
    calls=COUNT,
    saved_usd=NUMBER,
    low_usd=NUMBER,
    high_usd=NUMBER,
    left_usd=NUMBER,
    basis=TEXT,
    assumes=_list(TEXT),
)
_PART: Final = _object(kind=TEXT, usd=NUMBER, says=TEXT)
_CELL: Final = _object(
    day=TEXT, provider=TEXT, model=TEXT, account=TEXT, billed_usd=NUMBER, measured_usd=NUMBER, parts=_list(_PART)
)
_DECISION: Final = _object(kind=TEXT, rule=TEXT, action=TEXT, why=TEXT)

SCHEMAS: Final[dict[str, Schema]] = {
    "report": _documents(
        by=_list(TEXT),
        first_call=TIME,
        last_call=TIME,
        total=_object(**_FIGURES),
        rows=_list(_object(keys={"type": "object", "additionalProperties": UNTOLD}, **_FIGURES)),
        more_rows=COUNT,
        tasks=_list(_TASK),
        units=_list(_UNIT),
        rented=_list(_RENTED),
        lookups=_list(_LOOKUPS),
        unpriced=_list(_object(model=TEXT, calls=COUNT)),
        estimated=_list(_object(basis=UNTOLD, cost_usd=NUMBER)),
        trend={"anyOf": [_TREND, {"type": "null"}]},
        findings=_list(_object(says=TEXT, usd=NUMBER, usd_is=TEXT, next_step=TEXT)),
        faults=_list(_object(kind=TEXT, count=COUNT, last=TIME, said=TEXT)),
    ),
    "report --by section": _documents(
        by=_list(_one_of("section", "tool")),
        rows=_list(
            _object(
                name=TEXT,
                calls=COUNT,
                tokens=COUNT,
                cached_tokens=SOME,
                usd=NUMBER,
                usd_per_day=NUMBER,
                share=NUMBER,
            )
        ),
    ),
    "calls": _documents(calls=_list(_object(**_CALL))),
    "calls --repeated": _documents(
        repeats=_list(
            _object(
                request=TEXT,
                times=COUNT,
                usd=NUMBER,
                repeats_usd=NUMBER,
                feature=UNTOLD,
                model=UNTOLD,
                call_site=UNTOLD,
                temperature=NUMBER,
                first_ns=COUNT,
                last_ns=COUNT,
            )
        )
    ),
    "calls show": _documents(**_CALL),
    "budgets": _documents(
        budgets=_list(
            _object(
                budget=TEXT,
                key=TEXT,
                unit=_one_of("usd", "tokens", "calls"),
                limit=NUMBER,
                spent=NUMBER,
                reserved=NUMBER,
                remaining=NUMBER,
                used_share=NUMBER,
                window_start=TIME,
                window_end=TIME,
                runs_out=TIME,
            )
        )
    ),
    "compare": _documents(
        arms={**_list(_ARM), "minItems": 2, "maxItems": 2},
        ratio=NUMBER,
        ratio_interval=INTERVAL,
        verdict=TEXT,
        more_tasks=SOME,
    ),
    "whatif": _documents(
        proposal=TEXT,
        calls=COUNT,
        unpriced_calls=COUNT,
        spent_usd=NUMBER,
        steps=_list(_STEP),
        left_usd=NUMBER,
        left_usd_interval=INTERVAL,
        saved_usd=NUMBER,
        saved_share=NUMBER,
        first_call=TIME,
        last_call=TIME,
        notes=_list(TEXT),
    ),
    "policy try": _documents(
        model=TEXT,
        action=TEXT,
        rule=UNTOLD,
        route=UNTOLD,
        arm=UNTOLD,
        output_cap=SOME,
        worst_usd=NUMBER,
        decisions=_list(_DECISION),
    ),
    "cache stats": _documents(rules=_list(_object(rule=TEXT, entries=COUNT, bytes=COUNT))),
    "batches": _documents(
        batches=_list(
            _object(
                id=TEXT,
                provider=TEXT,
                state=TEXT,
                models=_list(UNTOLD),
                may_cost_usd=NUMBER,
                held_usd=NUMBER,
                age_s=NUMBER,
                attribution={"type": "object", "additionalProperties": TEXT},
                task=UNTOLD,
            )
        )
    ),
    "reconcile": _documents(
        since=TEXT,
        until=TEXT,
        billed_usd=NUMBER,
        measured_usd=NUMBER,
        difference=_list(_object(kind=TEXT, usd=NUMBER)),
        cells=_list(_CELL),
        factors=_list(_object(provider=TEXT, model=TEXT, billed_over_measured=NUMBER)),
    ),
    "doctor": _documents(checks=_list(_object(part=TEXT, subject=TEXT, ok=YES, said=TEXT))),
    "lint": _documents(
        findings=_list(
            _object(
                rule=TEXT,
                name=TEXT,
                path=TEXT,
                line=COUNT,
                column=COUNT,
                end_line=COUNT,
                severity=_one_of("info", "warning", "error"),
                message=TEXT,
                fix={"anyOf": [_object(summary=TEXT, safe=YES), {"type": "null"}]},
            )
        )
    ),
}
"""By the command that prints it, with `--format json`."""


def published(command: str) -> Schema:
    """The schema of a command, as a document of its own."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"tokenguard {command} --format json",
        **SCHEMAS[command],
    }
