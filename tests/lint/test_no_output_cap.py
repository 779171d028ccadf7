"""TG101 on the shapes real code has: the cap is present, absent or unknown, and only absent is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.lint.config import Config, OutputCap
from tokenguard.lint.engine import Linter

OPENAI = "from openai import OpenAI\nclient = OpenAI()\n"
CALL = "client.chat.completions.create(model='m', messages=[]"

SILENT = {
    "module constant": OPENAI + f"CAP = 100\n{CALL}, max_tokens=CAP)",
    "parameter": OPENAI + f"def f(cap):\n    return {CALL}, max_completion_tokens=cap)",
    "opaque splat": OPENAI + f"def f(**kw):\n    return {CALL}, **kw)",
    "dict then splat": OPENAI + f"p = {{'temperature': 0}}\np['max_tokens'] = 9\n{CALL}, **p)",
    "dict with a conditional cap": OPENAI
    + f"def f(x):\n    p = {{}}\n    if x:\n        p['max_tokens'] = x\n    return {CALL}, **p)",
    "dict.update": OPENAI + f"def f():\n    p = dict(a=1)\n    p.update(max_tokens=3)\n    return {CALL}, **p)",
    "setdefault": OPENAI + f"def f():\n    p = {{}}\n    p.setdefault('max_tokens', 3)\n    return {CALL}, **p)",
    "dict handed to a helper": OPENAI + f"def f(fill):\n    p = {{}}\n    fill(p)\n    return {CALL}, **p)",
    "merged dicts": OPENAI + f"base = {{'max_tokens': 1}}\n{CALL}, **{{**base, 'n': 1}})",
    "same-class builder": (
        "class A:\n    def __init__(self, client):\n        self.client = client\n"
        "    def _kwargs(self):\n        return {'model': 'm', 'max_tokens': 3}\n"
        "    def go(self):\n        return self.client.chat.completions.create(messages=[], **self._kwargs())"
    ),
    "builder that cannot be seen": (
        "class A(Base):\n    def go(self):\n        return self.client.chat.completions.create(messages=[], **self._kwargs())"
    ),
    "gemini config in a local": (
        "from google import genai\nfrom google.genai import types\nc = genai.Client()\ndef f():\n"
        "    cfg = types.GenerateContentConfig(max_output_tokens=5)\n"
        "    return c.models.generate_content(model='g', contents='x', config=cfg)"
    ),
    "gemini config from a dict": (
        "from google import genai\nfrom google.genai import types\nc = genai.Client()\ndef f():\n"
        "    d = {'max_output_tokens': 5}\n"
        "    return c.models.generate_content(model='g', contents='x', config=types.GenerateContentConfig(**d))"
    ),
    "gemini image model": "def f(c):\n    return c.models.generate_content(model='gemini-2.5-flash-image', contents='x')",
    "bind": "from langchain_openai import ChatOpenAI\nllm = ChatOpenAI(model='m').bind(max_tokens=4)",
    "bind later": "from langchain_openai import ChatOpenAI\nllm = ChatOpenAI(model='m')\nshort = llm.bind(max_tokens=4)",
    "cap set on the object": "from langchain_openai import ChatOpenAI\nllm = ChatOpenAI(model='m')\nllm.max_tokens = 4",
    "capped where it runs": "from langchain_openai import ChatOpenAI\nllm = ChatOpenAI()\nllm.invoke('x', max_tokens=4)",
    "model_kwargs": "from langchain_openai import ChatOpenAI\nllm = ChatOpenAI(model_kwargs={'max_tokens': 4})",
    "own class of a famous name": "class ChatOpenAI:\n    pass\nllm = ChatOpenAI()",
    "class that caps itself": "from browser_use import ChatOpenAI\nllm = ChatOpenAI(model='m')",
    "local called completion": "from litellm import completion as ask\ncompletion = ask(model='m', messages=[], max_tokens=3)\nprint(completion.choices)",
    "assistants thread": "def f(agents):\n    return agents.messages.create(thread_id='t', role='user', content='x')",
    "instructor on anthropic": (
        "import instructor, anthropic\nc = instructor.from_anthropic(anthropic.Anthropic())\n"
        "c.messages.create(model='m', messages=[], response_model=int)"
    ),
    "create of another library": "import docker\ndocker.from_env().containers.create(image='x')",
    "http mock library": "import responses\nresponses.add('GET', 'http://x')",
    "litellm mock": "import litellm\nlitellm.completion(model='m', messages=[], mock_response='hi')",
    "bedrock": "def f(b):\n    return b.converse(modelId='m', messages=[], inferenceConfig={'maxTokens': 5})",
    "ollama": "import ollama\nollama.chat(model='m', messages=[], options={'num_predict': 5})",
    "settings merged elsewhere": "from pydantic_ai.settings import ModelSettings\ndef f():\n    return ModelSettings(temperature=0)",
    "agent run": "from agents import Runner\nasync def f(a):\n    return await Runner.run(a, 'hi')",
    "legacy completions": OPENAI + "client.completions.create(model='m', prompt='x')",
}

REPORTED = {
    "alias": "from openai import OpenAI as Client\nc = Client()\nc.chat.completions.create(model='m', messages=[])",
    "import inside the function": "def f():\n    import litellm\n    return litellm.completion(model='m', messages=[])",
    "wrapped client": (
        "class A:\n    def get_client(self):\n        return object()\n    def go(self):\n"
        "        return self.get_client().chat.completions.create(model='m', messages=[])"
    ),
    "no openai import": "def f(router):\n    return router.chat.completions.create(model='m', messages=[])",
    "explicit None": OPENAI + f"{CALL}, max_tokens=None)",
    "dict without a cap": OPENAI
    + f"def f():\n    p = {{'temperature': 0}}\n    p['top_p'] = 1\n    return {CALL}, **p)",
    "builder without a cap": (
        "class A:\n    def _kwargs(self):\n        return {'model': 'm'}\n    def go(self, c):\n"
        "        return c.chat.completions.create(messages=[], **self._kwargs())"
    ),
    "cap of another dict": OPENAI + f"other = {{'max_tokens': 5}}\n{CALL})\nprint(other)",
    "parse": OPENAI + "client.beta.chat.completions.parse(model='m', messages=[], response_format=int)",
    "responses": OPENAI + "client.responses.create(model='m', input='x')",
    "async": "from openai import AsyncOpenAI\nasync def f():\n    await AsyncOpenAI().responses.create(model='m', input='x')",
    "mistral": "def f(c):\n    return c.chat.complete(model='m', messages=[])",
    "bedrock": "def f(b):\n    return b.converse(modelId='m', messages=[], inferenceConfig={'temperature': 0})",
    "ollama": "import ollama\nollama.chat(model='m', messages=[])",
    "vertex": (
        "from vertexai.generative_models import GenerativeModel\nm = GenerativeModel('g')\nm.generate_content('x')"
    ),
    "langchain": "from langchain.chat_models import init_chat_model\nllm = init_chat_model('openai:gpt-4.1')",
    "anthropic of langchain": "from langchain_anthropic import ChatAnthropic\nllm = ChatAnthropic(model='claude-sonnet-4-5')",
    "llama-index": "from llama_index.llms.openai import OpenAI\nllm = OpenAI(model='m')",
    "agno": "from agno.models.openai import OpenAIChat as Chat\nllm = Chat(id='m')",
    "pydantic-ai": (
        "from pydantic_ai import Agent, ModelSettings\na = Agent('m', model_settings=ModelSettings(temperature=0))"
    ),
    "openai-agents": (
        "from agents import Agent, ModelSettings\na = Agent(name='a', model_settings=ModelSettings(temperature=0))"
    ),
    "litellm router": "def f(llm_router):\n    return llm_router.acompletion(model='m', messages=[])",
}


@pytest.mark.parametrize("code", SILENT.values(), ids=list(SILENT))
def test_present_and_unknown_caps_are_silent(lint, code: str) -> None:
    """A cap that is there, or may be there, is not reported."""
    assert [f.message for f in lint(code, "TG101")] == []


@pytest.mark.parametrize("code", REPORTED.values(), ids=list(REPORTED))
def test_absent_caps_are_reported(lint, code: str) -> None:
    """A cap that is certainly missing is reported once."""
    assert len(lint(code, "TG101")) == 1


def test_a_cap_in_another_module_counts(tmp_path: Path) -> None:
    """Dict builders and constants of other modules of the tree are read; those that cannot be found are unknown."""
    (tmp_path / "pyproject.toml").write_text("")
    app = tmp_path / "app"
    app.mkdir()
    (app / "__init__.py").write_text("")
    (app / "common.py").write_text(
        "def capped():\n    return {'max_tokens': 5}\ndef bare():\n    return {'temperature': 0}\n"
    )
    file = app / "main.py"
    code = "from app.common import {0}\nfrom .common import {0} as again\ndef f(c):\n    c.chat.completions.create(messages=[], **{0}())\n    c.chat.completions.create(messages=[], **again())\n"
    linter = Linter(Config(root=tmp_path, select=("TG101",)))
    assert linter.lint(code.format("capped").encode(), str(file)) == []
    assert [f.span.line for f in linter.lint(code.format("bare").encode(), str(file))] == [4, 5]
    assert linter.lint(code.format("missing").encode(), str(file)) == []


def test_a_clamping_limit_makes_it_a_note_and_gives_the_number(lint) -> None:
    """A `[[limit]]` known to hold makes a missing cap info; its number is what the fix inserts."""
    limits = (
        OutputCap("support", {"route": ("rag",)}, 800, True),
        OutputCap("all", {"model": ("gpt-*",)}, 2000, False),
    )
    code = """
        import tokenguard
        from openai import OpenAI
        client = OpenAI()
        def answer(q):
            with tokenguard.attribution(route="rag"):
                return client.chat.completions.create(model="gpt-4.1", messages=q)
        def other(q):
            return client.chat.completions.create(model="gpt-4.1", messages=q)
    """
    first, second = lint(code, "TG101", limits=limits)
    assert (first.severity, second.severity) == ("info", "warning")
    assert "800" in first.fix.summary
    assert "2000" in second.fix.summary


@pytest.mark.parametrize(
    "given",
    ["model=model, extra_body={'reasoning': {'effort': 'high'}}", "model=thinker", "model=os.getenv('MODEL', 'gpt-5')"],
)
def test_a_cap_leaves_room_for_thinking_wherever_it_is_asked_for(lint, given: str) -> None:
    """In `extra_body`, by the default of a parameter, or of the environment."""
    (found,) = lint(
        f"import os\nfrom openai import OpenAI\nclient = OpenAI()\ndef f(m, model, thinker='o4-mini'):\n"
        f"    return client.chat.completions.create(messages=m, {given})",
        "TG101",
    )
    assert found.fix is not None
    assert "25000" in found.fix.summary
