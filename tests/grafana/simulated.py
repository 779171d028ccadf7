"""Series for promtool, in its own notation, and promtool itself."""

from __future__ import annotations

import subprocess
from xml.etree import ElementTree

import yaml

from .parts import alerts, program, recordings

MINUTES = 5
"""Between two samples."""
HOUR, DAY = 60 // MINUTES, 24 * 60 // MINUTES
"""In samples."""
FEATURE, TENANT, MODEL = "tokenguard_feature", "tokenguard_tenant", "gen_ai_response_model"


def counter(*paces, start=0.0):
    """Values of a counter: each pace is (its growth per sample, how many samples); a growth of None is a gap, in which
    the counter rests."""
    values, at = [], start
    for growth, samples in paces:
        if growth is None:
            values.append(f"_x{samples}")
            continue
        values.append(f"{at:g}+{growth:g}x{samples - 1}")
        at += growth * samples
    return " ".join(values)


def gauge(*levels):
    """Values of a gauge: each level is (value, how many samples); a value of None is a gap."""
    return " ".join(f"_x{samples}" if value is None else f"{value:g}x{samples - 1}" for value, samples in levels)


def series(name, values, **labels):
    inside = ",".join(f'{key}="{value}"' for key, value in {"job": "shop", "instance": "1", **labels}.items())
    return {f"{name}{{{inside}}}": values}


def of_days(*amounts):
    """A counter that grows by these amounts, one a day, evenly over each."""
    return counter(*((amount / DAY, DAY) for amount in amounts))


def lately(*amounts, hours=3):
    """What the last 24 hours came to, every so many hours, of these amounts, one a day, evenly over each."""
    hourly = [amount / 24 for amount in amounts for _ in range(24)]
    return " ".join(f"{sum(hourly[max(0, n - 23) : n + 1]):.6g}" for n in range(0, len(hourly), hours))


def spent(values, **labels):
    return series("tokenguard_cost_usd_total", values, **labels)


def calls(outcome, values, **labels):
    return series("tokenguard_calls_total", values, outcome=outcome, **{FEATURE: "chat", MODEL: "m", **labels})


def tokens(kind, values, **labels):
    return series("tokenguard_tokens_total", values, type=kind, **{FEATURE: "chat", **labels})


def later(samples, values):
    """Values that begin after so many samples."""
    return f"_x{samples} {values}" if samples else values


def gapped(pace, before, missing, after, start=0.0):
    """A counter that grows on while nothing of it arrives."""
    seen = start + pace * (before + missing)
    return f"{counter((pace, before), start=start)} _x{missing} {counter((pace, after), start=seen)}"


def generations(make, pace, life, number, end="", **labels):
    """Processes one after the other, each counted by `make` from a first sample above zero on, for `life` samples.

    `end="stale"`: as Prometheus marks the end of what it scrapes; what is pushed by OTLP just ends.
    """
    found = {}
    for n in range(number):
        values = later(n * life, f"{counter((pace, life), start=pace)} {end}".strip())
        found |= make(values, **{"instance": f"of{n}", **labels})
    return found


def budget(spent, limit=10, elapsed=0.5, window=86400, unit="usd", samples=DAY, after=0, **labels):
    """A budget's gauges, in dollars, tokens or calls; each a value, or values. They begin `after` so many samples."""
    names = {
        f"spent_{unit}": spent,
        f"limit_{unit}": limit,
        "elapsed_ratio": elapsed,
        "window_seconds": window,
    }
    labels = {"budget": "b", "key": "k", **labels}
    return {
        one: values
        for name, value in names.items()
        for one, values in series(
            f"tokenguard_budget_{name}",
            later(after, value if isinstance(value, str) else gauge((value, samples))),
            **labels,
        ).items()
    }


def durations(metric, seconds, samples, after=0, **labels):
    """A histogram of calls that all took so long, as (seconds, calls a sample) over so many samples each.

    `after` so many samples it is born, with a sample's calls.
    """
    bounds = (1.28, 2.56, 5.12, 10.24, 20.48, "+Inf")
    found = {}
    for bound in bounds:
        paces = [
            (pace if bound == "+Inf" or took <= bound else 0, n)
            for (took, pace), n in zip(seconds, samples, strict=True)
        ]
        values = later(after, counter(*paces, start=paces[0][0] if after else 0.0))
        found |= series(f"{metric}_bucket", values, le=bound, **{MODEL: "m", **labels})
        if bound == "+Inf":
            found |= series(f"{metric}_count", values, **{MODEL: "m", **labels})
    return found


def ran(folder, files):
    """Run promtool once over files of test groups: {group's name: what was found} of those that fail.

    A file is its rules, how often they are evaluated, and its groups.
    """
    paths = []
    for n, (rules, evaluated, groups) in enumerate(files):
        (folder / f"rules{n}.yaml").write_text(yaml.safe_dump({"groups": [{"name": "rules", "rules": rules}]}))
        paths.append(folder / f"tests{n}.yaml")
        tests = {"rule_files": [f"rules{n}.yaml"], "evaluation_interval": evaluated, "tests": groups}
        paths[-1].write_text(yaml.safe_dump(tests))
    command = [program("promtool"), "test", "rules", f"--junit={folder / 'found.xml'}", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    cases = list(ElementTree.parse(folder / "found.xml").iter("testcase"))
    assert len(cases) == sum(len(groups) for *_, groups in files), done.stdout + done.stderr
    found = {case.get("name"): case.findtext("failure") for case in cases if case.find("failure") is not None}
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return found


def promtool(tmp_path, groups, rules=(), evaluated="15m", recording=False):
    """Have promtool find nothing wrong in test groups, after these rules and the recording rules, if wanted."""
    rules = [*(recordings() if recording else ()), *rules]
    wrong = ran(tmp_path, [(rules, evaluated, groups)])
    assert not wrong, wrong


def group(input_series, expr, at, samples, minutes=MINUTES, name="a group"):
    """One case: its series, and what a query gives at a time."""
    return {
        "name": name,
        "interval": f"{minutes}m",
        "input_series": [{"series": name, "values": values} for name, values in input_series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


def rule(name):
    return next(each for each in alerts() if each["alert"] == name)
