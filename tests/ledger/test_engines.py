"""What every ledger does, on all three engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import Alert, Balance, Entry, Refusal, Reservation, nano

from .engines import START, Clock

END = int(START) + 3600


def entry(budget: str = "b", key: str = "", usd: float | None = 1.0, tokens: int | None = None, **more) -> Entry:
    limit = None if usd is None else nano(usd)
    return Entry(budget, key, int(START), END, limit, tokens, **more)


def held(answer: Reservation | Refusal) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def amounts(balance: Balance) -> tuple[int, ...]:
    return balance[4:]


def test_reserve_settle_release(ledger: Ledger) -> None:
    """A reservation holds the worst case; settling charges the actual and gives back the rest, releasing gives all."""
    it = entry(tokens=100)
    first = held(ledger.reserve([it], nano(0.6), 50))
    assert ledger.read([it]) == [Balance("b", "", int(START), END, 0, 0, nano(0.6), 50, 0, 0)]
    no = ledger.reserve([it], nano(0.5), 1)
    assert no == Refusal(it, "usd", 0, nano(0.6), nano(1), nano(0.5))
    assert no.remaining == nano(0.4)
    assert no.in_unit(no.asked) == 0.5
    assert ledger.reserve([it], 0, 51) == Refusal(it, "tokens", 0, 50, 100, 51)
    second = held(ledger.reserve([it], nano(0.4), 50))
    ledger.settle(first, nano(0.1), 7)
    ledger.release(second)
    assert amounts(ledger.read([it])[0]) == (nano(0.1), 7, 0, 0, 0, 0)


def test_exactly_up_to_the_limit(ledger: Ledger) -> None:
    """The limit itself may be used up, to the last nano-dollar and not one further."""
    it = entry()
    held(ledger.reserve([it], nano(1) - 1, 0))
    assert isinstance(ledger.reserve([it], 2, 0), Refusal)
    held(ledger.reserve([it], 1, 0))
    assert isinstance(ledger.reserve([it], 1, 0), Refusal)
    held(ledger.reserve([it], 0, 0)), "a call that costs nothing fits into a full budget"


def test_zero_limit_blocks(ledger: Ledger) -> None:
    """A limit of 0 lets nothing through."""
    assert isinstance(ledger.reserve([entry(usd=0.0)], 1, 0), Refusal)


def test_all_or_none(ledger: Ledger) -> None:
    """What does not fit into one entry is held in none of them."""
    wide, narrow, other = entry("wide", usd=100), entry("narrow", "tenant=t", usd=0.1), entry("other", usd=100)
    no = ledger.reserve([wide, narrow, other], nano(0.2), 0)
    assert isinstance(no, Refusal)
    assert no.entry is narrow
    assert [amounts(balance) for balance in ledger.read([wide, narrow, other])] == [(0,) * 6] * 3


def test_not_enforced(ledger: Ledger) -> None:
    """An entry that does not enforce is counted past its limit, and the reservation says so."""
    warn, strict = entry("warn", usd=0.1, enforce=False), entry("strict")
    made = held(ledger.reserve([warn, strict], nano(0.2), 0))
    assert made.over == (Refusal(warn, "usd", 0, 0, nano(0.1), nano(0.2)),)
    ledger.settle(made, nano(0.2), 0)
    assert [balance.spent_nano for balance in ledger.read([warn, strict])] == [nano(0.2)] * 2
    assert held(ledger.reserve([strict], 0, 0)).over == ()


def test_idempotent(ledger: Ledger) -> None:
    """A second settle or release of the same reservation changes nothing."""
    it = entry()
    made = held(ledger.reserve([it], nano(0.5), 10))
    ledger.settle(made, nano(0.2), 5)
    ledger.settle(made, nano(0.2), 5)
    ledger.release(made)
    assert amounts(ledger.read([it])[0]) == (nano(0.2), 5, 0, 0, 0, 0)
    again = [held(ledger.reserve([it], nano(0.3), 0, key="the-same")) for _ in range(2)]
    assert again[0].id == again[1].id
    assert ledger.read([it])[0].reserved_nano == nano(0.3)


def test_above_the_reservation(ledger: Ledger) -> None:
    """What a call really cost is recorded even where it is more than was reserved, and the next call is refused."""
    it = entry()
    ledger.settle(held(ledger.reserve([it], nano(0.1), 0)), nano(1.5), 0)
    assert ledger.read([it])[0].spent_nano == nano(1.5)
    assert isinstance(ledger.reserve([it], 1, 0), Refusal)


def test_no_entries(ledger: Ledger) -> None:
    """A call that no budget matches can be reserved and settled like any other."""
    made = held(ledger.reserve([], nano(5), 5))
    assert ledger.settle(made, nano(5), 5) == ()
    assert ledger.read([]) == []


def test_orphans(ledger: Ledger, clock: Clock) -> None:
    """What nobody settles before its lease ends is charged in full and stated apart; a late settle corrects that."""
    it = entry(tokens=1000)
    lost = held(ledger.reserve([it], nano(0.4), 10))
    late = held(ledger.reserve([it], nano(0.3), 20, lease_s=30))
    clock.time += 29.9
    assert ledger.read([it])[0].reserved_nano == nano(0.7)
    clock.time += 0.2
    assert amounts(ledger.read([it])[0]) == (nano(0.3), 20, nano(0.4), 10, nano(0.3), 20)
    assert isinstance(ledger.reserve([it], nano(0.4), 0), Refusal)
    ledger.settle(late, nano(0.1), 2)
    assert amounts(ledger.read([it])[0]) == (nano(0.1), 2, nano(0.4), 10, 0, 0)
    clock.time += 60
    assert amounts(ledger.read([it])[0]) == (nano(0.5), 12, 0, 0, nano(0.4), 10)
    ledger.release(lost)
    ledger.release(lost)
    assert amounts(ledger.read([it])[0]) == (nano(0.1), 2, 0, 0, 0, 0)


def test_settle_after_the_lease_unseen(ledger: Ledger, clock: Clock) -> None:
    """An ended lease that nobody looked at yet is settled as usual."""
    it = entry()
    made = held(ledger.reserve([it], nano(0.4), 10))
    clock.time += 61
    ledger.settle(made, nano(0.1), 1)
    assert amounts(ledger.read([it])[0]) == (nano(0.1), 1, 0, 0, 0, 0)


def test_list_and_reset(ledger: Ledger, clock: Clock) -> None:
    """Listing shows the accounts of open windows; a reset empties one budget, and calls in flight stay reserved."""
    one, two, other = entry("b", "tenant=1"), entry("b", "tenant=2"), entry("other")
    ledger.settle(held(ledger.reserve([one, other], nano(0.5), 1)), nano(0.5), 1)
    flying = held(ledger.reserve([two], nano(0.25), 1))
    assert [(b.budget, b.key, b.spent_nano, b.reserved_nano) for b in sorted(ledger.accounts())] == [
        ("b", "tenant=1", nano(0.5), 0),
        ("b", "tenant=2", 0, nano(0.25)),
        ("other", "", nano(0.5), 0),
    ]
    assert ledger.reset("b") == 2
    assert ledger.reset("no such budget") == 0
    assert [balance.spent_nano for balance in ledger.read([one, other])] == [0, nano(0.5)]
    ledger.settle(flying, nano(0.2), 1)
    assert ledger.read([two])[0].spent_nano == nano(0.2)
    clock.time = END
    assert ledger.accounts() == []


def test_reset_between_orphan_and_settle(ledger: Ledger, clock: Clock) -> None:
    """An orphan that was reset away and is settled late does not leave a negative balance."""
    it = entry()
    made = held(ledger.reserve([it], nano(0.4), 10))
    clock.time += 61
    ledger.reset("b")
    ledger.settle(made, nano(0.1), 1)
    assert amounts(ledger.read([it])[0]) == (0,) * 6


def test_alerts_once(ledger: Ledger) -> None:
    """Each threshold is reported once, all that one settle crosses together, money and tokens alike."""
    it = entry(tokens=100, alert_at=(0.5, 0.8, 1.0))

    def spend(usd: float, tokens: int) -> list[float]:
        return [a.threshold for a in ledger.settle(held(ledger.reserve([it], nano(usd), tokens)), nano(usd), tokens)]

    assert spend(0.49, 0) == []
    assert spend(0.01, 0) == [0.5]
    assert spend(0.01, 0) == []
    assert spend(0.0, 100) == [0.8, 1.0]
    assert ledger.alerts([it]) == ()
    ledger.reset("b")
    assert spend(0.9, 0) == [0.5, 0.8], "after a reset they are news again"


def test_alert_of_orphans(ledger: Ledger, clock: Clock) -> None:
    """A threshold that an orphan's charge crosses is reported by whoever asks next, and a release does not eat it."""
    it = entry(alert_at=(0.5,))
    held(ledger.reserve([it], nano(0.7), 0))
    other = held(ledger.reserve([it], nano(0.1), 0, lease_s=1000))
    clock.time += 61
    ledger.read([it])
    ledger.release(other)
    assert ledger.alerts([it]) == (Alert(it, 0.5, nano(0.7), 0),)
    assert ledger.alerts([it]) == ()


