"""The policy as values. Each field is one row of the grammar: key, type, default, kind, sentence.

Reading (`read`), `tokenguard policy show` and the reference page are derived from these rows; there is no other list.
"""

# ruff: noqa: RUF009 - `_row` is `dataclasses.field` with a row of the grammar as metadata

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tokenguard.facts import names
from tokenguard.policy import kinds
from tokenguard.policy.caching import AnswersConfig, Cache
from tokenguard.policy.grammar import NAME_SAYS as _NAME
from tokenguard.policy.grammar import WHEN_SAYS as _WHEN
from tokenguard.policy.grammar import When, rows
from tokenguard.policy.grammar import row as _row
from tokenguard.policy.kinds import choice

CALL_KEYS: Final = ("provider", "model", "operation")
"""What `when` and `per` know of a call besides its attribution; OpenTelemetry's values of these names."""


ALERT_AT: Final = (0.5, 0.8, 1.0)
TASK_RUN: Final = "task_run"
"""What a budget's `per` may name besides: the run of the task in which a call is made."""


_DOWN = "The model to use instead, of the same provider."


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The rates assumed for a model without a price, in USD per million tokens."""

    input_per_mtok: float = _row(kinds.RATE, ..., "Assumed for every input token.")
    output_per_mtok: float = _row(kinds.RATE, ..., "Assumed for every output token.")


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose calls they are."""

    from_baggage: tuple[str, ...] = _row(kinds.KEYS, (), "Keys taken from W3C baggage of the current context.")
    defaults: Mapping[str, str] = _row(kinds.TEXTS, {}, "Values for keys that nothing else sets.")
    keys: tuple[str, ...] = _row(kinds.KEYS, (), "Keys of your own that `when` and `per` may name.")
    fingerprint_salt: str | None = _row(
        kinds.NAME,
        None,
        "Requests are hashed with it, so that all who have it agree on a hash, and others learn nothing from it. "
        "Without it a fingerprint agrees within one process.",
    )
    helpers: tuple[str, ...] = _row(
        kinds.GLOBS,
        (),
        "Files of your own that wrap the SDKs, as globs of the end of their path (`llm.py`, `app/clients/*`): the call "
        "site is whoever calls them.",
    )
    max_values: int = _row(kinds.POSITIVE, 200, "Distinct values of a key on metrics; the rest is `other`.")


