"""What pytest loads at every start: options, the marker, the fixture, and the way to the rest.

Nothing else of TokenGuard is imported until a run asks for it: by an option or an ini key, by a baseline file, or by a
test with the marker `token_budget` or the fixture `tokenguard`. PYTEST_DONT_REWRITE: there is nothing here to assert.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tokenguard.testing.options import BASELINE, OPTIONS, ini, setting

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
        running(config).collected(items)


def _asks(item: pytest.Item) -> bool:
    return "token_budget" in item.keywords or "tokenguard" in getattr(item, "fixturenames", ())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under xdist, in the controller: a worker is about to start."""
    if node.config.pluginmanager.hasplugin("tokenguard-running"):
        running(node.config).send(node)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Under xdist, in the controller: a worker has ended, and says what it measured."""
    measured = getattr(node, "workeroutput", {}).get("tokenguard")  # a worker that crashed has no output
    if measured is not None:
        running(node.config).receive(measured)


@pytest.fixture
def tokenguard(request: pytest.FixtureRequest) -> Spending:
    """What the test's LLM calls have come to so far, its fixtures' included: `.cost_usd`, `.calls`, `.records`, ...

    `tokenguard.policy(...)` puts the rest of the test under a guard policy: a file, or its tables as keywords.
    """
    return running(request.config).of(request.node)
