"""Recorded traffic as recorded content: every message of it in the convention's form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tokenguard.providers.messages import answers, messages, streamed, system_instructions

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"
FAMILIES = (
    "mistral",
    "google",
    "vertex",
    "bedrock",
    "cohere",
    "anthropic",
    "openai",
    "groq",
    "deepseek",
    "huggingface",
)
OTHERS = ("embed", "count", "token", "rerank", "caches", "cachedContents", "Stores", "conversations", "realtime")
"""What is in the paths of requests that are no conversation with a model."""
ROLES = {"system", "developer", "user", "assistant", "tool"}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings are not part of the repository")


def rows(family):
    with gzip.open(FOLDER / f"{family}.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["status"] == 200 and isinstance(row["request"], dict):
                path = row["url_path"].lower()
                if not any(other.lower() in path for other in OTHERS):
                    yield row


def check(part):
    assert isinstance(part["type"], str)
    match part["type"]:
        case "text" | "reasoning" if "content" in part:
            assert isinstance(part["content"], str)
        case "tool_call":
            assert isinstance(part["name"], str)
            assert isinstance(part["arguments"], dict) or part["arguments"] in (None, "")
        case "tool_call_response":
            assert part["id"] is not None
            assert part["response"] is not None
        case _:
            assert set(part) == {"type"}  # named, and not copied


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_content(family):
    """Requests have their messages and answers their parts; whatever is not text, thought or call is only named."""
    asked = answered = 0
    for row in rows(family):
        body = row["body"]
        if "event-stream" in row["content_type"]:
            said = streamed(body.encode())
        elif "json" in row["content_type"]:
            said = answers(json.loads(body))
        else:
            continue
        sent = messages(row["request"])
        for message in (*sent, *said):
            assert message["role"] in ROLES
            for part in message["parts"]:
                check(part)
        for part in system_instructions(row["request"]):
            check(part)
        asked += any(message["parts"] for message in sent)
        answered += any(message["parts"] for message in said)
    assert asked > 0
    assert answered > 0.9 * asked