def test_alert_after_a_reload(ledger: Ledger) -> None:
    """A policy that lowers the limit makes thresholds due that were not before."""
    ledger.settle(held(ledger.reserve([entry(alert_at=(0.5,))], nano(0.3), 0)), nano(0.3), 0)
    lower = entry(usd=0.5, alert_at=(0.5,))
    assert [a.threshold for a in ledger.settle(held(ledger.reserve([lower], 1, 0)), 1, 0)] == [0.5]


def test_windows_are_apart(ledger: Ledger) -> None:
    """A new window starts from nothing, and a call is charged to the window it was reserved in."""
    old = entry()
    new = Entry("b", "", END, END + 3600, nano(1))
    made = held(ledger.reserve([old], nano(0.9), 0))
    held(ledger.reserve([new], nano(0.9), 0))
    ledger.settle(made, nano(0.8), 0)
    assert [balance.spent_nano for balance in ledger.read([old, new])] == [nano(0.8), 0]


def test_odd_names(ledger: Ledger) -> None:
    """Names and keys in any script, with quotes and spaces, stay apart."""
    odd = [entry("b", key) for key in ("tenant=ü", "tenant='; DROP TABLE account; --", "tenant=%1F", "tenant= ", "")]
    for it in odd:
        ledger.settle(held(ledger.reserve([it], nano(0.1), 0)), nano(0.1), 0)
    assert [balance.spent_nano for balance in ledger.read(odd)] == [nano(0.1)] * 5
    assert sorted(b.key for b in ledger.accounts()) == sorted(it.key for it in odd)


