"""TG104 to TG117 on shapes as applications and libraries write them: what must be found, and what must stay silent."""

from __future__ import annotations

import pytest

OPENAI = "from openai import OpenAI\nclient = OpenAI(timeout=60)\n"
ASYNC = "import asyncio\nfrom openai import AsyncOpenAI\nclient = AsyncOpenAI(timeout=60)\n"
CLAUDE = "import anthropic\nclient = anthropic.Anthropic(timeout=60)\n"
SAY = "client.chat.completions.create(model='gpt-4.1', messages=messages, max_tokens=5)"
TELL = "client.messages.create(model='c', max_tokens=9, messages=messages)"
TENACITY = "from tenacity import retry, stop_after_attempt, wait_random_exponential, retry_if_exception_type, retry_if_not_exception_type, retry_if_result\n"
GRAPH = "from langgraph.prebuilt import create_react_agent\n"
LONG = "'" + "Follow the rules of the house. " * 300 + "'"

FOUND = {
    # TG104: what other than the model ends the loop?
    "TG104 claude's tool loop": CLAUDE
    + f"def chat(messages, run):\n    response = {TELL}\n    while response.stop_reason == 'tool_use':\n        results = [run(b) for b in response.content if b.type == 'tool_use']\n        messages = messages + [{{'role': 'user', 'content': results}}]\n        response = {TELL}\n    return response",
    "TG104 next() over an answer's blocks": CLAUDE
    + f"def chat(messages, run):\n    response = {TELL}\n    while response.stop_reason == 'tool_use':\n        block = next(b for b in response.content if b.type == 'tool_use')\n        messages.append(run(block))\n        response = {TELL}",
    "TG104 in a thread": "import asyncio\nclass Bot:\n    async def chat(self, messages):\n        response = await asyncio.to_thread(self.claude.messages.create, model='c', messages=messages, max_tokens=9)\n        while response.stop_reason == 'tool_use':\n            messages.append(await self.run(response))\n            response = await asyncio.to_thread(self.claude.messages.create, model='c', messages=messages, max_tokens=9)",
    "TG104 helper of the class": "class Agent:\n    def ask(self, messages):\n        return self.client.chat.completions.create(model='m', messages=messages, max_tokens=9)\n    def run(self, messages):\n        while True:\n            message = self.ask(messages).choices[0].message\n            if not message.tool_calls:\n                return message.content\n            messages.append(message)",
    "TG104 litellm": "import litellm\ndef run(messages, tools):\n    while True:\n        reply = litellm.completion(model='m', messages=messages, tools=tools, max_tokens=9)\n        if not reply.choices[0].message.tool_calls:\n            break\n        messages.append(reply.choices[0].message)",
    "TG104 mirascope's rounds": "from mirascope import llm\n@llm.call('openai/gpt-5-mini', tools=[look])\ndef ask(q):\n    return q\ndef main():\n    response = ask('?')\n    while response.tool_calls:\n        response = response.resume(response.execute_tools())\n    return response.pretty()",
    "TG104 one agent after the other": "from agents import Runner\nasync def main(first, second, data):\n    current = first\n    while current:\n        result = await Runner.run(current, data)\n        if result.final_output.next == 'second':\n            current = second\n        elif result.final_output.next == 'done':\n            current = None",
    # TG105: decorators without a stop
    "TG105 stacked": OPENAI
    + f"import backoff, openai\n@backoff.on_exception(backoff.expo, openai.RateLimitError)\ndef f(messages):\n    return {SAY}",
    "TG105 wrapper of keywords": "import backoff, openai\n@backoff.on_exception(backoff.expo, openai.error.RateLimitError)\ndef completions_with_backoff(**kwargs):\n    return openai.ChatCompletion.create(**kwargs)",
    "TG105 legacy completion": "import backoff, openai\nclass U:\n    @classmethod\n    @backoff.on_exception(backoff.expo, openai.error.RateLimitError)\n    def get(cls, prompt):\n        return openai.Completion.create(prompt=prompt, max_tokens=100)",
    "TG105 wait alone": OPENAI + TENACITY
    + f"@retry(wait=wait_random_exponential(min=1, max=60))\ndef f(messages):\n    return {SAY}",
    "TG105 sleep and again": OPENAI
    + f"import time\ndef f(messages):\n    while True:\n        try:\n            return {SAY}\n        except Exception as e:\n            print(e)\n            time.sleep(5)",
    # TG106: both retry the same
    "TG106 rate limits": OPENAI + TENACITY
    + f"from openai import RateLimitError, APIConnectionError\n@retry(stop=stop_after_attempt(3), retry=retry_if_exception_type((RateLimitError, APIConnectionError)))\ndef f(messages):\n    return {SAY}",
    "TG106 all but one error": OPENAI + TENACITY
    + f"@retry(stop=stop_after_attempt(3), retry=retry_if_not_exception_type(ValueError))\ndef f(messages):\n    return {SAY}",
    "TG106 backoff": OPENAI
    + f"import backoff, openai\n@backoff.on_exception(backoff.expo, openai.APIError, max_tries=5)\ndef f(messages):\n    return {SAY}",
    "TG106 client of the class": "import anthropic, tenacity\nclass A:\n    def __init__(self):\n        self.client = anthropic.Anthropic(max_retries=4)\n    @tenacity.retry(stop=tenacity.stop_after_attempt(2))\n    def f(self, messages):\n        return self.client.messages.create(model='c', max_tokens=9, messages=messages)",
    # TG107: run without a limit
    "TG107 run where it is made": GRAPH
    + "agent = create_react_agent(model='gpt-4o', tools=[], prompt='Be kind')\nprint(agent.invoke({'messages': [('user', 'hi')]}))",
    "TG107 kept by the object": GRAPH
    + "class S:\n    def setup(self, model):\n        self.agent = create_react_agent(model=model, tools=[])\n    async def run(self, q):\n        return await self.agent.ainvoke({'messages': q})",
    "TG107 streamed": "from langchain.agents import create_agent\ndef f(model, q):\n    agent = create_agent(model, tools=[])\n    for step in agent.stream({'messages': q}, stream_mode='values'):\n        print(step)",
    "TG107 config of something else": GRAPH
    + "def f(model, q, user):\n    agent = create_react_agent(model, [])\n    return agent.invoke({'messages': q}, config={'configurable': {'thread_id': user}})",
    # TG108
    "TG108 system message in the loop": OPENAI
    + f"def f(messages, questions, facts):\n    for q in questions:\n        messages[0] = {{'role': 'system', 'content': facts(q)}}\n        messages.append({{'role': 'user', 'content': q}})\n        {SAY}",
    "TG108 content in the loop": OPENAI
    + f"def f(messages, prompt):\n    while True:\n        messages[0]['content'] = prompt()\n        messages += [input()]\n        {SAY}",
    "TG108 insert": CLAUDE
    + f"def f(messages, turns):\n    for t in turns:\n        messages.insert(0, t.note)\n        messages.append(t.text)\n        {TELL}",
    # TG109
    "TG109 async": ASYNC
    + "async def f(m):\n    stream = await client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)\n    async for chunk in stream:\n        print(chunk.choices[0].delta.content)",
    "TG109 azure": "from openai import AzureOpenAI\nclass A:\n    def __init__(self):\n        self.client = AzureOpenAI(api_version='x', timeout=9)\n    def f(self, m):\n        return self.client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 client made later": "from openai import OpenAI\nclass P:\n    client = None\n    def setup(self):\n        self.client = OpenAI(timeout=9)\n    def f(self, m):\n        return self.client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 options without usage": OPENAI
    + "ARGS = dict(model='m', messages=[], max_tokens=4, stream=True)\nstream = client.chat.completions.create(**ARGS)",
    # TG110
    "TG110 schema in a system prompt": "import json\ndef f(model, text):\n    schema_json = json.dumps(model.model_json_schema(), indent=2)\n    return [{'role': 'system', 'content': f'Answer as JSON:\\n{schema_json}'}, {'role': 'user', 'content': text}]",
    "TG110 pydantic": "from langchain_core.messages import HumanMessage\ndef f(state):\n    return HumanMessage(f'State: {state.model_dump_json(indent=2)}')",
    "TG110 grown prompt": "import json\ndef f(c, rows):\n    prompt = 'Summarise:\\n'\n    for r in rows:\n        prompt += json.dumps(r, indent=4) + '\\n'\n    return c.responses.create(model='m', input=prompt, max_output_tokens=5)",
    "TG110 a model that is somebody's own": "import json\nclass A:\n    def f(self, x):\n        prompt = f'Read this:\\n{json.dumps(x, indent=2)}'\n        return self.llm.complete(prompt)",
    "TG110 a template that is held": "import json\nclass A:\n    def f(self, x):\n        prompt = self.templates['rate'].format(memory=json.dumps(x, indent=2))\n        return self.ask(prompt)",
    "TG110 what builds a prompt": "import json\ndef build_plan_prompt(x):\n    return 'Plan:\\n' + json.dumps(x, indent=2)",
    "TG110 a tool by its name": "import json\ndef orders(c):\n    return json.dumps(c, indent=2)\nTOOL_HANDLERS = {'orders': orders}",
    "TG110 a tool in place": "import json\nTOOL_MAP = {'orders': lambda **kw: json.dumps(load(kw['c']), indent=2)}",
    "TG110 a tool that is a method": "import json\nclass Tasks:\n    def get(self, i):\n        return json.dumps(self.load(i), indent=2)\nTASKS = Tasks()\nTOOL_HANDLERS = {'get': lambda **kw: TASKS.get(kw['i'])}",
    "TG110 returned by a helper": "import json\ndef table(x):\n    return json.dumps(x, ensure_ascii=False, indent=2)\ndef f(x):\n    return {'role': 'user', 'content': 'Data:\\n' + table(x)}",
    # TG111
    "TG111 helper in a comprehension": OPENAI
    + "def get_embedding(text):\n    return client.embeddings.create(input=[text], model='e').data[0].embedding\ndef index(chunks):\n    return [get_embedding(c) for c in chunks]",
    "TG111 pandas": OPENAI
    + "def get_embedding(text, model='e'):\n    text = text.replace('\\n', ' ')\n    return client.embeddings.create(input=[text], model=model).data[0].embedding\ndef f(df):\n    df['v'] = df['text'].apply(lambda x: get_embedding(x, model='e'))",
    "TG111 method": "class Store:\n    def embed(self, text):\n        return self.client.embeddings.create(model='e', input=text).data[0].embedding\n    def add(self, docs):\n        for d in docs:\n            self.rows.append(self.embed(d.text))",
    "TG111 llama-index": "def f(embed_model, nodes):\n    for node in nodes:\n        if node.embedding is None:\n            node.embedding = embed_model.get_text_embedding(node.get_content())",
    # TG112
    "TG112 default of a parameter's constant": "from langchain_openai import ChatOpenAI\nMODEL = 'gpt-3.5-turbo-16k'\nllm = ChatOpenAI(model=MODEL, max_tokens=9)",
    "TG112 vision preview": OPENAI
    + "r = client.chat.completions.create(model='gpt-4-vision-preview', messages=[], max_tokens=9)",
    "TG112 through litellm": "import litellm\nlitellm.completion(model='openai/gpt-4-turbo', messages=[], max_tokens=9)",
    "TG112 opus for yes or no": CLAUDE
    + "def f(t):\n    return client.messages.create(model='claude-opus-4-1', max_tokens=2, messages=[{'role': 'user', 'content': f'Classify the sentiment: {t}'}])",
    # TG113
    "TG113 direct": ASYNC
    + "async def f(rows):\n    return await asyncio.gather(*[client.chat.completions.create(model='m', max_tokens=4, messages=[r]) for r in rows])",
    "TG113 of a request": ASYNC
    + "async def one(q):\n    return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def all_of(data):\n    coros = [one(q) for q in data.queries]\n    return await asyncio.gather(*coros, return_exceptions=True)",
    "TG113 as completed": ASYNC
    + "async def one(q):\n    return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def f(texts):\n    for done in asyncio.as_completed([one(t) for t in texts]):\n        print(await done)",
    "TG113 long list": ASYNC
    + "TEXTS = [" + "'a', " * 40 + "]\nasync def one(q):\n    return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def f():\n    return await asyncio.gather(*[one(t) for t in TEXTS])",
    # TG114
    "TG114 system in blocks": CLAUDE
    + f"def f(m):\n    return client.messages.create(model='c', max_tokens=9, messages=m, system=[{{'type': 'text', 'text': {LONG}}}])",
    "TG114 bedrock": f"import boto3\nbedrock = boto3.client('bedrock-runtime')\nRULES = {LONG}\ndef f(m):\n    return bedrock.converse(modelId='m', messages=m, system=[{{'text': RULES}}], inferenceConfig={{'maxTokens': 9}})",
    "TG114 stream": CLAUDE
    + f"RULES = {LONG}\ndef f(m):\n    with client.messages.stream(model='c', max_tokens=9, messages=m, system='You are kind.' + RULES) as s:\n        return s.get_final_message()",
    # TG115
    "TG115 tools of a set": OPENAI
    + "def f(q, names, spec):\n    chosen = set(names) | {'search'}\n    return client.chat.completions.create(model='m', messages=q, max_tokens=4, tools=[spec(n) for n in set(names)])",
    "TG115 listing joined": "import os\ndef build_system_prompt():\n    files = os.listdir('skills')\n    return 'Skills:\\n' + '\\n'.join(files)",
    "TG115 rglob": "from pathlib import Path\nfrom langchain_core.messages import SystemMessage\ndef f():\n    return SystemMessage('\\n'.join(p.read_text() for p in Path('x').rglob('*.md')))",
    # TG116
    "TG116 off by httpx": "import httpx, openai\nclient = openai.AsyncOpenAI(timeout=httpx.Timeout(None))",
    "TG116 options": "def f(client, m):\n    return client.with_options(timeout=None).files.list()",
    "TG116 groq": "from groq import Groq\nclient = Groq(timeout=None)",
    "TG116 default": "import anthropic\nclient = anthropic.AsyncAnthropic(api_key='k')",
    "TG116 default through an alias": "from openai import AsyncOpenAI as Client\nclient = Client(max_retries=1)",
    # TG117
    "TG117 frame": OPENAI
    + "import pandas as pd\ndef main():\n    for i, row in pd.read_csv('x').iterrows():\n        messages = [{'role': 'user', 'content': row['text']}]\n        print(client.chat.completions.create(model='m', messages=messages, max_tokens=4))\nif __name__ == '__main__':\n    main()",
    "TG117 claude": CLAUDE
    + "if __name__ == '__main__':\n    for line in open('in.jsonl'):\n        r = client.messages.create(model='c', max_tokens=9, messages=[{'role': 'user', 'content': line}])\n        print(r)",
}  # fmt: skip

