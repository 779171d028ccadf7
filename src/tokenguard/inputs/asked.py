"""What a request asks for, in any wire format: by which routes choose, and which no content is needed to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.inputs.pieces import TEXTUAL, tools_of
from tokenguard.providers.reading import fields
from tokenguard.providers.words import Words

JSON_FORMATS: Final = frozenset({"json", "json_object", "json_schema", "application/json"})
"""What wire formats call an answer in JSON."""
FORMATS: Final = (
    ("response_format",),  # chat, Mistral, Cohere, Hugging Face
    ("text", "format"),  # Responses
    ("output_config", "format"),  # Anthropic
    ("output_format",),
    ("outputConfig", "textFormat"),  # Converse
    ("format",),  # Ollama
    ("generationConfig",),  # Gemini
    ("config",),
)
"""Where a request says what form the answer is to have."""
SCHEMAS: Final = (
    *("schema", "value", "responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"),
    *("schema_definition", "structure"),
)
"""The keys of a form's description that hold a schema."""
MIME_TYPES: Final = ("responseMimeType", "response_mime_type")


def turns(words: Words, body: Mapping[str, Any]) -> int:
    """How often the user has spoken in the conversation that a request carries; tool results are no words of theirs."""
    return sum(message["role"] == "user" for message in words.asked(body))


def offers_tools(body: Mapping[str, Any]) -> bool:
    """Whether a request offers tools."""
    return next(tools_of(body), None) is not None


def has_media(words: Words, body: Mapping[str, Any]) -> bool:
    """Whether a request brings pictures, sound or files."""
    return any(part["type"] not in TEXTUAL for message in words.asked(body) for part in message["parts"])


def wants_json(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for an answer in JSON, by a schema or without one."""
    return schema_of(body) is not None


def schema_of(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema that a request wants its answer to keep; an empty one for any JSON, `None` for free text."""
    for path in FORMATS:
        said: object = body
        for key in path:
            said = fields(said).get(key)
        if isinstance(said, str):
            if said in JSON_FORMATS:
                return {}
        elif (found := _schema(fields(said))) is not None:
            return found
    return None


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "properties" in form or "$defs" in form:  # it is one: Ollama's
        return form
    for key in SCHEMAS:
        if isinstance(schema := form.get(key), Mapping):
            return schema
    named = fields(form.get("json_schema"))
    if named:
        return fields(named.get("schema")) or fields(named.get("schema_definition")) or named
    mime = next((form[key] for key in MIME_TYPES if form.get(key)), None)
    return {} if form.get("type") in JSON_FORMATS or mime in JSON_FORMATS else None
