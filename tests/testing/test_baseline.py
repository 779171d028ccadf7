"""`.tokenguard/baseline.json`: a test fails when it spends more than it used to."""

from __future__ import annotations

import json
import subprocess

import pytest
from click.testing import CliRunner

from tokenguard.cli import group

from .conftest import said

BEFORE = """
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_it(name):
        ask()

    def test_silent():
        pass
"""
GREW = BEFORE.replace("        ask()\n", "        ask()\n        if name == 'b': ask()\n")
ENTRY = {
    "calls": 1,
    "cost_usd": 0.0002832,
    "input_tokens": 1200,
    "output_tokens": 300,
}


@pytest.fixture
def accepted(project):
    """A project whose tests have a baseline."""
    assert project.run(BEFORE, "--tokenguard-update").ret == 0
    project.file = project.path / ".tokenguard" / "baseline.json"
    return project


def entries_of(project):
    return json.loads(project.file.read_text())["tests"]


def test_writing(accepted):
    """An entry for each test that makes calls: sorted, a line a value, the same for the same run; no content."""
    tests = entries_of(accepted)
    assert list(tests) == ["test_it.py::test_it[a]", "test_it.py::test_it[b]"]
    (prefix,) = tests["test_it.py::test_it[a]"].pop("prefixes")
    assert tests["test_it.py::test_it[a]"] == ENTRY
    assert len(prefix) == 16
    text = accepted.file.read_text()
    assert text.endswith("}\n")
    assert max(map(len, text.splitlines())) < 60
    assert "brief" not in text
    result = accepted.run(BEFORE, "--tokenguard-update")
    assert accepted.file.read_text() == text
    assert f"baseline: 2 tests in {accepted.file}" in said(result)
    assert list(accepted.file.parent.iterdir()) == [accepted.file]


def test_unchanged(accepted):
    """Nothing but the file asks for the comparison; what is as it was passes."""
    result = accepted.run(BEFORE)
    assert result.ret == 0
    assert "new, not in the baseline" not in said(result)


def test_growth(accepted):
    """What grew, by how much, what was allowed, and what to do if it is meant."""
    result = accepted.run(GREW)
    assert result.ret == 1
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "grown since the baseline: calls 1 -> 2 (+100%), input tokens 1,200 -> 2,400 (+100%), output tokens 300 -> 600 "
            "(+100%), cost $0.000283 -> $0.000566 (+100%)",
            "  .tokenguard/baseline.json allows 10% more. If that is meant: pytest --tokenguard-update, and commit the file.",
            "",
            "  call  model                   where        input  cached  output       cost",
        ]
    )
    assert accepted.run(GREW, "--tokenguard-update").ret == 0
    assert entries_of(accepted)["test_it.py::test_it[b]"]["calls"] == 2
    assert accepted.run(GREW).ret == 0


def test_growth_as_a_warning(accepted):
    """`--tokenguard-growth=warn` lists it, `ignore` does not look."""
    result = accepted.run(GREW, "--tokenguard-growth=warn")
    assert result.ret == 0
    assert "test_it.py::test_it[b]: grew by more than 10%: calls 1 -> 2 (+100%), input tokens 1,200 -> 2,400" in said(
        result
    )
    result = accepted.run(GREW, "--tokenguard-growth=ignore", "--tokenguard")
    assert result.ret == 0
    assert "grew" not in said(result)


@pytest.mark.parametrize(
    ("mark", "option", "fails"),
    [
        ("", "--tokenguard-tolerance=100%", False),
        ("", "--tokenguard-tolerance=0.99", True),
        ("@pytest.mark.token_budget(tolerance='100%')", "--tokenguard-tolerance=0", False),
        ("@pytest.mark.token_budget(tolerance=0.5)", "--tokenguard-tolerance=100%", True),
    ],
)
def test_tolerance(accepted, mark, option, fails):
    """For all tests by option, for one by its marker."""
    text = GREW.replace("def test_it", f"{mark}\n    def test_it") if mark else GREW
    assert accepted.run(text, option).ret == int(fails)


