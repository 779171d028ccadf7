"""The plugin at work: who is charged when, who is judged, and what processes tell each other.

A test is charged from its setup to its teardown; an attempt of a rerun is judged by itself and paid for with the rest.
A fixture that several tests share is charged apart from them. Under xdist the workers measure and judge, and the
controller adds up what they send: with each report, in case they crash, and at their end.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tokenguard import names, runtime, scope
from tokenguard.errors import PolicyError
from tokenguard.policy import load
from tokenguard.pytest_plugin import BASELINE, setting
from tokenguard.repeats import Repeats
from tokenguard.testing import baseline, judgement
from tokenguard.testing.account import Account, account_of
from tokenguard.testing.session import RULE, SessionBudget
from tokenguard.testing.settings import MARK, budget_of, settings
from tokenguard.testing.spending import Recorder, Spending
from tokenguard.testing.summary import Summary

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
        self._current: tuple[pytest.Item, Spending] | None = None
        self._ids: dict[str, str] = {}
        """The tests' ids in pytest's reports, by their names here."""
        self._judged: dict[str, int] = {}
        """By test: how many calls it had made when it was judged; absent once it has failed."""
        self._folder: Path | None = None
        self.session = self._session()
        self.recorder = Recorder(self.session)
        self._was = scope.on_call, runtime.default_store
        self._installed = False
        config.add_cleanup(self._stop)
        if not self.controls:
            scope.on_call = self.recorder.begun
            runtime.default_store = None
            self._policy = self._measuring()
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
        url = "memory:" if self.worker is None else self.worker["tokenguard_ledger"]
        return SessionBudget(wanted.max_cost, wanted.max_calls, url)

    def _measuring(self) -> Any:
        """The policy that is found, without its rules: tests want its prices, and not to spend from its budgets."""
        try:
            return replace(load(), limits=(), budgets=(), breakers=(), shares=())
        except PolicyError as wrong:
            raise pytest.UsageError(str(wrong)) from None

    def _install(self) -> None:
        """Measure; what a program has installed itself stays as it is."""
        if runtime._installed is None:
            runtime.install(self._policy)
            self._installed = True

    def _stop(self) -> None:
        scope.on_call, runtime.default_store = self._was
        if self._installed:
            runtime.uninstall()
        if self.session is not None:
            self.session.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- collection --------------------------------------------------------------------------------------------------

    def collected(self, items: list[pytest.Item]) -> None:
        """Check the markers before anything runs, and see which tests of the baseline are no more."""
        try:
            for item in items:
                if MARK in item.keywords:
                    budget_of(item)
        except pytest.UsageError as wrong:
            if self.worker is None:
                raise
            self.summary.usage_error = str(wrong)  # a worker's own would look like a crash; the controller says it
            items.clear()
            return
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
        if self._current is None or self._current[0] is not item:
            return self._begin(item)  # started by the first test that asks for the fixture by name
        return self._current[1]

    def _begin(self, item: pytest.Item) -> Spending:
        self._end()
        self._install()
        if (installed := runtime._installed) is not None:
            installed.meter.repeats = Repeats()  # another test's failures do not make this one's calls retries
        name = _name(item)
        self._ids[name] = item.nodeid
        spending = self.recorder.open(name)
        self.recorder.push(spending)
        self._current = item, spending
        self._judged[item.nodeid] = -1
        return spending

    def _end(self) -> None:
        if self._current is not None:
            _, spending = self._current
            spending.end()
            self.recorder.pop(spending)
            self._current = None

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
        owner = self.recorder.open(name, shared=True)
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
        spending = self._begin(item)
        with self._spent(spending):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Judge what the test has spent; a failure of its own stays, and says it beside."""
        __tracebackhide__ = True
        spending = self.of(item)
        with self._spent(spending):
            try:
                result = yield
            except Exception:
                self._judged.pop(item.nodeid, None)
                if (why := self._over_budget(item, spending)) is not None:
                    item.add_report_section("call", "tokenguard", why)
                raise
        self._judge(item, spending)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Judge again what spent more at its teardown."""
        __tracebackhide__ = True
        try:
            result = yield
        finally:
            spending = self.of(item)
            self._end()
            if spending.records:
                figures = spending.figures
                own = [pair for pair in item.user_properties if not pair[0].startswith("tokenguard.")]
                item.user_properties[:] = [
                    *own,
                    *((f"tokenguard.{name}", getattr(figures, name)) for name in PROPERTIES),
                ]
        if 0 <= self._judged.get(item.nodeid, -1) < len(spending.records):
            self._judge(item, spending)
        return result

    @contextlib.contextmanager
    def _spent(self, spending: Spending) -> Iterator[None]:
        """Fail a test whose call the run's budget has refused, whatever the test made of that."""
        __tracebackhide__ = True
        try:
            yield
        except Exception:
            if self._refused(spending):
                raise self._stopped() from None
            raise
        if self._refused(spending):
            raise self._stopped()

    def _refused(self, spending: Spending) -> bool:
        return self.session is not None and any(
            record.outcome == names.BLOCKED and record.attributes.get(names.GUARD_RULE) == RULE
            for record in list(spending.records)
        )

    def _stopped(self) -> BaseException:
        assert self.session is not None
        return pytest.fail.Exception(self.session.said, pytrace=False)

    def _over_budget(self, item: pytest.Item, spending: Spending) -> str | None:
        return judgement.over_budget(spending, budget_of(item)) if MARK in item.keywords else None

    def _judge(self, item: pytest.Item, spending: Spending) -> None:
        """Fail a test that spent more than it may, or more than it used to."""
        self._judged[item.nodeid] = len(spending.records)
        why = self._over_budget(item, spending) or self._grown(item, spending)
        if why is not None:
            del self._judged[item.nodeid]
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
                f"  {BASELINE} allows {allowed} more. If that is meant: pytest --tokenguard-update, and commit the file.",
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

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """In a worker: send with each report what its test has spent until then."""
        report = yield
        if self.worker is not None and any(each.records for each in self.recorder.spendings.get(_name(item), ())):
            setattr(report, REPORT, json.dumps(self._account(_name(item))))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test went, and what a worker says it spent."""
        self.summary.went(report)
        sent = getattr(report, REPORT, None)
        if sent is not None and self.controls:
            self.summary.add(Account(**json.loads(sent)))

    def _account(self, owner: str) -> dict[str, Any]:
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
        self._end()
        summary = self.summary
        if not self.controls:
            accounts = [self._account(owner) for owner in self.recorder.spendings]
            if self.worker is not None:
                sent = {
                    "accounts": [each for each in accounts if each["attempts"]],
                    "notes": list(summary.notes),
                    "vanished": summary.vanished,
                    "usage_error": summary.usage_error,
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


def _name(item: pytest.Item) -> str:
    """The test's id; without what xdist appends to it with `--dist loadgroup`."""
    name, at, group = item.nodeid.rpartition("@")
    if at and any(group in (*mark.args, mark.kwargs.get("name")) for mark in item.iter_markers("xdist_group")):
        return name
    return item.nodeid
