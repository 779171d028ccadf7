"""TG118 to TG123 beyond their pages: the shapes they must find, and those they must leave alone."""

from __future__ import annotations

import pytest

OPENAI = "from openai import OpenAI\nclient = OpenAI()\n"
CLAUDE = "import anthropic\nclient = anthropic.Anthropic()\n"
BEDROCK = "import boto3\nclient = boto3.client('bedrock-runtime')\n"
ASK = "client.chat.completions.create(model='gpt-4.1', messages=m, max_tokens=5)"
SAY = "client.messages.create(model='claude-sonnet-4-5', max_tokens=5, messages=m, tools=T)"
CHAT = OPENAI + "def f():\n    m = []\n    while True:\n        m.append({'role': 'user', 'content': input()})\n"

LC = "from langchain.memory import ConversationBufferMemory\nfrom langchain.chains import ConversationChain\n"
CHAIN = "memory = ConversationBufferMemory()\n    chain = ConversationChain(llm=llm, memory=memory)\n"

FOUND = {
    "TG119 memory that is returned": LC + f"def f(llm):\n    {CHAIN}    return chain",
    "TG119 memory of an object": LC + f"class A:\n  def f(self, llm):\n    {CHAIN}    self.chain = chain",
    "TG119 memory of a session": LC + f"def f(llm):\n    {CHAIN}    cl.user_session.set('chain', chain)",
    "TG119 memory of a loop": LC + f"def f(llm):\n    {CHAIN}    while True:\n        print(chain.run(input()))",
    "TG119 memory of a closure": LC + f"def f(llm):\n    {CHAIN}    def answer(q):\n        return chain.run(q)\n    gr.Interface(fn=answer).launch()",
    "TG119 memory handed on": LC + f"def f(llm):\n    {CHAIN}    serve(chain)",
    "TG119 memory of a script's session": "import streamlit as st\n" + LC + "if 'm' not in st.session_state:\n    st.session_state.m = ConversationBufferMemory()",
    "TG119 memory in a file": LC + "from langchain.memory import FileChatMessageHistory\ndef f(llm, q):\n"
    "    memory = ConversationBufferMemory(chat_memory=FileChatMessageHistory('h'))\n    return ConversationChain(llm=llm, memory=memory).run(q)",
    "TG118 tools": CLAUDE + f"def f(m):\n    r = {SAY}\n    while r.stop_reason == 'tool_use':\n        m.append(answer(r))\n        r = {SAY}",
    "TG118 augmented": CLAUDE + f"def f(m):\n    for _ in range(9):\n        r = {SAY}\n        m += [answer(r)]",
    "TG118 rebuilt": CLAUDE + f"def f(m):\n    for _ in range(9):\n        r = {SAY}\n        m = m + [answer(r)]",
    "TG118 object": CLAUDE + "class A:\n    def ask(self, q):\n        self.m.append(q)\n        return client.messages.create(model='c', max_tokens=5, messages=self.m)",
    "TG118 helper": CLAUDE + f"def one(m):\n    return {SAY}\ndef f(history):\n    while True:\n        history.append(one(history))",
    "TG118 converse": BEDROCK + "def f(m):\n    while True:\n        r = client.converse(modelId='c', messages=m, inferenceConfig={'maxTokens': 5})\n        m.append(r['output']['message'])",
    "TG119 session": "import streamlit as st\n" + OPENAI + "q = st.chat_input()\nst.session_state.m.append(q)\nclient.chat.completions.create(model='gpt-4.1', messages=[{'role': x['role'], 'content': x['content']} for x in st.session_state.m], max_tokens=5)",
    "TG119 with a system prompt": CHAT + f"        {ASK.replace('=m,', '=[SYSTEM] + m,')}",
    "TG119 object": OPENAI + "class Chat:\n    def ask(self, q):\n        self.m.append(q)\n        return client.responses.create(model='gpt-4.1', input=self.m, max_output_tokens=5)",
    "TG119 langchain": "def f(llm):\n    m = []\n    while True:\n        m.append(('human', input()))\n        m.append(llm.invoke(m))",
    "TG119 graph": "def f(agent):\n    m = []\n    while True:\n        r = agent.invoke({'messages': m + [('human', input())]})\n        m.extend(r['messages'])",
    "TG119 pydantic-ai": "async def f(agent):\n    m = []\n    while True:\n        r = await agent.run(input(), message_history=m)\n        m.extend(r.new_messages())",
    "TG119 doubles": "async def f(agent, m, qs):\n    while qs:\n        r = await agent.run(input(), message_history=m)\n        m += r.all_messages()\n        m = m",
    "TG119 memory": "from langchain.memory import ConversationBufferMemory\nmemory = ConversationBufferMemory()",
    "TG120 data": OPENAI + "def f(x):\n    return {'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{x}'}}",
    "TG121 yes or no": OPENAI + "def f(chunks):\n    for chunk in chunks:\n        prompt = f'Is this relevant? Answer yes or no. {chunk}'\n        client.responses.create(model='gpt-4.1', input=prompt, max_output_tokens=5)",
    "TG121 a filter of one's own": OPENAI + "def good(chunk):\n    r = client.responses.create(model='gpt-4.1', input=f'Relevant? Answer yes or no. {chunk}', max_output_tokens=5)\n    return r.output_text == 'yes'\ndef f(chunks):\n    return [c for c in chunks if good(c)]",
    "TG121 comprehension": "def f(grader, docs, q):\n    return [d for d in docs if grader.invoke({'q': q, 'd': d.page_content}).score == 'yes'] + [grader.invoke(d) for d in docs]",
    "TG122 local": OPENAI + "def f(M, x):\n    schema = M.model_json_schema()\n    prompt = f'As JSON: {schema}'\n    m = [{'role': 'user', 'content': prompt + x}]\n    return client.chat.completions.parse(model='gpt-4.1', messages=m, response_format=M, max_tokens=5)",
    "TG123 fenced": "import json\n" + OPENAI + f"def f(m):\n    r = {ASK}\n    text = r.choices[0].message.content.strip()\n    if text.startswith('```'):\n        text = text.split('\\n', 1)[1].rsplit('```', 1)[0]\n    return json.loads(text)",
    "TG123 gemini": "import json\nfrom google import genai\nclient = genai.Client()\ndef f(q):\n    r = client.models.generate_content(model='gemini-2.5-flash', contents=q)\n    return json.loads(r.text)",
    "TG114 examples before the question": CLAUDE
    + "def f(x):\n    return client.messages.create(model='c', max_tokens=5, messages=[{'role': 'user', 'content': f'"
    + "word " * 1500
    + "{x}'}])",
    "TG112 effort": OPENAI + "def f(x):\n    return client.responses.create(model='gpt-5', reasoning={'effort': 'high'}, input=f'Spam? Answer yes or no. {x}', max_output_tokens=50)",
}  # fmt: skip

