"""The end of a call: what was used, what it cost, its span's end, and the record that is handed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Final

from tokenguard.call.call import Call
from tokenguard.call.failures import may_be_billed, type_name
from tokenguard.call.repeats import Repeats
from tokenguard.facts import names
from tokenguard.facts.record import USAGE_ATTRIBUTES, CallRecord, Cost
from tokenguard.facts.usage import Usage
from tokenguard.prices import STANDARD, PriceBook, Tier, as_reported, unanswered
from tokenguard.prices.rates import FIRST_MEDIUM, FIRST_UNIT
from tokenguard.prices.tiers import STANDARD_SERVICES
from tokenguard.process.interrupts import interrupt
from tokenguard.providers import Api, Endpoint, Reading, geo_of
from tokenguard.providers.reading import MOST_TOKENS, REPORTED_ESTIMATE, believable
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
        usage: Usage | None = None
        guard = call.guard
        try:
            if call.flight is not None:
                reading = call.flight.told(reading)
            if (beside := call.by_headers) is not None:
                reading = beside.into(reading)
            if (units := call.api.units) is not None and outcome == names.OK:
                reading = units.told(call.request, reading)
            _describe(call, reading, error, first_chunk_ns)
            usage = reading[0]
            if not believable(usage):
                self._contain("reading usage", _disbelieve, usage)
                reading, usage = reading._replace(usage=None), None
            cost, charged = self._price(call, reading, outcome, error, generated)
            if guard is not None and self._was_kept(call, reading, outcome):
                cost, charged, usage = _served(call, cost, outcome), None, None
            elif beside is not None and beside.kept and outcome == names.OK:
                cost, charged, usage = Cost(names.EXACT, None, 0.0), None, None
                call.attributes[names.COST_SOURCE] = names.REPORTED
            call.cost = cost
            _describe_money(call, cost, usage)
            if self.telemetry.profile.newer:
                call.attributes.update(newer_attributes(call.attributes, call.api.settings_of(call.request), usage))
            if guard is not None:
                self._contain("settling a budget", guard.settle, call, usage, charged, cost, outcome, error)
            if self._capture is not None and outcome != names.BLOCKED:
                self._contain("recording content", self._capture.record, call)
            self._remember(call, reading, outcome, error, cost)
        except Exception as failure:
            if interrupt(failure) is None:
                self._hand_on(call, duration, outcome, usage)
            raise
        self._hand_on(call, duration, outcome, usage)

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

    def _hand_on(self, call: Call, duration: int, outcome: str, usage: Usage | None) -> None:
        """End the span and hand on the record; what was done before an interrupt is not done again."""
        span, attributes, meters, done = call.span, call.attributes, call.scope.meters, call.handed_on
        if done < 1:
            try:
                span.end(attributes, outcome)
            except Exception as failure:
                self.internal_error("ending a span", failure)
            call.handed_on = 1
        elif done == 3:
            return
        if meters:
            attributes = {**attributes}  # else they are the span's own: users may change what they get
        record = CallRecord(call.start_ns, duration, outcome, attributes, "", "", usage, call.cost)
        if meters and done < 2:
            call.handed_on = 2
            record.trace_id, record.span_id = span.ids()
            for each in meters:
                each.add(record)
        call.handed_on = 3
        self.telemetry.put(_new(Finished, (record, span.identity(), span.owned, call.api, call.snapshot)))

    def _price(
        self,
        call: Call,
        reading: Reading,
        outcome: str,
        error: BaseException | str | None,
        generated: Callable[[], str] | None,
    ) -> tuple[Cost | None, Usage | None]:
        """The cost, and the usage that it is for, reported or estimated; neither where the call is on no bill."""
        if outcome == names.BLOCKED:
            return None, None
        usage, basis, api, endpoint = reading[0], None, call.api, call.endpoint
        if usage is not None and (usage[0] == 0 or usage[1] == 0):
            reading = _without_zeros(call, reading, generated)
            usage = reading[0]
        priced = reading
        told = usage is not None and _is_told(api, usage)
        if usage is not None and told:
            charged = usage
        else:
            begun = generated is not None or call.begun
            refused = isinstance(error, BaseException) and not (may_be_billed(error) or call.attempt_billed)
            if refused and not begun:  # by the provider
                return None, None
            if isinstance(error, str) and usage is None and not (generated is not None and generated()):
                return None, None  # the same, said in the place of an answer
            basis, priced = _untold(outcome, error, begun), reading._replace(parts=())
            charged = _estimated(call, reading, generated)
        variant = None if (units := api.units) is None else reading.variant or units.variant(call.request)
        model, at_ns = call.model or call.priced_as, call.start_ns
        cost = price(self.prices, endpoint, model, priced, charged, at_ns, basis, variant)
        if units is not None and cost.total is None and told and not reading.parts:  # billed by what it does not tell
            charged = _estimated(call, reading, generated)
            untold = _untold(outcome, error, generated is not None or call.begun)
            cost = price(self.prices, endpoint, model, priced, charged, at_ns, untold, variant)
        if charged[1] is None and api.generates:
            cost = cost._replace(output=None)
        reported = False
        if (claimed := reading[REPORTED_COST]) is not None and told and _says_costs(call):
            reported = True
            cost = as_reported(cost, claimed)
            call.attributes[names.COST_SOURCE] = names.REPORTED
        if cost[0] == names.EXACT and (doubt := _doubt(call, reading, outcome, reported)) is not None:
            cost = cost._replace(status=names.ESTIMATED, basis=doubt)
        return cost, charged

    def _add_saved(self, call: Call, reading: Reading, usage: Usage) -> None:
        """What a part of the call would have cost today, for which a kept answer stood in."""
        models = (reading.model, call.priced_as)
        cost = self.prices.cost(call.endpoint.provider, models, usage, tier=STANDARD, at_ns=call.start_ns)
        if cost.total is not None:
            call.attributes[names.CACHE_SAVED] = cost.total

    def _remember(
        self, call: Call, reading: Reading, outcome: str, error: BaseException | str | None, cost: Cost | None
    ) -> None:
        if outcome == names.OK:
            self.repeats.succeeded(call.fingerprint)
            if call.api.chosen_by and (model := reading.model or call.priced_as) is not None:
                self.repeats.served(model, reading.conversation, *map(call.request.get, call.api.chosen_by))
            if call.api.goes_on_from and (call.tool_steps or reading.tool_calls):
                named = reading.conversation or reading.id
                if named is not None:
                    self.repeats.stepped(named, call.tool_steps)
        elif error is not None and outcome != names.BLOCKED and not names.served_by(call.attributes):
            # Not a stream that its reader closed early, nor what another call has failed with.
            spent = cost.total if cost is not None and cost.total is not None else 0.0
            self.repeats.failed(call.fingerprint, call.start_perf, spent)

    def _contain(self, where: str, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception as failure:
            self.internal_error(where, failure)


def price(
    prices: PriceBook,
    endpoint: Endpoint,
    asked: str | None,
    reading: Reading,
    charged: Usage,
    at_ns: int,
    basis: str | None = None,
    variant: str | None = None,
) -> Cost:
    """What an answer costs: of the model that was asked, in the tier and the place that the answer tells."""
    provider, host, _ = endpoint
    _, answered, _, _, _, told, speed, geo, _, _, _, _, _, parts = reading[:14]
    geo = geo or geo_of(host)
    if told in STANDARD_SERVICES:
        told = None
    tier = _new(Tier, (told, speed, geo, variant)) if told or speed or geo or variant else STANDARD
    models = (answered, asked)
    if not parts:
        return prices.cost(provider, models, charged, tier=tier, at_ns=at_ns, basis=basis)
    # several inferences, each by its own length and model
    costs = [prices.cost(provider, part.model or models, part.usage, tier=tier, at_ns=at_ns) for part in parts]
    return reduce(Cost.plus, costs)


def _is_told(api: Api, usage: Usage) -> bool:
    """Whether the usage is all that an answer is priced by: what goes without an output may go without an input."""
    if usage[1] is None:
        return not api.generates
    return usage[0] is not None or api.units is not None


def _untold(outcome: str, error: BaseException | str | None, begun: bool) -> str:
    """The basis of an estimate, where the provider has not told the usage."""
    if begun:
        return "abandoned_stream" if outcome == names.ABANDONED else "missing_usage"
    if isinstance(error, BaseException):
        return "timed_out" if isinstance(error, Exception) else "cancelled"
    return "missing_usage"


def _estimated(call: Call, reading: Reading, generated: Callable[[], str] | None) -> Usage:
    """The usage as well as it is known: the input counted, and the output by the text of the answer.

    Where there is no text, what was reserved for it; `None` where nothing was. An answer that is whole, and tells its
    input, has generated nothing.
    """
    from tokenguard.tokens import estimate_request, estimate_tokens  # the seams have loaded it

    known = reading.usage or Usage()
    sent = estimate_request(call.api.words, call.request, call.model) if known.input is None else known.input
    if call.api.units is not None:
        if (most := call.api.units.most(call.request)) == Usage():
            return known  # nobody can tell before it is done
        most = Usage(input=0 if known.input else sent).plus(most)
        return Usage._make([a if a is not None else b for a, b in zip(known, most, strict=True)])
    if known.output is not None or not call.api.generates:
        return known._replace(input=sent)
    text = "" if generated is None else generated()
    if text or (known.input is not None and reading.complete):
        return known._replace(input=sent, output=estimate_tokens(text, call.model))
    return known._replace(input=sent, output=call.most_output)


def _served(call: Call, cost: Cost | None, outcome: str) -> Cost:
    """What a call cost that got a kept answer: nothing; and what the answer would have cost today, it has saved."""
    if cost is not None and cost.total is not None and outcome == names.OK:
        call.attributes[names.CACHE_SAVED] = cost.total
    return Cost(names.EXACT, None, 0.0)


UNSERVED = frozenset({"refusal", "content_filter", "cancelled", "failed"})
"""Why an answer ended that may have cost nothing."""


def _without_zeros(call: Call, reading: Reading, generated: Callable[[], str] | None) -> Reading:
    """A reading without zeros that cannot be: no request has no tokens, nor has an answer with text.

    LM Studio's embeddings, OpenAI's in bad hours, gateways. A provider's own word on the cost is kept.
    """
    usage = reading.usage
    if usage is None or (usage.input != 0 and usage.output != 0):
        return reading
    if call.api.units is not None or reading.reported_cost is not None:
        return reading
    if not UNSERVED.isdisjoint(reading.finish_reasons):
        return reading
    if not any(usage):
        return reading._replace(usage=None)
    sent = usage.input or None
    unsaid = usage.output == 0 and generated is not None and call.api.generates and generated() != ""
    return reading._replace(usage=usage._replace(input=sent, output=None if unsaid else usage.output))


def _disbelieve(usage: Usage) -> None:
    beyond = ", ".join(f"{n:,} for {part}" for part, n in usage._asdict().items() if n is not None and n > MOST_TOKENS)
    raise ValueError(f"the provider reports {beyond}, and no call has more than {MOST_TOKENS:,} tokens")


_TEXT_ALONE = (None,) * len(Usage._fields[FIRST_MEDIUM:])
_NO_UNITS = (None,) * len(Usage._fields[FIRST_UNIT:])
_COUNTS = [(Usage._fields.index(count), name) for count, name in USAGE_ATTRIBUTES.items()]
_OTHERS = {place - FIRST_MEDIUM: name for place, name in _COUNTS if place >= FIRST_MEDIUM}
"""The places of a `Usage` that have an attribute, behind those of text, which go first, and counted from there."""
_MEDIA = tuple(place for place in _OTHERS if place < FIRST_UNIT - FIRST_MEDIUM)
"""Those of sound, pictures and the use of tools: of most calls that are more than text there is no more."""
REPORTED_COST: Final = 10
CONVERSATION: Final = 12
RESOURCE: Final = 15
"""Places in a `Reading`: by its place a field is read five times as fast."""
_new = tuple.__new__
TELL_BY_TOTAL = frozenset({"gcp.gemini", "gcp.vertex_ai", "x_ai", "azure.ai.inference"})
"""Providers whose `total_tokens` was seen to hold output that no other count does: thoughts, and Grok's reasoning."""


