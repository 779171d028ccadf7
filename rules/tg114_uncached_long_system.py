"""A long system prompt, or long examples, are sent without a cache mark.

Anthropic and Bedrock cache only what is marked, from about 1,024 tokens on. An unmarked long prompt is paid in full
in every call; marked, all calls within five minutes of each other pay a tenth for it.

`min_chars` (default 5000) is the length from which a prompt is surely long enough: of the tools, the system prompt, and
what the messages begin with, such as examples written into the code. A mark anywhere in the call will do.

Off unless it is selected (`--extend-select TG114`): real code showed too little of it to say how often it is right.

Bad:

    import anthropic

    client = anthropic.Anthropic()
    RULES = "Follow the house rules below to the letter. " * 200

    def answer(question):
        return client.messages.create(  # TG114
            model="claude-sonnet-4-5",
            max_tokens=500,
            system=RULES,
            messages=[{"role": "user", "content": question}],
        )

Good:

    import anthropic

    client = anthropic.Anthropic()
    RULES = "Follow the house rules below to the letter. " * 200

    def answer(question):
        return client.messages.create(
            model="claude-sonnet-4-5",
            max_tokens=500,
            system=[{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": question}],
        )

    def answer_briefly(question):
        return client.messages.create(
            model="claude-sonnet-4-5",
            max_tokens=500,
            system="Be brief.",
            messages=[{"role": "user", "content": question}],
        )
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import words_of
from tokenguard.lint.syntax import walk

SEVERITY = "warning"
DEFAULT = False
OPTIONS = {"min_chars": 5000}
_CALLS = ("*.messages.create", "*.messages.stream", "*.converse", "*.converse_stream")
WORDS = words_of(_CALLS)
_MARKS = ("cache_control", "cachePoint", "cache_point")
_DEPTH = 6


def check(file: File) -> Iterator[Report]:
    """Report Anthropic and Bedrock requests with a long fixed system prompt or tool list and no mark."""
    for call, surface in file.generations:
        if surface.path not in _CALLS:
            continue
        view = file.arguments(call)
        parts = {name: view.known[name] for name in ("system", "tools", "toolConfig") if name in view.known}
        if view.open or any(_marked(file, value) for value in view.known.values()) or "cache_control" in view.known:
            continue
        length = sum(_length(file, value, 0) for value in parts.values())
        if "messages" in view.known:
            head, whole = _head(file, view.known["messages"], 0)
            length += 0 if whole else head  # nothing in it is asked for twice
        if length >= file.options["min_chars"]:
            what = " and ".join(parts) or "text"
            yield Report(
                call,
                f"About {length:,} characters of fixed {what} are paid in full in every call. Mark the end of "
                f"them with cache_control.",
            )


def _marked(file: File, value: ast.expr) -> bool:
    """Whether a cache mark may be in `value`: written in it, or in what a name of this file holds."""
    for node in walk(value):
        if isinstance(node, ast.Constant) and node.value in _MARKS:
            return True
        if isinstance(node, ast.Name) and (found := file.module.scope_at(node).lookup(node.id)):
            for binding in found[1]:
                if binding.value is not None and any(mark in ast.unparse(binding.value) for mark in _MARKS):
                    return True
    return False


def _length(file: File, value: ast.expr, depth: int) -> int:
    """The characters of text that are surely in `value`."""
    if depth > _DEPTH:
        return 0
    match value:
        case ast.Constant(value=str() as text):
            return len(text)
        case ast.JoinedStr(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            return sum(_length(file, v, depth + 1) for v in values)
        case ast.Dict(keys=keys, values=values):
            return sum(_length(file, v, depth + 1) for v in (*keys, *values) if v is not None)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _length(file, left, depth + 1) + _length(file, right, depth + 1)
        case ast.BinOp(op=ast.Mult(), left=left, right=ast.Constant(value=int() as times)):
            return _length(file, left, depth + 1) * times
        case ast.Name(id=name):
            found = file.module.scope_at(value).lookup(name)
            if found and len(found[1]) == 1:
                binding = found[1][0]
                if binding.kind == "assign" and binding.value is not None:
                    return _length(file, binding.value, depth + 1)
                known = file.constant(value)
                return len(known) if isinstance(known, str) else 0
    return 0


def _head(file: File, value: ast.expr, depth: int) -> tuple[int, bool]:
    """The fixed characters that a text or list of messages begins with, and whether all of it is fixed."""
    if depth > _DEPTH:
        return 0, False
    match value:
        case ast.Constant(value=str() as text):
            return len(text), True
        case ast.JoinedStr(values=parts) | ast.List(elts=parts):
            pass
        case ast.Dict(keys=keys, values=values):
            named = {k.value: v for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant)}
            parts = [named[name] for name in ("content", "text") if name in named]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            parts = [left, right]
        case ast.Call(func=ast.Attribute(value=template, attr="format")):
            written = file.constant(template)
            return (len(re.split(r"(?<!\{)\{(?!\{)", written)[0]), False) if isinstance(written, str) else (0, False)
        case ast.FormattedValue(value=inner):
            parts = [inner]
        case ast.Name():
            written = file.written(value)
            if written is value:
                known = file.constant(value)
                return (len(known), True) if isinstance(known, str) else (0, False)
            parts = [written]
        case _:
            return 0, False
    total = 0
    for part in parts:
        length, whole = _head(file, part, depth + 1)
        total += length
        if not whole:
            return total, False
    return total, True
