"""One process of the stress test: threads and tasks that reserve, send (a line in a log of its own) and settle.

    worker.py URL LOG SECONDS THREADS TASKS SLICE SEED

The log has `sent ID NANO` before a call's money is spent, `settling ID NANO` and `done ID NANO` around its settle
(`soon` in place of `done` where it is off the call's path), `alert BUDGET PERCENT` for what this process was told, and
`end - 0` when it has closed its ledger.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time

from tokenguard.ledger import Alert, Entry, Ledger, Refusal, Reservation, nano

LEASE_S = 1.5
LIMIT = nano(1.0)
SHARED = Entry("shared", "", 0, 2**31, LIMIT, None, (0.1, 0.25, 0.5, 0.75, 0.9))
OTHERS = [Entry("each", f"worker={i}", 0, 2**31, LIMIT, 10**9) for i in range(4)]


def open_ledger(url: str) -> Ledger:
    if url.startswith("redis:"):
        from tokenguard.ledger.redis import RedisLedger

        return RedisLedger(url, lease_s=LEASE_S, timeout_s=30)
    from tokenguard.ledger.sqlite import SqliteLedger

    return SqliteLedger(url, lease_s=LEASE_S, timeout_s=60)


def main() -> None:
    url, log, seconds, threads, tasks, share, seed = sys.argv[1:]
    ledger = open_ledger(url)
    if float(share):
        from tokenguard.ledger.slices import SlicedLedger

        ledger = SlicedLedger(ledger, share=float(share), slice_lease_s=0.5, idle_s=0.3)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    until = time.monotonic() + float(seconds)
    chance = random.Random(int(seed))

    def note(what: str, made: Reservation, amount: int) -> None:
        os.write(out, f"{what} {made.id} {amount}\n".encode())

    def hear(alerts: tuple[Alert, ...]) -> None:
        for alert in alerts:
            os.write(out, f"alert {alert.entry.budget} {alert.threshold * 100:.0f}\n".encode())

    ledger.on_alerts = hear

    def call() -> tuple[list[Entry], int, int]:
        asked = chance.randrange(LIMIT // 4000, LIMIT // 100)
        return [SHARED, chance.choice(OTHERS)], asked, chance.randrange(asked // 10 + 1)

    def in_a_thread() -> None:
        while time.monotonic() < until:
            entries, asked, actual = call()
            made = ledger.reserve(entries, asked, 100)
            if isinstance(made, Refusal):
                time.sleep(0.005)
                continue
            note("sent", made, asked)
            time.sleep(chance.random() * 0.01)
            note("settling", made, actual)
            if chance.random() < 0.5:
                ledger.settle_soon(made, actual, 50)
                note("soon", made, actual)
            else:
                hear(ledger.settle(made, actual, 50))
                note("done", made, actual)

    async def in_a_task() -> None:
        while time.monotonic() < until:
            entries, asked, actual = call()
            made = await ledger.run(ledger.reserve, entries, asked, 100)
            if isinstance(made, Refusal):
                await asyncio.sleep(0.005)
                continue
            note("sent", made, asked)
            await asyncio.sleep(chance.random() * 0.01)
            note("settling", made, actual)
            hear(await ledger.run(ledger.settle, made, actual, 50))
            note("done", made, actual)

    async def all_tasks() -> None:
        await asyncio.gather(*(in_a_task() for _ in range(int(tasks))))

    workers = [threading.Thread(target=in_a_thread) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    asyncio.run(all_tasks())
    for worker in workers:
        worker.join()
    ledger.close()
    os.write(out, b"end - 0\n")


if __name__ == "__main__":
    main()
