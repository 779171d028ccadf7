"""What pricing a call costs: `python benchmarks/prices.py` prints microseconds per operation, and the import."""

from __future__ import annotations

import subprocess
import sys
import time
import timeit

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier

AT = 1_795_176_000 * 10**9
PLAIN = Usage(input=1_000, output=100, cache_read=0, reasoning=64)
CACHED = Usage(input=60_000, output=1_000, cache_read=20_000, cache_write=30_000, cache_write_1h=20_000)


def microseconds(operation, number=100_000):
    """The best of five rounds."""
    return min(timeit.repeat(operation, number=number, repeat=5)) / number * 1e6


def measure():
    """Microseconds per operation, by name."""
    book, models = PriceBook(), ("gpt-4o-2024-08-06", "gpt-4o")
    sonnet, tier = "claude-sonnet-4-5", Tier("default")
    names = iter(f"model-{number}" for number in range(10**9))
    started = time.perf_counter()
    book.rates("openai", "gpt-4o", at_ns=AT)
    first = (time.perf_counter() - started) * 1e6
    return {
        "first rates(), with the import of genai-prices": first,
        "rates(), resolved": microseconds(lambda: book.rates("openai", models, tier=tier, at_ns=AT)),
        "cost(), plain": microseconds(lambda: book.cost("openai", models, PLAIN, tier=tier, at_ns=AT)),
        "cost(), read and two writes": microseconds(lambda: book.cost("anthropic", sonnet, CACHED, at_ns=AT)),
        "cost_nano()": microseconds(lambda: book.cost_nano("openai", models, PLAIN, at_ns=AT)),
        "worst_case_nano()": microseconds(lambda: book.worst_case_nano("openai", models, 1_000, 100, at_ns=AT)),
        "rates(), known model not yet resolved": microseconds(lambda: PriceBook().rates("openai", models), 200),
        "rates(), unknown model": microseconds(lambda: book.rates("openai", next(names), at_ns=AT), 200),
    }


if __name__ == "__main__":
    for name, taken in measure().items():
        print(f"{name:48} {taken:12,.2f} us")
    code = "from time import time as t; import tokenguard; s = t(); import tokenguard.prices; print((t() - s) * 1e6)"
    taken = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    print(f"{'import tokenguard.prices, after tokenguard':48} {taken:12,.2f} us")
