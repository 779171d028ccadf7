"""What a run tells: the terminal, a JSON file, JUnit's file, GitHub's page."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from .conftest import said

SEVERAL = """
    @pytest.fixture(scope="session")
    def index():
        openai_client().embeddings.create(model="text-embedding-3-small", input="x")

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_it(n, index):
        for _ in range(n):
            ask()

    def test_claude():
        anthropic_client().messages.create(model=SONNET, max_tokens=200, messages=MESSAGES)

    def test_silent():
        pass
"""


def test_the_terminal(project):
    """Totals with the share that came from the cache, the most expensive tests, and what they share, apart."""
    result = project.run(SEVERAL, "--tokenguard", "--tokenguard-top=3")
    assert result.ret == 0
    lines = [line for line in result.outlines if line]
    first = next(at for at, line in enumerate(lines) if "= tokenguard =" in line) + 1
    assert lines[first:-1] == [
        "spent $0.0074 in 8 calls: 19,800 tokens in (cache hit 83.1%), 1,950 out",
        "test, the 3 most expensive of 4  calls  input  cache hit  output       cost",
        "test_it.py::test_claude              1  2,600      76.9%     150    $0.0055",
        "test_it.py::test_it[3]               3  3,600      85.3%     900   $0.00085",
        "test_it.py::test_it[2]               2  2,400      85.3%     600  $0.000566",
        "shared by tests                     calls   input  cache hit  output     cost",
        "session fixture index (test_it.py)      1  10,000          -       0  $0.0002",
    ]


def test_nothing_to_tell(project):
    """A run without calls says nothing, unless it was asked to."""
    result = project.run("@pytest.mark.token_budget(max_calls=1)\ndef test_it():\n    pass\n")
    assert "= tokenguard =" not in said(result)
    result = project.run(None, "--tokenguard")
    assert "spent $0 in 0 calls: 0 tokens in, 0 out" in said(result)


def test_estimates_are_marked(project):
    """An answer without usage is priced by an estimate, and shown as one."""
    result = project.run(
        """
        def test_it():
            openai_client(lambda r: httpx2.Response(200, json={**chat_body(), "usage": None})).chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES)
        """,
        "--tokenguard",
    )
    assert "1 call estimated" in said(result)
    assert "  ~$0.0000" in said(result)


def test_json(project):
    """Everything, for programs: totals, tests, shared fixtures, and call by call; no content."""
    project.run(SEVERAL, "--tokenguard-json=out/spent.json")
    text = (project.path / "out" / "spent.json").read_text()
    found = json.loads(text)
    assert found["version"] == 1
    assert found["total"]["calls"] == 8
    assert found["total"]["cost_usd"] == 0.0073742
    assert found["total"]["cache_hit"] == 0.831
    test = found["tests"]["test_it.py::test_it[2]"]
    assert (test["calls"], test["attempts"], test["input_tokens"]) == (2, 1, 2400)
    record = test["records"][0]
    assert record.pop("duration_s") > 0
    assert record.pop("call_site").endswith("asking.py:7")
    assert record == {
        "attempt": 0,
        "model": "gpt-4o-mini-2024-07-18",
        "outcome": "ok",
        "error": None,
        "rule": None,
        "input_tokens": 1200,
        "output_tokens": 300,
        "cache_read_tokens": 1024,
        "cost_usd": 0.0002832,
        "cost_status": "exact",
        "cost_basis": None,
    }
    assert found["shared"]["session fixture index (test_it.py)"]["calls"] == 1
    assert found["problems"] == []
    assert "Paris" not in text


def test_a_json_file_that_cannot_be_written(project):
    """The run says so; exit code 4."""
    result = project.run(SEVERAL, "--tokenguard-json=.")
    assert result.ret == 4
    assert "it cannot be written: " in said(result)


def test_junit(project):
    """Each test that made calls has its figures as properties."""
    project.run(SEVERAL, "--tokenguard", "--junitxml=junit.xml")
    cases = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.iter("property")}
        for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")
    }
    assert cases["test_silent"] == {}
    assert cases["test_it[2]"] == {
        "tokenguard.cost_usd": "0.0005664",
        "tokenguard.calls": "2",
        "tokenguard.input_tokens": "2400",
        "tokenguard.output_tokens": "600",
        "tokenguard.cache_read_tokens": "2048",
    }


def test_github(project, monkeypatch):
    """In Actions, the step's page gets the same as a table."""
    page = project.path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    project.run(SEVERAL, "--tokenguard-max-calls=3", "--tokenguard-top=1")
    assert page.read_text().splitlines() == [
        "before",
        "### tokenguard",
        "",
        "spent $0.0074 in 8 calls: 19,800 tokens in (cache hit 83.1%), 1,950 out",
        "",
        "| test, the 1 most expensive of 4 | calls | input | cache hit | output | cost |",
        "|---|---:|---:|---:|---:|---:|",
        "| `test_it.py::test_claude` | 1 | 2,600 | 76.9% | 150 | $0.0055 |",
        "",
        "| shared by tests | calls | input | cache hit | output | cost |",
        "|---|---:|---:|---:|---:|---:|",
        "| `session fixture index (test_it.py)` | 1 | 10,000 | - | 0 | $0.0002 |",
        "",
        "- **the run made 8 calls, and --tokenguard-max-calls allows 3**",
    ]


@pytest.mark.apart
def test_no_store_is_written(project, monkeypatch):
    """Calls of tests are not mixed with those of the program: no local store, unless one is named."""
    monkeypatch.delenv("TOKENGUARD_STORE")
    result = project.run(SEVERAL, "--tokenguard", apart=True)
    assert result.ret == 0
    assert not (project.path / ".tokenguard").exists()
    monkeypatch.setenv("TOKENGUARD_STORE", "calls.db")
    project.run(None, "--tokenguard", apart=True)
    assert (project.path / "calls.db").exists()
