"""Instructions that metering adds to a call on the caller's path, and the gate that keeps them where they are.

    python benchmarks/counted.py            compare with benchmarks/counts.json: 5 % off fails (a stream is shown)
    python benchmarks/counted.py --update   write them there, after a deliberate change

Counted by valgrind (`counting.py`), with real SDKs over the in-process transport, after a warm-up and with a fixed hash
seed. What other threads and a process's addresses put on top is one per cent or two, and more the longer a count takes:
so the turns are few, and the least of three counts is told. Other versions of Python or of an SDK take other
instructions. There, what is compared is the ratio to the hand-written floor, which is counted beside it.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import counting
from contenders import CONTENDERS
from run import Process, note

FILE = Path(__file__).with_name("counts.json")
TURNS = {"chat": 10, "stream": 2, "anthropic": 10}
"""Scenarios, and over how many turns each is counted."""
TIMES = 3
"""How often it is; the least counts."""
GATED = ("floor", "tokenguard", "tokenguard, guarded")
TOLERANCE = {"chat": 0.05, "anthropic": 0.05}
"""What decides. What a stream takes by itself differs from run to run by as much as is added to it."""
ELSEWHERE = 0.10
"""The tolerance of a ratio to the floor, where versions are others than those of the file."""

Counts = dict[str, dict[str, int]]


def counted(names: Iterable[str], python: Path, turns: dict[str, int], folder: Path) -> dict[str, Counts]:
    """Contender -> scenario -> instructions of a call; and `versions` of what they were counted with."""
    found: dict[str, Counts] = {}
    for contender in (each for each in CONTENDERS if each.name in names):
        note(f"{contender.name}: counting")
        own = folder / f"{len(found)}"
        own.mkdir()
        worker = Process(contender, python, own, counts=tuple(turns))
        found[contender.name] = {
            scenario: min(worker.ask("count", scenario=scenario, n=n)["instructions"] for _ in range(TIMES)) // n
            for scenario, n in turns.items()
            if scenario in worker.hello["scenarios"]
        }
        found.setdefault("versions", {"python": platform.python_version(), **worker.hello["libraries"]})
        worker.close()
    return found


def added(found: dict[str, Counts]) -> dict[str, Counts]:
    """What each contender adds to the bare SDK's call."""
    bare = found["bare"]
    return {
        name: {scenario: count - bare[scenario] for scenario, count in counts.items()}
        for name, counts in found.items()
        if name not in ("bare", "versions")
    }


def drift(before: dict[str, Counts], now: dict[str, Counts], *, same: bool) -> list[str]:
    """A line for each figure that is not where it was."""
    said = []
    for name in GATED[1:]:
        for scenario in TOLERANCE:
            old, new = before[name][scenario], now[name][scenario]
            if not same:
                old = round(old * now["floor"][scenario] / before["floor"][scenario])
            if abs(new / old - 1) > (TOLERANCE[scenario] if same else max(TOLERANCE[scenario], ELSEWHERE)):
                said.append(f"{name}, {scenario}: {new:,} instructions a call, {new / old - 1:+.1%} against {old:,}")
    return said


def main() -> int:
    """Count, and compare or write."""
    if (missing := counting.missing()) is not None:
        print(f"not counted: {missing}. Debian: apt-get install valgrind gcc", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="counted-") as folder:
        found = counted(("bare", *GATED), Path(sys.executable), TURNS, Path(folder))
    now = {"versions": found["versions"], "added": added(found)}
    print(f"{'instructions added to a call':34}" + "".join(f"{scenario:>12}" for scenario in TURNS))
    for name, counts in now["added"].items():
        print(f"{name:34}" + "".join(f"{counts[scenario]:12,}" for scenario in TURNS))
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
    for line in moved:
        print(line)
    if moved:
        print(f"The path has changed. If that is wanted, say so in the commit: {sys.argv[0]} --update")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
