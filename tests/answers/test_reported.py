"""What users of other caches have reported, each as a case: answers that were served wrongly, or not as they were.

The threads are named by repository and number.
"""

from __future__ import annotations

import json
import random
import zlib

import httpx2
import openai
import pydantic
import pytest

from tokenguard.facts import names

SAID = [{"role": "user", "content": "q"}]


class Provider:
    """Counts what it gets, and numbers its answers."""

    def __init__(self):
        self.requests = []
        self.text = None
        self.refuses = None

    def __call__(self, request):
        asked = json.loads(request.content)
        self.requests.append(asked)
        n, path = len(self.requests), request.url.path
        if asked["model"] == self.refuses:
            return httpx2.Response(404, json={"error": {"message": "no such model"}})
        text = self.text or f"answer {n}"
        head = {"id": f"c{n}", "created": 1, "model": asked["model"]}
        used = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        if path.endswith("/embeddings"):
            data = [
                {"object": "embedding", "index": i, "embedding": vector(x)} for i, x in enumerate(texts(asked["input"]))
            ]
            random.Random(n).shuffle(data)  # as vLLM may
            return httpx2.Response(200, json={"object": "list", "model": "e", "data": data, "usage": used})
        if path.endswith("/responses"):
            said = {"type": "output_text", "text": text, "annotations": []}
            message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]}
            made = {"id": f"resp_{n}", "object": "response", "created_at": 1, "model": asked["model"]}
            made |= {"status": "completed", "output": [message], "parallel_tool_calls": True, "tools": []}
            usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
            return httpx2.Response(200, json={**made, "tool_choice": "auto", "usage": usage})
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            body = {**head, "object": "chat.completion", "choices": [choice], "usage": used}
            return httpx2.Response(200, json=body)
        deltas = [{"role": "assistant", "reasoning_content": "a thought"}, {"content": text}, {}]
        chunks = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]} for delta in deltas
        ]
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks.append({"choices": [], "usage": {**used, "completion_tokens_details": {"reasoning_tokens": 3}}})
        events = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
        body = "".join(f"data: {each}\n\n" for each in [*events, "[DONE]"])
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)


def texts(given):
    return [given] if isinstance(given, str) or type(given[0]) is int else given


def vector(text):
    return [float(len(str(text))), float(sum(map(ord, str(text))))]


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def client(provider):
    http = httpx2.Client(transport=httpx2.MockTransport(provider))
    with openai.OpenAI(api_key="k", http_client=http, max_retries=0) as client:
        yield client


@pytest.fixture
def keeping(under):
    return lambda more="": under(f'[[cache]]\nname = "c"\nper = []\n{more}', "t.toml")


def chat(client, **options):
    return client.chat.completions.create(
        **{"model": "gpt-4o-mini", "messages": SAID, "temperature": 0, "max_tokens": 500, **options}
    )


PARAMETERS = [
    *({"max_tokens": 16}, {"max_completion_tokens": 16, "max_tokens": openai.omit}, {"top_p": 0.5}, {"seed": 1}),
    *({"stop": ["x"]}, {"logit_bias": {"1": 2}}, {"presence_penalty": 1}, {"frequency_penalty": 1}, {"logprobs": True}),
    *({"response_format": {"type": "json_object"}}, {"reasoning_effort": "low"}, {"verbosity": "low"}),
    *({"prediction": {"type": "content", "content": "x"}}, {"parallel_tool_calls": False}, {"model": "gpt-4o"}),
    *({"extra_body": {"num_ctx": 2048}}, {"extra_body": {"num_ctx": 8192}}, {"extra_body": {"safety_settings": []}}),
    *({"extra_headers": {"x-team": "a"}}, {"extra_query": {"api-version": "1"}}, {"extra_body": {"top_k": 5}}),
    *({"messages": [{"role": "system", "content": "Be a poet."}, *SAID]}, {"messages": [{**SAID[0], "name": "n"}]}),
]


def test_parameters(provider, client, keeping):
    """No two requests share an answer that differ in a parameter, named or the provider's own.

    BerriAI/litellm 894, 5049, 25673, 42400; Continuum-AI-Corp/OrcaRouter-Lite 84; openclaw/lobster 130;
    567-labs/instructor 2585; spring-projects/spring-ai 5256; HKUDS/LightRAG 3802.
    """
    keeping()
    for _ in range(2):
        for options in ({}, *PARAMETERS):
            chat(client, **options)
    assert len(provider.requests) == 1 + len(PARAMETERS)  # and each is kept


def test_pictures(provider, client, keeping):
    """Two pictures beside the same words are two questions. langchain-ai/langchainjs 10092."""
    keeping()
    for data in ("AAAA", "AAAB", "AAAA"):
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        chat(client, messages=[{"role": "user", "content": [picture, {"type": "text", "text": "Describe it."}]}])
    assert len(provider.requests) == 2


@pytest.mark.parametrize("first", [False, True])
def test_streams_are_replayed_whole(first, provider, client, keeping):
    """Thoughts and the details of usage are in a replayed stream, and usage in that of whoever has asked for it alone.

    BerriAI/litellm 24579, 32068, 42244.
    """
    keeping()

    def asked(usage):
        options = {"stream_options": {"include_usage": True}} if usage else {}
        chunks = list(chat(client, stream=True, **options))
        assert chunks[0].choices[0].delta.reasoning_content == "a thought"
        told = [chunk.usage for chunk in chunks if chunk.usage is not None]
        assert [usage.completion_tokens_details.reasoning_tokens for usage in told] == ([3] if usage else [])

    for usage in (first, not first) * 2:
        asked(usage)
    assert len(provider.requests) == 2


