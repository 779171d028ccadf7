"""A batch is created by one process and collected by others: one account, in one store."""

from __future__ import annotations

import os
import subprocess
import sys

import openai
import pytest

from batches.conftest import finished, hand
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.store.store import read_store

CREATES = """
import sys
sys.path.insert(0, sys.argv[2])
import openai, tokenguard
from batches.conftest import create, line
tokenguard.install()
client = openai.OpenAI(base_url=sys.argv[1], api_key="k")
with tokenguard.attribution(tenant="creator", feature="nightly"), tokenguard.task("tagging"):
    print(create(client, [line(n) for n in range(1000)]).id)
"""

COLLECTS = """
import sys
import openai, tokenguard
tokenguard.install()
client = openai.OpenAI(base_url=sys.argv[1], api_key="k")
with tokenguard.attribution(tenant="collector"):
    for _ in range(int(sys.argv[3])):
        batch = client.batches.retrieve(sys.argv[2])
        assert len(client.files.content(batch.output_file_id).text.splitlines()) == 1000
"""


@pytest.mark.apart
def test_a_thousand_lines_collected_three_times_by_two_processes(provider, tmp_path):
    """Three readings by two processes at once, of a third's batch, come to the hand-worked sum once, the creator's."""
    policy = tmp_path / "tokenguard.toml"
    policy.write_text(
        '[ledger]\nurl = "sqlite:///ledger.db"\n[[budget]]\nname = "all"\nlimit_usd = 5\nwindow = "total"\n'
    )
    store = tmp_path / "usage.db"
    env = {**os.environ, "TOKENGUARD_STORE": str(store), "TOKENGUARD_POLICY": str(policy)}
    here = os.path.dirname(os.path.dirname(__file__))

    def run(program, *arguments):
        command = [sys.executable, "-c", program, provider.openai_url, *map(str, arguments)]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    with run(CREATES, here) as creator:
        created = creator.communicate(timeout=60)[0].strip()
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        finished(client, client.batches.retrieve(created))
    readers = [run(COLLECTS, created, times) for times in (2, 1)]
    for reader in readers:
        with reader:
            assert reader.wait(60) == 0
    calls = [each for each in read_store(store) if isinstance(each, CallRecord)]
    billed = provider.billed_for(api="batch")
    assert len(calls) == 1000
    assert len({call.attributes[names.BATCH_CUSTOM_ID] for call in calls}) == 1000
    assert {call.attributes["tokenguard.tenant"] for call in calls} == {"creator"}
    assert {call.attributes[names.TASK] for call in calls} == {"tagging"}
    assert sum(call.cost_usd for call in calls) == pytest.approx(hand(billed), rel=1e-12)
    from tokenguard.ledger.sqlite import SqliteLedger

    ledger = SqliteLedger(tmp_path / "ledger.db")
    (account,) = ledger.accounts()
    ledger.close()
    assert account.reserved_nano == 0
    assert account.spent_nano / 1e9 == pytest.approx(hand(billed), abs=1000e-9)
