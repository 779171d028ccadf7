r"""A system prompt, tool list or early message changes from call to call.

Providers keep the beginning of a prompt in a cache and charge a tenth to a half for what they find there again. They
compare from the first byte on, tools first, then the system prompt, then the messages in their order: the first byte
that differs ends the match, and all that follows is paid in full. One clock at the top is enough. 6,000 tokens of
instructions and tools, sent ten thousand times a day to Claude Sonnet 4.5, cost $180 a day in full and $18 from the
cache.

What changes: clocks, uuids, random numbers, request and session ids, counters, the order of a set; through variables,
templates, helpers of this file and of other modules. How often it changes is the severity: within the hour is an
error, by the hour a warning, by the day a note (one miss a day, which matters only where calls are rare).

What to do, in this order:

- Leave it out. Few answers need the time to the second, and none needs a uuid: put ids into `metadata`.
- Move it to the end: into the last user message, behind everything that stays the same.
- Make it coarser: a date instead of a time.
- Let the model ask: a tool that tells the time costs tokens only when it is called.

Not reported: what is made once, when the module is loaded; what stands in the last message already, or in a short one
directly before it, unless the last message begins with it and goes on with fixed text, which is then paid in full, too;
and what is put at the end of a history that is kept, where it stays as it is.

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

    def digest(topic):
        return client.responses.create(
            model="gpt-4.1-mini",
            max_output_tokens=500,
            input=f"Now: {datetime.now()}. Write a digest of a page, by our house rules. Topic: {topic}",  # TG102
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
                {"role": "user", "content": f"{question}\n\nThe time is {datetime.now()}."},
            ],
        )

Bad:

    from langchain_core.messages import HumanMessage, SystemMessage
    from uuid import uuid4

    def header():
        return f"Session {uuid4()}"  # TG102

    def messages(question):
        return [SystemMessage(content=header() + "\nBe brief."), HumanMessage(content=question)]

Good:

    from langchain_core.messages import HumanMessage, SystemMessage
    from uuid import uuid4

    def messages(question):
        return [SystemMessage(content="Be brief."), HumanMessage(content=question, id=str(uuid4()))]
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.changing import Grain, Taint
from tokenguard.lint.finding import Severity
from tokenguard.lint.flow import Flow
from tokenguard.lint.layout import head
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.prompts import PROMPT_WORDS, TEXT_WORDS, lasts, loops_around, prefixes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import Function, walk

SEVERITY = "error"
TESTS = False
# A text that is known by less than its place in a system prompt is looked at for clocks and ids made in this file.
_MADE = ("now(", "today(", lazy(rb"time\((?<![A-Za-z]time\()"), "_ns(", "date()", "strftime(",
         "uuid1(", "uuid4(", "uuid7(", "random.", "secrets.")  # fmt: skip
_CALLED_PROMPT = ("prompt", lazy(
    rb"prompt(?:(?<=\bprompt)_\w*)?[ \t]*=(?!=)|def[ \t]+(?:\w*_)?prompts?\b"
    rb"|def[ \t]+(?:\w*_)?(?:build|make|create|get|format|render)_\w*prompt"
))  # fmt: skip
_TEXTS = (_CALLED_PROMPT, ".invoke(", ".ainvoke(", "HumanMessage", *(w for w in TEXT_WORDS if w not in PROMPT_WORDS))
WORDS: tuple[Entry, ...] = (*PROMPT_WORDS, *((text, *_MADE) for text in _TEXTS))

_WORTH = 40  # characters of fixed text behind a clock, from which on a last message has a beginning to be cached
_SEVERITIES: dict[Grain, Severity] = {Grain.CALL: "error", Grain.HOUR: "warning", Grain.DAY: "info"}


def check(file: File) -> Iterator[Report]:
    """Report each place where a changing value enters a prompt's beginning."""
    flow = Flow(file)
    worst: dict[tuple[ast.expr, ast.AST | None], tuple[Taint, str]] = {}
    for prefix in prefixes(file):
        outside = _runs_once(file, prefix.holder)
        if outside and not prefix.calls and not _made_later(file, prefix.value):
            continue  # made once, when the module is loaded
        if _is_late(file, prefix.value):
            continue
        flow.loops = loops_around(file, prefix.holder)
        for taint in flow.taints(prefix.value):
            key = (taint.origin, _statement(file, taint.node))  # one report for each text a value enters
            if taint.kind == "padding" or (
                taint.kind == "order" and (prefix.part == "tools" or "listing" in taint.source)
            ):
                continue  # TG110 and TG115 speak of these
            if prefix.part == "message" and taint.source.startswith("the counter"):
                continue  # of the item that the message is about
            if key not in worst or taint.grain > worst[key][0].grain:
                worst[key] = (taint, "tool definitions" if prefix.part == "tools" else "prompt's beginning")
    flow.loops = frozenset()
    for text in lasts(file):
        found = head(flow, text) if file.module.function_of(text) is not None else None
        if found is not None and found[1] >= _WORTH:
            key = (found[0].origin, _statement(file, found[0].node))
            worst.setdefault(key, (found[0], "prompt's beginning"))
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


def _is_late(file: File, content: ast.expr) -> bool:
    """Whether a short message stands directly before the last one: what changes in it costs nothing that is fixed."""
    message = next((a for a in file.module.ancestors(content) if isinstance(a, ast.Dict | ast.Call | ast.Tuple)), None)
    around = file.module.parents.get(message) if message is not None else None
    if not isinstance(around, ast.List) or len(around.elts) < 3 or around.elts[-2] is not message:
        return False
    fixed = (n.value for n in walk(content) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return isinstance(content, ast.JoinedStr | ast.Name | ast.Call) and sum(map(len, fixed)) < 2 * _WORTH


def _statement(file: File, node: ast.expr) -> ast.AST | None:
    return next((a for a in file.module.ancestors(node) if isinstance(a, ast.stmt)), None)


def _made_later(file: File, value: ast.expr) -> bool:
    """Whether a prompt is given as a function that makes it for every run."""
    return isinstance(value, ast.Lambda) or isinstance(file.names.definition(file.names.path(value)), Function)