def zipped(encoding, parts):
    """A stream's parts as a server flushes them; its end comes last."""
    if encoding in ("gzip", "deflate"):
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        return [*(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts), packer.flush()]
    if encoding == "br":
        packer = pytest.importorskip("brotli").Compressor()
        return [*(packer.process(part) + packer.flush() for part in parts), packer.finish()]
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor().compressobj()
    flushed = [packer.compress(part) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts]
    return [*flushed, packer.flush()]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("observe", [False, True])
def test_compressed_streams(encoding, observe, provider, under, spans):
    """A stream that came compressed is kept too: the SDK reads to its last event, and not to the end of its bytes."""
    plain = provider.__call__
    sent = []

    def compressing(request):
        answer = plain(request)
        sent.append(request)
        parts = zipped(encoding, [part + b"\n\n" for part in answer.content.removesuffix(b"\n\n").split(b"\n\n")])
        headers = {"content-type": "text/event-stream", "content-encoding": encoding}
        return httpx2.Response(200, headers=headers, stream=Parts(parts))

    mode = 'mode = "observe"\n' if observe else ""
    under(f'{mode}[[cache]]\nname = "c"\nper = []\n', "t.toml")
    provider.text = "the same each time"
    with (
        httpx2.Client(transport=httpx2.MockTransport(compressing)) as http,
        openai.OpenAI(api_key="k", http_client=http, max_retries=0) as client,
    ):
        said = [[chunk.choices[0].delta.content for chunk in chat(client, stream=True) if chunk.choices] for _ in "abc"]
    assert said[0] == said[1] == said[2]
    assert len(sent) == (3 if observe else 1)
    assert spans.all()[-1].attributes.get(names.CACHE_LIKENESS) == (1.0 if observe else None)


class Parts(httpx2.SyncByteStream):
    """A body as it comes in."""

    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        yield from self.parts


def test_embeddings_come_in_order(provider, client, keeping):
    """Whatever is kept and in what order the others come: each input has its own vector, at its own index.

    BerriAI/litellm 2990, 10424, 20456, 29284, 41002, 41799.
    """
    keeping()
    chance = random.Random(3)
    asked = ["a", ["a"], ["b", "a", "c"], ["c", "c", "d", "a", "d"], [1, 2], [[1, 2], [3]], [[3], [1, 2]]]
    asked += [[f"text {chance.randrange(12)}" for _ in range(chance.randint(1, 6))] for _ in range(20)]
    for given in asked:
        data = client.embeddings.create(model="e", input=given, encoding_format="float").data
        assert [item.embedding for item in sorted(data, key=lambda item: item.index)] == list(map(vector, texts(given)))
        assert sorted(item.index for item in data) == list(range(len(data)))
    known = set()
    for request in provider.requests:
        sent = {str(each) for each in texts(request["input"])}
        assert known.isdisjoint(sent)
        known |= sent


def test_one_text_is_kept_for_many(provider, client, keeping):
    """A text that was asked for by itself is not sent again among others, nor the other way round."""
    keeping()
    for inputs in (["a"], ["b", "a", "c"], ["c"], ["b"]):
        client.embeddings.create(model="e", input=inputs, encoding_format="float")
    assert [request["input"] for request in provider.requests] == [["a"], ["b", "c"]]


class Form(pydantic.BaseModel):
    a: int


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_answer_that_breaks_its_form(api, provider, client, keeping):
    """An answer that the SDK could not parse is not replayed for as long as it is kept. vercel/ai 9594."""
    keeping()

    def parsed():
        if api == "chat":
            made = client.chat.completions.parse(
                model="gpt-4o-mini", temperature=0, messages=SAID, response_format=Form
            )
            return made.choices[0].message.parsed
        return client.responses.parse(model="gpt-4o-mini", temperature=0, input="q", text_format=Form).output_parsed

    provider.text = '{"a": "x"}'
    with pytest.raises(pydantic.ValidationError):
        parsed()
    provider.text = '{"a": 3}'
    assert [parsed(), parsed()] == [Form(a=3)] * 2
    assert len(provider.requests) == 2


def test_another_form(provider, client, keeping):
    """A form that has changed is another question. langchain-ai/langchain 27264, 29003."""
    keeping()
    provider.text = '{"a": 3}'
    other = pydantic.create_model("Form", a=(int, ...), b=(int | None, None))
    for form in (Form, other, Form):
        made = client.chat.completions.parse(model="gpt-4o-mini", temperature=0, messages=SAID, response_format=form)
        assert type(made.choices[0].message.parsed) is form
    assert len(provider.requests) == 2


def test_what_is_to_be_stored(provider, client, keeping):
    """An answer that the provider has not stored is none for who goes on from its id. lunargate-ai/gateway 2."""
    keeping()
    asked = {"model": "gpt-4o-mini", "temperature": 0, "input": "q"}
    ids = [client.responses.create(**asked, store=store).id for store in (False, True, False, True)]
    assert ids == ["resp_1", "resp_2", "resp_1", "resp_2"]


def test_answer_of_another_model(provider, client, keeping):
    """What the caller's own model has answered, as a route's did not fit, is not kept as that one's.

    lunargate-ai/gateway 2: a fallback's answer under the key of the first model.
    """
    route = '[[route]]\nname = "r"\nversion = "{}"\nto = "small"\nwhen = {{ model = "gpt-4o-mini" }}\n'
    keeping(route.format(1))
    provider.refuses = "small"
    assert chat(client).model == "gpt-4o-mini"
    provider.refuses = None
    keeping(route.format(2))
    assert [chat(client).model for _ in range(2)] == ["small", "small"]
    assert [request["model"] for request in provider.requests] == ["small", "gpt-4o-mini", "small"]
