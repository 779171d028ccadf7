"""What is marked exact is exact: the provider's own word, geography, its tools' fees, hosts and models nobody knows."""

from __future__ import annotations

import json
import re

import httpx2
import pytest
from genai_prices.data_snapshot import get_snapshot

import tokenguard
from canned import MESSAGES, anthropic_client, async_openai_client, openai_client
from tokenguard import policy
from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier
from tokenguard.prices.models import PROVIDERS
from tokenguard.providers import HOSTS, geo_of, know_hosts
from tokenguard.providers.hosts import UNKNOWN, endpoint_of

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def answered(body):
    return lambda request: httpx2.Response(200, json=body)


def chat(model="gpt-4o", usage=USAGE, **more):
    message = {"role": "assistant", "content": "Paris."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    } | more


def ask(body, base_url, model="gpt-4o", **more):
    client = openai_client(answered(body), base_url=base_url)
    return client.chat.completions.create(model=model, messages=MESSAGES, **more)


def response(usage, output=(), model="gpt-4o"):
    return {
        "id": "r", "object": "response", "created_at": 1, "status": "completed", "model": model, "output": list(output),
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip


RESPONSE_USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}


@pytest.mark.parametrize(
    ("base_url", "usage", "usd"),
    [
        ("https://api.x.ai/v1", {**USAGE, "cost_in_usd_ticks": 1117650000}, 0.111765),
        ("https://openrouter.ai/api/v1", {**USAGE, "cost": 0.0123}, 0.0123),
        (
            "https://openrouter.ai/api/v1",
            {**USAGE, "cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}},
            0.0021,
        ),
        ("https://api.perplexity.ai", {**USAGE, "cost": {"total_cost": 0.0055}}, 0.0055),
        ("https://api.x.ai/v1", {**USAGE, "cost_in_usd_ticks": "1117650000"}, 0.111765),
        ("https://openrouter.ai/api/v1", {**USAGE, "cost": "0.0123"}, 0.0123),
        ("https://openrouter.ai/api/v1", {**USAGE, "cost": 0}, 0),
    ],
    ids=["xai", "openrouter", "openrouter, own key", "perplexity", "xai as text", "openrouter as text", "free"],
)
def test_the_providers_own_word(base_url, usage, usd, installed, spans):
    """What a provider says that it charged is the cost, exactly, wherever it says so."""
    ask(chat(usage=usage), base_url)
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(usd)
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["tokenguard.cost.source"] == "reported"


def test_its_word_in_responses_and_messages(installed, spans):
    """The same in the other wire formats that such a host speaks."""
    client = openai_client(
        answered(response({**RESPONSE_USAGE, "cost": 0.0123})), base_url="https://openrouter.ai/api/v1"
    )
    client.responses.create(model="gpt-4o", input="?")
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-opus-4-6", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 10, "output_tokens": 2, "cost": 0.0123},
    }  # fmt: skip
    anthropic = anthropic_client(answered(message), base_url="https://openrouter.ai/api")
    anthropic.messages.create(model="claude-opus-4-6", max_tokens=9, messages=MESSAGES)
    assert [span.attributes["tokenguard.cost.usd"] for span in spans] == [pytest.approx(0.0123)] * 2


@pytest.mark.parametrize("said", [-1, 1e300, "much", True, None, {}])
def test_a_word_that_is_no_amount(said, installed, spans):
    """What can be no amount of money is nobody's word: the rates decide."""
    ask(chat(usage={**USAGE, "cost": said}), "https://openrouter.ai/api/v1", "openai/gpt-4o")
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert "tokenguard.cost.source" not in spans.attributes


@pytest.mark.parametrize("host", ["ai-gateway.vercel.sh", "gateway.ai.cloudflare.com", "llm.internal:8000"])
def test_who_passes_calls_on(host, installed, spans):
    """Behind a gateway a model costs what its maker asks, as an estimate, and a budget goes on working."""
    ask(chat(), f"https://{host}/v1/a/b/openai")
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert attributes["tokenguard.cost.basis"] == "assumed_provider"


def test_nobody_elses_word(installed, spans):
    """A field of that name at another host may mean anything."""
    ask(chat(usage={**USAGE, "cost": 99.0}), "https://api.openai.com/v1")
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)


@pytest.mark.parametrize(
    ("host", "geo"),
    [
        ("us-east5-aiplatform.googleapis.com", "regional"),
        ("aiplatform.eu.rep.googleapis.com", "regional"),
        ("aiplatform.googleapis.com", None),
        ("eu.api.openai.com", "regional"),
        ("api.openai.com", None),
        ("us-api.together.ai", "regional"),
        ("mine.openai.azure.us", "sovereign"),
        ("mine.openai.azure.cn", "sovereign"),
        ("bedrock-runtime.us-gov-west-1.amazonaws.com", "sovereign"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "sovereign"),
        ("mine.openai.azure.com", None),
        ("bedrock-runtime.us-west-2.amazonaws.com", None),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "abroad"),
        ("vpce-0a-b.bedrock-runtime.ap-northeast-1.vpce.amazonaws.com", "abroad"),
        ("bedrock-mantle.sa-east-1.api.aws", "abroad"),
        ("gov.api.openai.com", "sovereign"),
        ("api.moonshot.cn", "sovereign"),
        ("api.moonshot.ai", None),
        ("api.minimaxi.com", "sovereign"),
        ("api.minimax.io", None),
    ],
)
def test_geography_of_hosts(host, geo):
    """A host that keeps the work in one place is told from the global one."""
    assert geo_of(host) == geo


