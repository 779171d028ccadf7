"""Five weeks of a simulated product, as OpenMetrics: what needs a past (a week ago, a month so far) is tried on it.

It ends at `NOW`, always the same, so that the pictures of the dashboards change only with the dashboards.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
from datetime import UTC, datetime

import yaml

from .parts import RECORDING, program, prometheus

NOW = int(datetime(2026, 11, 18, 16, 20, tzinfo=UTC).timestamp())
DAYS = 48
STEP, FINE_DAYS, COARSE = 600, 9, 7200
"""Between two samples, in seconds: of the last nine days, and of what is before them."""
GAUGE_STEP = 240
GAUGES_FOR = 86400
PRICES = {  # USD per million tokens: input, cache read, cache write, output
    "gpt-4o-2024-08-06": (2.5, 1.25, 2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.075, 0.15, 0.6),
    "claude-sonnet-4-6": (3.0, 0.3, 3.75, 15.0),
    "claude-opus-4-8": (5.0, 0.5, 6.25, 25.0),
}
FEATURES = (  # feature, route, version, team, model, calls an hour, tokens in, share cached, tokens out
    ("support_bot", "/chat", "v14", "support", "gpt-4o-2024-08-06", 90, 3400, 0.62, 210),
    ("concierge", "/premium/chat", "v3", "support", "claude-sonnet-4-6", 30, 4200, 0.75, 320),
    ("rag_answers", "/ask", "top5", "search", "gpt-4o-mini-2024-07-18", 240, 1800, 0.1, 80),
    ("triage", "inbox", "v1", "operations", "claude-opus-4-8", 60, 420, 0.0, 6),
)
BILLED = (  # feature, team, provider, model, unit, units an hour, units a call, USD a unit
    ("illustrations", "search", "openai", "gpt-image-1", "images", 9, 1, 0.042),
    ("voice_notes", "support", "openai", "whisper-1", "input_seconds", 1500, 40, 0.0001),
    ("contracts", "operations", "mistral_ai", "mistral-ocr-2512", "pages", 130, 5, 0.002),
    ("narration", "search", "openai", "tts-1", "characters", 24000, 600, 0.000015),
)
"""What is billed by other units than tokens."""
LONG = "--max-block-duration=60d"
"""promtool reads everything once for each block."""
PLACE = {"job": "shop", "instance": "a", "deployment_environment_name": "production"}
TENANTS = {"acme": 1.0, "globex": 0.55, "initech": 0.3}
BOUNDS = (0.32, 0.64, 1.28, 2.56, 5.12, 10.24)


def write(path):
    """Write the samples, a metric after the other."""
    families = {}
    for name, labels, at, value in samples():
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        families.setdefault(name, []).append(f"{name}{{{inside}}} {value:.9g} {at}")
    path.write_text("\n".join(line for lines in families.values() for line in lines) + "\n# EOF\n")


def load(folder):
    """A directory with Prometheus' blocks of all this, and of what the recording rules make of it."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / "history.txt", folder / "blocks"
    write(text)
    command = [program("promtool"), "tsdb", "create-blocks-from", LONG, "openmetrics", "-q", str(text), str(data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()
    for rules in yaml.safe_load(RECORDING.read_text())["groups"]:  # the second is made of what the first records
        record(folder, data, rules)
    return data


def record(folder, data, rules):
    """Add what a group of rules records of the past, as promtool backfills it.

    Samples are further apart than those of a real process, so a series lives longer without one.
    """
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump({"groups": [rules]}))
    with prometheus(folder / "filling", flags=["--query.lookback-delta=3h"], data=data) as server:
        command = [program("promtool"), "tsdb", "create-blocks-from", LONG, "rules", f"--url={server.url}", str(path)]
        times = [f"--start={NOW - DAYS * 86400}", f"--end={NOW}", f"--output-dir={folder / 'recorded'}"]
        subprocess.run([*command, *times], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for block in (folder / "recorded").iterdir():
        shutil.move(block, data / block.name)


def samples():
    """(metric, labels, time, value) of everything."""
    chance, start = random.Random(5), NOW - DAYS * 86400
    sums = {}

    def add(name, labels, amount):
        key = (name, tuple(labels.items()))
        sums[key] = sums.get(key, 0.0) + amount

    fine = NOW - FINE_DAYS * 86400
    for at in (*range(start, fine, COARSE), *range(fine, NOW + 1, STEP)):
        step = STEP if at >= fine else COARSE
        hour = at / 3600 % 24
        busy = 0.25 + 0.75 * math.exp(-((hour - 14) ** 2) / 18)
        for feature, route, version, team, model, pace, sent, cached, generated in FEATURES:
            grown = 1.45 if feature == "rag_answers" and at > NOW - 30 * 3600 else 1.0
            lost = feature == "support_bot" and NOW - 5 * 3600 < at < NOW - 2 * 3600
            for tenant, size in TENANTS.items():
                calls = round(pace * size * busy * step / 3600 * chance.uniform(0.7, 1.3))
                one(add, chance, (tenant, feature, route, version, team, model), calls, sent * grown,
                    0.05 if lost else cached, generated)  # fmt: skip
        for feature, team, provider, model, unit, pace, each, usd in BILLED:
            units = round(pace * busy * step / 3600 * chance.uniform(0.7, 1.3))
            by_units(add, (feature, team, provider, model), unit, units, units // each, usd)
        look_ups(add, chance, round(90 * busy * step / 3600))
        for (name, labels), value in sums.items():
            yield name, {**PLACE, **dict(labels)}, at, value
    for name, labels, at, value in gauges(chance):
        yield name, {**PLACE, **labels}, at, value


def one(add, chance, whose, calls, sent, cached, generated):
    """The calls of one tenant and feature in one step."""
    tenant, feature, route, version, team, model = whose
    work = {"tokenguard_tenant": tenant, "tokenguard_feature": feature}
    provider = "anthropic" if model.startswith("claude") else "openai"
    labels = {
        **work,
        "tokenguard_route": route,
        "tokenguard_prompt_version": version,
        "tokenguard_team": team,
        "gen_ai_provider_name": provider,
        "gen_ai_response_model": model,
    }
    failed = sum(chance.random() < 0.008 for _ in range(calls))
    abandoned = sum(chance.random() < 0.02 for _ in range(calls)) if "chat" in route else 0
    blocked = calls // 8 if tenant == "initech" and chance.random() < 0.1 else 0
    for outcome, number in (
        ("ok", calls - failed - abandoned),
        ("error", failed),
        ("abandoned", abandoned),
        ("blocked", blocked),
    ):
        add("tokenguard_calls_total", {**labels, "outcome": outcome}, number)
    tokens = {"input": calls * sent, "cache_read": calls * sent * cached, "output": calls * generated}
    for kind, number in tokens.items():
        add("tokenguard_tokens_total", {**labels, "type": kind}, number)
    plain, read, write_, out = PRICES[model]
    written = tokens["input"] * 0.02 * (cached > 0)
    paid = {
        "input": (tokens["input"] - tokens["cache_read"] - written) * plain / 1e6,
        "cache_read": tokens["cache_read"] * read / 1e6,
        "cache_write": written * write_ / 1e6,
        "output": tokens["output"] * out / 1e6,
    }
    for part, usd in paid.items():
        add("tokenguard_cost_part_usd_total", {**labels, "part": part}, usd)
    add("tokenguard_cost_usd_total", {**labels, "status": "exact"}, sum(paid.values()))
    saved = tokens["cache_read"] * (plain - read) / 1e6 - written * (write_ - plain) / 1e6
    add("tokenguard_saved_usd", {**labels, "lever": "prompt_cache"}, saved)
    if feature == "rag_answers":
        add("tokenguard_saved_usd", {**labels, "lever": "response_cache"}, sum(paid.values()) * 0.15)
        add("tokenguard_saved_usd", {**labels, "lever": "single_flight"}, sum(paid.values()) * 0.04)
    if feature == "triage":
        add("tokenguard_saved_usd", {**labels, "lever": "route"}, sum(paid.values()) * 0.4)
        add("tokenguard_saved_usd", {**labels, "lever": "escalation"}, sum(paid.values()) * -0.07)
    add("tokenguard_retries_total", labels, failed * 2)
    add("tokenguard_retry_cost_usd_total", labels, failed * 0.3 * sum(paid.values()) / max(calls, 1))
    if feature in ("triage", "rag_answers"):
        add("tokenguard_calls_uncapped_total", labels, calls if feature == "triage" else calls // 4)
    if tenant == "globex" and feature == "triage":
        add("tokenguard_calls_unpriced_total", labels, calls // 50)
    if feature in ("support_bot", "concierge"):
        for outcome, number in (("ok", calls / 3), ("error", calls / 30)):
            add("tokenguard_tasks_total", {**work, "task": "resolve", "outcome": outcome}, number)
            add("tokenguard_task_cost_usd_total", {**work, "task": "resolve", "outcome": outcome},
                sum(paid.values()) * (0.9 if outcome == "ok" else 0.1))  # fmt: skip
    add("tokenguard_budget_refusals_total", {"budget": "tenant per day", "key": f"tenant={tenant}"}, blocked)
    if blocked:
        rule = {**work, "rule": "tenant per day", "action": "block"}
        add("tokenguard_guard_decisions_total", rule, blocked)
        add("tokenguard_guard_prevented_usd_total", rule, blocked * 0.02)
    add("tokenguard_guard_decisions_total", {**work, "rule": "short answers", "action": "clamp"}, calls // 9)
    histograms(add, chance, provider, model, calls, failed)
    for health in ("records_dropped", "internal_errors"):
        add(f"tokenguard_{health}_total", {}, 0)
    add("tokenguard_series_overflow_total", {"label": "tokenguard_prompt_version"}, chance.random() < 0.001)
    add("tokenguard_budget_alerts_total", {"budget": "tenant per day", "key": f"tenant={tenant}", "threshold": "0.8"},
        chance.random() < 0.002)  # fmt: skip


def by_units(add, whose, unit, units, calls, usd):
    """Calls that are billed by something else than tokens."""
    feature, team, provider, model = whose
    labels = {
        "tokenguard_tenant": "acme",
        "tokenguard_feature": feature,
        "tokenguard_team": team,
        "gen_ai_provider_name": provider,
        "gen_ai_response_model": model,
    }
    add("tokenguard_calls_total", {**labels, "outcome": "ok"}, calls)
    add("tokenguard_units_total", {**labels, "type": unit}, units)
    add("tokenguard_cost_usd_total", {**labels, "status": "exact"}, units * usd)
    add("tokenguard_cost_part_usd_total", {**labels, "part": "input"}, units * usd)


def look_ups(add, chance, number):
    """Kept answers that were looked for, prompts that left the provider's cache, and what was trimmed."""
    for result, reason, share in (
        ("hit", "", 0.55),
        ("miss", "", 0.3),
        ("miss", "error", 0.02),
        ("skip", "tools", 0.13),
    ):
        labels = {"rule": "answers to visitors", "result": result, "reason": reason}
        add("tokenguard_cache_lookups_total", labels, round(number * share * chance.uniform(0.8, 1.2)))
    for kind, section, share in (("changed", "system", 0.2), ("expired", "", 0.1), ("model", "", 0.03)):
        labels = {"kind": kind, "section": section}
        add("tokenguard_cache_breaks_total", labels, round(number * share * chance.uniform(0.5, 1.5)))
    work = {"tokenguard_tenant": "acme", "tokenguard_feature": "support_bot"}
    for rule, action, mode in (("long chats", "trim", ""), ("large prompts", "block", "observe")):
        labels = {**work, "rule": rule, "action": action, **({"mode": mode} if mode else {})}
        add("tokenguard_guard_decisions_total", labels, number // 3)


def histograms(add, chance, provider, model, calls, failed):
    """Durations of the calls, and the time to their first chunk."""
    typical = 3.2 if "opus" in model else 1.9 if "claude" in model else 0.8
    labels = {"gen_ai_provider_name": provider, "gen_ai_response_model": model, "gen_ai_operation_name": "chat"}
    for name, scale in (("duration", 1.0), ("time_to_first_chunk", 0.35)):
        metric = f"gen_ai_client_operation_{name}_seconds"
        took = [chance.lognormvariate(math.log(typical * scale), 0.5) for _ in range(calls - failed)]
        for bound in (*BOUNDS, math.inf):
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            add(f"{metric}_bucket", {**labels, "le": le}, sum(each <= bound for each in took))
        add(f"{metric}_count", labels, len(took))
    for kind in ("openai.RateLimitError", "openai.APITimeoutError"):
        name = "gen_ai_client_operation_duration_seconds_count"
        add(name, {**labels, "error_type": kind}, sum(chance.random() < 0.5 for _ in range(failed)))


def gauges(chance):
    """Budgets, breakers and the price table over the last day."""
    day = 86400
    for at in range(NOW - GAUGES_FOR, NOW + 1, GAUGE_STEP):
        elapsed = at % day / day
        curve = elapsed**1.4
        for tenant, (limit, share) in {"acme": (20.0, 1.5), "globex": (10.0, 1.05), "initech": (5.0, 0.6)}.items():
            account = {"budget": "tenant per day", "key": f"tenant={tenant}"}
            for name, value in (
                ("limit_usd", limit),
                ("spent_usd", min(limit * share * curve, limit)),
                ("reserved_usd", limit * 0.01 * chance.random()),
                ("elapsed_ratio", elapsed),
                ("window_seconds", day),
            ):
                yield f"tokenguard_budget_{name}", account, at, value
        yield "tokenguard_ledger_lost", {}, at, int(NOW - 7 * 3600 < at < NOW - 7 * 3600 + 900)
        for budget, unit, most, pace in (
            ("agents per day", "tokens", 2e6, 1.1),
            ("searches per day", "calls", 600, 0.8),
        ):
            for name, value in (
                (f"limit_{unit}", most),
                (f"spent_{unit}", round(most * min(elapsed * pace, 1))),
                ("elapsed_ratio", elapsed),
                ("window_seconds", day),
            ):
                yield f"tokenguard_budget_{name}", {"budget": budget, "key": ""}, at, value
        month = (at - (NOW - 17 * day - 58800)) / (30 * day)
        for team, (limit, share) in {
            "support": (900.0, 1.2),
            "search": (330.0, 0.9),
            "operations": (200.0, 0.95),
        }.items():
            account = {"budget": "team per month", "key": f"team={team}"}
            for name, value in (
                ("limit_usd", limit),
                ("spent_usd", limit * share * month),
                ("reserved_usd", limit * 0.0001),
                ("elapsed_ratio", month),
                ("window_seconds", 30 * day),
            ):
                yield f"tokenguard_budget_{name}", account, at, value
        for model, opened in (("gpt-4o", NOW - 9 * 3600), ("claude-opus-4-8", NOW - 3 * 3600)):
            state = 2 if opened < at < opened + 1500 else 1 if opened + 1500 <= at < opened + 2200 else 0
            circuit = {"breaker": "provider down", "gen_ai_provider_name": "openai", "gen_ai_request_model": model}
            yield "tokenguard_breaker_state", circuit, at, state
        yield "tokenguard_prices_age_seconds", {}, at, at - (NOW - 9 * day)
