"""Where a click leads: the same dashboard filtered, or the traces of what was clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from queries import FEATURE, MODEL, PICKERS, PROVIDER, ROUTE, TEAM, TENANT, VERSION

from tokenguard.facts import names

TEMPO = "${tempo}"
SPAN_ATTRIBUTES = {
    **{
        label: names.attribution_attribute(key)
        for label, key in zip((TENANT, FEATURE, ROUTE, VERSION, TEAM), names.METRIC_ATTRIBUTION_KEYS, strict=True)
    },
    MODEL: names.RESPONSE_MODEL,
    PROVIDER: names.PROVIDER,
    "budget": names.GUARD_RULE,
    "rule": names.GUARD_RULE,
}


def traces_link(values: dict[str, str]) -> dict[str, Any]:
    """A link to the traces whose spans have these values, which are Grafana's own variables, by metric label."""
    conditions = " && ".join(
        f'span.{SPAN_ATTRIBUTES[label]} = "{value}"' for label, value in values.items() if label in SPAN_ATTRIBUTES
    )
    traceql = f"{{ {conditions} }}".replace('"', '\\"')
    query = f'{{"refId":"A","datasource":{{"type":"tempo","uid":"{TEMPO}"}},"queryType":"traceql","query":"{traceql}"}}'
    panes = (
        f'{{"traces":{{"datasource":"{TEMPO}","queries":[{query}],"range":{{"from":"${{__from}}","to":"${{__to}}"}}}}}}'
    )
    # Grafana fills in its variables before anything is decoded, so these stay as they are.
    url = f"/explore?schemaVersion=1&panes={quote(panes, safe='${}:,._')}"
    return {"title": "Traces", "url": url, "targetBlank": True}


def by_link(uid: str, value: str) -> dict[str, Any]:
    """A link to the same dashboard with this value of what the picker `by` names."""
    url = f"/d/{uid}?${{__url_time_range}}&${{datasource:queryparam}}&var-${{by:text}}={value}"
    return {"title": "Filter by this", "url": url, "targetBlank": False}


def filter_link(uid: str, values: dict[str, str], pickers: Sequence[str]) -> dict[str, Any]:
    """A link to the same dashboard with these values chosen, and the other pickers as they are."""
    variables = {label: name for name, label in PICKERS.items()}
    chosen = {variables[label]: value for label, value in values.items() if label in variables}
    others = [name for name in ("datasource", "tempo", *pickers) if name not in chosen]
    parts = ["${__url_time_range}", *(f"${{{name}:queryparam}}" for name in others)]
    parts += [f"var-{name}={value}" for name, value in chosen.items()]
    return {"title": "Filter by this", "url": f"/d/{uid}?{'&'.join(parts)}", "targetBlank": False}
