"""The lint rules, one file each.

In a checkout they live in the top-level folder `rules/`; in a wheel they are packed beside this file.
"""

from __future__ import annotations

import os

_CHECKOUT = os.path.normpath(os.path.join(os.path.realpath(__file__), *[os.pardir] * 4, "rules"))
if os.path.isfile(os.path.join(_CHECKOUT, "tg101_no_output_cap.py")):
    __path__.append(_CHECKOUT)
