"""What changes from call to call: clocks, random numbers, ids, the order of sets and listings; and how often."""

from __future__ import annotations

import ast
import re
from enum import IntEnum

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple


class Grain(IntEnum):
    """How often a value changes."""

    DAY = 1
    HOUR = 2
    CALL = 3


class Taint(NamedTuple):
    """A changing value: the expression where it enters the text, what makes it change, and how often."""

    node: ast.expr
    source: str
    grain: Grain
    kind: str  # "value", "order" (of a set or listing) or "padding" (pretty-printed)
    origin: ast.expr  # the expression that makes it
    placed: bool = False  # it has entered a text, where it is to be reported


CLOCKS: dict[str, Grain] = {
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.now",
                     "datetime.utcnow", "time.time", "time.time_ns", "time.monotonic", "time.perf_counter",
                     "time.ctime",
                     "time.asctime", "time.localtime", "time.gmtime", "pendulum.now", "arrow.now", "arrow.utcnow",
                     "django.utils.timezone.now", "pandas.Timestamp.now", "pandas.Timestamp.utcnow"), Grain.CALL),
    **dict.fromkeys(("datetime.date.today", "pendulum.today", "django.utils.timezone.localdate"), Grain.DAY),
}  # fmt: skip
RANDOM = lazy(
    r"uuid\.uuid[1-8]|uuid\.UUID\(\).*|random\.(?!seed|Random$)\w+|numpy\.random\.\w+|secrets\.\w+|os\.urandom|os\.getpid|shortuuid\.uuid"
    r"|random\.Random\(\)\.\w+|nanoid\.generate|ulid\.(new|ULID)|time\.strftime"
)
IDS = lazy(r"(?:^|_)(request|trace|correlation|span|message|invocation|call)_?id$", re.IGNORECASE)
PARTS = {"year": None, "month": None, "day": Grain.DAY, "weekday": Grain.DAY, "isoweekday": Grain.DAY,
          "date": Grain.DAY, "toordinal": Grain.DAY, "hour": Grain.HOUR, "tzinfo": None, "tzname": None,
          "utcoffset": None}  # fmt: skip
COUNTERS = ("?range", "?enumerate", "itertools.count")
LISTINGS = lazy(r"(?:.*\.)?(glob|iglob|rglob|listdir|scandir|iterdir)$")


def clock(path: str) -> Grain | None:
    """How often the time that a call of `path` tells changes; None if it tells none."""
    grain = CLOCKS.get(path)
    if grain is None and path.endswith((".datetime.now", ".datetime.utcnow", ".datetime.today", "timezone.now")):
        return Grain.CALL
    return grain


def regrain(taint: Taint, pattern: str | None) -> Taint | None:
    """The taint of a time printed by a strftime pattern; None when the pattern shows nothing below a month."""
    if pattern is None or "%" not in pattern:
        return taint
    if re.search(r"%-?[MSfXcTsrR]", pattern):
        return taint
    if re.search(r"%-?[HIpk]", pattern):
        return taint._replace(grain=min(taint.grain, Grain.HOUR))
    if re.search(r"%-?[daAjwuexDFUWV]", pattern):
        return taint._replace(grain=Grain.DAY)
    return None