@pytest.mark.parametrize(
    ("client", "host"),
    [
        ("AnthropicAWS", "aws-external-anthropic.us-west-2.api.aws"),
        ("AnthropicAWS", "aws-external-anthropic.eu-west-1.api.aws"),
        ("AsyncAnthropicAWS", "vpce-0a.aws-external-anthropic.us-west-2.vpce.amazonaws.com"),
        ("AnthropicGoogleCloud", "claude.googleapis.com"),
        ("Anthropic", "aws-external-anthropic.us-west-2.api.aws"),
        ("Anthropic", "claude.googleapis.com"),
    ],
)
def test_anthropics_platform_in_a_cloud(client, host):
    """It has Anthropic's models, names and prices, and is no Bedrock or Vertex: that was a tenth dearer, `exact`.

    https://docs.aws.amazon.com/claude-platform/latest/userguide/data-residency.html
    """
    anthropic = pytest.importorskip("anthropic", "2")
    assert endpoint_of(getattr(anthropic, client), host, 443, "anthropic").provider == "anthropic"
    usage, tier = Usage(1_000_000, 0), Tier(geo=geo_of(host))
    assert PriceBook().cost("anthropic", "claude-sonnet-4-6", usage, tier=tier).total == pytest.approx(3)


def test_clouds_apart_have_prices_of_their_own(installed, spans):
    """The list has none of them: the standard rates are an estimate there."""
    ask(chat(), "https://mine.openai.azure.us/openai/v1")
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert spans.attributes["tokenguard.cost.basis"] == "assumed_region"


def test_a_router_of_models_has_a_fee():
    """Azure's router answers with the model that it chose, and asks $0.14 per million tokens of input for that."""
    book, usage = PriceBook(), Usage(1_000_000, 1000, cache_read=400_000)
    plain = book.cost("azure.ai.openai", "gpt-5-nano-2025-08-07", usage)
    routed = book.cost("azure.ai.openai", ("gpt-5-nano-2025-08-07", "model-router"), usage)
    assert routed.total == pytest.approx(plain.total + 0.14)
    assert (plain.basis, routed.status, routed.basis) == ("assumed_global", "estimated", "assumed_router")
    elsewhere = book.cost("openai", ("gpt-5-nano-2025-08-07", "model-router"), usage)
    assert elsewhere.total == pytest.approx(book.cost("openai", "gpt-5-nano-2025-08-07", usage).total)


def test_every_host_is_its_sellers():
    """A host that the price list knows is the list's seller of that host: the same maker may sell in two places."""
    sellers = get_snapshot().providers
    platform = {"claude.googleapis.com"}  # Anthropic's, behind a host that the list has as all of Google's
    for host, provider in HOSTS.items():
        if host in platform:
            continue
        urls = [f"https://{host}/", f"https://api.{host}/v1"]
        theirs = {each.id for each in sellers for url in urls if re.match(each.api_pattern, url)}
        assert not theirs or PROVIDERS.get(provider, provider) in theirs, host


@pytest.mark.parametrize(
    ("provider", "model", "factor"),
    [
        ("gcp.vertex_ai", "claude-sonnet-4-5", 1.1),
        ("gcp.vertex_ai", "gemini-3.5-flash", 1.1),
        ("gcp.vertex_ai", "gemini-2.5-flash", 1.0),
        ("openai", "gpt-6.1-terra", 1.1),
        ("openai", "gpt-4o", 1.0),
    ],
)
def test_regions_have_a_price(provider, model, factor):
    """Where the work stays in one place it costs more, for the models that it is so for."""
    book, usage = PriceBook(), Usage(100_000, 1000)
    there = book.cost(provider, model, usage, tier=Tier(geo="regional")).total
    assert there == pytest.approx(factor * book.cost(provider, model, usage).total)


def test_searches_are_priced_when_used(installed, spans):
    """The provider's searches are a part of the cost, with their count; what it looked at on the way is not."""
    action = {"type": "search", "query": "q"}
    searches = [{"type": "web_search_call", "id": f"w{n}", "status": "completed", "action": action} for n in range(3)]
    opened = {"type": "web_search_call", "id": "o", "status": "completed", "action": {"type": "open_page", "url": "u"}}
    openai_client(answered(response(RESPONSE_USAGE, [*searches, opened], "gpt-5"))).responses.create(
        model="gpt-5", input="?"
    )
    attributes = spans.attributes
    assert attributes["tokenguard.usage.web_searches"] == 3
    assert attributes["tokenguard.cost.tools_usd"] == pytest.approx(0.03)
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 1.25e-6 + 100 * 10e-6 + 0.03)


