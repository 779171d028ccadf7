"""Pictures, seconds and pages in a report: summed by model, and none of them a generation without a cap."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest
from rich.console import Console

from report.conftest import call
from tokenguard.facts import names as n
from tokenguard.report.export import as_json
from tokenguard.report.figures import ask
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.report.table import _notes, print_table
from tokenguard.report.units import UnitRow
from tokenguard.store.store import Store


def made(hours, operation, model, cost, **units):
    more = {n.OPERATION: operation, n.REQUEST_MAX_TOKENS: None, **{getattr(n, unit): units[unit] for unit in units}}
    return call(hours, "media", model, (None, None, None), cost, **more)


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "units.db"
    store = Store(path)
    store.write(
        [
            made(0, "image_generation", "dall-e-3", 0.08, IMAGES=2),
            made(1, "image_generation", "dall-e-3", 0.04, IMAGES=1),
            made(2, "transcription", "whisper-1", 0.009, INPUT_SECONDS=90),
            made(3, "ocr", "mistral-ocr-latest", 0.03, PAGES=5, ANNOTATED_PAGES=2),
            made(4, "speech", "somebodys-voice", None, CHARACTERS=35),
            call(5, "chat", "gpt-4o", (100, 20, None), 0.001),
        ]
    )
    store.close()
    with closing(open_sources([path]).records) as records:
        yield ask(records, Query())


def test_units_are_summed(report):
    """By operation and model, the dearest first; a cost that nobody knows is not zero."""
    assert report.units == [
        UnitRow("image_generation", "dall-e-3", "images", 3, pytest.approx(0.12)),
        UnitRow("ocr", "mistral-ocr-latest", "annotated_pages", 2, pytest.approx(0.03)),
        UnitRow("ocr", "mistral-ocr-latest", "pages", 5, pytest.approx(0.03)),
        UnitRow("transcription", "whisper-1", "input_seconds", 90, pytest.approx(0.009)),
        UnitRow("speech", "somebodys-voice", "characters", 35, None),
    ]


def test_units_are_shown(report):
    """The table has them, and the JSON."""
    console = Console(width=120, markup=False, force_terminal=False)
    with console.capture() as captured:
        print_table(report, [], "units.db", console)
    assert "input seconds" in captured.get()
    assert json.loads(as_json(report, ()))["units"][0]["amount"] == 3


def test_pictures_are_not_uncapped(report):
    """Only text can be capped: of these calls one could have been."""
    assert report.total.figures["generations"] == 1
    assert report.total.figures["uncapped"] == 0


def test_what_is_rented(tmp_path):
    """A cache that is not past its time is listed, with its end and its cost; `--by resource` groups by it."""
    path = tmp_path / "rented.db"
    store = Store(path)
    for hours, name, until in ((0, "cachedContents/old", 1000.0), (1, "cachedContents/new", time.time() + 3600)):
        more = {n.OPERATION: "create_cache", n.RESOURCE: name, n.RESOURCE_UNTIL: until, n.TOKEN_HOURS: 50}
        store.write([call(hours, "rag", "gemini-2.5-flash", (10, None, None), 0.5, **more)])
    store.close()
    with closing(open_sources([path]).records) as records:
        report = ask(records, Query(by=("resource",)))
    assert [(row.resource, row.cost_usd) for row in report.rented] == [("cachedContents/new", 0.5)]
    assert {row.keys for row in report.rows} == {("cachedContents/old",), ("cachedContents/new",)}
    assert any("cachedContents/new" in note for note in _notes(report))


def test_the_last_word_of_what_is_rented(tmp_path):
    """Its cost is summed; one that was deleted is no longer listed, one without an end is, until it is deleted."""
    path = tmp_path / "rented.db"
    store = Store(path)
    told = [
        (0, "create_vector_store", "vs_1", None, 0.0),
        (1, "rent", "vs_1", None, 0.25),
        (2, "create_vector_store", "vs_2", None, 0.0),
        (3, "rent", "vs_2", 1000.0, 0.5),
    ]
    for hours, operation, name, until, cost in told:
        more = {n.OPERATION: operation, n.RESOURCE: name, **({} if until is None else {n.RESOURCE_UNTIL: until})}
        store.write([call(hours, "rag", "vector-store", (None, None, None), cost, **more)])
    store.close()
    with closing(open_sources([path]).records) as records:
        report = ask(records, Query(by=("resource",)))
    (running,) = report.rented
    assert running == ("vs_1", "create_vector_store", "vector-store", None, pytest.approx(0.25))
    assert any("Still rented: vs_1 (vector-store), $0.25" in note for note in _notes(report))
