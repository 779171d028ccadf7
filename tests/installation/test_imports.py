"""However an SDK's module comes to be there, and however often: its calls are measured, and the import is as it was."""

from __future__ import annotations

import textwrap

import pytest

from fresh import python
from tokenguard.demo.provider import SimulatedProvider

AGAIN = """
for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
    del sys.modules[name]
"""
ZIPPED = """
import importlib.util, os, zipfile
folder = os.path.dirname(importlib.util.find_spec("openai").origin)
with zipfile.ZipFile("sdk.zip", "w") as zipped:
    for at, _, files in os.walk(folder):
        for file in files:
            if file.endswith(".py"):
                path = os.path.join(at, file)
                zipped.write(path, os.path.relpath(path, os.path.dirname(folder)))
sys.path.insert(0, "sdk.zip")
"""
OLD_FINDER = """
class Finder:  # as of Python 3.3 and before: six was one
    def find_module(self, name, path=None):
        return None
sys.meta_path.insert({place}, Finder())
"""
LOADER = """
import importlib.machinery, importlib.util

class {base}Loader:
    {slots}
    def __init__(self, inner):
        object.__setattr__(self, "inner", inner)
    def create_module(self, spec):
        return None
    def {runs}

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "openai":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = {base}Loader(spec.loader)
        return spec
sys.meta_path.insert({place}, Finder)
"""
EXECUTES = "exec_module(self, module): self.inner.exec_module(module)"
FIRST, AFTER_OURS = 0, 1
"""In `sys.meta_path`. What stands before ours and finds a module is asked by Python itself, and we see nothing."""

WAYS = {
    "once": ("", 1),
    "again": ("ask()" + AGAIN, 2),
    "again, and the old client": (f"ask()\nkept = ask\n{AGAIN}\nkept()", 3),
    "three times": (f"ask()\n{AGAIN}\nask()\n{AGAIN}", 3),
    "reloaded": ("import importlib, openai\nask()\nimportlib.reload(openai._base_client)\nask()", 3),
    "from a zip": (ZIPPED, 1),
    "from a zip, again": (f"{ZIPPED}\nask()\n{AGAIN}", 2),
    "a finder of old, first": (OLD_FINDER.format(place=FIRST), 1),
    "a finder of old, after ours": (OLD_FINDER.format(place=AFTER_OURS), 1),
    "a loader that takes no attributes": (
        LOADER.format(base="Slots", slots='__slots__ = ("inner",)', runs=EXECUTES, place=AFTER_OURS),
        1,
    ),
    "lazily": (
        """
        import importlib.util
        spec = importlib.util.find_spec("openai")
        spec.loader = loader = importlib.util.LazyLoader(spec.loader)
        module = sys.modules["openai"] = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        """,
        1,
    ),
}
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore", ImportWarning)
import tokenguard
from tokenguard import policy

tokenguard.install(policy.loads('[[limit]]\\nname = "cap"\\nmax_input_tokens = 50\\nthen = "block"\\n'))

def ask(said="hi"):
    import openai
    with openai.OpenAI(api_key="k", base_url={url!r}) as client:
        client.chat.completions.create(model="gpt-4o", messages=[{{"role": "user", "content": said}}])

with tokenguard.meter() as measured:
{way}
    ask()
    try:
        ask("word " * 200)
    except tokenguard.LimitExceeded:
        print("refused")
print(measured.calls - 1)
tokenguard.uninstall()
with tokenguard.meter() as measured:
    ask("word " * 200)
print(measured.calls)
"""


@pytest.mark.apart
@pytest.mark.parametrize("way", WAYS)
def test_an_import(way, tmp_path):
    """Each call is measured once and guarded, nothing is logged, and afterwards the SDK is as it was."""
    code, calls = WAYS[way]
    with SimulatedProvider() as provider:
        program = PROGRAM.format(
            url=provider.openai_url, way=textwrap.indent(textwrap.dedent(code), "    ") or "    pass"
        )
        ran = python(program, str(tmp_path))
        assert ran.stderr == ""
        assert ran.stdout.split() == ["refused", str(calls), "0"]
        assert len(provider.calls) == calls + 1
