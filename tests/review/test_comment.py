"""`tokenguard ci comment`: the base of a change against what is checked out, in a real repository of git."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts import names as n
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord
from tokenguard.review.comment import MARK, MOST, comment
from tokenguard.review.section import ROWS, Section
from tokenguard.store.store import Store
from tokenguard.testing import baseline
from tokenguard.testing.baseline import Entry

CAPPED = """import openai

def ask(text):
    return openai.OpenAI(timeout=9).responses.create(model="gpt-4o", input=text, max_output_tokens=99)
"""
UNCAPPED = CAPPED.replace(", max_output_tokens=99", "")
SHORTER = '[[whatif.shorten]]\nname = "shorter prompt"\ninput = {}\n'
NOW = time.time_ns()
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "ci-comment.md"


class Repository:
    """A repository with a branch `main`, and a change that is on top of it."""

    def __init__(self, path):
        self.path = path
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments):
        own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        done = subprocess.run(
            ["git", *who, *arguments],
            cwd=self.path,
            env={**os.environ, **own},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, **files):
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "A change")

    def write(self, name, text):
        path = self.path / name.replace("__", "/").replace("_py", ".py").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def spends(self, **tests):
        baseline.write(self.path / ".tokenguard" / "baseline.json", {f"test_it.py::{k}": v for k, v in tests.items()})


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("GIT_", "TOKENGUARD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GITHUB_BASE_REF", raising=False)
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    return Repository(path)


def run(*arguments):
    done = CliRunner().invoke(group, ["ci", "comment", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def said(*arguments):
    done = run("--base", "main", *arguments)
    assert done.exit_code == 0
    return done.stdout


def stored(path, usd=0.5, calls=4):
    """A store with calls that `ask` made, from another place."""
    facts = {
        n.OPERATION: "chat",
        n.PROVIDER: "openai",
        n.REQUEST_MODEL: "gpt-4o",
        n.INPUT_TOKENS: 200_000,
        n.OUTPUT_TOKENS: 0,
        n.COST: usd,
        n.COST_INPUT: usd,
        n.COST_STATUS: "exact",
        n.CODE_FILE: "/srv/app.py",
        n.CODE_LINE: 4,
        n.CODE_FUNCTION: "ask",
    }
    store = Store(path)
    store.write([CallRecord(NOW - at * 10**9, 1, "ok", facts) for at in range(calls)])
    store.close()


def test_nothing(repository):
    """Where nothing changed that spends, the comment says so: it replaces an earlier one that said more."""
    repository.spends(test_a=Entry(1, 0.25, 10, 5))
    repository.commit(app_py=UNCAPPED)
    repository.git("switch", "-q", "-c", "change")
    repository.commit(app_py="\n\n# It has moved.\n" + UNCAPPED)
    text = said()
    assert text.startswith(f"{MARK}\n")
    assert "Nothing changed" in text
    assert "###" not in text
    assert run("--base", "main", "--exit-code").exit_code == 0


def test_tests(repository):
    """Tests that spend more, less, for the first time or no more; the sum; a prompt's beginning that changed."""
    repository.spends(
        test_more=Entry(1, 0.25, 1000, 50, ("aa",)),
        test_less=Entry(2, 0.5, 2000, 50),
        test_gone=Entry(1, 0.125, 100, 5),
        test_same=Entry(1, 1.0, 100, 5),
        test_prompt=Entry(1, 0.0, 7, 7, ("bb",)),
    )
    repository.commit()
    repository.git("switch", "-q", "-c", "change")
    repository.spends(
        test_more=Entry(2, 0.5, 2000, 50, ("aa",)),
        test_less=Entry(1, 0.25, 1000, 50),
        test_new=Entry(1, 0.75, 300, 20),
        test_same=Entry(1, 1.0, 100, 5),
        test_prompt=Entry(1, 0.0, 7, 7, ("cc",)),
    )
    text = said()
    assert "Cost of all tests: $1.88 → $2.50." in text
    assert "Tests: 1 spending more, 1 spending less, 1 new, 1 gone." in text
    table = [line for line in text.splitlines() if line.startswith("| test\\_it")]
    assert table == [
        r"| test\_it.py::test\_new | new: 1 | new: 300 | new: 20 | new: $0.7500 |",
        r"| test\_it.py::test\_more | 1 → 2 (+100%) | 1,000 → 2,000 (+100%) | 50 | $0.2500 → $0.5000 (+100%) |",
        r"| test\_it.py::test\_gone | 1, gone | 100, gone | 5, gone | $0.1250, gone |",
        r"| test\_it.py::test\_less | 2 → 1 (-50%) | 2,000 → 1,000 (-50%) | 50 | $0.5000 → $0.2500 (-50%) |",
    ]
    assert "- test\\_it.py::test\\_prompt\n" in text
    assert "### Lint" not in text
    assert run("--base", "main", "--exit-code").exit_code == 1


