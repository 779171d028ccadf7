"""The schema of the answer is in the prompt, and in `response_format`, too.

With `response_format` (or `text_format`, `response_model`, `response_schema`), the schema is sent beside the prompt and
paid as input tokens, and the API holds the answer to it. The same schema written into the prompt is paid a second time
in every call. Leave it out of the prompt; say there only what the fields' descriptions cannot.

JSON mode (`{"type": "json_object"}`) sends no schema, so there the prompt must have it: that is not reported.

Off unless it is selected (`--extend-select TG122`): real code showed too little of it to say how often it is right.

Bad:

    import json

    from openai import OpenAI
    from pydantic import BaseModel

    client = OpenAI()

    class Order(BaseModel):
        id: str
        total: float

    def parse(text):
        return client.chat.completions.parse(
            model="gpt-4.1-mini",
            max_completion_tokens=500,
            response_format=Order,
            messages=[
                {"role": "system", "content": f"Answer as JSON: {json.dumps(Order.model_json_schema())}"},  # TG122
                {"role": "user", "content": text},
            ],
        )

Good:

    from openai import OpenAI
    from pydantic import BaseModel

    client = OpenAI()

    class Order(BaseModel):
        id: str
        total: float

    def parse(text):
        return client.chat.completions.parse(
            model="gpt-4.1-mini",
            max_completion_tokens=500,
            response_format=Order,
            messages=[{"role": "system", "content": "Extract the order."}, {"role": "user", "content": text}],
        )
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.reach import holds
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import walk

SEVERITY = "warning"
DEFAULT = False
_SCHEMAS = ("model_json_schema", "schema_json", "get_format_instructions")
_FORMATS = (
    "response_format",
    "text_format",
    "response_schema",
    "response_json_schema",
    "output_format",
    "response_model",
)
_TEXTS = ("messages", "input", "instructions", "contents", "system", "system_instruction", "prompt")
WORDS = tuple((schema, *_FORMATS) for schema in _SCHEMAS)


def check(file: File) -> Iterator[Report]:
    """Report schemas in the texts of requests that are held to a schema."""
    schemas = list(file.module.calls_of(_SCHEMAS))
    for request, form in _held_to_a_schema(file) if schemas else ():
        for schema in schemas:
            if schema not in walk(form) and holds(file, _texts(file, request), schema):
                yield Report(
                    schema,
                    "This schema is in the prompt and in the request's response format: it is paid twice in every "
                    "call. Leave it out of the prompt.",
                )


def _texts(file: File, request: ast.Call) -> list[ast.expr]:
    """The texts that a request sends."""
    known = file.arguments(request).known
    config = known.get("config")
    inner = file.view(config).known if config is not None else {}
    return [*(known[n] for n in _TEXTS if n in known), *(inner[n] for n in _TEXTS if n in inner), *request.args]


def _held_to_a_schema(file: File) -> Iterator[tuple[ast.Call, ast.expr]]:
    """The requests whose answers the API holds to a schema, with the format they name."""
    for call, _ in file.generations:
        known = file.arguments(call).known
        value = next((known[name] for name in _FORMATS if name in known), None)
        config = known.get("config") or known.get("generation_config")
        if value is None and config is not None:
            inner = file.view(config).known
            value = next((inner[name] for name in _FORMATS if name in inner), None)
        form = None if value is None else file.written(value)
        if form is not None and "json_object" not in ast.unparse(form):
            yield call, form