@dataclass(frozen=True, slots=True)
class Limit:
    """A ceiling for one call, or for one run of an agent."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN)
    max_input_tokens: int | None = _row(kinds.POSITIVE, None, "Input tokens of one call, cached ones included.")
    max_system_tokens: int | None = _row(kinds.POSITIVE, None, "The system prompt's part of the input.")
    max_tools_tokens: int | None = _row(kinds.POSITIVE, None, "The part of the tools that are offered.")
    max_history_tokens: int | None = _row(
        kinds.POSITIVE, None, "The conversation before the user's last words, and the model's since; no tool results."
    )
    max_tool_result_tokens: int | None = _row(kinds.POSITIVE, None, "Any one tool result.")
    max_output_tokens: int | None = _row(kinds.POSITIVE, None, "Output tokens a call may ask for.")
    max_cost_usd: float | None = _row(kinds.USD, None, "Worst case of one call: its input plus its output cap.")
    max_tool_steps: int | None = _row(kinds.COUNT, None, "Tool rounds since the last user turn.")
    max_tool_calls_per_turn: int | None = _row(kinds.COUNT, None, "Tool calls in one answer.")
    max_retries: int | None = _row(kinds.COUNT, None, "Resends by the SDK, and identical repeats by the application.")
    max_session_usd: float | None = _row(
        kinds.USD, None, "USD of one realtime session: one that has come to it is closed, with the reason."
    )
    max_session_seconds: float | None = _row(kinds.DURATION, None, "How long one realtime session may be open.")
    retry_window: float = _row(
        kinds.DURATION, 60.0, "How long an identical request after a failure counts as a repeat."
    )
    then: str = _row(
        choice("warn", "clamp", "trim", "provider", "block", "downgrade"),
        "block",
        "`warn` records; `clamp` lowers or adds the output cap; `trim` leaves out the oldest turns of the history; "
        "`provider` switches on what the provider does itself with a long context (other ceilings of these three "
        "block); `downgrade` changes the model; `block` raises `LimitExceeded` before anything is sent.",
    )
    downgrade_to: str | None = _row(kinds.MODEL, None, _DOWN)


@dataclass(frozen=True, slots=True)
class Budget:
    """Money, tokens or calls for a window of time, over all calls that share the same `per` values."""

    name: str = _row(kinds.NAME, ..., _NAME)
    per: tuple[str, ...] = _row(
        kinds.KEYS,
        (),
        "One ledger entry per distinct value of these keys; [] is one for all. `task_run` is each run of a "
        "`tokenguard.task`: the budget is forgotten when the run ends, and calls outside of a task have none.",
    )
    when: When = _row(kinds.WHEN, When(), _WHEN)
    window: str = _row(
        choice("minute", "hour", "day", "week", "month", "total"),
        "day",
        "Aligned to the calendar; a week starts on Monday, `total` never ends. Per `task_run` it is the run.",
    )
    timezone: str = _row(kinds.TIMEZONE, "UTC", "Where the window's midnight is.")
    limit_usd: float | None = _row(kinds.USD, None, "USD per window; 0 blocks everything.")
    limit_tokens: int | None = _row(kinds.COUNT, None, "Input plus output tokens per window.")
    limit_calls: int | None = _row(
        kinds.COUNT, None, "Calls per window, each attempt that was sent counted. A budget of its own: of nothing else."
    )
    alert_at: tuple[float, ...] = _row(
        kinds.THRESHOLDS,
        ALERT_AT,
        "Shares of the limit at which an alert goes out, once per window. Of calls, and of runs: none, unless others "
        "are named.",
    )
    then: str = _row(
        choice("warn", "block", "downgrade"),
        "block",
        "`warn` only counts and alerts; `block` raises `BudgetExceeded` for a call whose worst case does not fit; "
        "`downgrade` tries the cheaper model first.",
    )
    downgrade_to: str | None = _row(kinds.MODEL, None, _DOWN)

    def __post_init__(self) -> None:
        if self.by_run and self.window == "day":
            object.__setattr__(self, "window", "total")  # a run is as long as it is, over midnight too
        if (self.by_run or self.limit_calls is not None) and self.alert_at == ALERT_AT:
            object.__setattr__(self, "alert_at", ())  # a rate is used up every minute: nobody wants to hear of each

    @property
    def by_run(self) -> bool:
        """Whether each run of a task has an account of its own."""
        return TASK_RUN in self.per


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker: after a run of failures a provider's model gets no calls for a while, then one probe."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN)
    failures: int = _row(kinds.POSITIVE, 5, "Failures in a row, of one provider and model, that open it.")
    window: float = _row(kinds.DURATION, 60.0, "The failures must fall within this time.")
    cooldown: float = _row(kinds.DURATION, 30.0, "How long it stays open before one probe is let through.")


@dataclass(frozen=True, slots=True)
class Share:
    """Single flight: identical calls under way at the same time are sent once, and each gets the answer."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN + " Name only calls that may safely share an answer.")
    per: tuple[str, ...] = _row(kinds.KEYS, ("tenant",), "Only calls with equal values of these keys share.")