def test_a_changed_prefix_is_told(accepted):
    """The same tokens behind another system prompt: the cache is lost, and the summary says so."""
    result = accepted.run(BEFORE.replace("ask()", "ask(system='Be exact.')"))
    assert result.ret == 0
    result.stdout.re_match_lines(
        [
            r"test_it.py::test_it\[a\]: the prompt prefix changed \([0-9a-f]{16} -> [0-9a-f]{16}\): what providers have "
            r"cached of the old one is of no use to the new one"
        ]
    )


def test_the_users_words_are_not_the_prefix(accepted):
    """Another question, or a conversation that goes on, leaves the prefix as it is."""
    result = accepted.run(
        BEFORE.replace(
            "ask()",
            """
        ask(said="Where is Paris?")
        for said in (1, 3):
            openai_client().chat.completions.create(model="gpt-4o-mini", messages=[
                {"role": "system", "content": "Be brief."},
                *[{"role": role, "content": f"{role}"} for role in ("user", "assistant", "user")][:said]])
            """,
        ),
        "--tokenguard-growth=warn",
    )
    assert result.ret == 0
    assert "calls 1 -> 3" in said(result)
    assert "prompt prefix changed" not in said(result)


def test_new_and_vanished_tests_are_listed(accepted):
    """Neither fails; the next update takes them in and out."""
    now = BEFORE.replace('"b"', '"c"')
    result = accepted.run(now)
    assert result.ret == 0
    assert "new, not in the baseline: test_it.py::test_it[c]" in said(result)
    assert "in the baseline, and no more: test_it.py::test_it[b]" in said(result)
    accepted.run(now, "--tokenguard-update")
    assert list(entries_of(accepted)) == ["test_it.py::test_it[a]", "test_it.py::test_it[c]"]
    # A whole file that is gone.
    (accepted.path / "test_it.py").unlink()
    result = accepted.run("def test_other():\n    ask()\n", "--tokenguard-update", name="test_other.py")
    assert list(entries_of(accepted)) == ["test_other.py::test_other"]
    assert "taken out of the baseline: test_it.py::test_it[a], test_it.py::test_it[c]" in said(result)


def test_a_part_of_the_tests(accepted):
    """A run of some tests says nothing about the others, and updates only its own."""
    accepted.run("def test_more():\n    ask()\n", "--tokenguard-update", "test_more.py", name="test_more.py")
    assert len(entries_of(accepted)) == 3
    for part in (["test_it.py::test_it[a]"], ["-k", "a"], ["test_more.py"]):
        result = accepted.run(None, *part, "--tokenguard-update")
        assert result.ret == 0
        assert "no more" not in said(result)
        assert len(entries_of(accepted)) == 3


def test_a_failed_test_is_not_taken_in(accepted):
    """What a failing test spent is not what it should spend."""
    text = GREW.replace("ask()\n", "ask()\n        assert name == 'a'\n", 1)
    result = accepted.run(text, "--tokenguard-update")
    assert result.ret == 1
    assert entries_of(accepted)["test_it.py::test_it[b]"]["calls"] == 1
    assert "baseline: test_it.py::test_it[b] failed, and kept what was written before" in said(result)


def test_the_budget_holds_when_updating(accepted):
    """An update accepts growth; it does not lift the marker."""
    text = GREW.replace("def test_it", "@pytest.mark.token_budget(max_calls=1)\n    def test_it")
    result = accepted.run(text, "--tokenguard-update")
    assert result.ret == 1
    assert "token budget: calls 2 of 1" in said(result)


