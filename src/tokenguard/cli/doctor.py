"""`tokenguard doctor`: whether every SDK here is measured, and all else that a process needs works."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from tokenguard.facts import names
from tokenguard.facts.errors import PolicyError
from tokenguard.facts.printed import document
from tokenguard.facts.tuples import NamedTuple

if TYPE_CHECKING:
    from tokenguard.policy import Policy
    from tokenguard.providers import Sdk

NEIGHBOURS = ("logfire", "langfuse", "openlit", "traceloop-sdk", "ddtrace")
"""Distributions that wrap SDKs without an entry point for it."""
TELLS = (
    "openai",
    "anthropic",
    "groq",
    "mistral",
    "cohere",
    "bedrock",
    "google",
    "vertex",
    "ollama",
    "together",
    "genai",
)
"""What the names of OpenTelemetry's instrumentations of our SDKs have in them."""
REACH_SECONDS = 2.0
FAULTS_SECONDS = 86400
"""How long a fault is shown."""


class Check(NamedTuple):
    """One thing that was looked at."""

    part: str
    subject: str
    ok: bool
    said: str


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="The output format.")
def doctor(form: str) -> None:
    """Check that every installed provider SDK is measured, and that policy, store, ledger and OTLP work.

    Each SDK that is installed is imported and makes one call to a provider on loopback, which must be seen. Nothing is
    recorded. Exits with 1 where something is wrong.
    """
    checks = list(_checks())
    if form == "json":
        click.echo(document({"checks": [check._asdict() for check in checks]}))
    else:
        _show(checks)
    sys.exit(not all(check.ok for check in checks))


def _checks() -> Iterator[Check]:
    from tokenguard import __version__

    policy, found = _policy()
    store, ledger, endpoints = [*_store()], [*_ledger(policy)], [*_endpoints()]  # by the environment as it is
    python = sys.version.split(maxsplit=1)[0]
    yield Check("process", "tokenguard", True, f"{__version__}, Python {python}")
    yield from _sdks()
    yield from _neighbours()
    yield _sdk_of_opentelemetry()
    yield found
    yield from (*store, *ledger, *endpoints)


def _show(checks: list[Check]) -> None:
    width = max(len(check.subject) for check in checks)
    part = ""
    for check in checks:
        if check.part != part:
            part = check.part
            click.echo(click.style(part, bold=True))
        mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
        click.echo(f"  {mark}  {check.subject:<{width}}  {check.said}")
    wrong = sum(not check.ok for check in checks)
    click.echo(f"\n{wrong} of {len(checks)} checks failed." if wrong else f"\nAll {len(checks)} checks are fine.")


# --- the SDKs ---------------------------------------------------------------------------------------------------------


def _sdks() -> Iterator[Check]:
    from tokenguard.cli.probes import PROBES
    from tokenguard.demo.provider import SimulatedProvider
    from tokenguard.installation import runtime
    from tokenguard.policy import Policy
    from tokenguard.providers import SDKS

    os.environ[names.ENV_STORE] = "off"  # what is called here is on no bill
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    runtime.install(Policy())
    found = [sdk for sdk in SDKS if sdk.provider and _is_there(sdk.module)]
    unseen = [*_unseen(SDKS, PROBES)]
    yield from unseen
    if not found and not unseen:
        yield Check("SDKs", "none", True, "no provider SDK is installed here; run this where your program runs")
        return
    with SimulatedProvider() as provider:
        for sdk in found:
            yield _sdk(sdk, PROBES.get(sdk.module), provider.url)


def _unseen(rows: Iterable[Sdk], probes: Container[str]) -> Iterator[Check]:
    """The SDKs that are installed, and have not the module that is wrapped: too old, too new, or broken."""
    for sdk in rows:
        package = _package(sdk)
        if sdk.module not in probes or _is_there(sdk.module):
            continue
        try:
            subject = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
        try:
            importlib.import_module(sdk.module.rpartition(".")[0])
            said = (
                f"has no {sdk.module}: TokenGuard measures versions {sdk.tested or 'since'}; this one is not measured"
            )
        except Exception as error:
            said = f"cannot be imported: {type(error).__name__}: {error}"
        yield Check("SDKs", subject, False, said)


def _package(sdk: Sdk) -> str:
    return sdk.package or sdk.module.partition(".")[0]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # a package above it cannot be imported
        return False


def _sdk(sdk: Sdk, probe: object, url: str) -> Check:
    from tokenguard.call.scope import meter
    from tokenguard.installation import runtime

    package = _package(sdk)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    subject = f"{package} {version}"
    try:
        importlib.import_module(sdk.module)
    except Exception as error:
        return Check("SDKs", subject, False, f"{sdk.module} cannot be imported: {type(error).__name__}: {error}")
    installation = runtime.installed()
    placed = installation.seams.get(sdk.module) if installation else None
    if placed is None:
        return Check("SDKs", subject, False, f"{sdk.module}: TokenGuard is not there; the log says why")
    if problems := placed.problems():
        return Check("SDKs", subject, False, f"{sdk.module}: {'; '.join(problems)}. Its calls may not be measured")
    if not callable(probe):
        return Check("SDKs", subject, True, f"in place in {sdk.module}; no call was tried")
    failure = ""
    with meter() as measured:
        try:
            probe(url)
        except Exception as error:  # the provider on loopback need not know all
            failure = f" (the call itself failed: {type(error).__name__})"
    if measured.calls == 1:
        return Check("SDKs", subject, True, f"reached: a call was measured{failure}")
    return Check("SDKs", subject, False, f"a call was measured {measured.calls} times, not once{failure}")


