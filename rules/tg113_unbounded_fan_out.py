"""As many requests at once as there are items.

`asyncio.gather` over a list starts every request together. A thousand items are a thousand open requests: most are
turned away by the rate limit, retried together, and time out having cost their input. Bound them with a semaphore.

Bad:

    import asyncio

    from openai import AsyncOpenAI

    client = AsyncOpenAI()

    async def summarise(text):
        return await client.responses.create(model="gpt-4.1-mini", input=text, max_output_tokens=300)

    async def summarise_all(texts):
        return await asyncio.gather(*[summarise(t) for t in texts])  # TG113

    async def direct(texts):
        calls = [client.responses.create(model="gpt-4.1-mini", input=t, max_output_tokens=300) for t in texts]
        return await asyncio.gather(*calls)  # TG113

Good:

    import asyncio

    from openai import AsyncOpenAI

    client = AsyncOpenAI()
    slots = asyncio.Semaphore(8)

    async def summarise(text):
        async with slots:
            return await client.responses.create(model="gpt-4.1-mini", input=text, max_output_tokens=300)

    async def summarise_all(texts):
        return await asyncio.gather(*[summarise(t) for t in texts])

    async def both(text):
        return await asyncio.gather(summarise(text), summarise(text.upper()))

    async def three(text):
        return await asyncio.gather(*[summarise(text) for _ in range(3)])
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.patterns import lazy
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import Function

SEVERITY = "warning"
OPTIONS = {"max_at_once": 10}
WORDS = CALL_WORDS
_BOUND = lazy(
    r"sem(?:aphore|_|$)|limiter|throttl|rate_?limit|max_concurren|concurrency|chunk|batch|pool|islice|slots|queue",
    re.IGNORECASE,
)


def check(file: File) -> Iterator[Report]:
    """Report gathers over a comprehension of requests, where no bound is in sight."""
    if not file.generations:
        return
    for call in file.module.calls_of(("gather", "as_completed", "wait")):
        if file.names.path(call.func) not in ("asyncio.gather", "asyncio.as_completed", "asyncio.wait"):
            continue
        for arg in call.args[:1]:
            tasks = _comprehension(file, arg.value if isinstance(arg, ast.Starred) else arg)
            if tasks is None or _few(file, tasks) or _bounded(file, call, tasks):
                continue
            if any(_requests(file, part) for part in ast.walk(tasks.elt) if isinstance(part, ast.Call)):
                yield Report(
                    call,
                    "This starts a request for every item at once. Bound them with a semaphore, or send them in "
                    "batches.",
                )


def _comprehension(file: File, node: ast.expr) -> ast.ListComp | ast.GeneratorExp | None:
    if isinstance(node, ast.Name):
        found = file.module.scope_at(node).lookup(node.id)
        node = found[1][0].value or node if found and len(found[1]) == 1 else node
    return node if isinstance(node, ast.ListComp | ast.GeneratorExp) else None


def _few(file: File, tasks: ast.ListComp | ast.GeneratorExp) -> bool:
    most: int = file.options["max_at_once"]
    source = tasks.generators[0].iter
    listed = file.written(source)
    if isinstance(listed, ast.List | ast.Tuple | ast.Set):
        return len(listed.elts) <= most
    if isinstance(source, ast.Dict):
        return True
    if (
        isinstance(source, ast.Call)
        and isinstance(source.func, ast.Name)
        and source.func.id == "range"
        and len(source.args) == 1
    ):
        count = file.constant(source.args[0])
        return not isinstance(count, int) or count <= most
    if isinstance(source, ast.Subscript) and isinstance(source.slice, ast.Slice):
        return True
    return bool(_BOUND.search(ast.unparse(source)))


def _requests(file: File, call: ast.Call) -> bool:
    """Whether `call` is a request, or a function of this file that makes one without a bound of its own."""
    if any(call is c for c, _ in file.generations):
        return True
    definition = file.names.definition(file.names.path(call.func))
    if not isinstance(definition, Function) or _mentions_bound(definition):
        return False
    return any(file.module.function_of(c) is definition for c, _ in file.generations)


def _bounded(file: File, call: ast.Call, tasks: ast.ListComp | ast.GeneratorExp) -> bool:
    function = file.module.function_of(call)
    return _mentions_bound(function) if function is not None else bool(_BOUND.search(ast.unparse(tasks)))


def _mentions_bound(function: Function) -> bool:
    for node in ast.walk(function):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name and _BOUND.search(name):
            return True
    return False
