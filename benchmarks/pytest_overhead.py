"""What the pytest plugin costs a suite of 2,000 tests that make no calls: CPU of the whole run, side by side.

    python benchmarks/pytest_overhead.py [ROUNDS]

Three ways to run the same suite, interleaved in shuffled order: without the plugin (`-p no:tokenguard`), with it as it
comes, and asked to measure (`--tokenguard`). Other plugins are off, so that the suite is as cheap as can be and the
plugin's part as large. The figures are medians of each round's ratio to the run without, and are no better than the
noise below them; so the CPU that the plugin's import and its hooks take inside one run is measured as well, which tells
it exactly for a run that does not ask.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES, TESTS = 40, 50
WAYS = {
    "without": ["-p", "no:tokenguard"],
    "with the plugin": [],
    "measuring": ["--tokenguard"],
}
QUIET = ["asyncio", "anyio", "xdist", "hypothesispytest", "rerunfailures", "cacheprovider", "platformdirs"]

OWN = """
import sys, time
import pytest
from pluggy._hooks import HookImpl

spent, init = [], HookImpl.__init__

def timed(function):
    def call(*arguments):
        began = time.process_time()
        try:
            return function(*arguments)
        finally:
            spent.append(time.process_time() - began)
    return call

def registered(self, plugin, plugin_name, function, opts):
    init(self, plugin, plugin_name, function, opts)
    if getattr(plugin, "__name__", "") == "tokenguard.pytest_plugin":
        self.function = timed(function)

timed(__import__)("tokenguard.pytest_plugin")
HookImpl.__init__ = registered
pytest.main(sys.argv[1:])
print("own", sum(spent), "of", time.process_time())
"""


def write_suite(folder):
    """Tests as suites have them: plain ones, with fixtures, parametrised, in classes."""
    for file in range(FILES):
        lines = ["import pytest", "", "@pytest.fixture", "def thing():", "    return {'a': 1}", ""]
        for test in range(TESTS // 5):
            lines += [
                f"def test_plain_{test}():",
                f"    assert {test} + 1 == {test + 1}",
                f"def test_fixture_{test}(thing):",
                "    assert thing['a'] == 1",
                f"class TestClass{test}:",
                "    def test_method(self, thing):",
                "        assert 'a' in thing",
                "@pytest.mark.parametrize('n', [1, 2])",
                f"def test_each_{test}(n):",
                "    assert n > 0",
            ]
        Path(folder, f"test_{file}.py").write_text("\n".join(lines) + "\n")
    Path(folder, "pytest.ini").write_text("[pytest]\n")


def run(folder, arguments):
    """Run the suite; CPU seconds and wall seconds."""
    quiet = [word for name in QUIET for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *quiet, *arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    assert f"{FILES * TESTS} passed" in done.stdout, done.stdout + done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def own(folder):
    """The plugin's own CPU seconds in a run that does not ask, and those of the run."""
    quiet = [word for name in QUIET for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-c", OWN, "-q", *quiet]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    _, spent, _, whole = done.stdout.splitlines()[-1].split()
    return float(spent), float(whole)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    chance = random.Random(7)
    cpu = {name: [] for name in WAYS}
    wall = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        write_suite(folder)
        for name in WAYS:
            run(folder, WAYS[name])  # compiled files are written
        for _ in range(rounds):
            for name in chance.sample(list(WAYS), len(WAYS)):
                seconds, waited = run(folder, WAYS[name])
                cpu[name].append(seconds)
                wall[name].append(waited)
        owns = [own(folder) for _ in range(5)]
    print(f"{FILES * TESTS} tests, {rounds} rounds, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}\n")
    print("| run | CPU s | ratio | wall s | added ms |\n|---|---:|---:|---:|---:|")
    for name in WAYS:
        ratios = [ours / bare for ours, bare in zip(cpu[name], cpu["without"], strict=True)]
        added = [1e3 * (ours - bare) for ours, bare in zip(cpu[name], cpu["without"], strict=True)]
        print(
            f"| {name} | {statistics.median(cpu[name]):.3f} | {statistics.median(ratios):.4f} "
            f"| {statistics.median(wall[name]):.3f} | {statistics.median(added):+.0f} |"
        )
    noise = statistics.median(abs(each / statistics.median(cpu["without"]) - 1) for each in cpu["without"])
    print(f"\nNoise (median deviation of the run without): {noise:.2%}")
    spent, share = (statistics.median(each) for each in zip(*((s, s / whole) for s, whole in owns), strict=True))
    print(f"The plugin's import and hooks, where nothing asks: {1e3 * spent:.1f} ms CPU, {share:.2%} of the run")


if __name__ == "__main__":
    main()
