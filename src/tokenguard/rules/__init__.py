"""The lint rules, one file each.

In a checkout they live in the top-level folder `rules/`; in a wheel they are packed beside this file.
"""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[3] / "rules"
if (_CHECKOUT / "tg101_no_output_cap.py").is_file():
    __path__.append(str(_CHECKOUT))
