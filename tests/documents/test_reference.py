"""The reference names everything there is: attributes, metrics, environment variables, commands, JSON, the policy."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner

import tokenguard
from documents.blocks import ALL, ROOT
from tokenguard import cli, policy
from tokenguard.cli.examples import EXAMPLES
from tokenguard.cli.schemas import SCHEMAS, published
from tokenguard.facts import meanings, names
from tokenguard.policy.schema import schema

SAYS = "add a row to src/tokenguard/facts/meanings.py, from which the reference is made"
NOT_ATTRIBUTES = {names.TOKEN_TYPE, names.TOKEN_MODALITY, names.BREAK}
"""Labels of metrics, and the beginning of other names."""


def test_every_attribute_is_explained():
    """Each span attribute of `names` has its unit, its sentence, and when it is absent."""
    known = {row.name for row in meanings.ATTRIBUTES}
    source = inspect.getsource(names).partition("# --- metrics")[0].partition("# --- values")[0]
    said = {value for key, value in vars(names).items() if re.search(rf"^{key}: Final", source, re.MULTILINE)}
    there = {value for value in said if isinstance(value, str) and "." in value} - NOT_ATTRIBUTES
    assert there - known == set(), SAYS
    assert all(row.type and row.says and row.absent for row in meanings.ATTRIBUTES)


def test_every_metric_has_its_labels():
    """Each metric of `names` has a list of its labels, and no other has one."""
    there = {value.name for value in vars(names).values() if isinstance(value, names.Metric)}
    assert there ^ set(meanings.LABELS) == set(), SAYS


def test_labels_are_those_of_the_metrics(installed):
    """What a call and a task are counted under are labels that the reference names."""
    from exported import READER
    from tokenguard.demo.provider import SimulatedProvider

    openai = pytest.importorskip("openai")
    with (
        SimulatedProvider() as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k") as client,
        tokenguard.task("t"),
        tokenguard.attribution(tenant="t1", feature="f"),
    ):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    installed.telemetry.flush()
    data = READER.get_metrics_data()
    found = {
        (metric.name, label)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        for label in point.attributes
        if metric.name in meanings.LABELS
    }
    assert {(name, label) for name, label in found if label not in meanings.LABELS[name]} == set()
    assert (names.COST_USD.name, "tokenguard.tenant") in found


def test_every_environment_variable_is_explained():
    """Each variable that the package reads is in the reference."""
    read = set()
    for file in Path(tokenguard.__file__).parent.rglob("*.py"):
        read.update(re.findall(r"\bTOKENGUARD_[A-Z_]*[A-Z]\b", file.read_text()))
    assert read - set(meanings.ENVIRONMENT) == set(), SAYS


def _commands(group, path=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
            if not command.invoke_without_command:
                continue
        yield " ".join((*path, name)), command


def test_every_command_has_two_examples():
    """The help of each command ends with two examples, which a user can copy."""
    there = dict(_commands(cli.group))
    assert there.keys() - EXAMPLES.keys() == set(), "add two examples to src/tokenguard/cli/examples.py"
    assert EXAMPLES.keys() - there.keys() == set()
    assert [path for path, examples in EXAMPLES.items() if len(examples) != 2] == []


def test_the_schema_takes_every_policy_of_the_documentation(tmp_path):
    """What `policy check` takes, the schema takes; it refuses an unknown key, and a limit that limits nothing."""
    validator = jsonschema.Draft7Validator(schema())
    jsonschema.Draft7Validator.check_schema(schema())
    assert list(validator.iter_errors({"mod": "enforce"}))
    assert list(validator.iter_errors({"limit": [{"name": "x"}]}))
    assert list(validator.iter_errors({"budget": [{"name": "x", "limit_usd": 1, "then": "downgrade"}]}))
    assert len([block for block in ALL if block.language == "toml"]) > 10


def test_the_schema_takes_what_is_effective():
    """The effective policy, with every default filled in, is valid by the schema."""
    import tomllib

    from tokenguard.policy.page import render

    for toml in ("", '[[limit]]\nname = "a"\nmax_cost_usd = 1\n', '[[budget]]\nname = "b"\nlimit_usd = 1\n'):
        jsonschema.validate(tomllib.loads(render(policy.loads(toml))), schema())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with a store that holds calls and a task."""
    folder = tmp_path_factory.mktemp("recorded")
    pytest.importorskip("openai")
    from tokenguard.demo.provider import SimulatedProvider

    program = folder / "app.py"
    program.write_text(
        "import openai, tokenguard\n"
        "client = openai.OpenAI()\n"
        "for version in ('v1', 'v2'):\n"
        "    with tokenguard.attribution(prompt_version=version, tenant='t1'), tokenguard.task('t'):\n"
        "        for _ in range(2):\n"
        "            client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'hi'}])\n"
    )
    (folder / "tokenguard.toml").write_text(
        '[[budget]]\nname = "all"\nlimit_usd = 5\n[[cache]]\nname = "faq"\nper = []\n'
        '[answers]\nurl = "sqlite:///answers.db"\nplain = true\n'
    )
    with SimulatedProvider() as provider:
        env = {
            **{key: value for key, value in os.environ.items() if key not in (names.ENV_STORE, names.ENV_STRICT)},
            "OPENAI_BASE_URL": provider.openai_url,
            "OPENAI_API_KEY": "k",
        }
        run = [sys.executable, "-c", "from tokenguard.installation.instrument import main; main()", sys.executable]
        subprocess.run([*run, str(program)], cwd=folder, env=env, check=True)
    return folder


