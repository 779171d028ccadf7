"""`install()`: from now on, every call through a known SDK takes the meter's path.

SDKs that are imported already are wrapped now, the others when they are imported; none is imported for it. What
measures calls is loaded with the first of them, so that a program without one does not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import chain
from types import ModuleType
from weakref import WeakKeyDictionary

from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.facts.sdks import SDKS, Sdk
from tokenguard.installation.imports import unwatch_imports, watch_imports
from tokenguard.process import ends, signals
from tokenguard.process.ends import Stage
from tokenguard.process.interrupts import interrupt
from tokenguard.process.log import Log
from tokenguard.process.native import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tokenguard.facts.record import TaskRecord
    from tokenguard.policy import Policy
    from tokenguard.seams.common.wrapping import Restore
    from tokenguard.telemetry.drain import Telemetry

log = Log("tokenguard")
_lock = RLock()
_on = False
"""Whether `install()` was called, and not taken back."""
_installed: Installation | None = None
"""What was made for it; `None` while nobody needs it."""
_found: Policy | None = None
"""What calls will be put under when that is made."""
CONFIGURED = (names.ENV_CAPTURE_CONTENT, names.ENV_HOSTS, names.ENV_INCLUDE_USAGE)
"""Environment variables whose mistakes `install()` tells."""
default_store: str | None = names.DEFAULT_STORE
"""Where calls are kept when nothing is configured; the pytest plugin says nowhere."""
_kept_days: int | None = None
"""For how long, where a policy says."""
_telemetry: Telemetry | None = None
"""Made once: OpenTelemetry knows an instrument by its name, and a second one would be deaf."""


class Installation:
    """What `install()` set up in this process, and how to take it back."""

    def __init__(self) -> None:
        from tokenguard.call.open import end_all
        from tokenguard.metering.meter import Meter
        from tokenguard.metering.usage_option import mode_of
        from tokenguard.prices import PriceBook
        from tokenguard.providers.hosts import hosts_of, know_hosts
        from tokenguard.telemetry.drain import Telemetry

        ends.at_end(Stage.CALLS, end_all)
        global _telemetry
        _telemetry = _telemetry or Telemetry(_store, _instead)
        self.telemetry = _telemetry
        asks_usage = mode_of(os.environ.get(names.ENV_INCLUDE_USAGE))
        self.telemetry.metrics.watch_prices(PriceBook.newest)
        know_hosts(hosts_of(os.environ.get(names.ENV_HOSTS, "")))
        capture = None
        if names.ENV_CAPTURE_CONTENT in os.environ:
            from tokenguard.metering.content import Capture

            capture = Capture.asked()
        self.meter = Meter(self.telemetry, PriceBook(), include_usage=asks_usage, capture=capture)
        self.seams: dict[str, Restore] = {}
        """By module of `SDKS`: what its seam has put there. It may add to its own later."""
        self.transports: dict[str, Restore] = {}
        """The same below the SDKs, where answers are kept."""
        self.everywhere: WeakKeyDictionary[ModuleType, list[Restore]] = WeakKeyDictionary()
        """The same by module, with those that were imported again since: some may still hold their clients."""
        self.listens = False

    def put_under(self, policy: Policy) -> None:
        """Put the calls that begin from now on under this policy; those under way keep theirs."""
        from tokenguard.call.site import pass_over
        from tokenguard.prices import PriceBook
        from tokenguard.process import hashes
        from tokenguard.providers.hosts import hosts_of, know_hosts

        for said in policy.untaken:
            self.telemetry.warn(said)
        global _kept_days
        _kept_days = policy.store.keep_days
        assumed = policy.unpriced
        ceiling = None if isinstance(assumed, str) else (assumed.input_per_mtok, assumed.output_per_mtok)
        know_hosts({**hosts_of(os.environ.get(names.ENV_HOSTS, "")), **policy.hosts})
        prices = PriceBook(
            policy.prices, ceiling, estimates=assumed == "estimate", origin=f"{policy.source or 'the policy'}, [prices]"
        )
        guard = None
        if policy.rules or policy.attribution.defaults or policy.attribution.from_baggage:
            from tokenguard.guard.admission import Guard

            guard = Guard(policy, prices, after=self.meter.guard)
            guard.alerter.on_alert = self.telemetry.metrics.count_alert
            guard.on_refusal = self.telemetry.metrics.count_refusal
        if policy.caches or policy.shares:
            self._listen()
        hashes.salted(policy.attribution.fingerprint_salt)
        self.telemetry.metrics.watch_budgets(tuple if guard is None else guard.balances)
        self.telemetry.metrics.watch_ledger((lambda: None) if guard is None else guard.ledger_lost)
        self.telemetry.metrics.watch_breakers(dict if guard is None else guard.breakers.states)
        self.telemetry.metrics.max_values = policy.attribution.max_values
        pass_over(policy.attribution.helpers)
        self.meter.settling.prices = prices
        if self.telemetry.looker is not None:
            self.telemetry.looker.prices = prices
        self.meter.guard = guard
        if self.seams:
            self._warm()

    def _warm(self) -> None:
        """Load what the guard may count with, so that the first call that must be counted does not wait for it."""
        if self.meter.guard is not None and self.meter.guard.counts:
            from tokenguard.tokens import warm

            warm()

    def _listen(self) -> None:
        """Be where kept answers are given, and new ones come in: below the SDKs, while some policy wants it."""
        from tokenguard.seams.transports import TRANSPORTS, patch

        if self.listens:
            return
        self.listens = True

        def listen(module: ModuleType) -> None:
            try:
                self._keep(self.transports, module.__name__, module, patch(module, self.meter))
            except Exception as error:  # the import is the program's, and goes on
                self.telemetry.internal_error(f"listening to {module.__name__}", error)

        watch_imports(dict.fromkeys(TRANSPORTS, listen))

    def patch(self, sdk: Sdk, module: ModuleType) -> None:
        """Wrap an SDK's module that has just been imported, or was imported before."""
        try:
            import concurrent.futures.thread  # noqa: F401 - tiktoken wants it, and when the process ends it cannot be imported

            from tokenguard.providers import load

            placed = import_module(f"tokenguard.seams.{sdk.seam}").patch(module, self.meter, sdk)
            self._keep(self.seams, sdk.module, module, placed)
            for problem in placed.problems():
                self.telemetry.warn(
                    f"{sdk.module}: {problem}. Its calls may not be measured, and no limit and no budget holds for "
                    "them. `tokenguard doctor` shows which SDKs are measured."
                )
            if self.telemetry.looker is None:
                # Now, in the thread that imports the SDK: not in one of our own beside the application's imports.
                from tokenguard.inputs.look import Looker

                self.telemetry.looker = Looker()
            if self.meter.batches is None:
                from tokenguard.batches.late import LateBatches

                self.meter.batches = LateBatches(self.meter, jobs_path)
            self.telemetry.looker.prices = self.meter.settling.prices
            if sdk.warms:
                load(sdk.provider)
                self.meter.settling.prices.warm(sdk.provider)
            self._warm()
        except Exception as error:
            self.telemetry.internal_error(f"wrapping {sdk.module}", error)

    def _keep(self, by_name: dict[str, Restore], name: str, module: ModuleType, placed: Restore) -> None:
        by_name[name] = placed
        self.everywhere.setdefault(module, []).append(placed)

    def end_run(self, run: str) -> None:
        """A run of a task has ended."""
        if self.meter.guard is not None:
            self.meter.contain("forgetting a run", self.meter.guard.end_run, run)

    def close(self) -> None:
        """Unwrap the SDKs; what was measured is flushed."""
        now = (*reversed(self.seams.values()), *self.transports.values())
        for placed in chain(now, *map(reversed, self.everywhere.values())):
            placed.undo()
        self.seams.clear()
        self.transports.clear()
        self.everywhere.clear()
        self.meter.pending.give_up()
        self.telemetry.flush()


