"""Build the wheel and the sdist, and check them as the package index and a user's tools see them: `make release`.

Run by the Python of an environment with the group `release`. What is checked: metadata and the README's rendering
(twine), the wheel's contents (check-wheel-contents), that the sdist builds the same wheel, that the changelog has the
version, and that the public API is typed (`typed.py`). Prints sizes. Nothing is published.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent


def run(*command: object) -> None:
    """Run a command; its failure is ours."""
    subprocess.run(list(map(str, command)), check=True)


def names(wheel: Path) -> set[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def description(wheel: Path) -> str:
    """What the package index shows of a wheel."""
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return file.read(metadata).decode()


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    said = (ROOT / "src" / "tokenguard" / "__init__.py").read_text()
    if f'__version__ = "{version}"' not in said:
        sys.exit(f"pyproject.toml has version {version}, and tokenguard.__version__ another one. Make them the same.")
    if not re.search(rf"(?m)^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text()):
        sys.exit(f"CHANGELOG.md has no section `## {version}`. Give the section Unreleased that name.")
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(BIN / "twine", "check", "--strict", wheel, sdist)
    run(BIN / "check-wheel-contents", wheel)
    if dead := re.findall(r"\]\((?!https?:)[^)]*\)", description(wheel)):
        sys.exit(f"the description has links that lead nowhere on the package index: {', '.join(dead)}")
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
        (direct,) = Path(folder).glob("*.whl")
        if names(direct) != names(wheel):
            sys.exit(f"the wheel of the sdist differs from that of the checkout: {names(direct) ^ names(wheel)}")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    subprocess.run([sys.executable, ROOT / "scripts" / "typed.py"], check=True, cwd=DIST)
    for file in (wheel, sdist):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
