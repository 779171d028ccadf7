"""TG104 to TG117 beyond their pages: the shapes they must find, and those they must leave alone."""

from __future__ import annotations

import pytest

HEAD = "from openai import OpenAI\nclient = OpenAI()\n"
ASK = "client.chat.completions.create(model='gpt-4.1', messages=m, max_tokens=5)"

FOUND = {
    "TG104 flag": HEAD + f"def f(m):\n    while True:\n        r = {ASK}\n        if r.choices[0].finish_reason == 'stop':\n            break\n        m.append(r)",
    "TG104 async": "async def f(c, m):\n    while 1:\n        r = await c.messages.create(model='m', max_tokens=5, messages=m)\n        if r.stop_reason != 'tool_use':\n            return r\n        m.append(r)",
    "TG105 backoff": HEAD + f"import backoff\n@backoff.on_exception(backoff.expo, Exception)\ndef f(m):\n    return {ASK}",
    "TG105 bare tenacity": HEAD + f"from tenacity import retry\n@retry\ndef f(m):\n    return {ASK}",
    "TG106 method": f"import tenacity\nfrom openai import OpenAI\nclass A:\n    def __init__(self):\n        self.client = OpenAI()\n    @tenacity.retry(stop=tenacity.stop_after_attempt(3))\n    def f(self, m):\n        return self.{ASK}",
    "TG107 react": "from langgraph.prebuilt import create_react_agent\ndef f(m, q):\n    return create_react_agent(m, []).invoke(q)",
    "TG108 insert": HEAD + f"def f(m, turns):\n    while turns:\n        m.insert(0, {{'role': 'system', 'content': turns.pop()}})\n        m.append({ASK})",
    "TG109 litellm no": HEAD + "def f(m):\n    for c in client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True):\n        print(c)",
    "TG110 percent": "import json\nfrom langchain_core.messages import HumanMessage\ndef f(x):\n    return HumanMessage('Data: %s' % json.dumps(x, indent=4))",
    "TG111 gather": "import asyncio\nasync def f(c, texts):\n    return await asyncio.gather(*[c.embeddings.create(model='e', input=t) for t in texts])",
    "TG112 constant": HEAD + "MODEL = 'gpt-4-0613'\ndef f(m):\n    return client.chat.completions.create(model=MODEL, messages=m, max_tokens=4)",
    "TG113 wrapped": HEAD.replace("OpenAI", "AsyncOpenAI") + f"import asyncio\nasync def one(m):\n    return await {ASK}\nasync def f(ms):\n    jobs = [asyncio.create_task(one(m)) for m in ms]\n    return await asyncio.gather(*jobs)",
    "TG114 tools": "def f(c, m):\n    return c.messages.create(model='c', max_tokens=5, messages=m, tools=[{'name': 'a', 'description': '" + "word " * 1500 + "'}])",
    "TG115 listdir": "import os\ndef f(c, q):\n    names = ' '.join(os.listdir('docs'))\n    return c.responses.create(model='m', instructions=f'Files: {names}', input=q, max_output_tokens=4)",
    "TG116 anthropic": "import anthropic\nc = anthropic.AsyncAnthropic(timeout=None)",
    "TG117 script": HEAD + f"def main(rows):\n    for row in rows:\n        m = [{{'role': 'user', 'content': row}}]\n        print({ASK})\nif __name__ == '__main__':\n    main(open('x').readlines())",
}  # fmt: skip

