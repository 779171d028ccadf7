"""Which rules apply to a call: compiled once per policy, remembered per combination of what the rules look at."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.ledger.entry import CALLS, TOKENS, Entry, nano
from tokenguard.policy.caching import Cache
from tokenguard.policy.index import Index
from tokenguard.policy.kinds import MAX_TEXT
from tokenguard.policy.model import CALL_KEYS, TASK_RUN, Breaker, Budget, Limit, Policy, Route, Share
from tokenguard.policy.windows import load_zone, window_bounds

RUN_KEPT_S: Final = 7 * 86400
"""How long the account of a run of a task is kept at the most, where nobody says that the run has ended."""
CACHE_SIZE: Final = 4096
"""Combinations remembered at least; twice as many at most."""

_Rule = TypeVar("_Rule", Limit, Budget, Breaker, Share, Route)
_Facts = tuple[str, ...]


class Tightest(NamedTuple):
    """The lowest of each ceiling over several limits: a call within all of these is within every limit."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    tool_steps: int | None = None
    tool_calls_per_turn: int | None = None
    retries: int | None = None
    system_tokens: int | None = None
    tools_tokens: int | None = None
    history_tokens: int | None = None
    tool_result_tokens: int | None = None
    retries_enforced: int | None = None
    """The lowest `max_retries` of a limit that does more than warn."""
    section: int | None = None
    """The lowest ceiling of a part of the input."""
    trims: bool = False
    """Whether a limit trims the history."""

    @property
    def counts(self) -> bool:
        """Whether the tokens of the input may have to be counted for one of them."""
        return (self.input_tokens, self.cost_usd, self.section) != (None, None, None)

    @classmethod
    def of(cls, limits: tuple[Limit, ...]) -> Tightest:
        """The tightest ceilings of these limits; `None` where there is none."""

        def lowest(field: str, chosen: tuple[Limit, ...] = limits) -> Any:
            return min((value for limit in chosen if (value := getattr(limit, field)) is not None), default=None)

        enforced = tuple(limit for limit in limits if limit.then != "warn")
        ceilings = {field: lowest(f"max_{field}") for field in cls._fields[:-3]}
        parts = [ceilings[f"{part}_tokens"] for part in ("system", "tools", "history", "tool_result")]
        return cls(
            **ceilings,
            retries_enforced=lowest("max_retries", enforced),
            section=min((ceiling for ceiling in parts if ceiling is not None), default=None),
            trims=any(limit.then == "trim" for limit in limits),
        )


_Key = Callable[[_Facts], str]
_Rows = tuple[tuple[str, _Key, tuple[Any, ...]], ...]
"""Of each budget its name, what makes an account's key of a call's facts, and the rest of an `Entry`."""
_NONE_YET: Final[tuple[float, float, Any]] = (0.0, 0.0, ())
"""From when to when something is so, and what."""


class Terms:
    """Budgets that apply together, and what their accounts have at a time, whosever they are."""

    __slots__ = ("_kept", "_shared", "budgets", "by_run")

    def __init__(self, budgets: tuple[tuple[Budget, _Key], ...]) -> None:
        self.budgets = budgets
        """Each budget with what makes the key of its account of a call's facts."""
        self.by_run = tuple([row for row in budgets if row[0].by_run])
        """Those of runs of a task."""
        self._shared = tuple([row for row in budgets if not row[0].by_run])
        self._kept: list[tuple[float, float, _Rows]] = [_NONE_YET, _NONE_YET]
        """What was asked for last: where none refuses, and where they are enforced."""

    def at(self, now: float, *, enforce: bool) -> tuple[float, float, _Rows]:
        """From when to when the windows are those that hold `now`, and what their accounts have."""
        kept = self._kept[enforce]
        if kept[0] <= now < kept[1]:
            return kept
        since, until = 0.0, float("inf")
        found = []
        for budget, key in self._shared:
            start, end = _window(budget, now)
            since, until = max(since, start), min(until, end)
            found.append((budget.name, key, (start, end, *_limits(budget, enforce=enforce))))
        kept = self._kept[enforce] = since, until, tuple(found)
        return kept


