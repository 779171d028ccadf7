"""The simulated OpenAI, through the real SDK: shapes, streams, tools, caching, bills."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

from tokenguard.tokens import count_text

from .conftest import LONG, says

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_a_chat_completion_is_complete_and_counts_its_own_text(provider, chat):
    """Every field of the real API is there; input and output tokens are those of the texts."""
    answer = chat.chat.completions.create(model="gpt-4o", messages=says("What is the capital of Mexico?"))
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.object == "chat.completion"
    assert (answer.service_tier, bool(answer.system_fingerprint)) == ("default", True)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 14
    assert answer.usage.completion_tokens == count_text(answer.choices[0].message.content, "gpt-4o")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    (request,) = provider.requests
    assert (request.api, request.model, request.status, request.delivered) == ("chat", "gpt-4o", 200, True)
    assert (request.billed.input, request.billed.output) == (14, answer.usage.completion_tokens)
    assert request.response_id == answer.id


def test_the_same_question_gets_the_same_answer(chat):
    """Answers are deterministic; only ids and times differ."""
    one, two = (chat.chat.completions.create(model="gpt-4o", messages=says("Where is my order?")) for _ in range(2))
    assert one.choices == two.choices
    assert one.id != two.id


def test_several_choices_are_billed_together(chat):
    """With n, the input is charged once and each answer on its own."""
    answer = chat.chat.completions.create(model="gpt-4o", messages=says("Name a city."), n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3
    assert answer.usage.completion_tokens == sum(count_text(text, "gpt-4o") for text in texts)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_cap_is_kept(chat, name):
    """An answer ends at the cap, says so, and is charged no more."""
    answer = chat.chat.completions.create(model="gpt-4o", messages=says("Tell me all."), **{name: 5})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5 == count_text(answer.choices[0].message.content, "gpt-4o")


def test_reasoning_is_charged_as_output_and_counts_against_the_cap(chat):
    """A reasoning model may spend the whole cap on thoughts; without effort it has none."""
    answer = chat.chat.completions.create(model="gpt-5", messages=says("Why?"))
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    cut = chat.chat.completions.create(model="gpt-5", messages=says("Why?"), max_completion_tokens=5)
    assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("length", "")
    assert cut.usage.completion_tokens_details.reasoning_tokens == 5
    plain = chat.chat.completions.create(model="gpt-5", messages=says("Why?"), reasoning_effort="none")
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("counted", [True, False])
def test_a_chat_stream_adds_up_to_the_answer(chat, counted):
    """The chunks make the text of the same call without streaming; usage comes last, if asked for, and only then."""
    whole = chat.chat.completions.create(model="gpt-4o", messages=says("And in chunks?"))
    options = {"stream_options": {"include_usage": True}} if counted else {}
    chunks = list(chat.chat.completions.create(model="gpt-4o", messages=says("And in chunks?"), stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    if counted:
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert chunks[-2].choices[0].finish_reason == "stop"
    else:
        assert all(chunk.usage is None for chunk in chunks)


async def test_many_streams_at_once(provider):
    """Sixty-four concurrent streams all come whole, and every one is in the books."""
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:

        async def one(n):
            stream = await client.chat.completions.create(
                model="gpt-4o-mini", messages=says(f"Number {n}"), stream=True, stream_options={"include_usage": True}
            )
            return [chunk async for chunk in stream][-1].usage

        usages = await asyncio.gather(*(one(n) for n in range(64)))
    assert len(provider.calls) == 64
    assert all(request.delivered for request in provider.requests)
    assert provider.billed.input == sum(usage.prompt_tokens for usage in usages)
    assert provider.billed.output == sum(usage.completion_tokens for usage in usages)


def agent(chat, question, result="It is sunny."):
    """The rounds of tool calls until there is an answer, at most eight."""
    messages = says(question)
    for rounds in range(8):
        answer = chat.chat.completions.create(
            model="gpt-4o", messages=messages, tools=[{"type": "function", "function": WEATHER}]
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return rounds
        assert answer.choices[0].finish_reason == "tool_calls"
        assert "city" in json.loads(message.tool_calls[0].function.arguments)
        messages.append(message.to_dict())
        messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": result})
    return rounds + 1


def test_an_agent_ends_after_some_rounds(provider, chat):
    """The model calls tools for two rounds and answers; more or fewer where told."""
    assert agent(chat, "Weather?") == 2
    provider.model.tool_rounds = 4
    assert agent(chat, "Weather?") == 4


def test_an_agent_runs_away(provider, chat):
    """It never stops while its tools find nothing, or when the model is told to go on."""
    assert agent(chat, "Weather?", result="No results. Try again.") == 8
    provider.model.tool_rounds = None
    assert agent(chat, "Weather?") == 8


def test_tool_calls_in_a_stream(chat):
    """Name first, then the arguments in pieces, then the reason."""
    with chat.chat.completions.stream(
        model="gpt-4o", messages=says("Weather?"), tools=[{"type": "function", "function": WEATHER}]
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


@pytest.mark.parametrize(("choice", "called"), [("none", False), ("required", True), ("get_weather", True)])
def test_tool_choice_is_obeyed(provider, chat, choice, called):
    """`none` calls nothing; `required` and a name call."""
    provider.model.tool_rounds = 0
    named = {"type": "function", "function": {"name": choice}} if choice == "get_weather" else choice
    answer = chat.chat.completions.create(
        model="gpt-4o", messages=says("Hm?"), tools=[{"type": "function", "function": WEATHER}], tool_choice=named
    )
    assert bool(answer.choices[0].message.tool_calls) == called


class Ticket(BaseModel):
    product: str
    urgent: bool
    tags: list[str]


def test_structured_outputs_fit_their_schema(chat):
    """`parse` gets an object of the class, in chat and in responses."""
    parsed = chat.chat.completions.parse(model="gpt-4o", messages=says("Extract."), response_format=Ticket)
    assert isinstance(parsed.choices[0].message.parsed, Ticket)
    assert isinstance(chat.responses.parse(model="gpt-4o", input="Extract.", text_format=Ticket).output_parsed, Ticket)


def test_labels_are_chosen(chat):
    """A prompt that offers labels gets one of them."""
    messages = [{"role": "system", "content": "Reply with one of: billing, shipping or repair"}, *says("It is broken.")]
    answer = chat.chat.completions.create(model="gpt-4o", messages=messages)
    assert answer.choices[0].message.content in ("billing", "shipping", "repair")


def test_scripted_answers_and_stop_sequences(provider, chat):
    """A test may dictate answers, in any language; a stop sequence ends them before itself."""
    provider.answer_next("Grüße aus 東京 👋", "one, two, STOP, three")
    answer = chat.chat.completions.create(model="gpt-4o", messages=says("a"))
    assert answer.choices[0].message.content == "Grüße aus 東京 👋"
    answer = chat.chat.completions.create(model="gpt-4o", messages=says("b"), stop=["STOP"])
    assert answer.choices[0].message.content == "one, two, "
    assert answer.choices[0].finish_reason == "stop"


# --- caching ----------------------------------------------------------------------------------------------------------


def cached(chat, system, question="hi", model="gpt-4o", **more):
    messages = [{"role": "system", "content": system}, *says(question)]
    usage = chat.chat.completions.create(model=model, messages=messages, **more).usage
    return usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens


def test_a_shared_prefix_is_read_in_steps_of_128(chat):
    """The second request with the same long prompt reads it, up to a multiple of 128 below what is shared."""
    assert cached(chat, LONG, "one")[0] == 0
    read, total = cached(chat, LONG, "two")
    assert read % 128 == 0
    assert total - 160 < read < total


def test_short_and_changing_prompts_are_not_cached(chat):
    """Under 1,024 tokens nothing is cached; a clock at the top means no common prefix."""
    for _ in range(2):
        assert cached(chat, "Be brief. " * 300)[0] == 0
    for clock in ("10:00:01", "10:00:02"):
        assert cached(chat, f"It is {clock}. {LONG}")[0] == 0


def test_a_prefix_is_read_as_far_as_it_is_shared(chat):
    """Prompts that part half way share what comes before."""
    cached(chat, LONG)
    half = LONG[: len(LONG) // 2]
    read, _ = cached(chat, half + " and then something else entirely " * 200)
    assert 0 <= count_text(half, "gpt-4o") - read < 140


def test_caches_expire_and_belong_to_a_key_and_a_model(provider, chat):
    """Minutes later, for another model or another key, the prompt is new; each read keeps it alive."""
    cached(chat, LONG)
    provider.advance(200)
    assert cached(chat, LONG)[0] > 0
    provider.advance(200)
    assert cached(chat, LONG)[0] > 0
    assert cached(chat, LONG, model="gpt-4o-mini")[0] == 0
    assert cached(chat.with_options(api_key="other"), LONG)[0] == 0
    provider.advance(301)
    assert cached(chat, LONG)[0] == 0
    cached(chat, LONG, extra_body={"prompt_cache_retention": "24h"})
    provider.advance(3600)
    assert cached(chat, LONG)[0] > 0


def test_newer_models_charge_for_writing(provider, chat):
    """From gpt-5.6 on, what is written is reported by its lifetime, and is part of the input."""

    def details(instructions, **more):
        response = chat.responses.create(model="gpt-5.6", instructions=instructions, input="hi", **more)
        return response.usage.input_tokens_details.model_dump()  # openai 1 has no class for what is written

    first, again = details(LONG), details(LONG)
    assert (first["cached_tokens"], again["cache_write_tokens"]) == (0, 0)
    lifetimes = first["cache_write_tokens_details"]
    assert first["cache_write_tokens"] == lifetimes["ttl_30m_tokens"] == again["cached_tokens"] > 1024
    longer = details("!" + LONG, extra_body={"prompt_cache_options": {"ttl": "12h"}})
    assert longer["cache_write_tokens_details"]["ttl_12h_tokens"] == longer["cache_write_tokens"] > 1024
    assert provider.billed.cache_write == first["cache_write_tokens"] + longer["cache_write_tokens"]
    assert provider.billed.cache_write_12h == longer["cache_write_tokens"]


# --- the other endpoints ----------------------------------------------------------------------------------------------


def test_a_response_is_complete(provider, chat):
    """The Responses API's fields and usage; a reasoning item comes before the message."""
    response = chat.responses.create(model="gpt-5", input="Where is my order?", metadata={"a": "b"})
    assert (response.status, response.object, response.metadata) == ("completed", "response", {"a": "b"})
    assert [item.type for item in response.output] == ["reasoning", "message"]
    thought = response.usage.output_tokens_details.reasoning_tokens
    assert response.usage.output_tokens == thought + count_text(response.output_text, "gpt-5")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert chat.responses.retrieve(response.id).usage == response.usage
    assert len(provider.calls) == 1  # looking it up is free