# --- what else is in the process --------------------------------------------------------------------------------------


def _neighbours() -> Iterator[Check]:
    there = {
        f"{entry.name} ({entry.dist.name} {entry.dist.version})"
        for entry in metadata.entry_points(group="opentelemetry_instrumentor")
        if entry.dist is not None and entry.name != "tokenguard" and any(name in entry.name for name in TELLS)
    }
    for name in NEIGHBOURS:
        try:
            there.add(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    for name in sorted(there):
        yield Check("other instrumentations", name, True, "may be installed before or after TokenGuard")


def _sdk_of_opentelemetry() -> Check:
    """Whether spans and points are made the short way; the long one is as right, and takes more time."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from tokenguard.telemetry.bulk import points
    from tokenguard.telemetry.templates import why_not

    reasons = {
        "spans": why_not(TracerProvider(shutdown_on_exit=False).get_tracer("tokenguard")),
        "histograms": points.why_not(
            MeterProvider(shutdown_on_exit=False).get_meter("tokenguard").create_histogram("h")
        ),
    }
    long = [f"{what} take the public, slower way: {reason}" for what, reason in reasons.items() if reason is not None]
    subject = f"opentelemetry-sdk {metadata.version('opentelemetry-sdk')}"
    return Check("OpenTelemetry", subject, True, "; ".join(long) or "spans and histograms take the short way")


def _policy() -> tuple[Policy | None, Check]:
    from tokenguard.policy import load

    try:
        found = load()
    except PolicyError as error:
        return None, Check("policy", "tokenguard.toml", False, str(error))
    if not found.source:
        return found, Check("policy", "none", True, "nothing is limited; `tokenguard policy check` looks for one")
    return found, Check("policy", found.source, True, f"mode {found.mode}, {len(found.rules)} rules")


def _store() -> Iterator[Check]:
    path = names.store_path(os.environ.get(names.ENV_STORE))
    if path is None:
        yield Check("records", "store", True, f"off ({names.ENV_STORE})")
        return
    file = Path(path).absolute()
    yield from _faults(file)
    wrong = _unwritable(file)
    yield Check(
        "records", str(file), wrong is None, "can be written" if wrong is None else f"{wrong}, or set {names.ENV_STORE}"
    )


def _unwritable(file: Path) -> str | None:
    """Why a database cannot be there, as far as can be seen without making it; `None` where it can.

    A file is made beside it and is gone again: to root everything is permitted, also where nothing can be made.
    """
    nearest = next(each for each in (file, *file.parents) if each.exists())
    if (nearest == file and not file.is_file()) or not os.access(nearest, os.W_OK):
        return f"cannot be written: see {nearest}"
    try:
        tempfile.TemporaryFile(dir=file.parent if nearest == file else nearest).close()
    except OSError as error:
        return f"cannot be written: see {nearest} ({error.strerror})"
    return None


def _faults(store: Path) -> Iterator[Check]:
    """What TokenGuard missed of late in the programs that write this store."""
    from tokenguard.store.faults import read

    for fault in read(store, time.time_ns() - FAULTS_SECONDS * 10**9):
        yield Check("records", "faults", False, f"in the last 24 hours, {fault.text}. The programs' logs say more")


def _ledger(policy: Policy | None) -> Iterator[Check]:
    from tokenguard.ledger import open_ledger
    from tokenguard.ledger.open import file_of

    if policy is None or not policy.budgets:
        return
    url = urlsplit(policy.ledger.url)
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}" if url.netloc or url.path else policy.ledger.url
    try:
        ledger = open_ledger(policy.ledger, policy.source)
        try:
            if url.scheme != "sqlite":  # a file is made by the first call, and not by looking
                ledger.accounts()
            elif (wrong := _unwritable(file_of(policy.ledger, policy.source).absolute())) is not None:
                raise OSError(wrong)
            doubts = ledger.doubts()
        finally:
            ledger.close()
    except Exception as error:
        yield Check("budgets", shown, False, f"the ledger is not reached: {error}. See [ledger] url")
        return
    yield Check("budgets", shown, True, f"the ledger answers; {len(policy.budgets)} budgets")
    yield from (Check("budgets", shown, False, doubt) for doubt in doubts)


def _endpoints() -> Iterator[Check]:
    for name in names.OTLP_ENDPOINTS:
        if not (given := os.environ.get(name)):
            continue
        url = urlsplit(given if "//" in given else f"//{given}")
        port = url.port or (443 if url.scheme == "https" else 4317 if not url.scheme else 80)
        where = f"{url.hostname}:{port}"
        try:
            socket.create_connection((url.hostname or "", port), REACH_SECONDS).close()
        except OSError as error:
            yield Check("records", where, False, f"{name} is not reached: {error}. Nothing gets there")
        else:
            yield Check("records", where, True, f"{name} is reached")