@pytest.mark.parametrize("model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview"])
def test_a_model_that_always_searches(model, installed, spans):
    """It is charged a search for each answer, which nobody has counted, whether it was asked how to search or not."""
    for more in ({}, {"web_search_options": {}}):
        ask(chat(f"{model}-2025-03-11"), "https://api.openai.com/v1", model, **more)
        attributes = spans.all()[-1].attributes
        assert attributes["tokenguard.cost.tools_usd"] == pytest.approx(0.025)
        assert attributes["tokenguard.cost.basis"] == "assumed_search"


def test_what_cannot_be_priced_is_marked(installed, spans):
    """A fee that nobody lists leaves the cost an estimate."""
    ask(chat(), "https://api.openai.com/v1", "gpt-4o", web_search_options={})
    assert spans.attributes["tokenguard.cost.basis"] == "tool_fees_excluded"


@pytest.mark.parametrize(
    ("model", "searched", "usd"),
    [
        ("gemini-2.5-flash", {"web_searches": 1}, 0.035),
        ("gemini-2.5-pro", {"map_searches": 1}, 0.025),
        ("gemini-3-flash-preview", {"web_searches": 3, "map_searches": 1}, 4 * 0.014),
        ("gemini-2.5-flash", {}, None),
    ],
)
def test_google_charges_for_searches_past_a_quota(model, searched, usd):
    """Each is charged as if the quota were used up, and the cost says that nobody knows whether it is."""
    cost = PriceBook().cost("gcp.gemini", model, Usage(1000, 100, **searched))
    assert cost.tools == (None if usd is None else pytest.approx(usd))
    assert cost.basis == (None if usd is None else "free_quota")


@pytest.mark.parametrize(
    ("model", "usd", "basis"),
    [
        ("gpt-image-2", 0.21097, None),  # 50 at $5, 7,024 at $30
        ("gpt-image-1-mini", 0.056292, None),  # at $2 and $8
        ("gpt-image-9-new", 0.21097, "assumed_model"),  # no list has it: as the newest one that it has
    ],
)
def test_pictures_of_a_response_have_a_price(model, usd, basis, installed, spans):
    """Beside the text of it: 1,820 at $5 and 210 at $30."""
    tool = {"type": "image_generation", "model": model}
    drawn = {"input_tokens": 50, "output_tokens": 7024, "total_tokens": 7074}
    usage = {"input_tokens": 1820, "output_tokens": 210, "total_tokens": 2030}
    told = {"id": "r", "object": "response", "status": "completed", "model": "gpt-5.5", "output": [], "usage": usage}
    answer = {**told, "created_at": 1, "tools": [tool], "tool_usage": {"image_gen": drawn}}
    openai_client(answered(answer)).responses.create(model="gpt-5.5", input="x", tools=[tool])
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(1820 * 5e-6 + 210 * 30e-6 + usd)
    assert spans.attributes.get("tokenguard.cost.basis") == basis


def test_a_fee_of_ones_own():
    """`[prices]` can say a fee alone: everything else is as it is listed, and the quota is no guess any more."""
    book = PriceBook({"google/gemini-*": {"web_searches": 0, "map_searches": 7000}, "google/gemini-2.5-pro": "x/y"})
    usage = Usage(1000, 100, web_searches=1, map_searches=2)
    stated, listed = (each.cost("gcp.vertex_ai", "gemini-2.5-flash", usage) for each in (book, PriceBook()))
    assert stated.tools == pytest.approx(0.014)
    assert stated.input == listed.input
    assert (stated.status, listed.basis) == ("exact", "free_quota")
    assert 'override "google/gemini-*"' in str(getattr(book.rates("gcp.gemini", "gemini-2.5-flash"), "source", None))
    assert book.rates("gcp.gemini", "gemini-2.5-pro") is None  # the fees of nothing
    assert policy.loads('[prices]\n"google/gemini-*" = { web_searches = 0 }\n').prices


