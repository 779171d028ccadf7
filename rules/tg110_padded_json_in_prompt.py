r"""JSON is padded with spaces before it goes into a prompt.

`indent=2` is for people. In a prompt the line breaks and spaces are tokens: they add a quarter to a half to most
documents, in every call. A text that is called a prompt counts as one, whoever it is sent by. What a tool returns to
the model is part of the next prompt, too: a decorated function, one that is listed as a tool or described by a schema,
or one of a dict such as `TOOL_HANDLERS`. The fix (unsafe: it changes the prompt) removes the indentation.

Bad:

    import json

    def messages(record):
        return [
            {"role": "system", "content": "Summarise the record."},
            {"role": "user", "content": f"Record: {json.dumps(record, indent=2)}"},  # TG110
        ]

Good:

    import json

    def messages(record):
        return [
            {"role": "system", "content": "Summarise the record."},
            {"role": "user", "content": f"Record: {json.dumps(record)}"},  # TG110
        ]

Bad:

    import json

    def ask(client, records):
        text = json.dumps(records, indent=4, ensure_ascii=False)  # TG110
        prompt = "Summarise:\n" + text
        return client.responses.create(model="gpt-4.1-mini", input=prompt, max_output_tokens=300)

Good:

    import json

    def ask(client, records):
        text = json.dumps(records, ensure_ascii=False)  # TG110
        prompt = "Summarise:\n" + text
        return client.responses.create(model="gpt-4.1-mini", input=prompt, max_output_tokens=300)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.flow import Flow
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.prompts import TEXT_WORDS, TOOL_WORDS, contents
from tokenguard.lint.rulebook import File, Report

SEVERITY = "warning"
_DUMPS = ("dumps", "model_dump_json")
_PADS: tuple[Entry, ...] = (("indent=", *_DUMPS), ("indent =", *_DUMPS), "pformat")
WORDS: tuple[Entry, ...] = tuple((pads, "rompt", '"human"', "'human'", *TEXT_WORDS, *TOOL_WORDS) for pads in _PADS)


def check(file: File) -> Iterator[Report]:
    """Report pretty-printing whose text reaches a prompt."""
    if not _pads(file):
        return
    flow = Flow(file)
    seen: set[ast.expr] = set()
    for value in contents(file):
        for taint in flow.taints(value):
            if taint.kind != "padding" or taint.origin in seen:
                continue
            seen.add(taint.origin)
            if taint.origin not in file.module.parents:
                continue  # made in another file, and reported there
            fix = None
            if isinstance(taint.origin, ast.Call) and any(k.arg == "indent" for k in taint.origin.keywords):
                fix = Fix("Remove the indentation", (Edit("unset", Span.of(taint.origin), "indent"),))
            message = (
                f"{taint.source} pads a prompt with spaces that are paid as tokens in every call. Leave the "
                f"indentation out."
            )
            yield Report(taint.origin, message, None, fix)


def _pads(file: File) -> bool:
    """Whether any text of this file is padded; to indent what is written into a file costs nothing."""
    indents = (k.arg == "indent" for call in file.module.calls_of(_DUMPS) for k in call.keywords)
    return any(indents) or any(file.module.calls_of(("pformat",)))
