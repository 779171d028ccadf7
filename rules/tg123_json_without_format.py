"""An answer is parsed as JSON, but the request does not ask for JSON.

Without a response format the model writes JSON as it likes: in a code fence, with a sentence before it, cut off, or
with a comma too many. Each answer that cannot be parsed was paid for, and so is the request that asks again. With a
format the API allows nothing but JSON: `response_format` for chat completions, `text` (or `text_format`) for responses,
`response_mime_type` for Gemini.

Reported are requests to OpenAI's and Google's own clients, whose text goes to `json.loads` in the same function. A
client with another `base_url` is left alone, since its server may not know the format.

Off unless it is selected (`--extend-select TG123`): real code showed too little of it to say how often it is right.

Bad:

    import json

    from openai import OpenAI

    client = OpenAI()

    def order(text):
        reply = client.chat.completions.create(  # TG123
            model="gpt-4.1-mini",
            max_completion_tokens=300,
            messages=[{"role": "user", "content": f"The order in this mail, as JSON: {text}"}],
        )
        return json.loads(reply.choices[0].message.content)

Good:

    import json

    from openai import OpenAI

    client = OpenAI()

    def order(text):
        reply = client.chat.completions.create(
            model="gpt-4.1-mini",
            max_completion_tokens=300,
            response_format={"type": "json_object"},
            messages=[{"role": "user", "content": f"The order in this mail, as JSON: {text}"}],
        )
        return json.loads(reply.choices[0].message.content)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import makers, other_server
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import spelling, walk

SEVERITY = "warning"
DEFAULT = False
WORDS = tuple((word, *CALL_WORDS) for word in ("json.loads", "loads(", "json_repair"))
# What asks for a format, by the end of the call's path; the roots of clients whose servers know it.
_FORMATS = {
    "chat.completions.create": ("response_format", "tools", "functions", "extra_body", "stream"),
    "responses.create": ("text", "tools", "text_format", "stream"),
    "models.generate_content": ("config.response_mime_type", "config.response_schema", "config.tools",
                                "config.response_json_schema"),
    "GenerativeModel().generate_content": ("generation_config.response_mime_type", "tools",
                                           "generation_config.response_schema"),
}  # fmt: skip
_ROOTS = ("openai.OpenAI()", "openai.AsyncOpenAI()", "openai.AzureOpenAI()", "openai.AsyncAzureOpenAI()",
          "google.genai.Client()", "google.generativeai.GenerativeModel()", "vertexai.")  # fmt: skip
_DEPTH = 12  # assignments between an answer and its parser
_PARSERS = ("json.loads", "json_repair.loads", "json_repair.repair_json", "orjson.loads")
_OLD = lazy(r"gpt-4(?:-0\d+|-32k.*)?$|gpt-3\.5-turbo-(?:0301|0613|16k|instruct).*")  # these know no format


def check(file: File) -> Iterator[Report]:
    """Report requests that name no format and whose text is parsed as JSON."""
    for call, _ in file.generations:
        path = file.names.path(call.func)
        formats = next((names for end, names in _FORMATS.items() if path.endswith(end)), None)
        if formats is None or not path.startswith(_ROOTS) or other_server(file, call):
            continue
        if file.any_of(call, formats).presence is not Presence.ABSENT or _too_old(file, call):
            continue
        if any(file.any_of(maker, formats).presence is not Presence.ABSENT for maker in makers(file, call.func)):
            continue  # the model was made with it
        if _parsed(file, call):
            yield Report(
                call,
                "The answer is parsed as JSON, but nothing makes the model write JSON: answers that do not parse are "
                "paid for, too. Ask for a JSON format.",
            )


def _too_old(file: File, call: ast.Call) -> bool:
    model = file.constant(file.arguments(call).known.get("model"))
    return isinstance(model, str) and bool(_OLD.match(model))


def _parsed(file: File, call: ast.Call) -> bool:
    """Whether the text of the answer goes to `json.loads`, in the same function."""
    function = file.module.function_of(call)
    place: ast.AST = function or file.module.tree
    nodes = [node for node in walk(place) if function or file.module.function_of(node) is None]
    parses = [n for n in nodes if isinstance(n, ast.Call) and n.args and file.names.path(n.func) in _PARSERS]
    assigned = [n for n in nodes if isinstance(n, ast.Assign) and len(n.targets) == 1]
    return any(_is_text(parse.args[0], call, assigned, parse.lineno, 0) for parse in parses)


_TEXTS = frozenset({"strip", "replace", "lstrip", "rstrip", "removeprefix", "removesuffix", "group", "search", "match",
                    "sub",
                    "split", "rsplit", "partition", "rpartition", "findall", "lower"})  # fmt: skip


def _is_text(node: ast.expr, call: ast.Call, assigned: list[ast.Assign], line: int, depth: int) -> bool:
    """Whether an expression at a line is the answer, or text taken from it, by what its names were last assigned."""
    if node is call:
        return True
    if depth > _DEPTH:
        return False
    match node:
        case ast.Name(id=name):
            before = [a for a in assigned if a.lineno < line and spelling(a.targets[0]) == name]
            last = max(before, key=lambda a: a.lineno, default=None)
            return last is not None and _is_text(last.value, call, assigned, last.lineno, depth + 1)
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Await(value=value):
            return _is_text(value, call, assigned, line, depth + 1)
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(body=first):
            return _is_text(first, call, assigned, line, depth + 1)
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in _TEXTS:
            return any(_is_text(part, call, assigned, line, depth + 1) for part in (value, *args))
    return False