def test_a_tool_without_a_fee_is_not_marked(installed, spans):
    """To fetch a page costs nothing but its tokens; a search at Anthropic costs a cent."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 2,
        "server_tool_use": {"web_fetch_requests": 3, "web_search_requests": 0},
    }
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-opus-4-6", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hi"}], "usage": usage,
    }  # fmt: skip
    for searched in (0, 2):
        usage["server_tool_use"]["web_search_requests"] = searched
        anthropic_client(answered(json.loads(json.dumps(message)))).messages.create(
            model="claude-opus-4-6", max_tokens=9, messages=MESSAGES
        )
    fetched, searched = (span.attributes for span in spans)
    assert fetched["tokenguard.cost.status"] == searched["tokenguard.cost.status"] == "exact"
    assert searched["tokenguard.cost.tools_usd"] == pytest.approx(0.02)


def test_an_unknown_host_is_unknown(installed, spans):
    """A server that nobody knows is not OpenAI because it serves a model of that name; its price is an estimate."""
    ask(chat("gpt-3.5-turbo"), "https://llm.internal:8000/v1", "gpt-3.5-turbo")
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == "unknown"
    assert attributes["tokenguard.cost.basis"] == "assumed_provider"
    assert attributes["tokenguard.cost.usd"] == pytest.approx(1000 * 0.5e-6 + 100 * 1.5e-6)


def test_the_policy_says_whose_a_host_is(installed, spans):
    """`[hosts]` names the provider, or one of the user's own with rates under `[prices]`."""
    rules = (
        '[hosts]\n"llm.internal:8000" = "openai"\n"*.mine" = "mine"\n[prices]\n"mine/*" = { input = 1, output = 2 }\n'
    )
    tokenguard.install(policy.loads(rules))
    ask(chat(), "https://llm.internal:8000/v1")
    ask(chat("anything"), "https://a.mine/v1", "anything")
    facts = [
        (
            s.attributes["gen_ai.provider.name"],
            s.attributes["tokenguard.cost.usd"],
            s.attributes["tokenguard.cost.status"],
        )
        for s in spans
    ]
    assert facts == [("openai", pytest.approx(0.0035), "exact"), ("mine", pytest.approx(0.0012), "exact")]
    know_hosts({})


def test_no_host_is_taken_for_the_sdks_maker():
    """Every known host is somebody's, whichever SDK is pointed at it."""
    for host, provider in HOSTS.items():
        assert endpoint_of(object, f"x.{host}", 443, "openai").provider == provider
    assert endpoint_of(object, "llm.example.com", 443, "anthropic").provider == UNKNOWN
    assert endpoint_of(object, "proxy.example.com", 443, "groq").provider == "groq"


@pytest.mark.parametrize(
    ("model", "basis"),
    [
        ("gpt-5-nano", None),
        ("gpt-5-nano-2025-08-07", None),
        ("gpt-5-nano-next", "nearest_model"),
        ("gpt-5-nano-v9", "nearest_model"),
        ("claude-haiku-4-5@20251001", None),
    ],
)
def test_a_name_that_only_begins_alike(model, basis):
    """A snapshot of a model has its price; a name with an unknown end is a guess, and marked so."""
    provider = "anthropic" if "claude" in model else "openai"
    assert PriceBook().cost(provider, model, Usage(10, 10)).basis == basis


def test_the_day_a_model_comes_out(caplog):
    """By `unpriced = "estimate"` a model that nobody lists is priced as the nearest of its family, and that is said."""
    assert PriceBook().cost("openai", "gpt-9", Usage(10, 10)).total is None
    book = PriceBook(estimates=True)
    cost = book.cost("openai", "gpt-9", Usage(1000, 1000))
    assert cost.basis == "nearest_model"
    assert cost.total > 0
    assert 'unpriced = "estimate"' in caplog.text
    for model, tier in (("gpt-9", Tier("flex")), (("gpt-9", "gpt-9"), Tier()), (("gpt-9", "my-alias"), Tier())):
        assert book.cost("openai", model, Usage(1000, 1000), tier=tier).total > 0
    assert len(caplog.records) == 1, "once, however it is asked for"
    assert PriceBook(estimates=True).cost("openai", "zzz", Usage(10, 10)).total is None


def test_pictures_have_a_rate_of_their_own():
    """Pictures in the output are billed at their rate; where nobody says how many they are, the cost is an estimate."""
    book = PriceBook()
    told = book.cost("gcp.gemini", "gemini-2.5-flash-image", Usage(10, 1290, output_image=1290))
    assert (told.total, told.status) == (pytest.approx(10 * 0.3e-6 + 1290 * 30e-6), "exact")
    assert book.cost("gcp.gemini", "gemini-2.5-flash-image", Usage(10, 1290)).basis == "assumed_text_output"


def test_a_wrapper_of_the_users_own_is_passed_over(installed, spans, tmp_path):
    """Calls through one's own wrapper are charged to whoever calls it, where `[attribution] helpers` names its file."""
    (tmp_path / "llm.py").write_text(
        "def ask(client, **request):\n    return client.chat.completions.create(**request)\n"
    )
    scope = {}
    exec(compile((tmp_path / "llm.py").read_text(), str(tmp_path / "llm.py"), "exec"), scope)
    for helpers, where in (("", str(tmp_path / "llm.py")), ('[attribution]\nhelpers = ["llm.py"]\n', __file__)):
        tokenguard.install(policy.loads(helpers))
        spans.clear()
        scope["ask"](openai_client(), model="gpt-4o", messages=MESSAGES)
        assert spans.attributes["code.file.path"] == where


