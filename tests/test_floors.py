"""The floors: imports point down only, and what a command does not need it does not import."""

from __future__ import annotations

import ast
from pathlib import Path

import tokenguard
from fresh import loaded

ROOT = Path(tokenguard.__file__).parent
FLOORS = (
    ("facts", "process"),
    ("prices", "tokens", "policy", "ledger", "providers", "store"),
    ("inputs",),
    ("telemetry",),
    ("call",),
    ("guard", "answers"),
    ("metering",),
    ("batches",),
    ("seams",),
    ("installation", "report", "lint", "rules", "grafana"),
    ("advice", "invoice", "project", "testing"),
    ("page", "review"),
    ("demo", "cli", "__init__", "__main__"),
    ("pytest_plugin",),
)
"""The rooms, lowest floor first. A room may import from the floors below its own, and from its own."""
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imports(file):
    """The modules that a file imports, for its types alone too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tokenguard"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tokenguard"))


def room(module):
    """The room of a dotted name: `tokenguard.prices.book` is in `prices`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else "__init__"


def files():
    """Every file of the package, with its room."""
    for file in ROOT.rglob("*.py"):
        # A `__main__` is a face, whatever room it opens.
        here = "__main__" if file.stem == "__main__" else file.relative_to(ROOT).parts[0].removesuffix(".py")
        assert here in FLOOR, f"{here} has no floor yet"
        yield here, file


def test_imports_point_down():
    """No module imports from a floor above its own, not even a type."""
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for here, file in files()
        for module in imports(file)
        if room(module) != "__init__" and FLOOR[room(module)] > FLOOR[here]
    ]
    assert wrong == []


def test_no_circles():
    """Neither rooms nor files import each other in a circle, however long."""
    rooms, modules = {}, {}
    known = {
        ".".join(("tokenguard", *f.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for _, f in files()
    }
    for here, file in files():
        name = ".".join(("tokenguard", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for module in imports(file):
            if room(module) not in ("__init__", here):
                rooms.setdefault(here, set()).add(room(module))
            # `from tokenguard.prices import PriceBook` imports the package, whatever the name is.
            target = module if module in known else module.rpartition(".")[0]
            if target != name and target != "tokenguard":
                modules.setdefault(name, set()).add(target)
    assert circle(rooms) == []
    assert circle(modules) == []


def circle(arrows):
    """A circle among the arrows, as the names along it; empty where there is none."""
    done = set()

    def walk(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for following in sorted(arrows.get(name, ())):
            if found := walk(following, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(arrows) if (found := walk(name, []))), [])


def test_the_api_is_what_is_named():
    """`__all__` is the whole public API: each name is there, and says that it is imported from `tokenguard`."""
    assert sorted(tokenguard.__all__) == tokenguard.__all__
    for name in tokenguard.__all__:
        assert getattr(tokenguard, name) is not None
    public = {name for name in vars(tokenguard) if not name.startswith("_")} - set(tokenguard.__all__)
    rooms = {path.stem for path in ROOT.iterdir()}
    assert public - rooms <= {"TYPE_CHECKING", "Any", "annotations"}


def test_installing_imports_no_sdk():
    """Installing imports no provider SDK, no price list, no tokenizer and no policy grammar."""
    unset = "[os.environ.pop(name, None) for name in ('TOKENGUARD_HOSTS', 'TOKENGUARD_INCLUDE_USAGE')]"
    modules = loaded(f"import os, tokenguard; {unset}; tokenguard.install()")
    heavy = {
        "openai",
        "anthropic",
        "groq",
        "together",
        "genai_prices",
        "tokenguard.prices.genai.types",
        "tiktoken",
        "sqlite3",
        "rich",
        "click",
        "libcst",
        "cryptography",
        "tokenguard.answers",
    }
    assert modules & (heavy | {"tokenguard.policy.model", "tokenguard.ledger", "opentelemetry.sdk"}) == set()
    # What measures calls comes with the first SDK, and OpenTelemetry's API with it.
    assert modules & {"opentelemetry", "tokenguard.metering", "tokenguard.providers", "tokenguard.telemetry"} == set()


def test_an_sdk_brings_no_more_than_its_calls_need():
    """What sees to batches comes with the first request that is theirs."""
    modules = loaded("import tokenguard; tokenguard.install(); import openai")
    late = {"tokenguard.batches.watching", "tokenguard.store.jobs", "tokenguard.ledger"}
    assert modules & {"tokenguard.seams.stainless", *late} == {"tokenguard.seams.stainless"}
