"""Score TG101, TG102 and TG103 on real code, against labels given by hand.

    python tests/lint/score_labels.py FOLDER

FOLDER gets each labelled package's wheel, unpacked, as `name-version/`; those that are missing are fetched from the
package index with pip. `labels.json` holds package, version, path, line and label ("bad": should be reported; "fine":
should not), and no source. The candidates of TG101 were listed by name alone (any call whose last names are those of an
LLM API or model class), those of TG102 by regular expressions over clocks and ids, those of TG103 by any call outside
of tests with a number from 20 to 999 under a name like `k`, `top_k`, `n_results` or `limit`, so that misses are seen,
too.

The packages are in three sets: `tuning` was read while the rules were written, `checked` was read once afterwards and
led to changes, `fresh` was fetched when the rules were done; what it showed is told in docs/lint.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.run import lint_file

LABELS = Path(__file__).with_name("labels.json")
OUTCOMES = ("hit", "missed", "false alarm", "quiet")
RULES = ("TG101", "TG102", "TG103")


def fetch(package: str, folder: Path) -> Path:
    """The unpacked wheel of `name==version` under `folder`, downloaded if need be."""
    target = folder / package.replace("==", "-")
    if not target.exists():
        wheels = folder / "wheels"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(wheels),
        ]
        subprocess.run([*pip, package], check=True)
        name = package.replace("==", "-").replace("_", "-").lower()
        wheel = next(w for w in wheels.glob("*.whl") if w.name.lower().replace("_", "-").startswith(name))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target, [n for n in archive.namelist() if n.endswith(".py")])
    return target


def main() -> None:
    """Print hits, false alarms and misses by rule and set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    counts: Counter[tuple[str, str, str]] = Counter()
    for package, entry in json.loads(LABELS.read_text()).items():
        base = fetch(package, folder)
        linter = Linter(Config(root=base, select=RULES))
        for rule, files in entry["labels"].items():
            for path, lines in files.items():
                found = {f.span.line for f in lint_file(linter, str(base / path)).findings if f.rule == rule}
                for line, label in lines.items():
                    outcome = {"bad": ("missed", "hit"), "fine": ("quiet", "false alarm")}[label][int(line) in found]
                    counts[rule, entry["set"], outcome] += 1
                    if outcome in ("missed", "false alarm"):
                        print(f"{outcome}: {rule} {package} {path}:{line}")
                for line in found - {int(n) for n in lines}:
                    print(f"not labelled: {rule} {package} {path}:{line}")
    for rule in RULES:
        for chosen in (("tuning",), ("checked",), ("fresh",), ("tuning", "checked", "fresh")):
            hit, missed, wrong, quiet = (sum(counts[rule, s, o] for s in chosen) for o in OUTCOMES)
            precision = f"{hit / (hit + wrong):.3f}" if hit + wrong else "-"
            recall = f"{hit / (hit + missed):.3f}" if hit + missed else "-"
            name = chosen[0] if len(chosen) == 1 else "all"
            print(
                f"{rule} {name:8} hit {hit:3} missed {missed:2} false {wrong} quiet {quiet:3} P {precision} R {recall}"
            )


if __name__ == "__main__":
    main()
