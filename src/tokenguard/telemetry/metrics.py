"""The metrics: sums of what was counted, and the instruments that show them.

Counters are own sums behind observable instruments (a dictionary add, a tenth of an SDK record); the GenAI histograms
get the measurements of a drain at once, each with its call's span, so that exemplars lead to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanContext

from tokenguard import __version__
from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord, TaskRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.native import RLock
from tokenguard.providers import Api
from tokenguard.telemetry import conventions
from tokenguard.telemetry.conventions import Histograms, Profile
from tokenguard.telemetry.tallies import (
    DIMENSIONS,
    HISTOGRAM_LABELS,
    INPUT,
    LABELS,
    OUTPUT,
    PARTS,
    Summed,
    Tally,
    number,
)

if TYPE_CHECKING:
    from tokenguard.inputs.request import Request
    from tokenguard.ledger import Alert

SCOPE = "tokenguard"
EMPTY = Context()
MAX_VALUES = 200
"""Distinct values of one metric attribute; further ones are counted under `other`."""
MAX_SERIES = 1500
"""Label sets of one metric; a further one gives up its attribution. The SDK's own limit is 2,000, past which it would
keep the last value of many and not their sum."""
OTHER = "other"
PLAIN = {**dict.fromkeys((*range(32), 127), " "), ord('"'): "'", ord("\\"): "/"}

Key = tuple[tuple[str, AttributeValue], ...]
Sums = dict[str, dict[Key, list[float]]]
"""Of each metric, by its name: what each label set comes to, in a list of its own, so that it is looked up once."""

ATTRIBUTION = frozenset(map(names.attribution_attribute, names.METRIC_ATTRIBUTION_KEYS))
TASK_DIMENSIONS = names.METRIC_ATTRIBUTION_KEYS
UNIT_TYPES = (
    (names.IMAGES, "images"),
    (names.INPUT_SECONDS, "input_seconds"),
    (names.OUTPUT_SECONDS, "output_seconds"),
    (names.CHARACTERS, "characters"),
    (names.PAGES, "pages"),
    (names.ANNOTATED_PAGES, "annotated_pages"),
    (names.TOKEN_HOURS, "token_hours"),
    (names.MEGABYTE_DAYS, "megabyte_days"),
    (names.TRAINED_TOKENS, "trained_tokens"),
    (names.WEB_SEARCHES, "web_searches"),
    (names.MAP_SEARCHES, "map_searches"),
    (names.FILE_SEARCHES, "file_searches"),
    (names.REQUESTS, "requests"),
)
COUNTERS = (
    names.CALLS,
    names.UNCAPPED_CALLS,
    names.UNPRICED_CALLS,
    names.TOKENS,
    names.UNITS,
    names.COST_USD,
    names.COST_PART_USD,
    names.SAVED_USD,
    names.RETRIES,
    names.RETRY_COST_USD,
    names.TASKS,
    names.TASK_COST_USD,
    names.GUARD_DECISIONS,
    names.GUARD_PREVENTED_USD,
    names.BUDGET_ALERTS,
    names.BUDGET_REFUSALS,
    names.CACHE_BREAKS,
    names.SECTION_TOKENS,
    names.CACHE_LOOKUPS,
    names.SERIES_OVERFLOW,
)
RARE = frozenset(
    {
        *(names.RESEND_COUNT, names.RETRY_ATTEMPT, names.WEB_SEARCHES, names.FILE_SEARCHES),
        *(names.GUARD_ACTION, names.CACHE_RESULT, names.ROUTE_SAVED, names.BREAK_KIND),
    }
)
"""What few calls have, and is counted by itself."""
SECTION_LABELS = (
    names.RESPONSE_MODEL,
    names.attribution_attribute("feature"),
    names.attribution_attribute("prompt_version"),
)
"""Where the input goes is asked of a prompt, and there are six sections: tenants would be too many series."""
GUARD_ATTRIBUTES = tuple(map(names.attribution_attribute, ("tenant", "feature")))
BUDGET_GAUGES = (
    names.BUDGET_LIMIT_USD,
    names.BUDGET_SPENT_USD,
    names.BUDGET_RESERVED_USD,
    names.BUDGET_LIMIT_TOKENS,
    names.BUDGET_SPENT_TOKENS,
    names.BUDGET_LIMIT_CALLS,
    names.BUDGET_SPENT_CALLS,
    names.BUDGET_ELAPSED,
    names.BUDGET_WINDOW,
)
BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}


class Finished(NamedTuple):
    """A call on its way to the metrics and the store."""

    record: CallRecord
    span: SpanContext
    """The call's span, for exemplars."""
    histograms: bool
    """Whether the GenAI histograms are ours to record: not where an outer instrumentation records them."""
    api: Api | None = None
    snapshot: Request | None = None
    """The request, for what is found out about it on the way; `None` where nobody looks."""
    told: Callable[[], object] | None = None
    """Completes the record; `None` where it is complete."""


