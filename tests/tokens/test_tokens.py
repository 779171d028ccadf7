"""Token counts: against tiktoken's own encodings, published examples, and recorded exchanges."""

from __future__ import annotations

import base64
import gc
import gzip
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public as published
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenguard.providers import every_api
from tokenguard.providers.openai import RESPONSES
from tokenguard.tokens import (
    count_request,
    count_text,
    estimate_request,
    estimate_tokens,
    is_exact,
    text,
    upper_bound,
    upper_bound_request,
)

FORMATS = {api.id: api.words for api in every_api()}

RECORDINGS = next(
    (path for up in Path(__file__).resolve().parents if (path := up / "shared" / "recordings").exists()), Path("none")
)

RANKS_SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


@pytest.fixture(scope="module", params=sorted(RANKS_SHA256))
def both(request):
    """Our encoding, and tiktoken's own construction of it from the ranks in our file."""
    ours = text.encoding(request.param)
    ranks = {ours.decode_single_token_bytes(rank): rank for rank in range(ours.n_vocab) if known(ours, rank)}
    original = published.load_tiktoken_bpe
    published.load_tiktoken_bpe = lambda url, expected_hash=None: ranks
    try:
        theirs = tiktoken.Encoding(**published.ENCODING_CONSTRUCTORS[request.param]())
    finally:
        published.load_tiktoken_bpe = original
    return ours, theirs


def known(encoding, rank):
    try:
        return not encoding.is_special_token(rank) and bool(encoding.decode_single_token_bytes(rank))
    except KeyError:
        return False


@pytest.mark.parametrize("name", sorted(RANKS_SHA256))
def test_the_packed_ranks_are_the_published_file(name):
    """Written back as a `.tiktoken` file, the packaged ranks have the checksum that tiktoken demands of its own."""
    encoding = text.encoding(name)
    size = {"cl100k_base": 100_256, "o200k_base": 199_998}[name]
    lines = (base64.b64encode(encoding.decode_single_token_bytes(rank)) + b" %d\n" % rank for rank in range(size))
    assert hashlib.sha256(b"".join(lines)).hexdigest() == RANKS_SHA256[name]


def test_counts_are_tiktokens(both):
    """Text of every kind counts as tiktoken's own encoding counts it."""
    ours, theirs = both
    model = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}[ours.name]
    samples = [
        "tiktoken is great!",
        "I'll've DON'T we're",
        "1234567 12 1",
        "def f(x):\n\treturn {\n        'a': x / 2,\r\n\r\n    }\n",
        "你好，世界！今天天气怎么样？",  # noqa: RUF001
        "Привет, мир",
        "👩‍👩‍👧‍👦 café naïve Ångström e\u0301",
        "   leading, trailing   \n\n  ",
        "\ud800 lone surrogate",
    ]
    for sample in samples:
        assert count_text(sample, model) == len(theirs.encode_ordinary(sample)), sample
        assert ours.encode_ordinary(sample) == theirs.encode_ordinary(sample)


@pytest.mark.parametrize(
    ("sample", "cl100k", "o200k"),
    [("antidisestablishmentarianism", 6, 6), ("2 + 2 = 4", 7, 7), ("お誕生日おめでとう", 9, 8)],
)
def test_counts_are_the_published_examples(sample, cl100k, o200k):
    """The counts in OpenAI's cookbook, "How to count tokens with tiktoken"."""
    assert (count_text(sample, "gpt-4"), count_text(sample, "gpt-4o-mini")) == (cl100k, o200k)


def test_special_tokens_are_ordinary_text():
    """What a user writes is text: `<|endoftext|>` neither raises nor counts as one."""
    assert (
        count_text("<|endoftext|>", "gpt-4o") == len(text.encoding("o200k_base").encode_ordinary("<|endoftext|>")) > 1
    )
    assert count_text("<|im_start|>system<|im_end|>", "gpt-4") > 4