@pytest.mark.parametrize(
    ("usage", "reason", "status"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0}, "stop", "estimated"),  # open-swarm#141, and OpenAI itself
        ({"prompt_tokens": 0, "completion_tokens": 100}, "stop", "estimated"),
        ({"prompt_tokens": 1000, "completion_tokens": 0}, "stop", "estimated"),
        ({"completion_tokens": 100}, "stop", "estimated"),
        ({"prompt_tokens": 0, "completion_tokens": 0}, "content_filter", "exact"),
    ],
)
def test_zeros_are_no_counts(usage, reason, status, installed, spans):
    """No request has no tokens, nor has an answer with text: who says so has not counted, and nothing is exact."""
    body = chat(usage=usage)
    body["choices"][0]["finish_reason"] = reason
    ask(body, "https://api.openai.com/v1")
    assert spans.attributes["tokenguard.cost.status"] == status
    assert (spans.attributes["tokenguard.cost.usd"] > 0) == (status == "estimated")


def test_a_cost_that_the_provider_estimates(installed, spans):
    """DeepInfra's figure is its own, and an estimate by its own word: litellm#38802."""
    ask(chat(usage={**USAGE, "estimated_cost": 8.775e-06}), "https://api.deepinfra.com/v1/openai")
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == 8.775e-06
    assert attributes["tokenguard.cost.source"] == "reported"
    assert attributes["tokenguard.cost.basis"] == "reported_estimate"


@pytest.mark.parametrize("raw", [False, True])
def test_events_where_json_was_asked_for(raw, installed, spans):
    """A gateway that streams unasked is read all the same: new-api#5230, mini-sglang#51."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "usage": USAGE}
    ended = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(ended)}\n\ndata: [DONE]\n\n"
    kind = {"content-type": "text/event-stream"}
    client = openai_client(lambda request: httpx2.Response(200, text=body, headers=kind))
    completions = client.chat.completions
    (completions.with_raw_response if raw else completions).create(model="gpt-4o", messages=MESSAGES)
    assert spans.attributes["gen_ai.usage.output_tokens"] == 100
    assert spans.attributes["tokenguard.cost.status"] == "exact"


# --- errors with status 200 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 429, "message": "slow down"}},
        {"id": "x", "model": "gpt-4o", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        {"code": 500, "msg": "404 NOT_FOUND", "success": False},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_in_place_of_an_answer(installed, spans, body, stream):
    """It is a refusal as any other: a failed call, and on no bill."""
    answer = ask(body, "https://openrouter.ai/api/v1", stream=stream)
    assert not stream or list(answer) is not None
    assert (installed.records[-1].outcome, installed.records[-1].cost) == ("error", None)
    assert spans.attributes["error.type"] in ("429", "1004", "500")
    assert "tokenguard.cost.status" not in spans.attributes


def test_an_error_after_words(installed, spans):
    """What was generated before may be billed: it is estimated."""
    piece = {"index": 0, "delta": {"content": "Paris is the capital of France"}, "finish_reason": None}
    events = [{"id": "c", "model": "gpt-4o", "choices": [piece]}, {"choices": [], "base_resp": {"status_code": 1002}}]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    reply = httpx2.Response(200, text=body, headers={"content-type": "text/event-stream"})
    client = openai_client(lambda request: reply, base_url="https://api.minimax.io/v1")
    list(client.chat.completions.create(model="MiniMax-M2", messages=MESSAGES, stream=True))
    assert installed.records[-1].outcome == "error"
    assert spans.attributes["tokenguard.cost.status"] == "estimated"


# --- answers that a gateway had kept ----------------------------------------------------------------------------------

GATEWAY = "https://gateway.ai.cloudflare.com/v1/a/g/openai"


def kept(header, word, stream):
    """What a gateway answers, plain or as a stream."""
    if not stream:
        return lambda request: httpx2.Response(200, json=chat(), headers={header: word})
    piece = {"index": 0, "delta": {"content": "Paris."}, "finish_reason": "stop"}
    events = [{"id": "c", "model": "gpt-4o", "choices": [piece]}, {"id": "c", "choices": [], "usage": USAGE}]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    headers = {"content-type": "text/event-stream", header: word}
    return lambda request: httpx2.Response(200, text=text, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("base_url", "header", "word", "usd"),
    [
        (GATEWAY, "cf-aig-cache-status", "HIT", 0.0),
        (GATEWAY, "cf-aig-cache-status", "MISS", 0.0035),
        ("https://api.portkey.ai/v1", "x-portkey-cache-status", "SEMANTIC HIT", 0.0),
        ("https://api.portkey.ai/v1", "x-portkey-cache-status", "REFRESH", 0.0035),
        ("https://oai.helicone.ai/v1", "Helicone-Cache", "HIT", 0.0),
        ("https://openrouter.ai/api/v1", "X-OpenRouter-Cache-Status", "HIT", 0.0),
        ("https://litellm.internal/v1", "x-litellm-cache-hit", "True", 0.0),
        ("https://kong.internal/v1", "X-Cache-Status", "Hit", 0.0),
        ("https://api.openai.com/v1", "x-cache-status", "HIT", 0.0035),  # whose own keeps no answers
    ],
)
def test_kept_by_a_gateway(installed, spans, base_url, header, word, usd, stream):
    """It costs nothing, whatever usage it tells: that is the first one's."""
    client = openai_client(kept(header, word, stream), base_url=base_url)
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=stream)
    assert not stream or list(answer)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(usd)
    if not usd:
        assert spans.attributes["tokenguard.cost.status"] == "exact"
        assert spans.attributes["tokenguard.cost.source"] == "reported"
        assert "gen_ai.usage.input_tokens" not in spans.attributes