class Metrics:
    """The sums and the instruments of this process. Whoever counts holds `lock`."""

    def __init__(
        self,
        flush: Callable[[], None],
        note: Callable[[str, Exception], None],
        *,
        dropped: Callable[[], int],
        failures: Callable[[], int],
        max_values: int = MAX_VALUES,
        profile: Profile = conventions.OLDER,
    ) -> None:
        self.max_values = max_values
        self._profile = profile
        self._counters = (*COUNTERS, *(conventions.COUNTERS if profile.newer else ()))
        self.lock = RLock()
        self._flush = flush
        """Brings what waits in the queue here: before every read."""
        self._note = note
        self._dropped = dropped
        self._failures = failures
        self._instruments: Histograms | None = None
        self._sums: Sums = {metric.name: {} for metric in self._counters}
        self._tallies: dict[tuple[object, ...], Tally] = {}
        """What was counted since it was added up last."""
        self._balances: Callable[[], Iterable[tuple[str, str, dict[names.Metric, float]]]] = tuple
        self._circuits: Callable[[], Mapping[tuple[str, str, str], str]] = dict
        self.ledger_lost: Callable[[], float | None] = lambda: None
        self._newest_price: Callable[[], float | None] = lambda: None
        self._values: dict[str, set[AttributeValue]] = {}

    def forget(self) -> None:
        """Begin at zero: what was counted is another process's."""
        self._sums = {metric.name: {} for metric in self._counters}
        self._tallies = {}

    def make(self) -> None:
        """Make the instruments, once."""
        if self._instruments is not None:
            return
        meter = metrics.get_meter(SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._instruments = Histograms(meter, self._profile)
        for metric in self._counters:
            create = (
                meter.create_observable_up_down_counter if metric.kind == "updown" else meter.create_observable_counter
            )
            create(metric.name, [self._observe(metric)], metric.unit, metric.description)
        for metric in BUDGET_GAUGES:
            meter.create_observable_gauge(metric.name, [self._gauge(metric)], metric.unit, metric.description)
        for create_one, metric, observe in (
            (meter.create_observable_counter, names.DROPPED_RECORDS, _single(self._dropped)),
            (meter.create_observable_counter, names.INTERNAL_ERRORS, _single(self._failures)),
            (meter.create_observable_gauge, names.BREAKER_STATE, self._observe_circuits),
            (meter.create_observable_gauge, names.LEDGER_LOST, _single(lambda: self.ledger_lost())),
            (meter.create_observable_gauge, names.PRICES_AGE, _single(self._prices_age)),
        ):
            create_one(metric.name, [observe], metric.unit, metric.description)

    def _observe(self, metric: names.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            # The SDK calls observables before it collects, so the histograms below are complete too.
            self._flush()
            with self.lock:
                return [Observation(value, dict(key)) for key, (value,) in self._sums[metric.name].items()]

        return observe

    def _bounded(self, key: str, value: AttributeValue) -> AttributeValue:
        values = self._values.setdefault(key, set())
        if value in values:
            return value
        if isinstance(value, str) and (value := _plain(value)) in values:
            return value
        if len(values) >= self.max_values:
            self._add(names.SERIES_OVERFLOW, (("label", key),), 1)
            return OTHER
        values.add(value)
        return value

    def _add(self, metric: names.Metric, key: Key, amount: float) -> None:
        sums = self._sums[metric.name]
        total = sums.get(key)
        if total is None:
            if len(sums) >= MAX_SERIES:
                key = tuple((name, OTHER if name in ATTRIBUTION else value) for name, value in key)
                self._add(names.SERIES_OVERFLOW, (("label", "all"),), 1)
            total = sums.setdefault(key, [0])
        total[0] += amount

    def count_call(self, item: Finished) -> None:
        """Count a finished call. The caller has the lock, and calls `add_up` before anybody reads."""
        record, span, histograms = item[:3]
        seen, cost = record.attributes, record.cost
        get = seen.get
        status = None if cost is None else cost[0]
        capped = names.REQUEST_MAX_TOKENS in seen
        key = (*map(get, LABELS), record.outcome, status, capped, histograms, names.served_by(seen))
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(record, histograms=histograms)
        tally.add(record, span)
        if self._profile.newer and histograms:
            tally.add_modalities(record)
        if get(names.OPERATION) in names.NOT_CAPPED or not seen.keys().isdisjoint(RARE):
            self._count_more(tally, seen)

    def _count_more(self, tally: Tally, seen: dict[str, AttributeValue]) -> None:
        """Count what few calls have: an attribute of `RARE`, or an answer that is no text."""
        get = seen.get
        if names.RESEND_COUNT in seen or names.RETRY_ATTEMPT in seen:
            self._count_retries(tally, seen)
        if get(names.OPERATION) in names.NOT_CAPPED or names.WEB_SEARCHES in seen or names.FILE_SEARCHES in seen:
            self._count_units(seen)
        if (action := get(names.GUARD_ACTION)) is not None:
            self._count_decision(seen, action)
        if names.CACHE_RESULT in seen:
            self._count_look_up(seen)
        if saved := get(names.ROUTE_SAVED):
            lever = "escalation" if names.ROUTE_ESCALATION in seen else "route"
            self._add(names.SAVED_USD, (*self._labels(seen), ("lever", lever)), number(saved))
        if (broken := get(names.BREAK_KIND)) is not None:
            section = get(names.BREAK_SECTION, "")
            self._add(names.CACHE_BREAKS, (("kind", broken), ("section", section)), 1)

    def _count_units(self, seen: Mapping[str, AttributeValue]) -> None:
        key = self._labels(seen)
        for attribute, kind in UNIT_TYPES:
            if (units := seen.get(attribute)) is not None:
                self._add(names.UNITS, (*key, ("type", kind)), number(units))

    def add_up(self) -> None:
        """Bring what was counted to the sums and the histograms. The caller has the lock."""
        tallies, self._tallies = self._tallies, {}
        for tally in tallies.values():
            try:
                self._add_tally(tally)
            except Exception as error:
                self._note("recording metrics", error)

    def _add_tally(self, tally: Tally) -> None:
        key, seen, sums = self._labels(tally.seen), tally.seen, tally.summed()
        served = names.served_by(seen)
        by = (("served", served),) if served else ()
        self._add(names.CALLS, (*key, ("outcome", tally.outcome), *by), tally.calls)
        if tally.outcome != names.BLOCKED and not served and _uncapped(seen):
            self._add(names.UNCAPPED_CALLS, key, tally.calls)
        if tally.unpriced:
            self._add(names.UNPRICED_CALLS, key, tally.unpriced)
        if tally.usd is not None:
            self._add(names.COST_USD, (*key, ("status", tally.status)), tally.usd)
        if tally.saved:
            self._add(names.SAVED_USD, (*key, ("lever", "prompt_cache")), tally.saved)
        of_prompt = tuple(label for label in key if label[0] in SECTION_LABELS)
        for (_, metric, label), (_, total) in zip(PARTS, sums, strict=True):
            if total is None or (metric is names.COST_PART_USD and tally.usd is None):
                continue
            if metric is not names.SECTION_TOKENS:
                self._add(metric, (*key, label), total)
            elif total:
                self._add(metric, (*of_prompt, label), total)
        if tally.histograms and self._instruments is not None:
            self._record_histograms(self._instruments, tally, sums)

    def _labels(self, seen: Mapping[str, AttributeValue]) -> Key:
        """The labels of a call's own counters."""
        if names.RESPONSE_MODEL not in seen and names.REQUEST_MODEL in seen:
            seen = {**seen, names.RESPONSE_MODEL: seen[names.REQUEST_MODEL]}
        return tuple((name, self._bounded(name, seen[name])) for name in DIMENSIONS if name in seen)

    def _count_retries(self, tally: Tally, seen: Mapping[str, AttributeValue]) -> None:
        key = self._labels(tally.seen)
        self._add(names.RETRIES, key, number(seen.get(names.RESEND_COUNT, 0)) + (names.RETRY_ATTEMPT in seen))
        if retry_cost := seen.get(names.RETRY_COST):
            self._add(names.RETRY_COST_USD, key, number(retry_cost))

    def _count_look_up(self, seen: Mapping[str, AttributeValue]) -> None:
        """Count what became of looking for a kept answer, and what it has saved."""
        result, reason = seen[names.CACHE_RESULT], seen.get(names.CACHE_REASON, "")
        rule = seen.get(names.CACHE_RULE, "")
        self._add(names.CACHE_LOOKUPS, (("rule", rule), ("result", result), ("reason", reason)), 1)
        if saved := seen.get(names.CACHE_SAVED):
            lever = "single_flight" if result == names.SHARED else "response_cache"
            self._add(names.SAVED_USD, (*self._labels(seen), ("lever", lever)), number(saved))

    def _count_decision(self, seen: dict[str, AttributeValue], action: AttributeValue) -> None:
        key: Key = (
            ("rule", seen.get(names.GUARD_RULE, "")),
            ("action", action),
            *((name, self._bounded(name, seen[name])) for name in GUARD_ATTRIBUTES if name in seen),
        )
        if (mode := seen.get(names.GUARD_MODE)) is not None:
            key = (*key, ("mode", mode))
        self._add(names.GUARD_DECISIONS, key, 1)
        if prevented := seen.get(names.GUARD_PREVENTED):
            self._add(names.GUARD_PREVENTED_USD, key, number(prevented))

    def count_alert(self, alert: Alert) -> None:
        """Count a budget's threshold that was reached."""
        from tokenguard.policy.match import key_without_run  # whoever has a budget has loaded it

        with self.lock:
            key = (("budget", alert.entry.budget), ("key", self._bounded("key", key_without_run(alert.entry.key))))
            self._add(names.BUDGET_ALERTS, (*key, ("threshold", alert.threshold)), 1)

    def count_refusal(self, budget: str, key: str) -> None:
        """Count a call that a budget refused."""
        with self.lock:
            self._add(names.BUDGET_REFUSALS, (("budget", budget), ("key", self._bounded("key", key))), 1)

    def count_saved(self, lever: str, attributes: Mapping[str, AttributeValue], usd: float) -> None:
        """Count money that a lever saved."""
        with self.lock:
            key: Key = tuple((name, self._bounded(name, attributes[name])) for name in DIMENSIONS if name in attributes)
            self._add(names.SAVED_USD, (*key, ("lever", lever)), usd)

    def watch_budgets(self, balances: Callable[[], Iterable[tuple[str, str, dict[names.Metric, float]]]]) -> None:
        """Show budgets as gauges: `balances` gives each open account as budget, key and values by metric."""
        self._balances = balances

    def watch_ledger(self, lost: Callable[[], float | None]) -> None:
        """Show whether the ledger is lost: 1, 0, or nothing where there is none."""
        self.ledger_lost = lost

    def watch_breakers(self, circuits: Callable[[], Mapping[tuple[str, str, str], str]]) -> None:
        """Show circuits as gauges: `circuits` gives the state of each by breaker, provider and model."""
        self._circuits = circuits

    def watch_prices(self, newest: Callable[[], float | None]) -> None:
        """Show the price table's age: `newest` gives when its newest price took effect, in Unix seconds, if known."""
        self._newest_price = newest

    def _gauge(self, metric: names.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            found: dict[Key, float] = {}
            try:
                for budget, key, values in self._balances():
                    if metric in values:
                        labels: Key = (("budget", budget), ("key", self._bounded("key", key)))
                        # Accounts past the bound are one account: what they have adds up, their window is the same.
                        adds = metric not in (names.BUDGET_ELAPSED, names.BUDGET_WINDOW)
                        found[labels] = values[metric] + (found.get(labels, 0) if adds else 0)
            except Exception as error:
                self._note("reading budgets", error)
            return [Observation(value, dict(labels)) for labels, value in found.items()]

        return observe

    def _observe_circuits(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(
                BREAKER_STATES[state], {"breaker": breaker, names.PROVIDER: provider, names.REQUEST_MODEL: model}
            )
            for (breaker, provider, model), state in self._circuits().items()
        ]

    def _prices_age(self) -> float | None:
        newest = self._newest_price()
        return None if newest is None else time.time() - newest

    def _record_histograms(self, instruments: Histograms, tally: Tally, sums: Sequence[Summed]) -> None:
        seen = tally.seen
        if names.RESPONSE_MODEL not in seen and names.REQUEST_MODEL in seen:
            seen = {**seen, names.RESPONSE_MODEL: seen[names.REQUEST_MODEL]}
        labels = {name: self._bounded(name, seen[name]) for name in HISTOGRAM_LABELS if name in seen}
        instruments.record(tally, labels, *(tally.measured(sums[place].values) for place in (INPUT, OUTPUT)))
        for (metric, modality), tokens in tally.modalities.items():
            self._add(metric, (*labels.items(), (names.TOKEN_MODALITY, modality)), tokens)

    def count_task(self, task: TaskRecord) -> None:
        """Count a finished task. The caller has the lock."""
        key: Key = (
            ("task", self._bounded("task", task.name)),
            ("outcome", task.outcome),
            *(
                (attribute, self._bounded(attribute, task.attribution[k]))
                for k in TASK_DIMENSIONS
                if k in task.attribution and (attribute := names.attribution_attribute(k))
            ),
        )
        self._add(names.TASKS, key, 1)
        self._add(names.TASK_COST_USD, key, task.cost_usd)


def _plain(value: str) -> str:
    """A label's value without what breaks out of a query or a link that quotes it: Grafana does not escape `"`.

    Source: `prometheusSpecialRegexEscape` of @grafana/prometheus 13.2. Values may come from anybody's request.

    >>> _plain('R&D "x"'), _plain("a" + chr(92) + "b"), _plain("one" + chr(10) + "two"), _plain("tenant-1 (EU)")
    ("R&D 'x'", 'a/b', 'one two', 'tenant-1 (EU)')
    """
    return value.translate(PLAIN)


def _single(read: Callable[[], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """A callback with one point without attributes, or none."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        value = read()
        return () if value is None else (Observation(value),)

    return observe


def _uncapped(seen: Mapping[str, AttributeValue]) -> bool:
    """Whether a call left the length of its output to the model."""
    return names.REQUEST_MAX_TOKENS not in seen and seen.get(names.OPERATION) not in names.NOT_CAPPED