def _doubt(call: Call, reading: Reading, outcome: str, reported: bool) -> str | None:
    """Why a price of usage that was told is an estimate all the same; `None`: it is exact.

    `reported`: it is the provider's own figure.
    """
    told, _, _, _, complete, _, asked, _, _, _, _, _, _, basis, by_total = reading[5:]
    if not complete and outcome != names.OK:  # xAI counts along the way
        return "abandoned_stream" if outcome == names.ABANDONED else "missing_usage"
    if reported:  # the provider's own word covers its tools
        return REPORTED_ESTIMATE if basis == REPORTED_ESTIMATE else None
    if basis is not None and basis != REPORTED_ESTIMATE:
        return basis
    if by_total and call.endpoint.provider not in TELL_BY_TOTAL:
        return "output_by_total"
    wanted = call.request.get("service_tier") if told is None else None
    if wanted is not None and unanswered(wanted, call.endpoint.provider):
        return "assumed_tier"
    fees = call.api.fees
    if not asked and not call.request.keys().isdisjoint(fees) and not (reading.usage and reading.usage.web_searches):
        asked = any(call.request.get(key) is not None for key in fees)
    return "tool_fees_excluded" if asked else None


def _describe(call: Call, reading: Reading, error: BaseException | str | None, first_chunk_ns: int | None) -> None:
    attributes = call.attributes
    _, model, answer_id, reasons, tool_calls = reading[:5]
    if model is not None:
        attributes[names.RESPONSE_MODEL] = model
    if answer_id is not None:
        attributes[names.RESPONSE_ID] = answer_id
    if reasons:
        attributes[names.FINISH_REASONS] = reasons
    if tool_calls:
        attributes[names.TOOL_CALLS] = tool_calls
    if (conversation := reading[CONVERSATION]) is not None:
        attributes[names.CONVERSATION_ID] = conversation
    if reading[RESOURCE] is not None:
        attributes[names.RESOURCE] = reading[RESOURCE]
        if reading.until is not None:
            attributes[names.RESOURCE_UNTIL] = reading.until
    if first_chunk_ns is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = (first_chunk_ns - call.start_perf) / 1e9
    if error is not None:
        attributes[names.ERROR_TYPE] = error if isinstance(error, str) else type_name(error)
    if call.resends:
        attributes[names.RESEND_COUNT] = call.resends