class Accounts:
    """The accounts of some budgets in a ledger that are a call's."""

    __slots__ = ("_enforced", "_facts", "_observed", "_terms", "budgets")

    def __init__(self, terms: Terms, facts: _Facts) -> None:
        self._terms = terms
        self._facts = facts
        self.budgets = terms.budgets
        """Each budget with what makes the key of its account."""
        self._enforced = self._observed = _NONE_YET

    def entries(self, now: float, *, enforce: bool = True, run: str = "") -> tuple[Entry, ...]:
        """The accounts in the windows that hold `now` (Unix seconds), for `Ledger.reserve`.

        With `enforce=False` (mode `observe`) none of them refuses; they are reported in `Reservation.over`. `run` is
        the run of the task in which the call is made: without one, budgets by run have no account.
        """
        entries: tuple[Entry, ...]
        since, until, entries = self._enforced if enforce else self._observed
        if not since <= now < until:
            facts = self._facts
            since, until, rows = self._terms.at(now, enforce=enforce)
            entries = tuple([Entry(budget, key(facts), *rest) for budget, key, rest in rows])
            made = (since, until, entries)
            if enforce:
                self._enforced = made
            else:
                self._observed = made
        return entries + self.of_run(run, now, enforce=enforce) if run and self._terms.by_run else entries

    def of_run(self, run: str, now: float, *, enforce: bool = True) -> tuple[Entry, ...]:
        """The accounts of a run of a task."""
        end = int(now + RUN_KEPT_S)
        found = []
        for budget, key in self._terms.by_run:
            whose = ",".join(filter(None, (key(self._facts), run_key(run))))
            found.append(Entry(budget.name, whose, 0, end, *_limits(budget, enforce=enforce)))
        return tuple(found)


NO_ACCOUNTS: Final = Accounts(Terms(()), ())


_windows: Final[dict[tuple[str, str], tuple[int, int]]] = {}
"""The windows that were asked for last: they are those of all tenants."""


def _window(budget: Budget, now: float) -> tuple[int, int]:
    """The budget's window that holds `now`."""
    which = (budget.window, budget.timezone)
    known = _windows.get(which)
    if known is None or not known[0] <= now < known[1]:
        known = _windows[which] = window_bounds(*which, now)
    return known


def _limits(budget: Budget, *, enforce: bool) -> tuple[Any, ...]:
    """What an `Entry` of this budget has after its window."""
    limit_nano = None if budget.limit_usd is None else nano(budget.limit_usd)
    counted = TOKENS if budget.limit_calls is None else CALLS
    most = budget.limit_tokens if budget.limit_calls is None else budget.limit_calls
    return limit_nano, most, budget.alert_at, enforce and budget.then != "warn", counted


def run_key(run: str) -> str:
    """What tells a run's account from others', at the end of its key."""
    return f"{TASK_RUN}={run}"


def key_without_run(key: str) -> str:
    """The key of an account without the run that it is for: metrics have no series for each run."""
    return key.partition(f"{TASK_RUN}=")[0].rstrip(",")


class Together(NamedTuple):
    """Rules that apply together, in the order of the file: what is so of them whosever the call is."""

    limits: tuple[Limit, ...]
    tightest: Tightest
    budgets: tuple[tuple[Budget, _Key], ...]
    """Each with what makes the key of its account of a call's facts."""
    money: Terms | None
    """Those of money and tokens; `None` where there are none."""
    rates: Terms | None
    """Those of calls."""
    breakers: tuple[Breaker, ...]
    share: tuple[Share, _Key] | None
    cache: tuple[Cache, Callable[[_Facts], str | None]] | None
    routes: tuple[tuple[Route, _Key], ...]
    by_run: bool
    """Whether a budget has an account for each run of a task."""