async def test_kept_by_a_gateway_async(installed, spans):
    """The same by the asynchronous client, and where the caller reads the response itself."""
    client = async_openai_client(kept("cf-aig-cache-status", "HIT", False), base_url=GATEWAY)
    await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    assert spans.attributes["tokenguard.cost.usd"] == 0.0


# --- what it costs by the headers, or beside the usage ----------------------------------------------------------------

PROXY = "https://llm.internal/v1"
OF_LITELLM = {"x-litellm-call-id": "1"}
PRICED = {"x-litellm-response-cost": "0.0123"}
AS_OPENAI = 0.0035


@pytest.mark.parametrize(
    ("base_url", "headers", "usage", "usd", "basis"),
    [
        (PROXY, PRICED, USAGE, 0.0123, "reported_estimate"),
        (PROXY, OF_LITELLM, {**USAGE, "cost": 0.0123}, 0.0123, "reported_estimate"),  # litellm#39069
        (PROXY, PRICED, {**USAGE, "cost": 0.9}, 0.0123, "reported_estimate"),
        (PROXY, {**OF_LITELLM, "x-litellm-response-cost": "0"}, USAGE, AS_OPENAI, "assumed_provider"),
        (PROXY, {**OF_LITELLM, "x-litellm-response-cost": "None"}, USAGE, AS_OPENAI, "assumed_provider"),
        (PROXY, {}, {**USAGE, "cost": 0.9}, AS_OPENAI, "assumed_provider"),  # nobody knows what that means there
        ("https://api.openai.com/v1", PRICED, USAGE, AS_OPENAI, None),
    ],
)
def test_what_a_proxy_of_litellm_says_of_the_cost(installed, spans, base_url, headers, usage, usd, basis):
    """It knows its operator's settings and the model behind an alias, but its list may be wrong: an estimate.

    litellm#38691, litellm#11789; zero is what it says of a model that it has no price for.
    """
    client = openai_client(
        lambda request: httpx2.Response(200, json=chat(usage=usage), headers=headers), base_url=base_url
    )
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(usd)
    assert spans.attributes.get("tokenguard.cost.basis") == basis
    assert (spans.attributes.get("tokenguard.cost.source") == "reported") is (basis == "reported_estimate")


@pytest.mark.parametrize("told", [None, 0.0123])
def test_the_headers_of_a_stream_are_sent_before_its_cost_is_known(installed, spans, told):
    """litellm#12689: what counts is the usage at its end, if that has a cost."""
    piece = {"index": 0, "delta": {"content": "Paris."}, "finish_reason": "stop"}
    usage = USAGE if told is None else {**USAGE, "cost": told}
    events = [{"id": "c", "model": "gpt-4o", "choices": [piece]}, {"id": "c", "choices": [], "usage": usage}]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    headers = {"content-type": "text/event-stream", **PRICED, "x-litellm-response-cost": "0.5"}
    client = openai_client(lambda request: httpx2.Response(200, text=text, headers=headers), base_url=PROXY)
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(told or AS_OPENAI)
    assert spans.attributes["tokenguard.cost.status"] == "estimated"


def test_a_proxy_that_the_policy_names(installed, spans):
    """Its word on the cost counts where it is called litellm; a provider that `[hosts]` names goes before it."""
    ask_with = lambda: openai_client(  # noqa: E731
        lambda request: httpx2.Response(200, json=chat(), headers=PRICED), base_url=PROXY
    ).chat.completions.create(model="gpt-4o", messages=MESSAGES)
    try:
        know_hosts({"llm.internal": "litellm"})
        ask_with()
        assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(0.0123)
        spans.clear()
        know_hosts({"llm.internal": "openai"})
        ask_with()
        assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(AS_OPENAI)
        assert spans.attributes["tokenguard.cost.status"] == "exact"
    finally:
        know_hosts({})


FIREWORKS = "https://api.fireworks.ai/inference/v1"
GLM = "accounts/fireworks/models/glm-4p7"


def test_what_fireworks_has_cached(installed, spans):
    """any-llm#796: a header alone tells it, or what it has measured."""
    headers = {"fireworks-prompt-tokens": "1000", "fireworks-cached-prompt-tokens": "800"}
    client = openai_client(lambda request: httpx2.Response(200, json=chat(GLM), headers=headers), base_url=FIREWORKS)
    client.chat.completions.create(model=GLM, messages=MESSAGES)
    assert spans.attributes["gen_ai.usage.cache_read.input_tokens"] == 800
    spans.clear()
    ask(chat(GLM, perf_metrics={"cached-prompt-tokens": "700"}), FIREWORKS, GLM)
    assert spans.attributes["gen_ai.usage.cache_read.input_tokens"] == 700


COPILOT = "https://api.githubcopilot.com"
AI_CREDITS = {"token_details": [{"token_type": "input", "token_count": 1000}], "total_nano_aiu": 399500000}


