"""Kept answers: what is looked up, what is kept, whose it is, and what the books say of it."""

from __future__ import annotations

import copy
import datetime
import functools
import importlib
import json
import ssl
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import httpx2
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import canned
import connections
import tokenguard
from exported import metric_points
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names

RULE = '[[cache]]\nname = "faq"\n'
PICTURE = "data:image/png;base64,AA"
SAID = [{"role": "user", "content": "What is the capital of France?"}]


class Provider:
    """An in-process provider that counts what it gets, and answers as it is told."""

    def __init__(self):
        self.requests = []
        self.answer = canned.chat_body
        self.status = 200

    def __call__(self, request):
        self.requests.append(json.loads(request.content))
        if json.loads(request.content).get("stream"):
            events = [*canned.chat_events(), "[DONE]"]
            body = "".join(f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in events)
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)
        return httpx2.Response(self.status, json=self.answer())

    def client(self, **more):
        http = httpx2.Client(transport=httpx2.MockTransport(self))
        return openai.OpenAI(api_key="k", http_client=http, max_retries=0, **more)

    def aclient(self):
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return openai.AsyncOpenAI(api_key="k", http_client=http, max_retries=0)


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def under(under):
    """Puts the calls of one test under a policy, with `tenant` and what else it needs by default."""

    def put(text, attribution='defaults = { tenant = "t1" }'):
        return under(f"{text}\n[attribution]\n{attribution}\n", "tokenguard.toml")

    return put


def ask(client, **more):
    return client.chat.completions.create(
        **{"model": "gpt-4o-mini", "messages": SAID, "temperature": 0, "max_tokens": 500, **more}
    )


SEARCH = ("gpt-4o-search-preview", "gpt-5-search-api", "o4-mini-deep-research", "sonar", "perplexity/sonar-pro")
SEARCH = (*SEARCH, "groq/compound-mini", "openai/gpt-4o-mini:online")


def looked_up(spans):
    return [(span.attributes.get(names.CACHE_RESULT), span.attributes.get(names.CACHE_REASON)) for span in spans.all()]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"temperature": 0.7}, "sampled"),
        ({"temperature": openai.omit}, "sampled"),
        ({"n": 2}, "several"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "hosted"),
        ({"web_search_options": {}}, "hosted"),
        ({"extra_body": {"conversation": "c1"}}, "history"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}
                ]
            },
            "files",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]}]}, "files"),
        *(({"model": model}, "hosted") for model in SEARCH),
    ],
)
def test_what_is_not_looked_up(asked, reason, provider, under, spans):
    """What may be answered otherwise the next time is sent each time, and the span says why."""
    under(RULE)
    client = provider.client()
    ask(client, **asked)
    ask(client, **asked)
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("skip", reason)] * 2


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("sampled = true", {"temperature": 0.7}),
        ("", {"model": "sonar", "extra_body": {"disable_search": True}}),
        ("tools = true", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
        ("", {"messages": [{"role": "user", "content": 'is "file_id": in here, or "url":"https://x.test"?'}]}),
        (
            "",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]},
        ),
    ],
)
def test_what_is_looked_up(rule, asked, provider, under, spans):
    """Where the rule says so, or nothing speaks against it, the second call is served."""
    under(RULE + rule)
    client = provider.client()
    first, second = ask(client, **asked), ask(client, **asked)
    assert len(provider.requests) == 1
    assert second == first
    assert looked_up(spans) == [("miss", None), ("hit", None)]


def with_choice(**more):
    body = canned.chat_body()
    body["choices"][0].update(more)
    return body


CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (with_choice(finish_reason="length"), "finish"),
        (with_choice(finish_reason="content_filter"), "finish"),
        (with_choice(message={"role": "assistant", "content": None, "refusal": "I will not."}), "finish"),
        (with_choice(message={"role": "assistant", "content": None, "tool_calls": CALLS}), "tool_call"),
        (with_choice(message={"role": "assistant", "content": "x" * 3000}), "size"),
        ({**canned.chat_body(), "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}}, "empty"),
        (
            {
                **canned.chat_body(),
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 12,
                    "server_tool_use": {"web_search_requests": 2},
                },
            },
            "hosted",
        ),
    ],
)
def test_what_is_not_kept(answer, reason, provider, under, spans):
    """An answer that was cut off, filtered, calls a tool, is too large or says nothing is not given to the next."""
    under(RULE + "max_entry_kib = 2")
    provider.answer = lambda: answer
    client = provider.client()
    ask(client)
    ask(client)
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("miss", reason)] * 2


