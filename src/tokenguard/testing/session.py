"""The budget of a whole run: kept in one ledger by all of its processes, and held when it says `stop`."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from tokenguard.facts import names
from tokenguard.facts.errors import BudgetExceeded
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.guard.admission import Guard
from tokenguard.guard.ceilings import no_price
from tokenguard.ledger import Entry, Refusal, Reservation, nano, open_ledger
from tokenguard.policy import LedgerConfig, Policy
from tokenguard.policy.windows import FOREVER
from tokenguard.prices import PriceBook
from tokenguard.testing.figures import usd
from tokenguard.testing.options import RULE

if TYPE_CHECKING:
    from tokenguard.call.call import Call, Exchange
    from tokenguard.call.flow import Answer, Step


class SessionBudget:
    """What is left of the run's money and calls. `url` is the ledger's, which all workers share."""

    def __init__(self, max_cost_usd: float | None, max_calls: int | None, url: str) -> None:
        limit = None if max_cost_usd is None else nano(max_cost_usd)
        # One account for both: the ledger's second unit, which policies use for tokens, counts calls here.
        self.entry = Entry(RULE, "", 0, FOREVER, limit_nano=limit, limit_tokens=max_calls)
        self.ledger = open_ledger(LedgerConfig(url=url, on_loss="block"))
        self.held: dict[Call, Reservation] = {}
        self.said = ""
        """Why the last call was refused."""
        self._guards: dict[tuple[int, int], SessionGuard] = {}

    def before(self, guard: Guard | None, prices: PriceBook) -> Guard:
        """The guard with this budget before it."""
        key = (id(guard), id(prices))
        made = self._guards.get(key)
        if made is None:
            # It keeps both, so that their ids are not given to others.
            made = self._guards[key] = SessionGuard(guard or Guard(Policy(), prices), (guard, prices), self)
        return made

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()


class SessionGuard(Guard):
    """A guard that asks the run's budget first; all else it shares with the guard it is made from."""

    def __init__(self, like: Guard, keep: object, session: SessionBudget) -> None:
        self.__dict__.update(like.__dict__)
        self._session = session
        self._keep = keep

    def admit(self, call: Call, exchange: Exchange) -> Generator[Step, Answer, None]:
        """Reserve the call and its worst case in the run's budget, then ask the policy."""
        yield from self._hold(call)
        try:
            yield from super().admit(call, exchange)
        except Exception:
            raise  # the meter settles it: as refused, or as a call that goes on
        except BaseException:  # cancelled before it was sent
            self._session.ledger.release_soon(self._session.held.pop(call))
            raise

    def _hold(self, call: Call) -> Generator[Step, Answer, None]:
        ledger, entry = self._session.ledger, self._session.entry
        worst = self.worst_case.of(call, counted=False)
        while True:
            if worst.nano is None and entry.limit_nano is not None:
                self.decide(call, RULE, "block")
                raise self._say(no_price(call, RULE, None, BudgetExceeded))
            answer = yield ledger, ledger.reserve, ((entry,), worst.nano or 0, 1)
            if answer.error is not None:
                raise answer.error
            held: Reservation | Refusal = answer.value
            if isinstance(held, Reservation):
                self._session.held[call] = held
                return
            if worst.counted or held.unit != "usd":
                break
            worst = self.worst_case.of(call, counted=True)
        self.decide(call, RULE, "block")
        self.prevented(call, worst)
        raise self._say(
            BudgetExceeded(
                spent_text(call, held),
                rule=RULE,
                limit=held.in_unit(held.limit),
                observed=held.in_unit(held.spent + held.reserved + held.asked),
                attribution=call.attribution,
            )
        )

    def _say(self, refusal: BudgetExceeded) -> BudgetExceeded:
        self._session.said = str(refusal)
        return refusal

    def settle(
        self,
        call: Call,
        usage: Usage | None,
        charged: Usage | None,
        cost: Cost | None,
        outcome: str,
        error: BaseException | str | None,
        answered: tuple[str | None, ...] = (),
    ) -> None:
        """Charge what the call came to, here and in the policy's budgets."""
        held = self._session.held.pop(call, None)
        if held is not None:
            ledger = self._session.ledger
            if outcome == names.BLOCKED:
                ledger.release_soon(held)
            else:
                spent = self.spent(call, charged, cost, held)
                ledger.settle_soon(held, 0 if spent is None else spent[0], 1)
        super().settle(call, usage, charged, cost, outcome, error, answered)


def spent_text(call: Call, refused: Refusal) -> str:
    """Why the run's budget refuses a call."""
    what = f"{call.api.operation} {call.model}"
    if refused.lost:
        return f"budget spent: {what}: the run's ledger cannot be reached, so nobody knows what is left."
    if refused.unit == "usd":
        taken, limit, asked = (
            usd(refused.in_unit(n)) for n in (refused.spent + refused.reserved, refused.limit, refused.asked)
        )
        return (
            f"budget spent: {what}: its worst case is {asked}, and {taken} of --tokenguard-max-cost={limit[1:]} is "
            "spent or reserved. Raise it, or lower the call's output cap: without one, 4,096 tokens are reserved."
        )
    return (
        f"budget spent: {what}: {refused.spent + refused.reserved} of --tokenguard-max-calls={refused.limit} calls are "
        "made. Raise it, or make fewer."
    )
