"""The plugin at work: who is charged when, who is judged, and what processes tell each other.

A test is charged from its setup to its teardown; an attempt of a rerun is judged by itself and paid for with the rest.
A fixture that several tests share is charged apart from them. Under xdist the workers measure and judge, and the
controller adds up what they send: with each report, in case they crash, and at their end.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.facts.errors import PolicyError
from tokenguard.installation import imports, runtime
from tokenguard.policy.find import may_exist
from tokenguard.providers import SDKS
from tokenguard.testing import baseline, judgement
from tokenguard.testing.account import Account, account_of
from tokenguard.testing.options import BASELINE, RULE, USAGE_ERROR, setting
from tokenguard.testing.settings import MARK, budget_of, settings
from tokenguard.testing.spending import Recorder, Spending
from tokenguard.testing.summary import Summary

if TYPE_CHECKING:
    from tokenguard.policy import Policy
    from tokenguard.testing.session import SessionBudget

REPORT: Final = "tokenguard_account"
"""The attribute of a test's report that carries its account from a worker to the controller."""
PROPERTIES: Final = ("cost_usd", "calls", "input_tokens", "output_tokens", "cache_read_tokens")
"""The figures that JUnit's file has of each test, as `tokenguard.cost_usd` and so on."""


class Running:
    """The hooks of a run that measures."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = settings(config)
        self.worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self.controls = self.worker is None and config.getoption("dist", "no") != "no"
        """Whether the tests run in other processes."""
        self.file = config.rootpath / BASELINE
        self.before = self._baseline()
        self.summary = Summary(self.settings, self.file, self.before, asked=bool(setting(config, "")))
        self._item: pytest.Item | None = None
        """The test that runs."""
        self._judged: int | None = None
        self._missed = 0
        """Calls that could not be measured or guarded, when this attempt began."""
        """How many calls it had made when it was judged; `None` before, and after it has failed."""
        self._ids: dict[str, str] = {}
        """The tests' ids in pytest's reports, by their names here."""
        self._folder: Path | None = None
        self.session = self._session()
        self.recorder = Recorder(self.session)
        self._policy = self._measuring()
        self._was = scope.hooks.on_call, runtime.default_store
        self._foreign = runtime.installed() is not None
        """Whether a program has installed TokenGuard itself, and keeps it."""
        config.add_cleanup(self._stop)
        if self.worker is not None:
            config.pluginmanager.register(Sending(self))
        elif self.controls or self.settings.update:
            config.pluginmanager.register(Receiving(self.summary))
        if not self.controls:
            scope.hooks.on_call = self.recorder.begun
            runtime.default_store = None
            self._install()

    # --- start and stop ----------------------------------------------------------------------------------------------

    def _baseline(self) -> dict[str, baseline.Entry] | None:
        if self.settings.growth == "ignore" and not self.settings.update:
            return None
        try:
            return baseline.read(self.file)
        except baseline.CorruptBaseline as corrupt:
            raise pytest.UsageError(str(corrupt)) from None

    def _session(self) -> SessionBudget | None:
        """The budget that stops spending; in one process in memory, over workers in a file that they share."""
        wanted = self.settings
        if wanted.then != "stop" or (wanted.max_cost is None and wanted.max_calls is None):
            return None
        if self.controls:
            self._folder = Path(tempfile.mkdtemp(prefix="tokenguard-pytest-"))
            return None
        from tokenguard.testing.session import SessionBudget

        url = "memory:" if self.worker is None else self.worker["tokenguard_ledger"]
        return SessionBudget(wanted.max_cost, wanted.max_calls, url)

    def _measuring(self) -> Policy | None:
        """The policy that is found, without its rules: tests want its prices, and not to spend from its budgets."""
        if not may_exist():
            return None
        from tokenguard.policy import load

        try:
            return replace(load(), limits=(), budgets=(), breakers=(), shares=(), routes=())
        except PolicyError as wrong:
            raise pytest.UsageError(str(wrong)) from None

    def _install(self) -> None:
        """Measure, as soon as there is an SDK; what a program has installed itself stays as it is."""
        if runtime.installed() is not None:
            return
        if any(sdk.module in sys.modules for sdk in SDKS):
            from tokenguard.policy import Policy

            imports.unwatch_imports()
            runtime.install(self._policy or Policy())
        elif not imports.watching_imports():
            imports.watch_imports({sdk.module: lambda _module: self._install() for sdk in SDKS})

    def _stop(self) -> None:
        scope.hooks.on_call, runtime.default_store = self._was
        if not self._foreign:
            imports.unwatch_imports()
            runtime.uninstall()
        if self.session is not None:
            self.session.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- collection --------------------------------------------------------------------------------------------------

    def collected(self, items: list[pytest.Item]) -> None:
        """Check the markers before anything runs, and see which tests of the baseline are no more."""
        for item in items:
            if MARK in item.keywords:
                budget_of(item)
        selected = any("::" in argument for argument in self.config.args) or self.config.getoption("lf", False)
        if self.before and not selected:
            ids = {_name(item) for item in items}
            files = {name.partition("::")[0] for name in ids}
            self.summary.vanished = sorted(
                name
                for name in self.before.keys() - ids
                if (file := name.partition("::")[0]) in files or not (self.config.rootpath / file).exists()
            )

    # --- whose time it is --------------------------------------------------------------------------------------------

    def of(self, item: pytest.Item) -> Spending:
        """What the test has spent in this attempt."""
        if self._item is not item:
            self._begin(item)  # started by the first test that asks for the fixture by name
        return self.recorder.running()

    def _begin(self, item: pytest.Item) -> None:
        if runtime.installed() is None:
            self._install()
        self._item = item
        self._judged = None
        self._missed = self._missing()
        self._ids[name := _name(item)] = item.nodeid
        self.recorder.run(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Charge a fixture that several tests share to itself, at its setup and at its teardown."""
        __tracebackhide__ = True
        if fixturedef.scope == "function":
            return (yield)
        where = fixturedef.baseid or request.node.nodeid
        name = f"{fixturedef.scope} fixture {fixturedef.argname}" + (f" ({where})" if where else "")
        owner = self.recorder.fixture(name)
        # Finalizers run last in, first out: this one after the fixture's own, the other one before them.
        fixturedef.addfinalizer(lambda: self.recorder.pop(owner))
        self.recorder.push(owner)
        try:
            return (yield)
        finally:
            self.recorder.pop(owner)
            fixturedef.addfinalizer(lambda: self.recorder.push(owner))

    # --- judgement ---------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """An attempt begins."""
        __tracebackhide__ = True
        self._begin(item)
        try:
            result = yield
        except Exception:
            self._stop_if_refused()
            raise
        self._stop_if_refused()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Judge what the test has spent; a failure of its own stays, and says it beside."""
        __tracebackhide__ = True
        if self._item is not item:
            self._begin(item)
        try:
            result = yield
        except (Exception, pytest.fail.Exception):
            self._stop_if_refused()
            if (why := self._over_budget(item)) is not None:
                item.add_report_section("call", "tokenguard", why)
            raise
        self._stop_if_refused()
        self._judge(item)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Judge again what spent more at its teardown."""
        __tracebackhide__ = True
        try:
            result = yield
            if self._judged is not None:
                self._judge(item)
        finally:
            spending = self.recorder.spending
            self._item = None
            self.recorder.run(None)
            if spending is not None:
                figures = spending.figures
                own = [pair for pair in item.user_properties if not pair[0].startswith("tokenguard.")]
                new = [(f"tokenguard.{name}", getattr(figures, name)) for name in PROPERTIES]
                item.user_properties[:] = [*own, *new]
        return result

    def _stop_if_refused(self) -> None:
        """Fail a test whose call the run's budget has refused, whatever the test made of that."""
        spending = self.recorder.spending
        if self.session is None or spending is None:
            return
        if any(
            record.outcome == names.BLOCKED and record.attributes.get(names.GUARD_RULE) == RULE
            for record in list(spending.records)
        ):
            raise pytest.fail.Exception(self.session.said, pytrace=False) from None

    def _over_budget(self, item: pytest.Item) -> str | None:
        if MARK not in item.keywords:
            return None
        if self._missing() > self._missed:
            return f"token budget: not known, for a fault of TokenGuard's own: {self._faults()}"
        spending = self.recorder.spending
        if spending is None:
            return None  # without a call, nothing can be too much
        return judgement.over_budget(spending, budget_of(item))

    def _missing(self) -> int:
        """Calls of this process that could not be measured, or not be guarded."""
        here = runtime.installed()
        return 0 if here is None else here.telemetry.faults.unmeasured + here.telemetry.faults.unguarded

    def _faults(self) -> str:
        here = runtime.installed()
        return "" if here is None else f"{here.telemetry.faults.missed()}; the last: {here.telemetry.faults.last}."

    def _judge(self, item: pytest.Item) -> None:
        """Fail a test that spent more than it may, or more than it used to; once for the same calls."""
        spending = self.recorder.spending
        calls = 0 if spending is None else len(spending.records)
        if calls == self._judged:
            return
        self._judged = calls
        why = self._over_budget(item) or (None if spending is None else self._grown(item, spending))
        if why is not None:
            self._judged = None
            raise pytest.fail.Exception(why, pytrace=False)

    def _grown(self, item: pytest.Item, spending: Spending) -> str | None:
        name = _name(item)
        entry = None if self.before is None else self.before.get(name)
        if entry is None or self.settings.update:
            return None
        now = baseline.entry_of(spending.figures, tuple(sorted(spending.prefixes.hashes)))
        tolerance = budget_of(item).get("tolerance", self.settings.tolerance)
        grown = judgement.growth(entry, now, tolerance)
        moved = judgement.moved(entry, now)
        if moved is not None:
            self.summary.notes[f"{name}: {moved}"] = None
        if grown is None:
            return None
        allowed = judgement.percent(tolerance)
        if self.settings.growth == "warn":
            self.summary.notes[f"{name}: grew by more than {allowed}: {grown}"] = None
            return None
        return "\n".join(
            [
                f"grown since the baseline: {grown}",
                *([f"  {moved[0].upper()}{moved[1:]}."] if moved else []),
                f"  {BASELINE} allows {allowed} more. "
                "If that is meant: pytest --tokenguard-update, and commit the file.",
                "",
                *judgement.call_table(list(spending.records), set()),
            ]
        )

    # --- processes ---------------------------------------------------------------------------------------------------

    def send(self, node: Any) -> None:
        """Tell a worker where the run's budget is kept."""
        if self._folder is not None:
            node.workerinput["tokenguard_ledger"] = f"sqlite:///{self._folder / 'ledger.db'}"

    def receive(self, measured: str) -> None:
        """Take what a worker has measured."""
        self.summary.receive(json.loads(measured))

    def account(self, owner: str) -> dict[str, Any]:
        """What an owner has spent until now, as plain data."""
        worker = "" if self.worker is None else self.worker["workerid"]
        return account_of(
            self.recorder.spendings[owner],
            owner,
            worker=worker,
            nodeid=self._ids.get(owner, owner),
            shared=owner in self.recorder.shared,
        )._asdict()

    # --- the end -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)  # after the last fixtures' teardown
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add up, write the files, and judge the run."""
        self.recorder.run(None)
        if self.config.pluginmanager.hasplugin(USAGE_ERROR):
            return  # nothing ran
        summary = self.summary
        if self._missing():
            summary.notes = {f"these figures are too low, for a fault of TokenGuard's own: {self._faults()}": None} | (
                summary.notes
            )
        if not self.controls:
            owners = self.recorder.spendings.items()
            accounts = [self.account(owner) for owner, several in owners if any(each.records for each in several)]
            if self.worker is not None:
                sent = {
                    "accounts": accounts,
                    "notes": list(summary.notes),
                    "vanished": summary.vanished,
                }
                self.config.workeroutput["tokenguard"] = json.dumps(sent)  # type: ignore[attr-defined] # xdist's
                return
            for each in accounts:
                summary.add(Account(**each))
        status = summary.finish()
        # What has gone wrong already says more.
        if status and (status == pytest.ExitCode.USAGE_ERROR or session.exitstatus in (0, 5)):
            session.exitstatus = status

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what was spent."""
        self.summary.show(terminalreporter)


class Sending:
    """In a worker: each report says what its test has spent until then, in case the worker crashes."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the account of the test."""
        report = yield
        if _name(item) in self._running.recorder.spendings:
            setattr(report, REPORT, json.dumps(self._running.account(_name(item))))
        return report


class Receiving:
    """Where the run is summed up: how its tests went, and what workers say of them."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note it."""
        self._summary.went(report)
        if (sent := getattr(report, REPORT, None)) is not None:
            self._summary.add(Account(**json.loads(sent)))


def _name(item: pytest.Item) -> str:
    """The test's id; without what xdist appends to it with `--dist loadgroup`."""
    name, at, group = item.nodeid.rpartition("@")
    if at and any(group in (*mark.args, mark.kwargs.get("name")) for mark in item.iter_markers("xdist_group")):
        return name
    return item.nodeid