def test_shorter_time(under, provider, monkeypatch):
    """Where a rule's time gets shorter, or a clock is set back, what was kept before is as old as it is."""
    began = time.time()
    clock = [began]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    client = provider.client()
    for ttl, later, sent in (("1h", 0, 1), ("1h", 1800, 1), ("10m", 1800, 2), ("10m", 1800, 2), ("1h", -7200, 3)):
        under(f'{RULE}ttl = "{ttl}"')
        clock[0] = began + later
        ask(client)
        assert len(provider.requests) == sent


def test_failure_is_not_kept(provider, under, spans):
    """An error is its caller's, and the next call is sent."""
    under(RULE)
    provider.status = 500
    client = provider.client()
    with pytest.raises(openai.InternalServerError):
        ask(client)
    provider.status = 200
    ask(client)
    ask(client)
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("miss", "error"), ("miss", None), ("hit", None)]


def test_what_a_client_is_made_with(provider, under):
    """Headers and parameters of the HTTP client count, and so does whatever of a client is changed later."""
    under(RULE)

    def client(**http):
        own = httpx2.Client(transport=httpx2.MockTransport(provider), **http)
        return openai.OpenAI(api_key="k", http_client=own, max_retries=0)

    plain = client()
    for each in (plain, client(headers={"x-org": "a"}), client(headers={"x-org": "b"}), client(params={"v": "2"})):
        for _ in range(2):
            ask(each)
    assert len(provider.requests) == 4
    for change in (
        lambda: setattr(plain, "api_key", "other"),
        lambda: plain._client.headers.update({"x-org": "c"}),
        lambda: setattr(plain._client, "params", {"v": "3"}),
        lambda: plain._custom_headers.update({"x-team": "d"}),
        lambda: plain._custom_headers.update({"x-team": "e"}),
        lambda: plain._custom_query.update({"v": "4"}),
        lambda: setattr(plain, "base_url", "https://elsewhere.example/v1"),
    ):
        before = len(provider.requests)
        change()
        for _ in range(2):
            ask(plain)
        assert len(provider.requests) == before + 1
    ask(copy.copy(plain))
    assert len(provider.requests) == 11


ASKING = ContextVar("asking", default="")


def with_auth(account, http):
    """Credentials as a company's library has them, for whichever httpx."""

    class Signing(http.Auth):
        account: str

        def auth_flow(self, request):
            request.headers["authorization"] = self.account
            yield request

    made = Signing()
    made.account = account
    return {"auth": made}


def with_slots(account, http):
    """Credentials that keep no `__dict__`, and a number for a name."""

    class Signing(http.Auth):
        __slots__ = ("user_id",)

        def auth_flow(self, request):
            request.headers["authorization"] = str(self.user_id)
            yield request

    made = Signing()
    made.user_id = {"alice": 1, "bob": 2}[account]
    return {"auth": made}


def with_context(account, http):
    """Credentials of whom a web server works for now."""

    class Signing(http.Auth):
        def auth_flow(self, request):
            request.headers["authorization"] = ASKING.get()
            yield request

    ASKING.set(account)
    return {"auth": Signing()}


def with_hook(account, http):
    """A function that adds them, with a default of its own, as in a loop over accounts."""

    def add(request, account=account):
        request.headers["authorization"] = account

    return {"event_hooks": {"request": [add]}}


def with_transport(account, http):
    """What adds them further below, around an ordinary transport."""

    class Signing(http.BaseTransport):
        def __init__(self):
            self.account = account
            self.inner = http.HTTPTransport()

        def handle_request(self, request):
            request.headers["authorization"] = self.account
            return self.inner.handle_request(request)

        def close(self):
            self.inner.close()

    return {"transport": Signing()}


def with_mount(account, http):
    """The same, for the addresses of one scheme."""
    return {"mounts": {"http://": with_transport(account, http)["transport"]}}


