"""`match = "meaning"`: what is taken for the same question, what never is, and that it only watches until judged."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time

import pytest
from click.testing import CliRunner

import canned
import connections
import tokenguard
from answers.test_kept import Provider, looked_up
from tokenguard import PolicyError, policy
from tokenguard.answers import vectors
from tokenguard.answers.encoder import encoder_of, unit_vectors
from tokenguard.answers.meaning import hard_facts
from tokenguard.answers.pairs import Pair, threshold_for
from tokenguard.cli import group
from tokenguard.facts import names

SYNONYMS = {"refund": "return", "money": "return", "back": "return", "get": "obtain", "how": "way", "policy": "rules"}
STOPPED = {"what", "is", "the", "your", "my", "do", "i", "a", "please", "can"}


def encode(texts):
    """A small encoder: bags of words, of which some mean the same, hashed into 64 numbers."""
    encode.threads.append(threading.current_thread().name)
    rows = []
    for text in texts:
        row = [0.001] * 64
        for word in re.findall(r"[a-z]+", text.lower()):
            if word not in STOPPED:
                row[hashlib.blake2b(SYNONYMS.get(word, word).encode(), digest_size=1).digest()[0] % 64] += 1.0
        rows.append(row)
    return rows


encode.threads = []
waits = threading.Event()


def slow(texts):
    waits.wait(2)
    return encode(texts)


def broken(texts):
    raise RuntimeError("no model here")


JUDGED = 'serve = true\nthreshold = 0.9\nwrong_share = 0.0\npairs = 600\njudged = "answers.test_meaning:encode 1"\n'
RULE = '[[cache]]\nname = "faq"\nmatch = "meaning"\nencoder = "answers.test_meaning:encode"\n'


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def under(under, monkeypatch, tmp_path):
    monkeypatch.setenv("TOKENGUARD_CACHE_KEY", "a secret of some length")

    def put(text, answers='[answers]\ntimeout = "2s"\n'):
        text = f'{text}[attribution]\ndefaults = {{ tenant = "t1" }}\n{answers}'
        return under(text, str(tmp_path / "tokenguard.toml"))

    return put


def asking(text, **more):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return {"model": "gpt-4o-mini", "messages": messages, "temperature": 0, **more}


def ask(client, text, **more):
    return client.chat.completions.create(**asking(text, **more))


def test_said_otherwise(provider, under, spans):
    """A question in other words gets the answer; another number, negation, date, system prompt or tenant does not."""
    under(RULE + JUDGED)
    client = provider.client()
    first = ask(client, "What is the refund policy of 2025?")
    assert ask(client, "what is your RETURN policy of 2025") == first
    assert ask(client, "please, the return rules of 2025") == first
    assert len(provider.requests) == 1
    assert spans.all()[-1].attributes[names.CACHE_SIMILARITY] > 0.9
    for other in (
        "What is the refund policy of 2026?",
        "What is not the refund policy of 2025?",
        "What isn't the refund policy of 2025?",
        "What is the refund policy of 2025 in March?",
        "What is the refund policy of 2025 in $?",
        "What is the shipping cost of 2025?",
    ):
        sent = len(provider.requests)
        ask(client, other)
        assert len(provider.requests) == sent + 1, other
    sent = len(provider.requests)
    with tokenguard.attribution(tenant="t2"):
        ask(client, "What is the refund policy of 2025?")
    ask(client, "What is the refund policy of 2025?", max_tokens=7)
    assert len(provider.requests) == sent + 2


def test_only_watches(provider, under, spans):
    """Without `serve` all is sent, and the span says what would have been served, and how like the real answer was."""
    under(RULE + "threshold = 0.9\n")
    client = provider.client()
    ask(client, "What is the refund policy?")
    provider.answer = lambda: {**canned.chat_body(), "id": "other"}
    ask(client, "the return rules please")
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("miss", None), ("hit", "observe")]
    watched = spans.all()[-1].attributes
    assert watched[names.CACHE_LIKENESS] == 1.0
    body = canned.chat_body()
    body["choices"][0]["message"]["content"] = "Never heard of it."
    provider.answer = lambda: body
    ask(client, "your return policy?")
    assert spans.all()[-1].attributes[names.CACHE_LIKENESS] < 0.5
    assert names.CACHE_SAVED not in watched


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (RULE + "serve = true\n", "labelled pairs of your own"),
        (RULE + "serve = true\nthreshold = 0.9\n", "labelled pairs of your own"),
        (RULE + JUDGED.replace("encode 1", "encode 2"), "another encoder"),
        (RULE + JUDGED + 'encoder_version = "2"\n', "another encoder"),
        ('[[cache]]\nname = "a"\nmatch = "meaning"\n', "go together"),
        ('[[cache]]\nname = "a"\nencoder = "a:b"\n', "go together"),
        ('[[cache]]\nname = "a"\nserve = true\n', 'serve = true: it needs match = "meaning"'),
    ],
)
def test_policy_errors(rule, said):
    """What has not been judged for this very encoder cannot serve."""
    with pytest.raises(PolicyError, match=re.escape(said)):
        policy.loads(rule)


@pytest.mark.parametrize("encoder", ["slow", "broken", "gone"])
def test_encoder_that_fails(encoder, provider, under, spans, caplog):
    """An encoder that fails, is late, or is not there is a miss; the call waits no longer than a look-up may take."""
    waits.clear()
    rule = RULE.replace(":encode", f":{encoder}") + JUDGED.replace(":encode", f":{encoder}")
    under(rule, '[answers]\ntimeout = "50ms"\n')
    client = provider.client()
    began = time.monotonic()
    for _ in range(2):
        ask(client, "What is the refund policy?")
    took = time.monotonic() - began
    waits.set()
    assert took < 1.5
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("miss", "encoder")] * 2
    assert caplog.text.count("calls are sent meanwhile") == 1


def test_never_on_the_loop(provider, under):
    """Asynchronous calls are encoded in a thread."""
    under(RULE + JUDGED)
    encode.threads.clear()

    async def both():
        client = provider.aclient()
        await client.chat.completions.create(**asking("What is the refund policy?"))
        await client.chat.completions.create(**asking("the return rules?"))

    connections.run(both())
    assert len(provider.requests) == 1
    assert len(encode.threads) >= 2  # a call of the test before may still be under way
    assert set(encode.threads) == {"tokenguard-encode"}


def test_another_process(provider, under, tmp_path, installed):
    """What one process has kept in a file, another one finds; nothing of it is there in clear."""
    answers = '[answers]\nurl = "sqlite:///a.db"\ntimeout = "2s"\n'
    guard = under(RULE + JUDGED, answers)
    client = provider.client()
    first = ask(client, "What is the refund policy?")
    guard.answers.finish()
    assert [each.entries for each in guard.answers.store.stats()] == [1]
    guard.answers.meanings = None  # as in a process that begins
    assert ask(client, "the return rules?") == first
    assert len(provider.requests) == 1
    ((key, data),) = guard.answers.store._open().execute("SELECT key, data FROM answer WHERE grouped = ''").fetchall()
    from tokenguard.answers.entry import decode

    about = decode(guard.answers.box.open(key, data)).about
    assert about == {"encoder": "answers.test_meaning:encode 1", "version": "1", "per": "tenant=t1"}
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("a.db*"))
    assert b"refund" not in on_disk
    assert b"Paris" not in on_disk
    assert guard.answers.store.clear("faq") == 1
    ask(client, "the return rules?")
    assert len(provider.requests) == 2


def test_hard_facts():
    """Numbers, in digits and words, signs, dates, negations and one of two opposites must be equal."""
    same = hard_facts("How do I get my money back?")
    assert same == hard_facts("refund please")
    for other in (
        "5 refunds",
        "two refunds",
        "no refund",
        "can't get it",
        "refund > 5",
        "in May",
        "stop it",
        "v2 of it",
    ):
        assert hard_facts(other) != same
    assert hard_facts("from 5 to 7") != hard_facts("from 7 to 5")


def test_index(monkeypatch):
    """The nearest is found, whatever was dropped, and the oldest go when there are too many."""
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(vectors, "MOST", 100)
    monkeypatch.setitem(sys.modules, "faiss", None)
    drawn = np.random.default_rng(7).normal(size=(250, 32)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    index = vectors.Index()
    for n, vector in enumerate(drawn):
        index.add(n.to_bytes(32, "big"), vector)
    assert len(index) == 100
    for n in range(150, 250):
        assert index.nearest(drawn[n]).key == n.to_bytes(32, "big")
    assert index.nearest(drawn[0]).similarity < 0.99
    index.drop((200).to_bytes(32, "big"))
    assert index.nearest(drawn[200]).key != (200).to_bytes(32, "big")
    assert index.nearest(drawn[201][:16]) is None


def test_many(monkeypatch):
    """Beyond what is all compared, vectors are in groups: what is near enough to be served is found."""
    np = pytest.importorskip("numpy")
    pytest.importorskip("faiss", reason="faiss is not installed: large partitions are not tried")
    monkeypatch.setattr(vectors, "MOST", 500)
    monkeypatch.setattr(vectors, "MOST_GROUPED", 4_000)
    random = np.random.default_rng(7)
    drawn = random.normal(size=(5_000, 32)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    keys = [n.to_bytes(32, "big") for n in range(5_000)]
    index = vectors.Index()
    for key, vector in zip(keys[:3_000], drawn, strict=False):
        index.add(key, vector)
    assert len(index) == 3_000
    for n in range(0, 3_000, 50):
        asked = drawn[n] + 0.05 * random.normal(size=32).astype(np.float32) / 32**0.5
        near = index.nearest(asked / np.linalg.norm(asked))
        assert near.key == keys[n]
        assert 0.99 < near.similarity <= 1
    index.drop(keys[50])
    assert index.nearest(drawn[50]).key != keys[50]
    index.add(keys[50], drawn[50])
    assert index.nearest(drawn[50]).key == keys[50]
    assert index.nearest(drawn[50][:16]) is None
    for key, vector in zip(keys[3_000:], drawn[3_000:], strict=True):
        index.add(key, vector)
    assert 3_000 <= len(index) <= 4_000
    assert index.nearest(drawn[4_999]).key == keys[4_999]
    assert index.nearest(drawn[0]).similarity < 0.99  # the oldest are gone


def test_many_without_faiss(monkeypatch):
    """Without it, the oldest go."""
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(vectors, "MOST", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = vectors.Index()
    for n, vector in enumerate(np.eye(12, dtype=np.float32)):
        index.add(n.to_bytes(32, "big"), vector)
    assert len(index) == 10


@pytest.fixture
def static_model(tmp_path):
    """The folder of one that knows two words."""
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed: static models are not tried")
    np = pytest.importorskip("numpy")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "refund": 2, "shipping": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    made = model2vec.StaticModel(np.eye(4, dtype=np.float32), tokenizer)
    made.save_pretrained(str(tmp_path / "model"))
    return tmp_path / "model"


def test_static_model(static_model):
    """`model2vec:` names a static model, by its folder here."""
    encode_with = encoder_of(f"model2vec:{static_model}")
    one, same, other = unit_vectors(encode_with, ["refund", "refund", "shipping"])
    assert float(one @ same) == pytest.approx(1.0)
    assert float(one @ other) < 0.5


@pytest.mark.parametrize("name", ["minishlab/potion-base-2M", "./models/our-own", "potion"])
def test_static_models_in_a_policy(name):
    """A model's name, with its owner's, and a folder are encoders; nothing behind the colon is none."""
    rule = f'[[cache]]\nname = "faq"\nmatch = "meaning"\nencoder = "model2vec:{name}"\n'
    assert policy.loads(rule, "t.toml").caches[0].encoder == f"model2vec:{name}"
    with pytest.raises(PolicyError, match='or a model as "model2vec:NAME OR FOLDER"'):
        policy.loads(rule.replace(name, ""), "t.toml")


def test_static_model_serves(static_model, provider, under):
    """From the policy to the answer."""
    named = f"model2vec:{static_model}"
    judged = JUDGED.replace("answers.test_meaning:encode", named)
    under(RULE.replace("answers.test_meaning:encode", named) + judged, '[answers]\ntimeout = "30s"\n')
    client = provider.client()
    for text, sent in (("refund rules", 1), ("refund conditions", 1), ("shipping rules", 2)):
        ask(client, text)
        assert len(provider.requests) == sent


def test_eval(tmp_path):
    """`cache eval --rule` finds the lowest threshold that is wrong seldom enough, and writes it into the rule."""
    path = tmp_path / "tokenguard.toml"
    path.write_text(
        f'# ours\n[[cache]]\nname = "exact one"\n\n{RULE}threshold = 0.5  # a guess\n\n[attribution]\nkeys = []\n'
    )
    pairs = tmp_path / "pairs.jsonl"
    same = [{"a": "What is your refund policy?", "b": "the return rules", "same": True}] * 5
    apart = [
        {"a": f"cost of a{chr(97 + n % 26)}", "b": f"colour of b{chr(97 + n // 26)}", "same": False} for n in range(100)
    ]
    trap = [
        {"a": "order 1", "b": "order 2", "same": False},
        {"a": "refund rules", "b": "no refund rules", "same": False},
    ]
    pairs.write_text("\n".join(map(json.dumps, same + apart + trap)))

    def run(*more):
        return CliRunner().invoke(group, ["cache", "eval", str(pairs), "--policy", str(path), *more])

    said = run("--rule", "faq")
    assert said.exit_code == 0, said.output
    assert "served: 5 of 5 same pairs" in said.output
    found = policy.load(path).caches[1]
    assert found.pairs == 107
    assert found.wrong_share is not None
    assert found.wrong_share <= 0.01
    assert 0 < found.threshold <= 1
    assert found.judged == found.encodes
    assert path.read_text().startswith('# ours\n[[cache]]\nname = "exact one"\n')
    assert "[attribution]" in path.read_text()
    path.write_text(path.read_text().replace('name = "faq"\n', 'name = "faq"\nserve = true\n'))
    assert policy.load(path).caches[1].serve
    assert run("--rule", "faq", "--max-wrong", "0.001").exit_code == 1
    assert run("--rule", "nobody").exit_code == 2


def test_functions_of_the_folder(tmp_path, monkeypatch):
    """Commands find the functions that a policy names where the program is started, and beside the policy."""
    monkeypatch.setattr("sys.path", list(sys.path))
    folder = tmp_path / "project"
    (folder / "below").mkdir(parents=True)
    (folder / "beside_policy.py").write_text("def encode(texts):\n    return [[float(len(t)), 1.0] for t in texts]\n")
    rule = '[[cache]]\nname = "faq"\nmatch = "meaning"\nencoder = "{}:encode"\nencoder_version = "1"\n'
    (folder / "tokenguard.toml").write_text(rule.format("beside_policy"))
    pairs = folder / "pairs.jsonl"
    said = [{"a": "a b", "b": "b a", "same": True}, *({"a": "a", "b": "b" * 999, "same": False} for _ in range(100))]
    pairs.write_text("\n".join(map(json.dumps, said)))
    monkeypatch.chdir(folder / "below")
    arguments = ["cache", "eval", str(pairs), "--rule", "faq"]
    found = CliRunner().invoke(group, arguments)
    assert "served: 1 of 1 same pair" in found.output, found.output
    (folder / "tokenguard.toml").write_text(rule.format("nowhere_at_all"))
    missing = CliRunner().invoke(group, arguments)
    assert "nowhere_at_all:encode cannot be imported: No module named" in str(missing.exception)
    (folder / "failing_encoder.py").write_text("def encode(texts):\n    raise OSError('no model')\n")
    (folder / "tokenguard.toml").write_text(rule.format("failing_encoder"))
    failed = CliRunner().invoke(group, arguments)
    assert failed.exit_code == 2
    assert "The encoder failing_encoder:encode failed: OSError: no model" in failed.output


@pytest.mark.parametrize(
    ("same", "different", "threshold"),
    [
        ([0.99, 0.95, 0.80], [0.90, 0.5], 0.95),
        ([0.99, 0.95, 0.80], [0.2, -1.0], 0.80),
        ([0.99, 0.80], [-1.0, -1.0], 0.80),
        ([0.5], [0.9, 0.9], 1.0),
        ([], [0.1], 1.0),
        ([1.0], [1.0], None),
    ],
)
def test_threshold(same, different, threshold):
    """As low as the pairs that are the same need, and no lower: nothing is known of questions that are less alike."""
    pairs = [*(Pair("a", "b", True) for _ in same), *(Pair("a", "b", False) for _ in different)]
    assert threshold_for(pairs, [*same, *different], 0.01) == threshold
