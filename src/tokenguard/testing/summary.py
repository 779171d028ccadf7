"""What the run came to: judged, and told to the terminal, to a JSON file, to the baseline and to GitHub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tokenguard.testing import baseline
from tokenguard.testing.account import Account
from tokenguard.testing.figures import Figures, cost_text, many, table, total, usd
from tokenguard.testing.judgement import percent
from tokenguard.testing.settings import Settings

LISTED: Final = 10
"""New and vanished tests, and notes, that are listed by name."""
GITHUB: Final = "GITHUB_STEP_SUMMARY"


class Summary:
    """What all processes spent, and what is to be said of it."""

    def __init__(
        self, wanted: Settings, file: Path, before: Mapping[str, baseline.Entry] | None, *, asked: bool
    ) -> None:
        self.wanted = wanted
        self.file = file
        self.before = before
        self.asked = asked
        self.vanished: list[str] = []
        self.notes: dict[str, None] = {}
        """Sentences, once each."""
        self.problems: list[str] = []
        """Why the run fails."""
        self.said: list[str] = []
        """What was done."""
        self._accounts: dict[tuple[str, str], Account] = {}
        self._passed: set[str] = set()
        self._failed: set[str] = set()

    # --- what comes in -----------------------------------------------------------------------------------------------

    def add(self, account: Account) -> None:
        """Take an account; a later one of the same owner and process replaces it."""
        if account.attempts:
            self._accounts[account.owner, account.worker] = account

    def receive(self, measured: Mapping[str, Any]) -> None:
        """Take what a worker sends at its end."""
        for each in measured["accounts"]:
            self.add(Account(**each))
        self.notes.update(dict.fromkeys(measured["notes"]))
        self.vanished = sorted({*self.vanished, *measured["vanished"]})

    def went(self, report: pytest.TestReport) -> None:
        """Note how a test went."""
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call":
            self._passed.add(report.nodeid)

    # --- the figures -------------------------------------------------------------------------------------------------

    @property
    def total(self) -> Figures:
        """Everything that was spent."""
        return total(each.figures for each in self._accounts.values())

    def _owners(self, *, shared: bool) -> list[tuple[str, Figures, int]]:
        """Tests, or what they share: owner, figures and attempts, the most expensive first."""
        found: dict[str, tuple[Figures, int]] = {}
        for each in self._accounts.values():
            if each.shared is shared:
                before, attempts = found.get(each.owner, (Figures(), 0))
                found[each.owner] = before.plus(each.figures), attempts + len(each.attempts)
        rows = [(owner, figures, attempts) for owner, (figures, attempts) in found.items()]
        return sorted(rows, key=lambda row: (-row[1].cost_usd, -row[1].input_tokens, row[0]))

    def _entries(self) -> dict[str, baseline.Entry]:
        """The tests of this run that made calls, as a baseline has them."""
        return {
            each.owner: baseline.entry_of(each.last, tuple(each.prefixes))
            for each in self._accounts.values()
            if not each.shared and each.last.calls
        }

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """Judge the run and write its files; the exit status, 0 if all is well."""
        self._judge()
        status = pytest.ExitCode.TESTS_FAILED if self.problems else pytest.ExitCode.OK
        for write in (self._update, self._write_json, self._tell_github):
            try:
                write()
            except OSError as error:
                self.problems.append(f"{error.filename}: it cannot be written: {error.strerror or error}")
                status = pytest.ExitCode.USAGE_ERROR
        return status

    def _judge(self) -> None:
        spent, wanted = self.total, self.wanted
        if wanted.max_cost is not None:
            option = f"--tokenguard-max-cost={wanted.max_cost:g}"
            if spent.cost_usd > wanted.max_cost * (1 + 1e-9):
                self.problems.append(f"the run cost {cost_text(spent)}, and {option} allows {usd(wanted.max_cost)}")
            elif spent.unpriced:
                self.problems.append(
                    f"{many(spent.unpriced, 'call')} without a known price, so {option} cannot be kept; add the models "
                    "under [prices] in tokenguard.toml"
                )
        if wanted.max_calls is not None and spent.calls > wanted.max_calls:
            self.problems.append(
                f"the run made {many(spent.calls, 'call')}, and --tokenguard-max-calls allows {wanted.max_calls:,}"
            )

    def _update(self) -> None:
        if not self.wanted.update:
            return
        entries = {name: each for name, each in (self.before or {}).items() if name not in self.vanished}
        passed = self._passed - self._failed
        ids = {each.nodeid: each.owner for each in self._accounts.values()}
        now = self._entries()
        for nodeid in passed:
            name = ids.get(nodeid, nodeid)
            entries.pop(name, None)
            if name in now:
                entries[name] = now[name]
        baseline.write(self.file, entries)
        self.said.append(f"baseline: {many(len(entries), 'test')} in {self.file}")
        kept = sorted(name for nodeid, name in ids.items() if nodeid in self._failed and name in now)
        if kept:
            self.said.append(f"baseline: {_some(kept)} failed, and kept what was written before")

    def _write_json(self) -> None:
        if self.wanted.json is None:
            return
        tests, shared = (
            {
                owner: {**_plain(figures), "attempts": attempts}
                for owner, figures, attempts in self._owners(shared=which)
            }
            for which in (False, True)
        )
        for each in self._accounts.values():
            of = (shared if each.shared else tests)[each.owner]
            of.setdefault("records", []).extend(each.calls)
        everything = {
            "version": 1,
            "total": _plain(self.total),
            "tests": tests,
            "shared": shared,
            "notes": list(self.notes),
            "problems": self.problems,
            "new": self._new(),
            "vanished": self.vanished,
        }
        text = json.dumps(everything, indent=1, ensure_ascii=False) + "\n"
        baseline.write_atomically(Path(self.wanted.json), text)
        self.said.append(f"written: {self.wanted.json}")

    def _new(self) -> list[str]:
        """Tests that the baseline does not have."""
        return [] if self.before is None or self.wanted.update else sorted(self._entries().keys() - self.before.keys())

    # --- what goes out -----------------------------------------------------------------------------------------------

    def show(self, terminal: Any) -> None:
        """Print the section of the terminal's summary."""
        spent = self.total
        rest = list(self._rest())
        if not (spent.calls or spent.blocked or rest or self.problems or self.asked):
            return
        terminal.write_sep("=", "tokenguard")
        terminal.write_line(_headline(spent))
        for title, rows in self._tables():
            terminal.write_line("")
            for line in table([_titles(title), *rows], 1):
                terminal.write_line(line)
        if rest:
            terminal.write_line("")
        for line in rest:
            terminal.write_line(line)
        for problem in self.problems:
            terminal.write_line(f"FAILED {problem}.", red=True)

    def _tables(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        for title, which, what in (("test", False, "attempt"), ("shared by tests", True, "worker")):
            owners = self._owners(shared=which)
            top = owners[: self.wanted.top]
            if top:
                left_out = len(owners) - len(top)
                yield (
                    f"{title}, the {self.wanted.top} most expensive of {len(owners)}" if left_out else title,
                    [_row(owner, figures, many(times, what) if times > 1 else "") for owner, figures, times in top],
                )

    def _rest(self) -> Iterator[str]:
        """Lines about the baseline, and what was written."""
        yield from list(self.notes)[:LISTED]
        if len(self.notes) > LISTED:
            yield f"and {len(self.notes) - LISTED} more like these"
        if new := self._new():
            yield f"new, not in the baseline: {_some(new)}"
        if self.vanished:
            what = "taken out of the baseline" if self.wanted.update else "in the baseline, and no more"
            yield f"{what}: {_some(self.vanished)}"
        yield from self.said

    def _tell_github(self) -> None:
        """Append to the page that GitHub Actions shows of a step."""
        path = os.environ.get(GITHUB)
        if not path or not (self.total.calls or self.problems):
            return
        lines = ["### tokenguard", "", _headline(self.total), ""]
        for title, rows in self._tables():
            titles = _titles(title)
            lines += [
                f"| {' | '.join(titles)} |",
                f"|---{'|---:' * (len(titles) - 1)}|",
                *(f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in rows),
                "",
            ]
        lines += [f"- {line}" for line in self._rest()] + [f"- **{problem}**" for problem in self.problems]
        with open(path, "a", encoding="utf-8") as page:
            page.write("\n".join(lines) + "\n")


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        **figures._asdict(),
        "cost_usd": round(figures.cost_usd, 9),
        "cache_hit": None if figures.cache_hit is None else round(figures.cache_hit, 4),
    }


def _headline(spent: Figures) -> str:
    hit = "" if spent.cache_hit is None else f" (cache hit {percent(spent.cache_hit)})"
    words = [
        f"spent {cost_text(spent)} in {many(spent.calls, 'call')}: {spent.input_tokens:,} tokens in{hit}, "
        f"{spent.output_tokens:,} out"
    ]
    if spent.retries:
        words.append(f"{spent.retries:,} sent again")
    if spent.blocked:
        words.append(f"{spent.blocked:,} refused by a guard")
    if spent.unpriced:
        words.append(f"{many(spent.unpriced, 'call')} without a known price")
    if spent.estimated:
        words.append(f"{many(spent.estimated, 'call')} estimated")
    return "; ".join(words)


def _titles(first: str) -> tuple[str, ...]:
    return (first, "calls", "input", "cache hit", "output", "cost")


def _row(owner: str, figures: Figures, times: str) -> tuple[str, ...]:
    return (
        f"{owner}, {times}" if times else owner,
        f"{figures.calls:,}",
        f"{figures.input_tokens:,}",
        "-" if figures.cache_hit is None else percent(figures.cache_hit),
        f"{figures.output_tokens:,}",
        cost_text(figures),
    )


def _some(names: list[str]) -> str:
    """The first names of many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