@functools.cache
def certificate(account):
    """A file with a client certificate of this account's and its key, as `ssl` loads it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, account)])
    begins = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(begins).not_valid_after(begins + datetime.timedelta(9999))
    plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    file = Path(tempfile.mkdtemp()) / "client.pem"
    file.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return file


def with_certificate(account):
    """A TLS context that shows a client certificate."""
    context = ssl.create_default_context()
    context.load_cert_chain(certificate(account))
    return context


ADDED = {
    "certificate": lambda account, http: {"verify": with_certificate(account)},
    "password": lambda account, http: {"auth": (account, "x")},
    "credentials": with_auth,
    "slots": with_slots,
    "context": with_context,
    "cookie": lambda account, http: {"cookies": {"session": account}},
    "header": lambda account, http: {"headers": {"x-org": account}},
    "query": lambda account, http: {"params": {"org": account}},
    "hook": with_hook,
    "transport": with_transport,
    "mount": with_mount,
}
"""What two people's clients of httpx add to their requests."""


def ask_by(sdk, url, account, adds):
    """Ask with an SDK whose HTTP client adds this."""
    home = {
        "openai": "openai._base_client",
        "mistralai": "mistralai.client.basesdk",
        "huggingface": "huggingface_hub.utils._http",
        "huggingface async": "huggingface_hub.utils._http",
    }.get(sdk)
    http = httpx2 if home and hasattr(importlib.import_module(home), "httpx2") else importlib.import_module("httpx")
    added = adds(account, http)
    if sdk == "ollama":
        client = importlib.import_module("ollama").Client(host=url, **added)
        with client._client:
            client.chat("llama3", SAID, options={"temperature": 0})
        return
    if sdk == "huggingface async":
        connections.run(ask_hugging_face(url, lambda: http.AsyncClient(**added)))
        return
    with http.Client(**added) as own:
        if sdk == "openai":
            ask(openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=own, max_retries=0))
        elif sdk == "mistralai":
            kind = importlib.import_module("mistralai.client").Mistral
            client = kind(api_key="k", server_url=url, client=own)
            client.chat.complete(model="mistral-small", messages=SAID, temperature=0)
        elif sdk == "cohere":
            client = importlib.import_module("cohere").ClientV2(api_key="k", base_url=url, httpx_client=own)
            client.chat(model="command-r", messages=SAID, temperature=0)
        elif sdk == "huggingface":
            hub = pytest.importorskip("huggingface_hub", minversion="1")
            hub.set_client_factory(lambda: own)
            try:
                client = hub.InferenceClient(base_url=f"{url}/v1", api_key="k")
                client.chat_completion(model="m", messages=SAID, temperature=0)
            finally:
                hub.set_client_factory(importlib.import_module(home).default_client_factory)
        elif sdk == "litellm":
            litellm = pytest.importorskip("litellm")
            handler = importlib.import_module("litellm.llms.custom_httpx.http_handler").HTTPHandler(client=own)
            model = "anthropic/claude-haiku-4-5"
            litellm.completion(model, SAID, temperature=0, api_base=url, api_key="k", client=handler)
        else:
            options = {"base_url": url, "httpx_client": own}
            client = importlib.import_module("google.genai").Client(api_key="k", http_options=options)
            said = SAID[0]["content"]
            client.models.generate_content(model="gemini-2.5-flash", contents=said, config={"temperature": 0})


async def ask_hugging_face(url, make):
    hub = pytest.importorskip("huggingface_hub", minversion="1")
    hub.set_async_client_factory(make)
    try:
        async with hub.AsyncInferenceClient(base_url=f"{url}/v1", api_key="k") as client:
            await client.chat_completion(model="m", messages=SAID, temperature=0)
            await client.chat_completion(model="m", messages=SAID, temperature=0)
    finally:
        hub.set_async_client_factory(
            importlib.import_module("huggingface_hub.utils._http").default_async_client_factory
        )


