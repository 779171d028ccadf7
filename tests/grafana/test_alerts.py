"""Each alert fires when it should and only then: promtool, over raw counters and the recording rules as shipped.

All cases are one run of promtool, with the rules that each needs and no others; `-k` leaves it those that are chosen.
"""

from __future__ import annotations

import itertools

import pytest

from .cases import CASES, SCENARIOS
from .parts import alerts, recordings
from .simulated import budget, group, ran, rule

pytestmark = pytest.mark.xdist_group("alerts")  # what they share takes its time, and is made once


def ever_fired(case):
    """A query of whether the alert fired in the time before."""
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    return f"count by (reason) (count_over_time({firing}[{int(case.before * 60)}m])) > bool 0"


def needed(expr):
    """The recording rules that an expression needs, in the order they are evaluated in."""
    names = {each["record"] for each in recordings() if each["record"] in expr}
    for each in reversed(recordings()):
        names |= {
            other["record"] for other in recordings() if each["record"] in names and other["record"] in each["expr"]
        }
    return [each for each in recordings() if each["record"] in names]


def as_group(case):
    labels = f'{{reason="{case.fires}"}}' if isinstance(case.fires, str) else "{}"
    fired = [{"labels": labels, "value": 1}] if case.fires else []
    return group(case.series, ever_fired(case), f"{int(case.hours * 60)}m", fired, case.minutes, str(case))


@pytest.fixture(scope="module")
def failed(request, tmp_path_factory):
    """What promtool found of the cases that are chosen, by name."""
    chosen = [item.callspec.params["case"] for item in request.session.items if item.name.startswith("test_alert[")]
    files = []
    for (alert, minutes, recording), cases in itertools.groupby(
        sorted(chosen, key=lambda case: (case.alert, case.minutes, case.recording)),
        lambda case: (case.alert, case.minutes, case.recording),
    ):
        rules = [*(needed(rule(alert)["expr"]) if recording else ()), rule(alert)]
        files.append((rules, f"{minutes}m", list(map(as_group, cases))))
    return ran(tmp_path_factory.mktemp("alerts"), files)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case, failed):
    """It fires for what it should, and for nothing else."""
    assert str(case) not in failed, failed[str(case)]


@pytest.mark.parametrize("alert", [each["alert"] for each in alerts()])
def test_every_alert_has_every_scenario(alert):
    """Each rule has cases of all six: a new one fails here until it has."""
    assert {case.scenario for case in CASES if case.alert == alert} == set(SCENARIOS)
    assert {bool(case.fires) for case in CASES if case.alert == alert} == {True, False}


def test_a_case_is_of_an_alert():
    """No case is of an alert that is gone, and no two have one name."""
    assert {case.alert for case in CASES} == {each["alert"] for each in alerts()}
    assert len({str(case) for case in CASES}) == len(CASES)


def test_a_wrong_case_is_noticed(tmp_path):
    """The run above can fail, and says which case did."""
    right, wrong = (case for case in CASES if case.alert == "TokenGuardPricesOld" and case.of == "")
    groups = [as_group(right), as_group(wrong._replace(fires=True))]
    assert list(ran(tmp_path, [([rule(right.alert)], "5m", groups)])) == [str(wrong._replace(fires=True))]


def test_one_alert_for_many_accounts(tmp_path):
    """Two hundred tenants at their limit are one alert for the budget, with their number."""
    many = {}
    for n in range(200):
        many |= budget(10, key=f"tenant={n}", samples=12)
    firing = 'ALERTS{alertname="TokenGuardBudgetSpent",alertstate="firing"}'
    one = group(many, f"count({firing})", "30m", [{"labels": "{}", "value": 1}], name="many")
    assert ran(tmp_path, [([rule("TokenGuardBudgetSpent")], "5m", [one])]) == {}
