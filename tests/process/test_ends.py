"""However a program ends, what it had finished is kept, what was open is ended, and nothing keeps it from ending."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from process.programs import run

pytestmark = pytest.mark.apart

OK, ABANDONED = "ok", "abandoned"

OPEN_AT_THE_END = {
    "broken off in main": "for chunk in stream(): break",
    "broken off in a function": "def main():\n    for chunk in stream(): break\nmain()",
    "held by a global": "held = stream()\nnext(iter(held))",
    "never read": "held = stream()",
    "held by a cycle": "class Holder: pass\nh = Holder(); h.me = h; h.stream = stream(); next(iter(h.stream))\ndel h",
    "a SystemExit in the loop": "for chunk in stream(): sys.exit(0)",
    "held by a daemon thread": (
        "def work():\n    for chunk in stream(): begun.set(); time.sleep(60)\n"
        "begun = threading.Event(); threading.Thread(target=work, daemon=True).start(); begun.wait()"
    ),
    "broken off in a generator of another thread": (
        "def pieces():\n    for chunk in stream(): yield chunk\n"
        "def work():\n    for piece in pieces(): break\n"
        "t = threading.Thread(target=work); t.start(); t.join()"
    ),
    "in a loop of asyncio": (
        "import asyncio\n"
        "http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(provider))\n"
        "client = openai.AsyncOpenAI(api_key='k', http_client=http_client)\n"
        "async def main():\n    global held\n    held = await stream()\n    async for chunk in held: break\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("store", ["on", "off"])
@pytest.mark.parametrize("program", OPEN_AT_THE_END)
def test_open_stream(tmp_path: Path, program: str, store: str) -> None:
    """A stream that is open when the program ends is recorded once, as abandoned, and its reservation is settled."""
    off = {"TOKENGUARD_STORE": "off"} if store == "off" else {}
    ended = run(tmp_path, OPEN_AT_THE_END[program], guarded=store == "on", **off)
    assert (ended.code, "tokenguard" in ended.output) == (0, False)  # openai itself may complain of the shutdown
    assert ended.outcomes == ([ABANDONED] if store == "on" else [])
    if store == "on":
        assert ended.spent > 0
        assert ended.reserved == 0


CANCELLED = """
import asyncio
http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(provider))
client = openai.AsyncOpenAI(api_key='k', http_client=http_client)
def alarm(number, frame): raise TimeoutError
async def read(begun):
    async for chunk in await stream():
        begun.set()
        await asyncio.sleep(60)
async def main():
    begun = asyncio.Event()
    task = asyncio.create_task(read(begun))
    await begun.wait()
    {how}
    await task
signal.signal(signal.SIGINT, signal.default_int_handler)
try: asyncio.run(main())
except (asyncio.CancelledError, KeyboardInterrupt, TimeoutError): print("passed on")
"""


@pytest.mark.parametrize(
    "how",
    [
        "task.cancel()",
        "signal.raise_signal(signal.SIGINT)",
        "signal.signal(signal.SIGALRM, alarm); signal.setitimer(signal.ITIMER_REAL, 0.01)",
    ],
    ids=["cancelled", "interrupted", "an alarm that raises"],
)
def test_a_task_that_is_broken_off(tmp_path: Path, how: str) -> None:
    """However asyncio's loop ends in the midst of a stream, the exception is passed on and the stream is recorded."""
    ended = run(tmp_path, CANCELLED.format(how=how))
    assert "passed on" in ended.output
    assert (ended.code, ended.outcomes, ended.reserved) == (0, [ABANDONED], 0)


def test_open_stream_after_a_call(tmp_path: Path) -> None:
    """Nothing changes where a call has ended before; an exception in the loop is the program's own end."""
    ended = run(tmp_path, "one()\nfor chunk in stream(): raise ValueError('theirs')")
    assert ended.code == 1
    assert ended.output.rstrip().endswith("ValueError: theirs")
    assert "tokenguard" not in ended.output.replace("/tokenguard/", "")
    assert sorted(ended.outcomes) == [ABANDONED, OK]
    assert ended.reserved == 0