@pytest.mark.parametrize("adds", ADDED.values(), ids=ADDED)
@pytest.mark.parametrize(
    "sdk",
    [
        *("openai", "mistralai", "cohere", "google", "ollama", "huggingface", "huggingface async"),
        pytest.param("litellm", marks=pytest.mark.filterwarnings("ignore")),  # its own
    ],
)
def test_what_an_http_client_adds(sdk, adds, under, monkeypatch):
    """Credentials and cookies of the HTTP client that an SDK is given are the caller's: nobody gets another one's."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    if sdk == "huggingface async" and adds in (with_hook, with_transport, with_mount):
        pytest.skip("these are of the synchronous client")
    with SimulatedProvider() as server:
        under(RULE)
        for account, sent in (("alice", 1), ("alice", 1), ("bob", 2), ("alice", 2)):
            ask_by(sdk, server.url, account, adds)
            assert len(server.requests) == sent, account


def test_credentials_that_are_set_later(provider, under):
    """What decides with each request who asks is looked at with each: an attribute set later, a hook put in later."""
    under(RULE)
    http = httpx2.Client(transport=httpx2.MockTransport(provider), **with_auth("alice", httpx2))
    own = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
    ask(own)
    http.auth.account = "bob"
    ask(own)
    assert len(provider.requests) == 2
    http.auth.account = "alice"
    ask(own)
    assert len(provider.requests) == 2
    http.event_hooks["request"].append(lambda request: request.headers.update({"x-on-behalf-of": "carol"}))
    ask(own)
    assert len(provider.requests) == 3


def test_bedrocks_own_keys(under, monkeypatch):
    """Two clients that go by an API key of Bedrock each, and by no other: each has its own answers."""
    boto3 = pytest.importorskip("boto3", minversion="1.39")
    under(RULE)
    with SimulatedProvider() as server:
        for token, sent in (("a", 1), ("a", 1), ("b", 2)):
            monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
            client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url)
            converse(client)
            assert len(server.requests) == sent, token


def of_bedrock(url, account, way):
    """A client of boto3 that signs as everybody does, and differs in this."""
    boto3 = pytest.importorskip("boto3", minversion="1.39")
    configs = {
        "certificate": {"client_cert": str(certificate(account))},
        "proxy": {"proxies": {"https": f"http://{account}:x@127.0.0.1:1"}},
    }
    config = importlib.import_module("botocore.config").Config(**configs.get(way, {}))
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=url, config=config, **keys)

    def add(request, account=account, **kwargs):
        request.headers["x-on-behalf-of"] = account

    if way == "handler":
        client.meta.events.register("before-sign.bedrock-runtime", add)
    elif way == "first handler":
        client.meta.events.register_first("request-created", functools.partial(add, account=account))
    return client


@pytest.mark.parametrize("kind", ["AnthropicBedrock", "AnthropicVertex"])
def test_credentials_that_a_client_looks_for(kind, under, monkeypatch):
    """A client for a cloud that is given none takes those of its surroundings: what these say counts."""
    anthropic = importlib.import_module("anthropic")
    sent = []

    def answer(request):
        sent.append(request)
        return httpx2.Response(200, json=canned.message_body())

    under(RULE)
    names = {"AnthropicBedrock": "AWS_ACCESS_KEY_ID", "AnthropicVertex": "GOOGLE_APPLICATION_CREDENTIALS"}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    given = {"aws_region": "us-east-1"} if kind == "AnthropicBedrock" else {"region": "eu", "project_id": "p"}
    for account, many in (("alice", 1), ("alice", 1), ("bob", 2), ("alice", 2)):
        monkeypatch.setenv(names[kind], account)
        http = httpx2.Client(transport=httpx2.MockTransport(answer))
        client = getattr(anthropic, kind)(**given, http_client=http, max_retries=0)
        monkeypatch.setattr(type(client), "_prepare_request", lambda self, request: None)  # signs by them
        client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=SAID, extra_body={"temperature": 0})
        assert len(sent) == many, account


def test_surroundings_of_others_do_not_count(provider, under, monkeypatch):
    """A client that goes by an API key shares its answers, whoever the process is to a cloud."""
    under(RULE)
    for profile in ("a", "b"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        ask(openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(provider))))
    assert len(provider.requests) == 1


@pytest.mark.parametrize("way", ["certificate", "proxy", "handler", "first handler"])
def test_what_a_client_of_botos_adds(way, under):
    """Event handlers, client certificates and proxies of boto3's clients are the caller's."""
    under(RULE)
    with SimulatedProvider() as server:
        for account, sent in (("alice", 1), ("alice", 1), ("bob", 2), ("alice", 2)):
            converse(of_bedrock(server.url, account, way))
            assert len(server.requests) == sent, account


def test_a_handler_that_is_registered_later(under):
    """A handler of boto3's that is registered, or taken away, between two calls is seen with the next."""
    under(RULE)

    def add(request, **kwargs):
        request.headers["x-on-behalf-of"] = "bob"

    with SimulatedProvider() as server:
        client = of_bedrock(server.url, "alice", "")
        events = client.meta.events
        for change, sent in (
            (None, 1),
            (lambda: events.register("before-send", add), 2),
            (lambda: events.unregister("before-send", add), 2),
        ):
            if change is not None:
                change()
            converse(client)
            assert len(server.requests) == sent


