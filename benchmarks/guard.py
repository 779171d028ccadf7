"""What the guard's decision adds to a call: 20 limits and 10 budgets, against the same calls with no policy.

    .venv/bin/python benchmarks/guard.py            the table
    .venv/bin/python benchmarks/guard.py --readme   the same, and into docs/benchmarks.md and README.md
    .venv/bin/python benchmarks/guard.py --growth   how it grows with rules, budgets, tenants, messages, tools and texts

The path of a call without its SDK, in one process, CPU of the calling thread, medians over interleaved rounds: what
comes before the request is sent (the decision), and what comes after the answer (settling); and the decision by itself,
in a loop, where the processor's caches are its own. All 30 rules apply to the call. The prompt is 100 kB, so that only
its length may decide.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

os.environ["TOKENGUARD_STORE"] = "off"

import openai
import table
from openai._models import FinalRequestOptions

import tokenguard
from tokenguard import policy
from tokenguard.call.flow import SEND, Answer
from tokenguard.installation import runtime
from tokenguard.metering.meter import Meter
from tokenguard.seams import stainless

BODY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "system", "content": "word " * 20_000}, {"role": "user", "content": "?"}],
    "max_tokens": 100,
}
RULES = "".join(
    f'[[limit]]\nname = "l{n}"\nwhen = {{ feature = "f*" }}\nmax_input_tokens = {200_000 + n}\n'
    f"max_output_tokens = {500 + n}\nmax_tool_steps = {9 + n}\n"
    for n in range(20)
) + "".join(
    f'[[budget]]\nname = "b{n}"\nper = ["tenant"]\nwindow = "{window}"\nlimit_usd = 1000000\n'
    for n, window in enumerate(["minute", "hour", "day", "week", "month"] * 2)
)
LEDGERS = {
    "memory": '[ledger]\nurl = "memory:"\n',
    "sqlite": '[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n',
    "sqlite, slices": '[ledger]\nurl = "sqlite:///{folder}/sliced.db"\nslice = 0.01\n',
}
SHOWN = {
    "memory": "memory",
    "sqlite": "SQLite, shared by the machine's processes",
    "sqlite, slices": "SQLite with slices",
}
ROUNDS, TURNS = 31, 60
FAMILY = stainless.Family("openai", traces=False, omitted=frozenset(), look_at_headers=lambda: None)
ANSWER = {
    "id": "c",
    "model": "gpt-4o-mini",
    "choices": [{"finish_reason": "stop", "message": {"content": "."}}],
    "usage": {"prompt_tokens": 20_000, "completion_tokens": 10},
}
SHORT = {**ANSWER, "usage": {"prompt_tokens": 20, "completion_tokens": 10}}
"""To any of the requests that grow: no more than was held for it, as it ought to be."""


def turns(meter: Meter, client: openai.OpenAI, options: FinalRequestOptions) -> tuple[float, float]:
    """Microseconds a call takes before it is sent, and after its answer, over some calls."""
    before = after = 0
    for _ in range(TURNS):
        start = time.thread_time_ns()
        flow = meter.flow(stainless._exchange(client, options, {}, FAMILY))
        step = next(flow)
        while step is not SEND:
            _, operation, arguments = step
            step = flow.send(Answer(operation(*arguments)))
        sent = time.thread_time_ns()
        with contextlib.suppress(StopIteration):
            flow.send(Answer(ANSWER))
        before += sent - start
        after += time.thread_time_ns() - sent
    return before / TURNS / 1000, after / TURNS / 1000


def alone(meter: Meter, client: openai.OpenAI, options: FinalRequestOptions) -> float:
    """Microseconds of the decision by itself, in a loop: matching, limits, the bound, and the reservation."""
    guard = meter.guard
    exchange = stainless._exchange(client, options, {}, FAMILY)
    calls = [meter.begin(exchange)[0] for _ in range(TURNS)]
    start = time.thread_time_ns()
    for call in calls:
        guard.match(call)
        deciding = guard.admit(call, exchange)
        _, operation, arguments = next(deciding)
        with contextlib.suppress(StopIteration):
            deciding.send(Answer(operation(*arguments)))
    taken = time.thread_time_ns() - start
    for call in calls:
        guard.ledger.release(call.reservation)
    return taken / TURNS / 1000


LIMIT = '[[limit]]\nname = "l{n}"\nwhen = {{ {when} }}\nmax_input_tokens = 50000000\n'
PLAIN = {"role": "user", "content": "word " * 80}
TOOL = {"type": "function", "function": {"name": "f", "description": "word " * 200, "parameters": {"type": "object"}}}
BUDGET = '[[budget]]\nname = "b{n}"\nper = ["tenant"]\nwindow = "day"\nlimit_usd = 1000000\n'
ONE = LIMIT.format(n=0, when="")


class Row(NamedTuple):
    """A policy and a request; a limit is always far away, and so is what a budget allows."""

    rules: str
    more: Mapping[str, object] = MappingProxyType({})
    tenants: int = 1
    """How many have been seen before, of which each call has any."""


def budgets(count: int) -> str:
    """So many budgets, each by tenant and day."""
    return "".join(BUDGET.format(n=n) for n in range(count))


def said(content: object) -> dict[str, object]:
    """A request of one message."""
    return {"messages": [{"role": "user", "content": content}]}


GROWTH: dict[str, Row] = {
    "1 limit": Row(ONE),
    "1,000 limits that all apply": Row("".join(LIMIT.format(n=n, when='tenant = "*"') for n in range(1_000))),
    "1,000 limits, one for each tenant": Row(
        "".join(LIMIT.format(n=n, when=f'tenant = "t{n}"') for n in range(1_000)),
    ),
    **{
        f"{n} budget{'s' * (n > 1)}, {SHOWN[ledger].partition(',')[0]}": Row(LEDGERS[ledger] + budgets(n))
        for ledger in ("memory", "sqlite")
        for n in (1, 10, 100)
    },
    **{f"{n:,} tenants, memory": Row(LEDGERS["memory"] + budgets(1), tenants=n) for n in (100, 10_000, 100_000)},
    **{f"{n:,} messages": Row(ONE, {"messages": [PLAIN] * n}) for n in (10, 100, 1_000, 10_000)},
    **{f"{n} tools of 1 kB": Row(ONE, {"tools": [TOOL] * n}) for n in (20, 200)},
    **{f"a text of {n:,} kB": Row(ONE, said("word " * 205 * n)) for n in (1, 100, 1_000, 5_000)},
    "1 MB of Chinese": Row(ONE, said("数" * 350_000)),
    "a picture of 10 MB": Row(ONE, said([{"type": "image_url", "image_url": {"url": "A" * 10**7}}])),
}


def growth(meter: Meter, client: openai.OpenAI, folder: str) -> None:
    """Print what a rule that is far away adds to the call: with a tenant seen before, and with a new one each time."""
    print(f"{'us a call, before it is sent':36}{'unguarded':>10}{'added':>8}{'new tenant':>12}")
    for number, (name, row) in enumerate(GROWTH.items()):
        own = Path(folder, f"{number}")
        own.mkdir()
        guarded = policy.loads(row.rules.format(folder=own) if "{folder}" in row.rules else row.rules)
        options = FinalRequestOptions.construct(
            method="post", url="/chat/completions", json_data={**BODY, "messages": [PLAIN], **row.more}
        )
        took: dict[str, list[float]] = {"unguarded": [], "seen": [], "new": []}
        tokenguard.install(guarded)
        guard = meter.guard
        for n in range(2 * row.tenants):  # who comes again is remembered
            with tokenguard.attribution(tenant=f"t{n % row.tenants + 7}", feature="f"):
                before(meter, client, options, 1)
        for n in range(ROUNDS):
            for kind in random.sample(list(took), len(took)):
                meter.guard = None if kind == "unguarded" else guard
                turns = 1 if kind == "new" else 5
                for again in range(5 if row.tenants > 1 else 1):
                    tenant = f"{n} {again}" if kind == "new" else f"t{7 + random.randrange(row.tenants)}"
                    with tokenguard.attribution(tenant=tenant, feature="f"):
                        took[kind].append(before(meter, client, options, 1 if row.tenants > 1 else turns))
        guard.close()
        bare, seen, new = (statistics.median(each[1:]) for each in took.values())
        print(f"{name:36}{bare:10.1f}{seen - bare:8.1f}{new - bare:12.1f}")


def before(meter: Meter, client: openai.OpenAI, options: FinalRequestOptions, turns: int) -> float:
    """Microseconds of a call before it is sent."""
    taken = 0
    for _ in range(turns):
        start = time.thread_time_ns()
        flow = meter.flow(stainless._exchange(client, options, {}, FAMILY))
        step = next(flow)
        while step is not SEND:
            _, operation, arguments = step
            step = flow.send(Answer(operation(*arguments)))
        taken += time.thread_time_ns() - start
        with contextlib.suppress(StopIteration):
            flow.send(Answer(SHORT))
    return taken / turns / 1000


def publish(added: dict[str, tuple[float, float, float]]) -> None:
    """Put the figures where they are shown: the table of the page, and the README's line."""
    head = "| ledger | before | after | the decision by itself |\n|---|---:|---:|---:|\n"
    rows = [f"| {SHOWN[name]} | {' | '.join(f'{us:.0f}' for us in values)} |\n" for name, values in added.items()]
    table.inject(head + "".join(rows), table.PAGE, "guard")
    line = (
        f"- **{added['memory'][2]:.0f} us** to decide over 20 limits and 10 budgets in memory, "
        f"{added['sqlite'][2]:.0f} us in SQLite.\n"
    )
    table.inject(line, table.README, "guard")


