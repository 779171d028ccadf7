"""Any interleaving of operations leaves every engine with the balances of a model that is simple enough to believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tokenguard.ledger import sqlite as sqlite_module
from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import Alert, Entry, Refusal, Reservation
from tokenguard.ledger.memory import MemoryLedger
from tokenguard.ledger.slices import SlicedLedger

from .engines import START, Clock

END = int(START) + 10**9
ENTRIES = [
    Entry("usd", "", int(START), END, 100, None, (0.5, 1.0)),
    Entry("tokens", "tenant=a", int(START), END, None, 50, (0.2, 0.9)),
    Entry("both", "", int(START), END, 150, 80, (0.3,)),
    Entry("warn", "", int(START), END, 60, None, (0.5, 1.0, 1.5), enforce=False),
]
SOME = st.lists(st.sampled_from(ENTRIES), unique=True, min_size=0, max_size=4)
FEW = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Account:
    spent: list[int] = field(default_factory=lambda: [0, 0])
    reserved: list[int] = field(default_factory=lambda: [0, 0])
    orphaned: list[int] = field(default_factory=lambda: [0, 0])
    alerted: set[float] = field(default_factory=set)


@dataclass
class Held:
    made: Reservation
    amounts: tuple[int, int]
    expires: float
    state: str = "open"


class Machine(RuleBasedStateMachine):
    """Two handles on one ledger (one handle, in memory) beside the model."""

    open_ledger: Callable[..., Ledger]
    clock: Clock
    held = Bundle("held")
    looks_every: int = 1
    """After so many steps the balances are looked at: a look itself may write what was left for later."""

    @initialize()
    def start(self) -> None:
        self.clock.time = START
        self.steps = 0
        first = self.open_ledger(fresh=True)
        self.handles = [first, first if isinstance(first, MemoryLedger) else self.open_ledger()]
        self.model = {entry.account: Account() for entry in ENTRIES}
        self.all: list[Held] = []
        self.overshot: set[str] = set()

    @rule(target=held, which=st.integers(0, 1), entries=SOME, nano=st.integers(0, 60), tokens=st.integers(0, 40),
          lease=st.sampled_from([10, 60]))  # fmt: skip
    def reserve(self, which: int, entries: list[Entry], nano: int, tokens: int, lease: int) -> object:
        answer = self.handles[which].reserve(entries, nano, tokens, lease_s=lease)
        over = []
        for entry in entries:
            account = self.model[entry.account]
            limits = (entry.limit_nano, entry.limit_tokens)
            for spent, reserved, asked, limit in zip(
                account.spent, account.reserved, (nano, tokens), limits, strict=True
            ):
                if limit is not None and spent + reserved + asked > limit:
                    over.append((entry, limit, asked))
                    break
        strict = next((row for row in over if row[0].enforce), None)
        if strict is not None:
            assert isinstance(answer, Refusal)
            assert (answer.entry, answer.limit, answer.asked) == strict
            assert answer.remaining < answer.asked
            return None
        assert isinstance(answer, Reservation)
        assert [no.entry for no in answer.over] == [row[0] for row in over]
        for entry in entries:
            for i, amount in enumerate((nano, tokens)):
                self.model[entry.account].reserved[i] += amount
        mine = Held(answer, (nano, tokens), self.clock.time + lease)
        self.all.append(mine)
        return mine

    @rule(which=st.integers(0, 1), mine=held, nano=st.integers(0, 70), tokens=st.integers(0, 50), soon=st.booleans())
    def settle(self, which: int, mine: Held | None, nano: int, tokens: int, soon: bool) -> None:
        if mine is None:
            return
        ledger = self.handles[which]
        if soon and (ledger.gathers or not ledger.threads):  # others settle in a thread, in no order
            heard: list[Alert] = []
            ledger.on_alerts = heard.extend
            ledger.settle_soon(mine.made, nano, tokens)
            ledger.read([])  # any operation takes along what was gathered
            ledger.on_alerts = None
            alerts = tuple(heard)
        else:
            alerts = ledger.settle(mine.made, nano, tokens)
        if mine.state == "closed":
            assert alerts == ()
            return
        self.close(mine, (nano, tokens))
        due = []
        for entry in mine.made.entries:
            account = self.model[entry.account]
            shares = [
                spent / limit
                for spent, limit in zip(account.spent, (entry.limit_nano, entry.limit_tokens), strict=True)
                if limit
            ]
            top = max(account.alerted, default=0)
            news = [at for at in entry.alert_at if top < at <= max(shares)]
            account.alerted.update(news)
            due += [(entry, at) for at in news]
        assert [(alert.entry, alert.threshold) for alert in alerts] == due

    @rule(which=st.integers(0, 1), mine=consumes(held))
    def release(self, which: int, mine: Held | None) -> None:
        if mine is None:
            return
        self.handles[which].release(mine.made)
        if mine.state != "closed":
            self.close(mine, (0, 0))

    def close(self, mine: Held, actual: tuple[int, int]) -> None:
        for entry in mine.made.entries:
            account = self.model[entry.account]
            for i in (0, 1):
                if mine.state == "orphaned":
                    account.spent[i] = max(0, account.spent[i] + actual[i] - mine.amounts[i])
                    account.orphaned[i] = max(0, account.orphaned[i] - mine.amounts[i])
                else:
                    account.reserved[i] -= mine.amounts[i]
                    account.spent[i] += actual[i]
                if actual[i] > mine.amounts[i]:
                    self.overshot.add(entry.account)
        mine.state = "closed"

    @rule(seconds=st.sampled_from([1, 10, 50]))
    def wait(self, seconds: int) -> None:
        self.clock.time += seconds
        for handle in self.handles:  # what is only seen when looked at is looked at, so that the model can stay simple
            handle.read(ENTRIES)
        for mine in self.all:
            if mine.state == "open" and mine.expires <= self.clock.time:
                mine.state = "orphaned"
                for entry in mine.made.entries:
                    account = self.model[entry.account]
                    for i in (0, 1):
                        account.reserved[i] -= mine.amounts[i]
                        account.spent[i] += mine.amounts[i]
                        account.orphaned[i] += mine.amounts[i]

    @rule(which=st.integers(0, 1), entry=st.sampled_from(ENTRIES))
    def reset(self, which: int, entry: Entry) -> None:
        self.handles[which].reset(entry.budget)
        self.model[entry.account].spent = [0, 0]
        self.model[entry.account].orphaned = [0, 0]
        self.model[entry.account].alerted = set()

    @invariant()
    def balances(self) -> None:
        self.steps += 1
        if self.steps % self.looks_every:
            return
        for handle in self.handles:
            for entry, balance in zip(ENTRIES, handle.read(ENTRIES), strict=True):
                account = self.model[entry.account]
                assert balance[4:] == (*account.spent, *account.reserved, *account.orphaned)
                if entry.enforce and entry.account not in self.overshot:
                    assert entry.limit_nano is None or balance.spent_nano + balance.reserved_nano <= entry.limit_nano
                    assert (
                        entry.limit_tokens is None
                        or balance.spent_tokens + balance.reserved_tokens <= entry.limit_tokens
                    )


def test_engines_follow_the_model(open_ledger: Callable[..., Ledger], clock: Clock) -> None:
    """Balances, refusals and alerts are the model's after every step, and no limit is passed."""
    machine = type("TheMachine", (Machine,), {"open_ledger": staticmethod(open_ledger), "clock": clock})
    run_state_machine_as_test(machine, settings=FEW)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_reservations_that_stand_in_no_account(
    open_ledger: Callable[..., Ledger], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where nobody looks for a while: what is loose counts, and so does what has moved."""
    monkeypatch.setattr(sqlite_module, "_MOST_LOOSE", 2)
    machine = type(
        "TheMachine", (Machine,), {"open_ledger": staticmethod(open_ledger), "clock": clock, "looks_every": 11}
    )
    run_state_machine_as_test(machine, settings=FEW)


class SlicedMachine(RuleBasedStateMachine):
    """Two processes' slices of one shared ledger: the shared limit holds, and in the end the sums are right."""

    open_ledger: Callable[..., Ledger]
    clock: Clock
    held = Bundle("held")

    @initialize(share=st.sampled_from([0.05, 0.2, 0.5]))
    def start(self, share: float) -> None:
        self.clock.time = START
        self.shared = self.open_ledger(fresh=True, lease_s=10_000)
        self.workers = [SlicedLedger(self.shared, share=share, slice_lease_s=60, idle_s=10_000) for _ in range(2)]
        self.spent = {entry.account: [0, 0] for entry in ENTRIES}
        self.open: list[tuple[int, Reservation]] = []

    @rule(target=held, which=st.integers(0, 1), entries=SOME, nano=st.integers(0, 30), tokens=st.integers(0, 20))
    def reserve(self, which: int, entries: list[Entry], nano: int, tokens: int) -> object:
        answer = self.workers[which].reserve(entries, nano, tokens)
        if isinstance(answer, Refusal):
            assert answer.entry.enforce
            assert answer.remaining < answer.asked
            return None
        self.open.append((which, answer))
        return self.open[-1]

    @rule(mine=held, share=st.floats(0, 1))
    def settle(self, mine: tuple[int, Reservation] | None, share: float) -> None:
        if mine is None:
            return
        which, made = mine
        nano, tokens = int(made.nano * share), int(made.tokens * share)
        self.workers[which].settle(made, nano, tokens)
        if mine in self.open:
            self.open.remove(mine)
            for entry in made.entries:
                self.spent[entry.account][0] += nano
                self.spent[entry.account][1] += tokens

    @rule(seconds=st.sampled_from([1, 61]))
    def wait(self, seconds: int) -> None:
        self.clock.time += seconds

    @invariant()
    def within_the_limit(self) -> None:
        for entry, balance in zip(ENTRIES, self.shared.read(ENTRIES), strict=True):
            mine = [made for _, made in self.open if entry in made.entries]
            nano = self.spent[entry.account][0] + sum(made.nano for made in mine)
            tokens = self.spent[entry.account][1] + sum(made.tokens for made in mine)
            if entry.enforce:
                assert entry.limit_nano is None or nano <= balance.spent_nano + balance.reserved_nano
                assert entry.limit_tokens is None or tokens <= balance.spent_tokens + balance.reserved_tokens
                assert entry.limit_nano is None or balance.spent_nano + balance.reserved_nano <= entry.limit_nano
                assert (
                    entry.limit_tokens is None or balance.spent_tokens + balance.reserved_tokens <= entry.limit_tokens
                )

    def teardown(self) -> None:
        if not hasattr(self, "workers"):
            return
        for which, made in list(self.open):
            self.settle((which, made), 1.0)
        for worker in self.workers:
            worker._keeper.stop(60)  # it may be returning a slice just now
            worker._give_up(worker._retire(lambda _: True))
        for entry, balance in zip(ENTRIES, self.shared.read(ENTRIES), strict=True):
            assert [balance.spent_nano, balance.spent_tokens] == self.spent[entry.account]
            assert (balance.reserved_nano, balance.reserved_tokens) == (0, 0)


def test_slices_keep_the_limit(open_ledger: Callable[..., Ledger], clock: Clock) -> None:
    """What processes lease, spend and return never passes the limit, and sums up to what was settled."""
    machine = type("TheMachine", (SlicedMachine,), {"open_ledger": staticmethod(open_ledger), "clock": clock})
    run_state_machine_as_test(machine, settings=FEW)