class Matched:
    """The rules that apply to a call, in the order of the file."""

    __slots__ = (
        "_facts",
        "breakers",
        "budgets",
        "by_run",
        "cache",
        "cache_key",
        "limits",
        "money",
        "rates",
        "routes",
        "share",
        "share_key",
        "tightest",
    )

    def __init__(self, rules: Together, facts: _Facts) -> None:
        self.limits, self.tightest, self.budgets, money, rates, self.breakers, share, cache, routes, self.by_run = rules
        self._facts = facts
        self.money = NO_ACCOUNTS if money is None else Accounts(money, facts)
        """The budgets of money and tokens."""
        self.rates = NO_ACCOUNTS if rates is None else Accounts(rates, facts)
        """The budgets of calls."""
        self.share: Share | None = None
        self.share_key = ""
        """The first `[[share]]` that applies, and whose calls may share an answer: part of a flight's key."""
        if share is not None:
            self.share, self.share_key = share[0], share[1](facts)
        self.cache: Cache | None = None
        self.cache_key: str | None = None
        """The first `[[cache]]` that applies, and whose calls may have its answers; no key where the call lacks one."""
        if cache is not None:
            self.cache, self.cache_key = cache[0], cache[1](facts)
        self.routes = tuple([(route, arm(facts)) for route, arm in routes]) if routes else ()
        """Each `[[route]]` with the arm of these calls; an empty one is drawn by the request."""

    def entries(self, now: float, *, enforce: bool = True) -> tuple[Entry, ...]:
        """The accounts of money and tokens; see `Accounts.entries`."""
        return self.money.entries(now, enforce=enforce)

    def accounts(self) -> list[tuple[Budget, str]]:
        """Each budget with the key of its account, such as `tenant=t1`."""
        return [(budget, key(self._facts)) for budget, key in self.budgets]

    def budget(self, name: str) -> Budget:
        """The matching budget of this name, such as a refusal's `entry.budget`."""
        return next(budget for budget, _ in self.budgets if budget.name == name)


class CompiledPolicy:
    """A policy ready for use. Immutable but for its cache: to reload, make a new one and swap the one reference."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        for budget in policy.budgets:
            load_zone(budget.timezone)  # a file, which the first call is not to wait for
        self._keys = _keys_in_use(policy)
        at = {key: index for index, key in enumerate((*CALL_KEYS, *self._keys))}
        self._indexes = {
            kind: Index([rule.when.patterns for rule in getattr(policy, kind)], at)
            for kind in ("limits", "budgets", "breakers", "shares", "caches", "routes")
            if getattr(policy, kind)
        }
        """By the kind of rule, for those that there are."""
        self._budget_keys = [_key_of(rule.per, at) for rule in policy.budgets]
        self._share_keys = [_key_of(rule.per, at) for rule in policy.shares]
        self._cache_keys = [_whole_key_of(rule.per, at) for rule in policy.caches]
        self._arms = [_arm_of(rule, at) for rule in policy.routes]
        self._together: dict[tuple[tuple[int, ...], ...], Together] = {}
        """The rules that apply together, by their places."""
        self._once: set[int] = set()
        """Hashes of combinations that were seen once of late; what is seen again is remembered."""
        self._young: dict[_Facts, Matched] = {}
        self._old: dict[_Facts, Matched] = {}

    def match(self, provider: str, model: str, operation: str, attribution: Mapping[str, str]) -> Matched:
        """The rules for a call; one dict lookup for a combination that was seen before.

        Attribution keys that no rule looks at do not count as part of the combination.
        """
        get = attribution.get
        facts = (provider, model, operation, *[get(key, "") for key in self._keys])
        matched = self._young.get(facts)
        return self._miss(facts) if matched is None else matched

    def _miss(self, facts: _Facts) -> Matched:
        matched = self._old.get(facts)
        if matched is None:
            matched = self._decide(facts)
            if (which := hash(facts)) not in self._once:  # it may never come again: one of very many tenants
                if len(self._once) >= CACHE_SIZE:
                    self._once.clear()
                self._once.add(which)
                return matched
        if len(self._young) >= CACHE_SIZE:  # two generations: what is in use moves on, the rest is forgotten
            self._old, self._young = self._young, {}
        self._young[facts] = matched
        return matched

    def _decide(self, facts: _Facts) -> Matched:
        found = tuple([index.find(facts) for index in self._indexes.values()])
        rules = self._together.get(found)
        if rules is None:
            if len(self._together) >= CACHE_SIZE:
                self._together.clear()
            rules = self._together[found] = self._rules_at(dict(zip(self._indexes, found, strict=True)))
        return Matched(rules, facts)

    def _rules_at(self, found: Mapping[str, tuple[int, ...]]) -> Together:
        """The rules at these places, by their kind."""
        policy = self.policy
        limits = tuple([policy.limits[place] for place in found.get("limits", ())])
        budgets = tuple([(policy.budgets[place], self._budget_keys[place]) for place in found.get("budgets", ())])
        money = tuple([row for row in budgets if row[0].limit_calls is None])
        rates = tuple([row for row in budgets if row[0].limit_calls is not None])
        share, cache = (next(iter(found.get(kind, ())), None) for kind in ("shares", "caches"))
        return Together(
            limits,
            Tightest.of(limits),
            budgets,
            Terms(money) if money else None,
            Terms(rates) if rates else None,
            tuple([policy.breakers[place] for place in found.get("breakers", ())]),
            None if share is None else (policy.shares[share], self._share_keys[share]),
            None if cache is None else (policy.caches[cache], self._cache_keys[cache]),
            tuple([(policy.routes[place], self._arms[place]) for place in found.get("routes", ())]),
            by_run=any(budget.by_run for budget, _ in budgets),
        )


def _keys_in_use(policy: Policy) -> tuple[str, ...]:
    used: dict[str, None] = {}
    for rule in policy.rules:
        used.update(dict.fromkeys(key for key, _ in rule.when.patterns))
        used.update(dict.fromkeys(_named(rule)))
    return tuple(key for key in used if key not in (*CALL_KEYS, TASK_RUN))


def _named(rule: Limit | Budget | Breaker | Share | Route | Cache) -> tuple[str, ...]:
    """The keys that a rule looks at besides those of its `when`."""
    if isinstance(rule, Route):
        return rule.by if 0 < rule.share < 1 else ()
    return getattr(rule, "per", ())


def draw(rule: Route, whose: str) -> str:
    """The arm of calls: `treated` or `control`, the same for the same `whose`, in every process.

    A larger share keeps those who were treated before.
    """
    seed = "\0".join((rule.name, rule.version, whose))
    drawn = hashlib.blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return names.TREATED if int.from_bytes(drawn, "big") < rule.share * 2**64 else names.CONTROL


def _arm_of(rule: Route, at: Mapping[str, int]) -> Callable[[_Facts], str]:
    """The arm of a call by its attribution; empty where that has none of the keys."""
    if not 0 < rule.share < 1:
        arm = names.TREATED if rule.share else names.CONTROL
        return lambda facts: arm
    indexes, key = [at[name] for name in rule.by], _key_of(rule.by, at)
    return lambda facts: draw(rule, key(facts)) if any(facts[index] for index in indexes) else ""


def _key_of(per: tuple[str, ...], at: Mapping[str, int]) -> Callable[[_Facts], str]:
    """The account's key: `tenant=t1,team=search`; a value that is absent is empty."""
    indexes = [(key, at[key]) for key in per if key != TASK_RUN]
    if len(indexes) == 1:  # as most have, and made for each budget of a tenant that comes anew
        (name, place), *_ = indexes
        return lambda facts: f"{name}={_value(facts[place])}"
    return lambda facts: ",".join([f"{key}={_value(facts[index])}" for key, index in indexes])