def install(policy: str | os.PathLike[str] | Policy | None = None) -> None:
    """Measure, and guard, every call through the provider SDKs in this process.

    Idempotent: installed already, it only takes over the policy, if one is given, for the calls that follow. `policy`
    is a file or a `Policy`; `None` discovers `tokenguard.toml`. Spans and metrics go to OpenTelemetry's global
    providers; calls go to the local store where no OTLP endpoint is configured, or where `TOKENGUARD_STORE` names one.

    Raises `PolicyError` when the policy cannot be used; nothing is installed or changed then.
    """
    global _on, _found
    with _lock:
        if _on and policy is None:
            return
        from tokenguard.policy.find import may_exist

        chosen = _policy(policy) if policy is not None or may_exist() else None
        if chosen is not None and policy is None and not chosen.may_lack:
            _found = chosen
        elif chosen is not None:
            _made().put_under(chosen)
        if any(each in os.environ for each in CONFIGURED):
            _made()
        if not _on:
            _on = True
            signals.heed()
            scope.hooks.on_task_end = _put
            scope.hooks.on_run_end = _end_run
            watch_imports({sdk.module: partial(_patch, sdk) for sdk in SDKS})


def installed() -> Installation | None:
    """What `install()` has set up in this process, if it has."""
    return _made() if _on else None


