"""The floors: imports point down only, and what a command does not need it does not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import tokenguard

ROOT = Path(tokenguard.__file__).parent
FLOORS = (
    ("names", "errors", "usage", "call", "leaving"),
    ("prices", "tokens", "policy", "ledger", "providers"),
    ("scope", "callsite", "repeats", "spans", "said", "content", "store", "storefile", "telemetry"),
    ("breakers", "flights", "pending", "alerts", "guard", "metering"),
    ("seams",),
    ("runtime", "instrument", "autoload", "report", "demo", "cli", "__init__", "__main__", "lint", "rules", "grafana"),
    ("testing",),
    ("pytest_plugin",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def runtime_imports(tree):
    """The modules that a file imports when it runs, not only for its types."""
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and getattr(test.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tokenguard"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tokenguard"))


def room(module):
    """The room of a dotted name: `tokenguard.prices.book` is in `prices`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else "__init__"


def test_imports_point_down():
    """No module imports from a floor above its own."""
    wrong = []
    for file in ROOT.rglob("*.py"):
        here = file.relative_to(ROOT).parts[0].removesuffix(".py")
        assert here in FLOOR, f"{here} has no floor yet"
        wrong += [
            f"{file.relative_to(ROOT)} imports {module}"
            for module in runtime_imports(ast.parse(file.read_text()))
            if room(module) != "__init__" and FLOOR[room(module)] > FLOOR[here]
        ]
    assert wrong == []


def imported(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


def test_installing_imports_no_sdk():
    """Installing imports no provider SDK, no price list, no tokenizer and no policy grammar."""
    modules = imported("import tokenguard; tokenguard.install()")
    heavy = {
        "openai",
        "anthropic",
        "groq",
        "together",
        "genai_prices",
        "tiktoken",
        "sqlite3",
        "rich",
        "click",
        "libcst",
    }
    assert modules & (heavy | {"tokenguard.policy.model", "tokenguard.ledger", "opentelemetry.sdk"}) == set()
