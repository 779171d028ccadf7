"""The policy as values. Each field is one row of the grammar: key, type, default, kind, sentence.

Reading (`read`), `tokenguard policy show` and the reference page are derived from these rows; there is no other list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.frozen import dataclass
from tokenguard.policy import kinds
from tokenguard.policy.caching import AnswersConfig, Cache
from tokenguard.policy.grammar import NAME_SAYS as _NAME
from tokenguard.policy.grammar import WHEN_SAYS as _WHEN
from tokenguard.policy.grammar import When
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
    """Whose calls they are: the keys that calls are attributed by."""

    from_baggage: tuple[str, ...] = _row(kinds.KEYS, (), "Keys taken from W3C baggage of the current context.")
    defaults: Mapping[str, str] = _row(kinds.TEXTS, {}, "Values for keys that nothing else sets.")
    keys: tuple[str, ...] = _row(kinds.KEYS, (), "Keys of your own that `when` and `per` may name.")
    fingerprint_salt: str | None = _row(
        kinds.NAME,
        None,
        "The key of request hashes. All processes with the same salt get the same hash for the same request; others "
        "learn "
        "nothing from it. Without it, hashes are comparable only within one process.",
    )
    helpers: tuple[str, ...] = _row(
        kinds.GLOBS,
        (),
        "Your own files that wrap the SDKs, as globs of the end of their path (`llm.py`, `app/clients/*`). The call "
        "site "
        "is then the code that calls them.",
    )
    max_values: int = _row(kinds.POSITIVE, 200, "Distinct values per key on metrics; further values become `other`.")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit for one call, or for one run of an agent."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN)
    max_input_tokens: int | None = _row(kinds.POSITIVE, None, "Input tokens of one call, cached ones included.")
    max_system_tokens: int | None = _row(kinds.POSITIVE, None, "Input tokens of the system prompt.")
    max_tools_tokens: int | None = _row(kinds.POSITIVE, None, "Input tokens of the tool definitions.")
    max_history_tokens: int | None = _row(
        kinds.POSITIVE,
        None,
        "Input tokens of the conversation, without the user's last message and without tool results.",
    )
    max_tool_result_tokens: int | None = _row(kinds.POSITIVE, None, "Tokens of the largest tool result.")
    max_output_tokens: int | None = _row(kinds.POSITIVE, None, "Output tokens that a call may request.")
    max_cost_usd: float | None = _row(kinds.USD, None, "Worst case of one call: its input plus its output cap.")
    max_tool_steps: int | None = _row(kinds.COUNT, None, "Tool rounds since the last user turn.")
    max_tool_calls_per_turn: int | None = _row(kinds.COUNT, None, "Tool calls in one answer.")
    max_retries: int | None = _row(kinds.COUNT, None, "Retries by the SDK, and identical repeats by the application.")
    max_session_usd: float | None = _row(
        kinds.USD, None, "USD of one realtime session. A session that reaches it is closed, with the reason."
    )
    max_session_seconds: float | None = _row(kinds.DURATION, None, "How long one realtime session may be open.")
    retry_window: float = _row(
        kinds.DURATION, 60.0, "How long after a failure an identical request counts as a repeat."
    )
    then: str = _row(
        choice("warn", "clamp", "trim", "provider", "block", "downgrade"),
        "block",
        "`warn` records; `clamp` lowers or adds the output cap; `trim` removes the oldest turns of the history; "
        "`provider` switches on the provider's own setting for long contexts; `downgrade` changes the model; `block` "
        "raises `LimitExceeded` before anything is sent. With `clamp`, `trim` and `provider`, the limit's other "
        "keys block.",
    )
    downgrade_to: str | None = _row(kinds.MODEL, None, _DOWN)


@dataclass(frozen=True, slots=True)
class Budget:
    """Money, tokens or calls for a window of time, over all calls that share the same `per` values."""

    name: str = _row(kinds.NAME, ..., _NAME)
    per: tuple[str, ...] = _row(
        kinds.KEYS,
        (),
        "One account per distinct value of these keys; [] is one account for all calls. `task_run`: one account per "
        "run of "
        "a `tokenguard.task`. It is removed when the run ends; calls outside of a task have no such account.",
    )
    when: When = _row(kinds.WHEN, When(), _WHEN)
    window: str = _row(
        choice("minute", "hour", "day", "week", "month", "total"),
        "day",
        'Aligned to the calendar; a week starts on Monday, `total` never ends. With `per = ["task_run"]`, it is the '
        "run.",
    )
    timezone: str = _row(kinds.TIMEZONE, "UTC", "The time zone in which a day begins.")
    limit_usd: float | None = _row(kinds.USD, None, "USD per window; 0 blocks everything.")
    limit_tokens: int | None = _row(kinds.COUNT, None, "Input plus output tokens per window.")
    limit_calls: int | None = _row(
        kinds.COUNT,
        None,
        "Calls per window; each request that is sent counts. Cannot be combined with the other limits.",
    )
    alert_at: tuple[float, ...] = _row(
        kinds.THRESHOLDS,
        ALERT_AT,
        "Shares of the limit at which an alert is sent, once per window. Default for `limit_calls` and `task_run`: "
        "none.",
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
    """A circuit breaker: after several failures in a row, calls to a model are refused, then one probe is sent."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN)
    failures: int = _row(kinds.POSITIVE, 5, "Failures in a row, for one provider and model, that open the breaker.")
    window: float = _row(kinds.DURATION, 60.0, "The failures must fall within this time.")
    cooldown: float = _row(kinds.DURATION, 30.0, "How long the breaker stays open before one probe is sent.")


