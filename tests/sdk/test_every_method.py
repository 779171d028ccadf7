"""What an SDK can have billed is known: each method that names a model is a row's, or stands here with a reason.

A new version of an SDK brings new methods, and one that no row knows would go out unmeasured and past every limit. So
the sources of the installed SDKs are read, not only what tests call.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tokenguard.providers import api_of
from tokenguard.providers.batches import request_at


class Sources(NamedTuple):
    """Where an SDK says which paths it asks."""

    module: str
    provider: str
    others: dict[str, str]
    """The paths of what names a model and is no call to it that a row could read, as globs, each with the reason."""


FREE = "counts, and bills nothing"
DEFINES = "says what a later call is to be, and bills nothing"
SESSION = "a session elsewhere: providers/page.py says what is not covered"
UNSEEN = "billed, and no row reads it: providers/page.py says so"

SDKS = (
    Sources(
        "openai",
        "openai",
        {
            "/responses/input_tokens*": FREE,
            "/agents*": DEFINES,
            "/assistants*": DEFINES,
            "/audio/voices": DEFINES,
            "/realtime/*": SESSION,
            "/threads*": UNSEEN,
        },
    ),
    Sources("anthropic", "anthropic", {"*/count_tokens": FREE, "/v1/agents*": DEFINES, "/v1/dreams": UNSEEN}),
    Sources("groq", "groq", {}),
    Sources(
        "together",
        "together",
        {
            "/v1/fine-tunes/*": FREE,
            "/v1/queue/c*": FREE,
            "/v1/queue/submit": UNSEEN,
            "/v2/projects/*/deployments": DEFINES,
        },
    ),
    Sources("cerebras.cloud.sdk", "cerebras", {}),
    Sources("fireworks", "fireworks", {"/https://api.fireworks.ai": DEFINES}),
    Sources("perplexity", "perplexity", {}),
    Sources("sambanova", "sambanova", {"*/count_tokens": FREE}),
    Sources("gradient", "digitalocean", {}),
    Sources(
        "writerai",
        "writer",
        {"/v1/translation": UNSEEN, "/v1/vision": UNSEEN, "/v1/graphs/question": UNSEEN},
    ),
    Sources("openrouter", "openrouter", {"/presets/*": DEFINES}),
    Sources(
        "mistralai.client",
        "mistral_ai",
        {
            "/v1/agents*": DEFINES,
            "/v1/responses/input_tokens": FREE,
            "*/classifications": UNSEEN,
            "/v1/observability/*": DEFINES,
        },
    ),
    Sources("google.genai._gaos", "gcp.gemini", {}),
    Sources(
        "cohere",
        "cohere",
        {
            "/v1/*tokenize": FREE,
            "/v1/finetuning*": DEFINES,
            "/v1/classify": UNSEEN,
            "/v1/embed-jobs": UNSEEN,
            "/v1/generate": UNSEEN,
            "/v1/summarize": UNSEEN,
            "/v2/parse": UNSEEN,
        },
    ),
)
SENDERS = frozenset({"_post", "request", "stream", "_build_request", "_build_request_async"})
NAMES_ONE = frozenset({"model", "messages", "question", "questions"})
"""The arguments of a method that has a model answer."""


def posted(module: str) -> Iterator[str]:
    """The paths that methods with such arguments post to; `X` stands for a name within."""
    found = importlib.util.find_spec(module)
    assert found is not None, module
    assert found.origin is not None, module
    for file in Path(found.origin).parent.rglob("*.py"):
        text = file.read_text()
        if "tests" in file.parts or not ("_post(" in text or '"POST"' in text):
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                given = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
                if not NAMES_ONE.isdisjoint(given):
                    yield from _asked(function)


def _asked(function: ast.AST) -> Iterator[str]:
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or getattr(call.func, "attr", "") not in SENDERS:
            continue
        named = {each.arg: each.value for each in call.keywords}
        method = named.get("method")
        if call.func.attr != "_post" and not (isinstance(method, ast.Constant) and method.value == "POST"):  # type: ignore[attr-defined]
            continue
        place = named.get("path") or (call.args[0] if call.args else None)
        said = None if place is None else _text(place)
        if said:
            yield "/" + said.partition("#")[0].lstrip("/")


def _text(place: ast.AST) -> str | None:
    """The path that an expression comes to: a text, one with names in it, or what is around such a one."""
    for node in ast.walk(place):
        if isinstance(node, ast.JoinedStr):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return re.sub(r"\{[^}]*\}", "X", node.value)
    return None


def unread(sources: Sources) -> set[str]:
    """The paths that no row knows, and that nothing is said of."""
    paths = set(posted(sources.module))
    assert paths, f"{sources.module} posts nothing that is recognized"
    unknown = {path for path in paths if api_of(path, sources.provider) is None}
    unknown = {path for path in unknown if request_at("POST", f"https://host{path}") is None}
    return {path for path in unknown if not any(fnmatch(path, known) for known in sources.others)}


@pytest.mark.everywhere
@pytest.mark.parametrize("sources", SDKS, ids=lambda sources: sources.module)
def test_each_method_that_names_a_model_is_known(sources):
    """A method of the installed version that has a model answer is read by a row, or stands in this table."""
    pytest.importorskip(sources.module)
    assert unread(sources) == set()


def test_an_unknown_method_is_found():
    """What a table says nothing of is named: the test can fail."""
    pytest.importorskip("openai")
    missed = unread(Sources("openai", "openai", {}))
    assert {"/threads/X/runs", "/responses/input_tokens"} <= missed
    assert not missed & {"/decisions", "/chat/completions", "/videos/X/remix"}


@pytest.mark.parametrize(
    ("path", "provider", "row"),
    [
        ("/decisions", "openai", "decisions"),
        ("/v1/decisions", "perplexity", "decisions"),
        ("/api/alpha/decisions", "openrouter", "decisions"),
        ("/systemone", "openrouter", "decisions"),
        ("/v1beta/decisions", "gcp.gemini", "google_decisions"),
        ("/messages", "sambanova", "messages"),
        ("/presets/mine/messages", "openrouter", ""),
        ("/presets/mine/responses", "openrouter", ""),
        ("/api/v1/presets/mine/chat/completions", "openrouter", ""),
        ("/images", "openrouter", "images"),
        ("/v1/contextualizedembeddings", "perplexity", "embeddings"),
        ("/messages", "openai", ""),
        ("/threads/t1/messages", "openai", ""),
        ("/images/models", "openrouter", ""),
    ],
)
def test_paths_of_single_hosts(path, provider, row):
    """What a host has at a path of its own is read there, and nowhere else."""
    found = api_of(path, provider)
    assert ("" if found is None else found.id) == row
