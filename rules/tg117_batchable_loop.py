"""A script sends independent requests one after another.

Where no user waits for the answers, the batch APIs of OpenAI, Anthropic, Google and Mistral take the same requests at
half the price, and return them within a day. Only scripts (with a `__main__` block, no server, no chat, no async) are
looked at, and only loops whose requests do not depend on each other. A note, not a fault: the answers come later.

Off unless it is selected (`--extend-select TG117`): real code showed too little of it to say how often it is right.

Bad:

    import csv

    from openai import OpenAI

    client = OpenAI()

    def main():
        with open("reviews.csv") as file:
            for row in csv.DictReader(file):
                reply = client.responses.create(model="gpt-4.1-mini", input=row["text"], max_output_tokens=20)  # TG117
                print(row["id"], reply.output_text)

    if __name__ == "__main__":
        main()

Good:

    from openai import OpenAI

    client = OpenAI()

    def chat(questions):
        history = []
        for question in questions:
            history.append({"role": "user", "content": question})
            reply = client.responses.create(model="gpt-4.1-mini", input=history, max_output_tokens=20)
            history.append({"role": "assistant", "content": reply.output_text})

    if __name__ == "__main__":
        chat(["What is a token?", "And a prompt?"])
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.loops import innermost_loop, other_server, own_nodes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import names_in, walk

SEVERITY = "info"
DEFAULT = False
WORDS = CALL_WORDS
_ROOTS = ("openai.OpenAI()", "anthropic.Anthropic()", "google.genai.Client()", "mistralai.Mistral()")
_SERVING = lazy(
    r"^(fastapi|flask|django|starlette|streamlit|gradio|chainlit|discord|telegram|slack|aiohttp|textual|tkinter|rich\.prompt|unittest|pytest)"
)


def check(file: File) -> Iterator[Report]:
    """Report requests in a `for` loop of a script whose input comes from the loop's item alone."""
    if not _is_script(file):
        return
    for call, _ in file.generations:
        loop = innermost_loop(file, call)
        if not isinstance(loop, ast.For) or not file.names.path(call.func).startswith(_ROOTS):
            continue
        if other_server(file, call):
            continue  # which may have no batch API
        if (
            isinstance(loop.iter, ast.List | ast.Tuple)
            or "range(" in ast.unparse(loop.iter)
            or _depends(file, call, loop)
        ):
            continue
        yield Report(
            call,
            "Independent requests in a script: the batch API takes them at half the price, if the answers may "
            "come within a day.",
        )


def _is_script(file: File) -> bool:
    mains = (n for n in file.module.tree.body if isinstance(n, ast.If) and "__main__" in ast.unparse(n.test))
    imported = {b.target for bindings in file.module.top.names.values() for b in bindings if b.kind == "import"}
    return (
        any(True for _ in mains)
        and not any(_SERVING.match(name) for name in imported)
        and "input" not in file.module.called
    )


def _depends(file: File, call: ast.Call, loop: ast.For) -> bool:
    """Whether a request may depend on the one before: it sends what turns leave behind, or the loop may end early."""
    inside = set(own_nodes(loop))
    if any(isinstance(n, ast.Break | ast.Return | ast.Continue | ast.Yield) for n in inside):
        return True
    bound = names_in(loop.target)
    bound |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    known = file.arguments(call).known
    sent = [known[name] for name in ("messages", "input", "contents") if name in known]
    names = {n.id for value in sent for n in walk(value) if isinstance(n, ast.Name)}
    changed = {
        ast.unparse(n.func.value)
        for n in inside
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ("append", "extend")
    }
    grown = {ast.unparse(n.target) for n in inside if isinstance(n, ast.AugAssign)}
    return not sent or not names & bound or bool(names & (changed | grown))
