"""`tokenguard init` and `policy init`: what is found, what is written, and that nothing else is touched."""

from __future__ import annotations

import tomllib

import pytest
import yaml
from click.testing import CliRunner

from tokenguard import cli, policy
from tokenguard.facts import names
from tokenguard.project.look import look
from tokenguard.project.policy import Traffic, first_policy
from tokenguard.project.proposals import Proposal, proposals, with_external, with_hook

PYPROJECT = '[project]\nname = "shop"\n\n[tool.ruff.lint]\nselect = ["E"]\n\n[tool.pytest.ini_options]\n'
PRE_COMMIT = """\
# What runs before a commit.
repos:
  - repo: https://github.com/astral-sh/ruff-pre-commit
    rev: v0.17.0
    hooks:
      - id: ruff

  # kept last
  - repo: local
    hooks:
      - id: own
        name: own
        entry: own
        language: system
default_stages: [pre-commit]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with most of what is looked for."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(
        "from fastapi import FastAPI\nfrom google import genai\nimport openai\n\napp: FastAPI = FastAPI()\n"
    )
    (tmp_path / "work.py").write_text('import celery\nfrom celery import Celery\njobs = Celery("jobs")\n')
    (tmp_path / "run.py").write_text('import langgraph.graph\nif __name__ == "__main__":\n    print()\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_app.py").write_text("import pytest\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.py").write_text("import cohere\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / ".pre-commit-config.yaml").write_text(PRE_COMMIT)
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / ".github" / "workflows" / "ci.yml").write_text("on: [push]\n")
    (tmp_path / ".gitignore").write_text("*.pyc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(names.ENV_STORE, raising=False)
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(cli.group, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_found(project):
    """SDKs, frameworks, how it is started, CI and tools; what is installed beside it does not count."""
    found = look(project)
    assert found.sdks == ["google-genai", "openai"]
    assert found.frameworks == ["Celery", "FastAPI", "LangGraph"]
    assert set(found.starts) == {"uvicorn app.main:app", "celery -A work worker", "python run.py"}
    assert (found.workflows, found.pre_commit, found.tests, found.ruff, found.policy) == (
        True, True, True, "pyproject.toml", "",
    )  # fmt: skip


def test_dry_run_writes_nothing(project):
    """`--dry-run` shows each file, and writes none; nor does a run that nobody can answer."""
    before = files(project)
    out = run("init", "--dry-run")
    for path in ("tokenguard.toml", ".pre-commit-config.yaml", ".github/workflows/tokenguard.yml", "pyproject.toml"):
        assert path in out
    assert "Nothing was written. --yes writes without asking." in run("init")
    assert files(project) == before


WRITTEN = {
    "tokenguard.toml",
    ".pre-commit-config.yaml",
    ".github/workflows/tokenguard.yml",
    "pyproject.toml",
    ".gitignore",
}


def test_writing_twice_is_writing_once(project):
    """`--yes` writes what is shown; run again, there is nothing to write. What was there stays, to the byte."""
    before = files(project)
    run("init", "--yes")
    after = files(project)
    assert "Nothing to write: everything is there." in run("init", "--yes")
    assert files(project) == after
    assert {path for path in after if after[path] != before.get(path)} == WRITTEN
    found = policy.load("tokenguard.toml")
    assert (found.mode, len(found.budgets), len(found.limits)) == ("observe", 1, 2)
    hooks = yaml.safe_load(after[".pre-commit-config.yaml"])
    assert [hook["id"] for repo in hooks["repos"] for hook in repo["hooks"]] == ["ruff", "own", "tokenguard-lint"]
    assert hooks["default_stages"] == ["pre-commit"]
    ruff = tomllib.loads(after["pyproject.toml"].decode())["tool"]["ruff"]["lint"]
    assert ruff == {"select": ["E"], "external": ["TG"]}
    assert after[".gitignore"] == b"*.pyc\n.tokenguard/*\n!.tokenguard/baseline.json\n"
    assert "steps" in yaml.safe_load(after[".github/workflows/tokenguard.yml"])["jobs"]["lint"]


def test_an_empty_folder(tmp_path, monkeypatch):
    """Where there is nothing, the policy alone is proposed."""
    monkeypatch.chdir(tmp_path)
    run("init", "--yes")
    assert list(files(tmp_path)) == ["tokenguard.toml"]


@pytest.mark.parametrize(
    ("text", "external"),
    [
        ("", ["TG"]),
        ("[tool.ruff]\nline-length = 120\n", ["TG"]),
        ("[tool.ruff.lint]\n", ["TG"]),
        ("[tool.ruff.lint] # ours\r\nselect = ['E']\r\n", ["TG"]),
        ('[tool.ruff.lint]\nexternal = ["V"]\nselect = ["E"]\n', ["V", "TG"]),
        ('[tool.ruff.lint]\nexternal = [\n  "V",\n]\n[other]\nexternal = []\n', ["V", "TG"]),
        ("[tool.ruff.lint]\nexternal = []\n", ["TG"]),
    ],
)
def test_external_is_added(text, external):
    """However ruff's settings are written, `TG` is added to `external`, and nothing else changes."""
    before, after = tomllib.loads(text), tomllib.loads(with_external(text, "tool.ruff.lint"))
    assert after["tool"]["ruff"]["lint"].pop("external") == external
    before.get("tool", {}).get("ruff", {}).get("lint", {}).pop("external", None)
    for tables in (before, after):
        tables.setdefault("tool", {}).setdefault("ruff", {}).setdefault("lint", {})
    assert after == before


