"""A budget that refuses tells somebody, and tells the program when it may go on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import tokenguard
from canned import MESSAGES, openai_client
from exported import metric_points
from tokenguard import BudgetExceeded, policy
from tokenguard.installation import runtime

POLICY = """
[ledger]
url = "{url}"
[[budget]]
name = "b"
per = ["tenant"]
window = "day"
limit_usd = 0.001
"""


def ask():
    openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=35_000)


def test_a_dear_call(installed, caplog):
    """A call that never fits is an alert at once, though nothing is spent: one for all its repeats, and each counts."""
    text = POLICY.format(url="memory:").replace('"b"', '"dear"')
    tokenguard.install(policy.loads(text, "tokenguard.toml"))
    heard = []
    runtime.installed().meter.guard.alerter.on_alert = heard.append
    refused = []
    with caplog.at_level(logging.WARNING, "tokenguard.budget"), tokenguard.attribution(tenant="t1"):
        for _ in range(5):
            with pytest.raises(BudgetExceeded) as caught:
                ask()
            refused.append(caught.value)
    assert [(alert.threshold, alert.refused, alert.entry.key) for alert in heard] == [(1.0, True, "tenant=t1")]
    assert caplog.text.count("refuses calls") == 1
    error = refused[0]
    assert error.remaining == pytest.approx(0.001)
    assert error.resets_at.tzinfo is UTC
    assert datetime.now(UTC) < error.resets_at
    assert "Wait until 20" in str(error)
    refusals = [
        value
        for (name, labels), value in metric_points().items()
        if name == "tokenguard.budget.refusals" and ("budget", "dear") in labels
    ]
    assert refusals == [5]
    tokenguard.install(policy.Policy())


PROGRAM = """
import logging, sys
sys.path.insert(0, {tests!r})
logging.basicConfig(format="%(name)s %(message)s")
import tokenguard
from canned import MESSAGES, openai_client
tokenguard.install({path!r})
for _ in range(3):
    try:
        openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=35_000)
    except tokenguard.BudgetExceeded:
        print("refused", flush=True)
"""


@pytest.mark.apart
def test_once_over_all_processes(tmp_path):
    """Three processes that are all refused tell of it once."""
    path = tmp_path / "tokenguard.toml"
    path.write_text(POLICY.format(url="sqlite:///ledger.db"))
    program = PROGRAM.format(tests=os.path.dirname(os.path.dirname(__file__)), path=str(path))
    env = {**os.environ, "TOKENGUARD_STORE": "off"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=env, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    ended = [process.communicate(timeout=120) for process in running]
    assert sum(out.count("refused") for out, _ in ended) == 9
    assert sum(err.count("refuses calls") for _, err in ended) == 1


def test_what_is_less_than_a_millionth_is_told(installed):
    """An embedding costs some nano-dollars: its error says how many, and not that it costs nothing."""
    text = POLICY.format(url="memory:").replace("0.001", "0.00000001")
    tokenguard.install(policy.loads(text, "tokenguard.toml"))
    with pytest.raises(BudgetExceeded, match=r"\$0\.000000 spent .* of \$0\.000000010, .* is \$0\.000000\d{3}\."):
        openai_client().embeddings.create(model="text-embedding-3-small", input="one word")
    tokenguard.install(policy.Policy())
