"""What a call is charged for: all that its price depends on, so that it can be priced later."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Final

from tokenguard.call.call import Call
from tokenguard.call.failures import may_be_billed
from tokenguard.facts import names
from tokenguard.facts.record import Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.prices import SILENT, STANDARD, PriceBook, Tier, as_reported, unanswered, wanted
from tokenguard.prices.tiers import STANDARD_SERVICES
from tokenguard.providers import Api, Endpoint, Reading, geo_of
from tokenguard.providers.reading import REPORTED_ESTIMATE

REPORTED_COST: Final = 10
"""The place in a `Reading`: by its place a field is read five times as fast."""
_new = tuple.__new__


class Terms(NamedTuple):
    """What the price of a call depends on besides its answer. The request may change, and is not looked at again."""

    prices: PriceBook
    endpoint: Endpoint
    asked: str | None
    """The model."""
    at_ns: int
    generates: bool
    outcome: str
    tier: str | None
    """The one that the request wants."""
    has_fees: bool
    """Whether it offers the model tools that the provider bills beside the tokens."""

    def bill(
        self,
        reading: Reading,
        charged: Usage,
        basis: str | None = None,
        variant: str | None = None,
        *,
        reckons: bool = False,
    ) -> Bill:
        """Charge for this, of what the answer tells; `reckons`: a gateway that stood between does so for itself."""
        provider, claimed = self.endpoint.provider, None
        if basis is None and reading[REPORTED_COST] is not None and (reckons or provider in REPORT_COSTS):
            claimed = reading[REPORTED_COST]
        if self.tier is not None and reading.service_tier is None and provider in SILENT:
            reading = reading._replace(service_tier=self.tier)
        made: Bill = _new(Bill, (self, reading, charged, basis, variant, claimed))
        return made


class Bill(NamedTuple):
    """All that the price of a call depends on."""

    terms: Terms
    reading: Reading
    charged: Usage
    """What is charged for: the usage that was reported, or an estimate."""
    basis: str | None = None
    """Why that is an estimate; `None` where it was reported."""
    variant: str | None = None
    claimed: float | None = None
    """USD, where the word of who has answered is taken for it."""

    def cost(self) -> Cost:
        """What it comes to."""
        (prices, endpoint, asked, at_ns, generates, *_), reading, charged, basis, variant, claimed = self
        cost = price(prices, endpoint, asked, reading, charged, at_ns, basis, variant)
        if charged[1] is None and generates:
            cost = cost._replace(output=None)
        if claimed is not None:
            cost = as_reported(cost, claimed)
        if cost[0] == names.EXACT and (doubt := self._doubt()) is not None:
            cost = cost._replace(status=names.ESTIMATED, basis=doubt)
        return cost

    def _doubt(self) -> str | None:
        """Why a price of usage that was told is an estimate all the same; `None`: it is exact."""
        reading, (_, (provider, *_), _, _, _, outcome, tier, has_fees) = self.reading, self.terms
        told, _, _, _, complete, _, asked, _, _, _, _, _, _, basis, by_total = reading[5:]
        if not complete and outcome != names.OK:  # xAI counts along the way
            return names.ABANDONED_STREAM if outcome == names.ABANDONED else names.MISSING_USAGE
        if self.claimed is not None:  # the provider's own word covers its tools
            return REPORTED_ESTIMATE if basis == REPORTED_ESTIMATE else None
        if basis is not None and basis != REPORTED_ESTIMATE:
            return basis
        if by_total and provider not in TELL_BY_TOTAL:
            return "output_by_total"
        if told is None and tier is not None and unanswered(tier, provider):
            return "assumed_tier"
        used = asked or (has_fees and not (reading.usage and reading.usage.web_searches))
        return "tool_fees_excluded" if used else None


def terms(prices: PriceBook, call: Call, outcome: str) -> Terms:
    """What a call's price depends on besides its answer."""
    request, api = call.request, call.api
    fees = api.fees
    has_fees = not request.keys().isdisjoint(fees) and any(request.get(key) is not None for key in fees)
    asked = call.model or call.priced_as
    # fmt: off
    made: Terms = _new(Terms, (
        prices, call.endpoint, asked, call.start_ns, api.generates, outcome, wanted(request), has_fees,
    ))
    # fmt: on
    return made


def bill(
    prices: PriceBook,
    call: Call,
    reading: Reading,
    outcome: str,
    error: BaseException | str | None,
    generated: Callable[[], str] | None,
) -> Bill | None:
    """What a call that has ended is charged for, the usage reported or estimated; `None` where it is on no bill."""
    if outcome == names.BLOCKED:
        return None
    usage, basis, api = reading[0], None, call.api
    if usage is not None and (usage[0] == 0 or usage[1] == 0):
        reading = _without_zeros(call, reading, generated)
        usage = reading[0]
    priced, units = reading, api.units
    told = usage is not None and _is_told(api, usage)
    if usage is not None and told:
        charged = usage
    else:
        begun = generated is not None or call.begun
        refused = isinstance(error, BaseException) and not (may_be_billed(error) or call.attempt_billed)
        if refused and not begun:  # by the provider
            return None
        if isinstance(error, str) and usage is None and not (generated is not None and generated()):
            return None  # the same, said in the place of an answer
        basis, priced = _untold(outcome, error, begun), reading._replace(parts=())
        charged = _estimated(call, reading, generated)
    variant = None if units is None else reading.variant or units.variant(call.request)
    reckons = call.by_headers is not None and call.by_headers.reckons
    made = terms(prices, call, outcome).bill(priced, charged, basis, variant, reckons=reckons)
    if made.claimed is not None:
        call.attributes[names.COST_SOURCE] = names.REPORTED
    if units is not None and told and not reading.parts and made._replace(claimed=None).cost().total is None:
        untold = _untold(outcome, error, generated is not None or call.begun)  # it is billed by what it does not tell
        made = made._replace(charged=_estimated(call, reading, generated), basis=untold)
    return made


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
    costs = []
    for usage, model, like in parts:
        cost = prices.cost(provider, model or models, usage, tier=tier, at_ns=at_ns)
        if cost.total is None and like is not None:
            cost = prices.cost(provider, like, usage, tier=tier, at_ns=at_ns, basis=names.ASSUMED_MODEL)
        costs.append(cost)
    return reduce(Cost.plus, costs)


def _is_told(api: Api, usage: Usage) -> bool:
    """Whether the usage is all that an answer is priced by: what goes without an output may go without an input."""
    if usage[1] is None:
        return not api.generates
    return usage[0] is not None or api.units is not None


def _untold(outcome: str, error: BaseException | str | None, begun: bool) -> str:
    """The basis of an estimate, where the provider has not told the usage."""
    if begun:
        return names.ABANDONED_STREAM if outcome == names.ABANDONED else names.MISSING_USAGE
    if isinstance(error, BaseException):
        return "timed_out" if isinstance(error, Exception) else "cancelled"
    return names.MISSING_USAGE


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


TELL_BY_TOTAL = frozenset({"gcp.gemini", "gcp.vertex_ai", "x_ai", "azure.ai.inference"})
"""Providers whose `total_tokens` was seen to hold output that no other count does: thoughts, and Grok's reasoning."""


REPORT_COSTS = frozenset(
    {
        *("openrouter", "x_ai", "perplexity", "together", "vercel", "deepinfra", "requesty", "llmgateway"),
        "github-copilot",
    }
)
"""Providers whose word for what a call cost is taken; elsewhere a field of that name may mean something else."""