def converse(client):
    asked = [{"role": "user", "content": [{"text": "hi"}]}]
    client.converse(modelId="amazon.nova-lite-v1:0", messages=asked, inferenceConfig={"temperature": 0})


@pytest.mark.parametrize("added", ["connector", "headers", "cookies", "middlewares", "trace_configs"])
def test_what_an_aiohttp_session_adds(added, under):
    """A session of one's own for voyageai: what it adds is the caller's."""
    voyageai = pytest.importorskip("voyageai")
    aiohttp = pytest.importorskip("aiohttp")

    def adds(account):
        async def between(request, handler):
            request.headers["x-org"] = account
            return await handler(request)

        async def on_start(session, context, params):
            params.headers["x-org"] = account

        traced = aiohttp.TraceConfig()
        traced.on_request_start.append(on_start)
        return {
            "connector": aiohttp.TCPConnector(ssl=with_certificate(account)),
            "headers": {"x-org": account},
            "cookies": {"session": account},
            "middlewares": (between,),
            "trace_configs": [traced],
        }[added]

    async def work(url, account):
        async with aiohttp.ClientSession(**{added: adds(account)}) as session:
            voyageai.aiosession.set(session)
            client = voyageai.AsyncClient(api_key="k", base_url=f"{url}/v1")
            await client.embed(["a"], model="voyage-3.5")

    with SimulatedProvider() as server:
        under(RULE)
        for account, sent in (("alice", 1), ("alice", 1), ("bob", 2)):
            connections.run(work(server.url, account))
            assert len(server.requests) == sent, account


def test_cookies_that_are_set_later(provider, under):
    """A cookie that the program sets counts from then on; one that a server has set is of that sitting."""
    under(RULE)
    http = httpx2.Client(transport=httpx2.MockTransport(provider))
    own = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
    ask(own)
    http.cookies.set("__cf_bm", "1", domain="api.openai.com")
    ask(own)
    assert len(provider.requests) == 1
    http.cookies.set("session", "alice")
    ask(own)
    http.cookies.set("session", "bob")
    ask(own)
    assert len(provider.requests) == 3
    http.cookies.set("session", "alice")
    ask(own)
    assert len(provider.requests) == 3


def test_whose_they_are(provider, under):
    """Another tenant, another credential, another host: nobody gets what somebody else was told."""
    under(RULE)
    ask(provider.client())
    with tokenguard.attribution(tenant="t2"):
        ask(provider.client())
    ask(provider.client(organization="o2"))
    ask(provider.client(base_url="https://other.test/v1"))
    ask(provider.client(default_headers={"openai-beta": "x"}))
    ask(provider.client(default_query={"api-version": "2"}))
    ask(provider.client(), extra_headers={"openai-beta": "y"})
    assert len(provider.requests) == 7
    ask(provider.client(), user="u1", metadata={"a": "b"}, extra_headers={"traceparent": "00-1-2-00"})
    assert len(provider.requests) == 7


class Renewing:
    """Gives a new token for each request, as one that is renewed."""

    def __init__(self, account):
        self.account = account
        self.given = 0

    def __call__(self):
        self.given += 1
        return f"{self.account} {self.given}"

    def told(self):
        return self()


def closure(account):
    given = Renewing("any")
    return lambda: f"{account} {given()}"