def _describe_money(call: Call, cost: Cost | None, usage: Usage | None) -> None:
    attributes = call.attributes
    has_cache = True
    if usage is not None:
        sent, made, again, put, _, _, _, reasoned = usage[:FIRST_MEDIUM]
        has_cache = again is not None or put is not None
        if sent is not None:
            attributes[names.INPUT_TOKENS] = sent
        if made is not None:
            attributes[names.OUTPUT_TOKENS] = made
        if again is not None:
            attributes[names.CACHE_READ_TOKENS] = again
        if put is not None:
            attributes[names.CACHE_WRITE_TOKENS] = put
        if reasoned is not None:
            attributes[names.REASONING_TOKENS] = reasoned
        if (others := usage[FIRST_MEDIUM:]) != _TEXT_ALONE:
            for place in _MEDIA if usage[FIRST_UNIT:] == _NO_UNITS else _OTHERS:
                if (counted := others[place]) is not None:
                    attributes[_OTHERS[place]] = counted
    if cost is not None:
        status, basis, total, plain, output, read, written, saved, tools = cost
        attributes[names.COST_STATUS] = status
        if basis is not None:
            attributes[names.COST_BASIS] = basis
        if total is not None:
            attributes[names.COST] = total
        if plain is not None:
            attributes[names.COST_INPUT] = plain
        if output is not None:
            attributes[names.COST_OUTPUT] = output
        if tools is not None:
            attributes[names.COST_TOOLS] = tools
        # Where nothing is known of a cache, its parts would be zeros that nobody reported.
        if has_cache:
            if read is not None:
                attributes[names.COST_CACHE_READ] = read
            if written is not None:
                attributes[names.COST_CACHE_WRITE] = written
            if saved is not None:
                attributes[names.COST_SAVED] = saved
        # What repeating has cost: failed attempts at this request, and resends after the SDK stopped waiting, each of
        # which the provider is taken to have worked on as long as on the one that was answered.
        if call.retried is not None or call.billed_resends:
            before = 0.0 if call.retried is None else call.retried.cost
            if retry_cost := before + call.billed_resends * (total or 0.0):
                attributes[names.RETRY_COST] = retry_cost


def _says_costs(call: Call) -> bool:
    """Whether what an answer says that it cost is taken: by who made it, or a proxy that reckons for itself."""
    return call.endpoint.provider in REPORT_COSTS or (call.by_headers is not None and call.by_headers.reckons)


REPORT_COSTS = frozenset(
    {
        *("openrouter", "x_ai", "perplexity", "together", "vercel", "deepinfra", "requesty", "llmgateway"),
        "github-copilot",
    }
)
"""Providers whose word for what a call cost is taken; elsewhere a field of that name may mean something else."""