SILENT = {
    "TG104 a person by a parameter's default": CLAUDE
    + f"def chat(read=input):\n    messages = []\n    while True:\n        messages.append({{'role': 'user', 'content': read('> ')}})\n        reply = {TELL}\n        messages.append({{'role': 'assistant', 'content': reply.content}})",
    "TG102 a message for a memory": "from mem0 import MemoryClient\nfrom datetime import datetime\nmemory = MemoryClient()\ndef keep(text, user):\n    notes = [{'role': 'system', 'content': f'Noted at {datetime.now()}: {text}'}]\n    memory.add(messages=notes, user_id=user)",
    "TG123 a model that was made for JSON": "import json\nimport google.generativeai as genai\nfrom google.generativeai import GenerationConfig\ndef f(prompt):\n    model = genai.GenerativeModel('gemini-2.0-flash', generation_config=GenerationConfig(response_mime_type='application/json'))\n    response = model.generate_content(prompt)\n    return json.loads(response.text)",
    "TG104 limit in the test": CLAUDE
    + f"def chat(messages, run):\n    rounds = 0\n    response = {TELL}\n    while response.stop_reason == 'tool_use' and rounds < 3:\n        rounds += 1\n        messages.append(run(response))\n        response = {TELL}",
    "TG104 counted and broken": OPENAI
    + f"def f(messages):\n    step = 0\n    while True:\n        r = {SAY}\n        messages.append(r)\n        step += 1\n        if step == 10:\n            break",
    "TG104 worker of a queue": OPENAI
    + f"def work(queue):\n    while True:\n        messages = queue.get()\n        print({SAY}.choices[0].finish_reason)",
    "TG104 bot that polls": OPENAI
    + f"import time\ndef work(inbox):\n    while True:\n        for messages in inbox():\n            print({SAY})\n        time.sleep(60)",
    "TG104 pages": "def f(client):\n    page = client.messages.create(model='c', max_tokens=9, messages=[])\n    while page.has_next_page():\n        page = client.messages.create(model='c', max_tokens=9, messages=[page])",
    "TG104 helper asked once a turn of a person": OPENAI
    + f"def ask(messages):\n    return {SAY}\ndef chat(messages):\n    while True:\n        messages.append(input('> '))\n        print(ask(messages).choices[0].finish_reason)",
    "TG104 helper that loops within limits": OPENAI
    + f"def ask(messages):\n    for _ in range(3):\n        messages.append({SAY})\n    return messages\ndef serve(accept):\n    while True:\n        ask(accept())",
    "TG104 generator": OPENAI + f"def f(messages):\n    while True:\n        yield {SAY}",
    "TG105 max_tries": OPENAI
    + f"import backoff, openai\n@backoff.on_exception(backoff.expo, openai.RateLimitError, max_tries=8)\ndef f(messages):\n    return {SAY}",
    "TG105 stop by name": OPENAI + TENACITY + f"@retry(stop=llm_stop, wait=1)\ndef f(messages):\n    return {SAY}",
    "TG105 raised in the end": OPENAI
    + f"def f(messages, n):\n    while True:\n        try:\n            return {SAY}\n        except Exception:\n            n -= 1\n            if n == 0:\n                raise",
    "TG105 not around a request": TENACITY + "@retry(wait=wait_random_exponential())\ndef fetch(url):\n    return get(url)",
    "TG105 stamina stops itself": OPENAI
    + f"import stamina\n@stamina.retry(on=Exception)\ndef f(messages):\n    return {SAY}",
    "TG106 for bad JSON": OPENAI + TENACITY
    + f"import json\nfrom pydantic import ValidationError\n@retry(stop=stop_after_attempt(3), retry=retry_if_exception_type((json.JSONDecodeError, ValidationError)))\ndef f(messages):\n    return json.loads({SAY})",
    "TG106 for a result": OPENAI + TENACITY
    + f"@retry(stop=stop_after_attempt(3), retry=retry_if_result(lambda r: r is None))\ndef f(messages):\n    return {SAY}",
    "TG106 condition from elsewhere": OPENAI + TENACITY
    + f"from ours import llm_retry_condition\n@retry(stop=stop_after_attempt(3), retry=llm_retry_condition)\ndef f(messages):\n    return {SAY}",
    "TG106 backoff for values": OPENAI
    + f"import backoff\n@backoff.on_exception(backoff.expo, ValueError, max_tries=3)\ndef f(messages):\n    return {SAY}",
    "TG106 client made elsewhere": TENACITY + f"from ours import client\n@retry(stop=stop_after_attempt(3))\ndef f(messages):\n    return {SAY}",
    "TG107 executor's own": "from langchain.agents import AgentExecutor, create_react_agent\ndef f(llm, tools, prompt, q):\n    agent = create_react_agent(llm, tools, prompt)\n    return AgentExecutor(agent=agent, tools=tools, max_iterations=5).invoke({'input': q})",
    "TG107 node of a graph": GRAPH
    + "def build(model, workflow):\n    agent = create_react_agent(model, [])\n    workflow.add_node('agent', agent)",
    "TG107 limit in a constant": GRAPH
    + "CONFIG = {'recursion_limit': 30}\ndef f(model, q):\n    agent = create_react_agent(model, [])\n    return agent.invoke({'messages': q}, CONFIG)",
    "TG107 built from keywords": GRAPH + "def f(q, **kw):\n    return create_react_agent(**kw).invoke({'messages': q})",
    "TG108 before the loop": OPENAI
    + f"def f(messages, level, turns):\n    messages[0]['content'] = level\n    for t in turns:\n        messages.append(t)\n        {SAY}",
    "TG108 without a loop": OPENAI
    + f"def f(messages, extra):\n    messages[0]['content'] = messages[0]['content'] + extra\n    messages.append('x')\n    return {SAY}",
    "TG108 a conversation for each item": OPENAI
    + f"def f(rows):\n    for row in rows:\n        messages = [{{'role': 'system', 'content': ''}}]\n        messages[0]['content'] = row.rules\n        messages.append(row.text)\n        {SAY}",
    "TG108 last message": OPENAI
    + f"def f(messages, turns):\n    for t in turns:\n        messages.append(t)\n        messages[-1]['content'] += '!'\n        {SAY}",
    "TG109 asked for": OPENAI
    + "for c in client.chat.completions.create(model='m', messages=[], max_tokens=4, stream=True, stream_options={'include_usage': True}):\n    print(c)",
    "TG109 bedrock provider": "from openai import OpenAI\ndef f(provider, m):\n    client = OpenAI(provider=provider)\n    return client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 another server, made later": "from openai import AsyncOpenAI\nclass P:\n    def __init__(self):\n        self._client = None\n    def setup(self):\n        self._client = AsyncOpenAI(base_url='https://api.x.ai/v1')\n    async def f(self, m):\n        return await self._client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 one of two clients": "from openai import OpenAI\nclass P:\n    def setup(self, url):\n        self.client = OpenAI()\n        if url:\n            self.client = OpenAI(base_url=url)\n    def f(self, m):\n        return self.client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 client unknown": "def f(client, m):\n    return client.chat.completions.create(model='m', messages=m, max_tokens=4, stream=True)",
    "TG109 responses say it": OPENAI + "s = client.responses.create(model='m', input='x', max_output_tokens=4, stream=True)",
    "TG109 helper of the sdk": OPENAI
    + "with client.chat.completions.stream(model='m', messages=[], max_tokens=4) as s:\n    print(s)",
    "TG110 a prompt for a person": "import json\ndef f(x):\n    prompt = f'Send this?\\n{json.dumps(x, indent=2)}\\n[y/n] '\n    return input(prompt) == 'y'",
    "TG110 what is looked up by name": "import json\ndef orders(c):\n    return json.dumps(c, indent=2)\nPAGES = {'orders': orders}",
    "TG110 printed beside": "import json\ndef f(c, x):\n    print(json.dumps(x, indent=2))\n    return c.responses.create(model='m', input=json.dumps(x), max_output_tokens=5)",
    "TG110 saved answer": "import json\ndef f(c, x):\n    r = c.responses.create(model='m', input=x, max_output_tokens=5)\n    open('a.json', 'w').write(json.dumps(r.output_text, indent=2))",
    "TG110 no indent": "import json\ndef f(x):\n    return {'role': 'user', 'content': json.dumps(x, indent=None)}",
    "TG110 tool result of a web page": "import json\ndef handler(x):\n    return {'statusCode': 200, 'body': json.dumps(x, indent=2)}",
    "TG111 one question": OPENAI
    + "def get_embedding(text):\n    return client.embeddings.create(input=[text], model='e').data[0].embedding\ndef search(question):\n    return get_embedding(question)",
    "TG111 helper of batches": OPENAI
    + "def embed(texts):\n    return client.embeddings.create(input=texts, model='e').data\ndef f(batches):\n    return [embed(b) for b in batches]",
    "TG111 helper tries again": OPENAI
    + "def get_embedding(text):\n    for _ in range(3):\n        try:\n            return client.embeddings.create(input=[text], model='e')\n        except OSError:\n            pass",
    "TG111 slices": OPENAI
    + "def f(texts):\n    for i in range(0, len(texts), 100):\n        yield client.embeddings.create(input=texts[i:i + 100], model='e')",
    "TG111 another apply": OPENAI
    + "def get_embedding(text):\n    return client.embeddings.create(input=[text], model='e')\ndef f(df, clean):\n    df['text'] = df['text'].apply(clean)\n    return get_embedding('x')",
    "TG112 small model": OPENAI + "client.chat.completions.create(model='gpt-4o-mini', messages=[], max_tokens=4)",
    "TG112 name in a message": OPENAI
    + "client.chat.completions.create(model='gpt-4.1', messages=[{'role': 'user', 'content': 'Is gpt-4 old?'}], max_tokens=4)",
    "TG112 model of the caller": OPENAI + "def f(model):\n    return client.chat.completions.create(model=model, messages=[], max_tokens=4)",
    "TG112 opus for work": CLAUDE
    + "client.messages.create(model='claude-opus-4-1', max_tokens=2, messages=[{'role': 'user', 'content': 'Write the proof.'}])",
    "TG113 short list by name": ASYNC
    + "QUESTIONS = ['a', 'b', 'c']\nasync def one(q):\n    return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def f():\n    return await asyncio.gather(*[one(q) for q in QUESTIONS])",
    "TG113 semaphore in the task": ASYNC
    + "async def one(q, sem):\n    async with sem:\n        return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def f(qs):\n    sem = asyncio.Semaphore(5)\n    return await asyncio.gather(*[one(q, sem) for q in qs])",
    "TG113 first few": ASYNC
    + "async def one(q):\n    return await client.responses.create(model='m', input=q, max_output_tokens=4)\nasync def f(qs):\n    return await asyncio.gather(*[one(q) for q in qs[:5]])",
    "TG113 no requests": ASYNC
    + f"async def one(p):\n    return p.read_text()\nasync def f(paths, messages):\n    await asyncio.gather(*[one(p) for p in paths])\n    return await {SAY}",
    "TG114 marked": CLAUDE
    + f"def f(m):\n    return client.messages.create(model='c', max_tokens=9, messages=m, system=[{{'type': 'text', 'text': {LONG}, 'cache_control': {{'type': 'ephemeral'}}}}])",
    "TG114 short": CLAUDE + "client.messages.create(model='c', max_tokens=9, messages=[], system='Be kind. ' * 20)",
    "TG114 length unknown": CLAUDE + "def f(m, rules):\n    return client.messages.create(model='c', max_tokens=9, messages=m, system=rules)",
    "TG114 openai caches itself": OPENAI
    + f"client.chat.completions.create(model='m', max_tokens=4, messages=[{{'role': 'system', 'content': {LONG}}}])",
    "TG114 bedrock mark": f"def f(bedrock, m):\n    return bedrock.converse(modelId='m', messages=m, system=[{{'text': {LONG}}}, {{'cachePoint': {{'type': 'default'}}}}], inferenceConfig={{'maxTokens': 9}})",
    "TG115 sorted tools": OPENAI
    + "def f(q, names, spec):\n    return client.chat.completions.create(model='m', messages=q, max_tokens=4, tools=[spec(n) for n in sorted(set(names))])",
    "TG115 listing for the user": "import os\ndef f(c):\n    return c.responses.create(model='m', instructions='Be kind', input=str(os.listdir('.')), max_output_tokens=4)",
    "TG115 once, at import": "import os\nSYSTEM_PROMPT = 'Files: ' + ' '.join(os.listdir('skills'))",
    "TG116 set": "import openai\nclient = openai.OpenAI(timeout=30)",
    "TG116 own transport": "import httpx, openai\nclient = openai.OpenAI(http_client=httpx.Client(timeout=5))",
    "TG116 settings": "import openai\ndef f(**settings):\n    return openai.OpenAI(**settings)",
    "TG116 calls say it": "import openai\nclient = openai.OpenAI()\ndef f(m):\n    return client.chat.completions.create(model='m', messages=m, max_tokens=4, timeout=20)",
    "TG116 options say it": "import openai\nclient = openai.OpenAI().with_options(timeout=20)",
    "TG116 a read timeout": "import httpx, openai\nclient = openai.OpenAI(timeout=httpx.Timeout(None, read=20))",
    "TG116 cohere's None is its default": "import cohere\nclient = cohere.Client(timeout=None)",
    "TG116 another OpenAI": "from llama_index.llms.openai import OpenAI\nllm = OpenAI(model='m', max_tokens=4)",
    "TG117 chat": OPENAI
    + "def main():\n    messages = []\n    for line in open('in.txt'):\n        messages.append({'role': 'user', 'content': line})\n        print(client.chat.completions.create(model='m', messages=messages, max_tokens=4))\nif __name__ == '__main__':\n    main()",
    "TG117 person": OPENAI
    + "def main(rows):\n    for row in rows:\n        m = [row]\n        print(client.chat.completions.create(model='m', messages=m, max_tokens=4))\n        input('next?')\nif __name__ == '__main__':\n    main([])",
    "TG117 attempts": OPENAI
    + "def main(m):\n    for _ in range(3):\n        print(client.chat.completions.create(model='m', messages=m, max_tokens=4))\nif __name__ == '__main__':\n    main([])",
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), FOUND.items(), ids=list(FOUND))
def test_found(lint, name: str, code: str) -> None:
    """The rule named first reports this shape, once."""
    assert [f.rule for f in lint(code, name.split()[0])] == [name.split()[0]]


@pytest.mark.parametrize(("name", "code"), SILENT.items(), ids=list(SILENT))
def test_silent(lint, name: str, code: str) -> None:
    """The rule named first leaves this shape alone."""
    assert [(f.span.line, f.message) for f in lint(code, name.split()[0])] == []


def test_a_timeout_left_to_the_sdk_is_a_note(lint) -> None:
    """timeout=None is a warning; the default alone is info, and can be switched off."""
    code = "import openai\na = openai.OpenAI(timeout=None)\nb = openai.AsyncOpenAI()\n"
    assert [(f.span.line, f.severity) for f in lint(code, "TG116")] == [(2, "warning"), (3, "info")]
    assert [f.span.line for f in lint(code, "TG116", rules={"TG116": {"default": False}})] == [2]