@pytest.mark.parametrize(
    "made",
    [Renewing, lambda account: Renewing(account).told, closure, lambda account: functools.partial(str, account)],
    ids=["object", "method", "closure", "partial"],
)
@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_credentials_that_are_given_by_a_function(kind, made, provider, under):
    """Its tokens do not count, for they change; whose they are does, as far as that is told."""
    under(RULE)

    def client(account):
        http = httpx2.Client(transport=httpx2.MockTransport(provider))
        if kind == "openai":
            return openai.OpenAI(api_key=made(account), http_client=http, max_retries=0)
        own = {"azure_endpoint": "https://h.openai.azure.com", "api_version": "2024-10-21", "max_retries": 0}
        return openai.AzureOpenAI(azure_ad_token_provider=made(account), http_client=http, **own)

    mine, other = client("a"), client("b")
    for _ in range(3):
        ask(mine)
        ask(other)
        ask(mine.with_options(timeout=5))
    assert len(provider.requests) == 2


def test_credentials_of_anthropic(under):
    """The same of an object that the client asks for its token."""
    anthropic = pytest.importorskip("anthropic")
    credentials = pytest.importorskip("anthropic.lib.credentials")
    sent = []

    def answer(request):
        sent.append(request)
        return httpx2.Response(200, json=canned.message_body())

    under(RULE.replace("name", "sampled = true\nname"))
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    for token in ("a", "b", "a"):
        own = anthropic.Anthropic(credentials=credentials.StaticToken(token), http_client=http, max_retries=0)
        own.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=SAID)
    assert len(sent) == 2


def test_lacking_key(provider, under, spans):
    """A call without a value for one of the rule's keys is sent."""
    under(RULE + 'per = ["tenant", "prompt_version"]')
    ask(provider.client())
    assert looked_up(spans) == [("skip", "per")]


def test_request_id(provider, under, spans):
    """An idempotency key of the caller's finds the finished answer, whatever else is asked."""
    under(RULE + 'per = ["request_id"]', 'keys = ["request_id"]')
    with tokenguard.attribution(request_id="r1"):
        ask(provider.client())
        ask(provider.client())
    with tokenguard.attribution(request_id="r2"):
        ask(provider.client())
    assert len(provider.requests) == 2


def test_late_answer(provider, under, spans):
    """Somebody stops waiting and asks again by the same request id: the first answer is theirs, late or just then."""
    rules = 'per = ["request_id"]\n[[share]]\nname = "at once"\nper = ["request_id"]\n'
    under(RULE + rules, 'keys = ["request_id"]')
    answers = threading.Event()
    provider.answer = lambda: answers.wait(5) and canned.chat_body()
    client = provider.client()

    def work():
        with tokenguard.attribution(request_id="r1"):
            return ask(client)

    with ThreadPoolExecutor(2) as pool:
        given_up = pool.submit(work)
        with pytest.raises(TimeoutError):
            given_up.result(timeout=0.05)
        again = pool.submit(work)
        answers.set()
        assert again.result() == given_up.result()
    assert work() == again.result()
    assert len(provider.requests) == 1
    assert spans.all()[-1].attributes[names.CACHE_RESULT] == "hit"


def test_parse_stream_and_raw(provider, under):
    """One entry serves whoever asks for it: plainly, parsed, raw; a stream has its own, and helpers read it."""
    under(RULE)
    client = provider.client()
    first = ask(client)
    asked = {"model": "gpt-4o-mini", "messages": SAID, "temperature": 0, "max_tokens": 500}
    assert client.chat.completions.with_raw_response.create(**asked).parse() == first
    with client.chat.completions.with_streaming_response.create(**asked) as response:
        assert json.loads(response.read()) == canned.chat_body()
    parsed = client.chat.completions.parse(**asked)
    assert parsed.choices[0].message.content == "Paris."
    assert len(provider.requests) == 1
    whole = list(ask(client, stream=True))
    with client.chat.completions.stream(**asked) as events:
        assert events.get_final_completion().choices[0].message.content == "Paris."
    with client.chat.completions.with_streaming_response.create(**asked, stream=True) as response:
        lines = list(response.iter_lines())
    assert list(ask(client, stream=True)) == whole
    assert len(provider.requests) == 2
    assert lines[-1 - (not lines[-1])] == "data: [DONE]"
    assert not any('"choices": [], "usage"' in line for line in lines)  # which only TokenGuard had asked for


def test_async(provider, under):
    """The same for asynchronous clients; an answer is the same whoever has asked for it first."""
    under(RULE)

    async def both():
        client = provider.aclient()
        first = await ask(client)
        second = await ask(client)
        items = [[item async for item in await ask(client, stream=True)] for _ in range(2)]
        return first == second, items[0] == items[1], first

    same, same_items, first = connections.run(both())
    assert same
    assert same_items
    assert ask(provider.client()) == first
    assert len(provider.requests) == 2


