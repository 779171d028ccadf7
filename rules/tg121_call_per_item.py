r"""One request for each item, to say a word about it.

To grade, rate or classify twenty passages in a loop sends the question and the instructions twenty times, for twenty
words. One request with the passages numbered sends them once, and is back sooner. Where a model must read every passage
alone, a reranker does it for a hundredth of the price.

Reported are loops over documents, chunks, passages or results that ask a model to judge each: its answer is a grade, a
score, yes or no. Loops that write something about each item are not.

Bad:

    from langchain_openai import ChatOpenAI

    grader = PROMPT | ChatOpenAI(model="gpt-4.1-mini", max_tokens=20).with_structured_output(Grade)

    def relevant(question, documents):
        kept = []
        for document in documents:
            grade = grader.invoke({"question": question, "document": document.page_content})  # TG121
            if grade.binary_score == "yes":
                kept.append(document)
        return kept

Good:

    from langchain_openai import ChatOpenAI

    grader = PROMPT | ChatOpenAI(model="gpt-4.1-mini", max_tokens=200).with_structured_output(Grades)

    def relevant(question, documents):
        numbered = "\n\n".join(f"[{n}] {document.page_content}" for n, document in enumerate(documents))
        grades = grader.invoke({"question": question, "documents": numbered})
        return [documents[n] for n in grades.relevant]
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.loops import innermost_loop, through_helpers
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import names_in, walk

SEVERITY = "warning"
_ITEMS = lazy(
    r"(?:^|_)(?:doc|document|chunk|passage|result|snippet|paragraph|hit|candidate|node|context|source|article|page)s?"
    r"(?:_|$)|retriev"
)
_JUDGES = lazy(
    r"grad(?:er|ing|e)|rat(?:er|ing)(?:_|$)|scor(?:er|ing)|relevan|filter|judg|rerank|classif|is_supported|is_use",
    re.IGNORECASE,
)
_ASKS = lazy(
    r"yes(?:'|\")? or (?:'|\")?no|\b(?:rate|score|grade)\b.{0,60}\b(?:relevan|0|1)|relevance score|true or false"
    r"|\bis (?:the |this )?.{0,40}relevant",
    re.IGNORECASE | re.DOTALL,
)
_RUNS = ("invoke", "ainvoke")
WORDS = (*((word, "for ") for word in CALL_WORDS if isinstance(word, str)), *((f".{run}(", "for ") for run in _RUNS))


def check(file: File) -> Iterator[Report]:
    """Report requests in a loop over passages that ask for a verdict on each."""
    direct = {call for call, _ in file.generations}
    runs = [c for c in file.module.calls_of(_RUNS) if isinstance(c.func, ast.Attribute) and c not in direct]
    helped = {c: f for c, f in through_helpers(file, list(direct)) if _decides(file, c)}
    for call in (*direct, *runs, *helped):
        item = _item(file, call)
        if item is None or not _sends(file, call, item):
            continue
        asked = [c for c in direct if file.module.function_of(c) is helped[call]] if call in helped else [call]
        if _JUDGES.search(ast.unparse(call.func)) if call in runs else any(_ASKS.search(_text(file, c)) for c in asked):
            yield Report(
                call,
                "One request for each item of a loop, for a verdict on it. Number the items and ask about all of them "
                "in one request, or use a reranker.",
            )


def _item(file: File, call: ast.Call) -> set[str] | None:
    """The names that the loop over passages around a call sets; None if there is no such loop."""
    for node in file.module.ancestors(call):
        if isinstance(node, ast.ListComp):
            generator = node.generators[0]
            return names_in(generator.target) if _passages(generator.target, generator.iter) else None
        if isinstance(node, ast.stmt):
            break
    loop = innermost_loop(file, call)
    if isinstance(loop, ast.For | ast.AsyncFor) and _passages(loop.target, loop.iter):
        return names_in(loop.target)
    return None


def _decides(file: File, call: ast.Call) -> bool:
    """Whether a call is a condition: `[d for d in documents if relevant(d)]`, `if relevant(d):`."""
    inner: ast.AST = call
    for outer in file.module.ancestors(call):
        if isinstance(outer, ast.comprehension | ast.If | ast.IfExp):
            return inner in outer.ifs if isinstance(outer, ast.comprehension) else inner is outer.test
        if isinstance(outer, ast.stmt):
            return False
        inner = outer
    return False


def _passages(target: ast.expr, source: ast.expr) -> bool:
    named = [
        n.id if isinstance(n, ast.Name) else n.attr for n in walk(source) if isinstance(n, ast.Name | ast.Attribute)
    ]
    return any(map(_ITEMS.search, (*named, *names_in(target)))) and "range(" not in ast.unparse(source)


def _sends(file: File, call: ast.Call, item: set[str]) -> bool:
    """Whether a request has the loop's item in it, or something made of it."""
    made = set(item)
    loop = innermost_loop(file, call)
    for _ in range(3):
        for node in walk(loop) if loop is not None else ():
            if isinstance(node, ast.Assign) and made & names_in(node.value):
                made |= {n for target in node.targets for n in names_in(target)}
    return any(
        isinstance(n, ast.Name) and n.id in made
        for arg in (*call.args, *(k.value for k in call.keywords))
        for n in walk(arg)
    )


def _text(file: File, call: ast.Call) -> str:
    """The fixed text of a request, with that of the names in it."""
    written = (file.written(node) for node in walk(call) if isinstance(node, ast.Name))
    parts = (part for whole in (call, *written) for part in walk(whole))
    return " ".join(p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str))