@pytest.mark.parametrize(("base_url", "usd"), [(COPILOT, 0.003995), ("https://api.openai.com/v1", None)])
def test_what_copilot_charges(installed, spans, base_url, usd):
    """openclaw#100097: in billionths of a credit, beside the usage; elsewhere that means nothing."""
    ask(chat("gpt-5.4", copilot_usage=AI_CREDITS), base_url, "gpt-5.4")
    charged = spans.attributes["tokenguard.cost.usd"]
    assert charged == pytest.approx(usd or 1000 * 2.5e-6 + 100 * 15e-6)
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    assert spans.attributes.get("tokenguard.cost.source") == ("reported" if usd else None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("usage", "usd"), [(None, None), (RESPONSE_USAGE, 1000 * 2.5e-6 + 100 * 10e-6)])
def test_a_response_that_has_failed_without_saying_why(installed, spans, stream, usage, usd):
    """`status` alone says it, as gateways have it: it is an error, and costs what is told, or nothing."""
    body = {**response(usage), "status": "failed", "error": None}

    def send(request):
        if not stream:
            return httpx2.Response(200, json=body)
        event = json.dumps({"type": "response.failed", "response": body, "sequence_number": 0})
        said = f"event: response.failed\ndata: {event}\n\n"
        return httpx2.Response(200, text=said, headers={"content-type": "text/event-stream"})

    made = openai_client(send).responses.create(model="gpt-4o", input="x", stream=stream)
    if stream:
        list(made)
    assert spans.attributes["error.type"] == "failed"
    assert spans.attributes.get("tokenguard.cost.usd") == (None if usd is None else pytest.approx(usd))


def test_errors_with_status_200_of_what_makes_no_text(installed, spans):
    """A moderation is billed by the request, and a film by its seconds: of an error there are none."""
    client = openai_client(answered({"error": {"code": "rate_limited", "message": "Later."}}))
    client.moderations.create(input="x")
    with pytest.warns(DeprecationWarning, match="Sora"):
        client.videos.create(prompt="x")
    for span in spans.all():
        assert span.attributes["error.type"] == "rate_limited"
        assert "tokenguard.cost.usd" not in span.attributes


@pytest.mark.parametrize(
    ("base_url", "asked", "answered_by", "basis"),
    [
        ("https://api.openai.com/v1", "flex", None, "assumed_tier"),
        ("https://api.openai.com/v1", "priority", None, "assumed_tier"),
        ("https://api.openai.com/v1", "priority", "default", None),
        ("https://api.openai.com/v1", "auto", None, None),
        ("https://api.x.ai/v1", "priority", None, "assumed_tier"),
        ("https://api.x.ai/v1", "priority", "priority", "assumed_priority"),
        ("https://api.groq.com/openai/v1", "flex", None, None),  # which has one price
        ("https://api.fireworks.ai/inference/v1", "priority", None, "assumed_priority"),
        ("https://api.fireworks.ai/inference/v1", "auto", None, None),
        ("https://api.mistral.ai/v1", "priority", None, "assumed_tier"),
        ("https://api.mistral.ai/v1", "priority", "default", None),
        ("https://api.cerebras.ai/v1", "priority", None, "assumed_tier"),
        ("https://api.cerebras.ai/v1", "flex", None, "assumed_tier"),
        ("https://api.cerebras.ai/v1", "auto", None, None),
    ],
)
def test_a_tier_that_was_asked_for_and_not_answered(installed, spans, base_url, asked, answered_by, basis):
    """Where the answer does not say by which tier it was made, nobody knows whether the request was granted."""
    models = {"groq": "llama-3.3-70b-versatile", "x": "grok-4.5", "fireworks": "accounts/fireworks/models/kimi-k3"}
    models |= {"mistral": "mistral-large-latest", "cerebras": "gpt-oss-120b"}
    model = models.get(base_url.split(".")[1], "gpt-5")
    ask(chat(model, service_tier=answered_by), base_url, model, service_tier=asked)
    assert spans.attributes.get("tokenguard.cost.basis") == basis


def test_who_never_tells_a_tier_serves_what_was_asked_for(installed, spans):
    """Fireworks refuses a call that it cannot serve in its priority tier: Kimi K3 is $3.75 and $18.75 there, not $3
    and $15 (theopenco/llmgateway#3332)."""
    model = "accounts/fireworks/models/kimi-k3"
    ask(chat(model), "https://api.fireworks.ai/inference/v1", model, service_tier="priority")
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx((1000 * 3.75 + 100 * 18.75) / 1e6)


