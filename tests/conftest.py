"""What every test shares: OpenTelemetry kept in memory, strict mode, and no network but loopback."""

from __future__ import annotations

import gc
import os
import pathlib
import socket
import sys

os.environ["TOKENGUARD_STRICT"] = "1"
os.environ["TOKENGUARD_STORE"] = "off"
os.environ["TOKENGUARD_INCLUDE_USAGE"] = "always"  # the providers here are on loopback, and send it on request
os.environ["TOKENGUARD_HOSTS"] = "127.0.0.1=sdk"  # who is simulated there speaks for the SDK's maker
# Each client of an SDK reads the certificates of all authorities, 12 ms that no test has a use for: one will do.
os.environ["SSL_CERT_FILE"] = str(pathlib.Path(__file__).with_name("nobody.pem"))

import pytest
from blockbuster import blockbuster_ctx
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import tokenguard
from exported import EXPORTER, READER, Spans
from tokenguard import policy
from tokenguard.installation import runtime

pytest_plugins = ["pytester"]

LOOPBACK = ("127.", "::1", "localhost")

_connect = socket.socket.connect


def _loopback_only(self, address):
    host = address[0] if isinstance(address, tuple) else "127.0.0.1"  # a path: a Unix socket
    if not str(host).startswith(LOOPBACK):
        raise OSError(f"tests may only connect to loopback, not to {host}")
    return _connect(self, address)


socket.socket.connect = _loopback_only  # type: ignore[method-assign]


MAY_BLOCK = ("page", "lint", "cli", "demo", "report")
"""Folders of tests of what runs on no caller's path: commands, and the page's server."""


@pytest.fixture(autouse=True)
def _may_block(request, _nothing_blocks_an_event_loop):
    """Tests marked `blocks` call synchronous clients within a running loop on purpose, as programs do."""
    folder = request.path.relative_to(pathlib.Path(__file__).parent).parts[0]
    if folder not in MAY_BLOCK and request.node.get_closest_marker("blocks") is None:
        yield
        return
    _nothing_blocks_an_event_loop.deactivate()
    yield
    _nothing_blocks_an_event_loop.activate()


@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks_an_event_loop():
    """What blocks, and is called from our code in a running event loop, raises; and strict mode lets it pass."""
    with blockbuster_ctx(scanned_modules=["tokenguard"]) as blocking:
        for function in blocking.functions.values():  # what is set up reads files
            function.can_block_in("tokenguard/installation/runtime.py", {"install", "uninstall"})
            function.can_block_in("detect_agent/_evaluate.py", {"_path_exists"})  # together's own look at the disk
            function.can_block_in("tokenguard/installation/imports.py", {"exec_module"})  # an SDK is
            function.can_block_in(
                "litellm/router.py", {"_completion"}
            )  # it runs what is synchronous in a loop of its own
            function.can_block_in("mimetypes.py", {"init"})  # what an upload's file is
            function.can_block_in("botocore/client.py", {"create_client"})  # it reads its models, with us or without
            function.can_block_in("tokenguard/policy/files.py", {"load", "loads", "from_mapping"})
        yield blocking


@pytest.fixture(scope="session", autouse=True)
def _telemetry():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([READER]))


class Handed(list):
    """The records that were handed on. Who reads one asks for all that is to be known of it, as the drain does."""

    def __init__(self):
        super().__init__()
        self._untold = []

    def add(self, item):
        self.append(getattr(item, "record", item))
        if (told := getattr(item, "told", None)) is not None:
            self._untold.append(told)

    def _told(self):
        while self._untold:
            self._untold.pop()()

    def __iter__(self):
        self._told()
        return super().__iter__()

    def __getitem__(self, place):
        self._told()
        return super().__getitem__(place)


@pytest.fixture
def installed():
    """TokenGuard installed for one test."""
    tokenguard.uninstall()
    tokenguard.install()
    here = runtime.installed()
    put = here.telemetry.put
    here.records = Handed()

    def keep(item, weight=0):
        here.records.add(item)
        put(item, weight)

    here.telemetry.put = keep
    yield here
    tokenguard.uninstall()
    del here.telemetry.put


@pytest.fixture
def under(installed):
    """Puts the calls of one test under a policy, given as its file's text, and returns the guard."""

    def put(text, path="/tokenguard.toml"):
        tokenguard.install(policy.loads(text, path))
        return runtime.installed().meter.guard

    return put


def collected(known=[0]):  # noqa: B006 - what it remembers
    """Let go of what earlier tests left behind.

    Six SDKs are some million objects, which a collection would look through: what an import brought is set aside, once.
    """
    gc.collect()
    if known[0] != len(sys.modules):
        gc.freeze()
        known[0] = len(sys.modules)


@pytest.fixture
def spans():
    collected()  # streams that were left behind end now
    EXPORTER.clear()
    yield Spans()
    EXPORTER.clear()


APART = (
    *("grafana", "neighbours", "installation/test_instrument.py", "ledger/test_stress.py", "process/test_ends.py"),
    *("process/test_interrupts.py", "process/test_servers.py", "page/test_page.py", "demo/test_demo.py"),
    *("advice/test_predicted.py", "lint/test_fuzz_fixes.py", "sdk/test_neighbours_first.py"),
)
"""Folders and files of tests that start whole programs: servers, workers, browsers, the demo; not in `make test`."""


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import the tests, and six SDKs with them, without a look at each object for whether it is left behind."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Mark what starts whole programs."""
    here = pathlib.Path(__file__).parent
    for item in items:
        path = item.path
        if path.is_relative_to(here) and path.relative_to(here).as_posix().startswith(APART):
            item.add_marker(pytest.mark.apart)