def _made() -> Installation:
    """The one of this process; made by who needs it first."""
    global _installed
    with _lock:
        if _installed is None:
            made = Installation()
            if _found is not None:
                made.put_under(_found)
            _installed = made
        return _installed


def _patch(sdk: Sdk, module: ModuleType) -> None:
    try:
        made = _made()
    except Exception as error:  # the import is the program's, and goes on
        if interrupt(error) is not None:
            raise
        log.error("tokenguard: calls of %s are not measured, and no limit holds for them", sdk.module, exc_info=True)
        return
    made.patch(sdk, module)


def _put(task: TaskRecord) -> None:
    _made().telemetry.put(task)


def _end_run(run: str) -> None:
    if _installed is not None:
        _installed.end_run(run)


def _policy(policy: str | os.PathLike[str] | Policy | None) -> Policy:
    from tokenguard.policy import Policy, load

    return policy if isinstance(policy, Policy) else load(policy, floor=True)


def uninstall() -> None:
    """Take `install()` back: the SDKs are as they were. Calls in flight are still measured to their end."""
    global _on, _installed, _found
    with _lock:
        if not _on:
            return
        unwatch_imports()
        _on, _found = False, None
        scope.hooks.on_task_end = scope.hooks.on_run_end = None
        if _installed is not None:
            _installed.close()
            _installed = None


def jobs_path() -> str:
    """Where batch jobs are kept: in the store's file, whether calls go there or to OpenTelemetry; nowhere if it is off.

    Jobs are created and collected by different processes, so they are in a file wherever one may be.
    """
    setting = os.environ.get(names.ENV_STORE)
    path = default_store if setting is None else names.store_path(setting)
    from pathlib import Path

    from tokenguard.process import hashes
    from tokenguard.store.file import MEMORY, PRIVATE

    if path is None or path in PRIVATE:
        return MEMORY
    hashes.keep(Path(path))
    return path


def _store() -> Any:
    """The local store, where a path is given or nobody else gets the records; `None` elsewhere. May raise.

    Asked at the first records, when OpenTelemetry has been set up or has failed to be.
    """
    setting = os.environ.get(names.ENV_STORE)
    path = names.store_path(setting)
    if setting is None:
        from opentelemetry import trace

        exported = any(os.environ.get(f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT") for signal in ("", "_TRACES"))
        if exported and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return None
        path = default_store
    return _store_at(path)


def _instead() -> Callable[[], Any] | None:
    """Makes the store for what an OTLP endpoint does not take; `None` where `TOKENGUARD_STORE` says what to keep."""
    return None if names.ENV_STORE in os.environ or default_store is None else partial(_store_at, default_store)


def _store_at(path: str | None) -> Any:
    if path is None:
        return None
    from pathlib import Path

    from tokenguard.process import hashes
    from tokenguard.store.file import PRIVATE
    from tokenguard.store.store import Store

    if path not in PRIVATE:
        hashes.keep(Path(path))
    return Store(path) if _kept_days is None else Store(path, _kept_days)
