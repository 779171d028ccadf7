"""A streamed chat completion does not report its usage.

OpenAI sends the token counts of a stream only when asked to, in one more chunk at the end. Without them the cost of
the call is a guess. The fix (unsafe: that last chunk has no `choices`) asks for them; it is only offered in a file that
reads no `chunk.choices[0]` without looking. Clients of other servers (`base_url`, `provider`) are left alone: not all
of them know the option.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def tell(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500, stream=True)  # TG109

Good:

    from openai import OpenAI

    client = OpenAI()

    def tell(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500, stream=True, stream_options={"include_usage": True})  # TG109
"""  # noqa: E501 - the example is what the fix writes

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.loops import made_by
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import words_of
from tokenguard.lint.syntax import walk

SEVERITY = "warning"
WORDS = tuple((word, "stream") for word in words_of(("*.completions.create",)))
_CLIENTS = ("openai.OpenAI()", "openai.AsyncOpenAI()", "openai.AzureOpenAI()", "openai.AsyncAzureOpenAI()")


def check(file: File) -> Iterator[Report]:
    """Report the streams of OpenAI's own client that certainly ask for no usage."""
    for call, surface in file.generations:
        path = file.names.path(call.func)
        if surface.path != "*.chat.completions.create" or not path.startswith(_CLIENTS):
            continue
        stream = file.look(call, "stream")
        if stream.presence is not Presence.PRESENT or file.constant(stream.value) is not True:
            continue
        if file.any_of(
            call, ("stream_options", "extra_body.stream_options")
        ).presence is not Presence.ABSENT or _elsewhere(file, call):
            continue
        fix = Fix("Ask for the usage", (Edit("set", Span.of(call), "stream_options", '{"include_usage": True}'),))
        guarded = all(_guarded(file, node) for node in walk(file.module.tree))
        yield Report(
            call,
            "This stream does not report its token usage, so its cost is unknown. Set "
            "stream_options={'include_usage': True}.",
            None,
            fix if guarded else None,
        )


def _elsewhere(file: File, call: ast.Call) -> bool:
    """Whether the client may talk to another server than OpenAI's."""
    client = made_by(file, call.func)
    return client is None or file.any_of(client, ("base_url", "provider")).presence is not Presence.ABSENT


def _guarded(file: File, node: ast.AST) -> bool:
    """Whether `node` is no `chunk.choices[0]`, or one that is only read where there are choices."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "choices"):
        return True
    choices = ast.unparse(node.value)
    if _of_an_answer(file, node.value.value):
        return True
    inner: ast.AST = node
    for outer in file.module.ancestors(node):
        if isinstance(outer, ast.If | ast.IfExp) and choices in ast.unparse(outer.test):
            return True
        if isinstance(outer, ast.BoolOp) and any(choices in ast.unparse(v) for v in outer.values if v is not inner):
            return True
        if isinstance(outer, ast.Try) and any(
            "IndexError" in ast.unparse(h.type or ast.Name("")) for h in outer.handlers
        ):
            return True
        body = getattr(outer, "body", None)
        if isinstance(body, list) and inner in body:  # if not chunk.choices: continue
            before = (s for s in body[: body.index(inner)] if isinstance(s, ast.If) and choices in ast.unparse(s.test))
            if any(isinstance(n, ast.Continue | ast.Return | ast.Break) for s in before for n in walk(s)):
                return True
        inner = outer
    return False


def _of_an_answer(file: File, node: ast.expr) -> bool:
    """Whether `node` is an answer that is not streamed: the result of a call without `stream`."""
    made = file.written(node)
    made = made.value if isinstance(made, ast.Await) else made
    return isinstance(made, ast.Call) and file.look(made, "stream").presence is Presence.ABSENT
