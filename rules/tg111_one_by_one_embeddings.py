"""Embeddings are asked for one text at a time.

The embeddings APIs take a list: one request for a hundred texts costs the same tokens, a hundredth of the requests, and
stays far below the rate limit. Collect the texts and send them together. Helpers are followed; the one by one of a
fallback, when a request for all of them has failed, is left alone.

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
from typing import NamedTuple

from tokenguard.facts.patterns import lazy
from tokenguard.lint.loops import Loop, innermost_loop, own_nodes
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import EMBEDDINGS, matcher, words_of
from tokenguard.lint.syntax import Function, defaults_of, names_in, parameters_of, spelling, walk

SEVERITY = "warning"
WORDS = words_of(EMBEDDINGS)
_CALLS = matcher(EMBEDDINGS)
_LAST = tuple({path.rpartition(".")[2] for path in EMBEDDINGS})
_INPUTS = ("input", "inputs", "contents", "content", "texts", "text")
_EACH = ("apply", "map", "progress_apply", "progress_map", "parallel_apply", "map_elements")
_MANY = lazy(r"batch|many|embeddings|documents|texts|bulk|_all$", re.IGNORECASE)
_BATCH = lazy(r"batch|group|slice|window|part|bucket", re.IGNORECASE)


def check(file: File) -> Iterator[Report]:
    """Report embedding calls whose input is the item of the loop around them, there or in helpers of this file."""
    calls = [c for c in file.module.calls_of(_LAST) if _CALLS.fullmatch(file.names.path(c.func))]
    for call in calls:
        if (text := _text(file, call)) is not None and _each(file, call, text) and not _second_try(file, call, calls):
            yield _report(call)
    helpers: dict[str, _Helper] = {}
    for call in calls:
        function, text = file.module.function_of(call), _text(file, call)
        if function is not None and text is not None and innermost_loop(file, call) is None:
            _add(helpers, function, _ones(file, text, function))
    yield from _through(file, helpers, calls)
    for call in file.module.calls_of(_EACH) if helpers else ():
        if call.args and _stands_for(call.args[0]) in helpers:
            yield _report(call)


class _Helper(NamedTuple):
    """A function that embeds one text, and the parameters that the text is made of."""

    function: Function
    texts: set[str]


def _add(helpers: dict[str, _Helper], function: Function, texts: set[str]) -> bool:
    """Note which parameters a function embeds, of the first function of a name; whether there is something new."""
    helper = helpers.setdefault(function.name, _Helper(function, set())) if texts else None
    if helper is None or helper.function is not function or texts <= helper.texts:
        return False
    helper.texts.update(texts)
    return True


def _through(file: File, helpers: dict[str, _Helper], calls: list[ast.Call]) -> Iterator[Report]:
    """Report the loops that call a helper for each item; a function that hands its one text on is a helper, too."""
    todo = list(helpers.values())
    reported: set[ast.Call] = set()
    while todo:
        helper = todo.pop()
        for call in file.module.calls_of((helper.function.name,)):
            if file.names.definition(file.names.path(call.func)) is not helper.function:
                continue
            outer, given = file.module.function_of(call), _given(call, helper)
            if any(_each(file, call, arg) for arg in given):
                if call not in reported and not _second_try(file, call, calls):
                    reported.add(call)
                    yield _report(call)
            elif outer is not None and innermost_loop(file, call) is None:
                texts = set().union(*(_ones(file, arg, outer) for arg in given))
                if _add(helpers, outer, texts):
                    todo.append(helpers[outer.name])


def _report(call: ast.Call) -> Report:
    return Report(
        call, "One embeddings request per text. The API takes a list: collect the texts and send them together."
    )


def _text(file: File, call: ast.Call) -> ast.expr | None:
    """The input of a request; None where that may be a list, as Cohere's and Voyage's `texts` always is."""
    known = file.arguments(call).known
    named = (known[name] for name in _INPUTS if name in known)
    text = next(named, call.args[0] if call.args else None)
    lists = isinstance(call.func, ast.Attribute) and call.func.attr == "embed"
    return None if lists and not isinstance(text, ast.List) else text


def _given(call: ast.Call, helper: _Helper) -> list[ast.expr]:
    """What a call gives for the texts of a helper: not its model, or what else the loop goes over."""
    by_place = [
        value for name, value in zip(parameters_of(helper.function), call.args, strict=False) if name in helper.texts
    ]
    return [*by_place, *(k.value for k in call.keywords if k.arg in helper.texts)]


def _each(file: File, call: ast.Call, text: ast.expr) -> bool:
    """Whether `text` is the item of the loop around `call`, or made of it."""
    for names, source in _items(file, call):
        used = names_in(text) & names
        if used and _single(text) and not (_in_chunks(source) or _BATCH.search(ast.unparse(source) + " ".join(used))):
            return True
    return False


def _second_try(file: File, call: ast.Call, calls: list[ast.Call]) -> bool:
    """Whether a call stands in the `except` of a `try` that asks for all texts at once, or in the `else` of that."""
    inner: ast.AST = call
    for outer in file.module.ancestors(call):
        if isinstance(outer, ast.Try) and isinstance(inner, ast.ExceptHandler):
            tried = {id(node) for statement in outer.body for node in walk(statement)}
            if any(id(other) in tried for other in calls) or _asks_for_many(file, outer.body):
                return True
        if any(_falls_back(file, before, calls) for before in _statements_before(outer, inner)):
            return True
        if isinstance(outer, Function):
            return False
        inner = outer
    return False


def _statements_before(outer: ast.AST, inner: ast.AST) -> list[ast.stmt]:
    body: list[ast.stmt] = getattr(outer, "body", [])
    return body[: body.index(inner)] if isinstance(body, list) and inner in body else []


def _falls_back(file: File, tried: ast.stmt, calls: list[ast.Call]) -> bool:
    """Whether a `try` asks for all texts and leaves with them, and goes on below when that has failed."""
    if not isinstance(tried, ast.Try):
        return False
    nodes = {id(node): node for statement in tried.body for node in walk(statement)}
    leaves = any(isinstance(node, ast.Return | ast.Continue | ast.Break) for node in nodes.values())
    goes_on = any(not isinstance(handler.body[-1], ast.Return | ast.Raise) for handler in tried.handlers)
    return leaves and goes_on and (any(id(call) in nodes for call in calls) or _asks_for_many(file, tried.body))


def _asks_for_many(file: File, body: list[ast.stmt]) -> bool:
    """Whether a helper that says it embeds many texts is called: `embed_batch(texts)`, `get_text_embeddings(texts)`."""
    called = (n.func for statement in body for n in walk(statement) if isinstance(n, ast.Call))
    return any(_MANY.search((spelling(func) or "").rpartition(".")[2]) for func in called)


def _ones(file: File, text: ast.expr, function: Function, depth: int = 0) -> set[str]:
    """The parameters of `function` that one text is made of, `[text]` or a name that is no plural; none if many."""
    parameters = {arg.arg for arg, _ in defaults_of(function.args)}
    if isinstance(text, ast.List):
        named = names_in(text) & parameters
        return (named or _ones(file, text.elts[0], function, depth + 1)) if len(text.elts) == 1 else set()
    if isinstance(text, ast.Name) and text.id in parameters:
        return {text.id} if not _BATCH.search(text.id) and text.id[-1] != "s" else set()
    made = file.written(text)
    if (
        depth > 2
        or (made is text and not isinstance(text, ast.Call | ast.Subscript | ast.JoinedStr))
        or not _single(made)
    ):
        return set()
    used = [n for n in walk(made) if isinstance(n, ast.Name) and n.id in parameters and n.id != "self"]
    found = [_ones(file, name, function, depth + 1) for name in used]
    return set().union(*found) if all(found) else set()


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
                yield names_in(generator.target), generator.iter
            return
        if isinstance(node, ast.stmt):
            break
    loop = innermost_loop(file, call)
    while loop is not None and _tries_again(loop):
        loop = innermost_loop(file, loop)
    if isinstance(loop, ast.For | ast.AsyncFor) and (not _is_range(loop.iter) or _counts_items(loop.iter)):
        yield _made_of(names_in(loop.target), loop), loop.iter


def _made_of(names: set[str], loop: ast.For | ast.AsyncFor) -> set[str]:
    """The names of a loop's item, and those that its body makes of it, one of one."""
    names = set(names)
    made = [(target, value) for node in own_nodes(loop) for target, value in _made(node)]
    for _ in range(6):  # names of names
        names.update(target for target, value in made if names & names_in(value))
    return names


