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

from tokenguard.cli import main
from tokenguard.facts import names

from .parts import DASHBOARDS, GRAFANA, RULES, alerts, filled_in, targets

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
        timeseries,
    )

OPTIONS = {
    "stat": stat,
    "bargauge": bargauge,
    "timeseries": timeseries,
    "state-timeline": statetimeline,
    "table": table,
}


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
        kind = OPTIONS[panel["type"]]
        assert lost(panel["options"], again(kind.Options, panel["options"])) == [], panel["title"]
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        assert not custom or lost(custom, again(kind.FieldConfig, custom)) == [], panel["title"]
        for target in panel["targets"]:
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
                assert taken.setdefault(cell, panel["title"]) == panel["title"]
        assert len(taken) > 24 * 8


def test_dashboards_are_linked_and_portable():
    """Each leads to the others with its variables, and asks a variable data source, no finer than what is exported."""
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        assert (board["links"][0]["type"], board["links"][0]["includeVars"]) == ("dashboards", True)
        assert set(board["links"][0]["tags"]) <= set(board["tags"])
        choosers = [each for each in board["templating"]["list"] if each["type"] == "query"]
        assert [each["name"] for each in choosers] == ["tenant", "feature", "route", "model"]
        assert {each["allValue"] for each in choosers} == {".*"}
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["interval"] == "1m"
            assert panel["description"]
            assert len(panel["targets"]) == len({target["refId"] for target in panel["targets"]})


def test_panels_lead_to_traces():
    """Links from series and rows name the spans' attributes and keep Grafana's variables as they are."""
    links = [
        link["url"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    assert len(links) > 8
    for attribute in ("span.tokenguard.tenant", "span.tokenguard.feature", "span.gen_ai.response.model"):
        assert any(attribute in link for link in links)
    assert all("${__" in link and "${tempo}" in link for link in links)


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=lambda value: value[:40] if ":" in value else None)
def test_promql(where, expr):
    """It parses, groups by no label that a path may lack, and matches no `le`."""
    promql_parser.parse(filled_in(expr, 3600))
    assert not re.search(r"\ble\s*(=|!)", expr)
    assert not re.search(r"\{\s*\"", expr)
    assert not re.search(r"\b(job|instance|service_name|exported_\w+)\b", expr)


def test_metrics_exist():
    """Every metric that is asked for is one that TokenGuard emits: a wrong name parses as well."""
    sys.path.insert(0, str(GRAFANA))
    try:
        from queries import prometheus_name
    finally:
        sys.path.remove(str(GRAFANA))
    ours = {prometheus_name(each) for each in vars(names).values() if isinstance(each, names.Metric)}
    ours |= {f"{prometheus_name(m)}_{end}" for m in (names.DURATION, names.FIRST_CHUNK) for end in ("bucket", "count")}
    texts = [re.sub(r"\b(by|on) \([^)]*\)", "", expr) for _, expr in expressions()]
    asked = {name for text in texts for name in re.findall(r"\b((?:tokenguard|gen_ai)_\w+)(?=[{\[)])", text)}
    assert asked <= ours
    assert len(asked) > 20


@pytest.mark.parametrize("version", ["promtool", "promtool2"])
def test_promtool_takes_all(version, tmp_path):
    """Prometheus 3, and 2.42 where it is at hand as `promtool2`, take the rules and every panel's query."""
    if (tool := shutil.which(version)) is None:
        pytest.skip(f"no {version} on PATH; grafana/stack.sh gives it")
    rules = [{"record": f"panel:{n}", "expr": filled_in(expr, 3600)} for n, (_, expr) in enumerate(expressions())]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    for each in (RULES, path):
        done = subprocess.run([tool, "check", "rules", str(each)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_runbooks():
    """Each alert has its page, each page its alert, and links between pages lead somewhere."""
    pages = {path.stem: path.read_text() for path in (GRAFANA / "runbooks").glob("*.md")}
    assert set(pages) == {rule["alert"] for rule in alerts()}
    for name, text in pages.items():
        assert text.startswith(f"# {name}: ")
        assert "**What to look at**" in text
        assert "**What to do**" in text
        assert set(re.findall(r"\]\((\w+)\.md\)", text)) <= set(pages)
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"runbooks/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


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
    for name in ("alerts/tokenguard.yaml", "provisioning/alerting/tokenguard.yaml"):
        links = re.findall(r"runbook_url: (\S+)", (target / name).read_text())
        assert {link.rsplit("/", 1)[0] for link in links} == {"https://wiki.example.com/llm"}
    assert not (target / "build.py").exists()


def test_export_to_where_it_cannot(tmp_path, capsys):
    """A directory that cannot be written to is one line, and exit code 2."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["grafana", "export", str(tmp_path / "file" / "folder")])
    assert "cannot write to" in capsys.readouterr().err
