"""Check that every name of the public API has a known type, as a user's type checker sees it in the installed package.

    python scripts/typed.py    # in an environment with the wheel and pyright

`pyright --verifytypes` counts each module as public whose name has no underscore. The API is what `tokenguard.__all__`
names and what rules are written with, so these are what must be complete.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import tokenguard

RULES = ("tokenguard.lint.rulebook.Report", "tokenguard.lint.facts.Presence")
"""What the documentation of rules names."""


def public() -> set[str]:
    """The full names of the API's classes and functions, and of what they return."""
    values = [getattr(tokenguard, name) for name in tokenguard.__all__]
    made = {"tokenguard.call.scope.Measurement", *RULES}
    for value in values:
        module = value.__module__ if value.__module__ != "tokenguard" else "tokenguard.facts.errors"
        made.add(f"{module}.{value.__qualname__}")
    return made


def main() -> None:
    pyright = Path(sys.executable).with_name("pyright")
    env = {**os.environ, "PATH": f"{pyright.parent}:{os.environ['PATH']}", "VIRTUAL_ENV": str(pyright.parent.parent)}
    command = [str(pyright), "--ignoreexternal", "--verifytypes", "tokenguard", "--outputjson"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    names = public()
    ours = [
        each for each in symbols if any(each["name"] == name or each["name"].startswith(f"{name}.") for name in names)
    ]
    unknown = [each["name"] for each in ours if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    missing = names - {each["name"] for each in ours}
    print(f"public API: {len(ours) - len(unknown)} of {len(ours)} names have a known type")
    for name in [*unknown, *sorted(missing)]:
        print(f"  {'unknown' if name in unknown else 'not found'}: {name}")
    sys.exit(bool(unknown or missing))


if __name__ == "__main__":
    main()