@dataclass(frozen=True, slots=True)
class Share:
    """Single flight: of identical calls at the same time, one is sent, and all get its answer."""

    name: str = _row(kinds.NAME, ..., _NAME)
    when: When = _row(kinds.WHEN, When(), _WHEN + " Name only calls that may safely share an answer.")
    per: tuple[str, ...] = _row(kinds.KEYS, ("tenant",), "Only calls with equal values of these keys share.")


@dataclass(frozen=True, slots=True)
class Route:
    """Send calls to another model of the same provider. The first route whose conditions all hold applies."""

    name: str = _row(kinds.NAME, ..., _NAME)
    to: str = _row(kinds.MODEL, ..., "The model that answers instead, of the same provider.")
    version: str = _row(kinds.NAME, "1", "Recorded on spans. A new version draws the arms again.")
    when: When = _row(kinds.WHEN, When(), _WHEN)
    max_input_tokens: int | None = _row(kinds.POSITIVE, None, "Only requests with at most this many input tokens.")
    max_output_tokens: int | None = _row(kinds.POSITIVE, None, "Only requests with an output cap of at most this.")
    max_turns: int | None = _row(kinds.POSITIVE, None, "Only conversations with at most this many user messages.")
    tools: bool | None = _row(
        kinds.FLAG, None, "`false`: only requests that offer no tools; `true`: only those that do."
    )
    images: bool | None = _row(kinds.FLAG, None, "The same for images, audio and files in the input.")
    schema: bool | None = _row(kinds.FLAG, None, "The same for a requested JSON output.")
    share: float = _row(kinds.SHARE, 1.0, "The share of these calls that goes there; the others are the control arm.")
    by: tuple[str, ...] = _row(
        kinds.KEYS,
        ("tenant", "user"),
        "Calls with equal values of these keys are in the same arm. A call without these keys is drawn by its request.",
    )
    decide: str | None = _row(
        kinds.CALLBACK,
        None,
        "Your function that decides whether a call is routed. It gets the facts of the request (a dict) and has 5 "
        "ms. If "
        "it fails, the call is not routed.",
    )
    content: bool = _row(kinds.FLAG, False, "`true`: your functions get the messages, too.")
    escalate_to: str | None = _row(
        kinds.MODEL, None, "The model that gets the request if the answer fails a check of `escalate_when`."
    )
    escalate_when: tuple[str, ...] = _row(
        kinds.FAILURES,
        (),
        "The checks: `length` (cut off at the cap), `refusal`, `schema` (not the requested JSON), or your own "
        "function, "
        "which gets the facts and the answer.",
    )
    unfit: str = _row(
        choice("original", "error"),
        "original",
        "If the other model refuses the request (400, 404, 422): `original` sends the caller's own request, once, and "
        "does not use that model again; `error` passes the refusal to the caller.",
    )


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """Where budgets are kept."""

    url: str = _row(
        kinds.LEDGER_URL,
        "sqlite:///.tokenguard/ledger.db",
        "`memory:` is for one process, `sqlite:///` for the processes of one machine (a path relative to the policy "
        "file), `redis://` for a fleet.",
    )
    lease: float = _row(kinds.DURATION, 600.0, "A reservation that is not settled is charged in full after this time.")
    slice: float = _row(
        kinds.SHARE,
        0.0,
        "The share of a limit that a process leases at a time and spends without a round trip; 0 is off.",
    )
    slice_lease: float = _row(
        kinds.DURATION,
        60.0,
        "How long a slice is used before it is returned. If its process died, it is charged `lease` later.",
    )
    slice_idle: float = _row(kinds.DURATION, 5.0, "A slice that is not used for this time is returned.")
    on_loss: str = _row(
        choice("allow", "block"),
        "allow",
        "If the ledger cannot be reached: `allow` counts in the process and reconciles later, `block` refuses calls.",
    )
    timeout: float = _row(kinds.DURATION, 1.0, "How long one operation may take before the ledger counts as lost.")