def _made(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The name that a statement gives to one thing, and what it is made of: also a file that is opened."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _single(value) and not isinstance(value, ast.List):
            yield name, value
        case ast.withitem(context_expr=value, optional_vars=ast.Name(id=name)):
            yield name, value


def _tries_again(loop: Loop) -> bool:
    """Whether a loop is one over attempts: it counts, or has no end, and is left once it is done."""
    endless = isinstance(loop, ast.While) or (_is_range(loop.iter) and not _counts_items(loop.iter))
    return endless and any(isinstance(node, ast.Break | ast.Return) for node in own_nodes(loop))


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"


def _counts_items(node: ast.expr) -> bool:
    """Whether a range is over the places of a list, one by one: `range(len(texts))`."""
    if not (_is_range(node) and isinstance(node, ast.Call) and 1 <= len(node.args) <= 2):
        return False
    last = node.args[-1]
    return isinstance(last, ast.Call) and isinstance(last.func, ast.Name) and last.func.id == "len"


def _in_chunks(source: ast.expr) -> bool:
    """Whether what a loop goes over is a list in parts: `chunked(texts, 100)`; `chunk_text(text, 500)` is texts."""
    if not (isinstance(source, ast.Call) and len(source.args) + len(source.keywords) > 1 and source.args):
        return False
    name, given = ((spelling(node) or "").rpartition(".")[2] for node in (source.func, source.args[0]))
    return name in ("chunked", "array_split") or ("chunk" in name and given.endswith("s"))


def _single(text: ast.expr) -> bool:
    """Whether the input is one item, not a slice or a list made of the item."""
    if isinstance(text, ast.List):
        return len(text.elts) == 1 and not isinstance(text.elts[0], ast.Starred)
    return not any(isinstance(n, ast.Slice | ast.ListComp | ast.GeneratorExp) for n in walk(text))