def test_what_cannot_be_written_safely_is_advised(project):
    """Settings that are written in a way that is not understood are left alone; the user is told what to add."""
    (project / "pyproject.toml").write_text('tool = { ruff = { lint = { select = ["E"] } } }\n')
    before = files(project)["pyproject.toml"]
    assert 'external = ["TG"]' in run("init", "--yes")
    assert files(project)["pyproject.toml"] == before


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text", ["repos:\n- repo: local\n  hooks: []", "repos:\n    - repo: local\n      hooks: []\n# end\n"]
)
def test_hook_keeps_the_files_own_form(text, newline):
    """The hook is indented as the other repositories are, and ends its lines as the file does."""
    made = with_hook(text.replace("\n", newline))
    assert [repo["hooks"] for repo in yaml.safe_load(made)["repos"]][1][0]["id"] == "tokenguard-lint"
    assert made.count("\n") == made.count(newline)


def test_no_list_of_repositories():
    """A configuration without a list is not guessed at."""
    assert with_hook("repos: []\n") is None


def test_a_policy_that_is_there_stays(project):
    """A policy file, or one in pyproject.toml, is left as it is."""
    for path, text in (
        ("tokenguard.toml", "mode = 'enforce'\n"),
        ("pyproject.toml", "[tool.tokenguard]\nmode = 'enforce'\n"),
    ):
        (project / path).write_text(text)
        found = look(project)
        assert found.policy
        written = [each.path for each in proposals(found, Traffic()) if isinstance(each, Proposal)]
        assert "tokenguard.toml" not in written
        (project / "tokenguard.toml").unlink(missing_ok=True)


def test_lint_settings_alone_are_no_policy(project):
    """`[tool.tokenguard.lint]` has no limits: a policy file is proposed beside it."""
    (project / "pyproject.toml").write_text("[tool.tokenguard.lint]\nselect = ['TG']\n")
    assert look(project).policy == ""


def test_budgets_come_from_what_is_recorded():
    """A budget is three times the most expensive day, rounded up; one for each tenant where there are several."""
    seen = Traffic(days=12, dearest_day=8.3, tenants=4, dearest_tenant_day=1.9)
    found = policy.loads(first_policy(seen))
    assert [(budget.per, budget.limit_usd) for budget in found.budgets] == [((), 50.0), (("tenant",), 10.0)]
    assert "the most expensive of 12 recorded days cost $8.30" in first_policy(seen)
    assert [budget.limit_usd for budget in policy.loads(first_policy(Traffic())).budgets] == [20.0]


def test_policy_init(project):
    """`policy init` writes a valid first policy, and never over another."""
    assert "observe" in run("policy", "init", "new.toml")
    assert policy.load("new.toml").mode == "observe"
    before = (project / "new.toml").read_text()
    with pytest.raises(policy_error(), match=r"new\.toml exists already"):
        run("policy", "init", "new.toml")
    assert (project / "new.toml").read_text() == before


def policy_error():
    from tokenguard.facts.errors import TokenGuardError

    return TokenGuardError


def test_policy_schema(project):
    """`policy schema` prints the schema, or writes it."""
    import json

    printed = run("policy", "schema")
    run("policy", "schema", "-o", "schema.json")
    assert json.loads(printed) == json.loads((project / "schema.json").read_text())
    assert "budget" in json.loads(printed)["properties"]


@pytest.mark.parametrize(
    ("words", "meant"), [(("reprot",), "report"), (("policy", "chek"), "check"), (("grafana", "exprt"), "export")]
)
def test_a_typo_names_the_nearest_command(words, meant):
    """A word that is no command ends with exit code 2, and the nearest command."""
    done = CliRunner().invoke(cli.group, words)
    assert done.exit_code == 2
    assert f"Did you mean {meant!r}?" in done.output
