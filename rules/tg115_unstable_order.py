r"""The order of tools or of a prompt's parts differs from run to run.

Sets of texts have another order in every process, and directory listings in every machine. Tools or prompt parts built
from them are the same words in another order, and a prompt cache that matches from the first byte misses. Sort them.

The fix is safe for file listings (their order was arbitrary) and unsafe for sets, whose items may not be sortable.

Off unless it is selected (`--extend-select TG115`): real code showed too little of it to say how often it is right.

Bad:

    import glob
    from openai import OpenAI

    client = OpenAI()

    def ask(question, names):
        tools = [{"type": "function", "name": n} for n in set(names)]  # TG115
        examples = "\n".join(open(f).read() for f in glob.glob("examples/*.txt"))  # TG115
        return client.responses.create(
            model="gpt-4.1", instructions="Examples:\n" + examples, tools=tools, input=question, max_output_tokens=500
        )

Good:

    import glob
    from openai import OpenAI

    client = OpenAI()

    def ask(question, names):
        tools = [{"type": "function", "name": n} for n in sorted(set(names))]  # TG115
        examples = "\n".join(open(f).read() for f in sorted(glob.glob("examples/*.txt")))  # TG115
        return client.responses.create(
            model="gpt-4.1", instructions="Examples:\n" + examples, tools=tools, input=question, max_output_tokens=500
        )
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.flow import Flow
from tokenguard.lint.prompts import PROMPT_WORDS, prefixes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import Function

SEVERITY = "warning"
DEFAULT = False
WORDS = PROMPT_WORDS


def check(file: File) -> Iterator[Report]:
    """Report unsorted listings in a prompt's beginning, and unsorted sets in its tools (in its text: TG102)."""
    flow = Flow(file)
    seen: set[ast.expr] = set()
    for prefix in prefixes(file):
        if (
            not prefix.calls
            and file.module.function_of(prefix.holder) is None
            and not isinstance(prefix.holder, Function)
        ):
            continue
        for taint in flow.taints(prefix.value):
            listing = "listing" in taint.source
            if taint.kind != "order" or taint.origin in seen or not (listing or prefix.part == "tools"):
                continue
            seen.add(taint.origin)
            if taint.origin not in file.module.parents:
                continue
            fix = None
            if "scandir" not in ast.unparse(taint.origin):
                fix = Fix("Sort it", (Edit("wrap", Span.of(taint.origin), "", "sorted"),), safe=listing)
            where = "tools" if prefix.part == "tools" else "prompt's beginning"
            yield Report(
                taint.origin,
                f"The {where} depends on {taint.source}, which differs from run to run and defeats the prompt "
                f"cache. Sort it.",
                None,
                fix,
            )
