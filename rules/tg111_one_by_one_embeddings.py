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

from tokenguard.lint.loops import innermost_loop
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import EMBEDDINGS, matcher

SEVERITY = "warning"
WORDS = ("embeddings.create", "embed_content", "get_text_embedding", "embedding(", "Embedding.create")
_CALLS = matcher(EMBEDDINGS)
_LAST = tuple({path.rpartition(".")[2] for path in EMBEDDINGS})
_BATCH = re.compile(r"batch|group|slice|window|part|bucket", re.IGNORECASE)


def check(file: File) -> Iterator[Report]:
    """Report embedding calls whose input is the item of the loop around them."""
    for call in file.module.calls_of(_LAST):
        if not _CALLS.fullmatch(file.names.path(call.func)):
            continue
        known = file.arguments(call).known
        text = (
            known.get("input") or known.get("contents") or known.get("texts") or (call.args[0] if call.args else None)
        )
        if text is None:
            continue
        for names, source in _items(file, call):
            used = {n.id for n in ast.walk(text) if isinstance(n, ast.Name)} & names
            if used and _single(text) and not _BATCH.search(ast.unparse(source) + " ".join(used)):
                yield Report(
                    call,
                    "One embeddings request per text. The API takes a list: collect the texts and send them together.",
                )


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
