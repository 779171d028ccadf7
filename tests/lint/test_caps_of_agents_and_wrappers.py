"""TG101 on agents, subclasses, partials and wrapped models: what reaches a model without a cap, whoever makes the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.run import lint_file

PYDANTIC = "from pydantic_ai import Agent\n"
CHAT = "from langchain_openai import ChatOpenAI\n"
INIT = "from langchain.chat_models import init_chat_model\n"

REPORTED = {
    "pydantic-ai": PYDANTIC + "agent = Agent('openai:gpt-4.1', instructions='Help.')",
    "pydantic-ai with types": PYDANTIC + "agent = Agent[int, str]('openai:gpt-4.1')",
    "pydantic-ai with a dict": PYDANTIC + "agent = Agent('openai:gpt-4.1', model_settings={'temperature': 0})",
    "openai-agents": "from agents import Agent\nagent = Agent(name='a', instructions='Help.')",
    "openai-agents with a context": "from agents import Agent\nagent = Agent[dict](name='a')",
    "google adk": "from google.adk.agents import LlmAgent\nagent = LlmAgent(name='a', model='gemini-2.5-flash')",
    "google adk, short name": "from google.adk.agents import Agent\nroot_agent = Agent(name='a', model='gemini-2.5-flash')",
    "strands, with Bedrock's model": "from strands import Agent\nagent = Agent(system_prompt='Help.')",
    "strands, a model by its name": "from strands import Agent\nagent = Agent(model='us.anthropic.claude-sonnet-4')",
    "strands, a model without a cap": (
        "from strands import Agent\nfrom strands.models import BedrockModel\nagent = Agent(model=BedrockModel(model_id='m'))"
    ),
    "strands, parameters without a cap": (
        "from strands.models.openai import OpenAIModel\nm = OpenAIModel(model_id='m', params={'temperature': 0})"
    ),
    "camel": "from camel.models import ModelFactory\nm = ModelFactory.create(model_platform=P, model_type=T)",
    "camel, settings without a cap": (
        "from camel.models import ModelFactory\n"
        "m = ModelFactory.create(model_platform=P, model_type=T, model_config_dict={'temperature': 0})"
    ),
    "griptape": "from griptape.drivers.prompt.openai import OpenAiChatPromptDriver\nd = OpenAiChatPromptDriver(model='m')",
    "magentic": "from magentic import OpenaiChatModel\nm = OpenaiChatModel('gpt-4.1')",
    "ag2": "from ag2.config import GeminiConfig\nc = GeminiConfig(model='gemini-2.5-flash')",
    "smolagents": "from smolagents import InferenceClientModel\nm = InferenceClientModel(model_id='m')",
    "semantic kernel": (
        "from semantic_kernel.connectors.ai.google.google_ai import GoogleAIChatPromptExecutionSettings as S\ns = S()"
    ),
    "haystack's responses": (
        "from haystack.components.generators.chat import OpenAIResponsesChatGenerator\n"
        "g = OpenAIResponsesChatGenerator(model='gpt-5')"
    ),
    "agno on Bedrock": "from agno.models.aws import AwsBedrock\nm = AwsBedrock(id='m')",
    "livekit model": "from livekit.plugins import openai\nllm = openai.LLM(model='gpt-4.1')",
    "livekit inference": "from livekit.agents import inference\nllm = inference.LLM('openai/gpt-4.1')",
    "livekit model by name": "from livekit.agents import AgentSession\nsession = AgentSession(llm='openai/gpt-4.1')",
    "subclass of a model": CHAT + "class Quiet(ChatOpenAI):\n    verbose: bool = False\nllm = Quiet(model='gpt-4.1')",
    "subclass of a subclass": CHAT + "class A(ChatOpenAI):\n    pass\nclass B(A):\n    pass\nllm = B(model='gpt-4.1')",
    "subclass of a client": (
        "from openai import OpenAI\nclass Ours(OpenAI):\n    pass\n"
        "Ours().chat.completions.create(model='m', messages=[])"
    ),
    "partial of a call": (
        "import functools\nfrom openai import OpenAI\nc = OpenAI()\n"
        "ask = functools.partial(c.chat.completions.create, model='m')\nask(messages=[])"
    ),
    "partial of a model": CHAT
    + "from functools import partial\nmake = partial(ChatOpenAI, temperature=0)\nllm = make()",
    "raw response": "def f(c):\n    return c.chat.completions.with_raw_response.create(model='m', messages=[])",
    "streamed response": "def f(c):\n    return c.responses.with_streaming_response.create(model='m', input='x')",
    "google interactions": (
        "from google import genai\nc = genai.Client()\nc.interactions.create(model='gemini-2.5-flash', input='Hi')"
    ),
    "google chats": "from google import genai\nc = genai.Client()\nchat = c.chats.create(model='gemini-2.0-flash')",
    "instructor's messages": (
        "import instructor\nfrom openai import OpenAI\nc = instructor.from_openai(OpenAI())\n"
        "c.messages.create(model='m', messages=[], response_model=int)"
    ),
    "instructor's patched client is no double": (
        "import instructor\nfrom openai import OpenAI\nc = instructor.patch(OpenAI())\n"
        "def f(m):\n    return c.chat.completions.create(model='gpt-4.1', response_model=int, messages=m)"
    ),
    "instructor's own create": (
        "import instructor\nc = instructor.from_provider('openai/gpt-4.1')\nc.create(messages=[], response_model=int)"
    ),
    "with_config of something else": INIT + "llm = init_chat_model('gpt-4.1').with_config({'tags': ['a']})",
    "configurable fields without the cap": INIT + "llm = init_chat_model(configurable_fields=('model',))",
    "config object without a cap": (
        "from google import genai\nfrom google.genai import types\nc = genai.Client()\n"
        "cfg = types.GenerateContentConfig()\ncfg.temperature = 0\n"
        "c.models.generate_content(model='gemini-2.0-flash', contents='x', config=cfg)"
    ),
    "typed dict without a cap": (
        "from typing import TypedDict\nfrom openai import OpenAI\nclass Sampling(TypedDict):\n    temperature: float\n"
        "def f(c: OpenAI, s: Sampling):\n    return c.chat.completions.create(model='m', messages=[], **s)"
    ),
    "counted and asked": (
        CHAT + "from langchain_core.messages import trim_messages\nllm = ChatOpenAI()\n"
        "def f(h):\n    return llm.invoke(trim_messages(h, token_counter=llm))"
    ),
}

SILENT = {
    "a research agent of Google's, which takes no cap": (
        "from google import genai\nc = genai.Client()\nc.interactions.create(agent='deep-research', input='Hi', background=True)"
    ),
    "strands, a capped model": (
        "from strands import Agent\nfrom strands.models import BedrockModel\n"
        "agent = Agent(model=BedrockModel(model_id='m', max_tokens=9))"
    ),
    "strands, a model from elsewhere": "from strands import Agent\ndef make(model):\n    return Agent(model=model)",
    "strands, capped parameters": (
        "from strands.models.openai import OpenAIModel\nm = OpenAIModel(model_id='m', params={'max_tokens': 9})"
    ),
    "strands, Claude's own": "from strands.models.anthropic import AnthropicModel\nm = AnthropicModel(model_id='c', max_tokens=9)",
    "camel, settings of a class": (
        "from camel.models import ModelFactory\nfrom camel.configs import ChatGPTConfig\n"
        "m = ModelFactory.create(model_platform=P, model_type=T, model_config_dict=ChatGPTConfig(max_tokens=9).as_dict())"
    ),
    "ag2, capped": "from ag2.config import OpenAIConfig\nc = OpenAIConfig(model='m', max_tokens=9)",
    "smolagents on Bedrock, capped": (
        "from smolagents import AmazonBedrockModel\nm = AmazonBedrockModel(model_id='m', inferenceConfig={'maxTokens': 9})"
    ),
    "pydantic-ai with settings": PYDANTIC + "agent = Agent('openai:gpt-4.1', model_settings={'max_tokens': 9})",
    "pydantic-ai, settings at the run": (
        PYDANTIC + "agent = Agent('openai:gpt-4.1')\nagent.run_sync('x', model_settings={'max_tokens': 9})"
    ),
    "pydantic-ai, settings of the model": (
        PYDANTIC + "from pydantic_ai.models.openai import OpenAIChatModel\n"
        "agent = Agent(OpenAIChatModel('gpt-4.1', settings={'max_tokens': 9}))"
    ),
    "pydantic-ai on Anthropic, whose adapter sends 4096": PYDANTIC + "agent = Agent('anthropic:claude-sonnet-4-5')",
    "pydantic-ai's test model": PYDANTIC + "from pydantic_ai.models.test import TestModel\nagent = Agent(TestModel())",
    "pydantic-ai with opaque settings": PYDANTIC + "def f(s):\n    return Agent('openai:gpt-4.1', model_settings=s)",
    "openai-agents, one config for all": (
        "from agents import Agent, ModelSettings, RunConfig\nagent = Agent(name='a')\n"
        "config = RunConfig(model_settings=ModelSettings(max_tokens=9))"
    ),
    "another Agent": "from somewhere import Agent\nagent = Agent(name='a')",
    "livekit session with a model of its own": (
        "from livekit.agents import AgentSession\ndef f(llm):\n    return AgentSession(llm=llm)"
    ),
    "subclass that caps itself": (
        CHAT + "class Short(ChatOpenAI):\n    max_tokens: int = 100\nllm = Short(model='gpt-4.1')"
    ),
    "subclass that hands on a cap": (
        CHAT + "class Short(ChatOpenAI):\n    def __init__(self, **kw):\n"
        "        super().__init__(max_tokens=5, **kw)\nllm = Short(model='gpt-4.1')"
    ),
    "partial, capped where it is called": (
        "from functools import partial\nfrom openai import OpenAI\nc = OpenAI()\n"
        "ask = partial(c.chat.completions.create, model='m')\nask(messages=[], max_tokens=5)"
    ),
    "mock with a spec": (
        "from unittest.mock import MagicMock\nfrom openai import OpenAI\nc = MagicMock(spec=OpenAI)\n"
        "c.chat.completions.create(model='m', messages=[])"
    ),
    "autospec": (
        "from unittest import mock\nimport openai\nc = mock.create_autospec(openai.OpenAI)\n"
        "c.chat.completions.create(model='m', messages=[])"
    ),
    "patched client": (
        "from unittest.mock import patch\ndef test():\n    with patch('openai.OpenAI') as c:\n"
        "        c.chat.completions.create(model='m', messages=[])"
    ),
    "fake of this file": (
        "from openai import OpenAI\nclass FakeOpenAI(OpenAI):\n    pass\n"
        "FakeOpenAI().chat.completions.create(model='m', messages=[])"
    ),
    "mock by name": "def test(mock_client):\n    mock_client.chat.completions.create(model='m', messages=[])",
    "token counter": (
        CHAT + "from langchain_core.messages import trim_messages\n"
        "def f(h):\n    return trim_messages(h, token_counter=ChatOpenAI())"
    ),
    "token counter by name": (
        CHAT + "from langchain_core.messages import trim_messages\ncounter = ChatOpenAI()\n"
        "def f(h):\n    return trim_messages(h, token_counter=counter)"
    ),
    "counting method": CHAT + "n = ChatOpenAI().get_num_tokens('x')",
    "memory buffer": (
        "from llama_index.core.memory import ChatMemoryBuffer\nfrom llama_index.llms.openai import OpenAI\n"
        "memory = ChatMemoryBuffer.from_defaults(llm=OpenAI())"
    ),
    "configurable cap": INIT + "llm = init_chat_model(configurable_fields=('model', 'max_tokens'))",
    "anything configurable": INIT + "llm = init_chat_model('gpt-4.1', configurable_fields='any')",
    "with_config that caps": INIT + "llm = init_chat_model('m').with_config({'configurable': {'max_tokens': 5}})",
    "with_config, opaque": INIT + "def f(config):\n    return init_chat_model('m').with_config(config)",
    "config object, cap set later": (
        "from google import genai\nfrom google.genai import types\nc = genai.Client()\n"
        "cfg = types.GenerateContentConfig()\ncfg.max_output_tokens = 5\n"
        "c.models.generate_content(model='gemini-2.0-flash', contents='x', config=cfg)"
    ),
    "typed dict with a cap": (
        "from typing import TypedDict\nfrom openai import OpenAI\nclass Sampling(TypedDict, total=False):\n"
        "    max_tokens: int\n"
        "def f(c: OpenAI, s: Sampling):\n    return c.chat.completions.create(model='m', messages=[], **s)"
    ),
    "data class with a default": (
        "from dataclasses import asdict, dataclass\n@dataclass\nclass Sampling:\n    max_tokens: int = 5\n"
        "def f(c):\n    return c.chat.completions.create(model='m', messages=[], **asdict(Sampling()))"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", REPORTED.values(), ids=REPORTED)
def test_what_reaches_a_model_without_a_cap_is_reported_once(lint, code: str) -> None:
    """No cap is certain, whatever stands between the code and the request."""
    assert len(lint(code, "TG101")) == 1


@pytest.mark.parametrize("code", SILENT.values(), ids=SILENT)
def test_caps_that_are_set_elsewhere_and_what_sends_nothing_are_left_alone(lint, code: str) -> None:
    """A cap from the class, the run, the config; and objects that only count tokens, or only play a client."""
    assert lint(code, "TG101") == []


@pytest.mark.parametrize(
    ("name", "text", "load"),
    [
        ("app.toml", "[llm]\ntemperature = 0\n", "tomllib.load(open('app.toml', 'rb'))['llm']"),
        ("app.json", '{"llm": {"temperature": 0}}', "json.loads(Path('app.json').read_text())['llm']"),
        ("app.yaml", "llm:\n  temperature: 0\n", "yaml.safe_load(open('app.yaml')).get('llm')"),
    ],
)
def test_settings_files_are_read(tmp_path: Path, name: str, text: str, load: str) -> None:
    """Settings read by a literal path are known: without a cap the call is reported, with one it is not."""
    code = (
        "import json, tomllib, yaml\nfrom pathlib import Path\nfrom openai import OpenAI\nclient = OpenAI()\n"
        f"settings = {load}\nclient.chat.completions.create(model='m', messages=[], **settings)\n"
    )
    (tmp_path / "app.py").write_text(code)
    (tmp_path / name).write_text(text)
    linter = Linter(Config(root=tmp_path, select=("TG101",)))
    assert [f.rule for f in lint_file(linter, str(tmp_path / "app.py")).findings] == ["TG101"]

    (tmp_path / name).write_text(text.replace("temperature", "max_tokens"))
    result = lint_file(Linter(Config(root=tmp_path, select=("TG101",))), str(tmp_path / "app.py"))
    assert result.findings == []
    assert str(tmp_path / name) in result.consulted


def test_each_settings_file_that_is_opened_under_one_name_is_its_own(tmp_path: Path) -> None:
    """`with open(...) as f` twice, and paths joined to the module's."""
    (tmp_path / "capped.yaml").write_text("max_tokens: 9\n")
    (tmp_path / "open.yaml").write_text("temperature: 0\n")
    call = "client.chat.completions.create(model='m', messages=[], **settings)\n"
    lines = "import yaml\nfrom pathlib import Path\nfrom openai import OpenAI\nclient = OpenAI()\n"
    for n, name in enumerate(("capped.yaml", "open.yaml")):
        lines += f"with open('{name}') as f:\n    s{n} = yaml.safe_load(f)\n{call.replace('settings', f's{n}')}"
    lines += "s2 = yaml.safe_load(Path(__file__).parent.joinpath('open.yaml').read_text())\n" + call.replace(
        "settings", "s2"
    )
    (tmp_path / "app.py").write_text(lines)
    linter = Linter(Config(root=tmp_path, select=("TG101",)))
    assert [f.span.line for f in lint_file(linter, str(tmp_path / "app.py")).findings] == [10, 12]