def test_books(provider, under, spans):
    """A served call costs nothing, counts as served, and its saving is a lever's; nothing is charged to a budget."""
    guard = under(
        RULE
        + '[[budget]]\nname = "b"\nlimit_usd = 0.0004\n'
        + '[[breaker]]\nname = "open"\nfailures = 1\n'
        + '[ledger]\nurl = "memory:"\n',
        'defaults = { tenant = "books" }',
    )
    client = provider.client()
    ask(client, max_tokens=300)
    (account,) = guard.ledger.accounts()
    with tokenguard.meter() as m:
        ask(client, max_tokens=300)  # the budget would have no room for it
    assert (m.cost_usd, m.input_tokens, m.output_tokens, m.calls) == (0.0, 0, 0, 1)
    assert list(guard.ledger.accounts()) == [account]
    served = spans.all()[-1].attributes
    assert served[names.COST] == 0.0
    assert served[names.CACHE_SAVED] == pytest.approx(canned.OPENAI_COST)
    assert names.INPUT_TOKENS not in served
    points = metric_points(tenant="books")
    calls = {dict(key).get("served"): value for (name, key), value in points.items() if name == "tokenguard.calls"}
    assert calls == {None: 1, "cache": 1}
    (saved,) = [
        value
        for (name, key), value in points.items()
        if name == "tokenguard.saved.usd" and dict(key)["lever"] == "response_cache"
    ]
    assert saved == pytest.approx(canned.OPENAI_COST)


def test_served_while_the_provider_is_down(provider, under):
    """A breaker that is open does not stand between a call and its kept answer."""
    under(RULE + '[[breaker]]\nname = "down"\nfailures = 1\ncooldown = "1h"\n')
    client = provider.client()
    first = ask(client)
    provider.status = 500
    with pytest.raises(openai.InternalServerError):
        ask(client, max_tokens=9)
    with pytest.raises(tokenguard.CircuitOpen):
        ask(client, max_tokens=9)
    assert ask(client) == first


def test_limits_come_first(provider, under):
    """A call that a limit refuses is refused, and what a limit changes is part of the key."""
    under(RULE)
    client = provider.client()
    ask(client)
    under(RULE + '[[limit]]\nname = "l"\nmax_output_tokens = 100\nthen = "clamp"\n')
    ask(client)
    assert [request["max_tokens"] for request in provider.requests] == [500, 100]
    under(RULE + '[[limit]]\nname = "l"\nmax_output_tokens = 100\n')
    with pytest.raises(tokenguard.LimitExceeded):
        ask(client)


def test_observe(provider, under, spans):
    """Observed, everything is sent, and the span says what would have been served."""
    under('mode = "observe"\n' + RULE)
    client = provider.client()
    ask(client)
    ask(client)
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("miss", None), ("hit", "observe")]
    watched = spans.all()[-1].attributes
    assert watched[names.COST] == pytest.approx(canned.OPENAI_COST)
    assert watched[names.CACHE_LIKENESS] == 1.0
    provider.answer = lambda: with_choice(message={"role": "assistant", "content": "London, I think."})
    ask(client)
    assert spans.all()[-1].attributes[names.CACHE_LIKENESS] == 0.0
    for _ in range(2):
        list(ask(client, stream=True))
    assert spans.all()[-1].attributes[names.CACHE_LIKENESS] == 1.0
    provider.answer = lambda: {
        "object": "list",
        "model": "e",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
        "data": [
            {"object": "embedding", "index": n, "embedding": [1.0, float(len(provider.requests) % 2)]} for n in (0, 1)
        ],
    }
    for _ in range(2):
        client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], encoding_format="float")
    assert spans.all()[-1].attributes[names.CACHE_LIKENESS] == pytest.approx(0.5**0.5)


