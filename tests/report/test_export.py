"""What programs read: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing

import pytest

from report.conftest import call
from tokenguard.report import export
from tokenguard.report.figures import FIGURES, QUANTILES, ask
from tokenguard.report.findings import find
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.store.store import Store


def test_json(store_path):
    """JSON has every figure by name for each group and the total; unknown is null."""
    with closing(open_sources([store_path]).records) as connection:
        report = ask(connection, Query(by=("feature", "tenant")))
        document = json.loads(export.as_json(report, find(connection, report)))
    assert document["version"] == 1
    assert list(document)[1:] == [
        *(
            "by",
            "first_call",
            "last_call",
            "total",
            "rows",
            "more_rows",
            "tasks",
            "units",
            "rented",
            "lookups",
            "unpriced",
            "estimated",
            "trend",
            "findings",
            "faults",
        ),
    ]
    assert document["first_call"] == "2026-11-02T09:00:00+00:00"
    assert set(document["total"]) == {*FIGURES, *QUANTILES, "cost_share", "change_usd"}
    assert all(set(row) == {"keys", *document["total"]} for row in document["rows"])
    assert {row["keys"]["feature"] for row in document["rows"]} == {"support_answer", "rag", "digest", None}
    assert document["tasks"][0]["cost_per_success_usd"] == 1.0
    assert document["unpriced"] == [{"model": "openai/my-tuned-model", "calls": 1}]
    assert {*document["findings"][0]} == {"says", "usd", "usd_is", "next_step"}


def test_csv(store_path):
    """CSV has a header and a row for each group; unknown is empty."""
    with closing(open_sources([store_path]).records) as connection:
        text = export.as_csv(ask(connection, Query(by=("model",))))
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 4
    assert (rows["my-tuned-model"]["cost_usd"], rows["my-tuned-model"]["calls"]) == ("", "1")
    assert float(rows["gpt-4o"]["cost_usd"]) == pytest.approx(2.05)


def test_a_key_named_as_a_figure(tmp_path):
    """A key of the user's that is named as a figure, or as a key of ours, takes no other's place."""
    store = Store(tmp_path / "u.db")
    theirs = {"tokenguard.attr.calls": "many", "tokenguard.attr.cost_usd": "high", "tokenguard.attr.model": "T"}
    store.write([call(n, "rag", "gpt-4o", (5, 1, 0), 0.25, **theirs) for n in range(2)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as connection:
        report = ask(connection, Query(by=("calls", "cost_usd", "model", "attr.model"), where=(("attr.model", "T"),)))
    (row,) = json.loads(export.as_json(report, []))["rows"]
    assert row["keys"] == {"calls": "many", "cost_usd": "high", "model": "gpt-4o", "attr.model": "T"}
    assert (row["calls"], row["cost_usd"]) == (2, 0.5)
    header, values = csv.reader(io.StringIO(export.as_csv(report)))
    assert len(set(header)) == len(header)
    assert header[:5] == ["attr.calls", "attr.cost_usd", "model", "attr.model", "calls"]
    assert values[:5] == ["many", "high", "gpt-4o", "T", "2"]


def test_json_for_a_terminal_without_utf8(tmp_path):
    """JSON escapes what an encoding may lack."""
    store = Store(tmp_path / "u.db")
    store.write([call(0, "ü", "gpt-4o", (5, 1, 0), 0.25)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as connection:
        report = ask(connection, Query())
    assert json.loads(export.as_json(report, [], utf8=False)) == json.loads(export.as_json(report, []))
    assert export.as_json(report, [], utf8=False).isascii()


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", " =1"])
def test_no_cell_is_a_formula(tmp_path, value):
    """What callers name their tenants is text in a spreadsheet, too, and has no control characters in CSV."""
    store = Store(tmp_path / "u.db")
    store.write([call(n, "a\x1b[2J\u202eb", "gpt-4o", (5, 1, 0), 0.25, tenant=value) for n in range(2)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as records:
        text = export.as_csv(ask(records, Query(by=("feature", "tenant"))))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["feature"] == "a?[2J?b"
    assert row["tenant"].startswith(("'", "?"))
    assert row["cost_usd"] == "0.5"
