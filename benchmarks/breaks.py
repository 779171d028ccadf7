"""That looking at requests does not grow: `python benchmarks/breaks.py [CALLS]`, a million by default, five minutes.

Calls of 100,000 tenants, 50 features and 20 versions of prompts go through what finds broken prompt caches, as the
telemetry thread has them go. Prints the resident memory at each tenth, what is kept, and what a call takes.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.inputs.look import Looker
from tokenguard.inputs.request import snapshot
from tokenguard.prices import PriceBook
from tokenguard.providers import openai

CALLS = 1_000_000
TENANTS, FEATURES, VERSIONS = 100_000, 50, 20
RULES = [f"Rule {i}: on matter {i * 7919 % 1000} be calm, name section {i} and give a reason.\n" for i in range(400)]


def resident() -> float:
    """Megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Print it."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    rng = random.Random(1)
    looker = Looker()
    looker.prices = PriceBook()
    prompts = ["".join(rng.sample(RULES, 60)) for _ in range(FEATURES * VERSIONS)]
    start = time.time_ns()
    breaks: dict[str, int] = {}
    spent = 0.0
    print("| calls | resident, MB | chains | blocks | us a call |\n|---:|---:|---:|---:|---:|")
    for n in range(1, calls + 1):
        which = rng.randrange(len(prompts))
        feature, version = divmod(which, VERSIONS)
        prompt = f"It is {n}.\n{prompts[which]}" if version % 4 == 0 else prompts[which]
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": f"Question {n}?"}],
        }
        tokens = len(prompt) // 4
        at = start + n * 1_000_000
        attributes = {
            names.PROVIDER: "openai",
            names.REQUEST_MODEL: "gpt-4o",
            names.INPUT_TOKENS: tokens,
            names.CACHE_READ_TOKENS: 0,
            "tokenguard.tenant": f"t{rng.randrange(TENANTS) if rng.random() < 0.5 else rng.randrange(20)}",
            "tokenguard.feature": f"f{feature}",
            "tokenguard.prompt_version": f"v{version}",
        }
        usage = Usage(input=tokens, output=50, cache_read=0)
        cost = looker.prices.cost("openai", "gpt-4o", usage, at_ns=at)
        record = CallRecord(at, 1000, names.OK, attributes, usage=usage, cost=cost)
        data, _ = snapshot(openai.CHAT.id, "openai", body)
        began = time.thread_time()
        seen = looker.look(record, openai.CHAT, data).attributes
        spent += time.thread_time() - began
        if (kind := seen.get(names.BREAK_KIND)) is not None:
            breaks[str(kind)] = breaks.get(str(kind), 0) + 1
        if n % (calls // 10) == 0:
            chains = looker._chains
            print(
                f"| {n:,} | {resident():.1f} | {chains._chains:,} | {chains._blocks:,} | {spent / n * 1e6:.0f} |",
                flush=True,
            )
    print(f"\nbreaks found: {breaks}")


if __name__ == "__main__":
    main()