def test_large_numbers_are_exact(ledger: Ledger) -> None:
    """Up to the largest limit not one nano-dollar is rounded away."""
    it = entry(usd=9_000_000.0)
    top = nano(9_000_000)
    held(ledger.reserve([it], top - 3, 0))
    held(ledger.reserve([it], 2, 0))
    assert isinstance(ledger.reserve([it], 2, 0), Refusal)
    assert ledger.read([it])[0].reserved_nano == top - 1


@pytest.mark.parametrize("how", ["threads", "asyncio"])
def test_fifty_at_once(ledger: Ledger, how: str) -> None:
    """A limit of $1, 50 callers at once, $0.35 each: exactly 2 get through."""
    it = entry()
    if how == "threads":
        gate = threading.Barrier(50)

        def call(_: int) -> Reservation | Refusal:
            gate.wait()
            return ledger.reserve([it], nano(0.35), 0)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(call, range(50)))
    else:

        async def all_at_once() -> list[Reservation | Refusal]:
            return await asyncio.gather(*(ledger.run(ledger.reserve, [it], nano(0.35), 0) for _ in range(50)))

        answers = asyncio.run(all_at_once())
    assert sum(isinstance(answer, Reservation) for answer in answers) == 2


def test_alerts_once_over_many_workers(open_ledger: Callable, engine: str) -> None:
    """Whoever shares the ledger, a threshold is reported by exactly one of them."""
    ledgers = [open_ledger()] * 8 if engine == "memory" else [open_ledger() for _ in range(8)]
    it = entry(usd=1.0, alert_at=(0.25, 0.5, 0.75, 1.0))

    def work(ledger: Ledger) -> list[Alert]:
        found: list[Alert] = []
        for _ in range(25):
            found += ledger.settle(held(ledger.reserve([it], nano(0.005), 0)), nano(0.005), 0)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [alert for alerts in pool.map(work, ledgers) for alert in alerts]
    assert sorted(alert.threshold for alert in found) == [0.25, 0.5, 0.75, 1.0]
    assert ledgers[0].read([it])[0].spent_nano == nano(1)


