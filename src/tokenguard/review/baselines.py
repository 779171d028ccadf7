"""Two baselines of the tests: what each test spent at the base, and what it spends now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.labels import markdown
from tokenguard.report.numbers import UNKNOWN, change, usd
from tokenguard.review.section import Section, cut, listed
from tokenguard.testing.baseline import Entry

FIGURES: Final = ("calls", "input_tokens", "output_tokens", "cost_usd")


class Spends(NamedTuple):
    """What one test spent and spends; `None` where it made no calls, or was not there."""

    test: str
    before: Entry | None
    now: Entry | None

    @property
    def grew(self) -> bool:
        """Whether it spends more than it did, or more than nothing; or so that nobody knows how much."""
        if self.now is None:
            return False
        return self.before is None or any(_more(getattr(self.before, f), getattr(self.now, f)) for f in FIGURES)

    @property
    def change_usd(self) -> float:
        """By how much it got dearer, as far as that is known."""
        return sum(sign * ((each and each.cost_usd) or 0.0) for sign, each in ((1, self.now), (-1, self.before)))


def _more(before: float | None, now: float | None) -> bool:
    if before is None:
        return False
    return now is None or now > before * (1 + 1e-9)


def compared(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[Spends]:
    """The tests whose entries differ, those that got dearer by most first."""
    tests = [
        Spends(test, before.get(test), now.get(test))
        for test in before.keys() | now.keys()
        if before.get(test) != now.get(test)
    ]
    return sorted(tests, key=lambda each: (-each.change_usd, not each.grew, each.test))


def section(before: Mapping[str, Entry] | None, now: Mapping[str, Entry] | None) -> Section | None:
    """The difference of two baselines; `None` where there is none. `None` for one is no file."""
    old, new = before or {}, now or {}
    tests = compared(old, new)
    if not tests:
        return None
    spend = [each for each in tests if not _same_spend(each)]
    rows = [
        f"| {markdown(cut(each.test))} | {' | '.join(_cell(each, figure) for figure in FIGURES)} |" for each in spend
    ]
    totals = " → ".join("no baseline" if each is None else _total(each.values()) for each in (before, now))
    lines = [f"Cost of all tests: {totals}.", *_counts(tests)]
    if rows:
        head = ["| test | calls | input tokens | output tokens | cost |", "|---|---:|---:|---:|---:|"]
        lines += ["", *head, *listed(rows, "test")]
    moved = [each.test for each in tests if _moved(each)]
    if moved:
        names = [f"- {markdown(cut(test))}" for test in moved]
        lines += [
            "",
            "The cacheable beginning of the prompt changed: what providers have cached of the old one is lost.",
        ]
        lines += ["", *listed(names, "test")]
    return Section("Tests", "\n".join(lines), any(each.grew for each in tests))


def _same_spend(each: Spends) -> bool:
    return each.before is not None and each.now is not None and each.before[:4] == each.now[:4]


def _moved(each: Spends) -> bool:
    if each.before is None or each.now is None:
        return False
    old, new = set(each.before.prefixes), set(each.now.prefixes)
    return bool(old - new and new - old)


def _counts(tests: Sequence[Spends]) -> Iterator[str]:
    there = [each for each in tests if each.before is not None and each.now is not None]
    counted = {
        "spending more": sum(each.grew for each in there),
        "spending less": sum(not each.grew and not _same_spend(each) for each in there),
        "new": sum(each.before is None for each in tests),
        "gone": sum(each.now is None for each in tests),
    }
    if any(counted.values()):
        yield f"Tests: {', '.join(f'{count:,} {what}' for what, count in counted.items() if count)}."


def _total(entries: Iterable[Entry]) -> str:
    costs = [entry.cost_usd for entry in entries]
    known = sum(cost for cost in costs if cost is not None)
    if None not in costs:
        return usd(known)
    return f"more than {usd(known)} ({costs.count(None):,} not known)"


def _cell(each: Spends, figure: str) -> str:
    old, new = (None if entry is None else _shown(getattr(entry, figure)) for entry in (each.before, each.now))
    if old is None:
        return f"new: {new}"
    if new is None:
        return f"{old}, gone"
    if old == new:
        return new
    before, now = getattr(each.before, figure), getattr(each.now, figure)
    by = "" if before is None or now is None else f" ({change(now - before, before)})"
    return f"{old} → {new}{by}"


def _shown(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return usd(value) if isinstance(value, float) else f"{value:,}"