SILENT = {
    "TG118 marked elsewhere": CLAUDE + f"T = [{{'name': 'a', 'cache_control': {{'type': 'ephemeral'}}}}]\ndef f(m):\n    while True:\n        m.append({SAY})",
    "TG118 anew": CLAUDE + f"def f(qs):\n    for q in qs:\n        m = [q]\n        m.append('go')\n        {SAY}",
    "TG118 once": CLAUDE + f"def f(m):\n    m.append('x')\n    return {SAY}",
    "TG118 openai": OPENAI + f"def f(m):\n    while True:\n        m.append({ASK})",
    "TG118 point": BEDROCK + "P = {'cachePoint': {'type': 'default'}}\ndef f(m):\n    while True:\n        r = client.converse(modelId='c', system=[S, P], messages=m, inferenceConfig={'maxTokens': 5})\n        m.append(r)",
    "TG119 memory of one run": LC + f"def f(llm, q):\n    {CHAIN}    return chain.run(q)",
    "TG119 memory of one answer": LC + f"def f(llm, q):\n    {CHAIN}    answer = chain({{'question': q}})\n    return jsonify(answer['text'])",
    "TG119 memory of a script that runs anew": "import streamlit as st\n" + LC + "memory = ConversationBufferMemory()\nchain = ConversationChain(llm=llm, memory=memory)\nif q := st.text_input('q'):\n    st.write(chain.run(q))",
    "TG119 memory of a script": LC + "memory = ConversationBufferMemory()\nchain = ConversationChain(llm=llm, memory=memory)\nprint(chain.run('a'))\nprint(chain.run('b'))",
    "TG119 memory of two questions": LC + f"def f(llm):\n    {CHAIN}    for q in ['a', 'b']:\n        print(chain.run(q))",
    "TG119 memory of each round": LC + "def f(llm, qs):\n    while qs:\n        memory = ConversationBufferMemory()\n        chain = ConversationChain(llm=llm, memory=memory)\n        print(chain.run(qs.pop()))",
    "TG119 memory of what was read": LC + "from langchain.memory import ChatMessageHistory\ndef f(llm, rows):\n    history = ChatMessageHistory()\n    for row in rows:\n        history.add_user_message(row)\n    return ConversationBufferMemory(chat_memory=history)",
    "TG119 five turns": CHAT.replace("while True", "for turn in range(5)") + f"        {ASK}",
    "TG119 slice": CHAT + f"        m = m[-20:]\n        {ASK}",
    "TG119 sliced in the request": CHAT + f"        {ASK.replace('=m,', '=m[-20:],')}",
    "TG119 pop": CHAT + f"        if big(m):\n            m.pop(1)\n        {ASK}",
    "TG119 length": CHAT + f"        if len(m) > 40:\n            raise SystemExit\n        {ASK}",
    "TG119 trimmed": CHAT + f"        m = trim_messages(m)\n        {ASK}",
    "TG119 deque": "from collections import deque\n" + CHAT.replace("m = []", "m = deque(maxlen=20)") + f"        {ASK}",
    "TG119 one task": OPENAI + f"def f(m):\n    for _ in range(8):\n        m.append({ASK})",
    "TG119 every question anew": OPENAI + f"def f():\n    while True:\n        m = [{{'role': 'user', 'content': input()}}]\n        m.append({ASK})",
    "TG119 reset": OPENAI + "class Chat:\n    def reset(self):\n        self.m.clear()\n    def ask(self, q):\n        self.m.append(q)\n        return client.responses.create(model='gpt-4.1', input=self.m, max_output_tokens=5)",
    "TG119 window": "from langchain.memory import ConversationBufferWindowMemory\nmemory = ConversationBufferWindowMemory(k=5)",
    "TG120 other server": "from openai import OpenAI\nclient = OpenAI(base_url='http://x')\ndef f(u):\n    return {'type': 'image_url', 'image_url': {'url': u}}",
    "TG120 said": OPENAI + "def f(u):\n    return {'type': 'image_url', 'image_url': {'url': u, 'detail': 'high'}}",
    "TG120 not openai": "import anthropic\ndef f(u):\n    return {'type': 'image_url', 'image_url': {'url': u}}",
    "TG121 a judge that is no filter": OPENAI + "def good(chunk):\n    return client.responses.create(model='gpt-4.1', input=f'Relevant? Answer yes or no. {chunk}', max_output_tokens=5)\ndef f(results):\n    return [good(r) for r in results]",
    "TG121 writes": OPENAI + "def f(chunks):\n    for chunk in chunks:\n        client.responses.create(model='gpt-4.1', input=f'Summarise: {chunk}', max_output_tokens=500)",
    "TG121 all at once": "def f(grader, docs):\n    for attempt in range(3):\n        return grader.invoke({'docs': docs})",
    "TG121 a classifier": "def f(classifier, docs):\n    return [classifier.predict(doc) for doc in docs]",
    "TG122 json mode": "import json\n" + OPENAI + "def f(M, x):\n    m = [{'role': 'user', 'content': json.dumps(M.model_json_schema()) + x}]\n    return client.chat.completions.create(model='gpt-4.1', messages=m, response_format={'type': 'json_object'}, max_tokens=5)",
    "TG122 fallback": OPENAI + "def f(M, m):\n    try:\n        return client.chat.completions.parse(model='gpt-4.1', messages=m, response_format=M, max_tokens=5)\n    except Exception:\n        schema = M.model_json_schema()\n        n = [*m, {'role': 'user', 'content': f'{schema}'}]\n        return client.chat.completions.create(model='gpt-4.1', messages=n, response_format={'type': 'json_object'}, max_tokens=5)",
    "TG122 the format itself": OPENAI + "def f(M, m):\n    schema = M.model_json_schema()\n    return client.chat.completions.create(model='gpt-4.1', messages=m, response_format={'type': 'json_schema', 'json_schema': {'name': 'm', 'schema': schema}}, max_tokens=5)",
    "TG122 the format by its name": OPENAI
    + "def f(M, m):\n    form = {'type': 'json_schema', 'json_schema': {'name': 'm', 'schema': M.model_json_schema()}}\n    r = client.chat.completions.create(model='gpt-4.1', messages=m, response_format=form, max_tokens=5)\n    m.append(r)\n    return client.chat.completions.create(model='gpt-4.1', messages=m, response_format=form, max_tokens=5)",
    "TG123 a dict that a nested function fills": "import json\nfrom google import genai\nclient = genai.Client()\ndef f(q):\n    config = {}\n    def g():\n        config['response_mime_type'] = 'application/json'\n        return json.loads(client.models.generate_content(model='g', contents=q, config=config).text)\n    return g()",
    "TG101 a dict that a nested function fills": OPENAI
    + "def f(m):\n    p = {}\n    def g():\n        p['max_tokens'] = 5\n    g()\n    return client.chat.completions.create(model='m', messages=m, **p)",
    "TG114 nothing asked twice": CLAUDE
    + "def f():\n    return client.messages.create(model='c', max_tokens=5, messages=[{'role': 'user', 'content': '"
    + "word " * 1500
    + "'}])",
    "TG123 format": "import json\n" + OPENAI + f"def f(m):\n    r = {ASK[:-1]}, response_format={{'type': 'json_object'}})\n    return json.loads(r.choices[0].message.content)",
    "TG123 tools": "import json\n" + OPENAI + f"def f(m):\n    r = {ASK[:-1]}, tools=[T])\n    return json.loads(r.choices[0].message.tool_calls[0].function.arguments)",
    "TG123 another answer": "import json\n" + OPENAI + f"def f(m):\n    r = {ASK}\n    print(r)\n    r = other()\n    return json.loads(r.text)",
    "TG123 other server": "import json\nfrom openai import OpenAI\nclient = OpenAI(base_url='http://x')\n" + f"def f(m):\n    return json.loads({ASK}.choices[0].message.content)",
    "TG123 a client from somewhere": "import json\nBASE = dict(base_url='x')\ndef f(client, m):\n    r = client.chat.completions.create(model='gpt-4.1', messages=m, max_tokens=5)\n    return json.loads(r.choices[0].message.content)",
    "TG112 effort for work": OPENAI + "def f(x):\n    return client.responses.create(model='gpt-5', reasoning={'effort': 'high'}, input=f'Plan: {x}', max_output_tokens=50)",
    "TG117 other server": "from openai import OpenAI\nclient = OpenAI(base_url='http://x')\n" + f"def main(rows):\n    for row in rows:\n        m = [row]\n        print({ASK})\nif __name__ == '__main__':\n    main(open('x').readlines())",
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), FOUND.items(), ids=list(FOUND))
def test_found(lint, name: str, code: str) -> None:
    """The rule named first reports this shape."""
    assert {f.rule for f in lint(code, name.split()[0])} == {name.split()[0]}


@pytest.mark.parametrize(("name", "code"), SILENT.items(), ids=list(SILENT))
def test_silent(lint, name: str, code: str) -> None:
    """The rule named first leaves this shape alone."""
    assert [(f.rule, f.message) for f in lint(code, name.split()[0])] == []
