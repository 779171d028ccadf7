"""Series for promtool, in its own notation, and promtool itself."""

from __future__ import annotations

import subprocess

import yaml

from .parts import RECORDING, alerts, program

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


def hidden(pace, samples):
    """A counter that grows on while nothing of it arrives: (the gap's samples, what it then has more)."""
    return f"_x{samples}", pace * samples


def gauge(*levels):
    """Values of a gauge: each level is (value, how many samples); a value of None is a gap."""
    return " ".join(f"_x{samples}" if value is None else f"{value:g}x{samples - 1}" for value, samples in levels)


def series(name, values, **labels):
    inside = ",".join(f'{key}="{value}"' for key, value in {"job": "shop", "instance": "1", **labels}.items())
    return {f"{name}{{{inside}}}": values}


def of_days(*amounts):
    """A counter that grows by these amounts, one a day, evenly over each."""
    return counter(*((amount / DAY, DAY) for amount in amounts))


def lately(*amounts):
    """What the last 24 hours came to, each hour, of these amounts, one a day, evenly over each."""
    hourly = [amount / 24 for amount in amounts for _ in range(24)]
    return " ".join(f"{sum(hourly[max(0, n - 23) : n + 1]):.6g}" for n in range(len(hourly)))


def spent(values, **labels):
    return series("tokenguard_cost_usd_total", values, **labels)


def calls(outcome, values, **labels):
    return series("tokenguard_calls_total", values, outcome=outcome, **{FEATURE: "chat", MODEL: "m", **labels})


def tokens(kind, values):
    return series("tokenguard_tokens_total", values, type=kind, **{FEATURE: "chat"})


def budget(spent, limit=10, elapsed=0.5, window=86400, unit="usd", samples=DAY, **labels):
    """A budget's gauges, in dollars or tokens; each a value, or values."""
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
            f"tokenguard_budget_{name}", value if isinstance(value, str) else gauge((value, samples)), **labels
        ).items()
    }


def durations(metric, seconds, samples, **labels):
    """A histogram of calls that all took so long, as (seconds, calls a sample) over so many samples each."""
    bounds = (1.28, 2.56, 5.12, 10.24, 20.48, "+Inf")
    found = {}
    for bound in bounds:
        paces = [
            (pace if bound == "+Inf" or took <= bound else 0, n)
            for (took, pace), n in zip(seconds, samples, strict=True)
        ]
        found |= series(f"{metric}_bucket", counter(*paces), le=bound, **{MODEL: "m", **labels})
        if bound == "+Inf":
            found |= series(f"{metric}_count", counter(*paces), **{MODEL: "m", **labels})
    return found


def promtool(tmp_path, groups, rules=(), evaluated="15m", recording=False):
    """Run promtool over test groups, with these rules evaluated so often, after the recording rules if wanted."""
    files = []
    if recording:
        files.append(str(RECORDING))
    rule_file = tmp_path / "rules.yaml"
    rule_file.write_text(yaml.safe_dump({"groups": [{"name": "rules", "rules": list(rules)}]}))
    files.append(str(rule_file))
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": files, "evaluation_interval": evaluated, "tests": list(groups)})
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def group(input_series, expr, at, samples, minutes=MINUTES, name=""):
    """One case: its series, and what a query gives at a time."""
    return {
        "name": name,
        "interval": f"{minutes}m",
        "input_series": [{"series": name, "values": values} for name, values in input_series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


def rule(name):
    return next(each for each in alerts() if each["alert"] == name)
