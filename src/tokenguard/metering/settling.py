"""The end of a call: what was used, what it cost, its span's end, and the record that is handed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tokenguard.call.call import Call
from tokenguard.call.failures import type_name
from tokenguard.call.repeats import Repeats
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, Cost
from tokenguard.facts.usage import Usage
from tokenguard.metering.bill import Bill, bill, terms
from tokenguard.metering.told import Told
from tokenguard.prices import STANDARD, PriceBook
from tokenguard.process.interrupts import interrupt
from tokenguard.providers import Reading
from tokenguard.providers.reading import believable, beyond_belief
from tokenguard.telemetry.conventions import newer_attributes
from tokenguard.telemetry.drain import Telemetry
from tokenguard.telemetry.metrics import Finished

if TYPE_CHECKING:
    from tokenguard.metering.content import Capture


class Settling:
    """Ends calls. One a process; its price book is replaced as a whole with the policy."""

    def __init__(self, telemetry: Telemetry, prices: PriceBook, capture: Capture | None = None) -> None:
        self.telemetry = telemetry
        self.prices = prices
        self.repeats = Repeats()
        self.internal_error = telemetry.internal_error
        self._capture = capture
        self.captures = capture is not None
        """Whether calls keep their answers, for their content to be recorded."""
        self._can_wait = capture is None and not telemetry.profile.newer

    def waits(self, call: Call) -> bool:
        """Whether nobody wants to know at once what the answer to an unguarded call says: no meter does, say."""
        return (
            self._can_wait
            and call.api.can_wait
            and not call.scope.meters
            and call.by_headers is None
            and not call.wants_cost
            and not (call.tool_steps and call.api.goes_on_from)
        )

    def settle(
        self,
        call: Call,
        reading: Reading,
        outcome: str,
        error: BaseException | str | None,
        first_chunk_ns: int | None,
        generated: Callable[[], str] | None,
    ) -> None:
        """Write down what came of the call, end its span and hand the record on."""
        duration = time.perf_counter_ns() - call.start_perf
        if call.on_told is not None and outcome == names.OK and reading.complete:
            call.on_told(reading.usage is not None and reading.usage.output is not None)
        guard = call.guard
        attributes = call.attributes
        record = CallRecord(call.start_ns, duration, outcome, attributes)
        if (later := call.later) is not None:
            if error is None and first_chunk_ns is None and not call.resends and call.retried is None:
                if self.repeats.failures:
                    self.repeats.succeeded(call.fingerprint)
                said = later, terms(self.prices, call, outcome)
                self._hand_on(call, Told(record, said, call.asked, self.internal_error))
                return
            reading = later.read()
        told = Told(record, reading, call.asked, self.internal_error)
        try:
            if call.flight is not None:
                reading = call.flight.told(reading)
            if (beside := call.by_headers) is not None:
                reading = beside.into(reading)
            if (units := call.api.units) is not None and outcome == names.OK:
                reading = units.told(call.request, reading)
            usage = reading[0]
            if not believable(usage):
                self.internal_error("reading usage", beyond_belief(usage))
                reading, usage = reading._replace(usage=None), None
            record.usage, told.answer = usage, reading
            if first_chunk_ns is not None:
                attributes[names.TIME_TO_FIRST_CHUNK] = (first_chunk_ns - call.start_perf) / 1e9
            if call.resends or call.retried is not None:
                _repeats(call, told)
            if error is not None:
                attributes[names.ERROR_TYPE] = error if isinstance(error, str) else type_name(error)
            owed = bill(self.prices, call, reading, outcome, error, generated)
            charged = None if owed is None else owed[CHARGED]
            if guard is not None and self._was_kept(call, reading, outcome):
                record.cost, record.usage = _served(call, owed, outcome), None
                owed = charged = usage = None
            elif beside is not None and beside.kept and outcome == names.OK:
                record.cost, record.usage = Cost(names.EXACT, None, 0.0), None
                owed = charged = usage = None
                attributes[names.COST_SOURCE] = names.REPORTED
            told.owed = owed
            if guard is not None or error is not None or call.wants_cost:
                call.cost = told.cost()
            if call.rerouted is not None:  # a route asks which model has answered
                told()
            if self.telemetry.profile.newer:
                told().update(newer_attributes(told(), call.api.settings_of(call.request), usage))
            if guard is not None:
                answered = reading.id, reading.conversation
                self._contain(
                    "settling a budget", guard.settle, call, usage, charged, call.cost, outcome, error, answered
                )
            if self._capture is not None and outcome != names.BLOCKED:
                self._contain("recording content", self._capture.record, call)
            self._remember(call, reading, outcome, error)
        except Exception as failure:
            if interrupt(failure) is None:
                self._hand_on(call, told)
            raise
        self._hand_on(call, told)

    def _was_kept(self, call: Call, reading: Reading, outcome: str) -> bool:
        """See to the answers that are kept, and whether this is one; or another call's, at the same time."""
        if (look_up := call.look_up) is not None:
            self._contain("keeping an answer", look_up.settle, call, reading, outcome)
            if look_up.answer is not None and not look_up.served:
                self.internal_error("giving a kept answer", RuntimeError("the request was sent all the same"))
            if look_up.merges and look_up.kept_usage is not None:
                self._add_saved(call, reading, look_up.kept_usage)
        return self._is_served(call, reading)

    def _is_served(self, call: Call, reading: Reading) -> bool:
        """Whether somebody else has paid for the answer, or pays: it was kept, or an identical call got it."""
        if call.flight is None:
            return call.look_up is not None and call.look_up.served
        try:
            elsewhere = call.flight.leaves(call, reading)
        except Exception as failure:
            self.internal_error("leaving a flight", failure)
            elsewhere = False
        return elsewhere or (call.flight.leads and call.look_up is not None and call.look_up.served)

    def _hand_on(self, call: Call, told: Told) -> None:
        """End the span and hand on the record; what was done before an interrupt is not done again."""
        span, record, meters, done = call.span, told.record, call.scope.meters, call.handed_on
        if done < 1:
            try:
                span.end(told.attributes, record.outcome, told)
            except Exception as failure:
                self.internal_error("ending a span", failure)
            call.handed_on = 1
        elif done == 3:
            return
        if meters:
            record.attributes = {**told()}  # users may change what they get, and the others are the span's own
            if done < 2:
                call.handed_on = 2
                record.trace_id, record.span_id = span.ids()
                for each in meters:
                    each.add(record)
        call.handed_on = 3
        snapshot = call.snapshot
        weight = 0 if snapshot is None else snapshot.weight
        self.telemetry.put(_new(Finished, (record, span.identity(), span.owned, call.api, snapshot, told)), weight)

    def _add_saved(self, call: Call, reading: Reading, usage: Usage) -> None:
        """What a part of the call would have cost today, for which a kept answer stood in."""
        models = (reading.model, call.priced_as)
        cost = self.prices.cost(call.endpoint.provider, models, usage, tier=STANDARD, at_ns=call.start_ns)
        if cost.total is not None:
            call.attributes[names.CACHE_SAVED] = cost.total

    def _remember(self, call: Call, reading: Reading, outcome: str, error: BaseException | str | None) -> None:
        if outcome == names.OK:
            if self.repeats.failures:
                self.repeats.succeeded(call.fingerprint)
            if call.api.chosen_by and (model := reading.model or call.priced_as) is not None:
                self.repeats.served(model, reading.conversation, *map(call.request.get, call.api.chosen_by))
            if call.api.goes_on_from and (call.tool_steps or reading.tool_calls):
                named = reading.conversation or reading.id
                if named is not None:
                    self.repeats.stepped(named, call.tool_steps)
        elif error is not None and outcome != names.BLOCKED and not names.served_by(call.attributes):
            # Not a stream that its reader closed early, nor what another call has failed with.
            spent = call.cost.total if call.cost is not None and call.cost.total is not None else 0.0
            self.repeats.failed(call.fingerprint, call.start_perf, spent)

    def _contain(self, where: str, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception as failure:
            self.internal_error(where, failure)


def _served(call: Call, owed: Bill | None, outcome: str) -> Cost:
    """What a call cost that got a kept answer: nothing; and what the answer would have cost today, it has saved."""
    if owed is not None and outcome == names.OK and (saved := owed.cost().total) is not None:
        call.attributes[names.CACHE_SAVED] = saved
    return Cost(names.EXACT, None, 0.0)


def _repeats(call: Call, told: Told) -> None:
    if call.resends:
        told.attributes[names.RESEND_COUNT] = call.resends
    told.repeated = (0.0 if call.retried is None else call.retried.cost, call.billed_resends)


CHARGED: Final = Bill._fields.index("charged")
_new = tuple.__new__
