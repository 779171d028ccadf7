"""An agent graph runs without a step limit of its own.

`create_agent` and `create_react_agent` stop at LangGraph's recursion limit, and that default is no limit any more:
about ten thousand steps in the current releases. An agent that circles sends its whole history with every step. Set
`recursion_limit` where the agent runs, or give it a call-limit middleware.

Bad:

    from langchain.agents import create_agent

    def run(model, tools, question):
        agent = create_agent(model, tools)  # TG107
        return agent.invoke({"messages": [("user", question)]})

Good:

    from langchain.agents import create_agent
    from langchain.agents.middleware import ModelCallLimitMiddleware

    def run(model, tools, question):
        agent = create_agent(model, tools)
        return agent.invoke({"messages": [("user", question)]}, config={"recursion_limit": 25})

    def run_limited(model, tools, question):
        limited = create_agent(model, tools, middleware=[ModelCallLimitMiddleware(run_limit=12)])
        return limited.invoke({"messages": [("user", question)]})

    def build(model, tools):
        return create_agent(model, tools).with_config({"recursion_limit": 25})
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.names import is_double
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import matcher, words_of

SEVERITY = "warning"
_PATHS = ("langchain*.create_agent", "langgraph*.create_react_agent", "deepagents*.create_deep_agent")
WORDS = words_of(_PATHS)
_MAKERS = matcher(_PATHS)
_NAMES = tuple(path.rpartition(".")[2] for path in _PATHS)
_RUNS = frozenset({"invoke", "ainvoke", "stream", "astream", "astream_events", "batch", "abatch", "with_config"})


def check(file: File) -> Iterator[Report]:
    """Report the agents that are run in this file, and nowhere with a limit."""
    for call in file.module.calls_of(_NAMES):
        if not _MAKERS.fullmatch(file.names.path(call.func)):
            continue
        if _scripted(file, call):
            continue
        view = file.arguments(call)
        if view.open or "LimitMiddleware" in ast.unparse(view.known.get("middleware", ast.Constant(None))):
            continue
        if isinstance(view.known.get("middleware"), ast.Name | ast.Attribute | ast.Call | ast.BinOp):
            continue
        runs = _runs(file, call)
        if runs and not any(_limited(file, run) for run in runs):
            yield Report(
                call,
                "This agent may take some ten thousand steps: nothing here limits it. Pass "
                "config={'recursion_limit': 25} where it runs.",
            )


def _scripted(file: File, call: ast.Call) -> bool:
    """Whether an agent's model answers from a script, as in a test: it takes as many steps as that has."""
    model = file.arguments(call).known.get("model") or (call.args[0] if call.args else None)
    return model is not None and is_double(file.names.path(model))


def _runs(file: File, made: ast.Call) -> list[ast.Call]:
    """The calls that run the agent made here: on the spot, or through the name it is given."""
    parent = file.module.parents.get(made)
    if isinstance(parent, ast.Attribute) and isinstance(run := file.module.parents.get(parent), ast.Call):
        return [run] if parent.attr in _RUNS else []
    if isinstance(parent, ast.Assign):
        names = {ast.unparse(t) for t in parent.targets}
        return [
            c
            for c in file.module.calls_of(_RUNS)
            if isinstance(c.func, ast.Attribute) and ast.unparse(c.func.value) in names
        ]
    return []


def _limited(file: File, run: ast.Call) -> bool:
    fact = file.any_of(run, ("config.recursion_limit", "recursion_limit"))
    positional = [a for a in run.args if not isinstance(a, ast.Starred)]
    if fact.presence is not Presence.ABSENT:
        return True
    config = (
        positional[-1]
        if len(positional) > 1
        or (positional and isinstance(run.func, ast.Attribute) and run.func.attr == "with_config")
        else None
    )
    return config is not None and file.look(config, "recursion_limit", nested=True).presence is not Presence.ABSENT