def test_a_long_text_is_the_sum_of_its_pieces(both):
    """Cutting a long text where white space follows a letter changes no count."""
    ours, _ = both
    words = random.Random(7)
    vocabulary = ["tax", "Ünder", "3.14", "don't", "  ", "\n\n", "x\n/", "_", "你好", "!?", "fox1", "\t", "é", "...\n"]
    sample = " ".join(words.choice(vocabulary) for _ in range(120_000))
    assert len(sample) > 4 * text.SEGMENT
    model = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}[ours.name]
    assert count_text(sample, model) == len(ours.encode_ordinary(sample))


@pytest.mark.parametrize("character", [" ", "a", "^", "\n", "あ"])
def test_a_long_run_of_one_character_is_counted(character):
    """A megabyte of one character, at which tiktoken itself may panic, is counted to a token in each 100,000."""
    run = character * 1_000_000
    one = count_text(character * 100_000, "gpt-4o")
    assert abs(count_text(run, "gpt-4o") - 10 * one) <= 10


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_the_bound_holds(sample):
    """No text has more tokens than UTF-8 bytes."""
    assert count_text(sample, "gpt-4o") <= upper_bound(sample)
    assert count_text(sample, "gpt-4") <= upper_bound(sample)


def test_the_bound_is_the_length_in_bytes():
    """ASCII by its length, the rest by its bytes, lone surrogates too."""
    assert [upper_bound(sample) for sample in ("", "abc", "é", "你", "😀", "\ud800")] == [0, 3, 2, 3, 4, 3]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        *(
            (m, "o200k_base")
            for m in ("gpt-4o", "gpt-4o-mini-2024-07-18", "chatgpt-4o-latest", "gpt-4.1-nano", "gpt-5")
        ),
        *((m, "o200k_base") for m in ("gpt-5.2-pro", "gpt-6.1-sol", "o1", "o3-mini", "o4-mini", "openai/gpt-oss-120b")),
        *((m, "o200k_base") for m in ("ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/gpt-4o", "GPT-4o")),
        *((m, "cl100k_base") for m in ("gpt-4", "gpt-4-turbo", "gpt-4-0613", "gpt-3.5-turbo", "gpt-35-turbo")),
        *((m, "cl100k_base") for m in ("text-embedding-3-small", "text-embedding-ada-002", "ft:gpt-4-0613:x")),
        *((m, None) for m in ("claude-sonnet-4-5", "gemini-2.5-pro", "llama-3", "my-gpt-4o", "olmo-2", "", None)),
    ],
)
def test_a_models_encoding_is_known_by_its_name(model, encoding):
    """OpenAI's families are exact, dated, fine-tuned or prefixed; everything else is an estimate."""
    assert text.encoding_name(model) == encoding
    assert is_exact(model) == (encoding is not None)


def test_other_models_are_estimated():
    """A model of another provider, or none, gets the count of OpenAI's current encoding."""
    sample = "Grüße aus München"
    assert estimate_tokens(sample, "claude-sonnet-4-5") == estimate_tokens(sample) == count_text(sample, "gpt-4o")


def test_counts_are_remembered_without_the_text(monkeypatch):
    """A long text is counted once per encoding; the memory is bounded and holds no text."""
    monkeypatch.setattr(text, "REMEMBERED_TEXTS", 3)
    text._remembered.clear()
    counted = []
    count = text._count
    monkeypatch.setattr(text, "_count", lambda sample, name: counted.append(name) or count(sample, name))
    samples = [f"{n} " * 200 for n in range(5)]
    assert count_text(samples[0], "gpt-4o") == count_text(samples[0], "gpt-5")
    assert counted == ["o200k_base"]
    count_text(samples[0], "gpt-4")
    assert counted == ["o200k_base", "cl100k_base"]
    for sample in samples:
        count_text(sample, "gpt-4o")
    assert len(text._remembered) == 3
    assert all(isinstance(part, int) or len(part) < 12 for key in text._remembered for part in key)


