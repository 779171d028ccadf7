"""`tokenguard demo`: a simulated provider, a program that uses it as products do, and the report; no account needed.

`run_demo()` does it all. `SimulatedProvider` is useful on its own, as the other end of tests.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenguard.facts import names

if TYPE_CHECKING:
    from rich.console import Console

    from tokenguard.demo.comparison import Line
    from tokenguard.demo.provider import SimulatedProvider

STORE = ".tokenguard/demo.db"
POLICY = Path(__file__).with_name("demo.toml")
GUARDED_POLICY = Path(__file__).with_name("guarded.toml")
PROPOSAL = Path(__file__).with_name("whatif.toml")
SDKS = ("openai", "anthropic")

INSTRUMENT = (sys.executable, "-c", "from tokenguard.installation.instrument import main; main()")
COMMAND = (sys.executable, "-c", "from tokenguard.cli import main; main()")
REPORTS = (("--by", "feature"), ("--by", "prompt_version", "--where", "feature=support_bot"))
"""The reports that are shown: arguments of `tokenguard report`."""

FAULT_RATE = 0.06
CHUNK_SECONDS = 0.002
LATENCY_SECONDS = 0.02


class DemoUnavailable(Exception):
    """The demo cannot run here; the message says what to install."""


@dataclass(frozen=True)
class Demo:
    """A finished run."""

    store: Path
    """Where the calls were recorded."""
    lines: Sequence[Line]
    """What the provider charged beside what was measured: by model, calls that broke off, and all."""
    requests: int
    """How many requests the provider received, refused ones included."""
    guarded: Path
    """Where the calls of the second part were recorded, which is under a policy."""
    refusals: tuple[str, ...]
    """What the policy said to the application."""


def run_demo(store: str | Path = STORE, *, report: bool = True) -> Demo:
    """Run the demo's application under `tokenguard-instrument` against a simulated provider; takes some seconds.

    What is in `store` is replaced. With `report`, `tokenguard report` prints what was spent, and a table what the
    provider charged for it. Raises `DemoUnavailable` without the SDKs, and `CalledProcessError` when the application
    fails.
    """
    _require_sdks()
    from tokenguard.demo.comparison import compare
    from tokenguard.demo.provider import SimulatedProvider
    from tokenguard.store.store import read_store

    path = _fresh(Path(store))
    guarded = _fresh(path.with_name(f"{path.stem}-guarded{path.suffix}"))
    with SimulatedProvider(fault_rate=FAULT_RATE, latency=LATENCY_SECONDS, chunk_delay=CHUNK_SECONDS) as provider:
        provider.faults.retry_after = 0.05
        provider.fail_next("stream_error", after=20, path="/messages")
        _run("tokenguard.demo.workload", provider, path, POLICY)
    from tokenguard.facts.record import CallRecord

    calls = [record for record in read_store(path) if isinstance(record, CallRecord)]
    lines = compare(provider.requests, calls)
    requests = len(provider.requests)
    with SimulatedProvider(tool_rounds=None, latency=LATENCY_SECONDS) as provider:
        refusals = _run("tokenguard.demo.guarded", provider, guarded, GUARDED_POLICY)
    demo = Demo(path, lines, requests, guarded, tuple(refusals.splitlines()))
    if report:
        show(demo)
    return demo


def _run(module: str, provider: SimulatedProvider, store: Path, policy: Path) -> str:
    """Run a program of the demo as a user would; returns what it printed."""
    environment = {
        **os.environ,
        names.ENV_INCLUDE_USAGE: "always",  # the simulated provider is OpenAI, at another address
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": "sk-simulated",
        "ANTHROPIC_BASE_URL": provider.anthropic_url,
        "ANTHROPIC_API_KEY": "sk-ant-simulated",
        "NO_PROXY": "127.0.0.1",
        names.ENV_STORE: str(store.resolve()),
        names.ENV_POLICY: str(policy),
    }
    command = [*INSTRUMENT, sys.executable, "-m", module]
    with tempfile.TemporaryDirectory() as nowhere:  # a policy of the folder that it is run in is not the demo's
        run = {"env": environment, "cwd": nowhere, "check": True, "stdout": subprocess.PIPE, "text": True}
        return subprocess.run(command, **run).stdout  # type: ignore[call-overload,no-any-return]  # noqa: S603 - ours


def show(demo: Demo) -> None:
    """Print the reports, and what the provider charged beside what was measured."""
    from rich.table import Table
    from rich.text import Text

    from tokenguard.report.terminal import console as standard_output

    console = standard_output(markup=True)
    for arguments in REPORTS:
        _command(console, "report", arguments, demo.store)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("\nmodel", no_wrap=True)
    for title in ("\ncalls", "tokens\ncharged", "tokens\nmeasured", "USD\ncharged", "USD\nmeasured", "\ndifference"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in demo.lines:
        difference = round(line.measured_usd - line.billed_usd, 6)
        table.add_row(
            line.title,
            f"{line.calls}" if line.calls == line.charged else f"{line.calls} of {line.charged}",
            f"{line.billed.total:,}",
            f"{line.measured.total:,}",
            f"{line.billed_usd:.6f}",
            f"{line.measured_usd:.6f}",
            f"{difference:+.6f}" if difference else "0",
        )
    console.print("\n[bold]What the provider charged, and what was measured[/bold]")
    console.print(table)
    console.print(
        f"The provider received {demo.requests} requests, and charged those that it did not refuse. A stream that "
        "breaks off does not tell its usage: its cost is an estimate, without what caching may have saved."
    )
    console.print(f"\n[bold]The same product under a policy[/bold] ({GUARDED_POLICY.name})")
    for refusal in demo.refusals:
        console.print(Text(refusal, "yellow"), soft_wrap=True)
    _command(console, "report", ("--by", "rule,action,tenant"), demo.guarded)
    console.print(f"\n[bold]What would make it cheaper[/bold] ({PROPOSAL.name})")
    _command(console, "whatif", ("--policy", str(PROPOSAL)), demo.store)
    for sentence in _broken(demo.store):
        console.print()
        console.print(Text(sentence, "bold"), soft_wrap=True)
    page = demo.store.with_suffix(".html")
    page.write_text(_output("report", ("--format", "html"), demo.store), encoding="utf-8")
    console.print("\n[bold]The same to look at[/bold]")
    console.print(Text(f"{page}, or while a program runs: tokenguard dashboard --source {demo.store}"), soft_wrap=True)


def _broken(store: Path) -> list[str]:
    """What the break finder says of the calls."""
    from tokenguard.report.inputs import broken
    from tokenguard.report.numbers import usd
    from tokenguard.report.query import Query
    from tokenguard.report.sources import open_sources

    records = open_sources([store]).records
    try:
        found = list(broken(records, Query(), 1))
    finally:
        records.close()
    return [f"{each.says()}: {usd(each.usd)}. {each.next_step().capitalize()}." for each in found]


def _output(name: str, arguments: Sequence[str], store: Path) -> str:
    """What a command of ours prints."""
    command = [*COMMAND, name, *arguments, "--source", str(store)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")  # noqa: S603
    return done.stdout


def _command(console: Console, name: str, arguments: Sequence[str], store: Path) -> None:
    """Run a command of ours as a user would."""
    shown = " ".join(Path(each).name if each.endswith(".toml") else each for each in arguments)
    console.print(f"\n[bold]$ tokenguard {name} {shown} --source {store}[/bold]", soft_wrap=True)
    console.file.flush()
    subprocess.run([*COMMAND, name, *arguments, "--source", str(store)], check=False)  # noqa: S603


def _require_sdks() -> None:
    missing = [name for name in SDKS if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoUnavailable(
            f"The demo calls its simulated provider through the real SDKs, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. Install them: pip install 'tokenguard-otel[demo]'"
        )


def _fresh(path: Path) -> Path:
    """`path` without an earlier run's records, or a temporary file where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for end in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.touch()
        path.unlink()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="tokenguard-demo-")) / path.name
    return path