@dataclass(frozen=True, slots=True)
class Route:
    """Calls that go to another model of the same provider. Of the rules whose facts all hold, the first one counts."""

    name: str = _row(kinds.NAME, ..., _NAME)
    to: str = _row(kinds.MODEL, ..., "The model that answers instead, of the same provider.")
    version: str = _row(kinds.NAME, "1", "On spans, and part of the draw: another version draws anew.")
    when: When = _row(kinds.WHEN, When(), _WHEN)
    max_input_tokens: int | None = _row(kinds.POSITIVE, None, "Only requests of at most so much input.")
    max_output_tokens: int | None = _row(kinds.POSITIVE, None, "Only requests that cap their output at so much.")
    max_turns: int | None = _row(kinds.POSITIVE, None, "Only conversations of at most so many words of the user.")
    tools: bool | None = _row(
        kinds.FLAG, None, "`false`: only requests that offer no tools; `true`: only those that do."
    )
    images: bool | None = _row(kinds.FLAG, None, "The same of pictures, sound and files in the input.")
    schema: bool | None = _row(kinds.FLAG, None, "The same of an answer that is asked for as JSON.")
    share: float = _row(kinds.SHARE, 1.0, "The share of these calls that goes there; the others are the control arm.")
    by: tuple[str, ...] = _row(
        kinds.KEYS,
        ("tenant", "user"),
        "Calls with equal values of these keys are in the same arm. One that has none of them is drawn by its request.",
    )
    decide: str | None = _row(
        kinds.CALLBACK,
        None,
        "A function of yours that says whether the route takes a call: it gets the facts of the request (a dict) and "
        "has 5 ms; where it fails, the call is not routed.",
    )
    content: bool = _row(kinds.FLAG, False, "Your functions get the messages too.")
    escalate_to: str | None = _row(
        kinds.MODEL, None, "The model that is asked again where the answer fails one of `escalate_when`."
    )
    escalate_when: tuple[str, ...] = _row(
        kinds.FAILURES,
        (),
        "What makes an answer fail: `length` (cut off at the cap), `refusal`, `schema` (not the JSON that was asked "
        "for), or a function of yours that gets the facts and the answer.",
    )
    unfit: str = _row(
        choice("original", "error"),
        "original",
        "What follows when the other model refuses the request (400, 404, 422): `original` sends the caller's own, "
        "once, and asks that model no more; `error` leaves the refusal to the caller.",
    )


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """Where budgets are kept."""

    url: str = _row(
        kinds.LEDGER_URL,
        "sqlite:///.tokenguard/ledger.db",
        "`memory:` is one process, `sqlite:///` the processes of one machine (relative to the policy file), "
        "`redis://` a fleet.",
    )
    lease: float = _row(kinds.DURATION, 600.0, "A reservation nobody settles is charged in full after this time.")
    slice: float = _row(
        kinds.SHARE,
        0.0,
        "The share of a limit that a process leases at a time and spends without a round trip; 0 is off.",
    )
    slice_lease: float = _row(
        kinds.DURATION,
        60.0,
        "A slice is spent from for this time, then returned; charged `lease` later if its process died.",
    )
    slice_idle: float = _row(kinds.DURATION, 5.0, "A slice that nobody used for this time is returned.")
    on_loss: str = _row(
        choice("allow", "block"),
        "allow",
        "While the ledger cannot be reached: `allow` counts in the process and reconciles later, `block` refuses.",
    )
    timeout: float = _row(kinds.DURATION, 1.0, "How long one operation may take before the ledger counts as lost.")