@pytest.mark.blocks
async def test_cancelled_reserve_is_released(open_ledger: Callable) -> None:
    """A task that is cancelled while it waits for the ledger leaves nothing reserved."""
    ledger = open_ledger()
    it = entry()
    task = asyncio.create_task(ledger.run(ledger.reserve, [it], nano(0.5), 0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ledger.submit(int).result()
    for _ in range(100):
        if ledger.read([it])[0].reserved_nano == 0 or not task.cancelled():
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("still reserved")


def test_first_refusal(open_ledger: Callable) -> None:
    """The first refusal of a window is an alert of its own, once over all who share the ledger; not without alerts."""
    one, other = open_ledger(), open_ledger()
    it = entry(alert_at=(0.5, 1.0))
    one.settle(held(one.reserve([it], nano(0.3), 7)), nano(0.3), 7)
    (alert,) = one.refused(it)
    assert (alert.threshold, alert.refused, alert.spent_nano, alert.spent_tokens) == (1.0, True, nano(0.3), 7)
    assert one.refused(it) == ()
    if one is not other and type(one).__name__ != "MemoryLedger":
        assert other.refused(it) == ()
    assert [a.threshold for a in one.settle(held(one.reserve([it], nano(0.3), 0)), nano(0.3), 0)] == [0.5]
    one.reset("b")
    assert len(one.refused(it)) == 1, "after a reset it is news again"
    assert one.refused(entry("quiet", alert_at=())) == ()
    assert len(one.refused(entry("dear call, nothing spent yet", alert_at=(1.0,)))) == 1


def test_no_refusal_after_the_last_threshold(ledger: Ledger) -> None:
    """Who was told that all is spent is not told again by a refusal."""
    it = entry(alert_at=(1.0,))
    assert len(ledger.settle(held(ledger.reserve([it], nano(1), 0)), nano(1), 0)) == 1
    assert ledger.refused(it) == ()


def test_drop(ledger: Ledger) -> None:
    """An account that is dropped is gone, what is under way in it settles into nothing, and others stay as they are."""
    over, stays = entry("over"), entry("stays")
    first, second = (held(ledger.reserve([over, stays], nano(0.25), 5)) for _ in range(2))
    ledger.settle(first, nano(0.125), 2)
    ledger.drop([over.account, "never was"])
    ledger.settle(second, nano(0.125), 2)
    assert [(each.budget, each.spent_nano, each.reserved_nano) for each in ledger.accounts()] == [
        ("stays", nano(0.25), 0)
    ]
    held(ledger.reserve([over], nano(1), 0)), "it begins anew"
