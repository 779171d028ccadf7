"""A store with something of everything, and reading a page as a browser does."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.page.document import document
from tokenguard.page.gathered import gathered
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.store.store import Store

DAY_NS = 86_400 * 10**9
NASTY = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"&\u202e\x1b[2J"
)


def records(days=20, nasty=True, seed=3):
    """Some calls each day, of a tenant whose name is an attack, among others."""
    rng = random.Random(seed)
    now = time.time_ns()
    features = ["support", "rag", "search", NASTY if nasty else "triage", None]
    found = []
    for n in range(days * 10):
        feature = rng.choice(features)
        attributes = {
            names.OPERATION: "chat",
            names.PROVIDER: "openai",
            names.REQUEST_MODEL: rng.choice(("gpt-4o", "claude-sonnet-4-6")),
            names.INPUT_TOKENS: rng.randrange(1500, 4000),
            names.OUTPUT_TOKENS: rng.randrange(500),
            names.CACHE_READ_TOKENS: 0,
            names.COST: rng.random() / 10,
            names.COST_STATUS: "exact",
            names.COST_INPUT: 0.01,
            names.REQUEST_HASH: f"{rng.randrange(150):016x}",
            "tokenguard.tenant": rng.choice(("acme", NASTY if nasty else "globex")),
            "tokenguard.attr.note": NASTY if nasty else "note",
            "tokenguard.prompt_version": "v2" if n % (days * 10) > days * 5 else "v1",
            names.CODE_FILE: "/srv/app/answer.py",
            names.CODE_LINE: 4,
            names.TASK: "resolve",
        }
        if feature is not None:
            attributes["tokenguard.feature"] = feature
        outcome = "ok"
        if n % 25 == 0:
            outcome, attributes = (
                "error",
                {**attributes, names.ERROR_TYPE: f"openai.{NASTY}" if nasty else "openai.Bad"},
            )
        start = now - int((days - n / 10) * DAY_NS)
        found.append(
            CallRecord(start, int(rng.lognormvariate(0, 1) * 1e9), outcome, attributes, f"{n:032x}", f"{n:016x}")
        )
    return [*found, TaskRecord("resolve", now - DAY_NS, 1, "ok", 0.5, 3)]


def write(path, found):
    store = Store(path)
    store.write(found)
    store.close()
    return path


@pytest.fixture
def nasty(tmp_path):
    """A store with hostile names."""
    return write(tmp_path / "usage.db", records())


def page_of(path, by="feature", days=None, where=(), **more):
    """The page of a store, as it is gathered."""
    now = datetime.now(UTC)
    since = None if days is None else time.time_ns() // DAY_NS * DAY_NS - days * DAY_NS
    opened = open_sources([path]).records
    try:
        query = Query(by=(by,), since_ns=since, where=where, now_ns=time.time_ns())
        return gathered(opened, query, str(path), now, **more)
    finally:
        opened.close()


def html_of(path, *arguments, **more):
    return document(page_of(path, *arguments, **more))


class Reader(HTMLParser):
    """What a browser would find: the elements with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.words = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def in_chromium(url, folder, *options, script=None):
    """The page after a real browser has laid it out, as HTML; `options` are Chromium's."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
        "--no-first-run",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
        *options,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