@dataclass(frozen=True, slots=True)
class Alerts:
    """Who hears of a budget's thresholds, besides the log, the metric and the event."""

    callback: str | None = _row(
        kinds.CALLBACK, None, "A function that is called with the alert (a dict), off the call's path."
    )
    webhook: str | None = _row(kinds.WEBHOOK, None, "A URL that gets the alert as a JSON POST.")
    timeout: float = _row(kinds.DURATION, 5.0, "How long the webhook may take to answer.")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How long the local store keeps single calls."""

    keep_days: int = _row(
        kinds.COUNT,
        90,
        "Calls and tasks older than this are deleted, by whole days; 0 keeps them all. Their daily sums stay, so that "
        "reports by feature, tenant, model and the like go further back. `TOKENGUARD_STORE_DAYS` goes before it.",
    )


@dataclass(frozen=True, slots=True)
class FinopsConfig:
    """What the spend is held against."""

    revenue: str | None = _row(
        kinds.NAME,
        None,
        "A CSV file of what tenants pay (`tenant`, `revenue_usd`, and `date`: a day, a month or none), relative to the "
        "policy file: `tokenguard report --by tenant` then has margins.",
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be spent, and what happens when it would be too much."""

    mode: str = _row(
        choice("enforce", "observe"), "enforce", "`observe` decides and records everything and changes nothing."
    )
    on_internal_error: str = _row(
        choice("allow", "block"), "allow", "What happens to a call when TokenGuard itself fails."
    )
    unpriced: str | Ceiling = _row(
        choice("block_budgets", "allow", "estimate"),
        "block_budgets",
        "Models without a known price: dollar budgets refuse them, or `allow`, or `estimate` (the nearest model of the "
        "family at its dearest rates, marked `nearest_model`), or a ceiling rate "
        "`{ input_per_mtok = 15, output_per_mtok = 75 }`.",
        table=Ceiling,
    )
    attribution: Attribution = _row(None, Attribution, "", table=Attribution)
    limits: tuple[Limit, ...] = _row(None, (), "", toml="limit", table=Limit)
    budgets: tuple[Budget, ...] = _row(None, (), "", toml="budget", table=Budget)
    breakers: tuple[Breaker, ...] = _row(None, (), "", toml="breaker", table=Breaker)
    shares: tuple[Share, ...] = _row(None, (), "", toml="share", table=Share)
    routes: tuple[Route, ...] = _row(None, (), "", toml="route", table=Route)
    caches: tuple[Cache, ...] = _row(None, (), "", toml="cache", table=Cache)
    ledger: LedgerConfig = _row(None, LedgerConfig, "", table=LedgerConfig)
    answers: AnswersConfig = _row(None, AnswersConfig, "", table=AnswersConfig)
    alerts: Alerts = _row(None, Alerts, "", table=Alerts)
    store: StoreConfig = _row(None, StoreConfig, "", table=StoreConfig)
    finops: FinopsConfig = _row(None, FinopsConfig, "", table=FinopsConfig)
    prices: Mapping[str, str | Mapping[str, float]] = _row(
        kinds.PRICES,
        {},
        'First match wins over the bundled price book: `"provider/model glob"` is another model\'s name, or rates in '
        "USD per million tokens.",
    )
    hosts: Mapping[str, str] = _row(
        kinds.HOSTS,
        {},
        'Whose a host is that TokenGuard does not know, by `"host"` or `"host:port"` (globs): a provider, one of your '
        "own with rates under `[prices]`, or `sdk` for a proxy that passes on to whoever the SDK is made for.",
    )
    may_override: tuple[str, ...] = _row(
        kinds.GLOBS,
        (),
        "In a floor: what a nearer file may say otherwise, as globs of keys and of rules' names (`prices`, `ledger.*`, "
        "`alerts.callback`, `tenant per day`).",
    )
    lint: Mapping[str, Any] = _row(kinds.OPAQUE, {}, "For `tokenguard lint`; see its rules' pages.")
    reconcile: Mapping[str, Any] = _row(
        kinds.OPAQUE, {}, "For `tokenguard reconcile`: which projects and workspaces are yours; see docs/reconcile.md."
    )
    whatif: Mapping[str, Any] = _row(kinds.OPAQUE, {}, "For `tokenguard whatif`, which alone reads it.")
    source: str = field(default="", compare=False)
    """The file it was read from; empty without one. Relative ledger paths start at its directory. Of several layers,
    the one whose ledger it is."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each value is from that a file states, as `file:line`, by key (`ledger.url`) or rule (`[[limit]] "x"`)."""
    untaken: tuple[str, ...] = field(default=(), compare=False)
    """What a nearer file says and the floor does not let it, in words."""

    @property
    def rules(self) -> tuple[Limit | Budget | Breaker | Share | Route | Cache, ...]:
        """Everything with a name."""
        return (*self.limits, *self.budgets, *self.breakers, *self.shares, *self.routes, *self.caches)

    @property
    def known_keys(self) -> tuple[str, ...]:
        """What `when` and `per` may name: the call's own keys, TokenGuard's, and those under `[attribution]`."""
        own = self.attribution
        return tuple(dict.fromkeys((*CALL_KEYS, *names.ATTRIBUTION_KEYS, *own.keys, *own.from_baggage, *own.defaults)))