def test_responses_remember_and_charge_the_conversation(chat):
    """With `previous_response_id` the earlier turns are input again; unknown ids are an error."""
    first = chat.responses.create(model="gpt-4o", input="Where is my order? " * 20)
    second = chat.responses.create(model="gpt-4o", input="And now?", previous_response_id=first.id)
    alone = chat.responses.create(model="gpt-4o", input="And now?")
    assert second.usage.input_tokens > alone.usage.input_tokens + first.usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="not found"):
        chat.responses.create(model="gpt-4o", input="?", previous_response_id="resp_none")


def test_a_response_stream_ends_with_the_response(chat):
    """The events are the SDK's own; deltas add up to the text; the last event has the usage."""
    with chat.responses.stream(model="gpt-4o", input="Tell me.") as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    deltas = (event.delta for event in events if event.type == "response.output_text.delta")
    assert "".join(deltas) == final.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.usage.output_tokens == count_text(final.output_text, "gpt-4o")


def test_a_response_that_is_cut_off_is_incomplete(chat):
    """The cap makes the response incomplete and says why, streamed as well."""
    response = chat.responses.create(model="gpt-4o", input="Tell me.", max_output_tokens=16)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == 16
    events = list(chat.responses.create(model="gpt-4o", input="Tell me.", max_output_tokens=16, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.usage.output_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_functions_in_responses(chat, stream):
    """A function call, its output, and the rounds counted by the server over the chain."""
    sent, chained, rounds = "Weather?", {}, 0
    while rounds < 8:
        tools = [{"type": "function", **WEATHER, "strict": False}]
        response = chat.responses.create(model="gpt-4o", input=sent, tools=tools, stream=stream, **chained)
        if stream:
            response = list(response)[-1].response
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            break
        rounds += 1
        chained = {"previous_response_id": response.id}
        sent = [{"type": "function_call_output", "call_id": calls[0].call_id, "output": "Sunny."}]
    assert rounds == 2


def test_embeddings(provider, chat):
    """Vectors of the model's size, the same for the same text; only input is charged, tokens count as themselves."""
    answer = chat.embeddings.create(model="text-embedding-3-small", input=["hello", "world", "hello"])
    assert [len(item.embedding) for item in answer.data] == [1536] * 3
    assert answer.data[0].embedding == answer.data[2].embedding != answer.data[1].embedding
    assert sum(x * x for x in answer.data[0].embedding) == pytest.approx(1, abs=1e-3)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    plain = chat.embeddings.create(
        model="text-embedding-3-large", input=[[1, 2], [3]], dimensions=256, encoding_format="float"
    )
    assert (len(plain.data[0].embedding), plain.usage.prompt_tokens) == (256, 3)
    assert provider.billed.input == 6
    assert provider.billed.output == 0


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions(chat, stream):
    """Sixteen tokens unless asked for more, as ever; streamed too."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = chat.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once upon a time", **options)
    if stream:
        *chunks, last = answer
        assert "".join(chunk.choices[0].text for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "length"
        answer = last
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == 16


def test_models_and_azure(provider, chat):
    """Models are listed for free; a deployment's path names the model for Azure's client."""
    assert "gpt-4o" in [model.id for model in chat.models.list()]
    assert chat.models.retrieve("gpt-4o").owned_by == "system"
    assert not provider.calls
    with openai.AzureOpenAI(azure_endpoint=provider.url, api_key="k", api_version="2025-04-01-preview") as azure:
        answer = azure.chat.completions.create(model="gpt-4o", messages=says("hi"))
    assert answer.usage.prompt_tokens == 8
    assert provider.calls[0].path.startswith("/openai/deployments/gpt-4o/")


def test_wrong_requests_are_refused_and_free(provider, chat):
    """Missing fields, keys and paths are errors in the API's own shape."""
    with pytest.raises(openai.BadRequestError, match="messages") as caught:
        chat.chat.completions.create(model="gpt-4o", messages=[])
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "messages")
    with pytest.raises(openai.NotFoundError):
        chat.post("/nothing", body={}, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        chat.responses.retrieve("resp_none")
    assert provider.billed.total == 0
