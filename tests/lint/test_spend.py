"""`tokenguard lint --spend`: what each finding's calls came to, and caps as long as the answers were."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenguard.cli.lint import lint
from tokenguard.facts import names as n
from tokenguard.facts.record import CallRecord
from tokenguard.store.store import Store

NOW = time.time_ns()
APP = """from datetime import datetime
from openai import OpenAI

client = OpenAI(timeout=60)
HEAD = "Be brief."


def header():
    return f"It is {datetime.now()}. Be brief."


def dear(question):
    return (
        client
        .chat
        .completions
        .create(model="gpt-4o", messages=[{"role": "system", "content": header()}, {"role": "user", "content": question}])
    )


def cheap(question):
    return client.responses.create(model="gpt-4o-mini", input=question)


def never(question):
    return client.responses.create(model="gpt-4o-mini", input=question)
"""
DEAR, CHEAP = 17, 22
"""The lines that the calls record."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that has run: 250 dear calls of 1 to 250 tokens at a cent, 20 cheap ones, one without a price."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    (tmp_path / "tokenguard.toml").write_text("")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "ask.py").write_text(APP)
    os.utime(tmp_path / "app" / "ask.py", ns=(NOW - 10**12, NOW - 10**12))
    store = Store(tmp_path / "usage.db")
    store.write([call(DEAR, "dear", i + 1, 0.01) for i in range(250)])
    store.write([call(CHEAP, "cheap", 40, 0.001) for _ in range(20)])
    store.write([call(CHEAP, "cheap", 40, None), call(CHEAP, "cheap", 40, 99.0, start=NOW - 40 * 86_400 * 10**9)])
    store.close()
    return tmp_path


def call(line: int, function: str, tokens: int, usd: float | None, *, start: int = NOW) -> CallRecord:
    attributes = {
        n.CODE_FILE: "/srv/release-7/app/ask.py",
        n.CODE_LINE: line,
        n.CODE_FUNCTION: function,
        n.OUTPUT_TOKENS: tokens,
        **({} if usd is None else {n.COST: usd}),
    }
    return CallRecord(start, 1, "ok", attributes)


def run(*args: str) -> Result:
    return CliRunner().invoke(lint, ["--spend=usage.db", *args, "app"])


def priced(*args: str) -> list[tuple[str, int, dict[str, object] | None]]:
    rows = json.loads(run("--format", "json", *args).stdout)["findings"]
    return [(row["rule"], row["line"], row.get("spent")) for row in rows]


def test_each_finding_has_its_calls(project: Path) -> None:
    """A chained call is found by its range of lines, an expression through the calls it goes into; dearest first."""
    rows = priced("--select", "TG101,TG102")
    assert [(rule, line) for rule, line, _ in rows] == [("TG102", 9), ("TG101", 14), ("TG101", 22), ("TG101", 26)]
    clock, dear, cheap, never = (spent for *_, spent in rows)
    assert dear == {"usd": pytest.approx(2.5), "calls": 250, "p50": 125, "p99": 248, "how": "line"}
    assert clock == {**dear, "how": "flow"}
    assert cheap == {"usd": pytest.approx(0.02), "calls": 21, "p50": 40, "p99": 40, "how": "line"}
    assert never is None


def test_in_words(project: Path) -> None:
    """The report says the money, the calls and the lengths, and how they were joined where it was not by line."""
    said = run("--select", "TG101,TG102").stdout
    assert "    $2.50, 250 calls, answers p50 125, p99 248 tokens\n" in said
    assert "    $2.50, 250 calls, answers p50 125, p99 248 tokens (by flow)\n" in said


def test_min_usd(project: Path) -> None:
    """Findings below a sum, and those of which nothing is recorded, are left out."""
    assert [line for _, line, _ in priced("--select", "TG101", "--min-usd", "1")] == [14]
    assert "--min-usd wants --spend" in CliRunner().invoke(lint, ["--min-usd", "1", "app"]).stderr


def test_since(project: Path) -> None:
    """Only calls of the period count."""
    rows = {line: spent for _, line, spent in priced("--select", "TG101", "--since", "60d")}
    assert rows[22] is not None
    assert rows[22]["usd"] == pytest.approx(99.02)
    assert run("--since", "soon").exit_code == 2


def test_a_file_that_changed_since(project: Path) -> None:
    """Lines that have moved since the calls were made are joined by the function's name, and it is said."""
    (project / "app" / "ask.py").write_text("# one more line\n" + APP)
    later = NOW + 10**12
    os.utime(project / "app" / "ask.py", ns=(later, later))
    rows = {line: spent for _, line, spent in priced("--select", "TG101")}
    assert rows[15] is not None
    assert (rows[15]["calls"], rows[15]["how"]) == (250, "function")


def test_a_cap_from_what_was_observed(project: Path) -> None:
    """A fix takes the cap from 200 answers and more: a quarter above 99 of 100 of them; from fewer, the default."""
    assert "max_completion_tokens to 320 (99 of 100 of 250 answers had at most 248 tokens)" in run().stdout
    run("--select", "TG101", "--unsafe-fixes")
    fixed = (project / "app" / "ask.py").read_text()
    assert fixed.count("max_completion_tokens=320") == 1
    assert fixed.count("max_output_tokens=1024") == 2


def test_sarif_has_money_and_rank(project: Path) -> None:
    """SARIF results have what was spent as properties, and a rank: 100 for the dearest."""
    (sarif,) = json.loads(run("--select", "TG101", "--format", "sarif").stdout)["runs"]
    found = {r["locations"][0]["physicalLocation"]["region"]["startLine"]: r for r in sarif["results"]}
    assert found[14]["rank"] == 100.0
    assert found[14]["properties"]["usd"] == pytest.approx(2.5)
    assert found[22]["rank"] == 0.8
    assert "rank" not in found[26]


def test_two_files_of_one_name(project: Path) -> None:
    """A file whose path ends as two recorded ones do is not priced by either."""
    store = Store(project / "usage.db")
    other = call(DEAR, "dear", 1, 5.0)
    other.attributes[n.CODE_FILE] = "/srv/release-8/app/ask.py"
    store.write([other])
    store.close()
    assert {spent for *_, spent in priced("--select", "TG101")} == {None}


def test_a_store_that_is_none(project: Path) -> None:
    """A store that is not there, or is none, is a usage error that says what to give."""
    said = CliRunner().invoke(lint, ["--spend=nowhere.db", "app"])
    assert said.exit_code == 2
    assert "there is no store at nowhere.db" in said.stderr
    (project / "odd.db").write_text("no database at all, but long enough to be looked at")
    assert "cannot be read" in CliRunner().invoke(lint, ["--spend=odd.db", "app"]).stderr


def test_the_cache_knows_nothing_of_money(project: Path) -> None:
    """A second run, whose findings come from the cache, prices them as the first."""
    assert priced("--select", "TG101") == priced("--select", "TG101")


def test_the_report_names_the_rules(project: Path) -> None:
    """A report by call site says which rules have a finding about the calls of a line."""
    from tokenguard.cli import group

    store = Store(project / "own.db")
    own = call(DEAR, "dear", 5, 0.5)
    own.attributes[n.CODE_FILE] = str(project / "app" / "ask.py")
    store.write([own])
    store.close()
    said = CliRunner().invoke(group, ["report", "--by", "call_site", "--source", "own.db"]).output
    assert "app/ask.py:17: TG101 no-output-cap, TG102 volatile-prefix; see tokenguard explain" in said
