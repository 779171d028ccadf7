"""As many requests at once as there are items.

`asyncio.gather` over a list starts every request together. A thousand items are a thousand open requests: the
rate limit turns most of them away, they are all retried at the same time, and those that time out have been paid for.
Limit them with a semaphore.

Task groups are the same, and tasks and threads that a loop starts (`asyncio.create_task`, `threading.Thread`), even
if they are waited for in batches later. So are thread pools without `max_workers`, which make up to 32 threads, the
event loop's own pool (`run_in_executor(None, ...)`), and LangChain's `chain.abatch(inputs)` and `chain.batch(inputs)`
without `max_concurrency`. What the tasks call is followed through helpers, of other modules, too; a semaphore or a
limiter anywhere on the way counts as a bound, and so does a loop over batches: batches that are all started together
are no bound. A semaphore that is held only while the tasks are started bounds nothing. Lists of at most `max_at_once`
items are left alone, and so are lists of roles, models, perspectives and the like. A request is a call of an SDK or a
framework, of embeddings, pictures and sound, too, a method of what is named a model (`self.llm.complete(...)`,
`self.llm(prompt)`), or a post to the address of a model's API, or one whose body has a model and messages.

By default it reports what is sure: the items are data (a parameter, lines of a file, rows, the body of a web request,
the chunks of a text, more than twenty that are written out), and the request is in sight. Where the items may be few
(the steps that a model has planned, search terms, what was retrieved, groups, what an object holds, questions about one
text, key words of one topic), or only names say that a model is asked, it reports only if you select it:
`--extend-select TG113`.

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

    async def in_a_group(texts):
        async with asyncio.TaskGroup() as group:
            for text in texts:
                group.create_task(summarise(text))  # TG113

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

    async def in_batches(texts):
        for start in range(0, len(texts), 8):
            await asyncio.gather(*[summarise(t) for t in texts[start : start + 8]])
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.fanout import bounded, fan_outs
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.sending import sends
from tokenguard.lint.sizes import about_one_text, few, many, reads_pieces

SEVERITY = "warning"
TESTS = False
OPTIONS = {"max_at_once": 10}
_OPEN_POOL = lazy(  # not one of a written number
    rb"ThreadPoolExecutor(?:\s*\((?!\s*(?:max_workers\s*=\s*)?\d)|\s+as\b)"
)
_OF_MODELS = lazy(  # a pattern that starts with one of few letters is searched for five times as fast
    rb"[mpdMPD](?i:(?<=llm)|(?<=op)enai|(?<=gp)t|(?<=anthrop)ic|(?<=claud)e|(?<=gem)ini|(?<=ollam)a|(?<=p)rompt"
    rb"|(?<=com)pletion)"
)
WORDS = (("gather(", "async"), ("as_completed(", "async"), ("asyncio.wait(", "async"), "TaskGroup", "create_task_group",
         "open_nursery", ("ThreadPoolExecutor", _OPEN_POOL), ("create_task(", _OF_MODELS),
         ("ensure_future(", _OF_MODELS), (("Thread(", "threading"), _OF_MODELS), (".abatch(", "langchain"),
         (".batch(", "langchain"))  # fmt: skip


def check(file: File) -> Iterator[Report]:
    """Report what starts a request for every item, where neither the items nor the requests are bounded."""
    most: int = file.options["max_at_once"]
    reported: set[ast.expr] = set()
    for fan in fan_outs(file):
        if fan.task in reported or all(few(file, source, most) for source in fan.sources) or bounded(file, fan):
            continue
        if sends(file, fan.task):
            message = f"This starts {fan.how}. Bound them with a semaphore, or send them in batches."
            data = any(many(file, source) for source in fan.sources) and not about_one_text(fan.task, fan.sources)
            data = data or reads_pieces(file, fan.task, fan.sources)
            sure = data and sends(file, fan.task, surely=True)
            reported.add(fan.task)
            yield Report(fan.call, message, sure=sure)