def test_concurrent_first_counts_load_once(monkeypatch):
    """Many threads that count first wait for one loading."""
    loads = []
    load = text._load
    monkeypatch.setattr(text, "_encodings", {})
    monkeypatch.setattr(text, "_load", lambda name: loads.append(name) or load(name))
    threads = [threading.Thread(target=count_text, args=("hello", "gpt-4")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["cl100k_base"]


def test_ranks_are_held_once():
    """An encoding holds its ranks where it counts, and not in a second dictionary of 200,000 texts beside it."""
    name = "o200k_base"
    made = text._load(name)
    assert made.encode_ordinary("held once") == text.encoding(name).encode_ordinary("held once")
    assert [held for held in gc.get_referents(vars(made)) if isinstance(held, dict) and len(held) > 1000] == []


def test_importing_loads_nothing():
    """Neither tiktoken nor the ranks are loaded before the first count, and bounds need neither."""
    program = (
        "import sys; from tokenguard.tokens import upper_bound, is_exact, upper_bound_request as b;"
        "upper_bound('abc'); is_exact('gpt-4o'); b({'messages': []}); print('tiktoken' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_chat_request_is_counted_by_the_documented_arithmetic():
    """The cookbook's example messages: 3 a message, 1 a name, 3 for the answer; 129 (cl100k) and 124 (o200k) tokens."""
    system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    turns = [
        ("example_user", "New synergies will help drive top-line growth."),
        ("example_assistant", "Things working well together will increase revenue."),
        (
            "example_user",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        ("example_assistant", "Let's talk later when we're less busy about how to do better."),
    ]
    messages = [
        {"role": "system", "content": system},
        *({"role": "system", "name": name, "content": content} for name, content in turns),
        {
            "role": "user",
            "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        },
    ]
    assert count_request(FORMATS["chat"], {"model": "gpt-4-0613", "messages": messages}) == (129, True)
    assert count_request(FORMATS["chat"], {"model": "gpt-4o", "messages": messages}) == (124, True)


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        ("embeddings", {"model": "text-embedding-3-small", "input": ["hello", "world"]}, (2, True)),
        ("embeddings", {"model": "text-embedding-3-small", "input": [[1, 2, 3], [4]]}, (4, True)),
        ("embeddings", {"model": "text-embedding-3-small", "input": [1, 2, 3]}, (3, True)),
        ("completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hello world"}, (2, True)),
        ("responses", {"model": "gpt-4o", "input": "What is the capital of Mexico?"}, (14, True)),
        ("chat", {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}, (7, True)),
        ("messages", {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}, (8, False)),
        ("chat", {}, (3, False)),
        ("chat", {"messages": [None, 3, "x", {"content": {"a": 1}}], "tools": [None]}, None),
    ],
)
def test_requests_of_each_format(api, body, expected):
    """Each wire format is counted where its text sits; odd bodies do not raise."""
    counted = count_request(FORMATS[api], body)
    assert expected is None or counted == expected
    assert estimate_request(FORMATS[api], body, "gpt-4o") >= 0
    assert upper_bound_request(body).tokens >= counted.tokens


KEYS = st.sampled_from(["messages", "input", "prompt", "system", "tools", "type", "text", "content", "role", "source"])
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["text", "document"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(["chat", "completions", "responses", "embeddings", "messages"]), st.dictionaries(KEYS, ODD))
@settings(max_examples=300, deadline=None)
def test_no_body_is_too_odd(api, body):
    """Whatever JSON a body is, it is counted and bounded."""
    assert count_request(FORMATS[api], body).tokens >= 0
    assert upper_bound_request(body).tokens >= 0


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [WEATHER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
            ]
        },
        {"web_search_options": {}, "previous_response_id": "resp_1"},
        {"model": "gpt-4o-search-preview"},
    ],
)
def test_what_is_not_published_is_an_estimate(more):
    """Tools, media, structured outputs and remembered text make the count an estimate."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **more}
    assert not count_request(FORMATS["chat"], body).exact


def test_a_picture_is_not_counted_as_text():
    """Base64 is no text: the bound leaves it out and says so, the count assumes a usual picture."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": [PICTURE]}]}
    assert upper_bound_request(body).tokens < 200
    assert not upper_bound_request(body).complete
    assert 700 < count_request(FORMATS["chat"], body).tokens < 800


