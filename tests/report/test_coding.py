"""Coding agents' logs as a source: what they say of each call, and what it would cost by the token."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from click.testing import CliRunner

from report.test_sources import value
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.report import calls as single
from tokenguard.report.figures import ask
from tokenguard.report.query import Query
from tokenguard.report.sources import SourceError, open_sources

AT = 1_795_000_000 * 10**9
CLAUDE = {
    "event.name": "api_request",
    "event.sequence": 7,
    "session.id": "s-1",
    "user.account_uuid": "u-1",
    "user.email": "ada@example.org",
    "model": "claude-sonnet-4-6",
    "input_tokens": "100",
    "output_tokens": 50,
    "cache_read_tokens": 2000,
    "cache_creation_tokens": 400,
    "duration_ms": 1500,
    "query_source": "main",
}
CODEX = {
    "event.name": "codex.sse_event",
    "event.kind": "response.completed",
    "event.timestamp": "2026-11-18T10:00:00.000Z",
    "conversation.id": "c-1",
    "model": "gpt-4.1",
    "input_token_count": 1000,
    "cached_token_count": 600,
    "output_token_count": 100,
    "reasoning_token_count": 40,
}


def line(*logs, **resource):
    """A line as the collector's file exporter writes it, of logs with their bodies."""
    records = [
        {
            "timeUnixNano": str(AT if body else 0),
            "body": {"stringValue": body},
            "attributes": [{"key": key, "value": value(content)} for key, content in attributes.items()],
        }
        for body, attributes in logs
    ]
    attributes = [{"key": key.replace("_", "."), "value": value(content)} for key, content in resource.items()]
    return json.dumps(
        {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": records}]}]}
    )


def read(tmp_path, *lines):
    path = tmp_path / "agents.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with closing(open_sources([path]).records) as records:
        return (
            ask(records, Query(by=("feature", "user", "team"))),
            [each.record for each in single.calls(records, Query(), "cost")],
        )


def test_claude_code(tmp_path):
    """Input holds what the cache had; the cost is its own word where the list disagrees; an error is a failed call."""
    error = {"event.name": "api_error", "session.id": "s-1", "model": "claude-sonnet-4-6", "status_code": "529"}
    report, (dear, call, failed) = read(
        tmp_path,
        line(("claude_code.api_request", CLAUDE), ("claude_code.user_prompt", {"prompt": "hello"}), team_id="search"),
        line(("claude_code.api_request", {**CLAUDE, "event.sequence": 8, "cost_usd": "0.5"}), team_id="search"),
        line(("claude_code.api_error", error)),
    )
    assert call.attributes[names.INPUT_TOKENS] == 2500
    assert (call.attributes[names.CACHE_READ_TOKENS], call.attributes[names.CACHE_WRITE_TOKENS]) == (2000, 400)
    # claude-sonnet-4-6: 3 in, 15 out, 0.30 read, 3.75 written, USD per million
    usd = (100 * 3 + 50 * 15 + 2000 * 0.3 + 400 * 3.75) / 1e6
    assert call.attributes[names.COST] == pytest.approx(usd)
    assert (call.start_ns, call.duration_ns) == (AT - 1_500_000_000, 1_500_000_000)
    assert dear.attributes[names.COST] == 0.5
    assert {each.attributes[names.COST_STATUS] for each in (call, dear)} == {"estimated"}
    assert (failed.outcome, failed.attributes[names.ERROR_TYPE]) == ("error", "529")
    assert {row.keys for row in report.rows} == {
        ("claude_code", "ada@example.org", "search"),
        ("claude_code", None, None),
    }


def test_codex(tmp_path):
    """Its counts nest as OpenAI's; other events of a stream are no calls; the price is the list's."""
    report, (call,) = read(
        tmp_path, line(("", CODEX), ("", {**CODEX, "event.kind": "response.output_item.done"}), user_id="u")
    )
    assert call.attributes[names.INPUT_TOKENS] == 1000
    assert call.attributes[names.REASONING_TOKENS] == 40
    # gpt-4.1: 2 in, 0.50 cached, 8 out
    assert call.attributes[names.COST] == pytest.approx((400 * 2 + 600 * 0.5 + 100 * 8) / 1e6)
    assert call.start_ns == 1_794_996_000 * 10**9
    assert report.rows[0].keys == ("codex", "u", None)


def test_a_line_that_is_written_again(tmp_path):
    """A call that a file has twice is counted once; two of one session are two."""
    again = line(("claude_code.api_request", CLAUDE))
    other = line(("claude_code.api_request", {**CLAUDE, "event.sequence": 8}))
    report, _ = read(tmp_path, again, again, other)
    assert report.total.figures["calls"] == 2


def test_a_count_that_is_none(tmp_path):
    """A count that is no number is told with its line; logs of other programs are none of ours."""
    with pytest.raises(SourceError, match="line 1"):
        read(tmp_path, line(("claude_code.api_request", {**CLAUDE, "input_tokens": "many"})))
    report, found = read(tmp_path, line(("shop.order", {"input_tokens": "many"})))
    assert (report.total.figures["calls"], found) == (0, [])


def test_a_report_says_that_it_is_list_prices(tmp_path):
    """Whoever has a subscription is told that this is not what was billed."""
    path = tmp_path / "agents.jsonl"
    path.write_text(line(("claude_code.api_request", CLAUDE)) + "\n")
    result = CliRunner().invoke(group, ["report", "--source", str(path), "--by", "feature"])
    assert result.exit_code == 0
    assert "claude_code" in result.output
    assert "list prices" in " ".join(result.output.split())
