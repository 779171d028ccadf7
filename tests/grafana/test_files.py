"""What is shipped: generated as committed, valid for Grafana, valid PromQL, of metrics that there are."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import warnings

import promql_parser
import pytest
import yaml

from tokenguard.cli import COMMANDS, main
from tokenguard.facts import names

from .parts import DASHBOARDS, GRAFANA, RECORDING, RULES, alerts, filled_in, recordings, targets

with warnings.catch_warnings():
    # It would rather have dashboards in v2, which Grafana's file provisioning refuses.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import (
        alerting,
        bargauge,
        dashboard,
        prometheus,
        stat,
        statetimeline,
        table,
        text,
        timeseries,
    )

OPTIONS = {
    "stat": stat,
    "bargauge": bargauge,
    "timeseries": timeseries,
    "state-timeline": statetimeline,
    "table": table,
    "text": text,
}
OURS_ALONE = ("alertlist",)
"""Kinds of panels that the published schema lacks."""


def expressions():
    yield from ((f"{board['uid']}: {panel['title']}", target["expr"]) for board, panel, target in targets())
    yield from ((rule["alert"], rule["expr"]) for rule in alerts())


def test_what_is_committed_is_what_is_generated():
    """Nobody has edited a generated file, or forgotten to generate it."""
    done = subprocess.run([sys.executable, str(GRAFANA / "build.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}Run: python grafana/build.py"


def lost(ours, theirs, path=""):
    """What a schema does not know of a document: what it lost or changed when it was read and written again."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [path]
        return [each for key in ours for each in lost(ours[key], theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [path]
        return [each for n, pair in enumerate(zip(ours, theirs, strict=True)) for each in lost(*pair, f"{path}[{n}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} became {theirs!r}"]


def again(model, document):
    """A document, read by Grafana's published schema and written again."""
    return json.loads(JSONEncoder(sort_keys=True).encode(model.from_json(document)))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_schema(path):
    """Every key and value of a dashboard, its panels' options and its queries is one that Grafana's schema has."""
    board = json.loads(path.read_text())
    assert lost(board, again(dashboard.Dashboard, board)) == []
    assert board["schemaVersion"] == 42
    assert "__inputs" not in board
    for panel in board["panels"]:
        if panel["type"] in OURS_ALONE:
            continue
        kind = OPTIONS[panel["type"]]
        assert lost(panel["options"], again(kind.Options, panel["options"])) == [], panel["title"]
        custom = panel.get("fieldConfig", {"defaults": {}})["defaults"].get("custom", {})
        assert not custom or lost(custom, again(kind.FieldConfig, custom)) == [], panel["title"]
        for target in panel.get("targets", ()):
            assert lost(target, again(prometheus.Dataquery, target)) == [], panel["title"]


def test_a_wrong_key_is_noticed():
    """The check above can fail."""
    board = json.loads(DASHBOARDS[0].read_text())
    board["panels"][0]["gridPosition"] = board["panels"][0].pop("gridPos")
    assert lost(board, again(dashboard.Dashboard, board))


def test_provisioned_alerts():
    """Grafana's form of the rules fits its schema, and says the same as the Prometheus rules."""
    groups = yaml.safe_load((GRAFANA / "provisioning/alerting/tokenguard.yaml").read_text())["groups"]
    managed = {rule["title"]: rule for group in groups for rule in group["rules"]}
    assert list(managed) == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        ours = managed[rule["alert"]]
        assert ours["data"][0]["model"]["expr"] == rule["expr"]
        assert (ours["for"], ours["labels"]) == (rule["for"], rule["labels"])
        assert "$value." not in str(ours["annotations"])
        assert len(ours["uid"]) <= 40
        schema = again(alerting.RuleGroup, {"rules": [ours]})["rules"][0]
        assert schema["condition"] in {step["refId"] for step in schema["data"]}


def test_panels_do_not_overlap():
    """Each cell of the grid belongs to one panel."""
    for path in DASHBOARDS:
        taken = {}
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
            for cell in itertools.product(columns, rows):
                assert taken.setdefault(cell, panel["id"]) == panel["id"]
        assert len(taken) > 24 * 8


PICKERS = {"service", "environment", "team", "provider", "tenant", "feature", "route", "version", "model"}
PLAIN = ("stat", "bargauge", "timeseries", "state-timeline", "table")
JUDGED = {("green", "red"), ("text", "red"), ("red", "green"), ("green", "orange")}
"""Thresholds have a good and a bad end."""
ASKING = [path for path in DASHBOARDS if path.stem != "tokenguard-runbooks"]


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_dashboards_are_linked_and_portable(path):
    """Each leads to the others with its variables, and asks a variable data source, no finer than what is recorded."""
    board = json.loads(path.read_text())
    assert (board["links"][0]["type"], board["links"][0]["includeVars"]) == ("dashboards", True)
    assert set(board["links"][0]["tags"]) <= set(board["tags"])
    for panel in board["panels"]:
        assert panel["description"]
        if panel["type"] in PLAIN:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["interval"] == "5m"
            assert len(panel["targets"]) == len({target["refId"] for target in panel["targets"]})


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_pickers(path):
    """Every picker changes every panel of its board, or the panel says that its series have no such label."""
    board = json.loads(path.read_text())
    choosers = {each["name"]: each for each in board["templating"]["list"] if each.get("multi")}
    assert {each["allValue"] for each in choosers.values()} == {".*"}
    assert {"service", "environment", "tenant", "feature"} <= set(choosers)
    if path.stem != "tokenguard-budgets":
        assert set(choosers) == PICKERS
    for panel in board["panels"]:
        asked = " ".join(target["expr"] for target in panel.get("targets", ()))
        idle = {name for name in PICKERS & set(choosers) if not re.search(rf"\${name}\b", asked)}
        _, _, said = panel["description"].partition("not filtered by: ")
        assert set(said.strip(".").split(", ") if said else ()) == (idle if asked else set()), panel["title"]


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_nothing_is_left_to_defaults_that_mislead(path):
    """Colours, decimals and an empty panel's text are said: Grafana's own colour money red from 80 on."""
    board = json.loads(path.read_text())
    for panel in board["panels"]:
        if panel["type"] not in PLAIN:
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert {"unit", "decimals", "noValue", "thresholds"} <= set(defaults), panel["title"]
        if defaults["unit"].startswith("currency"):
            assert defaults["decimals"] >= 2
        if defaults.get("color", {}).get("mode") != "thresholds":
            continue
        colours = [step["color"] for step in defaults["thresholds"]["steps"]]
        assert (colours[0], colours[-1]) in JUDGED, panel["title"]


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_bars_are_of_hours_and_days(path):
    """What is summed over time is summed over the bucket that the range asks for, and shown where it begins."""
    board = json.loads(path.read_text())
    for panel in board["panels"]:
        custom = panel.get("fieldConfig", {"defaults": {}})["defaults"].get("custom", {})
        if custom.get("drawStyle") == "bars":
            assert custom["barAlignment"] == 1
            for target in panel["targets"]:
                assert target["interval"] == "$bucket"
                assert "offset -$__interval" in target["expr"]


def test_shares_and_quantiles_are_of_calls_enough():
    """No line of a share or a quantile is of less than a quarter of an hour."""
    for board, panel, target in targets():
        if panel["type"] == "timeseries" and target["expr"].count("$__interval"):
            assert target["interval"] in ("$bucket", "15m", "1h"), (board["uid"], panel["title"])


def test_annotations():
    """Prompt versions, budget windows and new prices are marked on every board, by queries that Prometheus takes."""
    for path in ASKING:
        marks = json.loads(path.read_text())["annotations"]["list"]
        assert [each["name"] for each in marks] == ["Prompt version first seen", "Budget window began", "New prices"]
        for each in marks:
            promql_parser.parse(each["expr"])


def test_panels_lead_to_traces():
    """Links from series and rows name the spans' attributes and keep Grafana's variables as they are."""
    links = [
        link["url"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for link in panel.get("fieldConfig", {"defaults": {}})["defaults"].get("links", ())
        if link["title"] == "Traces"
    ]
    assert len(links) > 15
    for attribute in ("tokenguard.tenant", "tokenguard.team", "tokenguard.guard.rule", "gen_ai.response.model"):
        assert any(attribute in link for link in links)
    assert all("${__" in link and ":percentencode}" in link and "${tempo}" in link for link in links)
    tables = [panel for _, panel, _ in targets() if panel["type"] == "table"]
    assert [panel["title"] for panel in tables if "links" not in panel["fieldConfig"]["defaults"]] == []


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=lambda value: value[:40] if ":" in value else None)
def test_promql(where, expr):
    """It parses, groups by no label that a path may lack, and matches no `le`."""
    promql_parser.parse(filled_in(expr, 3600))
    assert not re.search(r"\ble\s*(=|!)", expr)
    assert not re.search(r"\{\s*\"", expr)
    assert not re.search(r"\b(instance|service_name|exported_\w+)\b", expr)
    assert not re.search(r"(^|[\s(,])\{|__name__", expr), "every selector names its metric"


def test_metrics_exist():
    """Every metric that is asked for is one that TokenGuard emits or a recording rule makes: a typo parses as well."""
    sys.path.insert(0, str(GRAFANA))
    try:
        from queries import DURATION, FIRST_CHUNK, prometheus_name
    finally:
        sys.path.remove(str(GRAFANA))
    ours = {prometheus_name(each) for each in vars(names).values() if isinstance(each, names.Metric)}
    ours |= {f"{prometheus_name(m)}_{end}" for m in (*DURATION, *FIRST_CHUNK) for end in ("bucket", "count")}
    ours |= {rule["record"] for rule in recordings()}
    rules = [(rule["record"], rule["expr"]) for rule in recordings()]
    texts = [re.sub(r"\b(by|on) \([^)]*\)", "", expr) for _, expr in (*expressions(), *rules)]
    asked = {name for text in texts for name in re.findall(r"\b((?:tokenguard|gen_ai)[_:][\w:]+)(?=[{\[) ])", text)}
    assert asked <= ours
    assert len(asked) > 40
    assert {rule["record"] for rule in recordings()} <= asked


@pytest.mark.parametrize("version", ["promtool", "promtool2"])
def test_promtool_takes_all(version, tmp_path):
    """Prometheus 3, and 2.42 where it is at hand as `promtool2`, take the rules and every panel's query."""
    if (tool := shutil.which(version)) is None:
        pytest.skip(f"no {version} on PATH; grafana/stack.sh gives it")
    rules = [{"record": f"panel:{n}", "expr": filled_in(expr, 3600)} for n, (_, expr) in enumerate(expressions())]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    for each in (RULES, RECORDING, path):
        done = subprocess.run([tool, "check", "rules", str(each)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def panel_of(uid, number):
    board = json.loads((GRAFANA / "dashboards" / f"{uid}.json").read_text())
    return next(each for each in board["panels"] if each["id"] == number)


def test_runbooks():
    """Each alert has its page, each page its alert, and every link leads somewhere."""
    pages = {path.stem: path.read_text() for path in (GRAFANA / "runbooks").glob("*.md")}
    assert set(pages) == {rule["alert"] for rule in alerts()}
    for name, text in pages.items():
        assert text.startswith(f"# {name}: ")
        assert "**What to look at**" in text
        assert "**What to do**" in text
        assert set(re.findall(r"\]\((\w+)\.md\)", text)) <= set(pages)
    for rule in alerts():
        uid, name, number = re.fullmatch(
            r"http://localhost:3000/d/([\w-]+)/(\w+)\?viewPanel=(\d+)", rule["annotations"]["runbook_url"]
        ).groups()
        assert (uid, name) == ("tokenguard-runbooks", rule["alert"])
        assert panel_of(uid, int(number))["title"].startswith(f"{name}: ")
        shown = rule["annotations"]
        assert panel_of(shown["__dashboardUid__"], int(shown["__panelId__"]))["title"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


PLACES = {"By", "Status, Rule health", "Inspect, Data"}
"""What runbooks name of Grafana's and Prometheus' own pages."""


def test_runbooks_name_what_is_there():
    """At least three steps, and each panel, column, dashboard and command that a page names exists."""
    known = set(PLACES)
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        known |= {board["title"].removeprefix("TokenGuard / "), *(panel["title"] for panel in board["panels"])}
        known |= {mark["name"] for mark in board["annotations"]["list"]}
        for panel in board["panels"]:
            matchers = [each["matcher"]["options"] for each in panel.get("fieldConfig", {}).get("overrides", ())]
            known |= {title for title in matchers if isinstance(title, str)}
    known |= {title.removesuffix(" $by").removesuffix(" by") for title in known if title.endswith(" by $by")}
    known |= {title.removesuffix(" $by") for title in known if title.endswith(" by $by")}
    for path in (GRAFANA / "runbooks").glob("*.md"):
        page = path.read_text()
        looks = page.partition("**What to look at**")[2].partition("**What to do**")[0]
        assert len(re.findall(r"^\d\. ", looks, re.MULTILINE)) >= 3, path.stem
        assert set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page)) <= known, path.stem
        assert set(re.findall(r"`tokenguard ([a-z]+)", page)) <= set(COMMANDS), path.stem
        for query in re.findall(r"`([^`]*\((?:[^`]*)(?:tokenguard|gen_ai)[_:][^`]*)`", page):
            promql_parser.parse(query)


def runbook_links(target):
    files = (target / "alerts/tokenguard.yaml", target / "provisioning/alerting/tokenguard.yaml")
    return {link for file in files for link in re.findall(r"runbook_url: (\S+)", file.read_text())}


def test_export_for_a_grafana_elsewhere(tmp_path):
    """Without pages of their own, alerts link to the dashboard of runbooks in the Grafana that is named."""
    with pytest.raises(SystemExit, match="0"):
        main(["grafana", "export", str(tmp_path), "--grafana", "https://grafana.example.com/"])
    links = runbook_links(tmp_path)
    assert len(links) == len(alerts())
    assert all(link.startswith("https://grafana.example.com/d/tokenguard-runbooks/TokenGuard") for link in links)


def test_export(tmp_path, capsys):
    """`tokenguard grafana export` writes what the compose file mounts, and links the runbooks to where they are."""
    target = tmp_path / "new" / "folder"
    with pytest.raises(SystemExit, match="0"):
        main(["grafana", "export", str(target), "--runbooks", "https://wiki.example.com/llm/"])
    assert f"files in {target}" in capsys.readouterr().out
    compose = yaml.safe_load((target / "compose.yaml").read_text())
    mounts = [mount for each in compose["services"].values() for mount in each["volumes"] if mount.startswith("./")]
    assert len(mounts) >= 6
    assert all((target / mount.split(":")[0]).exists() for mount in mounts)
    assert runbook_links(target) == {f"https://wiki.example.com/llm/{rule['alert']}.md" for rule in alerts()}
    assert (target / "rules" / "tokenguard.yaml").exists()
    assert not (target / "build.py").exists()


def test_export_to_where_it_cannot(tmp_path, capsys):
    """A directory that cannot be written to is one line, and exit code 2."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["grafana", "export", str(tmp_path / "file" / "folder")])
    assert "cannot write to" in capsys.readouterr().err
