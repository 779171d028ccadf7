r"""A system prompt, tool list or early message changes from call to call.

Providers cache the beginning of a prompt: cached input costs a tenth to a half. The cache matches from the first
byte, so one clock or id in the system prompt makes everything after it full price, in every call. Put what changes
into the last user message, or leave it out. A value that changes within the hour is an error; a date alone (one miss
a day) a note.

Bad:

    import uuid
    from datetime import date, datetime
    from openai import OpenAI

    client = OpenAI()

    def answer(question):
        now = datetime.now()
        system = f"You are a helpful assistant. The time is {now}."  # TG102
        return client.chat.completions.create(
            model="gpt-4.1-mini",
            max_completion_tokens=500,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": question}],
        )

    def today(question):
        return client.responses.create(
            model="gpt-4.1-mini",
            max_output_tokens=500,
            instructions="Today is {}.".format(date.today()),  # TG102
            input=question,
        )

Good:

    from datetime import datetime
    from openai import OpenAI

    client = OpenAI()
    SYSTEM = "You are a helpful assistant."

    def answer(question):
        return client.chat.completions.create(
            model="gpt-4.1-mini",
            max_completion_tokens=500,
            messages=[
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{question}\\n\\nThe time is {datetime.now()}."},
            ],
        )

Bad:

    from langchain_core.messages import HumanMessage, SystemMessage
    from uuid import uuid4

    def header():
        return f"Session {uuid4()}"  # TG102

    def messages(question):
        return [SystemMessage(content=header() + "\\nBe brief."), HumanMessage(content=question)]

Good:

    from langchain_core.messages import HumanMessage, SystemMessage
    from uuid import uuid4

    def messages(question):
        return [SystemMessage(content="Be brief."), HumanMessage(content=question, id=str(uuid4()))]
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.finding import Severity
from tokenguard.lint.flow import Flow, Grain, Taint
from tokenguard.lint.prompts import PROMPT_WORDS, loops_around, prefixes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import Function

SEVERITY = "error"
WORDS = PROMPT_WORDS

_SEVERITIES: dict[Grain, Severity] = {Grain.CALL: "error", Grain.HOUR: "warning", Grain.DAY: "info"}


def check(file: File) -> Iterator[Report]:
    """Report each place where a changing value enters a prompt's beginning."""
    flow = Flow(file)
    worst: dict[tuple[ast.expr, ast.AST | None], tuple[Taint, str]] = {}
    for prefix in prefixes(file):
        outside = _runs_once(file, prefix.holder)
        if outside and not prefix.calls and not _made_later(file, prefix.value):
            continue  # made once, when the module is loaded
        flow.loops = loops_around(file, prefix.holder)
        for taint in flow.taints(prefix.value):
            key = (taint.origin, _statement(file, taint.node))  # one report for each text a value enters
            if taint.kind == "padding" or (
                taint.kind == "order" and (prefix.part == "tools" or "listing" in taint.source)
            ):
                continue  # TG110 and TG115 speak of these
            if key not in worst or taint.grain > worst[key][0].grain:
                worst[key] = (taint, "tool definitions" if prefix.part == "tools" else "prompt's beginning")
    for taint, where in worst.values():
        if taint.grain is Grain.DAY:
            cost = (
                "every day: one cache miss a day per prompt, which matters where the prompt is long and calls are rare."
            )
        else:
            rhythm = "every hour" if taint.grain is Grain.HOUR else "with every call"
            cost = f"{rhythm}, so the provider's prompt cache never holds past it. Move it to the last message."
        yield Report(taint.node, f"{taint.source} changes the {where} {cost}", _SEVERITIES[taint.grain])


def _runs_once(file: File, holder: ast.AST) -> bool:
    """Whether code runs when the module is loaded: it is in no function, or in a private one only called from there."""
    function = holder if isinstance(holder, Function) else file.module.function_of(holder)
    if function is None:
        return True
    calls = file.module.called.get(function.name, [])
    return function.name.startswith("_") and bool(calls) and all(file.module.function_of(c) is None for c in calls)


def _statement(file: File, node: ast.expr) -> ast.AST | None:
    return next((a for a in file.module.ancestors(node) if isinstance(a, ast.stmt)), None)


def _made_later(file: File, value: ast.expr) -> bool:
    """Whether a prompt is given as a function that makes it for every run."""
    return isinstance(value, ast.Lambda) or isinstance(file.names.definition(file.names.path(value)), Function)
