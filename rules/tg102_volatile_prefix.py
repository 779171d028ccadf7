"""A system prompt, tool list or early message changes from call to call.

Providers cache the beginning of a prompt: cached input costs a tenth to a half. The cache matches from the first byte, so
one clock or id in the system prompt makes everything after it full price, in every call. Put what changes into the last
user message, or leave it out. A value that changes within the hour is an error; a date alone (one miss a day) a note.

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
        return f"Session {uuid4()}"

    def messages(question):
        return [SystemMessage(content=header() + "\\nBe brief."), HumanMessage(content=question)]  # TG102

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
from tokenguard.lint.flow import Flow, Grain
from tokenguard.lint.prompts import PROMPT_WORDS, prefixes
from tokenguard.lint.rulebook import File, Report

SEVERITY = "error"
WORDS = PROMPT_WORDS

_SEVERITIES: dict[Grain, Severity] = {Grain.CALL: "error", Grain.HOUR: "warning", Grain.DAY: "info"}
_RHYTHM = {Grain.CALL: "with every call", Grain.HOUR: "every hour", Grain.DAY: "every day"}


def check(file: File) -> Iterator[Report]:
    """Report each place where a changing value enters a prompt's beginning."""
    flow = Flow(file)
    seen: set[ast.expr] = set()
    for prefix in prefixes(file):
        if (
            not prefix.calls
            and file.module.function_of(prefix.holder) is None
            and not isinstance(prefix.holder, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            continue  # made once, when the module is loaded
        for taint in flow.taints(prefix.value):
            if taint.node in seen or (taint.kind == "order" and prefix.part == "tools"):
                continue
            seen.add(taint.node)
            where = "tool definitions" if prefix.part == "tools" else "prompt's beginning"
            message = f"{taint.source} changes the {where} {_RHYTHM[taint.grain]}, so the provider's prompt cache never holds past it. Move it to the last message."
            if taint.grain is Grain.DAY:
                message = f"{taint.source} changes the {where} every day: one cache miss a day per prompt. Fine, unless the prompt is long and calls are rare."
            yield Report(taint.node, message, _SEVERITIES[taint.grain])