ARGUMENTS = {
    "compare": ["prompt_version=v1", "prompt_version=v2"],
    "whatif": ["--policy", "tokenguard.toml"],
    "lint": ["--exit-zero", "--no-cache"],
    "policy try": ["--model", "gpt-4o"],
    "calls show": ["#1"],
}
ELSEWHERE = {"doctor", "reconcile", "batches"}
"""Their own tests hold their output against its schema: they want a server, a bill, a job."""


@pytest.mark.apart
@pytest.mark.parametrize("command", [command for command in SCHEMAS if command not in ELSEWHERE])
def test_json_output_is_as_its_schema_says(command, recorded, monkeypatch):
    """What a command prints with `--format json` is valid by its schema, says its version, and is not empty."""
    monkeypatch.chdir(recorded)
    monkeypatch.delenv(names.ENV_STORE, raising=False)
    done = CliRunner().invoke(cli.group, [*command.split(), *ARGUMENTS.get(command, []), "--format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.pop("version") == 1
    jsonschema.validate({"version": 1, **found}, published(command))
    assert all(
        any(found[key])
        for key in ("calls", "rows", "budgets", "findings", "repeats")
        if isinstance(found.get(key), list)
    )


def test_every_json_output_has_a_schema():
    """Whatever command has the format `json` is in the table, and no other is."""

    def walk(command, path):
        for name, inside in getattr(command, "commands", {}).items():
            yield from walk(inside, f"{path} {name}".strip())
        if isinstance(command, click.Group) and not path:
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    yield from walk(command.get_command(context, name), name)
        forms = [each.type for each in command.params if each.name == "form"]
        if any("json" in getattr(form, "choices", ()) for form in forms):
            yield path

    there = set(walk(cli.group, "")) | {"lint"}
    assert {command.partition(" --")[0] for command in SCHEMAS} == there
    for command in SCHEMAS:
        jsonschema.Draft202012Validator.check_schema(published(command))
        assert SCHEMAS[command]["required"][0] == "version"


def test_schemas_are_printed():
    """`tokenguard schema` names the commands, prints the schema of one, and has the nearest for a typo."""
    assert CliRunner().invoke(cli.group, ["schema"]).stdout.splitlines() == list(SCHEMAS)
    for command in ("calls show", "report --by section"):
        assert json.loads(CliRunner().invoke(cli.group, ["schema", *command.split()]).stdout) == published(command)
    missed = CliRunner().invoke(cli.group, ["schema", "budgts"])
    assert (missed.exit_code, "Did you mean 'budgets'?" in missed.output) == (2, True)


def test_pages_of_the_site_are_made():
    """Each page of the reference can be made, where mkdocs is; `make site` builds them all."""
    assert (ROOT / "mkdocs.yml").is_file()
    text = (ROOT / "docs" / "reference" / "index.md").read_text()
    made = re.findall(r'"reference/([\w.-]+)"', (ROOT / "scripts" / "site_pages.py").read_text())
    assert [page for page in made if page not in text] == []
