"""Loops that nothing ends, retries of retries, texts one by one, padded tool results, and streams: by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.run import lint_file

OPENAI = "from openai import OpenAI\nclient = OpenAI(timeout=5)\n"
CLAUDE = "reply = client.messages.create(model='m', max_tokens=5, messages=messages, tools=tools)"
TOOLS = "        if reply.stop_reason == 'tool_use':\n            messages += run(reply)\n"
KEPT = (
    "class A:\n    def make(self):\n        if self._client is None:\n            self._client = OpenAI({})\n        return self._client\n"
    "    def f(self, m):\n        return self.make().chat.completions.create(model='m', messages=m, max_tokens=5, stream=True)"
)
RETRY = "from openai import OpenAI\nfrom tenacity import retry, stop_after_attempt\nclient = OpenAI()\n"
ASK = "client.chat.completions.create(model='m', messages=m, max_tokens=5)"
EMBED = "client.embeddings.create(model='m', input={})"

REPORTED = {
    "TG106 a client made by a function with branches": (
        "from openai import AzureOpenAI, OpenAI\nfrom tenacity import retry, stop_after_attempt\ndef make():\n"
        "    if azure:\n        return AzureOpenAI()\n    return OpenAI()\nclient = make()\n@retry(stop=stop_after_attempt(3))\n"
        "def f(m):\n    return client.chat.completions.create(model='m', messages=m, max_tokens=5)"
    ),
    "TG104 rounds of tools, each tried until it succeeds": (
        "def f(client, messages, tools, reply):\n    while reply.choices[0].message.tool_calls:\n        messages += run(reply)\n"
        "        answered = False\n        while not answered:\n            try:\n"
        "                reply = client.chat.completions.create(model='m', messages=messages, tools=tools, max_tokens=5)\n"
        "                answered = True\n            except Exception as error:\n                print(error)"
    ),
    "TG104 an answer that is cut off is no end": (
        "from agents import Runner\nasync def f(agent, window, items):\n    while True:\n        reply = Runner.run_streamed(agent, items)\n"
        "        async for event in reply.stream_events():\n            if window.stopped():\n                reply.cancel()\n                break\n"
        "        if reply.final_output.good:\n            return reply\n        items = reply.to_input_list()"
    ),
    "TG104 a judge that sends an agent back": (
        "from agents import Runner\nasync def f(agent, judge, items):\n    while True:\n        reply = await Runner.run(agent, items)\n"
        "        items = reply.to_input_list()\n        verdict = (await Runner.run(judge, items)).final_output\n"
        "        if verdict.score == 'pass':\n            return reply\n        items.append({'role': 'user', 'content': verdict.text})"
    ),
    "TG104 raw response": (
        "def f(client, messages, tools):\n    while True:\n"
        "        raw = client.beta.messages.with_raw_response.create(model='m', max_tokens=5, messages=messages)\n"
        "        reply = raw.parse()\n        if reply.stop_reason != 'tool_use':\n            return reply\n"
        "        messages += run(reply)"
    ),
    "TG104 a budget for thinking is no bound": (
        f"def f(client, messages, tools, thinking_budget):\n    while True:\n        {CLAUDE}\n"
        f"        if thinking_budget:\n            log(reply)\n{TOOLS}        else:\n            return reply"
    ),
    "TG104 count": f"import itertools\ndef f(client, messages, tools):\n    for turn in itertools.count():\n        {CLAUDE}\n{TOOLS}        else:\n            return reply",
    "TG104 range without an end": f"import sys\ndef f(client, messages, tools):\n    for turn in range(sys.maxsize):\n        {CLAUDE}\n{TOOLS}        else:\n            return reply",
    "TG104 infinite default": (
        f"import math\ndef f(client, messages, tools, most=math.inf):\n    turn = 0\n    while turn < most:\n        turn += 1\n"
        f"        {CLAUDE}\n{TOOLS}        else:\n            return reply"
    ),
    "TG104 infinite turns": "from agents import Runner\nasync def f(a):\n    return await Runner.run(a, 'x', max_turns=float('inf'))",
    "TG104 turns by maxsize": "import sys\nfrom agents import Runner\nasync def f(a):\n    return await Runner.run(a, 'x', max_turns=sys.maxsize)",
    "TG104 turns by a power": "from agents import Runner\nasync def f(a):\n    return await Runner.run(a, 'x', max_turns=10**9)",
    "TG104 until a flag": (
        f"def f(client, messages, tools):\n    done = False\n    while not done:\n        {CLAUDE}\n"
        "        done = reply.stop_reason != 'tool_use'\n        messages.append(reply)"
    ),
    "TG105 a smaller cap and a sleep are no end": (
        "import openai, time\ndef f(messages, max_tokens, sleep_time):\n    while True:\n        try:\n"
        "            reply = openai.ChatCompletion.create(model='m', messages=messages, max_tokens=max_tokens)\n            break\n"
        "        except openai.error.OpenAIError as e:\n            if 'length' in str(e):\n                max_tokens = int(max_tokens * 0.8)\n"
        "                if max_tokens == 0:\n                    raise\n            else:\n                time.sleep(sleep_time)"
    ),
    "TG104 tries again inside": (
        "import time\ndef f(client, messages, tools):\n    while True:\n        tries = 0\n        while tries < 3:\n            try:\n"
        "                tries += 1\n                reply = client.chat.completions.create(model='m', max_tokens=5, messages=messages)\n"
        "                break\n            except OSError:\n                time.sleep(5)\n"
        "        if reply.choices[0].finish_reason == 'stop':\n            return reply\n        messages += run(reply)"
    ),
    "TG104 until a flag that is set in a test": (
        f"def f(client, messages, tools):\n    more = True\n    while more:\n        {CLAUDE}\n        messages.append(reply)\n"
        "        if more := reply.stop_reason == 'tool_use':\n            messages.append(run(reply))"
    ),
    "TG104 until the answer says so": (
        "def ask(client, messages):\n    return client.chat.completions.create(model='m', max_tokens=5, messages=messages)\n"
        "def f(client, messages):\n    reply = ''\n    while '[DONE]' not in reply:\n        reply = ask(client, messages)\n"
        "        messages.append(reply)"
    ),
    "TG104 a chat of Gemini's": (
        "import google.generativeai as genai\ndef f(q):\n    chat = genai.GenerativeModel('m').start_chat()\n    reply = chat.send_message(q)\n"
        "    while True:\n        call = reply.candidates[0].content.parts[0].function_call\n        if not call:\n            return reply.text\n"
        "        reply = chat.send_message(run(call))"
    ),
    "TG104 completions of a client": (
        "class A:\n    def ask(self, prompt):\n        return self.client.completions.create(model='m', max_tokens_to_sample=5, prompt=prompt)\n"
        "    def f(self, prompt):\n        while True:\n            reply = self.ask(prompt)\n"
        "            if reply.stop_reason != 'stop_sequence':\n                return reply\n            prompt += run(reply)"
    ),
    "TG104 a tool may ask for leave": (
        "def allowed(name):\n    return input(name + '? ') == 'y'\ndef f(client, messages, tools):\n    while True:\n"
        f"        {CLAUDE}\n        for block in reply.content:\n            if block.type == 'tool_use' and allowed(block.name):\n"
        "                messages.append(run(block))\n        if reply.stop_reason != 'tool_use':\n            return reply"
    ),
    "TG104 turns taken away": "from agents import Runner\nasync def f(a):\n    return await Runner.run(a, 'x', max_turns=None)",
    "TG104 requests taken away": "from pydantic_ai.usage import UsageLimits\nlimits = UsageLimits(request_limit=None)",
    "TG104 recursion without an end": "def f(graph, x):\n    return graph.invoke(x, recursion_limit=1000000)",
    "TG104 tool runner": (
        "def f(client, tools, m):\n    for message in client.beta.messages.tool_runner(model='m', max_tokens=5, tools=tools, messages=m):\n"
        "        print(message)"
    ),
    "TG104 input in one branch": (
        "def f(client, messages, tools):\n    ask = True\n    while True:\n        if ask:\n"
        f"            messages.append(input())\n        {CLAUDE}\n        ask = True\n{TOOLS}            ask = False"
    ),
    "TG104 input behind a continue": (
        f"def f(client, messages, tools):\n    while True:\n        {CLAUDE}\n{TOOLS}            continue\n        messages.append(input())"
    ),
    "TG104 a protocol in words, through a helper": (
        "def ask(client, messages):\n    return client.chat.completions.create(model='m', messages=messages, max_tokens=5).choices[0].message.content\n"
        "def f(client, messages):\n    while True:\n        reply = ask(client, messages)\n        if reply.startswith('ANSWER:'):\n"
        "            return reply\n        messages.append({'role': 'user', 'content': search(reply)})"
    ),
    "TG104 a conversation that another module sends": (
        "from house import ask\ndef f(messages):\n    while True:\n        reply = ask_llm(messages)\n        messages.append(reply)\n"
        "        if 'DONE' in reply:\n            return reply"
    ),
    "TG104 asked again until the answer is valid": (
        "def one(client, text):\n    return client.responses.create(model='m', input=text, max_output_tokens=5).output_text\n"
        "def f(client, text):\n    while True:\n        reply = one(client, text)\n        parts = reply.split(',')\n"
        "        if len(parts) == 5:\n            return parts"
    ),
    "TG104 asked again until a player is named": (
        "class Game:\n    def target(self, prompt):\n        while True:\n            reply = self.llm.generate(prompt)\n"
        "            found = self.find(reply)\n            if found and found.alive:\n                return found"
    ),
    "TG104 one tool call a round, of tools that are listed": (
        "from house import LLM\nclass A:\n    def __init__(self, llm: LLM):\n        self.llm = llm\n    async def run(self, said):\n"
        "        while True:\n            reply = await self.llm.generate(messages=said, tools=await self.get_tools())\n"
        "            if reply['type'] == 'tool_call':\n                said.append(await self.execute(reply))\n"
        "            else:\n                return reply['content']"
    ),
    "TG104 rounds of a run that the server keeps": (
        "def f(client, run, thread):\n    while run.status == 'requires_action':\n        done = [call(c) for c in run.calls]\n"
        "        run = client.beta.threads.runs.submit_tool_outputs_and_poll(run_id=run.id, thread_id=thread, tool_outputs=done)"
    ),
    "TG104 a record of what was said hears nobody": (
        f"def f(log, client, messages, tools):\n    while True:\n        {CLAUDE}\n        log.record_reply(reply)\n{TOOLS}        else:\n            return reply"
    ),
    "TG106 clients by condition": (
        "from openai import AzureOpenAI, OpenAI\nfrom tenacity import retry\nclient = AzureOpenAI() if AZURE else OpenAI()\n"
        "@retry\ndef f(m):\n    return client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG106 a framework's model": (
        "from langchain_openai import ChatOpenAI\nfrom tenacity import retry\nllm = ChatOpenAI(max_tokens=5)\n"
        "@retry\ndef f(m):\n    return llm.invoke(m)"
    ),
    "TG106 in a pipeline": (
        "from langchain_openai import ChatOpenAI\nfrom tenacity import retry\nllm = ChatOpenAI(max_tokens=5)\n"
        "class A:\n    def __init__(self, prompt):\n        self.llm = llm\n    @retry\n    def f(self, prompt, m):\n"
        "        chain = prompt | llm\n        return chain.invoke(m)"
    ),
    "TG106 bound to tools": (
        "from langchain_anthropic import ChatAnthropic\nimport backoff\nllm = ChatAnthropic(max_tokens=5).bind_tools([])\n"
        "@backoff.on_exception(backoff.expo, Exception, max_tries=3)\ndef f(m):\n    return llm.invoke(m)"
    ),
    "TG106 an error that is told and raised": (
        "from langchain_openai import ChatOpenAI\nfrom tenacity import retry\nllm = ChatOpenAI(max_tokens=5)\n"
        "@retry\ndef f(m):\n    try:\n        return llm.invoke(m)\n    except Exception as e:\n        print(e)\n        raise"
    ),
    "TG109 a client that a method keeps": OPENAI + KEPT.format("timeout=5"),
    "TG109 a client that a function keeps": (
        "from openai import OpenAI\nkept = None\ndef make():\n    global kept\n    if kept is None:\n        kept = OpenAI()\n"
        "    return kept\ndef f(m):\n    return make().chat.completions.create(model='m', messages=m, max_tokens=5, stream=True)"
    ),
    "TG110 openai-agents": (
        "import json\nfrom agents import function_tool\n@function_tool\ndef orders(c: str) -> str:\n    return json.dumps(load(c), indent=2)"
    ),
    "TG110 langchain": "import json\nfrom langchain_core.tools import tool\n@tool\ndef orders(c):\n    text = json.dumps(load(c), indent=2)\n    return text",
    "TG110 mcp": "import json\nfrom mcp.server.fastmcp import FastMCP\nmcp = FastMCP('x')\n@mcp.tool()\ndef orders(c):\n    return json.dumps(load(c), indent=4)",
    "TG110 mcp's lower level": (
        "import json\nfrom mcp.server import Server\nfrom mcp.types import TextContent\nserver = Server('x')\n@server.call_tool()\n"
        "async def call(name, arguments):\n    return [TextContent(type='text', text=json.dumps(run(name), indent=2))]"
    ),
    "TG110 bound to a model": "import json\ndef orders(c):\n    return json.dumps(load(c), indent=2)\nllm = model.bind_tools([orders])",
    "TG110 a list of tools": "import json\ndef orders(c):\n    return json.dumps(load(c), indent=2)\norder_tools = [orders]",
    "TG110 described by a schema": (
        "import json\nTOOLS = [{'name': 'orders', 'description': 'd', 'input_schema': {}}]\n"
        "def orders(c):\n    return json.dumps(load(c), indent=2)"
    ),
    "TG110 looked up by the name in a call": (
        "import json\ndef orders(c):\n    return json.dumps(load(c), indent=2)\nKNOWN = {'orders': orders}\n"
        "def f(tool_call):\n    return KNOWN[tool_call.function.name](**json.loads(tool_call.function.arguments))"
    ),
    "TG110 registered": "import json\nfrom autogen import register_function\ndef orders(c):\n    return json.dumps(load(c), indent=2)\n"
    "register_function(orders, caller=a, executor=b, tool='x')",
    "TG110 a pair": "import json\ndef f(llm, x):\n    return llm.invoke([('human', json.dumps(x, indent=2))])",
    "TG110 what a chain is given": (
        "import json\nfrom langchain_core.prompts import ChatPromptTemplate\ndef f(llm, x):\n"
        "    chain = ChatPromptTemplate.from_template('of {x}') | llm\n    return chain.invoke({'x': json.dumps(x, indent=2)})"
    ),
    "TG110 handed over as a prompt": (
        "import json\ndef ask(system, prompt):\n    return send(system, prompt)\ndef f(x):\n    return ask('s', 'of ' + json.dumps(x, indent=2))"
    ),
    "TG110 by name": "import json\nfrom google.adk.agents import Agent\ndef orders(c):\n    return json.dumps(load(c), indent=2)\nagent = Agent(tools=[orders])",
    "TG110 tool class": "import json\nfrom crewai.tools import BaseTool\nclass Orders(BaseTool):\n    def _run(self, c):\n        return json.dumps(load(c), indent=2)",
    "TG110 tool result": "import json\ndef f(b, x):\n    return {'type': 'tool_result', 'tool_use_id': b.id, 'content': json.dumps(x, indent=2)}",
    "TG106 a block of attempts": (
        "from openai import AsyncOpenAI\nfrom tenacity import AsyncRetrying, stop_after_attempt\nclient = AsyncOpenAI()\n"
        "async def f(m):\n    async for attempt in AsyncRetrying(stop=stop_after_attempt(3)):\n        with attempt:\n"
        "            return await client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG106 in a function that the decorated one calls": (
        RETRY + f"class A:\n    def send(self, m):\n        return {ASK}\n    @retry(stop=stop_after_attempt(3))\n"
        "    def ask(self, m):\n        return self.send(m).choices[0]"
    ),
    "TG106 a method of the client that is handed over": (
        RETRY + "@retry(stop=stop_after_attempt(3))\ndef patient(call, **options):\n    return call(**options)\n"
        "def f(m):\n    return patient(client.chat.completions.create, model='m', messages=m, max_tokens=5)"
    ),
    "TG106 a lambda that is handed over": (
        RETRY + "@retry(stop=stop_after_attempt(3))\ndef patient(call):\n    return call()\n"
        f"def f(m):\n    return patient(lambda: {ASK})"
    ),
    "TG106 a client that is handed over": (
        RETRY + f"@retry(stop=stop_after_attempt(3))\ndef ask(client, m):\n    return {ASK}\n"
        "def f(m):\n    return ask(OpenAI(), m)"
    ),
    "TG106 a decorator of the file's own": (
        RETRY + "def patient(function):\n    @retry(stop=stop_after_attempt(3))\n    def inner(*args):\n        return function(*args)\n"
        f"    return inner\n@patient\ndef f(m):\n    return {ASK}"
    ),
    "TG106 a decorator under a name": (
        RETRY + f"patient = retry(stop=stop_after_attempt(3))\n@patient\ndef f(m):\n    return {ASK}"
    ),
    "TG106 attempts that are called": (
        f"from openai import OpenAI\nfrom tenacity import Retrying, stop_after_attempt\nclient = OpenAI()\ndef ask(m):\n    return {ASK}\n"
        "def f(m):\n    attempts = Retrying(stop=stop_after_attempt(3))\n    return attempts(ask, m)"
    ),
    "TG106 a client that a property makes": (
        RETRY + "class A:\n    _client: OpenAI | None = None\n    @property\n    def client(self):\n"
        "        if self._client is None:\n            self._client = OpenAI()\n        return self._client\n"
        f"    @retry(stop=stop_after_attempt(3))\n    def ask(self, m):\n        return self.{ASK}"
    ),
    "TG106 the package's own client": (
        "import openai\nfrom tenacity import retry, stop_after_attempt\n@retry(stop=stop_after_attempt(3))\ndef f(m):\n"
        f"    return {ASK.replace('client', 'openai')}"
    ),
    "TG106 errors under a name": (
        "import backoff, openai\nclient = openai.OpenAI()\nERRORS = (openai.RateLimitError, openai.APITimeoutError)\n"
        f"@backoff.on_exception(backoff.expo, ERRORS, max_tries=3)\ndef f(m):\n    return {ASK}"
    ),
    "TG106 a client with a timeout of its own": (
        RETRY + f"@retry(stop=stop_after_attempt(3))\ndef f(m):\n    return {ASK.replace('client', 'client.with_options(timeout=5)')}"
    ),
    "TG106 embeddings": (
        "from openai import OpenAI\nfrom tenacity import retry, stop_after_attempt\nclient = OpenAI()\n"
        "@retry(stop=stop_after_attempt(3))\ndef f(texts):\n    return client.embeddings.create(model='m', input=texts)"
    ),
    "TG106 one error or another": (
        "import openai\nfrom openai import OpenAI\nfrom tenacity import retry, retry_if_exception_type as on, stop_after_attempt\n"
        "client = OpenAI()\n@retry(stop=stop_after_attempt(3), retry=(on(ValueError) | on(openai.RateLimitError)))\n"
        "def f(m):\n    return client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG111 by their places": OPENAI + f"def f(texts):\n    for i in range(len(texts)):\n        keep({EMBED.format('texts[i]')})",
    "TG111 by their places, under a name": OPENAI
    + f"def f(rows):\n    for i in range(0, len(rows)):\n        text = rows[i].text\n        keep({EMBED.format('text')})",
    "TG111 a column with a bar": OPENAI
    + f"def one(text):\n    return {EMBED.format('[text]')}\ndef f(frame):\n    return frame['text'].progress_apply(one)",
    "TG111 of Cohere": "import cohere\nco = cohere.Client()\ndef f(texts):\n    return [co.embed(texts=[t], model='m') for t in texts]",
    "TG111 a query for each, of an older package": (
        "from langchain_community.embeddings import OpenAIEmbeddings\ne = OpenAIEmbeddings()\ndef f(texts):\n    return [e.embed_query(t) for t in texts]"
    ),
    "TG111 tried again for each": OPENAI + "def f(texts):\n    for text in texts:\n        for attempt in range(5):\n"
    f"            try:\n                keep({EMBED.format('text')})\n                break\n            except Exception:\n                wait()",
    "TG111 a query for each": "from langchain_openai import OpenAIEmbeddings\ne = OpenAIEmbeddings()\ndef f(texts):\n    return [e.embed_query(t) for t in texts]",
    "TG111 of Google's older package": "import google.generativeai as genai\ndef f(texts):\n    for t in texts:\n        keep(genai.embed_content(model='m', content=t))",
    "TG111 derived": OPENAI + f"def f(rows):\n    for r in rows:\n        q = r.text\n        q = q.strip()\n        keep({EMBED.format('q')})",
    "TG111 gather": OPENAI + "import asyncio\nasync def one(text):\n    clean = text.strip()\n"
        f"    return await {EMBED.format('[clean]')}\nasync def f(texts):\n    return await asyncio.gather(*[one(t) for t in texts])",
    "TG111 two helpers": OPENAI + f"def raw(text):\n    return {EMBED.format('text')}\ndef one(text):\n    return raw(text.strip()).data\n"
        "def f(texts):\n    for t in texts:\n        keep(one(t))",
    "TG111 the text of each file": OPENAI + "def f(paths):\n    for path in paths:\n        with open(path) as file:\n"
        f"            text = file.read()\n        text = clean(text)\n        keep({EMBED.format('text')})",
    "TG111 the second text of a helper": OPENAI + f"def one(text):\n    return {EMBED.format('text')}\ndef near(a, b):\n"
        "    return one(a) @ one(b)\ndef f(query, texts):\n    return [near(query, t) for t in texts]",
    "TG111 mapped": OPENAI + f"def one(text):\n    return {EMBED.format('[text]')}\ndef f(texts):\n    return list(map(one, texts))",
}  # fmt: skip

SILENT = {
    "TG104 a judge that sends an agent back three times": (
        "from agents import Runner\nasync def f(agent, items):\n    rounds = 0\n    while True:\n        reply = await Runner.run(agent, items)\n"
        "        items = reply.to_input_list()\n        rounds += 1\n        if reply.final_output.good or rounds >= 3:\n            return reply\n"
    ),
    "TG104 a chat with an agent": (
        "from agents import Runner\nasync def f(agent, items):\n    while True:\n        items.append({'role': 'user', 'content': input()})\n"
        "        reply = await Runner.run(agent, items)\n        items = reply.to_input_list()"
    ),
    **{
        f"TG104 a person speaks: {asks}": (
            "import openai\ndef chat(mic, recognizer, messages):\n    while True:\n"
            f"        messages.append({{'role': 'user', 'content': {asks}}})\n"
            "        reply = openai.ChatCompletion.create(model='m', messages=messages, max_tokens=5)\n"
            "        messages.append(reply.choices[0].message)"
        )
        for asks in ("__prompt()", "_ask('you: ')", "recognizer.recognize_google(mic.record(4))", "mic.transcribe_stream()",
                     "take_command(messages)", "takecommand()", "st.text_input('you', key='k')", "self.prompt_user('> ')",
                     "read_prompt(session)", "askUser('more?')", "get_audio()", "await bot.wait_for('message')", "asr_thread()",
                     "telegramGetUpdates(last)", "record_and_recognize()", "await asyncio.to_thread(input, '> ')",
                     "await loop.run_in_executor(None, input)")
    },
    **{
        f"TG104 a helper asks: {body}": (
            f"import openai\ndef readData(source):\n    text = {body}\n    return text.strip()\ndef again(source):\n    return readData(source)\n"
            "def chat(source, messages):\n    while True:\n        messages.append({'role': 'user', 'content': again(source)})\n"
            "        reply = openai.ChatCompletion.create(model='m', messages=messages, max_tokens=5)\n"
            "        messages.append(reply.choices[0].message)"
        )
        for body in ("input('> ')", "source.recv(1024).decode()", "recognizer.listen(source)", "sys.stdin.readline()")
    },
    "TG104 left in both branches": (
        "import openai, time\ndef f(keys, messages):\n    while True:\n        for key in keys:\n            try:\n"
        "                return openai.ChatCompletion.create(model='m', api_key=key, messages=messages, max_tokens=5)\n"
        "            except OSError:\n                time.sleep(1)\n        if not keys:\n            return None\n        else:\n            return 1"
    ),
    "TG104 counted by a sum": (
        f"def f(client, messages, tools):\n    count = 0\n    while True:\n        count = count + 1\n        if count > 9:\n"
        f"            raise ValueError('Too many steps')\n        {CLAUDE}\n{TOOLS}"
    ),
    "TG104 by the clock": (
        f"import time\ndef f(client, messages, tools):\n    began = time.time()\n    while True:\n        if time.time() - began > 5:\n"
        f"            return None\n        {CLAUDE}\n{TOOLS}"
    ),
    "TG104 by the length of what grows": (
        f"class A:\n    def keep(self, x):\n        self.thoughts.append(x)\n    def f(self, client, messages, tools):\n        while True:\n            {CLAUDE}\n"
        "            if reply.stop_reason == 'end_turn' or len(self.thoughts) > 3:\n                return reply\n            self.keep(reply)"
    ),
    "TG104 input in both branches": (
        "def f(client, messages, tools):\n    while True:\n        if voice:\n            messages.append(listen())\n"
        f"        else:\n            messages.append(input())\n        {CLAUDE}\n{TOOLS}"
    ),
    "TG104 a person every time": f"def f(client, messages, tools):\n    while True:\n        messages.append(input())\n        {CLAUDE}\n{TOOLS}",
    "TG104 texts until none is left": (
        "def one(client, text):\n    return client.responses.create(model='m', input=text, max_output_tokens=5).output_text\n"
        "def f(client, text):\n    while text:\n        part = ''\n        part += text[:4000]\n        text = text[4000:]\n        print(one(client, part))"
    ),
    "TG104 batches until none is left": (
        "def batch(client):\n    rows = load()\n    for row in rows:\n"
        "        client.responses.create(model='m', input=row, max_output_tokens=5)\n    return len(rows)\n"
        "def one(client):\n    return batch(client)\nasync def f(llm, client):\n    while True:\n        count = await one(client)\n"
        "        if count == 0:\n            break\n        more = await llm.generate(client)\n        if not more:\n            break"
    ),
    "TG104 counted": f"import itertools\ndef f(client, messages, tools):\n    for turn in itertools.count():\n        if turn > 9:\n            break\n        turn += 1\n        {CLAUDE}\n{TOOLS}",
    "TG104 until a flag that waits": (
        f"def f(client, messages, tools):\n    done = False\n    while not done:\n        messages.append(input())\n        {CLAUDE}\n"
        "        done = reply.stop_reason == 'end_turn'"
    ),
    "TG105 attempts that are counted": (
        "import openai\ndef f(messages):\n    attempts = 0\n    while True:\n        try:\n"
        "            return openai.ChatCompletion.create(model='m', messages=messages, max_tokens=5)\n"
        "        except openai.error.OpenAIError:\n            attempts += 1\n            if attempts > 3:\n                raise"
    ),
    "TG105 a deadline by the clock": (
        "import openai, time\ndef f(messages, start):\n    while True:\n        try:\n"
        "            return openai.ChatCompletion.create(model='m', messages=messages, max_tokens=5)\n"
        "        except openai.error.OpenAIError:\n            if time.time() - start > 60:\n                raise"
    ),
    "TG105 both branches leave": (
        "import openai\ndef f(messages, strict):\n    while True:\n        try:\n"
        "            return openai.ChatCompletion.create(model='m', messages=messages, max_tokens=5)\n"
        "        except openai.error.OpenAIError:\n            if strict:\n                raise\n            else:\n                return None"
    ),
    "TG104 some turns": "from agents import Runner\nasync def f(a, n):\n    return await Runner.run(a, 'x', max_turns=n)",
    "TG104 numeric solver": "import numpy\ndef f(x):\n    return fit(x, max_iterations=float('inf'))",
    "TG104 runner with a limit": "def f(client, m):\n    return client.beta.messages.tool_runner(model='m', max_tokens=5, messages=m, max_iterations=5)",
    "TG106 one branch without retries": (
        "from openai import AzureOpenAI, OpenAI\nfrom tenacity import retry\nclient = AzureOpenAI(max_retries=0) if AZURE else OpenAI()\n"
        "@retry\ndef f(m):\n    return client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG106 a model without retries": (
        "from langchain_openai import ChatOpenAI\nfrom tenacity import retry\nllm = ChatOpenAI(max_tokens=5, max_retries=0)\n"
        "@retry\ndef f(m):\n    return llm.invoke(m)"
    ),
    "TG106 the decorator sees no error": (
        "from langchain_openai import ChatOpenAI\nfrom tenacity import retry\nllm = ChatOpenAI(max_tokens=5)\n"
        "@retry\ndef f(m):\n    try:\n        return llm.invoke(m)\n    except Exception:\n        return m"
    ),
    "TG107 scripted": "from langchain.agents import create_agent\nfrom tests import FakeChat\nagent = create_agent(model=FakeChat(), tools=[])\nagent.invoke({})",
    "TG109 a client of another server that a method keeps": OPENAI + KEPT.format("base_url=self.url"),
    "TG110 the state of a graph": "import json\ndef f(graph, x):\n    return graph.invoke({'tool_role': json.dumps(x, indent=2)})",
    "TG110 looked up by the name of a format": (
        "import json\ndef pretty(c):\n    return json.dumps(c, indent=2)\nFORMATS = {'tool': pretty}\ndef f(x, name):\n    return FORMATS[name](x)"
    ),
    "TG110 asked of a person": "import json\ndef f(x):\n    return confirm(prompt=json.dumps(x, indent=2))",
    "TG110 beside a schema": (
        "import json\nTOOLS = [{'name': 'orders', 'description': 'd', 'input_schema': {}}]\n"
        "def saved(c):\n    return json.dumps(load(c), indent=2)"
    ),
    "TG110 no tool": "import json\ndef orders(c):\n    return json.dumps(load(c), indent=2)",
    "TG106 a block of attempts beside": (
        "from openai import OpenAI\nfrom tenacity import Retrying, stop_after_attempt\nclient = OpenAI()\n"
        "def f(m):\n    for attempt in Retrying(stop=stop_after_attempt(3)):\n        with attempt:\n            save(m)\n"
        "    return client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG106 a function of several providers is handed over": (
        RETRY + "@retry(stop=stop_after_attempt(3))\ndef patient(call, *args):\n    return call(*args)\n"
        f"def ask(m, other):\n    if other:\n        return other.{ASK}\n    return {ASK}\ndef f(m):\n    return patient(ask, m)"
    ),
    "TG106 another function is handed over": (
        RETRY + "@retry(stop=stop_after_attempt(3))\ndef patient(call, *args):\n    return call(*args)\n"
        f"def f(m):\n    patient(save, m)\n    return {ASK}"
    ),
    "TG106 a client without retries is handed over": (
        RETRY + f"@retry(stop=stop_after_attempt(3))\ndef ask(client, m):\n    return {ASK}\n"
        "def f(m):\n    return ask(OpenAI(max_retries=0), m)"
    ),
    "TG106 a method of another class": (
        RETRY + f"class A:\n    def send(self, m):\n        return {ASK}\nclass B:\n    def send(self, m):\n        return save(m)\n"
        "    @retry(stop=stop_after_attempt(3))\n    def ask(self, m):\n        return self.send(m)"
    ),
    "TG106 a function that keeps its errors": (
        RETRY + f"def send(m):\n    try:\n        return {ASK}\n    except Exception:\n        return None\n"
        "@retry(stop=stop_after_attempt(3))\ndef f(m):\n    return send(m)"
    ),
    "TG106 a client that is told to send once": (
        RETRY + f"@retry(stop=stop_after_attempt(3))\ndef f(m):\n    return {ASK.replace('client', 'client.with_options(max_retries=0)')}"
    ),
    "TG106 a client that sends once": (
        "from mistralai import Mistral\nfrom tenacity import retry, stop_after_attempt\nclient = Mistral(api_key='k')\n"
        "@retry(stop=stop_after_attempt(3))\ndef f(m):\n    return client.chat.complete(model='m', messages=m, max_tokens=5)"
    ),
    "TG106 the package's own client, told to send once": (
        "import openai\nfrom tenacity import retry, stop_after_attempt\nopenai.max_retries = 0\n@retry(stop=stop_after_attempt(3))\n"
        f"def f(m):\n    return {ASK.replace('client', 'openai')}"
    ),
    "TG106 errors that are its own": (
        "from openai import OpenAI\nfrom tenacity import retry, retry_if_exception_type as on, stop_after_attempt\n"
        "client = OpenAI()\n@retry(stop=stop_after_attempt(3), retry=on(ValueError) | on(KeyError))\n"
        "def f(m):\n    return client.responses.create(model='m', input=m, max_output_tokens=5)"
    ),
    "TG111 lists of texts, of Cohere": "import cohere\nco = cohere.Client()\ndef f(pages):\n    return [co.embed(texts=p, model='m') for p in pages]",
    "TG111 chunks of a list": OPENAI + f"def f(texts):\n    for chunk in chunked(texts, 100):\n        keep({EMBED.format('chunk')})",
    "TG111 slices by their places": OPENAI
    + f"def f(texts):\n    for i in range(0, len(texts), 100):\n        keep({EMBED.format('texts[i : i + 100]')})",
    "TG111 goes on when all at once have failed": OPENAI
    + f"def f(texts):\n    try:\n        return {EMBED.format('texts')}\n    except Exception:\n        log()\n"
    f"    return [{EMBED.format('t')} for t in texts]",
    "TG111 one text tried again": OPENAI + "def f(text):\n    for attempt in range(5):\n"
    f"        try:\n            return {EMBED.format('text')}\n        except Exception:\n            wait()",
    "TG111 second try": OPENAI + f"def f(texts):\n    try:\n        return {EMBED.format('texts')}\n    except Exception:\n"
        f"        return [{EMBED.format('t')} for t in texts]",
    "TG111 second try by helpers": OPENAI + f"def one(text):\n    return {EMBED.format('[text]')}\ndef f(texts):\n    try:\n"
        "        return embed_batch(texts)\n    except Exception:\n        return [one(t) for t in texts]",
    "TG111 one query for several stores": OPENAI + f"def found(query, store):\n    return store.near({EMBED.format('query')})\n"
        "def f(query, stores):\n    return [found(query, s) for s in stores]",
    "TG111 one query for several stores, by name": OPENAI + f"def found(store, query):\n    return store.near({EMBED.format('query')})\n"
        "def f(query, stores):\n    return [found(query=query, store=s) for s in stores]",
    "TG111 batches": OPENAI + f"def f(batches):\n    for batch in batches:\n        texts = [x.text for x in batch]\n        keep({EMBED.format('texts')})",
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), REPORTED.items(), ids=REPORTED)
def test_reported_once(lint, name: str, code: str) -> None:
    """Each is one finding of its rule."""
    assert [f.rule for f in lint(code, name.split()[0])] == [name.split()[0]]


@pytest.mark.parametrize(("name", "code"), SILENT.items(), ids=SILENT)
def test_silent(lint, name: str, code: str) -> None:
    """Each looks like a finding and is none."""
    assert lint(code, name.split()[0]) == []


@pytest.mark.parametrize(
    ("retries", "said"), [("", "up to 3 times"), ("max_retries=0", ", once"), ("max_retries=5", "up to 6 times")]
)
def test_a_timeout_note_counts_the_tries(lint, retries: str, said: str) -> None:
    """What is said of retries is what the client does."""
    (finding,) = lint(f"from openai import OpenAI\nclient = OpenAI({retries})", "TG116")
    assert said in finding.message


def test_a_file_has_one_note_of_timeouts(lint) -> None:
    """The first client stands for the others."""
    (finding,) = lint("import openai\na = openai.OpenAI()\nb = openai.OpenAI()\nc = openai.AsyncOpenAI()", "TG116")
    assert (finding.span.line, "2 more" in finding.message) == (2, True)


@pytest.mark.parametrize(
    ("body", "fixable"),
    [
        ("print(chunk.choices[0].delta.content)", False),
        ("print(chunk.choices[0].delta.content) if chunk.choices else None", True),
        ("if not chunk.choices:\n            continue\n        print(chunk.choices[0].delta.content)", True),
        ("print(chunk.choices and chunk.choices[0].delta.content)", True),
        ("print(chunk)", True),
    ],
)
def test_usage_is_asked_for_only_where_its_chunk_does_no_harm(lint, body: str, fixable: bool) -> None:
    """The last chunk has no choices: code that reads the first without looking gets no fix."""
    code = (
        OPENAI
        + "def f(m):\n    stream = client.chat.completions.create(model='m', messages=m, max_tokens=5, stream=True)\n"
    )
    (finding,) = lint(f"{code}    for chunk in stream:\n        {body}", "TG109")
    assert (finding.fix is not None) is fixable


def test_rules_that_real_code_showed_too_little_of_are_off_unless_selected(lint) -> None:
    """`TG` does not run them, their own code or their group does."""
    code = "import os\ndef f(c, q):\n    names = ' '.join(os.listdir('docs'))\n"
    code += "    return c.responses.create(model='m', instructions=names, input=q, max_output_tokens=4)"
    assert lint(code, "TG") == []
    assert [f.rule for f in lint(code, "TG", "TG115")] == ["TG115"]
    assert [f.rule for f in lint(code, "TG11")] == ["TG115"]


ROUNDS = """
{head}
class Agent:
    def __init__(self):
        self.gateway = Gateway()
    def run(self, messages):
        {loop}:
            reply = self.gateway.next_message(messages)
            if reply.tool_calls:
                messages += [self.tools[c.name](c.arguments) for c in reply.tool_calls]
                continue
            return reply