@pytest.mark.parametrize(
    ("given", "deployment", "usd", "basis"),
    [
        ({}, "mine", 0.0035, "assumed_global"),
        ({"azure/*": {"factor": 1}}, "mine", 0.0035, None),
        ({"azure/eu-*": {"factor": 1.1}}, "eu-mine", 0.00385, None),
        ({"azure/eu-*": {"factor": 1.1}}, "mine", 0.0035, "assumed_global"),
        ({"azure/mine": "openai/gpt-4o"}, "mine", 0.0035, None),
        ({"azure/eu-*": {"factor": 1.1}, "azure/*": {"factor": 1, "web_searches": 0}}, "eu-mine", 0.00385, None),
    ],
)
def test_where_azure_does_the_work(given, deployment, usd, basis):
    """A deployment in a data zone costs a tenth more, and no answer says that it is: that is the policy's to say."""
    cost = PriceBook(given).cost("azure.ai.openai", ("gpt-4o-2024-08-06", deployment), Usage(1000, 100))
    assert (cost.total, cost.basis) == (pytest.approx(usd), basis)


ABROAD = Tier(geo="abroad")


@pytest.mark.parametrize(
    ("model", "tier", "basis"),
    [
        ("amazon.nova-pro-v1:0", Tier(), None),
        ("us.amazon.nova-pro-v1:0", Tier(), None),
        ("amazon.nova-pro-v1:0", ABROAD, "assumed_region"),
        ("eu.amazon.nova-pro-v1:0", Tier(), "assumed_region"),  # behind a host of one's own
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-pro-v1:0", Tier(), "assumed_region"),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", Tier(), "assumed_region"),  # $3.60, not $3.30
        ("meta.llama3-70b-instruct-v1:0", ABROAD, "assumed_region"),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", ABROAD, None),  # Claude costs the same everywhere
    ],
)
def test_bedrock_outside_the_us(model, tier, basis):
    """Nova costs a third more in Europe, Llama two thirds more in Brazil: litellm's table has some by region."""
    assert PriceBook().cost("aws.bedrock", model, Usage(1000, 100), tier=tier).basis == basis


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", Usage(200_000, 1000), 0.6 + 0.015),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", Usage(200_001, 1000), 1.200006 + 0.0225),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(300_000, 1000, 299_000), 0.006 + 0.1794 + 0.0225),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(300_000, 1000), 1.1 * (1.8 + 0.0225)),
        ("us.anthropic.claude-sonnet-4-6", Usage(300_000, 1000), 1.1 * (0.9 + 0.015)),
        ("openai.gpt-5.4", Usage(272_000, 5), 272_000 * 2.75e-6 + 5 * 16.5e-6),
        ("openai.gpt-5.4", Usage(301_025, 5), 1.65576125),  # as invoiced: litellm#38615
        ("openai.gpt-5.5", Usage(301_025, 5, 300_000), (1025 * 11 + 300_000 * 1.1 + 5 * 49.5) / 1e6),
    ],
)
def test_long_calls_on_bedrock(model, usage, usd):
    """Sonnet 4 and 4.5 cost twice as much above 200,000 tokens of input there, GPT-5.4 and 5.5 above 272,000; the list
    has left that out."""
    cost = PriceBook().cost("aws.bedrock", model, usage)
    assert (cost.total, cost.status) == (pytest.approx(usd), "exact")


def test_a_region_that_the_policy_states():
    """Rates of one's own hold as they are, and a factor says what the region costs."""
    usage = Usage(1_000_000, 0)
    book = PriceBook({"aws/eu.amazon.nova-pro*": {"input": 1.05, "output": 4.2, "cache_read": 0.2625}})
    cost = book.cost("aws.bedrock", "eu.amazon.nova-pro-v1:0", usage, tier=ABROAD)
    assert (cost.total, cost.status) == (pytest.approx(1.05), "exact")
    cost = PriceBook({"aws/eu.*": {"factor": 1.3125}}).cost(
        "aws.bedrock", "eu.amazon.nova-pro-v1:0", usage, tier=ABROAD
    )
    assert (cost.total, cost.status) == (pytest.approx(1.05), "exact")


def test_shops_that_are_apart():
    """Moonshot and MiniMax have prices in yuan in China; OpenAI's host for the US government costs a tenth more."""
    book, apart = PriceBook(), Tier(geo="sovereign")
    for provider, model in (("moonshot_ai", "kimi-k2-0905-preview"), ("minimax", "MiniMax-M2")):
        assert book.cost(provider, model, Usage(1000, 100)).basis is None
        assert book.cost(provider, model, Usage(1000, 100), tier=apart).basis == "assumed_region"
    cost = book.cost("openai", "gpt-4o", Usage(1_000_000, 0), tier=apart)
    assert (cost.total, cost.basis) == (pytest.approx(2.75), "assumed_region")


@pytest.mark.parametrize(
    ("model", "basis"),
    [
        ("gemini-2.5-pro-001", None),
        ("gemini-2.5-pro-preview-06-05", None),
        ("gemini-3.8-flash-cyber", "nearest_model"),  # twice as dear
        ("gemini-3.5-flash-001", None),
        ("gemini-3.5-flash-8b", "nearest_model"),
    ],
)
def test_names_that_a_pattern_of_the_list_begins(model, basis):
    """However the list says it: a beginning with exceptions, or an open pattern, is no model's name."""
    assert PriceBook().cost("gcp.gemini", model, Usage(1000, 100)).basis == basis
