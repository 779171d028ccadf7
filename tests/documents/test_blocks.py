"""Every code block of the documentation is what it says: it parses, runs, or names what there is."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import shlex
import tomllib
import types

import click
import jsonschema
import pytest
import yaml

import tokenguard
from documents.blocks import ALL, ROOT, commands, of
from tokenguard import cli, policy
from tokenguard.cli.examples import EXAMPLES
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.policy.schema import schema

OTHER = {"text", "", "lua", "dockerfile", "html", "sql", "ini", "mermaid", "promql"}
"""Output that is shown, and languages whose programs are not at hand."""
KNOWN = {"python", "toml", "yaml", "json", "sh", "bash", "console", *OTHER}


def test_every_block_has_a_language_that_is_checked():
    """A block in a language that nothing here looks at is named."""
    assert [f"{block.where}: {block.language}" for block in ALL if block.language not in KNOWN] == []


@pytest.mark.parametrize("block", of("toml"))
def test_policies_are_valid(block):
    """A block of TOML is a policy that the reader and the JSON Schema take; or a part of a rule, or another tool's."""
    found = tomllib.loads(block.text)
    tables = found.get("tool", {}).get("tokenguard", found)
    if not set(tables) <= set(schema()["properties"]):
        rules = [table.get("items", {}).get("properties") for table in schema()["properties"].values()]
        fragment = any(set(found) <= set(rule) for rule in rules if isinstance(rule, dict))
        assert fragment or set(found) & {"tool", "language-server", "project"}, f"{block.where} is no policy"
        return
    policy.from_mapping(tables)
    jsonschema.validate(tables, schema())


@pytest.mark.parametrize("block", of("yaml", "json"))
def test_data_can_be_read(block):
    """YAML and JSON can be read."""
    found = list(yaml.safe_load_all(block.text)) if block.language == "yaml" else json.loads(block.text)
    assert found


PRELUDE = """
import asyncio, os
import openai, pytest, tokenguard
from tokenguard import LimitExceeded

client = openai.OpenAI()

def resolve(question):
    asked = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="gpt-4o-mini", messages=asked, max_tokens=50).choices[0].message.content

def run_agent(question="Where is my parcel?"):
    return resolve(question)

def handle(request):
    return resolve(request["question"])

m, x = "gpt-4o-mini", "hello"
"""
"""What the examples of a page may use without saying where it comes from."""


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block, installed, monkeypatch):
    """Blocks of Python run, against a simulated provider; files of a session (with a title) are compiled here."""
    compile(block.text, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.title or "# Bad" in block.text:
        return
    with SimulatedProvider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-simulated")
        names = {"__name__": "block"}
        exec(compile(PRELUDE, "prelude", "exec"), names)
        code = compile(block.text, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(types.FunctionType(code, names)())
        else:
            exec(code, names)


MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@pytest.mark.parametrize("block", of("sh", "bash", "console"))
def test_commands_exist(block):
    """Commands of ours have the options that they are shown with, targets of make and extras of pip are there."""
    for line in commands(block):
        words = []
        for word in [*split(line), ";"]:
            if not set(word) <= set("&|;<>()"):
                words.append(word)
            elif words:
                check(words, block.where)
                words = []


def split(line):
    """The words of a command line; operators of the shell are words of their own."""
    lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "IT", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def check(words, where):
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    for word in words:
        for extras in re.findall(r"tokenguard-otel\[([\w,]+)\]", word):
            assert set(extras.split(",")) <= EXTRAS, f"{where}: {word}"
    if words[:1] == ["make"]:
        targets = {word for word in words[1:] if "=" not in word}
        assert targets <= MAKE, f"{where}: make has no {targets - MAKE}"
    if words[:1] == ["tokenguard"]:
        parse(words[1:], where)


def parse(words, where):
    if words[:1] == ["lint"]:
        from tokenguard.lint.arguments import parser

        known = parser()
        known.error = lambda message: pytest.fail(f"{where}: {message}")
        known.parse_intermixed_args([word for word in words[1:] if word != "server"])
        return
    command, context, name = cli.group, None, "tokenguard"
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not isinstance(command, click.Group) or not context._protected_args + context.args:
                return
            words = context._protected_args + context.args
            name, command, words = command.resolve_command(context, words)
    except click.exceptions.Exit:  # --help, --version
        return
    except click.UsageError as error:
        if "does not exist" in error.format_message():  # a file of the reader's
            return
        pytest.fail(f"{where}: tokenguard {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_examples_of_the_help_exist(example):
    """What a command's help shows has the options that the command has."""
    check(split(example), example)


def test_benchmarks_know_where_their_figures_belong():
    """`make bench` puts what it measures between marks, and finds them in both pages."""
    marked = {name: page.read_text() for name in ("README.md", "docs/benchmarks.md") if (page := ROOT / name)}
    for name in ("bench", "guard"):
        assert all(
            text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1 for text in marked.values()
        )


def test_readme_names_the_command_for_tests():
    """The README names `make test`, which contributors and CI run."""
    assert "`make test`" in (ROOT / "README.md").read_text()


def test_the_readme_is_short():
    """The README is a screen and a half: what is longer belongs into `docs/`."""
    text = (ROOT / "README.md").read_text()
    prose = re.sub(r"<!-- demo -->.*?<!-- /demo -->", "", text, flags=re.DOTALL)
    assert len(prose.split()) < 1100
    assert tokenguard.__doc__