@dataclass(frozen=True, slots=True)
class Alerts:
    """Where alerts about a budget's thresholds go, besides the log, the metric and the event."""

    callback: str | None = _row(
        kinds.CALLBACK, None, "A function that is called with the alert (a dict), outside the caller's thread."
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
        "reports by feature, tenant, model and similar keys reach further back. `TOKENGUARD_STORE_DAYS` overrides it.",
    )


@dataclass(frozen=True, slots=True)
class FinopsConfig:
    """What the spend is compared with."""

    revenue: str | None = _row(
        kinds.NAME,
        None,
        "A CSV file of what tenants pay (`tenant`, `revenue_usd`, and `date`: a day, a month or none), relative to the "
        "policy file: `tokenguard report --by tenant` then has margins.",
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be spent, and what happens to a call that would exceed it."""

    mode: str = _row(choice("enforce", "observe"), "enforce", "`observe` records every decision and changes nothing.")
    on_internal_error: str = _row(
        choice("allow", "block"), "allow", "What happens to a call when TokenGuard itself fails."
    )
    unpriced: str | Ceiling = _row(
        choice("block_budgets", "allow", "estimate"),
        "block_budgets",
        "What dollar budgets do with models without a known price: refuse them (`block_budgets`), `allow` them, "
        "`estimate` "
        "(the nearest model of the family at its highest rates, marked `nearest_model`), or assume a rate: "
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
        'Prices that override the bundled price list; the first match wins. `"provider/model glob"` is another '
        "model's name, "
        "or rates in USD per million tokens.",
    )
    hosts: Mapping[str, str] = _row(
        kinds.HOSTS,
        {},
        'The provider of a host that TokenGuard does not know, by `"host"` or `"host:port"` (globs): a known '
        "provider, a name of "
        "your own with rates under `[prices]`, or `sdk` for a proxy that forwards to the SDK's own provider.",
    )
    may_override: tuple[str, ...] = _row(
        kinds.GLOBS,
        (),
        "In a floor: the keys and rules that a nearer file may override, as globs (`prices`, `ledger.*`, "
        "`alerts.callback`, `tenant per day`).",
    )
    lint: Mapping[str, Any] = _row(kinds.OPAQUE, {}, "For `tokenguard lint`; see its rules' pages.")
    reconcile: Mapping[str, Any] = _row(
        kinds.OPAQUE, {}, "For `tokenguard reconcile`: which projects and workspaces are yours; see docs/reconcile.md."
    )
    whatif: Mapping[str, Any] = _row(kinds.OPAQUE, {}, "Only for `tokenguard whatif`.")
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
    def may_lack(self) -> bool:
        """Whether it asks for what may not be there, though all of it is as it should be: a package, a secret, code."""
        return bool(self.caches) or bool(self.budgets and not self.ledger.url.startswith(("memory:", "sqlite:")))

    @property
    def known_keys(self) -> tuple[str, ...]:
        """What `when` and `per` may name: the call's own keys, TokenGuard's, and those under `[attribution]`."""
        own = self.attribution
        return tuple(dict.fromkeys((*CALL_KEYS, *names.ATTRIBUTION_KEYS, *own.keys, *own.from_baggage, *own.defaults)))
