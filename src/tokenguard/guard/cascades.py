"""Cascades: the answer of the cheaper model is looked at, and where it fails, the larger one is asked."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

from tokenguard.call.call import Call
from tokenguard.guard.asking import CHECK_S, Functions, facts_of
from tokenguard.guard.worst_case import WorstCase
from tokenguard.inputs import asked
from tokenguard.policy import Route
from tokenguard.providers.reading import Reading, fields, items

if TYPE_CHECKING:
    from tokenguard.call.flow import Answer, Step

CUT: Final = frozenset(
    {"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length", "incomplete", "token_limit"}
)
"""Finish reasons of answers that were cut off."""
REFUSED: Final = frozenset(
    {"refusal", "content_filter", "content_filtered", "guardrail_intervened", "SAFETY", "PROHIBITED_CONTENT", "SPII"}
)
"""Finish reasons of answers that a model or its provider refused to give."""


def may_escalate(call: Call) -> bool:
    """Whether an answer can be looked at before the caller has it, and be replaced without harm."""
    return not (call.stream or call.request.get("background") or asked.offers_tools(call.request))


def failure(
    route: Route, call: Call, functions: Functions, worst_case: WorstCase
) -> Generator[Step, Answer, str | None]:
    """Which of a route's checks the answer to a call fails; `None` where it passes them all, or cannot be read."""
    response = call.answer
    if response is None:
        return None
    reading = call.api.read(response)
    text = _text(call, response)
    for check in route.escalate_when:
        if ":" in check:
            facts = facts_of(call, worst_case, content=route.content)
            facts |= {"answer": text, "finish_reasons": reading.finish_reasons}
            answer = yield None, functions.says, (check, facts, CHECK_S)
            if answer.error is not None:
                raise answer.error
            fails = bool(answer.value)
        else:
            fails = _fails(check, call, reading, response, text)
        if fails:
            return check
    return None


def _fails(check: str, call: Call, reading: Reading, response: object, text: str) -> bool:
    if check == "length":
        return not CUT.isdisjoint(reading.finish_reasons)
    if check == "refusal":
        return not REFUSED.isdisjoint(reading.finish_reasons) or _declines(response)
    schema = asked.schema_of(call.request)
    return schema is not None and not keeps(schema, text)


def _text(call: Call, response: object) -> str:
    """What the first answer says."""
    for message in call.api.words.answered(response):
        return "".join(str(part["content"]) for part in message["parts"] if part["type"] == "text")
    return ""


def _declines(response: object) -> bool:
    """Whether OpenAI's model says in so many words that it will not: `refusal` beside the text."""
    body = fields(response)
    messages = [fields(choice.get("message")) for choice in items(body.get("choices"))]
    parts = [part for item in items(body.get("output")) for part in items(item.get("content"))]
    return any(each.get("refusal") for each in (*messages, *parts))


def keeps(schema: Mapping[str, Any], text: str) -> bool:
    """Whether a text is JSON that keeps a schema; only whether it is JSON, where `jsonschema` is not installed.

    A schema that is none refuses nothing.
    """
    try:
        value = json.loads(text)
    except ValueError:
        return False
    try:
        from jsonschema import SchemaError, ValidationError, validate  # type: ignore[import-untyped]
    except ImportError:
        return True
    try:
        validate(value, schema)
    except ValidationError:
        return False
    except SchemaError:
        return True
    return True
