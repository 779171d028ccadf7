"""A signal that would have ended the program ends it, whatever the main thread is doing, and nothing that had ended is
lost; and nobody else's signals and files are touched."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from process.programs import run

pytestmark = pytest.mark.apart

OK = "ok"
DEAF = "os.system('exec >/dev/null 2>&1; kill -TERM $PPID; sleep 60')"
"""The main thread waits in C for a shell, and is not woken by the signal that comes meanwhile."""

PROGRAMS = {
    "the program": ("one()\n" + DEAF, 1),
    "without a call": (DEAF, 0),
    "after a fork": ("one()\nif not os.fork(): os._exit(0)\nos.wait()\none()\n" + DEAF, 2),
    "after an event loop's own signals": (
        "import asyncio\nasync def main():\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)\n"
        "    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)\n"
        "asyncio.run(main())\none()\n" + DEAF,
        1,
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_deaf(tmp_path: Path, program: str) -> None:
    """Where Python's handlers do not run, the program dies of the signal all the same."""
    text, calls = PROGRAMS[program]
    ended = run(tmp_path, text)
    assert (ended.code, ended.outcomes) == (-signal.SIGTERM, [OK] * calls)
    assert ended.reserved in (0, -1)
    assert ended.seconds < 30


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("calls", [0, 1])
def test_deaf_worker(tmp_path: Path, method: str, calls: int) -> None:
    """Who waits for a worker that it has terminated does not wait for ever."""
    work = (
        "DEAF = 'exec >/dev/null 2>&1; sleep 20'\n"
        f"def works(queue):\n    for _ in range({calls}): one()\n    queue.put(1); os.system(DEAF)\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n    one(); queue = context.SimpleQueue()\n"
        "    worker = context.Process(target=works, args=(queue,)); worker.start(); queue.get(); time.sleep(0.2)\n"
        "    began = time.monotonic(); worker.terminate(); worker.join()\n"
        "    print(worker.exitcode, time.monotonic() - began < 15)"
    )
    ended = run(tmp_path, work)
    assert (ended.code, ended.output, ended.outcomes) == (0, "-15 True\n", [OK] * (1 + calls))
    assert ended.reserved == 0


def test_handlers_of_the_programs_own(tmp_path: Path) -> None:
    """One that the program has set is called once, when Python can, and nothing else ends the program."""
    ended = run(
        tmp_path,
        "one()\nheard = []\nsignal.signal(signal.SIGTERM, lambda *_: heard.append(1))\n"
        "os.system('kill -TERM $PPID; sleep 2')\nprint(heard)",
    )
    assert (ended.code, ended.output, ended.outcomes) == (0, "[1]\n", [OK])


def test_the_wakeup_file_of_the_programs_own(tmp_path: Path) -> None:
    """The program sees none of ours, and its own gets what it should; trio warns of one that is not its own."""
    ended = run(
        tmp_path,
        "one()\nears, mouth = os.pipe(); os.set_blocking(mouth, False)\n"
        "print(signal.set_wakeup_fd(mouth), signal.set_wakeup_fd(mouth, warn_on_full_buffer=False) == mouth)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\nsignal.raise_signal(signal.SIGUSR1)\n"
        "print(list(os.read(ears, 9)) == [signal.SIGUSR1])\n"
        "print(signal.set_wakeup_fd(-1) == mouth, signal.set_wakeup_fd(-1))\n",
    )
    assert (ended.code, ended.output) == (0, "-1 True\nTrue\nTrue -1\n")


def test_many_signals_of_the_programs_own(tmp_path: Path) -> None:
    """A profiler's timer ends nothing, and does not keep a signal from ending the program."""
    ended = run(
        tmp_path,
        "signal.signal(signal.SIGPROF, lambda *_: None); signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)\n"
        "one()\nuntil = time.monotonic() + 1\nwhile time.monotonic() < until: pass\n" + DEAF,
    )
    assert (ended.code, ended.outcomes) == (-signal.SIGTERM, [OK])
    assert ended.seconds < 30


def test_a_daemon_that_closes_its_files(tmp_path: Path) -> None:
    """No file that is opened later is written to: ours had numbers that are not given again."""
    ended = run(
        tmp_path,
        "import resource\nsignal.signal(signal.SIGUSR1, lambda *_: None)\none()\ntime.sleep(0.3)\n"
        "os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "files = [os.open(f'file{number}', os.O_RDWR | os.O_CREAT) for number in range(30)]\n"
        "os.dup2(files[0], 2)\nsignal.raise_signal(signal.SIGUSR1)\ntime.sleep(0.1)\n"
        "print([os.fstat(file).st_size for file in files[1:]] == [0] * 29, flush=True)\n"
        "signal.raise_signal(signal.SIGTERM)",
    )
    assert (ended.code, ended.output.splitlines()[-1]) == (-signal.SIGTERM, "True")


AMONG_THREADS = """
if os.path.exists("/proc/self/task"):
    count = lambda: print(len(os.listdir("/proc/self/task")), flush=True)
else:
    count = lambda: print(1, flush=True)
os.register_at_fork(before=count)  # runs last, as it was registered first
"""


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("store", ["on", "off"])
def test_a_fork_among_threads(tmp_path: Path, store: str, later: bool) -> None:
    """No thread of ours runs while a process forks: Python warns of it since 3.12. What was due then is done.

    The operating system takes a moment for it, which may be too long on a busy machine; so one of five forks is enough.
    """
    drained = "from tokenguard.installation import runtime; runtime.installed().telemetry.flush()" if later else ""
    program = f"one()\n{drained}\nif not os.fork(): os._exit(0)\nos.wait()\n"
    off = {"TOKENGUARD_STORE": "off"} if store == "off" else {}
    ended = run(tmp_path, program * 5, before=AMONG_THREADS, **off)
    assert (ended.code, min(ended.output.split())) == (0, "1")
    assert ended.outcomes == ([OK] * 5 if store == "on" else [])
    assert ended.reserved == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python does not warn of it")
def test_no_warning_at_a_fork(tmp_path: Path) -> None:
    """As a test suite would see it that makes errors of warnings."""
    program = (
        "import warnings\nwith warnings.catch_warnings(record=True) as all:\n    warnings.simplefilter('always')\n"
        "    for _ in range(5):\n        one()\n        if not os.fork(): os._exit(0)\n        os.wait()\n"
        "print(len(all) < 5)"
    )
    ended = run(tmp_path, program)
    assert (ended.code, ended.output, ended.outcomes) == (0, "True\n", [OK] * 5)
