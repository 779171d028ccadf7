"""Pictures of the dashboards, drawn by Grafana's own components: `make previews`.

Weeks of a simulated product are loaded into a real Prometheus. A page of Grafana's published components (`@grafana/ui`,
from npm) puts every panel's query to it and draws the answers, in a headless Chromium, at the widths of two screens.
It is not Grafana's server: pickers, links and alerts do nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .history import NOW, load
from .parts import CHOSEN, DASHBOARDS, GRAFANA, RECORDED, alerts, prometheus

PAGE = GRAFANA / "previews"
WIDTHS = (1280, 1920)
SHOWN = [path for path in DASHBOARDS if path.stem != "tokenguard-runbooks"]
WAIT_MS = 60_000


def bundle(folder):
    """Grafana's components and the page as one script and one style sheet, in a directory.

    The packages are installed into TOKENGUARD_PREVIEWS (default: ~/.cache/tokenguard/previews), once.
    """
    home = Path(os.environ.get("TOKENGUARD_PREVIEWS") or Path.home() / ".cache" / "tokenguard" / "previews")
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "frames.js", "page.jsx"):
        shutil.copyfile(PAGE / name, home / name)
    wanted = json.loads((PAGE / "package.json").read_text())["dependencies"]
    if not all((home / "node_modules" / name).exists() for name in wanted):
        install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run(install, cwd=home, check=True, stdout=subprocess.DEVNULL)
    options = ["--bundle", "--format=iife", "--jsx=automatic", "--log-level=error", f"--outdir={folder}"]
    loaders = [f"--loader:.{kind}=dataurl" for kind in ("svg", "png", "ttf", "woff", "woff2")]
    define = '--define:process.env.NODE_ENV="production"'
    subprocess.run(["node_modules/.bin/esbuild", "page.jsx", *options, *loaders, define], cwd=home, check=True)


def firing(server):
    """The alerts that fire, as a list of them shows it."""
    for rule in alerts():
        for labels, _ in server.instant(rule["expr"], NOW):
            text = rule["annotations"]["summary"]
            for name, value in labels.items():
                text = text.replace(f"{{{{ $labels.{name} }}}}", value)
            yield {"name": rule["alert"], "severity": rule["labels"]["severity"], "summary": text}


def draw(server, board, width, target, folder):
    """One board at one width, as a PNG."""
    height = 110 + 38 * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    settings = {
        "board": board,
        "width": width - 8,
        "url": server.url,
        "now": NOW * 1000,
        "variables": {**CHOSEN, "recorded": RECORDED, "by": "tokenguard_feature", "by_text": "feature"},
        "alerts": list(firing(server)) if board["uid"] == "tokenguard-overview" else [],
        "version": json.loads((PAGE / "package.json").read_text())["dependencies"]["@grafana/ui"],
    }
    page = folder / "page.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="root"></div>'
        f"<script>window.PREVIEW = {json.dumps(settings).replace('<', chr(92) + 'u003c')};</script>"
        '<script src="page.js"></script>'
    )
    browser = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    size = [f"--window-size={width},{height}", f"--virtual-time-budget={WAIT_MS}", f"--user-data-dir={folder / 'user'}"]
    shot = [browser, *flags, *size, f"--screenshot={target}", page.as_uri()]
    subprocess.run(shot, check=True, timeout=180, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle(folder)
        data = Path(os.environ["TOKENGUARD_HISTORY"]) if "TOKENGUARD_HISTORY" in os.environ else load(folder)
        with prometheus(folder / "prometheus", data=data) as server:
            for path in SHOWN:
                for width in WIDTHS:
                    picture = target / f"{path.stem}-{width}.png"
                    draw(server, json.loads(path.read_text()), width, picture, folder)
                    print(f"{picture}: {picture.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