ENDS = {
    "normally": ("one()", 1),
    "through os._exit": ("one()\nos._exit(0)", 1),
    "through os._exit in a thread": ("one()\nthreading.Thread(target=lambda: os._exit(0)).start()\ntime.sleep(60)", 1),
    "becoming another program": ("one()\nos.execv(sys.executable, [sys.executable, '-c', ''])", 1),
    "becoming one found on PATH": ("one()\nos.execlp('true', 'true')", 1),
    "an exec that fails": ("one()\ntry: os.execv('/nonesuch', ['x'])\nexcept OSError: one()", 2),
    "an exit handler calls a model": ("atexit.register(one)\none()", 2),
    "an exit handler of before calls the only one": ("atexit.register(one)", 1),
    "a forked child": ("one()\nif not os.fork(): one(); sys.exit()\nos.wait()", 2),
    "a forked child through os._exit": ("one()\nif not os.fork(): one(); os._exit(0)\nos.wait()", 2),
    "a thread's forked child": (
        "def work():\n    if not os.fork(): one(); sys.exit()\n    os.wait()\n"
        "one(); t = threading.Thread(target=work); t.start(); t.join()",
        2,
    ),
    "a daemon": ("one()\nif os.fork(): os._exit(0)\nos.setsid()\none()\n", 2),
}


@pytest.mark.parametrize("how", ENDS)
def test_program(tmp_path: Path, how: str) -> None:
    """Whichever way Python can still run at, every call that had ended is in the store, and settled."""
    program, calls = ENDS[how]
    ended = run(tmp_path, program)
    assert (ended.code, ended.output) == (0, "")
    assert ended.outcomes == [OK] * calls
    assert ended.spent == pytest.approx(0.00035 * calls)
    assert ended.reserved == 0


def test_a_threads_child_that_is_done(tmp_path: Path) -> None:
    """A child ends with its last thread if a thread has forked it; none of ours lingers there."""
    program = (
        "def work():\n    if not os.fork(): one(); sys.exit()\n    began = time.monotonic(); os.wait()\n"
        "    print(time.monotonic() - began < 4)\n"
        "one(); t = threading.Thread(target=work); t.start(); t.join()"
    )
    ended = run(tmp_path, program)
    assert (ended.code, ended.output, ended.outcomes) == (0, "True\n", [OK] * 2)


def test_a_signal_while_it_forks(tmp_path: Path) -> None:
    """One that comes while the fork keeps the store's locks is died of when it is over, by the parent alone."""
    program = """
from tokenguard.process.forks import at_fork
one()
at_fork(lambda: None, before=lambda: [one(), os.kill(os.getpid(), signal.SIGTERM)])
if not (child := os.fork()): print("child"); os._exit(0)
"""
    ended = run(tmp_path, program)
    assert (ended.code, ended.output) == (-signal.SIGTERM, "child\n")
    assert ended.outcomes == [OK] * 2
    assert ended.reserved == 0


METHODS = ("fork", "spawn", "forkserver")

WORKERS = {
    "a pool as a context manager": ("with context.Pool(3) as pool: pool.map(one, range(9))", 9),
    "a pool that is closed": ("pool = context.Pool(2); pool.map(one, range(4)); pool.close(); pool.join()", 4),
    "processes": (
        "ps = [context.Process(target=one) for _ in range(2)]; [p.start() for p in ps]; [p.join() for p in ps]",
        2,
    ),
    "a process that is terminated": (
        "q = context.Queue(); p = context.Process(target=lives, args=(q,)); p.start(); q.get()\n"
        "    p.terminate(); p.join()\n"
        "    assert p.exitcode == -signal.SIGTERM, p.exitcode",
        1,
    ),
    "an executor": (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "    with ProcessPoolExecutor(2, mp_context=context) as pool: list(pool.map(one, range(4)))",
        4,
    ),
}
WORKING = """
def lives(queue):
    one(); queue.put(1)
    for _ in range(600): time.sleep(0.1)  # Python sees a signal that comes just before a sleep when that ends
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    {before}
    {work}
"""


@pytest.mark.parametrize(
    ("method", "before"),
    [(method, "pass") for method in METHODS] + [("fork", "one()")],
    ids=[*METHODS, "fork, a call before"],
)
@pytest.mark.parametrize("workers", WORKERS)
def test_workers(tmp_path: Path, workers: str, method: str, before: str) -> None:
    """Workers of multiprocessing lose nothing, however they are started and ended."""
    work, calls = WORKERS[workers]
    ended = run(tmp_path, WORKING.format(method=method, before=before, work=work))
    assert (ended.code, ended.output) == (0, "")
    assert ended.outcomes == [OK] * (calls + (before != "pass"))
    assert ended.spent == pytest.approx(0.00035 * len(ended.outcomes))
    assert ended.reserved == 0


REPLACED = {
    "concurrent.futures": (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:\n"
        "        list(pool.map(one, range(3)))"
    ),
    "billiard": (
        "import billiard; pool = billiard.Pool(2, maxtasksperchild=1)\n"
        "    pool.map(one, range(3)); pool.close(); pool.join()"
    ),
}


