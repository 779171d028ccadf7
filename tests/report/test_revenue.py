"""`[finops] revenue`: what tenants pay, and what is left of it after their calls."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts.errors import TokenGuardError
from tokenguard.store.store import Store

from .conftest import call

DAY = ("--since", "2026-11-02", "--until", "2026-11-03")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A project in which acme spent $3, beta $2.5, gamma something unknown, and nobody $0.5; `run(revenue, ...)`."""
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    store = Store(tmp_path / "usage.db")
    tokens = (1000, 10, 0)
    store.write(
        [
            call(0, "a", "gpt-4o", tokens, 1.0, tenant="acme"),
            call(1, "b", "gpt-4o", tokens, 2.0, tenant="acme"),
            call(2, "c", "gpt-4o", tokens, 2.5, tenant="beta"),
            call(3, "d", "gpt-4o", tokens, 1.0, tenant="gamma"),
            call(4, "e", "mine", tokens, None, tenant="gamma", **{"tokenguard.cost.status": "unpriced"}),
            call(5, "f", "gpt-4o", tokens, 0.5),
        ]
    )
    store.close()
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    (tmp_path / "tokenguard.toml").write_text('[finops]\nrevenue = "books/revenue.csv"\n')
    (tmp_path / "books").mkdir()

    def asked(revenue, *arguments, by="tenant"):
        if revenue is not None:
            (tmp_path / "books" / "revenue.csv").write_text(revenue)
        words = ["report", "--by", by, "--source", str(tmp_path / "usage.db"), *arguments]
        done = CliRunner().invoke(group, words, env={"COLUMNS": "200", "NO_COLOR": "1"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return asked


def margins(text):
    """Revenue, margin and its share by tenant; those of all are under "total"."""
    found = json.loads(text)
    rows = {row["keys"]["tenant"]: row for row in found["rows"]} | {"total": found["total"]}
    return {name: (row["revenue_usd"], row["margin_usd"], row["margin_share"]) for name, row in rows.items()}


def test_margins(run):
    """Revenue less cost, below zero too; rows add up; without revenue or without a price it is unknown, not zero."""
    text = run("tenant,revenue_usd\nacme,10\nacme,2\nbeta,2\ngamma,50\n", *DAY, "--format", "json")
    assert margins(text) == {
        "acme": (12, 9, 0.75),
        "beta": (2, -0.5, -0.25),
        "gamma": (50, None, None),
        None: (None, None, None),
        "total": (64, None, None),
    }


def test_the_total(run):
    """The total has a margin where every tenant has one, those that a limit leaves out included."""
    only = ("--where", "tenant=[ab]*", "--limit", "1", "--sort", "margin_usd")
    text = run("tenant,revenue_usd\nacme,12\nbeta,2\n", *DAY, *only, "--format", "json")
    assert margins(text) == {"acme": (12, 9, 0.75), "total": (14, 8.5, 8.5 / 14)}


def test_the_table(run):
    """The columns revenue, margin and margin share; unknown is a dash, and why is said."""
    text = run("tenant,revenue_usd\nacme,12\nbeta,2\n", *DAY)
    head, *rows = [
        line.split() for line in text.splitlines() if line.startswith(("tenant ", "acme ", "beta ", "gamma "))
    ]
    assert head[-5:-1] == ["revenue", "margin", "margin", "share"]
    shown = {row[0]: row[-4:-1] for row in rows}
    assert shown == {
        "acme": ["$12.00", "$9.0000", "75%"],
        "beta": ["$2.00", "-$0.5000", "-25%"],
        "gamma": ["-", "-", "-"],
    }
    assert "The margin of all is unknown" in text
    assert "| revenue | margin | margin share |" in run(None, *DAY, "--format", "md")
    assert next(csv.DictReader(io.StringIO(run(None, *DAY, "--format", "csv"))))["margin_usd"] == "9.0"


@pytest.mark.parametrize(
    ("date", "period", "revenue"),
    [
        ("2026-11", DAY, 1.0),
        ("2026-11-02", DAY, 30.0),
        ("2026-11-02", ("--since", "2026-11-02T00:00", "--until", "2026-11-02T12:00"), 15.0),
        ("2026-11-03", DAY, None),
        ("2026-10", DAY, None),
        ("2026-10", ("--until", "2026-11-03"), None),
        ("2026-11", ("--until", "2026-11-03"), 1.0),
        ("", DAY, 30.0),
    ],
)
def test_the_period(run, date, period, revenue):
    """Of a day or a month as much counts as is in the period; a row without a date is for any."""
    found = margins(run(f"tenant,revenue_usd,date\nacme,30,{date}\n", *period, "--format", "json"))
    assert found["acme"][0] == (None if revenue is None else pytest.approx(revenue))


def test_no_whole_tenants(run):
    """A part of a tenant's calls has a cost, and no margin; neither has a report by something else."""
    for arguments, by in (((*DAY, "--where", "feature=a"), "tenant"), (DAY, "tenant,feature"), (DAY, "feature")):
        assert "revenue_usd" not in run("tenant,revenue_usd\nacme,12\n", *arguments, "--format", "json", by=by)
    with pytest.raises(TokenGuardError, match="cannot sort by 'margin_usd'"):
        run(None, *DAY, "--sort", "margin_usd", by="feature")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, r"books/revenue.csv: the revenue cannot be read: No such file or directory; check \[finops\] revenue"),
        ("", "its columns are none; it needs tenant and revenue_usd"),
        ("tenant,revenue\nacme,1\n", "its columns are tenant, revenue; it needs tenant and revenue_usd"),
        ("tenant,revenue_usd\nacme,1\nbeta,much\n", "revenue.csv:3: revenue_usd is 'much', and not a number"),
        ("tenant,revenue_usd\nacme,nan\n", "revenue.csv:2: revenue_usd is 'nan'"),
        ("tenant,revenue_usd\nacme\n", "revenue.csv:2: revenue_usd is ''"),
        ("tenant,revenue_usd\n ,3\n", "revenue.csv:2: it names no tenant"),
        ("tenant,revenue_usd,date\nacme,3,2026-13\n", "revenue.csv:2: date is '2026-13', which is not a day"),
        ('tenant,revenue_usd\n"acme\n', "revenue.csv:2: revenue_usd is ''"),
    ],
)
def test_a_bad_file(run, text, why):
    """What is wrong with the file is said with its line."""
    with pytest.raises(TokenGuardError, match=why):
        run(text, *DAY)


def test_no_file_is_asked_for(run, tmp_path):
    """Without the key there are no such columns, and a report by tenant is as it was."""
    (tmp_path / "tokenguard.toml").write_text("")
    text = run(None, *DAY, "--format", "json")
    assert "revenue_usd" not in text
    assert "revenue" not in run(None, *DAY)
