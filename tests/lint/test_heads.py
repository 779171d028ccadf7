"""TG102 on last messages: a clock at the head of fixed text is reported, one behind what varies anyway is not."""

from __future__ import annotations

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.run import lint_file

RULES = "Write a digest of the page by our house rules, in three sentences."
TOP = "from datetime import datetime\nimport uuid\nfrom openai import OpenAI\nclient = OpenAI()\n"
ASK = "client.responses.create(model='m', max_output_tokens=9, input={})"

REPORTED = {
    "input": TOP + f"def f(q):\n    return {ASK.format('f' + repr('Now: {datetime.now()}. ' + RULES + ' Topic: {q}'))}",
    "only message": (
        TOP + "def f(q):\n    return client.chat.completions.create(model='m', max_tokens=9, messages=[{'role': 'user', "
        f"'content': f'Now: {{datetime.now()}}. {RULES} {{q}}'}}])"
    ),
    "behind a fixed line": TOP + f"def f(q):\n    text = f'You are a critic. Now: {{datetime.now()}}. {RULES} {{q}}'\n"
    f"    return {ASK.format('text')}",
    "str.format": TOP + f"T = 'Now: {{now}}. {RULES} {{q}}'\ndef f(q):\n    return {ASK.format('T.format(now=datetime.now(), q=q)')}",
    "str.format by position": TOP + f"T = 'Now: {{}}. {RULES} {{}}'\ndef f(q):\n    return {ASK.format('T.format(datetime.now(), q)')}",
    "percent": TOP + f"T = 'Now: %s. {RULES} %s'\ndef f(q):\n    return {ASK.format('T % (datetime.now(), q)')}",
    "added up": TOP + f"def f(q):\n    text = 'Now: ' + str(datetime.now())\n    text += '{RULES}'\n    text += q\n    return {ASK.format('text')}",
    "joined": TOP + f"def f(q):\n    parts = [f'Now: {{datetime.now()}}']\n    parts.append('{RULES}')\n    parts.append(q)\n"
    f"    return {ASK.format(repr(' ') + '.join(parts)')}",
    "constant of the module": TOP + f"RULES = '{RULES}'\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}",
    "repeated constant": TOP + f"RULES = 'Be brief. ' * 20\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}",
    "constant in parts": TOP + f"A = 'Answer in three sentences. '\nRULES = A + '\\n'.join([A, A])\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}",
    "a file read once": TOP + f"RULES = open('rules.md').read()\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}",
    "a path read once": TOP + f"from pathlib import Path\nRULES = Path('rules.md').read_text().strip()\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}",
    "the prompt of an agent": TOP + "from langgraph.prebuilt import create_react_agent\ndef f(m, load):\n    return create_react_agent(m, [], prompt=load('x').format(datetime.now()))",
    "the modifier of an agent": TOP + "from langgraph.prebuilt import create_react_agent\ndef f(m):\n    return create_react_agent(m, [], messages_modifier=f'Now {datetime.now()}')",
    "prompt function": TOP + f"def build_prompt(q):\n    return f'Now: {{datetime.now()}}. {RULES} {{q}}'",
    "prompt function with a parameter": (
        TOP + f"def text(now, q):\n    return f'Now: {{now}}. {RULES} {{q}}'\ndef f(q):\n    return {ASK.format('text(datetime.now(), q)')}"
    ),
    "human message": (
        "from datetime import datetime\nfrom langchain_core.messages import HumanMessage\n"
        f"def f(q):\n    return HumanMessage(content=f'Now: {{datetime.now()}}. {RULES} {{q}}')"
    ),
    "invoke": TOP + f"def f(llm, q):\n    return llm.invoke(f'Id {{uuid.uuid4()}}. {RULES} {{q}}')",
}  # fmt: skip

SILENT = {
    "at the tail": TOP + f"def f(q):\n    return {ASK.format('f' + repr(RULES + ' {q} Now: {datetime.now()}'))}",
    "behind the question": TOP + f"def f(q):\n    return {ASK.format('f' + repr('{q} Now: {datetime.now()}. ' + RULES))}",
    "nothing fixed behind it": TOP + f"def f(q):\n    return {ASK.format('f' + repr('Now: {datetime.now()}: {q}'))}",
    "a short constant behind it": TOP + f"NAME = 'gpt'\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {NAME} {q}'))}",
    "made once": TOP + f"T = f'Now: {{datetime.now()}}. {RULES}'\ndef f(q):\n    return {ASK.format('T + q')}",
    "a random sample is the question": (
        TOP + f"import random\ndef f(rows):\n    return {ASK.format('f' + repr('Rows: {random.sample(rows, 5)}. ' + RULES))}"
    ),
    "a log line": TOP + f"def f(q):\n    print(f'Now: {{datetime.now()}}. {RULES}')",
}  # fmt: skip


@pytest.mark.parametrize("code", REPORTED.values(), ids=REPORTED)
def test_a_clock_before_fixed_text_is_reported_once(lint, code: str) -> None:
    """However the text is put together."""
    assert len(lint(code, "TG102")) == 1


@pytest.mark.parametrize("code", SILENT.values(), ids=SILENT)
def test_a_clock_that_costs_nothing_is_left_alone(lint, code: str) -> None:
    """Behind what varies anyway, before nothing that could be cached, or made once."""
    assert lint(code, "TG102") == []


def test_a_constant_of_another_module_counts_by_its_length(tmp_path) -> None:
    """A prompt that is imported is fixed text, as long as it is there."""
    main = tmp_path / "main.py"
    main.write_text(
        TOP
        + f"from prompts import RULES\ndef f(q):\n    return {ASK.format('f' + repr('{datetime.now()} {RULES} {q}'))}"
    )
    for text, found in (("'Answer in three sentences. ' * 9", 1), ("'short'", 0)):
        (tmp_path / "prompts.py").write_text(f"RULES = {text}\n")
        linter = Linter(Config(root=tmp_path, select=("TG102",)))
        assert len(lint_file(linter, str(main)).findings) == found, text