def _whole_key_of(per: tuple[str, ...], at: Mapping[str, int]) -> Callable[[_Facts], str | None]:
    """The same; `None` where a value is absent."""
    key_of = _key_of(per, at)
    return lambda facts: key_of(facts) if all(facts[at[key]] for key in per) else None


def accounts_here(budgets: Iterable[Budget], facts: Mapping[str, str]) -> Accounts:
    """The accounts of those budgets under which a call may fall of which no more than these facts are known.

    What a budget asks of the call itself, and nobody knows yet, is taken to be so; but without it there is no telling
    which account it would be of a budget that has one for each.
    """
    found = []
    for budget in budgets:
        known = {key: facts.get(key, None if key in CALL_KEYS else "") for key, _ in budget.when.patterns}
        fits = all(
            value is None or any(fnmatch.fnmatchcase(value, glob) for glob in globs)
            for (_, globs), value in zip(budget.when.patterns, known.values(), strict=True)
        )
        if fits and not any(key in CALL_KEYS and key not in facts for key in budget.per):
            found.append(budget)
    at = {key: index for index, key in enumerate(dict.fromkeys(key for budget in found for key in budget.per))}
    terms = Terms(tuple([(budget, _key_of(budget.per, at)) for budget in found]))
    return Accounts(terms, tuple([facts.get(key, "") for key in at]))


_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f,=%]")


def _value(text: str) -> str:
    """A value from anywhere, made safe for keys: separators escaped, what is too long cut and marked by its hash."""
    if len(text) > MAX_TEXT:
        text = text[:80] + "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate would fail in every store
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)
