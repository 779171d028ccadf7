"""What pytest loads at every start: options, the marker, the fixture, and the way to the rest.

Nothing else of TokenGuard is imported until a run asks for it: by an option or an ini key, by a baseline file, or by a
test with the marker `token_budget` or the fixture `tokenguard`. PYTEST_DONT_REWRITE: there is nothing here to assert.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

if TYPE_CHECKING:
    from tokenguard.testing.plugin import Running
    from tokenguard.testing.spending import Spending

BASELINE: Final = os.path.join(".tokenguard", "baseline.json")

OPTIONS: Final = {
    "": ("", "measure the tests' LLM calls and print what they cost, without any budget"),
    "-max-cost": ("USD", "what the calls of the whole run may cost"),
    "-max-calls": ("N", "how many calls the whole run may make"),
    "-then": ("fail|stop", "what happens at these two: the run fails at its end, or further calls are refused [fail]"),
    "-update": ("", f"write what each test spent to {BASELINE}"),
    "-tolerance": ("10%", "how far a test may grow beyond its baseline"),
    "-growth": ("fail|warn|ignore", "what a test does that has grown further than that [fail]"),
    "-json": ("FILE", "write what was spent, by test and by call, to FILE"),
    "-top": ("N", "how many tests the summary lists [10]"),
}
"""By what follows `--tokenguard`: the value's form (empty: a switch) and the sentence. Each has an ini key, too."""


def ini(end: str) -> str:
    """The ini key of an option.

    >>> ini("-max-cost")
    'tokenguard_max_cost'
    """
    return f"tokenguard{end}".replace("-", "_")


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


def setting(config: pytest.Config, end: str) -> Any:
    """What the command line says, or else the ini file; `None` when neither does."""
    said = config.getoption(ini(end))
    return config.getini(ini(end)) if said is None and end != "-update" else said


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
