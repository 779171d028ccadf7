"""TG102 and its flow: what changes per call is found wherever it enters a prompt's beginning, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter

HEAD = "import datetime, random, time, uuid, string\nfrom datetime import date\n"


def ask(prompt: str, before: str = "pass") -> str:
    body = "\n".join(f"    {line}" for line in before.split("\n"))
    return f"{HEAD}def ask(client, q, request_id):\n{body}\n    return client.messages.create(model='m', max_tokens=9, system={prompt}, messages=q)\n"


SUB_HOUR = {
    "a message of an own class": HEAD
    + "from app.models import AgentMessage\ndef f(q):\n    now = datetime.datetime.now()\n"
    + "    return [AgentMessage(role='system', content=f'Now {now}. Rules.'), AgentMessage(role='user', content=q)]",
    "f-string": ask("f'Now {datetime.datetime.now()}'"),
    "local": ask("s", "now = time.time()\ns = f'Now {now}'"),
    "format": ask("'Now {}'.format(datetime.datetime.utcnow())"),
    "keyword format": ask("'Now {t}'.format(t=datetime.datetime.now().isoformat())"),
    "percent": ask("'Now %s' % time.ctime()"),
    "plus": ask("'Id ' + str(uuid.uuid4())"),
    "join": ask("'\\n'.join(['a', f'{uuid.uuid4().hex}'])"),
    "appended part": ask("'\\n'.join(parts)", "parts = ['a']\nparts.append(f'now {time.time()}')"),
    "string.Template": ask("string.Template('Now $t').substitute(t=time.time())"),
    "random": ask("f'{random.choice(q)} hello'"),
    "request id": ask("f'Request {request_id}'"),
    "time format": ask("f'{datetime.datetime.now():%Y-%m-%d %H:%M}'"),
    "strftime": ask("datetime.datetime.now().strftime('%d.%m. %H:%M')"),
    "set order": ask("'Topics: ' + ', '.join(set(q))"),
    "helper": "from datetime import datetime\ndef now():\n    return datetime.now()\n"
    + "def ask(c, q):\n    return c.responses.create(model='m', instructions=f'{now()}', input=q, max_output_tokens=5)",
    "helper with argument": "from datetime import datetime\ndef head(t):\n    return f'At {t}'\n"
    + "def ask(c, q):\n    return c.responses.create(model='m', instructions=head(datetime.now()), input=q, max_output_tokens=5)",
    "method": "import time\nclass A:\n    def head(self):\n        return f'At {time.time()}'\n    def ask(self, c, q):\n"
    + "        return c.messages.create(model='m', max_tokens=5, system=self.head(), messages=q)",
    "counter of the loop": "def ask(c, items):\n    for i, item in enumerate(items):\n"
    + "        c.messages.create(model='m', max_tokens=5, system=f'Item {i}', messages=item)",
    "early message": "import time\ndef ask(c, q):\n    return c.chat.completions.create(model='m', max_tokens=5, messages=["
    + "{'role': 'user', 'content': f'{time.time()}'}, {'role': 'user', 'content': q}])",
    "tool definition": "import time\ndef ask(c, q):\n    return c.messages.create(model='m', max_tokens=5, messages=q,"
    + " tools=[{'name': 'a', 'description': f'as of {time.time()}'}])",
    "chat prompt template": "import time\nfrom langchain_core.prompts import ChatPromptTemplate\ndef f():\n"
    + "    return ChatPromptTemplate.from_messages([('system', f'At {time.time()}'), ('human', '{q}')])",
    "pydantic-ai system prompt": "import time\nfrom pydantic_ai import Agent\nagent = Agent('m')\n@agent.system_prompt\n"
    + "def head():\n    return f'At {time.time()}'",
    "instructions function": "import time\nfrom agents import Agent\ndef head(ctx, agent):\n    return f'At {time.time()}'\n"
    + "a = Agent(name='a', instructions=head)",
    "named by its function": "import time\ndef get_system_prompt():\n    return f'At {time.time()}'",
}

SILENT = {
    "one of a few written texts: the cache keeps each": "STYLES = ['Be brief.', 'Be kind.']\n"
    + ask("f'{random.choice(STYLES)} Rules.'"),
    **{
        f"put into a kept history: {kept}": (
            "import uuid\nclass A:\n    def show(self, text):\n        name = f'image/{uuid.uuid4()}.png'\n"
            "        human_prompt = f'{name} is a picture that I have given you. Use your tools to look at it. It shows: {text}'\n"
            f"        {kept}\n"
        )
        for kept in (
            "self.agent.memory.buffer = self.agent.memory.buffer + human_prompt + 'Received.'",
            "self.buffer += human_prompt",
            "self.history.append({'role': 'user', 'text': human_prompt})",
            "self.memory.chat_memory.add_user_message(human_prompt)",
        )
    },
    "a short message before the last": (
        "import datetime\ndef ask(c, q):\n    return c.chat.completions.create(model='m', max_tokens=5, messages=["
        "{'role': 'system', 'content': RULES}, {'role': 'system', 'content': f'It is {datetime.datetime.now()}'}, "
        "{'role': 'user', 'content': q}])"
    ),
    "the number of an item in its message": (
        "def ask(c, texts, graph):\n    for i, text in enumerate(texts):\n"
        "        c.chat.completions.create(model='m', max_tokens=5, messages=[{'role': 'system', 'content': RULES}, "
        "{'role': 'user', 'content': f'Part {i}: {text}'}, {'role': 'user', 'content': f'So far: {graph}'}])"
    ),
    "instructions to a person in a result": (
        "import uuid\ndef f(path):\n    name = f'job-{uuid.uuid4()}'\n    text = f'Run {name}, then register {path} as described.'\n"
        "    return DispatchResult(mode='handoff', ref=name, instructions=text)"
    ),
    "last message": "import time\ndef ask(c, q):\n    return c.chat.completions.create(model='m', max_tokens=5, messages=["
    + "{'role': 'system', 'content': 'Hi'}, {'role': 'user', 'content': f'{q} {time.time()}'}])",
    "module constant": HEAD
    + "SYSTEM = f'Started {datetime.datetime.now()}'\n"
    + "def ask(c, q):\n    return c.messages.create(model='m', max_tokens=5, system=SYSTEM, messages=q)",
    "file name": HEAD
    + "def save(x):\n    open(f'{uuid.uuid4()}.txt', 'w').write(x)\n    system_prompt = 'Hi'\n    return system_prompt",
    "metadata": ask("'Hi'").replace("messages=q)", "messages=q, metadata={'id': str(uuid.uuid4())})"),
    "message id": "import uuid\nfrom langchain_core.messages import SystemMessage\ndef f():\n    return SystemMessage('Hi', id=str(uuid.uuid4()))",
    "year": ask("f'Copyright {datetime.datetime.now().year}'"),
    "sorted set": ask("', '.join(sorted(set(q)))"),
    "enumerated list": ask("'\\n'.join(f'{i}. {x}' for i, x in enumerate(q))"),
    "operating system": "import platform, time\ndef f(run):\n    return run(system=f'{platform.system()} {time.time()}')",
    "elapsed time in a log": "import time\ndef f(log, system_prompt):\n    log.info('took %s', time.time())\n    return system_prompt",
    "once, by a private function": HEAD
    + "def _texts():\n    system_prompt = f'Started {datetime.datetime.now()}'\n    return system_prompt\nTEXTS = _texts()",
    "replaced": ask("s", "s = f'{time.time()}'\ns = 'Hi'"),
}


@pytest.mark.parametrize("code", SUB_HOUR.values(), ids=list(SUB_HOUR))
def test_what_changes_per_call_is_an_error(lint, code: str) -> None:
    """Clocks, ids, random values, counters and set order are errors, however they get there."""
    assert [f.severity for f in lint(code, "TG102")] == ["error"]


@pytest.mark.parametrize("code", SILENT.values(), ids=list(SILENT))
def test_what_does_not_change_the_beginning_is_silent(lint, code: str) -> None:
    """Values that go elsewhere, or are made once, are not reported."""
    assert [(f.span.line, f.message) for f in lint(code, "TG102")] == []


@pytest.mark.parametrize(
    "prompt",
    ["f'Today is {date.today()}'", "f'{datetime.datetime.now():%Y-%m-%d}'", "datetime.datetime.now().strftime('%A')",
     "f'{datetime.datetime.now().date()}'", "'Today: {}'.format(date.today().isoformat())"],
)  # fmt: skip
def test_a_date_is_a_note(lint, prompt: str) -> None:
    """A value that changes once a day is info."""
    assert [f.severity for f in lint(ask(prompt), "TG102")] == ["info"]


def test_an_hour_is_a_warning(lint) -> None:
    """A value that changes once an hour is a warning."""
    assert [f.severity for f in lint(ask("f'{datetime.datetime.now():%d.%m. %Hh}'"), "TG102")] == ["warning"]


def test_helpers_of_other_modules_are_followed(tmp_path: Path) -> None:
    """A clock in another module's helper is reported where its text enters the prompt."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "clock.py").write_text(
        "import datetime\ndef get_today_str():\n    return str(datetime.datetime.now())\n"
    )
    (tmp_path / "texts.py").write_text("TEMPLATE = 'You are an assistant. It is {date}.'\n")
    code = (
        "from clock import get_today_str\nfrom texts import TEMPLATE\ndef ask(c, q):\n"
        "    system = TEMPLATE.format(date=get_today_str())\n"
        "    return c.messages.create(model='m', max_tokens=5, system=system, messages=q)\n"
    )
    linter = Linter(Config(root=tmp_path, select=("TG102",)))
    assert [f.span.line for f in linter.lint(code.encode(), str(tmp_path / "main.py"))] == [4]


def test_files_of_tests_are_left_alone(lint) -> None:
    """The prompt of a test is sent once; whoever selects the rule itself is told all the same."""
    code = (
        "from datetime import datetime\nfrom openai import OpenAI\nclient = OpenAI()\ndef test_it():\n"
        "    client.responses.create(model='m', instructions=f'Now: {datetime.now()}', input='x', max_output_tokens=5)\n"
    )
    assert [f for f in lint(code, path="tests/test_it.py") if f.rule == "TG102"] == []
    assert len(lint(code, "TG102", path="tests/test_it.py")) == 1