class Check(NamedTuple):
    """A combination that cannot be meant: on which table and key, when, and what to do."""

    table: type
    key: str
    fails: Any
    why: str


MANAGED: Final = ("max_input_tokens", "max_history_tokens", "max_tool_result_tokens")
"""The ceilings past which `then = "provider"` asks the provider to shorten the context."""
_CEILINGS = tuple(row.field for row in rows(Limit) if row.field.startswith("max_"))
_DOWNGRADE = 'then = "downgrade" needs a model to go down to; add downgrade_to = "a cheaper model of the same provider"'

CHECKS: Final = (
    Check(Limit, "then", lambda r: r.then == "downgrade" and not r.downgrade_to, _DOWNGRADE),
    Check(Budget, "then", lambda r: r.then == "downgrade" and not r.downgrade_to, _DOWNGRADE),
    Check(
        Limit,
        "then",
        lambda r: r.then == "clamp" and r.max_output_tokens is None,
        'then = "clamp" lowers a call\'s output cap, so it needs max_output_tokens; add it, or use then = "block"',
    ),
    Check(
        Limit,
        "then",
        lambda r: r.then == "trim" and r.max_history_tokens is None,
        'then = "trim" shortens the history, so it needs max_history_tokens; add it, or use then = "block"',
    ),
    Check(
        Limit,
        "then",
        lambda r: r.then == "provider" and all(getattr(r, name) is None for name in MANAGED),
        f'then = "provider" is for a long context; add one of {", ".join(MANAGED)}',
    ),
    Check(
        Limit,
        "name",
        lambda r: all(getattr(r, name) is None for name in _CEILINGS),
        f"the limit limits nothing; add one of {', '.join(_CEILINGS)}",
    ),
    Check(
        Route,
        "escalate_to",
        lambda r: (r.escalate_to is None) is not (not r.escalate_when),
        "escalate_to and escalate_when go together: the model that is asked again, and when",
    ),
    Check(
        Route,
        "escalate_to",
        lambda r: r.escalate_to == r.to,
        "it is the model that has just failed; name a larger one",
    ),
    Check(
        Budget,
        "name",
        lambda r: r.limit_usd is None and r.limit_tokens is None and r.limit_calls is None,
        "the budget has no limit; add limit_usd = ..., limit_tokens = ... or limit_calls = ...",
    ),
    Check(
        Budget,
        "limit_calls",
        lambda r: r.limit_calls is not None and (r.limit_usd is not None or r.limit_tokens is not None),
        "a budget counts calls, or money and tokens: write a [[budget]] for each",
    ),
    Check(
        Budget,
        "then",
        lambda r: r.limit_calls is not None and r.then == "downgrade",
        "a call of another model is a call too; use block or warn",
    ),
    Check(
        Budget,
        "window",
        lambda r: r.by_run and r.window != "total",
        "a run of a task is the window of its budget: leave window out",
    ),
    Check(
        Cache,
        "encoder",
        lambda r: (r.match == "meaning") is not (r.encoder is not None),
        'match = "meaning" and encoder go together: a function from texts to vectors, such as "app.search:encode"',
    ),
    Check(
        Cache,
        "serve",
        lambda r: r.serve and (r.match != "meaning" or None in (r.threshold, r.wrong_share, r.pairs, r.judged)),
        'serve = true is for match = "meaning" with a threshold that was found by labelled pairs of your own: '
        "`tokenguard cache eval PAIRS.jsonl --rule NAME` writes threshold, wrong_share, pairs and judged into the rule",
    ),
    Check(
        Cache,
        "judged",
        lambda r: r.serve and r.judged != r.encodes,
        "the threshold was found for another encoder, or another version of it: run `tokenguard cache eval` again",
    ),
    Check(
        LedgerConfig,
        "slice",
        lambda r: r.slice > 0.5,
        "a slice above half of the limit starves the other processes; use 0.01 to 0.1",
    ),
)