@pytest.mark.parametrize(
    ("code", "cap"),
    [
        (
            "OpenAI(base_url='https://openrouter.ai/api/v1').chat.completions.create(model=m, messages=[])",
            "max_tokens=1024",
        ),
        ("OpenAI(base_url=url).chat.completions.create(model='gpt-4.1', messages=[])", "max_tokens=1024"),
        ("OpenAI().chat.completions.create(model=m, messages=[])", "max_completion_tokens=1024"),
        ("OpenAI().chat.completions.create(model='o4-mini', messages=[])", "max_completion_tokens=25000"),
        ("OpenAI().chat.completions.create(model='gpt-5-mini', messages=[])", "max_completion_tokens=25000"),
        ("OpenAI().responses.create(model=m, input='x', reasoning={'effort': 'low'})", "max_output_tokens=25000"),
    ],
)
def test_the_fix_writes_what_the_server_takes(lint, code: str, cap: str) -> None:
    """The cap's name follows the server; its size leaves room for a model's thinking."""
    (finding,) = lint(f"from openai import OpenAI\ndef f(m, url):\n    return {code}", "TG101")
    edit = finding.fix.edits[0]
    assert f"{edit.name}={edit.value}" == cap


def test_a_class_that_another_module_passes_on_is_known(tmp_path: Path) -> None:
    """`from nodes.base import ChatOpenAI`, where that module imports it from the framework."""
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "__init__.py").write_text("")
    (tmp_path / "nodes" / "base.py").write_text("from langchain_openai import ChatOpenAI\nclass Agent: ...\n")
    for number, made in enumerate(("ChatOpenAI(model='gpt-4.1')", "base.ChatOpenAI(model='gpt-4.1')", "Agent()")):
        path = tmp_path / "nodes" / f"use{number}.py"
        path.write_text(f"from nodes import base\nfrom nodes.base import Agent, ChatOpenAI\nllm = {made}\n")
        found = lint_file(Linter(Config(root=tmp_path, select=("TG101",))), str(path)).findings
        assert [f.rule for f in found] == (["TG101"] if "Chat" in made else []), made