def test_unknown_is_not_zero(repository):
    """A cost that is not known is a dash, the sum is more than what is known, and the test got dearer."""
    repository.spends(test_a=Entry(1, 0.25, 10, 5), test_b=Entry(1, 0.5, 10, 5))
    repository.commit()
    repository.spends(test_a=Entry(1, None, 10, 5), test_b=Entry(1, 0.5, 10, 5))
    text = said()
    assert "$0.7500 → more than $0.5000 (1 not known)." in text
    assert "| 1 | 10 | 5 | $0.2500 → - |" in text
    assert run("--base", "main", "--exit-code").exit_code == 1


def test_a_first_baseline(repository):
    """A base without a baseline did not spend nothing: what its tests spent is not known. So it is the other way."""
    repository.commit()
    repository.spends(test_a=Entry(1, 0.25, 10, 5))
    text = said()
    assert "Cost of all tests: no baseline → $0.2500." in text
    assert "new: $0.2500" in text
    repository.commit()
    (repository.path / ".tokenguard" / "baseline.json").unlink()
    assert "Cost of all tests: $0.2500 → no baseline." in said()


def test_findings(repository):
    """Findings that are new, and those that are gone; with what their calls cost where a store is there."""
    repository.commit(app_py=CAPPED, old_py=UNCAPPED)
    repository.git("switch", "-q", "-c", "change")
    (repository.path / "old.py").unlink()
    repository.commit(app_py=UNCAPPED)
    text = said()
    assert "| where | rule | finding |\n" in text
    assert r"| app.py:4:12 | TG101 no-output-cap |" in text
    assert "1 gone: TG101." in text
    stored(repository.path / "usage.db")
    assert "| $2.00, 4 calls, answers p50 0, p99 0 tokens (by function) |" in said("--source", "usage.db")
    assert run("--base", "main", "--exit-code").exit_code == 1
    assert "gone" in said("old.py")
    assert "app.py" not in said("old.py")


def test_the_local_store(repository):
    """Without `--source` the local store is asked, where there is one."""
    repository.commit(app_py=CAPPED)
    (repository.path / ".tokenguard").mkdir()
    stored(repository.path / ".tokenguard" / "usage.db")
    repository.write("app_py", UNCAPPED)
    assert "| $2.00, 4 calls, answers p50 0, p99 0 tokens (by function) |" in said()


def test_findings_that_are_gone_are_no_reason_to_fail(repository):
    """What got better is told, and is no failure."""
    repository.commit(app_py=UNCAPPED)
    repository.write("app_py", CAPPED)
    done = run("--base", "main", "--exit-code")
    assert (done.exit_code, "1 gone: TG101." in done.stdout) == (0, True)


def test_what_if(repository):
    """A proposal is replayed on the recorded calls, and held against the base's; one that did not change is not."""
    stored(repository.path.parent / "usage.db", usd=0.5)
    source = ("--source", repository.path.parent / "usage.db", "--policy", "proposal.toml")
    repository.commit(proposal_toml=SHORTER.format(0.5))
    assert "What if" not in said(*source)
    repository.write("proposal_toml", SHORTER.format(0.75))
    text = said(*source)
    assert "### What if\n\n**What if: proposal.toml**" in text
    assert "| shorter prompt | shorter | 4 |" in text
    assert "As the base has it, it would be $1.00; here $1.50 (+50%)." in text
    assert run("--base", "main", "--exit-code", *source).exit_code == 1
    repository.write("proposal_toml", SHORTER.format(0.25))
    assert run("--base", "main", "--exit-code", *source).exit_code == 0


def test_what_if_without_calls(repository):
    """A proposal with nothing to replay it on is left out, and the reason is told beside the comment."""
    repository.commit()
    repository.write("proposal_toml", SHORTER.format(0.5))
    done = run("--base", "main", "--policy", "proposal.toml")
    assert done.exit_code == 0
    assert "What if" not in done.stdout
    assert "proposal.toml is not replayed: No calls are recorded" in done.stderr


def test_the_base_is_where_the_change_left(repository, monkeypatch):
    """What has come to the target since is not of this change; GITHUB_BASE_REF names the target's branch of origin."""
    repository.commit(app_py=CAPPED)
    repository.git("switch", "-q", "-c", "change")
    repository.commit(change_py=UNCAPPED)
    repository.git("switch", "-q", "main")
    repository.commit(other_py=UNCAPPED)
    repository.git("update-ref", "refs/remotes/origin/main", "main")
    repository.git("switch", "-q", "change")
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    text = run().stdout
    assert "change.py" in text
    assert "gone" not in text
    assert f"Against `{repository.git('rev-parse', '--short', 'HEAD~')}`." in text


def test_within_a_folder(repository, monkeypatch):
    """In a folder of the repository its own files are compared, whatever `git archive` would leave out."""
    repository.write(".gitattributes", "part export-ignore\n")
    repository.commit(part__app_py=UNCAPPED, app_py=CAPPED)
    repository.write("app_py", UNCAPPED)
    monkeypatch.chdir(repository.path / "part")
    assert "Nothing changed" in said()