@pytest.mark.parametrize("pool", REPLACED)
def test_workers_that_are_replaced(tmp_path: Path, pool: str) -> None:
    """A worker that ends after its one task loses nothing; celery's own multiprocessing has an exit of its own."""
    pytest.importorskip(pool)
    ended = run(tmp_path, WORKING.format(method="spawn", before="pass", work=REPLACED[pool]))
    assert (ended.code, ended.outcomes, ended.reserved) == (0, [OK] * 3, 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_workers_slice_goes_back(tmp_path: Path, method: str) -> None:
    """A slice that a worker has leased is returned when the worker ends."""
    ended = run(tmp_path, WORKING.format(method=method, before="pass", work=WORKERS["processes"][0]), slices=True)
    assert (ended.code, ended.output) == (0, "")
    assert ended.spent == pytest.approx(2 * 0.00035)
    assert ended.reserved == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_workers_background_call(tmp_path: Path, method: str) -> None:
    """A call that the provider goes on with, begun in a worker, is recorded as abandoned when the worker ends."""
    work = "p = context.Process(target=job); p.start(); p.join()"
    call = "client.responses.create(model='gpt-4.1', input='hi', background=True, max_output_tokens=50)"
    ended = run(tmp_path, f"\ndef job():\n    {call}\n" + WORKING.format(method=method, before="pass", work=work))
    assert (ended.code, ended.output) == (0, "")
    assert ended.outcomes == [ABANDONED]
    assert ended.reserved == 0


SIGNALLED = {
    "in the main thread": "one()\nprint('ready', flush=True)\ntime.sleep(60)",
    "in another thread": (
        "t = threading.Thread(target=one); t.start(); t.join()\nprint('ready', flush=True)\ntime.sleep(60)"
    ),
    "in asyncio": (
        "import asyncio\nasync def main():\n    one()\n    print('ready', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("where", SIGNALLED)
def test_terminated(tmp_path: Path, where: str) -> None:
    """A program that is killed with SIGTERM dies of it, and nothing that had ended is lost."""
    ended = run(tmp_path, SIGNALLED[where], kill_after="ready")
    assert (ended.code, ended.outcomes, ended.reserved) == (-15, [OK], 0)


def test_terminated_with_an_open_stream(tmp_path: Path) -> None:
    """A stream that is open then is recorded, and settled."""
    ended = run(
        tmp_path, "for chunk in stream():\n    print('ready', flush=True)\n    time.sleep(60)", kill_after="ready"
    )
    assert (ended.code, ended.outcomes, ended.reserved) == (-15, [ABANDONED], 0)


@pytest.mark.parametrize("how", ["", "os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_terminated_while_it_ends(how: str) -> None:
    """A signal that comes in the midst of the end, or another one, waits for it; the process dies of it then."""
    program = f"""
import os, signal, sys
from tokenguard.process import ends, signals

def finish():
    print("begins", flush=True)
    if not done:
        done.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        print("goes on", flush=True)

done = []
ends.at_end(ends.Stage.LEDGERS, finish)
signals.heed()
{how}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split("\n")[:2] == ["begins", "goes on"]
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("calls", ["one()", "t = threading.Thread(target=one); t.start(); t.join()"])
def test_a_server_that_puts_the_default_back(tmp_path: Path, calls: str) -> None:
    """One that handles SIGTERM, and dies of it at its end as uvicorn does, ends like any other program."""
    ended = run(
        tmp_path,
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        f"{calls}\nheld = stream(); next(iter(held))\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(60)",
    )
    assert (ended.code, sorted(ended.outcomes), ended.reserved) == (-signal.SIGTERM, [ABANDONED, OK], 0)


def test_handlers_of_the_programs_own(tmp_path: Path) -> None:
    """A handler that the program has set is left alone, and so is a signal that it ignores."""
    program = (
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nheard = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: heard.append(1))\none()\n"
        "os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGHUP)\nprint(heard)"
    )
    ended = run(tmp_path, program)
    assert (ended.code, ended.output, ended.outcomes) == (0, "[1]\n", [OK])


def test_terminated_with_alarms_about(tmp_path: Path) -> None:
    """Another handler that raises while the program is being ended by a signal does not keep it alive."""
    program = (
        "def alarm(*_): raise ValueError('alarm')\n"
        "signal.signal(signal.SIGALRM, alarm)\n"
        "one()\nprint('ready', flush=True)\nsignal.setitimer(signal.ITIMER_REAL, 0.5, 0.0005)\n"
        "while True:\n    try:\n        while True: one()\n    except Exception: pass\n"
    )
    ended = run(tmp_path, program, kill_after="ready")
    assert ended.code == -15