"""


@pytest.mark.parametrize(
    ("loop", "found"), [("while True", ["TG104"]), ("for _ in range(10)", []), ("while len(messages) < 9", [])]
)
def test_a_tool_loop_is_followed_into_another_module(tmp_path: Path, loop: str, found: list[str]) -> None:
    """The request of an endless tool loop may be made by an object that another module of the project defines."""
    (tmp_path / "gateway.py").write_text(
        "import anthropic\nclient = anthropic.Anthropic()\nclass Gateway:\n    def next_message(self, messages):\n"
        "        return client.messages.create(model='claude-opus-4-5', max_tokens=9, messages=messages)\n"
    )
    path = tmp_path / "agent.py"
    path.write_text(ROUNDS.format(head="from gateway import Gateway", loop=loop))
    linter = Linter(Config(root=tmp_path, select=("TG104",)))
    assert [f.rule for f in lint_file(linter, str(path)).findings] == found


@pytest.mark.parametrize(("made", "found"), [("OpenAI()", ["TG106"]), ("OpenAI(max_retries=0)", [])])
def test_a_client_that_another_module_makes_is_known(tmp_path: Path, made: str, found: list[str]) -> None:
    """`self.client = get_client()`, imported, keeps its retries unless it is made without them."""
    (tmp_path / "clients.py").write_text(f"from openai import OpenAI\ndef get_client():\n    return {made}\n")
    main = tmp_path / "main.py"
    main.write_text(
        "from clients import get_client\nfrom tenacity import retry, stop_after_attempt\nclass Asks:\n"
        "    def __init__(self):\n        self.client = get_client()\n    @retry(stop=stop_after_attempt(3))\n    def ask(self, m):\n"
        "        return self.client.responses.create(model='m', input=m, max_output_tokens=5)\n"
    )
    linter = Linter(Config(root=tmp_path, select=("TG106",)))
    assert [f.rule for f in lint_file(linter, str(main)).findings] == found


@pytest.mark.parametrize("path", ["from clients import client", "import clients"])
@pytest.mark.parametrize(("made", "found"), [("OpenAI()", ["TG106"]), ("OpenAI(max_retries=0)", [])])
def test_a_client_that_another_module_keeps_is_known(tmp_path: Path, path: str, made: str, found: list[str]) -> None:
    """`from clients import client` and `clients.client` are followed, and so is a retry that is set up elsewhere."""
    (tmp_path / "clients.py").write_text(f"from openai import OpenAI\nclient = {made}\n")
    (tmp_path / "again.py").write_text(
        "from tenacity import retry, stop_after_attempt\nopenai_retry = retry(stop=stop_after_attempt(3))\n"
    )
    main = tmp_path / "main.py"
    client = "client" if path.startswith("from") else "clients.client"
    main.write_text(
        f"{path}\nfrom again import openai_retry\n@openai_retry\ndef f(m):\n    return {ASK.replace('client', client)}\n"
    )
    linter = Linter(Config(root=tmp_path, select=("TG106",)))
    assert [f.rule for f in lint_file(linter, str(main)).findings] == found


def test_a_tool_loop_around_a_helper_that_says_what_it_asks(lint) -> None:
    """`call_openai(...)` from a module out of sight is a request; `call_tool(...)` is none."""
    loop = "while True:\n    reply = {}(messages)\n    if not reply.tool_calls:\n        break\n    messages.append(reply)\n"
    assert [f.rule for f in lint(loop.format("call_openai"), "TG104")] == ["TG104"]
    assert lint(loop.format("call_tool"), "TG104") == []


def test_the_limit_of_a_computation_is_none_of_ours(lint) -> None:
    """A million steps of a solver cost nothing; of an agent they are no limit."""
    code = "def f(solver, x):\n    return solver.run(x, max_iterations=1_000_000)\n"
    assert lint(f"from scipy import optimize\n{code}", "TG104") == []
    assert len(lint(f"from crewai import Agent\n{code}", "TG104")) == 1
    assert lint("def f(llm, resolver, x):\n    return resolver.resolve(x, max_rounds=200_000)\n", "TG104") == []
