"""Create a virtual environment with TokenGuard and its development tools, from nothing but Python and the index.

    python3 scripts/make_venv.py .venv [EXTRA PIP ARGUMENTS]

Debian and Ubuntu ship Python without `ensurepip` (it is in python3-venv); there pip's own wheel is fetched from the
package index and used to install itself, so that a fresh machine needs no apt.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - the Makefile may find an older python3
        sys.exit(f"TokenGuard needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PY=python3.11")
    target = Path(sys.argv[1])
    venv.create(target, with_pip=False, clear=False, symlinks=True)
    python = str(target / "bin" / "python")
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        install_pip(python)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run(
        [*pip, *(sys.argv[2:] or ["--editable", str(ROOT), "--group", f"{ROOT}/pyproject.toml:dev"])], check=True
    )


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