def test_unusable_entry(provider, under, spans):
    """A kept answer that the SDK cannot read is forgotten, and the call is sent, on one span."""
    guard = under(RULE)
    client = provider.client()
    first = ask(client)
    answers = guard.answers
    answers.waiting.write()
    ((key, item),) = answers.store._items.items()
    entry = answers.box.open(key, item.data)
    broken = entry[: entry.index(b"\n\n") + 2] + b'{"choices": 7'
    answers.store.put(key, item._replace(data=answers.box.seal(key, broken)))
    spans.clear()
    assert ask(client) == first
    assert len(provider.requests) == 2
    assert spans.attributes[names.COST] == pytest.approx(canned.OPENAI_COST)
    assert (spans.attributes[names.CACHE_RESULT], spans.attributes[names.CACHE_REASON]) == ("miss", "error")
    assert names.CACHE_AGE not in spans.attributes
    assert ask(client) == first
    assert len(provider.requests) == 2


def test_damaged_entry(provider, under):
    """An entry that is not what was kept is a miss."""
    guard = under(RULE)
    client = provider.client()
    ask(client)
    guard.answers.waiting.write()
    ((key, item),) = guard.answers.store._items.items()
    guard.answers.store.put(key, item._replace(data=item.data[:-1]))
    ask(client)
    assert len(provider.requests) == 2


def test_words(provider, under, spans):
    """A question in other case, punctuation and filler words is the same; another number, name or negation is not."""
    under(RULE + 'match = "words"')
    client = provider.client()

    def said(text, *before):
        ask(client, messages=[{"role": "system", "content": "Be brief."}, *before, {"role": "user", "content": text}])
        return len(provider.requests)

    assert said("What is the refund policy of 2025?") == 1
    assert said("what's  your REFUND policy of 2025 please") == 1
    assert said("Hello, what is the Refund Policy of 2025?!") == 1
    assert said("What is the refund policy of 2026?") == 2
    assert said("What is not the refund policy of 2025?") == 3
    assert said("What is the refund policy of 2025?", *[{"role": "user", "content": "Hi"}] * 2) == 4
    assert looked_up(spans)[-1] == ("skip", "words")


def test_nobody_gets_anothers(provider, under):
    """Two tenants in fifty threads: each gets its own answers."""
    under(RULE, 'keys = ["tenant"]')
    provider.answer = lambda: {
        **canned.chat_body(),
        "id": tokenguard_tenant(),
    }

    def tokenguard_tenant():
        return threading.current_thread().name

    client = provider.client()
    wrong = []

    def work(tenant):
        threading.current_thread().name = tenant
        for n in range(20):
            with tokenguard.attribution(tenant=tenant):
                answer = ask(client, max_tokens=100 + n % 5)
            if answer.id != tenant:
                wrong.append((tenant, answer.id))

    threads = [threading.Thread(target=work, args=(f"tenant{n % 2}",)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(provider.requests) < 500


def test_files_are_not_known(provider, under, spans):
    """A request whose content is in files is sent: nobody here has read them."""
    under(RULE + "sampled = true")
    provider.answer = lambda: {"text": "Hello."}
    client = openai.OpenAI(
        api_key="k",
        http_client=httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer()))),
    )
    sent = []

    def answer():
        sent.append(1)
        return {"text": "Hello."}

    for sound in (b"one", b"two", b"two"):
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", sound))
    assert len(sent) == 3
    assert {result for result, _ in looked_up(spans)} <= {"skip", None}


def test_media_are_made_anew(provider, under, spans):
    """Pictures are made each time: their answers may name an address that is soon no more."""
    under(RULE + "sampled = true")
    provider.answer = lambda: {"created": 1, "data": [{"url": "https://x.test/1.png"}]}
    client = provider.client()
    for _ in range(2):
        client.images.generate(model="dall-e-3", prompt="a cat")
    assert len(provider.requests) == 2
    assert looked_up(spans) == [("skip", "media")] * 2


def test_one_client_above_another(provider, under):
    """Where httpx sends by aiohttp, which is listened to as well, an answer is kept once, stream or not."""
    pytest.importorskip("httpx_aiohttp")
    pytest.importorskip("aiohttp.client")
    fireworks = pytest.importorskip("fireworks")
    under(RULE)

    async def work(url):
        async with fireworks.AsyncFireworks(api_key="k", base_url=url, max_retries=0) as client:
            asked = {"model": "m", "messages": SAID, "temperature": 0, "stream": True}
            return [[each async for each in await client.chat.completions.create(**asked)] for _ in range(2)]

    with SimulatedProvider() as running:
        first, again = connections.run(work(running.url))
        assert len(running.requests) == 1
    assert again == first