def test_the_repository_stays_as_it_is(repository):
    """Neither the index nor the work tree changes, and what is staged stays staged."""
    repository.commit(app_py=CAPPED)
    repository.write("app_py", UNCAPPED)
    repository.write("staged_py", CAPPED)
    repository.git("add", "staged.py")
    before = repository.git("status", "--porcelain")
    said("--output", repository.path.parent / "comment.md")
    assert repository.git("status", "--porcelain") in (before, f"{before}\n?? .tokenguard_cache/")
    assert repository.git("worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "GITHUB_BASE_REF is not set"),
        (("--base", "nowhere"), "there is no commit 'nowhere' here"),
        (("--base=--help",), "there is no commit '--help' here"),
        (("--base", "unrelated"), "no commit in common"),
        (("--base", "main", "nothing.py"), "no such file or folder: nothing.py"),
        (("--base", "main", "--since", "yesterday"), "'yesterday' is no time"),
        (("--base", "main", "--policy", "none.toml"), "none.toml: the policy cannot be read"),
        (("--base", "main", "--baseline", "../other.json"), "is not in the working directory"),
        (("--base", "main", "--source", "none.db"), "none.db"),
        (("--base", "main", "-o", "none/comment.md"), "none/comment.md cannot be written"),
    ],
)
def test_what_is_wrong(repository, arguments, why):
    """What cannot be compared is an error that says what is wrong; the command then ends with 2."""
    repository.commit(app_py=CAPPED)
    repository.git("switch", "-q", "--orphan", "unrelated")
    repository.commit()
    repository.git("switch", "-q", "main")
    with pytest.raises(TokenGuardError, match="(?s)" + why.replace("(", r"\(")):
        run(*arguments)


def test_a_corrupt_baseline(repository):
    """A baseline that cannot be understood is an error with its name."""
    repository.commit()
    repository.write(".tokenguard/baseline.json", "{}")
    with pytest.raises(TokenGuardError, match=r"baseline.json: the baseline is corrupt"):
        run("--base", "main")


def test_no_repository(tmp_path, monkeypatch):
    """Outside of a repository there is no base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(TokenGuardError, match="run it in a git repository"):
        run("--base", "main")


def test_it_fits(repository):
    """Tables end after some rows, and say how many there are besides; a section too long for GitHub is named."""
    repository.commit()
    repository.spends(
        **{f"test_{i}": Entry(1, 0.25 + i, 10, 5) for i in range(ROWS + 3)}, **{"x" * 5000: Entry(1, 0, 1, 1)}
    )
    text = said()
    assert text.count("| test\\_it") == ROWS
    assert "and 4 more tests." in text
    long = comment("abc", [Section("One", "x" * MOST, False), Section("Two", "y", False)])
    assert len(long) < MOST
    assert "### Two" in long
    assert "Left out, as the comment would be too long: One." in long


def test_names_are_text(repository):
    """What tests are named cannot break the table, or show as HTML."""
    repository.commit()
    repository.spends(**{"test[a|<img>]": Entry(1, 0.25, 10, 5)})
    assert r"test\[a\|&lt;img&gt;\]" in said()


@pytest.mark.parametrize("earlier", ["", "77"])
def test_the_workflow(repository, tmp_path, earlier):
    """The workflow of the page: its last step makes a comment, or replaces the one that is there."""
    block = PAGE.read_text().partition("```yaml")[2].partition("\n")[2].partition("```")[0]
    *_, compare, post = yaml.safe_load(block)["jobs"]["comment"]["steps"]
    assert compare["run"].startswith("tokenguard ci comment ")
    tool = tmp_path / "bin" / "gh"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$@" >> "$CALLED"\ncase "$*" in *PATCH*|pr*) ;; *) echo "$EARLIER" ;; esac\n')
    tool.chmod(0o755)
    (repository.path / "comment.md").write_text("said\n")
    called, summary = tmp_path / "called", tmp_path / "summary"
    environment = {
        "PATH": f"{tool.parent}:{os.environ['PATH']}", "CALLED": str(called), "EARLIER": earlier, "PULL_REQUEST": "5",
        "GITHUB_REPOSITORY": "o/r", "GITHUB_STEP_SUMMARY": str(summary),
    }  # fmt: skip
    subprocess.run(["bash", "-e", "-c", post["run"]], env=environment, check=True)
    looked, did = called.read_text().splitlines()
    assert looked.startswith("api repos/o/r/issues/5/comments --paginate --jq")
    assert MARK in looked
    patch = "api --silent -X PATCH repos/o/r/issues/comments/77 -F body=@comment.md"
    assert did == (patch if earlier else "pr comment 5 --body-file comment.md")
    assert summary.read_text() == "said\n"