def main() -> None:
    client = openai.OpenAI(api_key="k")
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=BODY)
    tokenguard.install(policy.Policy())
    meter = runtime.installed().meter
    guards = {"no policy": None}
    with tempfile.TemporaryDirectory() as folder:
        if "--growth" in sys.argv:
            growth(meter, client, folder)
            return
        for name, ledger in LEDGERS.items():
            tokenguard.install(policy.loads(ledger.format(folder=folder) + RULES, str(Path(folder, "tokenguard.toml"))))
            guards[name] = meter.guard
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in guards}
        decisions: dict[str, list[float]] = {name: [] for name in LEDGERS}
        with tokenguard.attribution(tenant="t", feature="f"):
            for _ in range(ROUNDS):
                for name in random.sample(list(guards), len(guards)):
                    meter.guard = guards[name]
                    turns(meter, client, options)
                    gc.collect()
                    times[name].append(turns(meter, client, options))
                    if meter.guard is not None:
                        decisions[name].append(alone(meter, client, options))
        medians = {
            name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()
        }
        bare = medians.pop("no policy")
        print(f"{'us a call':24}{'before':>9}{'after':>9}{'decision alone':>17}")
        print(f"{'without a policy':24}{bare[0]:9.1f}{bare[1]:9.1f}")
        alone_us = {name: statistics.median(found) for name, found in decisions.items()}
        added = {name: (before - bare[0], after - bare[1], alone_us[name]) for name, (before, after) in medians.items()}
        for name, (before, after, decision) in added.items():
            print(f"{'added, ' + name:24}{before:9.1f}{after:9.1f}{decision:17.1f}")
        if "--readme" in sys.argv:
            publish(added)
        for guard in guards.values():
            if guard is not None:
                guard.close()


if __name__ == "__main__":
    sys.exit(main())
