"""Create a virtual environment with TokenGuard and its development tools, from nothing but Python and the index.

    python3 scripts/make_venv.py .venv [EXTRA PIP ARGUMENTS]

Packages are installed by uv, which takes seconds where pip takes a minute: the one on PATH, or one that pip fetches
once into `.venvs`. Where there is no wheel of uv for the machine, or it cannot reach the index as pip can, pip does it.

Debian and Ubuntu ship Python without `ensurepip` (it is in python3-venv); there pip's own wheel is fetched from the
package index and used to install itself, so that a fresh machine needs no apt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venvs" / "uv"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - the Makefile may find an older python3
        sys.exit(f"TokenGuard needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PY=python3.11")
    target = Path(sys.argv[1])
    venv.create(target, with_pip=False, clear=False, symlinks=True)
    python = str(target / "bin" / "python")
    wanted = sys.argv[2:] or ["--editable", str(ROOT), *development()]
    if (uv := find_uv()) is not None:
        # What each package was compiled from is compiled at its first import; the tools of the venv need no pip.
        done = subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *wanted])
        if done.returncode == 0:
            return
        print("make_venv: uv could not install; trying pip", file=sys.stderr)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        install_pip(python)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)


def development() -> list[str]:
    """What the group `dev` of pyproject.toml asks for."""
    import tomllib  # an older Python has none, and is told so above

    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"])


def find_uv() -> str | None:
    """The program uv: on PATH, or installed into `.venvs/uv`; `None` where it cannot be had."""
    if (found := shutil.which("uv")) is not None:
        return found
    own = UV / "bin" / "uv"
    if not own.exists():
        try:
            venv.create(UV, with_pip=False, symlinks=True)
            python = str(UV / "bin" / "python")
            install_pip(python)
            options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
            subprocess.run([python, "-m", "pip", "install", *options, "uv"], check=True, timeout=300)
        except (OSError, subprocess.SubprocessError, SystemExit) as error:
            print(f"make_venv: no uv ({error}); pip does it", file=sys.stderr)
            return None
    return str(own) if own.exists() else None


def install_pip(python: str) -> None:
    """Install pip into `python` from ensurepip, or else from its wheel on the index."""
    if not subprocess.run([python, "-m", "ensurepip", "--default-pip"], capture_output=True).returncode:
        return
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page_url = f"{index}/pip/"
    with urllib.request.urlopen(page_url, timeout=60) as page:
        links = re.findall(r'href="([^"]*/pip-[0-9.]+-py3-none-any\.whl)[#"]', page.read().decode())
    if not links:
        sys.exit(f"No wheel of pip at {page_url}. Install python3-venv, or set PIP_INDEX_URL, and run this again.")
    newest = max(links, key=lambda link: [int(n) for n in re.findall(r"pip-([0-9.]+)-", link)[0].split(".")])
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder, newest.rsplit("/", 1)[-1])
        with urllib.request.urlopen(urllib.parse.urljoin(page_url, newest), timeout=180) as response:
            wheel.write_bytes(response.read())
        subprocess.run([python, f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)], check=True)


if __name__ == "__main__":
    main()
