"""Embeddings are asked for one text at a time.

The embeddings APIs take a list: one request for a hundred texts costs the same tokens, a hundredth of the requests, and
stays far below the rate limit. Collect the texts and send them together.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def embed(texts):
        vectors = []
        for text in texts:
            reply = client.embeddings.create(model="text-embedding-3-small", input=text)  # TG111
            vectors.append(reply.data[0].embedding)
        return vectors

    def embed_all(documents):
        return [client.embeddings.create(model="text-embedding-3-small", input=[d.text]) for d in documents]  # TG111

    def get_embedding(text):
        return client.embeddings.create(model="text-embedding-3-small", input=[text]).data[0].embedding

    def index(chunks, frame):
        frame["vector"] = frame["text"].apply(get_embedding)  # TG111
        return [get_embedding(chunk) for chunk in chunks]  # TG111

Good:

    from openai import OpenAI

    client = OpenAI()

    def embed(texts):
        reply = client.embeddings.create(model="text-embedding-3-small", input=texts)
        return [item.embedding for item in reply.data]

    def embed_many(batches):
        return [client.embeddings.create(model="text-embedding-3-small", input=batch) for batch in batches]

    def embed_slices(texts):
        for start in range(0, len(texts), 100):
            yield client.embeddings.create(model="text-embedding-3-small", input=texts[start : start + 100])
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.loops import innermost_loop, through_helpers
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import EMBEDDINGS, matcher, words_of
from tokenguard.lint.syntax import Function, spelling

SEVERITY = "warning"
WORDS = words_of(EMBEDDINGS)
_CALLS = matcher(EMBEDDINGS)
_LAST = tuple({path.rpartition(".")[2] for path in EMBEDDINGS})
_BATCH = re.compile(r"batch|group|slice|window|part|bucket", re.IGNORECASE)


def check(file: File) -> Iterator[Report]:
    """Report embedding calls whose input is the item of the loop around them, there or in a helper of this file."""
    calls = [c for c in file.module.calls_of(_LAST) if _CALLS.fullmatch(file.names.path(c.func))]
    for call in calls:
        if (text := _text(file, call)) is not None and _each(file, call, text):
            yield _report(call)
    helpers = {}
    for call in calls:
        function = file.module.function_of(call)
        if function is not None and _embeds_one(file, call, function):
            helpers[function.name] = function
    for call, function in through_helpers(file, calls):
        if function is helpers.get(function.name) and any(_each(file, call, arg) for arg in _given(call)):
            yield _report(call)
    for call in file.module.calls_of(("apply", "map")) if helpers else ():
        if call.args and _stands_for(call.args[0]) in helpers:
            yield _report(call)


def _report(call: ast.Call) -> Report:
    return Report(
        call, "One embeddings request per text. The API takes a list: collect the texts and send them together."
    )


def _text(file: File, call: ast.Call) -> ast.expr | None:
    known = file.arguments(call).known
    return known.get("input") or known.get("contents") or known.get("texts") or (call.args[0] if call.args else None)


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(k.value for k in call.keywords)]


def _each(file: File, call: ast.Call, text: ast.expr) -> bool:
    """Whether `text` is the item of the loop around `call`."""
    for names, source in _items(file, call):
        used = {n.id for n in ast.walk(text) if isinstance(n, ast.Name)} & names
        if used and _single(text) and not _BATCH.search(ast.unparse(source) + " ".join(used)):
            return True
    return False


def _embeds_one(file: File, call: ast.Call, function: Function) -> bool:
    """Whether a helper embeds its one text: `input=[text]`, or a parameter whose name is no plural."""
    text = _text(file, call)
    parameters = {a.arg for a in (*function.args.posonlyargs, *function.args.args)}
    if isinstance(text, ast.List):
        return len(text.elts) == 1 and bool({n.id for n in ast.walk(text) if isinstance(n, ast.Name)} & parameters)
    return isinstance(text, ast.Name) and text.id in parameters and not _BATCH.search(text.id) and text.id[-1] != "s"


def _stands_for(node: ast.expr) -> str:
    """The function that `apply(get_embedding)` or `apply(lambda text: get_embedding(text))` names."""
    if isinstance(node, ast.Lambda) and isinstance(node.body, ast.Call):
        node = node.body.func
    return (spelling(node) or "").rpartition(".")[2]


def _items(file: File, call: ast.Call) -> Iterator[tuple[set[str], ast.expr]]:
    """The names that the nearest loop or comprehension around `call` sets, with what it goes over."""
    for node in file.module.ancestors(call):
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            for generator in node.generators:
                yield {n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name)}, generator.iter
            return
        if isinstance(node, ast.stmt):
            break
    loop = innermost_loop(file, call)
    if isinstance(loop, ast.For | ast.AsyncFor) and not _is_range(loop.iter):
        yield {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}, loop.iter


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"


def _single(text: ast.expr) -> bool:
    """Whether the input is one item, not a slice or a list made of the item."""
    if isinstance(text, ast.List):
        return len(text.elts) == 1 and not isinstance(text.elts[0], ast.Starred)
    return not any(isinstance(n, ast.Slice | ast.ListComp | ast.GeneratorExp) for n in ast.walk(text))
