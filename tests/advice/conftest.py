"""Calls as they are recorded, and what a proposal makes of them."""

from __future__ import annotations

import time

import pytest

from tokenguard.advice import proposal as proposals
from tokenguard.advice.waterfall import waterfall
from tokenguard.facts import names as n
from tokenguard.facts.record import COST_ATTRIBUTES, CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook
from tokenguard.report.engine import SqliteRecords
from tokenguard.report.query import Query
from tokenguard.store.store import Store

START = (int(time.time()) - 2 * 86_400) * 10**9
"""Within what a store keeps."""
SECOND = 10**9
BOOK = PriceBook()
DAY = Query()


def call(at, model, usage, *, outcome="ok", **facts):
    """A call `at` seconds, with what it cost by the price list; names without a dot are attribution."""
    provider = "anthropic" if model.startswith("claude") else "openai"
    attributes = {
        n.OPERATION: "chat",
        n.PROVIDER: provider,
        n.REQUEST_MODEL: model,
        n.FINISH_REASONS: ("stop",),
        **{key if "." in key else f"tokenguard.{key}": value for key, value in facts.items()},
    }
    counts = zip((n.INPUT_TOKENS, n.OUTPUT_TOKENS, n.CACHE_READ_TOKENS, n.CACHE_WRITE_TOKENS), usage, strict=False)
    attributes |= {name: count for name, count in counts if count is not None}
    start = START + round(at * SECOND)
    if outcome == "ok":
        cost = BOOK.cost(provider, model, usage, at_ns=start)
        attributes |= {name: part for name, part in zip(COST_ATTRIBUTES, cost, strict=True) if part is not None}
    return CallRecord(start, SECOND // 10, outcome, attributes, "a" * 32, f"{start:016x}"[-16:])


def tokens(sent, generated, read=None, written=None):
    return Usage(input=sent, output=generated, cache_read=read, cache_write=written)


@pytest.fixture
def whatif(tmp_path):
    """What a proposal, in TOML, makes of calls: `whatif(calls, toml)`."""

    def replayed(calls, toml, prices=BOOK):
        store = Store(":memory:")
        store.write(list(calls))
        path = tmp_path / "proposal.toml"
        path.write_text(toml)
        fall = waterfall(SqliteRecords(store.connection()), DAY, proposals.load(path), prices)
        store.close()
        return fall

    return replayed