SILENT = {
    "TG104 counter": HEAD + f"def f(m):\n    n = 0\n    while True:\n        n += 1\n        r = {ASK}\n        if n >= 8 or not r.choices:\n            return r",
    "TG104 budget": HEAD + f"def f(m, budget):\n    while True:\n        budget.charge(1)\n        m.append({ASK})\n        if budget.exhausted:\n            return m",
    "TG104 person": HEAD + f"def f(m):\n    while True:\n        m.append(input())\n        print({ASK})",
    "TG104 queue": HEAD + f"def f(queue):\n    while True:\n        m = queue.get()\n        print({ASK})",
    "TG104 deadline": HEAD + f"import time\ndef f(m, deadline):\n    while True:\n        r = {ASK}\n        if time.monotonic() > deadline:\n            return r",
    "TG104 condition": HEAD + f"def f(m, max_turns):\n    i = 0\n    while i < max_turns:\n        i += 1\n        m.append({ASK})",
    "TG104 retry": HEAD + f"def f(m):\n    while True:\n        try:\n            return {ASK}\n        except ValueError:\n            raise",
    "TG105 stop by constant": HEAD + f"from tenacity import retry, stop_after_attempt\nSTOP = stop_after_attempt(3)\n@retry(stop=STOP)\ndef f(m):\n    return {ASK}",
    "TG105 not a request": "import backoff\n@backoff.on_exception(backoff.expo, Exception)\ndef f(url):\n    return get(url)",
    "TG105 max_time": HEAD + f"import backoff\n@backoff.on_exception(backoff.expo, Exception, max_time=60)\ndef f(m):\n    return {ASK}",
    "TG106 no sdk retries": f"from openai import OpenAI\nfrom tenacity import retry\nclient = OpenAI(max_retries=0)\n@retry(stop=1)\ndef f(m):\n    return {ASK}",
    "TG106 unknown client": f"from tenacity import retry\n@retry(stop=1)\ndef f(client, m):\n    return {ASK}",
    "TG106 legacy": "import openai\nfrom tenacity import retry\n@retry(stop=1)\ndef f(m):\n    return openai.ChatCompletion.create(model='m', messages=m, max_tokens=5)",
    "TG107 with_config": "from langchain.agents import create_agent\ndef f(m, q):\n    agent = create_agent(m, [])\n    return agent.with_config(recursion_limit=20).invoke(q)",
    "TG107 only built": "from langchain.agents import create_agent\ndef f(m):\n    return create_agent(m, [])",
    "TG107 config from elsewhere": "from langchain.agents import create_agent\ndef f(m, q, config):\n    agent = create_agent(m, [])\n    return agent.invoke(q, config)",
    "TG108 before the loop": HEAD + f"def f(m, turns):\n    m[0]['content'] = 'x'\n    for t in turns:\n        m.append(t)\n        {ASK}",
    "TG109 other server": "from openai import OpenAI\nclient = OpenAI(base_url='http://x')\ndef f(m):\n    return client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 switch": HEAD + "def f(m, s):\n    return client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=s)",
    "TG110 file": "import json\ndef f(x, path):\n    path.write_text(json.dumps(x, indent=2))",
    "TG110 log": "import json\ndef f(x, log):\n    log.info(json.dumps(x, indent=2))\n    return {'role': 'user', 'content': json.dumps(x)}",
    "TG111 retry": "def f(c, text):\n    for _ in range(3):\n        try:\n            return c.embeddings.create(model='e', input=text)\n        except OSError:\n            pass",
    "TG111 items of one answer": "def f(c, texts):\n    return [d.embedding for d in c.embeddings.create(model='e', input=texts).data]",
    "TG112 current": HEAD + ASK.replace("=m,", "=[],"),
    "TG113 pair": HEAD + f"import asyncio\nasync def f(m):\n    return await asyncio.gather({ASK}, {ASK})",
    "TG113 batches": HEAD + f"import asyncio\nasync def f(ms):\n    for batch in ms:\n        await asyncio.gather(*[{ASK} for m in batch])",
    "TG114 top-level mark": "S = 'x' * 9000\ndef f(c, m):\n    return c.messages.create(model='c', max_tokens=5, system=S, messages=m, cache_control={'type': 'ephemeral'})",
    "TG115 sorted": "import os\ndef f(c, q):\n    names = ' '.join(sorted(os.listdir('docs')))\n    return c.responses.create(model='m', instructions=names, input=q, max_output_tokens=4)",
    "TG116 other library": "import requests\nrequests.get('http://x', timeout=None)",
    "TG117 server": "import fastapi\n" + HEAD + f"def main(rows):\n    for row in rows:\n        m = [row]\n        {ASK}\nif __name__ == '__main__':\n    main([])",
    "TG117 library": HEAD + f"def main(rows):\n    for row in rows:\n        m = [row]\n        {ASK}",
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), FOUND.items(), ids=list(FOUND))
def test_found(lint, name: str, code: str) -> None:
    """The rule named first reports this shape, once."""
    assert [f.rule for f in lint(code, name.split()[0])] == [name.split()[0]]


@pytest.mark.parametrize(("name", "code"), SILENT.items(), ids=list(SILENT))
def test_silent(lint, name: str, code: str) -> None:
    """The rule named first leaves this shape alone."""
    assert [(f.rule, f.message) for f in lint(code, name.split()[0])] == []
