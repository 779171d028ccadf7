"""Instructions that metering adds to a call on the caller's path, and the gate that keeps them where they are.

    python benchmarks/counted.py            compare with benchmarks/counts.json: dearer by more than `NOISE` fails
    python benchmarks/counted.py --update   write them there, after a deliberate change

Counted by valgrind (`counting.py`), with real SDKs over the in-process transport, after a warm-up: in each process the
least of a few counts, then the median of processes with different hash seeds. What is `added` is the difference of two
counts of whole calls, so its noise is theirs: it is shown, beside the hand-written floor. What decides is TokenGuard's
`own`: counting stops while the SDK's own method runs. A stream is read outside of that, so it decides nothing.

Other versions of Python or of an SDK take other instructions. There, what is compared is the ratio to the floor, which
is counted beside it.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import counting
from contenders import CONTENDERS, Contender
from run import Failed, Process, note

FILE = Path(__file__).with_name("counts.json")
TURNS = {"chat": 10, "stream": 2, "anthropic": 10}
"""Scenarios, and over how many turns each is counted."""
TIMES = {"chat": 3, "stream": 1, "anthropic": 3}
"""How often. The interpreter goes on adapting itself to a path for some hundred calls."""
GATED = ("tokenguard", "tokenguard, guarded")
OWN = ("chat", "anthropic")
NOISE = 0.03
"""What a figure of ours may move by and say nothing; it differs by 0.3 per cent from run to run."""
ELSEWHERE = 0.10
"""What a ratio to the floor may move by, where versions are others than those of the file."""

Counts = dict[str, int]
"""By scenario; of what is a contender's own by `own chat` and so on."""


def counted(
    pythons: Mapping[str, Path], turns: dict[str, int], folder: Path, own: Sequence[str] = ()
) -> dict[str, Counts]:
    """Contender -> scenario -> instructions of a call, with its `own` of some; `versions` of what was counted.

    A contender that cannot be counted is told of, and left out.
    """
    found: dict[str, Counts] = {}
    counting_one = functools.partial(counted_once, turns=turns, folder=folder, own=own)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = {
            each.name: [pool.submit(counting_one, each, pythons[each.name], seed=n) for n in range(counting.SEEDS)]
            for each in CONTENDERS
            if each.name in pythons
        }
        for name, seeds in asked.items():
            try:
                of_seeds = [seed.result() for seed in seeds]
            except Failed as reason:
                note(f"{name}: not counted, {reason}")
                continue
            note(f"{name}: counted")
            found.setdefault("versions", of_seeds[0][1])
            found[name] = {
                scenario: statistics.median_low(counts[scenario] for counts, _ in of_seeds)
                for scenario in of_seeds[0][0]
            }
    return found


def counted_once(
    contender: Contender, python: Path, *, turns: dict[str, int], folder: Path, own: Sequence[str], seed: int
) -> tuple[Counts, dict[str, str]]:
    """In a process of its own: scenario -> instructions of a call; and the versions there."""
    worker = Process(contender, python, Path(tempfile.mkdtemp(dir=folder)), counts=tuple(turns), seed=seed)
    there = {scenario: n for scenario, n in turns.items() if scenario in worker.hello["scenarios"]}

    def least(do: str, scenario: str) -> int:
        n = there[scenario]
        return min(worker.ask(do, scenario=scenario, n=n)["instructions"] for _ in range(TIMES[scenario])) // n

    counts = {scenario: least("count", scenario) for scenario in there}
    counts |= {f"own {scenario}": least("count_own", scenario) for scenario in own if scenario in there}
    worker.close()
    return counts, {"python": platform.python_version(), **worker.hello["libraries"]}


def added(found: dict[str, Counts]) -> dict[str, Counts]:
    """What each contender adds to the bare SDK's call."""
    bare = found["bare"]
    return {
        name: {scenario: count - bare[scenario] for scenario, count in counts.items()}
        for name, counts in found.items()
        if name not in ("bare", "versions")
    }


def drift(before: dict[str, Counts], now: dict[str, Counts], *, same: bool) -> dict[str, list[str]]:
    """`dearer` and `cheaper` -> a line for each figure that is not where it was."""
    moved: dict[str, list[str]] = {"dearer": [], "cheaper": []}
    for name, scenario in itertools.product(GATED, OWN):
        old, new = before[name][f"own {scenario}"], now[name][f"own {scenario}"]
        if not same:
            old = round(old * now["floor"][scenario] / before["floor"][scenario])
        if abs(new - old) > old * (NOISE if same else ELSEWHERE):
            line = f"{name}, {scenario}: {new:,} instructions of its own a call, {new / old - 1:+.1%} against {old:,}"
            moved["dearer" if new > old else "cheaper"].append(line)
    return moved


def main() -> int:
    """Count, and compare or write."""
    if (missing := counting.missing()) is not None:
        print(f"not counted: {missing}. Debian: apt-get install valgrind gcc", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="counted-") as folder:
        pythons = dict.fromkeys(("bare", "floor", *GATED), Path(sys.executable))
        found = counted(pythons, TURNS, Path(folder), OWN)
    if uncounted := [name for name in pythons if name not in found]:
        print(
            f"nothing to compare: {', '.join(uncounted)} could not be counted (why is said above). "
            "The scenarios need openai and anthropic: make setup",
            file=sys.stderr,
        )
        return 1
    now = {"versions": found["versions"], "added": added(found)}
    columns = (*TURNS, *(f"own {scenario}" for scenario in OWN))
    print(f"{'instructions added to a call':34}" + "".join(f"{column:>15}" for column in columns))
    for name, counts in now["added"].items():
        print(f"{name:34}" + "".join(f"{counts[column]:15,}" for column in columns))
    if "--update" in sys.argv:
        FILE.write_text(json.dumps(now, indent=2) + "\n")
        return 0
    before = json.loads(FILE.read_text())
    same = before["versions"] == now["versions"]
    if not same:
        print(
            f"{FILE.name} was counted with {before['versions']}, this is {now['versions']}: ratios to the floor decide"
        )
    moved = drift(before["added"], now["added"], same=same)
    for line in (*moved["dearer"], *moved["cheaper"]):
        print(line)
    if any(moved.values()):
        print(f"The path has changed. If that is wanted, say so in the commit: {sys.argv[0]} --update")
    return 1 if moved["dearer"] else 0


if __name__ == "__main__":
    sys.exit(main())