def test_an_unknown_cost(accepted):
    """A cost that is no longer known is said; one that never was is not compared."""
    text = BEFORE.replace("ask()", "ask(model='made-up', client=openai_client(answer))").replace(
        "    @pytest",
        "    answer = lambda r: httpx2.Response(200, json={**chat_body(), 'model': 'made-up'})\n\n    @pytest",
    )
    result = accepted.run(text)
    assert result.ret == 1
    assert "grown since the baseline: cost $0.000283 -> not known" in said(result)
    assert accepted.run(text, "--tokenguard-update").ret == 0
    assert entries_of(accepted)["test_it.py::test_it[a]"]["cost_usd"] is None
    assert accepted.run(text).ret == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "it has no object `tests`"),
        ('{"version": 7, "tests": {}}', "its version is 7, and this one reads 1"),
        ('{"version": 1, "tests": {"t": 1}}', "t: calls is None, and not a number from 0 on"),
        (
            json.dumps({"version": 1, "tests": {"t": {**ENTRY, "calls": -1}}}),
            "t: calls is -1, and not a number from 0 on",
        ),
        (
            json.dumps({"version": 1, "tests": {"t": {**ENTRY, "cost_usd": "1"}}}),
            "t: cost_usd is '1', and not a number",
        ),
        (
            json.dumps({"version": 1, "tests": {"t": {**ENTRY, "prefixes": 1}}}),
            "t: prefixes is 1, and not a list of texts",
        ),
        ("\xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
@pytest.mark.parametrize("option", ["--tokenguard", "--tokenguard-update"])
def test_a_corrupt_baseline(project, text, why, option):
    """A usage error that names the file and what is wrong with it; the file stays as it is."""
    file = project.path / ".tokenguard" / "baseline.json"
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    result = project.run(BEFORE, option)
    assert result.ret == 4
    assert f"ERROR: {file}: the baseline is corrupt: {why}" in said(result)
    assert "Restore it from version control, or delete it and run pytest --tokenguard-update." in said(result)
    assert file.read_bytes() == text.encode("latin-1")


def test_a_baseline_that_cannot_be_written(project):
    """The run says so, and the exit code is 4."""
    (project.path / ".tokenguard").write_text("in the way")
    result = project.run(BEFORE, "--tokenguard-update")
    assert result.ret == 4
    assert "baseline.json: the baseline cannot be read: Not a directory." in said(result)
    (project.path / ".tokenguard").unlink()
    (project.path / ".tokenguard").symlink_to("/proc/self/nowhere")
    result = project.run(BEFORE, "--tokenguard-update")
    assert result.ret == 4
    assert "it cannot be written: " in said(result)


@pytest.mark.apart
def test_under_xdist(accepted):
    """Workers compare, the controller writes: the same file as without them."""
    text = accepted.file.read_text()
    result = accepted.run(GREW, "-n2", apart=True)
    result.assert_outcomes(passed=2, failed=1)
    assert "grown since the baseline: calls 1 -> 2 (+100%)" in said(result)
    accepted.run(BEFORE.replace('"b"', '"c"'), "-n2", "--tokenguard-update", apart=True)
    assert list(entries_of(accepted)) == ["test_it.py::test_it[a]", "test_it.py::test_it[c]"]
    accepted.run(BEFORE, "-n2", "--tokenguard-update", apart=True)
    assert accepted.file.read_text() == text


def test_a_comment_of_the_difference(accepted):
    """`tokenguard ci comment` tells what the baselines of two runs differ by, from what the plugin has written."""
    for line in ("init -q -b main", "add -A", "-c user.name=Ada -c user.email=ada@example.com commit -q -m One"):
        subprocess.run(["git", *line.split()], check=True)
    assert accepted.run(GREW, "--tokenguard-update", "--tokenguard-growth=ignore").ret == 0
    done = CliRunner().invoke(group, ["ci", "comment", "--base", "main", ".tokenguard"])
    assert r"| test\_it.py::test\_it\[b\] | 1 → 2 (+100%) | 1,200 → 2,400 (+100%) |" in done.stdout
    assert "$0.000566 → $0.000850." in done.stdout
    assert r"\[a\]" not in done.stdout