def test_the_bound_says_when_something_is_missing():
    """Plain text is complete; hosted tools, stored prompts and earlier responses are not."""
    plain = {"model": "gpt-4o", "input": "hello"}
    assert upper_bound_request(plain).complete
    for more in ({"tools": [{"type": "web_search"}]}, {"prompt": {"id": "p"}}, {"previous_response_id": "r"}):
        assert not upper_bound_request({**plain, **more}).complete


def recorded():
    """(wire format, request, input tokens as billed) of the recorded exchanges."""
    ends = {
        "chat/completions": "chat",
        "responses": "responses",
        "/v1/messages": "messages",
        "embeddings": "embeddings",
    }
    for name in ("openai", "anthropic"):
        rows = gzip.decompress((RECORDINGS / f"{name}.jsonl.gz").read_bytes()).splitlines()
        for row in map(json.loads, rows):
            api = next((api for end, api in ends.items() if row["url_path"].endswith(end)), None)
            if api is None or row["status"] != 200 or "json" not in row["content_type"]:
                continue
            usage = json.loads(row["body"]).get("usage")
            if usage is None:
                continue
            cached = (usage.get(f"cache_{kind}_input_tokens") or 0 for kind in ("read", "creation"))
            yield api, row["request"], usage.get("prompt_tokens", usage.get("input_tokens", 0)) + sum(cached)


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recorded exchanges are not part of the repository")
def test_recorded_requests_are_counted_and_bounded():
    """What is called exact is what OpenAI billed (one of 60 has hidden text); no complete bound is passed."""
    exact, wrong = 0, []
    for api, request, billed in recorded():
        counted, bound = count_request(FORMATS[api], request), upper_bound_request(request)
        assert not bound.complete or billed <= bound.tokens, request
        if counted.exact:
            exact += 1
            if counted.tokens != billed:
                wrong.append((request, counted.tokens, billed))
    assert exact >= 40
    assert len(wrong) <= 1, wrong


WORDS = "Which of your plans has a warranty, and for how long does it run?"
AS_CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": WORDS}]
ENTRIES = [{"role": "user", "content": WORDS}]
STEPS = [{"type": "user_input", "content": [{"type": "text", "text": WORDS}]}]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("conversations", {"instructions": "Be brief.", "inputs": ENTRIES}),
        ("conversations", {"instructions": "Be brief.", "inputs": WORDS}),
        ("interactions", {"system_instruction": "Be brief.", "input": WORDS}),
        ("interactions", {"system_instruction": "Be brief.", "input": STEPS}),
        ("interactions", {"system_instruction": "Be brief.", "input": {"type": "text", "text": WORDS}}),
    ],
)
def test_agents_formats(api, body):
    """The same words count the same in Mistral's conversations and Google's interactions as in a chat."""
    chat = count_request(FORMATS["chat"], {"model": "gpt-4o", "messages": AS_CHAT}).tokens
    assert abs(count_request(FORMATS[api], {"model": "gpt-4o", **body}).tokens - chat) <= 1
    assert upper_bound_request(body).complete


@pytest.mark.parametrize("key", ["conversation_id", "agent_id", "previous_interaction_id", "agent", "cached_content"])
def test_what_the_provider_adds(key):
    """A request to an agent, or that goes on from something, does not hold all that is billed."""
    assert not upper_bound_request({"input": WORDS, key: "x"}).complete


def test_an_answer_of_megabytes():
    """It is estimated by its beginning, and its stream is gone through once: a caller waits for both."""
    said = 'He said \\"no\\". ' * 2**19
    event = b'data: {"type": "response.output_text.delta", "delta": ' + json.dumps(said).encode() + b"}\n\n"
    began = time.process_time()
    streamed = RESPONSES.words.streamed_text(event)
    tokens = estimate_tokens(streamed, "gpt-4o")
    assert time.process_time() - began < 2.0
    assert streamed == said
    assert tokens == pytest.approx(len(said) * count_text(said[:2048], "gpt-4o") / 2048, rel=0.01)
