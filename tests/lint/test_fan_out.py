"""TG113: requests started together are found however they are started; what bounds them is no matter of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.run import lint_file

TOP = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from openai import AsyncOpenAI, OpenAI
client = AsyncOpenAI()
sync = OpenAI()
async def title(text):
    return await client.responses.create(model="m", input=text, max_output_tokens=5)
async def process(text, i):
    return i, await title(text)
def ask(text):
    return sync.responses.create(model="m", input=text, max_output_tokens=5)
"""

REPORTED = {
    "tasks that are started at once and waited for in batches": (
        "async def f(texts):\n    tasks = []\n    for t in texts:\n        task = asyncio.create_task(process(t, 1))\n"
        "        tasks.append((t, task))\n    for i in range(0, len(tasks), 4):\n"
        "        await asyncio.gather(*[task for _, task in tasks[i:i + 4]])"
    ),
    "two pools of one name": (
        "def f(texts):\n    with ThreadPoolExecutor() as pool:\n        pool.map(ask, texts)\n"
        "    with ThreadPoolExecutor(max_workers=None) as pool:\n        print(pool)"
    ),
    "vectors by the module itself": (
        "import openai\nasync def one(t):\n    return await openai.Embedding.acreate(input=t, model='m')\n"
        "async def f(texts):\n    return await asyncio.gather(*[one(t) for t in texts])"
    ),
    "what manages the models": (
        "async def f(texts, llm_manager):\n    await asyncio.gather(*[llm_manager.query_async('m', t) for t in texts])"
    ),
    "tasks nobody waits for": "async def f(texts):\n    for t in texts:\n        asyncio.create_task(process(t, 1))",
    "tasks of a loop object": (
        "async def f(texts):\n    loop = asyncio.get_event_loop()\n    tasks = [loop.create_task(title(t)) for t in texts]\n"
        "    for task in tasks:\n        await task"
    ),
    "a thread of its own for each": (
        "import threading\ndef f(texts):\n    threads = []\n    for t in texts:\n        thread = threading.Thread(target=ask, args=(t,))\n"
        "        thread.start()\n        threads.append(thread)\n    for thread in threads:\n        thread.join()"
    ),
    "a thread for each, and a text that is joined": (
        "import threading\ndef f(texts):\n    for t in texts:\n        said = ' '.join(t)\n"
        "        threading.Thread(target=ask, args=(said,)).start()"
    ),
    "a while loop over a list": (
        "def f(texts):\n    i = 0\n    with ThreadPoolExecutor() as pool:\n        while i < len(texts):\n"
        "            pool.submit(ask, texts[i])\n            i += 1"
    ),
    "a while loop over a queue": (
        "import queue\ndef f(texts):\n    q = queue.Queue()\n    with ThreadPoolExecutor() as pool:\n        while not q.empty():\n"
        "            pool.submit(ask, q.get())"
    ),
    "a semaphore that is held while a task is started": (
        "async def f(texts):\n    sem = asyncio.Semaphore(4)\n    tasks = []\n    for t in texts:\n        async with sem:\n"
        "            tasks.append(asyncio.create_task(title(t)))\n    await asyncio.gather(*tasks)"
    ),
    "a semaphore that is held around all": (
        "async def f(texts, semaphore: asyncio.Semaphore):\n    async with semaphore:\n"
        "        return await asyncio.gather(*[title(t) for t in texts])"
    ),
    "predict of a model in a thread": (
        "async def f(records, llm):\n    async def again(record):\n        def blocking():\n            return llm.predict(record)\n"
        "        return await asyncio.to_thread(blocking)\n    await asyncio.gather(*[again(r) for r in records])"
    ),
    "the list's name does not matter": "async def f(chunks):\n    return await asyncio.gather(*[title(c) for c in chunks])",
    "nor does another": "async def f(batches):\n    return await asyncio.gather(*[title(c) for c in batches])",
    "two hops": "async def f(texts):\n    tasks = [process(t, i) for i, t in enumerate(texts)]\n    return await asyncio.gather(*tasks)",
    "extend": "async def f(texts):\n    tasks = []\n    tasks.extend(title(t) for t in texts)\n    await asyncio.gather(*tasks)",
    "append": "async def f(texts):\n    tasks = []\n    for t in texts:\n        tasks.append(title(t))\n    await asyncio.gather(*tasks)",
    "append of tasks": (
        "async def f(texts):\n    tasks = []\n    for t in texts:\n        tasks.append(asyncio.create_task(process(t, 1)))\n"
        "    await asyncio.gather(*tasks)"
    ),
    "map": "async def f(texts):\n    await asyncio.gather(*map(title, texts))",
    "a list that grew": (
        "async def f(found):\n    texts = []\n    for x in found:\n        texts.append(x.text)\n"
        "    await asyncio.gather(*[title(t) for t in texts])"
    ),
    "a dict that grew": (
        "async def f(found):\n    texts = {}\n    for x in found:\n        texts[x.url] = x.text\n"
        "    await asyncio.gather(*(title(t) for t in texts.values()))"
    ),
    "claims and a question": "async def f(question, claims):\n    await asyncio.gather(*[process(c, question) for c in claims])",
    "as_completed": "async def f(texts):\n    for done in asyncio.as_completed([title(t) for t in texts]):\n        await done",
    "task group": (
        "async def f(texts):\n    async with asyncio.TaskGroup() as group:\n        for t in texts:\n"
        "            group.create_task(title(t))"
    ),
    "task group in a comprehension": (
        "async def f(texts):\n    async with asyncio.TaskGroup() as tg:\n        return [tg.create_task(title(t)) for t in texts]"
    ),
    "each part of each batch": "async def f(batches):\n    await asyncio.gather(*[title(x) for batch in batches for x in batch])",
    "two models for each of many": (
        "async def f(texts):\n    tasks = []\n    for t in texts:\n        for p in ('a', 'b'):\n            tasks.append(process(t, p))\n"
        "    await asyncio.gather(*tasks)"
    ),
    "a helper that names its seller": (
        "async def f(texts):\n    await asyncio.gather(*[call_openai(t) for t in texts])\n"
    ),
    "anyio": (
        "import anyio\nasync def f(texts):\n    async with anyio.create_task_group() as tg:\n        for t in texts:\n"
        "            tg.start_soon(title, t)"
    ),
    "tasks as the keys of a dict": (
        "async def f(texts):\n    tasks = {asyncio.ensure_future(title(t)): t for t in texts}\n"
        "    await asyncio.wait([t for t in tasks.keys() if not t.done()])"
    ),
    "tasks as the values of a dict": (
        "async def f(texts):\n    tasks = {}\n    for i, t in enumerate(texts):\n        tasks[i] = asyncio.create_task(title(t))\n"
        "    await asyncio.gather(*tasks.values())"
    ),
    "the number of the items": (
        "async def f(texts):\n    n = len(texts)\n    await asyncio.gather(*[title(texts[i]) for i in range(n)])"
    ),
    "waited for in two branches": (
        "async def f(texts, old):\n    tasks = [asyncio.create_task(title(t)) for t in texts]\n    if old:\n"
        "        await asyncio.wait(tasks)\n    else:\n        await asyncio.wait(tasks, timeout=3)"
    ),
    "a group's tasks gathered, too": (
        "async def f(texts):\n    async with asyncio.TaskGroup() as tg:\n        tasks = []\n        for t in texts:\n"
        "            tasks.append(tg.create_task(title(t)))\n    return await asyncio.gather(*tasks)"
    ),
    "a chain": (
        "async def one(chain, row):\n    return await chain.arun(row)\nasync def f(frame, chain):\n    tasks = []\n"
        "    for _, row in frame.iterrows():\n        tasks.append(one(chain, row))\n    await asyncio.gather(*tasks)"
    ),
    "a pool of the package's full name": (
        "import concurrent.futures\ndef f(texts):\n    with concurrent.futures.ThreadPoolExecutor() as pool:\n"
        "        return [pool.submit(ask, t) for t in texts]"
    ),
    "a thread for each": (
        "def f(texts):\n    with ThreadPoolExecutor(max_workers=len(texts) or 1) as pool:\n"
        "        return list(pool.map(ask, texts))"
    ),
    "the default executor": (
        "async def f(texts):\n    loop = asyncio.get_running_loop()\n"
        "    await asyncio.gather(*[loop.run_in_executor(None, ask, t) for t in texts])"
    ),
    "the method of a parameter's class": (
        "class Model:\n    async def answer(self, t):\n        return await title(t)\n"
        "async def f(model: Model, texts):\n    await asyncio.gather(*[model.answer(t) for t in texts])"
    ),
    "pool map": "def f(texts):\n    with ThreadPoolExecutor() as pool:\n        return list(pool.map(ask, texts))",
    "pool submit": (
        "def f(texts):\n    with ThreadPoolExecutor() as pool:\n        futures = [pool.submit(ask, t) for t in texts]"
    ),
    "pool submit in a loop": (
        "def f(texts):\n    pool = ThreadPoolExecutor(max_workers=len(texts))\n    for t in texts:\n        pool.submit(ask, t)"
    ),
    "a framework's model": "async def f(llm, texts):\n    await asyncio.gather(*[llm.ainvoke(t) for t in texts])",
    "the agents SDK": (
        "from agents import Agent, Runner\nasync def f(agent, texts):\n"
        "    await asyncio.gather(*[Runner.run(agent, t) for t in texts])"
    ),
    "a task with a name": "async def f(texts):\n    tasks = []\n    for text in texts:\n        task = asyncio.create_task(title(text))\n        tasks.append(task)\n    await asyncio.gather(*tasks)",
    "a crew": "async def f(crew, leads):\n    await asyncio.gather(*[crew.kickoff_async(inputs=lead) for lead in leads])",
    "a model's own method": "class A:\n    async def f(self, texts):\n        await asyncio.gather(*[self.llm.astructured_predict(M, t) for t in texts])\n",
    "a client chosen by slot": "async def pick(text):\n    get_model_slot()\n    return await title(text)\nasync def f(texts):\n    await asyncio.gather(*[pick(t) for t in texts])",
    "a task in a tuple": "async def f(texts):\n    jobs = []\n    for i, text in enumerate(texts):\n        jobs.append((title(text), i))\n    await asyncio.gather(*(job[0] for job in jobs))",
    "a rate limit that is caught is no bound": "async def patient(text):\n    try:\n        return await title(text)\n    except RateLimitError:\n        return None\nasync def f(texts):\n    await asyncio.gather(*[patient(t) for t in texts])",
    "a delimiter is no limiter": "async def f(path, delimiter):\n    texts = open(path).read().split(delimiter)\n    await asyncio.gather(*[title(t) for t in texts])",
    "a number of all items": "async def f(claims):\n    n = len(claims)\n    await asyncio.gather(*[title(claims[i]) for i in range(int(n))])",
    "a model's client": "async def f(llm_client, frames):\n    await asyncio.gather(*[llm_client.generate_response(x) for x in frames])",
    "agents": "async def one(agent):\n    return await agent.run()\nasync def f(tasks):\n    await asyncio.gather(*[one(Agent(t)) for t in tasks])",
    "a function that says so": "async def f(docs):\n    await asyncio.gather(*[fix_doc_with_llm(d) for d in docs])",
    "a gateway": "async def f(docs):\n    await asyncio.gather(*[LLMGateway.acreate_structured_output(d) for d in docs])",
    "a model's method in a thread": (
        "async def one(llm, t):\n    return await asyncio.to_thread(llm.invoke, t)\n"
        "async def f(llm, texts):\n    await asyncio.gather(*[one(llm, t) for t in texts])"
    ),
    "a seller's client": (
        "class A:\n    async def one(self, t):\n        return await self.ollama_client.generate(t)\n"
        "    async def f(self, texts):\n        await asyncio.gather(*(self.one(t) for t in texts))"
    ),
    "a semaphore that is entered once for all": (
        "class A:\n    async def f(self, texts):\n        async with self.semaphore:\n"
        "            await asyncio.gather(*[title(t) for t in texts])"
    ),
    "what is told the messages and the model": (
        "from gpt import send_request\nasync def one(t):\n    return await send_request(messages=[t], model='m')\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "the asynchronous method of a client that has both": (
        "from mistralai import Mistral\nboth = Mistral()\nasync def one(t):\n"
        "    return await both.chat.complete_async(model='m', messages=[t], max_tokens=5)\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
}  # fmt: skip

SILENT = {
    "a name that stands for many later": "async def f(texts, a, b):\n    tasks = [a, b]\n    await asyncio.gather(*tasks)\n    tasks = [title(t) for t in texts]\n    for task in tasks:\n        await task",
    "a task that the next one waits for": (
        "async def f(texts):\n    for t in texts:\n        task = asyncio.create_task(title(t))\n        print(await task)"
    ),
    "a thread that the next one waits for": (
        "import threading\ndef f(texts):\n    for t in texts:\n        thread = threading.Thread(target=ask, args=(t,))\n"
        "        thread.start()\n        thread.join()"
    ),
    "a thread that the next one waits for, five seconds": (
        "import threading\ndef f(texts):\n    for t in texts:\n        thread = threading.Thread(target=ask, args=(t,))\n"
        "        thread.start()\n        thread.join(5)"
    ),
    "threads of a few": (
        "import threading\ndef f():\n    for t in ('a', 'b'):\n        threading.Thread(target=ask, args=(t,)).start()"
    ),
    "workers of a queue": (
        "async def worker(q):\n    while True:\n        await title(await q.get())\n"
        "async def f(q):\n    return [asyncio.create_task(worker(q)) for _ in range(4)]"
    ),
    "tasks in batches": (
        "async def f(texts):\n    for i in range(0, len(texts), 4):\n        tasks = []\n        for t in texts[i:i + 4]:\n"
        "            tasks.append(asyncio.create_task(title(t)))\n        await asyncio.gather(*tasks)"
    ),
    "a semaphore that the tasks are given": (
        "async def one(t, sem):\n    async with sem:\n        return await title(t)\nasync def f(texts):\n"
        "    sem = asyncio.Semaphore(4)\n    await asyncio.gather(*[one(t, sem) for t in texts])"
    ),
    "all agents but one": (
        "async def f(active_agents, one):\n    ids = [a.id for a in active_agents if a.id != one]\n"
        "    await asyncio.gather(*[title(i) for i in ids])"
    ),
    "what each agent has said": (
        "async def f(responses: 'list[AgentResponse]'):\n    await asyncio.gather(*[title(r.text) for r in responses])"
    ),
    "two for each of two": "async def f():\n    await asyncio.gather(*[title(x + y) for x in ('a', 'b') for y in ('a', 'b')])",
    "a list that collects anew in each round": (
        "async def f(texts):\n    for t in texts:\n        tasks = []\n        for p in ('a', 'b'):\n"
        "            tasks.append(process(t, p))\n        await asyncio.gather(*tasks)"
    ),
    "a group in each round": (
        "async def f(texts):\n    for t in texts:\n        async with asyncio.TaskGroup() as tg:\n"
        "            for p in ('a', 'b'):\n                tg.create_task(process(t, p))"
    ),
    "the first two of a kind": (
        "async def f(judges):\n    kept = []\n    for j in judges:\n        if j.known and len(kept) < 2:\n"
        "            kept.append(j)\n    await asyncio.gather(*[title(j) for j in kept])"
    ),
    "left when there are enough": (
        "async def f(texts):\n    kept = []\n    for t in texts:\n        if len(kept) == 3:\n            break\n"
        "        kept.append(t)\n    await asyncio.gather(*[title(t) for t in kept])"
    ),
    "a semaphore in the helper": (
        "gate = asyncio.Semaphore(5)\nasync def slow(t):\n    async with gate:\n        return await title(t)\n"
        "async def f(texts):\n    semaphore_used = gate\n    await asyncio.gather(*[slow(t) for t in texts])"
    ),
    "a semaphore two hops down": (
        "sem = asyncio.Semaphore(5)\nasync def slow(t):\n    async with sem:\n        return await title(t)\n"
        "async def outer(t):\n    return await slow(t)\n"
        "async def f(texts):\n    await asyncio.gather(*[outer(t) for t in texts])"
    ),
    "a wrapper that bounds": (
        "async def limited(task, gate=asyncio.Semaphore(3)):\n    async with gate:\n        return await task\n"
        "async def f(texts):\n    await asyncio.gather(*[limited(title(t)) for t in texts])"
    ),
    "slices": (
        "async def f(texts):\n    for i in range(0, len(texts), 5):\n"
        "        await asyncio.gather(*[title(t) for t in texts[i : i + 5]])"
    ),
    "a slice by name": (
        "async def f(texts):\n    for i in range(0, len(texts), 5):\n        some = texts[i : i + 5]\n"
        "        await asyncio.gather(*[title(t) for t in some])"
    ),
    "batches": "async def f(items):\n    for some in batched(items, 5):\n        await asyncio.gather(*[title(t) for t in some])",
    "a short list": "async def f():\n    await asyncio.gather(*[title(t) for t in ('a', 'b')])",
    "a constant of the module": "KINDS = ['a', 'b']\nasync def f():\n    await asyncio.gather(*[title(t) for t in KINDS])",
    "a few of many": "async def f(texts):\n    await asyncio.gather(*[title(t) for t in texts[:3]])",
    "a pool of four": "def f(texts):\n    with ThreadPoolExecutor(max_workers=4) as pool:\n        list(pool.map(ask, texts))",
    "a pool of the items, but of no more than": (
        "def f(texts, most=4):\n    workers = max(1, min(most, len(texts)))\n"
        "    with ThreadPoolExecutor(workers) as pool:\n        list(pool.map(ask, texts))"
    ),
    "two slices together": (
        "async def f(texts, names):\n    for i in range(0, len(texts), 5):\n        part = texts[i : i + 5], names[i : i + 5]\n"
        "        await asyncio.gather(*[title(t + n) for t, n in zip(*part)])"
    ),
    "a pool whose size is configured": "def f(texts, n):\n    with ThreadPoolExecutor(n) as pool:\n        list(pool.map(ask, texts))",
    "a model's slot is no bound of ours, and none is needed for two": "async def f(a, b):\n    await asyncio.gather(*[title(t) for t in (a, b)])",
    "a chat that is no model": "async def f(rooms):\n    await asyncio.gather(*[r.chat.generate(r) for r in rooms])",
    "the tools of one answer": "async def run_tool(call):\n    return await title(call)\nasync def f(tool_calls):\n    await asyncio.gather(*[run_tool(c) for c in tool_calls])",
    "a team of agents": "async def f(agents, task):\n    await asyncio.gather(*[agent.run(task) for agent in agents])",
    "a list of metrics": "async def f(metrics, text):\n    await asyncio.gather(*[title(m + text) for m in metrics])",
    "making a model asks it nothing": "async def f(names):\n    await asyncio.gather(*[create_llm(n) for n in names])",
    "a sample": (
        "import random\nasync def every(rows):\n    await asyncio.gather(*[title(r) for r in rows])\n"
        "async def f(rows):\n    part = random.sample(rows, 5) if len(rows) > 5 else list(rows)\n    await every(part)"
    ),
    "a table's first rows": (
        "async def f(table, most):\n    first = table.head(most)\n    texts = first['body'].fillna('').tolist()\n"
        "    await asyncio.gather(*[title(t) for t in texts])"
    ),
    "what a model has that asks nothing": "async def f(self, texts):\n    await asyncio.gather(*[self.llm.count_tokens(t) for t in texts])",
    "an agent that is only kept": (
        "from agents import Agent\nwriter = Agent(name='a')\nasync def keep(store, name):\n    return await store.add(writer, name)\n"
        "async def f(store, names):\n    await asyncio.gather(*[keep(store, n) for n in names])"
    ),
    "models that are made": "async def f(names):\n    await asyncio.gather(*[LLM(n).start() for n in names])",
    "a list of models": "async def f(model_list, text):\n    await asyncio.gather(*[title(m + text) for m in model_list])",
    "a few roles": "async def f(prompts):\n    await asyncio.gather(*[title(p) for role, p in prompts.items()])",
    "a few perspectives": "async def f(perspectives):\n    await asyncio.gather(*[title(p) for p in perspectives])",
    "queries for one question": "async def f(expanded_queries):\n    await asyncio.gather(*[title(q) for q in expanded_queries])",
    "only where they are few": (
        "async def f(texts):\n    if len(texts) <= 3:\n        await asyncio.gather(*[title(t) for t in texts])"
    ),
    "a prompt for each of a few": (
        "async def f(perspectives):\n    prompts = []\n    for p in perspectives:\n        prompts.append(str(p))\n"
        "    await asyncio.gather(*[title(p) for p in prompts])"
    ),
    "each batch, by a function": (
        "async def batch_of(part):\n    await asyncio.gather(*[title(t) for t in part])\n"
        "async def f(texts):\n    for i in range(0, len(texts), 8):\n        batch = texts[i : i + 8]\n        await batch_of(batch)"
    ),
    "the columns of each batch": (
        "async def batch_of(names):\n    await asyncio.gather(*[title(n) for n in names])\n"
        "async def f(df):\n    for i in range(0, len(df), 8):\n        batch = df.iloc[i : i + 8]\n"
        "        await batch_of(batch['name'].tolist())"
    ),
    "the first ten, by a function": (
        "async def every(rows):\n    await asyncio.gather(*[title(r) for r in rows])\n"
        "rows = load()[:10]\nasyncio.run(every(rows))"
    ),
    "a local model": (
        "async def one(t, model):\n    return model.generate(t)\n"
        "async def f(texts, model):\n    await asyncio.gather(*[one(t, model) for t in texts])"
    ),
    "a post to something else": (
        "async def f(session, rows):\n    await asyncio.gather(*[session.post('https://example.com/rows', json=r) for r in rows])"
    ),
    "no requests": "async def f(urls):\n    await asyncio.gather(*[fetch(u) for u in urls])",
    "a client that holds up the loop": (
        "async def one(t):\n    reply = sync.responses.create(model='m', input=t, max_output_tokens=5)\n"
        "    return reply.output_text\nasync def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "the rows of a batch": (
        "async def f(after):\n    while batch_rows := await read(after, 5):\n        after = batch_rows[-1]\n"
        "        await asyncio.gather(*[title(r) for r in batch_rows])"
    ),
    "six years": "async def f():\n    years = list(range(2019, 2025))\n    await asyncio.gather(*[title(y) for y in years])",
    "a module's metrics": "METRICS = [*A, *B]\nasync def f():\n    await asyncio.gather(*[title(m) for m in METRICS])",
    "what counts tokens": (
        "from sizes import count_tokens\nasync def one(t):\n    return await count_tokens(messages=[t], model='m')\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", REPORTED.values(), ids=REPORTED)
def test_unbounded_starts_are_reported_once(lint, code: str) -> None:
    """A request for every item, through helpers, lists, groups and pools."""
    assert len(lint(TOP + code, "TG113")) == 1


SILENT |= {
    "a text that is cut down before it is split": (
        "async def f(text):\n    if len(text) > 200_000:\n        text = text[:200_000]\n"
        "    parts = [text[i:i + 40_000] for i in range(0, len(text), 40_000)]\n"
        "    await asyncio.gather(*[title(p) for p in parts])"
    ),
    "a function whose caller gives it few, by place": (
        "async def f(kind, texts, /):\n    await asyncio.gather(*[title(t) for t in texts])\n"
        "async def g():\n    await f('a', ['b', 'c'])"
    ),
    "a method whose callers, through an object of its class, give it few": (
        "class Planner:\n    async def all(self, items):\n        return await asyncio.gather(*[title(i) for i in items])\n"
        "async def demo():\n    planner = Planner()\n    items = ['a', 'b', 'c']\n    await planner.all(items)"
    ),
    "a chain's batch with a bound": (
        "from langchain_openai import ChatOpenAI\nchain = PROMPT | ChatOpenAI(model='m', max_tokens=9)\n"
        "async def f(texts):\n    return await chain.abatch(texts, config={'max_concurrency': 4})"
    ),
    "a batch of a few": (
        "from langchain_openai import ChatOpenAI\nchain = PROMPT | ChatOpenAI(model='m', max_tokens=9)\n"
        "chain.batch([{'topic': 'bears'}, {'topic': 'cats'}])"
    ),
    "a batch of what is no model": "import langchain\ndef f(dataset, rows):\n    return dataset.batch(rows)",
}


@pytest.mark.parametrize("code", SILENT.values(), ids=SILENT)
def test_bounds_and_short_lists_are_seen(lint, code: str) -> None:
    """Semaphores on the way, batches, short lists, pools with a number of threads."""
    assert lint(TOP + code, "TG113") == []


def test_helpers_of_other_modules_are_followed(tmp_path: Path) -> None:
    """A request in an imported helper counts; a semaphore there does, too."""
    (tmp_path / "ask.py").write_text(TOP)
    (tmp_path / "main.py").write_text(
        "import asyncio\nfrom ask import process\nasync def f(texts):\n    await asyncio.gather(*[process(t, 0) for t in texts])\n"
    )
    path = str(tmp_path / "main.py")
    assert [f.rule for f in lint_file(Linter(Config(root=tmp_path, select=("TG113",))), path).findings] == ["TG113"]
    (tmp_path / "ask.py").write_text(
        TOP.replace("return i, await title(text)", "async with semaphore:\n        await title(text)")
    )
    assert lint_file(Linter(Config(root=tmp_path, select=("TG113",))), path).findings == []


def test_a_bound_of_another_module_is_known_whatever_is_told_there(tmp_path: Path) -> None:
    """A function that says it asks a model, and is told the messages and the model, is still looked into."""
    asked = "async def ask_with_care(model, messages):\n    return await client.responses.create(model=model, input=messages)\n"
    (tmp_path / "main.py").write_text(
        "import asyncio\nfrom ask import ask_with_care\nasync def one(row):\n    return await ask_with_care(model='m', messages=[row])\n"
        "async def f(df):\n    await asyncio.gather(*[one(row) for _, row in df.iterrows()])\n"
    )
    for entered, expected in (("", ["TG113"]), ("    async with semaphore:\n    ", [])):
        (tmp_path / "ask.py").write_text(
            f"{TOP}semaphore = asyncio.Semaphore(4)\n{asked.replace('    return', f'{entered}    return')}"
        )
        linter = Linter(Config(root=tmp_path, select=("TG113",)))
        assert [f.rule for f in lint_file(linter, str(tmp_path / "main.py")).findings] == expected


def test_a_method_of_another_modules_class_is_followed(tmp_path: Path) -> None:
    """`client.answer(...)`, where `client` is a parameter or an object of a class that another module defines."""
    (tmp_path / "clients.py").write_text(
        TOP + "class Client:\n    def answer(self, t):\n        return ask(t)\nshared = Client()\n"
    )
    for start in ("async def f(c: Client, texts):", "async def f(texts, c=shared):"):
        (tmp_path / "main.py").write_text(
            f"import asyncio\nfrom clients import Client, shared\n{start}\n"
            "    await asyncio.gather(*[asyncio.to_thread(c.answer, t) for t in texts])\n"
        )
        linter = Linter(Config(root=tmp_path, select=("TG113",)))
        assert [f.rule for f in lint_file(linter, str(tmp_path / "main.py")).findings] == ["TG113"], start


def test_an_agent_of_another_module_is_known(tmp_path: Path) -> None:
    """`intern.run(...)`, where another module of the project makes `intern`, an agent."""
    (tmp_path / "staff.py").write_text("from pydantic_ai import Agent\nintern = Agent('openai:gpt-4.1')\n")
    (tmp_path / "main.py").write_text(
        "import asyncio\nfrom staff import intern\nasync def f(texts):\n    await asyncio.gather(*[intern.run(t) for t in texts])\n"
    )
    linter = Linter(Config(root=tmp_path, select=("TG113",)))
    assert [f.rule for f in lint_file(linter, str(tmp_path / "main.py")).findings] == ["TG113"]


SURE = {
    "a parameter and one more": (
        "async def f(texts):\n    texts += ['']\n    await asyncio.gather(*[title(t) for t in texts])"
    ),
    "a list that grew by +=": (
        "async def f(path):\n    todo = []\n    for line in open(path):\n        if line:\n            todo += [line]\n"
        "    await asyncio.gather(*[title(t) for t in todo])"
    ),
    "a parameter": "async def f(texts):\n    await asyncio.gather(*[title(t) for t in texts])",
    "a parameter that a call fills with data": (
        "def split(text):\n    return text.split()\nasync def f(texts):\n    await asyncio.gather(*[title(t) for t in texts])\n"
        "async def g(text):\n    await f(split(text))"
    ),
    "the lines of a file": (
        "async def f(path):\n    tasks = []\n    with open(path) as file:\n        for line in file:\n"
        "            tasks.append(title(line))\n    await asyncio.gather(*tasks)"
    ),
    "rows of a table": "async def f(df):\n    await asyncio.gather(*[title(r) for _, r in df.iterrows()])",
    "the body of a web request": (
        "@router.post('/rewrite')\nasync def f(request):\n    await asyncio.gather(*[title(t) for t in request.bullets])"
    ),
    "what an object was given": (
        "class A:\n    def __init__(self, documents):\n        self.documents = documents\n"
        "    async def f(self):\n        await asyncio.gather(*[title(d) for d in self.documents])"
    ),
    "one answer for each": (
        "async def f(texts):\n    found = await asyncio.gather(*[embed(t) for t in texts])\n"
        "    await asyncio.gather(*[process(t, i) for t, i in zip(texts, found)])"
    ),
    "data, but for a try": (
        "async def f(debug):\n    if debug:\n        texts = ['a', 'b']\n    else:\n        texts = await load_texts()\n"
        "    await asyncio.gather(*[title(t) for t in texts])"
    ),
    "a dict that is given": "async def f(pages):\n    await asyncio.gather(*[process(t, u) for u, t in pages.items()])",
    "a list that is written out, and long": (
        f"TOPICS = {[f'topic {n}' for n in range(30)]}\nasync def f():\n    await asyncio.gather(*[title(t) for t in TOPICS])"
    ),
    "what is deep in a file": (
        "import json\nasync def f(path):\n    data = json.loads(open(path).read())\n    tasks = []\n"
        "    for group in data['body']['items'].values():\n        for item in group:\n            tasks.append(title(item))\n"
        "    await asyncio.gather(*tasks)"
    ),
    "a request without an SDK": (
        "async def one(session, text):\n    url = 'https://api.openai.com/v1/chat/completions'\n"
        "    async with session.post(url, json={'messages': [text]}) as answer:\n        return await answer.json()\n"
        "async def f(session, texts):\n    await asyncio.gather(*[one(session, t) for t in texts])"
    ),
    "the address of a server": (
        "async def one(client, base, text):\n    return await client.post(f'{base}/v1/chat/completions', json={'input': text})\n"
        "async def f(client, base, texts):\n    await asyncio.gather(*[one(client, base, t) for t in texts])"
    ),
    "the method of what is named a model": (
        "class A:\n    async def f(self, texts):\n        await asyncio.gather(*[self.llm.get_response_async(t) for t in texts])"
    ),
    "a provider's chat": (
        "async def f(provider, texts):\n    await asyncio.gather(*[provider.chat_completion({'messages': t}) for t in texts])"
    ),
    "the method itself, in a pool": (
        "def f(template, inputs):\n    with ThreadPoolExecutor() as pool:\n"
        "        return [pool.submit(llm.invoke, template.format(i)) for i in inputs]"
    ),
    "a model that is called": (
        "from langchain_core.language_models import BaseChatModel\n"
        "def f(rows, chat: BaseChatModel):\n    def one(row):\n        return chat([row])\n"
        "    with ThreadPoolExecutor() as pool:\n        return list(pool.map(one, rows))"
    ),
}
SURE |= {
    "a client's own method, in a pool": (
        "def f(prompts):\n    with ThreadPoolExecutor() as pool:\n        return list(pool.map(sync.chat.completions.create, prompts))"
    ),
    "a client's own method, in the loop's pool": (
        "async def f(prompts):\n    loop = asyncio.get_running_loop()\n"
        "    await asyncio.gather(*[loop.run_in_executor(None, sync.chat.completions.create, p) for p in prompts])"
    ),
    "a pool without a number, by the loop": (
        "async def f(texts):\n    loop = asyncio.get_running_loop()\n    with ThreadPoolExecutor() as pool:\n"
        "        await asyncio.gather(*[loop.run_in_executor(pool, ask, t) for t in texts])"
    ),
    "the loop's pool, in a helper": (
        "from functools import partial\nasync def one(t):\n    loop = asyncio.get_running_loop()\n"
        "    return await loop.run_in_executor(None, lambda: ask(t))\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a model that is called in the loop's pool": (
        "from langchain_openai import ChatOpenAI\nasync def f(texts):\n    loop = asyncio.get_running_loop()\n"
        "    model = ChatOpenAI(max_tokens=5)\n    await asyncio.gather(*[loop.run_in_executor(None, model, t) for t in texts])"
    ),
    "a chain that was handed in": (
        "from langchain.chains import LLMChain\nasync def one(chain, t):\n    return await chain.arun(t)\n"
        "async def f(chain, texts):\n    await asyncio.gather(*[one(chain, t) for t in texts])"
    ),
    "a model that was handed in, and is called": (
        "from langchain_openai import ChatOpenAI\nasync def one(ask_it, t):\n    return await ask_it([t])\n"
        "async def f(texts):\n    model = ChatOpenAI(max_tokens=5)\n    await asyncio.gather(*[one(model, t) for t in texts])"
    ),
    "a post whose body names a model and its messages": (
        "async def one(session, url, t):\n    body = {'model': 'm', 'messages': [t], 'max_tokens': 5}\n"
        "    async with session.post(url, json=body) as answer:\n        return await answer.json()\n"
        "async def f(session, url, texts):\n    await asyncio.gather(*[one(session, url, t) for t in texts])"
    ),
    "a deployment's address": (
        "async def one(client, t):\n    url = 'https://example.com/openai/deployments/d/chat/completions'\n"
        "    return await client.post(url, data=t)\n"
        "async def f(client, texts):\n    await asyncio.gather(*[one(client, t) for t in texts])"
    ),
    "an engine's address": (
        "async def one(client, engine, t):\n    return await client.post(f'https://example.com/v1/engines/{engine}/completions', data=t)\n"
        "async def f(client, engine, texts):\n    await asyncio.gather(*[one(client, engine, t) for t in texts])"
    ),
    "what is told the messages and the model, in a pool": (
        "class A:\n    def one(self, t):\n        return self.talk.request(messages=[t], model=self.name, max_tokens=3)\n"
        "    def f(self, texts):\n        with ThreadPoolExecutor() as pool:\n            return list(pool.map(self.one, texts))"
    ),
    "a column of a table": (
        "import pandas as pd\ndef f(data: pd.DataFrame, column):\n    with ThreadPoolExecutor() as pool:\n"
        "        list(pool.map(ask, data[column]))"
    ),
    "what a text was cut into, deep in something": (
        "async def f(found):\n    text_chunks = found[0]\n    await asyncio.gather(*[title(c) for c in text_chunks])"
    ),
    "pieces that an object holds": (
        "class A:\n    async def f(self):\n        await asyncio.gather(*[title(c) for c in self.chunks])"
    ),
    "a list that is sifted, round after round": (
        "async def some(prompts):\n    return await asyncio.gather(*[title(p) for p in prompts])\n"
        "async def f(texts):\n    left = [i for i in range(len(texts))]\n    while left:\n"
        "        now = [texts[i] for i in left]\n        done = await some(now)\n        left = [i for i in left if not done[i]]"
    ),
    "a copy": "async def f(texts):\n    queue = texts.copy()\n    await asyncio.gather(*[title(t) for t in queue])",
    "a model's method that is awaited": (
        "async def f(texts, model):\n    async def one(t):\n        return await model.complete(t)\n"
        "    await asyncio.gather(*[one(t) for t in texts])"
    ),
}

UNSURE = {
    "prompts for one text": "async def f(prompts, text):\n    await asyncio.gather(*[process(p, text) for p in prompts])",
    "what was found for a question": (
        "async def f(question, docs):\n    await asyncio.gather(*[process(question, d) for d in docs])"
    ),
    "recommendations": "async def f(recommendations):\n    await asyncio.gather(*[title(r) for r in recommendations])",
    "the lines of an answer": (
        "async def f(question):\n    reply = ask(question)\n    text = reply.choices[0].message.content.strip()\n"
        "    tasks_to_do = text.splitlines()\n    await asyncio.gather(*[title(line) for line in tasks_to_do])"
    ),
    "states of a search": "async def f(states):\n    await asyncio.gather(*[title(s) for s in states])",
    "what was retrieved": "async def f(retrieved_nodes):\n    await asyncio.gather(*[title(n) for n in retrieved_nodes])",
    "what a search has found": (
        "async def f(index, question):\n    found = index.similarity_search(question)\n"
        "    await asyncio.gather(*[title(d) for d in found])"
    ),
    "the places in a list that a model has made": (
        "def plan(question):\n    return ask(question).output_text.splitlines()\n"
        "async def f(question):\n    parts = plan(question)\n"
        "    await asyncio.gather(*[title(parts[i]) for i in range(len(parts))])"
    ),
    "what a model has planned": (
        "def plan(question):\n    return ask(question).output_text.splitlines()\n"
        "async def f(question):\n    steps_to_do = plan(question)\n    await asyncio.gather(*[title(s) for s in steps_to_do])"
    ),
    "the steps of a plan": "async def f(plan):\n    await asyncio.gather(*[title(s) for s in plan.steps])",
    "search terms": "async def f(queries):\n    await asyncio.gather(*[title(q) for q in queries])",
    "groups": (
        "async def f(rows):\n    groups = {}\n    for row in rows:\n        groups[row.kind] = row\n"
        "    await asyncio.gather(*[title(g) for g in groups.values()])"
    ),
    "none, if there are no settings": (
        "async def f():\n    try:\n        sources = read_settings().sources()\n    except OSError:\n        sources = []\n"
        "    await asyncio.gather(*[title(s) for s in sources])"
    ),
    "a function that only says so, and what for": "async def f(texts):\n    await asyncio.gather(*[call_llm_summarize(t) for t in texts])",
    "a function that only says so": "async def f(texts):\n    await asyncio.gather(*[call_llm(t) for t in texts])",
}

SURE |= {
    "an asynchronous model of LangChain, whatever it is called": (
        "from langchain_openai import ChatOpenAI\nasync def one(text):\n    api = ChatOpenAI(model='m', max_tokens=9)\n"
        "    return await api.ainvoke(text)\nasync def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a client of another package, by its class": (
        "from house.client import LLMClient\nasync def one(text):\n    asked = LLMClient('m')\n    return await asked.generate(text)\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a chain's batch, all at once": (
        "from langchain_openai import ChatOpenAI\nasync def f(texts):\n    chain = PROMPT | ChatOpenAI(model='m', max_tokens=9)\n"
        "    return await chain.abatch([{'text': t} for t in texts])"
    ),
    "a chain's batch, its inputs by their name": (
        "from langchain_openai import ChatOpenAI\nasync def f(tables):\n    chain = PROMPT | ChatOpenAI(model='m', max_tokens=9)\n"
        "    return await chain.abatch(inputs=[{'text': t} for t in tables])"
    ),
    "a chain's batch, by threads": (
        "from langchain_openai import ChatOpenAI\nmap_chain = PROMPT | ChatOpenAI(model='m', max_tokens=9)\n"
        "def f(chunks):\n    return map_chain.batch(chunks)"
    ),
    "two lists of rows side by side, one of them changed in place": (
        "async def f(df):\n    names = df['name'].tolist()\n    for i in range(len(names)):\n        names[i] = path(names[i])\n"
        "    await asyncio.gather(*[process(t, n) for t, n in zip(df['text'].tolist(), names)])"
    ),
    "rows that are kept in a state": (
        "import csv\nclass Flow:\n    def load(self):\n        rows = []\n        for row in csv.DictReader(open('leads.csv')):\n"
        "            rows.append(row)\n        self.state.leads = rows\n    async def score(self):\n"
        "        await asyncio.gather(*[title(lead) for lead in self.state.leads])"
    ),
    "what callers have parsed from a file": (
        "class Judge:\n    async def all(self, run: Run):\n        await asyncio.gather(*[title(t) for t in run.tasks])\n"
        "async def main():\n    with open('run.json') as f:\n        run = Run.model_validate_json(f.read())\n"
        "    await Judge().all(run)"
    ),
    **{
        f"what another framework asks with: {asked}": (
            f"{made}\nasync def f(texts):\n    await asyncio.gather(*[{asked} for t in texts])"
        )
        for made, asked in (
            ("from langgraph.graph import StateGraph\ngraph = StateGraph(dict).compile()", "graph.ainvoke({'x': t})"),
            ("from autogen_agentchat.agents import AssistantAgent\nwriter = AssistantAgent('w')", "writer.run(task=t)"),
            ("from agno.agent import Agent\nwriter = Agent()", "writer.arun(t)"),
            ("from semantic_kernel import Kernel\nkernel = Kernel()", "kernel.invoke_prompt(t)"),
            ("import dspy\njudge = dspy.ChainOfThought('text -> score')", "judge.acall(text=t)"),
            (
                "from llama_index.core import VectorStoreIndex\ne = VectorStoreIndex([]).as_query_engine()",
                "e.aquery(t)",
            ),
            ("from copilot import CopilotClient\nsession = CopilotClient().session()", "session.send_and_wait(t)"),
            (
                "from langchain_openai import ChatOpenAI\nrated = (PROMPT | ChatOpenAI()).with_retry()",
                "rated.ainvoke(t)",
            ),
            ("from functools import partial\nnamed = partial(title, 3)", "named(t)"),
            ("STEPS = {'title': title, 'none': str}", "STEPS[kind](t)"),
            ("STEPS = {'title': title, 'none': str}", "STEPS.get(kind, str)(t)"),
        )
    },
    "a model that is asked by a method of its own": (
        "class T:\n    async def f(self, text):\n        parts = text.split('. ')\n"
        "        return await asyncio.gather(*[self.llm.translate_text(p, aligned=True) for p in parts])"
    ),
    "an agent that somebody else has made": (
        "async def f(texts, make):\n    agent = make()\n    async def one(text):\n        return await agent.arun(text)\n"
        "    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "an agent that is handed to a helper": (
        "from agents import Agent\nfrom house import guarded_run\nclass A:\n    def __init__(self):\n        self.agent = Agent(name='a')\n"
        "    async def one(self, block):\n        return await guarded_run(self.agent, block)\n    async def f(self, blocks):\n"
        "        return await asyncio.gather(*[self.one(b) for b in blocks])"
    ),
    "a model that is a function": (
        "class P:\n    def __init__(self, llm):\n        self._llm = llm\n    async def one(self, chunk):\n"
        "        return await self._llm(PROMPT.format(chunk))\n    async def f(self, chunks):\n"
        "        return await asyncio.gather(*[self.one(c) for c in chunks])"
    ),
    "what an agent says, message by message": (
        "from claude_agent_sdk import query\nasync def one(text):\n    async for said in query(prompt=text):\n        keep(said)\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a method that an object holds by its name": (
        "class A:\n    def __init__(self):\n        self.steps = {'title': self.ask}\n    async def ask(self, text):\n"
        "        return await title(text)\n    async def f(self, texts, kind):\n"
        "        await asyncio.gather(*[self.steps[kind](t) for t in texts])"
    ),
    "a function that callers hand in": (
        "async def over(rows, function):\n    return await asyncio.gather(*[function(r) for r in rows])\n"
        "async def f(texts):\n    return await over(texts, title)"
    ),
    "a text that is cut down, but not far enough": (
        "async def f(text):\n    text = text[:500_000]\n    parts = [text[i:i + 10_000] for i in range(0, len(text), 10_000)]\n"
        "    await asyncio.gather(*[title(p) for p in parts])"
    ),
}


UNSURE |= {
    "few pieces of a text that is written out": (
        "TEXTS = 'a---b---c'.split('---')\nasync def f():\n    await asyncio.gather(*[title(t) for t in TEXTS])"
    ),
    "what is asked with a prompt, by a name that says nothing": (
        "class A:\n    async def f(self, lines):\n        await asyncio.gather(*[self.one(x) for x in lines])\n"
        "    async def one(self, line):\n        prompt = PROMPT + line\n        return await self.writer.complete(prompt)"
    ),
    "what is handed a model": (
        "from house import shorten\nasync def f(notes, llm):\n    await asyncio.gather(*[shorten(n, llm=llm) for n in notes])"
    ),
    "steps that a plan was read from": (
        "import json\nasync def f(text):\n    subtasks = json.loads(text)\n    await asyncio.gather(*[title(s) for s in subtasks])"
    ),
    "what is made for one question": (
        "async def f(user_query, examples):\n    pool = prompts_for(user_query, examples)\n"
        "    await asyncio.gather(*[title(p) for p in pool])"
    ),
    "groups of those that are written out": (
        "GROUPS = {'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5, 'f': 6, 'g': 7, 'h': 8, 'i': 9, 'j': 10, 'k': 11}\n"
        "async def f(wanted):\n    groups = {k: v for k, v in GROUPS.items() if k in wanted}\n"
        "    await asyncio.gather(*[title(v) for k, v in groups.items()])"
    ),
    "key words of one topic": (
        "async def same(word, topic):\n    return await client.responses.create(model='m', input=word + topic, max_output_tokens=9)\n"
        "async def f(keywords, research_topic):\n    await asyncio.gather(*[same(k, research_topic) for k in keywords])"
    ),
    "a set of names that a caller gives": (
        "async def f(patterns: set[str]):\n    await asyncio.gather(*[title(p) for p in sorted(patterns)])"
    ),
}


@pytest.mark.parametrize("code", UNSURE.values(), ids=UNSURE)
def test_what_may_be_few_is_reported_only_where_the_rule_is_selected(lint, code: str) -> None:
    """The number of items, or the request, is a guess: only who asks for this rule is told."""
    assert [f for f in lint(TOP + code) if f.rule == "TG113"] == []
    assert [f.rule for f in lint(TOP + code, "TG", "TG113") if f.rule == "TG113"] == ["TG113"]


def test_a_test_may_start_what_it_likes(lint) -> None:
    """In a file of tests, the rule has to be selected."""
    code = TOP + SURE["a parameter"]
    assert [f for f in lint(code, path="tests/test_load.py") if f.rule == "TG113"] == []
    assert len(lint(code, "TG113", path="tests/test_load.py")) == 1


LLM_OF_ANOTHER = (
    "from house.models import LLM\nclass Reader:\n    def __init__(self, llm: LLM):\n        self.llm = llm\n"
)
SURE |= {
    "vectors of a model that is handed in": "async def f(llm, texts):\n    await asyncio.gather(*[llm.embed(t) for t in texts])",
    "vectors of a model whose class is elsewhere": (
        f"{LLM_OF_ANOTHER}    async def store(self, chunks: list[str]):\n"
        "        return await asyncio.gather(*[self.llm.embed(c) for c in chunks])"
    ),
    "many pieces of a text that is written out": (
        f"TEXTS = {'a---' * 30!r}.split('---')\nasync def f():\n    await asyncio.gather(*[title(t) for t in TEXTS])"
    ),
}
SURE |= {
    **{
        f"a model of another package, by a thread: {asked}": (
            f"{LLM_OF_ANOTHER}    def one(self, page):\n        try:\n            return {asked}\n        except ValueError:\n"
            "            return None\n    def all(self, pages):\n        with ThreadPoolExecutor() as pool:\n"
            "            return list(pool.map(self.one, pages))"
        )
        for asked in (
            "self.llm.request([page])",
            "self.llm.raw_completion(messages=[page])",
            "self.llm.infer(page)",
            "self.llm_engine.run(page)",
            "self.llm(page)",
            "self.vlm_model.describe(page)",
        )
    },
    "a model's method that is handed to a pool": (
        f"{LLM_OF_ANOTHER}    def all(self, text):\n        parts = cut(text)\n        with ThreadPoolExecutor() as pool:\n"
        "            return [pool.submit(self.llm.request, part) for part in parts]"
    ),
    "a lambda that a pool is given": (
        f"{LLM_OF_ANOTHER}    def all(self, notes):\n        with ThreadPoolExecutor() as pool:\n            futures = []\n"
        "            for note in notes:\n                text = note.strip()\n"
        "                futures.append(pool.submit(lambda: self.llm(text).text))"
    ),
    "a function of no parameters that a pool is given": (
        "def f(notes):\n    with ThreadPoolExecutor() as pool:\n        for note in notes:\n            def go():\n"
        "                return ask(note)\n            pool.submit(go)"
    ),
    "a pool on a stack of contexts": (
        "from contextlib import ExitStack\ndef f(texts):\n    with ExitStack() as stack:\n"
        "        pool = stack.enter_context(ThreadPoolExecutor())\n        return [pool.submit(ask, t) for t in texts]"
    ),
    "a client on a stack of contexts": (
        "from contextlib import AsyncExitStack\nasync def f(texts):\n    async with AsyncExitStack() as stack:\n"
        "        api = await stack.enter_async_context(AsyncOpenAI())\n"
        "        await asyncio.gather(*[api.responses.create(model='m', input=t, max_output_tokens=5) for t in texts])"
    ),
    "a chain by threads, for what a class has split": (
        "from langchain_openai import ChatOpenAI\nclass Graph:\n    def concepts(self, text, llm):\n"
        "        chain = PROMPT | llm.with_structured_output(dict)\n        return chain.invoke({'text': text})\n"
        "    def build(self, splits, llm):\n        with ThreadPoolExecutor() as pool:\n"
        "            return {pool.submit(self.concepts, s.text, llm): i for i, s in enumerate(splits)}\n"
        "def index(reader, documents):\n    splits, store = reader.read(documents)\n    return Graph().build(splits, None)"
    ),
    **{
        f"{name} of a progress bar": (
            f"from tqdm.{module} import {bar} as bar\nasync def f(texts):\n    jobs = [title(t) for t in texts]\n{waits}"
        )
        for name, module, bar, waits in (
            ("as_completed", "asyncio", "tqdm_asyncio", "    for job in bar.as_completed(jobs):\n        await job"),
            ("as_completed with colours", "auto", "tqdm", "    for job in bar.as_completed(jobs):\n        await job"),
            ("gather", "asyncio", "tqdm_asyncio", "    await bar.gather(*jobs)"),
        )
    },
    "tasks that a function makes": (
        "def jobs(texts):\n    return [title(t) for t in texts]\nasync def f(texts):\n    await asyncio.gather(*jobs(texts))"
    ),
    "tasks after one that is always there": (
        "async def f(texts, intro):\n    await asyncio.gather(title(intro), *[title(t) for t in texts])"
    ),
    "tasks in a list with others": (
        "async def f(texts, intro):\n    await asyncio.gather(*[title(intro), *[title(t) for t in texts]])"
    ),
    "all batches of embeddings at once": (
        "async def vectors(batch):\n    return await client.embeddings.create(model='m', input=batch)\n"
        "async def f(texts):\n    batches = cut(texts, 20)\n    await asyncio.gather(*[vectors(b) for b in batches])"
    ),
    "embeddings of what is named for them": (
        "def vector(embedding_model, chunk):\n    return embedding_model.generate_embedding(chunk)\n"
        "def f(embedding_model, chunks):\n    with ThreadPoolExecutor() as pool:\n"
        "        return [pool.submit(vector, embedding_model, c) for c in chunks]"
    ),
    "a function that asks a model, and is named for embeddings": (
        "async def embed_with_summary(text):\n    return vector_of(await title(text))\n"
        "async def f(texts):\n    await asyncio.gather(*[embed_with_summary(t) for t in texts])"
    ),
    "a few are written out only where the file tries it": (
        "async def f(texts):\n    return await asyncio.gather(*[title(t) for t in texts])\n"
        "if __name__ == '__main__':\n    asyncio.run(f(texts=['a', 'b']))"
    ),
    "a cut that somebody may want": (
        "async def f(texts):\n    return await asyncio.gather(*[title(t) for t in texts])\n"
        "def start(path, limit=0):\n    texts = open(path).readlines()\n    if limit > 0:\n        texts = texts[:limit]\n"
        "    asyncio.run(f(texts))"
    ),
    "search terms of a file of them": (
        "async def f(queries):\n    return await asyncio.gather(*[title(q) for q in queries])\n"
        "def start(path):\n    with open(path) as f_in:\n        rows = [line.strip() for line in f_in.readlines()]\n"
        "    asyncio.run(f(rows))"
    ),
    "all that is in groups": (
        "async def f(rows):\n    days = {}\n    for row in rows:\n        if row.day not in days:\n            days[row.day] = []\n"
        "        days[row.day].append(row)\n    jobs = []\n    for day, notes in days.items():\n        for note in notes:\n"
        "            jobs.append((day, title(note)))\n    await asyncio.gather(*[job[1] for job in jobs])"
    ),
    "a list with room for all": (
        "import threading\ndef work(shared):\n    for i, line in enumerate(shared):\n"
        "        threading.Thread(target=ask, args=(line,)).start()\n"
        "def start(path):\n    lines = open(path).readlines()\n    shared = [None] * len(lines)\n"
        "    for i, line in enumerate(lines):\n        shared[i] = line[:-1]\n    work(shared)"
    ),
    **{
        f"what asks a model in a task: {asked}": (
            f"{made}\nasync def f(texts):\n    await asyncio.gather(*[{asked} for t in texts])"
        )
        for made, asked in (
            ("import openai", "openai.Embedding.acreate(model='m', input=t)"),
            ("import replicate", "replicate.async_run('m', input={'prompt': t})"),
            (
                "from huggingface_hub import AsyncInferenceClient\napi = AsyncInferenceClient()",
                "api.text_generation(t)",
            ),
            ("from semantic_kernel import Kernel\nkernel = Kernel()", "kernel.invoke(FUNCTION, text=t)"),
            ("from house import metric", "metric.a_measure(t)"),
            ("from asyncer import asyncify", "asyncify(ask)(t)"),
            ("from house import OpenRouterClient\napi = OpenRouterClient('k')", "api.send_request(t)"),
            ("pictures = AsyncOpenAI()", "pictures.images.generate(model='m', prompt=t)"),
            ("sound = AsyncOpenAI()", "sound.audio.transcriptions.create(model='m', file=t)"),
        )
    },
    **{
        f"what asks a model in a thread: {asked}": (
            f"{made}\ndef one(t):\n    return {asked}\ndef f(rows):\n    with ThreadPoolExecutor() as pool:\n"
            "        return [pool.submit(one, r) for r in rows]"
        )
        for made, asked in (
            ("from crewai import Crew", "Crew(agents=[A], tasks=[B]).kickoff(inputs={'t': t})"),
            ("from agents import Agent, Runner", "Runner.run_sync(Agent(name='a'), t)"),
            ("from autogen import UserProxyAgent\nuser = UserProxyAgent('u')", "user.initiate_chat(OTHER, message=t)"),
            (
                "import requests\ndef body(t):\n    return {'model': 'm', 'messages': [t]}",
                "requests.post(URL, json=body(t))",
            ),
            ("import requests", "requests.post(URL, json={'contents': [t], 'generationConfig': {}})"),
            ("import requests", "requests.post(URL, json=dict(messages=[t], temperature=0))"),
        )
    },
    "a chain that a class has made": (
        "from langchain_core.prompts import ChatPromptTemplate\nclass Grader:\n    def __init__(self, llm):\n"
        "        self.grader = ChatPromptTemplate.from_template('x') | llm\n    def all(self, documents):\n"
        "        with ThreadPoolExecutor() as pool:\n            return list(pool.map(lambda d: self.grader.invoke(d), documents))"
    ),
    "a column of a table": "async def f(df):\n    await asyncio.gather(*df['text'].apply(title))",
    "what an object has read": (
        "class A:\n    def __init__(self, path):\n        self.notes = load(path)\n    async def f(self):\n"
        "        await asyncio.gather(*[title(n) for n in self.notes])"
    ),
    "an agent of a framework, by its name": (
        "from pydantic_ai import Agent\nfrom house import make\nclass A:\n    def __init__(self):\n        self.agent = make()\n"
        "    async def one(self, t):\n        return await self.agent.run(t)\n    async def f(self, texts):\n"
        "        await asyncio.gather(*[self.one(t) for t in texts])"
    ),
    "sections that are read": (
        "def extract_facts(section):\n    return ask(section)\ndef f(sections):\n    with ThreadPoolExecutor() as pool:\n"
        "        return [pool.submit(extract_facts, s) for s in sections]"
    ),
    "documents that are put into an order": (
        f"{LLM_OF_ANOTHER}    def run(self, documents, query):\n        with ThreadPoolExecutor() as pool:\n"
        "            return [pool.submit(lambda: self.llm(d.text)) for d in documents]"
    ),
}


@pytest.mark.parametrize("code", SURE.values(), ids=SURE)
def test_as_many_requests_as_data_are_reported_by_default(lint, code: str) -> None:
    """Items that are data, and a request that is in sight."""
    assert [f.rule for f in lint(TOP + code) if f.rule == "TG113"] == ["TG113"]


BOUNDED = {
    **{
        f"as many parts as {by} is told": (
            f"async def f(texts):\n    parts = [list(p) for p in {by}]\n"
            "    lists = [[t for t in part if t] for part in parts]\n"
            "    await asyncio.gather(*[process(part, i) for i, part in enumerate(lists)])"
        )
        for by in (
            "divide(AT_ONCE, texts)",
            "more_itertools.distribute(AT_ONCE, texts)",
            "np.array_split(texts, AT_ONCE)",
        )
    },
    **{
        f"what a model's object does without asking: {method}": (
            f"{LLM_OF_ANOTHER}    def one(self, page):\n        return self.llm.{method}(page)\n    def all(self, pages):\n"
            "        with ThreadPoolExecutor() as pool:\n            return list(pool.map(self.one, pages))"
        )
        for method in ("generate_prompt", "create_messages", "get_token_count", "format", "set_page_count", "count")
    },
    **{
        f"as few as {over} says": f"async def f(ids, args, rubric):\n    await asyncio.gather(*[title({item}) for {target} in {over}])"
        for item, target, over in (
            ("part", "part", "chunks(ids, args.threads)"),
            ("text", "criteria, text", "rubric.items()"),
            ("db", "db", "args.active_dbs"),
        )
    },
    "a post that holds up the loop": (
        "import requests\nasync def one(t):\n    answer = requests.post(URL, json={'model': 'm', 'messages': [t]})\n"
        "    return answer.json()\nasync def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a prompt that is made in a thread": (
        f"{LLM_OF_ANOTHER}    async def one(self, loop, text):\n"
        "        return await loop.run_in_executor(None, self.llm.generate_prompt, text)\n"
        "    async def all(self, loop, texts):\n        await asyncio.gather(*[self.one(loop, t) for t in texts])"
    ),
    "a model whose own method has a bound": (
        "class LLM:\n    async def request(self, text):\n        async with self.semaphore:\n            return await title(text)\n"
        "class Reader:\n    def __init__(self, llm: LLM):\n        self.llm = llm\n    async def one(self, text):\n"
        "        return await self.llm.request(text)\n    async def all(self, texts):\n"
        "        await asyncio.gather(*[self.one(t) for t in texts])"
    ),
    "a model that holds up the loop": (
        f"{LLM_OF_ANOTHER}    async def one(self, page):\n        said = self.llm.request(page)\n        return said\n"
        "    async def all(self, pages):\n        await asyncio.gather(*[self.one(p) for p in pages])"
    ),
    "embeddings on this machine": (
        "from sentence_transformers import SentenceTransformer\ndef vector(embedder, chunk):\n    return embedder.embed(chunk)\n"
        "def f(embedder, chunks):\n    with ThreadPoolExecutor() as pool:\n"
        "        return [pool.submit(vector, embedder, c) for c in chunks]"
    ),
    "a list that is cut if it is too long": (
        "async def f(texts):\n    if len(texts) > 5:\n        texts = texts[:5]\n"
        "    return await asyncio.gather(*[title(t) for t in texts])"
    ),
    **{
        f"a turn that is waited for: {turn}": (
            f"class A:\n    async def one(self, t):\n        {turn}\n        return await title(t)\n"
            "    async def f(self, texts):\n        await asyncio.gather(*[self.one(t) for t in texts])"
        )
        for turn in ("self.wait()", "await self.bucket.acquire()")
    },
    "a pool of four, by the loop": (
        "async def f(texts):\n    loop = asyncio.get_running_loop()\n    with ThreadPoolExecutor(max_workers=4) as pool:\n"
        "        await asyncio.gather(*[loop.run_in_executor(pool, ask, t) for t in texts])"
    ),
    "a pool of who knows how many, in a helper": (
        "class A:\n    async def one(self, t):\n        loop = asyncio.get_running_loop()\n"
        "        return await loop.run_in_executor(self.workers, ask, t)\n"
        "    async def f(self, texts):\n        await asyncio.gather(*[self.one(t) for t in texts])"
    ),
    "a loop's pool that was set": (
        "async def f(texts):\n    loop = asyncio.get_running_loop()\n    loop.set_default_executor(ThreadPoolExecutor(4))\n"
        "    await asyncio.gather(*[loop.run_in_executor(None, ask, t) for t in texts])"
    ),
    "a module's request that holds up the loop": (
        "import openai\nasync def one(t):\n    answer = openai.ChatCompletion.create(model='m', messages=[t], max_tokens=5)\n"
        "    return answer.choices[0]\nasync def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "a framework's call that holds up the loop": (
        "async def one(llm, t):\n    answer = llm.invoke(t)\n    return answer.content\n"
        "async def f(llm, texts):\n    await asyncio.gather(*[one(llm, t) for t in texts])"
    ),
    "a table whose name is like a model's": (
        "async def f(rows, model):\n    async def one(r):\n        return await model.create(r)\n"
        "    await asyncio.gather(*[one(r) for r in rows])"
    ),
    "a semaphore of any name": (
        "GATE = asyncio.Semaphore(3)\nasync def one(t):\n    async with GATE:\n        return await title(t)\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
    "the method of this class, not of its namesake": (
        "class Sync:\n    def one(self, t):\n        return ask(t)\n"
        "class Async:\n    async def one(self, t):\n        async with self.limiter:\n            return await title(t)\n"
        "    async def all(self, texts):\n        await asyncio.gather(*[self.one(t) for t in texts])"
    ),
    "a name that is no request": (
        "async def one(t):\n    return await llm_call_loader(t)\n"
        "async def f(texts):\n    await asyncio.gather(*[one(t) for t in texts])"
    ),
}


@pytest.mark.parametrize("code", BOUNDED.values(), ids=BOUNDED)
def test_bounds_are_known_by_what_they_are(lint, code: str) -> None:
    """What makes a semaphore, and which class a method is of, decide; not their names."""
    assert lint(TOP + code, "TG113") == []


def test_an_object_that_is_handed_in_is_what_its_callers_hand_in(lint) -> None:
    """A parameter without a type, followed to the calls of its function."""
    code = (
        "class Client:\n    async def answer(self, t):\n        return await title(t)\n"
        "def make() -> Client:\n    return cache[0]\n"
        "async def one(t, c):\n    return await c.answer(t)\n"
        "async def f(texts):\n    c = make()\n    await asyncio.gather(*[one(t, c) for t in texts])"
    )
    assert len(lint(TOP + code, "TG113")) == 1


def test_what_an_announced_method_is_given_is_found_at_the_calls_of_its_class(lint) -> None:
    """Whoever holds the class that announces the method calls it with a few texts."""
    code = (
        "class Base:\n    async def read(self, texts):\n        pass\n"
        "class Real(Base):\n    async def read(self, texts):\n        return await asyncio.gather(*[title(t) for t in texts])\n"
        "class Holder:\n    def __init__(self, reader: Base):\n        self.reader = reader\n"
        "    async def all(self, items):\n        for i in range(0, len(items), 8):\n            batch = items[i : i + 8]\n"
        "            await self.reader.read([x.text for x in batch])"
    )
    assert lint(TOP + code, "TG113") == []
    assert len(lint(TOP + code.replace("for x in batch", "for x in items"), "TG113")) == 1


def test_a_client_that_a_factory_makes_is_followed_to_the_class_that_carries_it_out(tmp_path: Path) -> None:
    """The class that the factory names announces the method; one that is derived from it makes the request."""
    (tmp_path / "clients.py").write_text(
        "from abc import ABC, abstractmethod\nfrom openai import AsyncOpenAI\n"
        "class Base(ABC):\n    @abstractmethod\n    async def answer(self, text):\n        'Answer.'\n        pass\n"
        "    async def answer_in_json(self, text):\n        return await self.answer(text)\n"
        "class Real(Base):\n    def __init__(self):\n        self.client = AsyncOpenAI()\n    async def answer(self, text):\n"
        "        return await self.client.responses.create(model='m', input=text, max_output_tokens=5)\n"
        "Client = Base\ndef get_client(model: str) -> Client:\n    return Real()\n"
    )
    (tmp_path / "main.py").write_text(
        "import asyncio\nfrom clients import get_client\nasync def one(text, client):\n    return await client.answer_in_json(text)\n"
        "async def all(texts):\n    client = get_client('m')\n    await asyncio.gather(*[one(t, client) for t in texts])\n"
    )
    path = str(tmp_path / "main.py")
    assert [f.rule for f in lint_file(Linter(Config(root=tmp_path)), path).findings] == ["TG113"]


def test_a_pool_of_a_written_number_under_the_same_name_keeps_it_silent(lint) -> None:
    """Which of the two a name stands for is not known."""
    code = (
        "def f(texts):\n    with ThreadPoolExecutor() as pool:\n        print(pool)\n"
        "    with ThreadPoolExecutor(4) as pool:\n        pool.map(ask, texts)"
    )
    assert lint(TOP + code, "TG113") == []


def test_segments_of_an_outline_are_planned(lint) -> None:
    """Few, whatever they are called; segments of a recording are data."""
    code = "async def f(outline):\n    await asyncio.gather(*[title(s) for s in outline.segments])"
    assert "TG113" not in [found.rule for found in lint(TOP + code)]
    assert "TG113" in [found.rule for found in lint(TOP + code.replace("outline", "recording"))]
