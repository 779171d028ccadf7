"""What pytest loads at every start: options, the marker, the fixture, and the way to the rest.

Nothing else of TokenGuard is imported until a run asks for it: by an option or an ini key, by a baseline file, or by a
test with the marker `token_budget` or the fixture `tokenguard`. PYTEST_DONT_REWRITE: there is nothing here to assert.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tokenguard.testing.options import BASELINE, OPTIONS, USAGE_ERROR, ini, setting

if TYPE_CHECKING:
    from tokenguard.testing.plugin import Running
    from tokenguard.testing.spending import Spending


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the ini keys."""
    group = parser.getgroup("tokenguard", "what LLM calls in tests cost")
    for end, (form, says) in OPTIONS.items():
        kind: dict[str, Any] = {"metavar": form} if form else {"action": "store_true"}
        group.addoption(f"--tokenguard{end}", dest=ini(end), default=None, help=says, **kind)
        if end != "-update":  # a decision of the moment
            value: Literal["string", "bool"] = "string" if form else "bool"
            parser.addini(ini(end), says, type=value, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; start when the configuration asks for it."""
    config.addinivalue_line(
        "markers",
        "token_budget(max_cost_usd, max_input_tokens, max_output_tokens, max_calls, max_retries, max_tool_steps, "
        "min_cache_hit, tolerance): what the LLM calls of a test may come to; the nearest one wins, key by key",
    )
    if any(setting(config, end) not in (None, False) for end in OPTIONS) or os.path.exists(config.rootpath / BASELINE):
        running(config)


def running(config: pytest.Config) -> Running:
    """The part that does the work; started at the first call."""
    plugin: Running | None = config.pluginmanager.get_plugin("tokenguard-running")
    if plugin is None:
        from tokenguard.testing.plugin import Running

        plugin = Running(config)
        config.pluginmanager.register(plugin, "tokenguard-running")
    return plugin


@pytest.hookimpl(tryfirst=True)  # before others deselect
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start when a test asks for it."""
    if config.pluginmanager.hasplugin("tokenguard-running") or any(map(_asks, items)):
        try:
            running(config).collected(items)
        except pytest.UsageError as wrong:
            output = getattr(config, "workeroutput", None)
            if output is None:
                raise
            output["tokenguard_error"] = str(wrong)
            items.clear()


def _asks(item: pytest.Item) -> bool:
    return "token_budget" in item.keywords or "tokenguard" in getattr(item, "fixturenames", ())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under xdist, in the controller: a worker is about to start."""
    if node.config.pluginmanager.hasplugin("tokenguard-running"):
        running(node.config).send(node)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Under xdist, in the controller: a worker has ended, and says what it measured, or what it found wrong."""
    output = getattr(node, "workeroutput", {})  # one that crashed has none
    plugins = node.config.pluginmanager
    if "tokenguard_error" in output:
        if not plugins.hasplugin(USAGE_ERROR):
            plugins.register(UsageError(output["tokenguard_error"]), USAGE_ERROR)
    elif "tokenguard" in output:
        running(node.config).receive(output["tokenguard"])


class UsageError:
    """Under xdist, in the controller: what a worker found wrong. A worker's own exception would look like a crash."""

    def __init__(self, says: str) -> None:
        self._says = says

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Exit with 4."""
        session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say it."""
        terminalreporter.write_line(f"ERROR: {self._says}", red=True)


@pytest.fixture
def tokenguard(request: pytest.FixtureRequest) -> Spending:
    """What the test's LLM calls have come to so far, its fixtures' included: `.cost_usd`, `.calls`, `.records`, ...

    `tokenguard.policy(...)` puts the rest of the test under a guard policy: a file, or its tables as keywords.
    """
    return running(request.config).of(request.node)
