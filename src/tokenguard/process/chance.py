"""Random numbers of our own: what `random` gives next is the program's, who may have seeded it."""

from __future__ import annotations

from random import SystemRandom
from typing import Final

CHANCE: Final = SystemRandom()
"""Has no state: a fork copies none either."""
