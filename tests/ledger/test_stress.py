"""Many processes, threads and tasks on one budget, some of them killed: it is never overspent, and the sums are right.

`TOKENGUARD_STRESS=8x16` runs 8 processes of 16 threads and 16 tasks for half a minute instead of a small run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenguard.ledger import NANO

from . import worker

PROCESSES, _, THREADS = os.environ.get("TOKENGUARD_STRESS", "3x4").partition("x")
SECONDS = 30.0 if "TOKENGUARD_STRESS" in os.environ else 1.5


@pytest.mark.parametrize("share", [0.0, 0.02], ids=["each call", "slices"])
@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_no_overspend_with_killed_workers(
    engine: str, share: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """At every look spent plus reserved is within the limit; in the end what is spent is what went out."""
    url = request.getfixturevalue("redis_server").url if engine == "redis" else str(tmp_path / "ledger.db")
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    logs: list[Path] = []
    running: list[subprocess.Popen[bytes]] = []
    killed = 0

    def start(seconds: float) -> None:
        logs.append(tmp_path / f"{len(logs)}.log")
        args = [url, str(logs[-1]), str(seconds), THREADS, THREADS, str(share), str(seed + len(logs))]
        running.append(subprocess.Popen([sys.executable, worker.__file__, *args]))

    until = time.monotonic() + SECONDS + 0.5
    for _ in range(int(PROCESSES)):
        start(SECONDS)
    ledger = worker.open_ledger(url)
    looks = 0
    while any(process.poll() is None for process in running):
        looks += 1
        shared, *others = ledger.read([worker.SHARED, *worker.OTHERS])
        assert shared.spent_nano + shared.reserved_nano <= worker.LIMIT, f"seed {seed}"
        for other in others:
            assert other.spent_nano + other.reserved_nano <= worker.LIMIT, f"seed {seed}"
        left = until - time.monotonic()
        if left > 0.3 and chance.random() < 0.05 and killed < 20:
            victim = chance.choice([process for process in running if process.poll() is None] or running)
            victim.send_signal(signal.SIGKILL)
            killed += 1
            start(left - 0.3)
        time.sleep(0.01)
    codes = [process.wait() for process in running]
    assert set(codes) <= {0, -signal.SIGKILL}, f"a worker failed: {codes}, seed {seed}"
    assert looks > 10

    time.sleep(worker.LEASE_S + (0.5 if share else 0) + 0.1)  # what the killed ones held is charged now
    end = ledger.read([worker.SHARED])[0]
    left_over = ledger.alerts([worker.SHARED])
    ledger.close()
    assert end.reserved_nano == 0
    assert end.spent_nano <= worker.LIMIT
    alerts = [round(alert.threshold * 100) for alert in left_over]
    events: dict[str, dict[str, int]] = {"sent": {}, "settling": {}, "done": {}}
    for log in logs:
        lines = log.read_text().splitlines() if log.exists() else []
        ended = "end - 0" in lines
        for line in lines:
            what, call, amount = line.split()
            if what == "soon" and ended:  # else nobody knows whether it was written before the process was killed
                what = "done"
            if what in ("soon", "end"):
                continue
            if what == "alert":
                alerts.append(int(amount))
                continue
            events[what][call] = int(amount)
    done = sum(events["done"].values())
    lost = [call for call in events["sent"] if call not in events["done"]]
    assert len(events["done"]) > 20, "there was something to count"
    print(
        f"seed {seed}: {len(codes)} processes, {killed} killed, {len(events['done'])} calls, {looks} looks, spent"
        f" {end.spent_nano / NANO:.4f}, of it orphaned {end.orphaned_nano / NANO:.4f}, {len(lost)} calls lost"
    )
    assert len(alerts) == len(set(alerts)), f"told twice: {alerts}"
    due = {round(at * 100) for at in worker.SHARED.alert_at if at <= end.spent_nano / worker.LIMIT}
    assert set(alerts) <= due, "a worker that was killed may have taken one with it"
    if not killed:
        assert set(alerts) == due
        assert (end.spent_nano, end.orphaned_nano) == (done, 0)
    elif not share:
        # A call that was killed while it settled is charged with either amount.
        unsure = sum(events["settling"].get(call, 0) for call in lost)
        assert done <= end.spent_nano - end.orphaned_nano <= done + unsure
    # Every call that went out is paid for: with what it cost if that is known, else with what was reserved for it.
    assert end.spent_nano >= done + sum(events["settling"].get(call, events["sent"][call]) for call in lost)
