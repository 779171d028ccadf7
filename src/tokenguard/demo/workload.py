"""The demo's application: what a company's product might do with LLMs in a busy minute.

It is written as such programs are: against the SDKs, with `tokenguard.attribution` where a request comes in and
`tokenguard.task` around a unit of work, and nothing else of TokenGuard. Where the provider is, the environment says.

Some of it wastes money, and is meant to: a prompt that begins with the clock, fifty chunks for a one-line question, a
premium model for one-word answers, documents embedded twice, an agent that is never satisfied. These are here for the
report to show.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import random
from collections.abc import Iterable
from typing import Any

import anthropic
import openai
from pydantic import BaseModel

import tokenguard
from tokenguard.demo.documents import CHUNKS, FOLLOW_UPS, HANDBOOK, QUESTIONS, QUEUES, TICKETS

TENANTS = ("acme", "globex", "initech")
AGENT_STEPS = 10
"""Where the application itself stops an agent."""

LOOK_UP = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for."}},
    "required": ["query"],
    "additionalProperties": False,
}
TOOLS = (
    ("search_orders", "Search the orders of the customer by number, product or date."),
    ("search_stock", "Search the stock of all warehouses by part number."),
)


class Extracted(BaseModel):
    """What a ticket is about."""

    product: str
    urgent: bool
    summary: str


# --- support: chats with a long system prompt -------------------------------------------------------------------------


async def support_chat(client: openai.AsyncOpenAI, tenant: str, ticket: str, version: str) -> None:
    """Three turns on one ticket, streamed to the customer."""
    with tokenguard.attribution(tenant=tenant, feature="support_bot", route="/chat", prompt_version=version):
        system = HANDBOOK
        if version == "v13":
            # "Let it know what time it is": and no two prompts ever begin alike, so none is found in the cache.
            system = f"It is {datetime.datetime.now(tz=datetime.UTC).isoformat()}.\n{HANDBOOK}"
        messages: list[Any] = [{"role": "system", "content": system}]
        async with tokenguard.task("resolve_ticket") as work:
            for said in (ticket, *FOLLOW_UPS):
                messages.append({"role": "user", "content": said})
                stream = await client.chat.completions.create(
                    model="gpt-4o", messages=messages, stream=True, max_completion_tokens=300
                )
                answer = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
                messages.append({"role": "assistant", "content": answer})
                if version == "v13":
                    system = f"It is {datetime.datetime.now(tz=datetime.UTC).isoformat()}.\n{HANDBOOK}"
                    messages[0] = {"role": "system", "content": system}
                if "photo" in answer:
                    work.fail()  # the customer has to be handed over to a person


async def concierge(client: anthropic.AsyncAnthropic, tenant: str, ticket: str) -> None:
    """The same for premium customers, with another provider and its explicit cache."""
    with tokenguard.attribution(tenant=tenant, feature="concierge", route="/premium/chat", prompt_version="v3"):
        system: Any = [{"type": "text", "text": HANDBOOK, "cache_control": {"type": "ephemeral"}}]
        messages: list[Any] = []
        async with tokenguard.task("resolve_ticket"):
            for said in (ticket, *FOLLOW_UPS):
                messages.append({"role": "user", "content": said})
                for attempt in range(3):
                    try:
                        async with client.messages.stream(
                            model="claude-sonnet-4-6", max_tokens=400, system=system, messages=messages
                        ) as stream:
                            answer = await stream.get_final_text()
                        break
                    except anthropic.APIError:  # broken off in the middle: the SDK cannot repeat that, we can
                        if attempt == 2:
                            raise
                messages.append({"role": "assistant", "content": answer})


async def closed_tab(client: openai.AsyncOpenAI, tenant: str, ticket: str) -> None:
    """A customer who leaves while the answer is still coming."""
    with tokenguard.attribution(tenant=tenant, feature="support_bot", route="/chat", prompt_version="v14"):
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "system", "content": HANDBOOK}, {"role": "user", "content": ticket}],
            stream=True,
        )
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 6:
                break
        await stream.close()


# --- answers from documents -------------------------------------------------------------------------------------------


def index_documents(client: openai.OpenAI, tenant: str, times: int) -> None:
    """Embed all chunks; the nightly job does it again, whether they have changed or not."""
    with tokenguard.attribution(tenant=tenant, feature="indexing", route="nightly"):
        for _ in range(times):
            for start in range(0, len(CHUNKS), 20):
                client.embeddings.create(model="text-embedding-3-small", input=list(CHUNKS[start : start + 20]))


def answer_question(client: openai.OpenAI, tenant: str, question: str, chunks: int) -> None:
    """Answer from the best chunks; version `top50` plays safe, `top5` trusts the ranking."""
    ranked = sorted(CHUNKS, key=lambda chunk: -sum(word in chunk for word in question.split()))[:chunks]
    version = f"top{chunks}"
    with (
        tokenguard.attribution(tenant=tenant, feature="rag_answers", route="/ask", prompt_version=version),
        tokenguard.task("answer_question"),
    ):
        client.chat.completions.create(
            model="gpt-4.1-mini",
            messages=[
                {"role": "system", "content": "Answer in one sentence, from these sources only."},
                {"role": "user", "content": "\n\n".join(ranked) + f"\n\nQuestion: {question}"},
            ],
            temperature=0.1,
            max_tokens=150,
        )


# --- sorting and extracting -------------------------------------------------------------------------------------------


async def triage(client: anthropic.AsyncAnthropic, tenant: str, tickets: Iterable[str]) -> None:
    """One word for each ticket, from the most expensive model there is."""
    with tokenguard.attribution(tenant=tenant, feature="triage", route="inbox", prompt_version="v1"):
        for ticket in tickets:
            await client.messages.create(
                model="claude-opus-4-8",
                max_tokens=10,
                system=f"Sort the ticket. Reply with one of: {QUEUES}",
                messages=[{"role": "user", "content": ticket}],
            )


async def triage_small(client: openai.AsyncOpenAI, tenant: str, tickets: Iterable[str]) -> None:
    """The same with a small model."""
    with tokenguard.attribution(tenant=tenant, feature="triage", route="inbox", prompt_version="v2"):
        for ticket in tickets:
            await client.responses.create(
                model="gpt-4o-mini", instructions=f"Reply with one of: {QUEUES}", input=ticket, max_output_tokens=16
            )


def extract(client: openai.OpenAI, tenant: str, ticket: str) -> None:
    """A structured record of a ticket; this client does not retry by itself, so the program does."""
    with tokenguard.attribution(tenant=tenant, feature="extraction", route="inbox"):
        for attempt in range(4):
            try:
                client.chat.completions.parse(
                    model="gpt-4o-mini",
                    messages=[{"role": "user", "content": f"Extract the facts: {ticket}"}],
                    response_format=Extracted,
                )
            except (openai.RateLimitError, openai.InternalServerError):
                if attempt == 3:
                    raise
            else:
                return


# --- agents -----------------------------------------------------------------------------------------------------------


def orders_agent(client: openai.OpenAI, tenant: str, goal: str, *, finds: bool) -> None:
    """A loop of tool calls over the Responses API; when nothing is found, it never stops asking."""
    tools: Any = [
        {"type": "function", "name": name, "description": told, "parameters": LOOK_UP, "strict": True}
        for name, told in TOOLS
    ]
    with (
        tokenguard.attribution(tenant=tenant, feature="orders_agent", route="/agent", prompt_version="v2"),
        tokenguard.task("find_order") as work,
    ):
        sent: Any = goal
        chained: Any = {}
        for _ in range(AGENT_STEPS):
            response = client.responses.create(
                model="gpt-5-mini",
                instructions=HANDBOOK,
                input=sent,
                tools=tools,
                reasoning={"effort": "low"},
                **chained,
            )
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                return
            chained = {"previous_response_id": response.id}
            sent = [
                {"type": "function_call_output", "call_id": call.call_id, "output": looked_up(call.arguments, finds)}
                for call in calls
            ]
        work.fail()


def stock_agent(client: anthropic.Anthropic, tenant: str, goal: str) -> None:
    """A loop of tool calls over the Messages API, its growing history cached as it goes."""
    tools: Any = [{"name": name, "description": told, "input_schema": LOOK_UP} for name, told in TOOLS]
    with (
        tokenguard.attribution(tenant=tenant, feature="stock_agent", route="/agent", prompt_version="v1"),
        tokenguard.task("check_stock"),
    ):
        messages: list[Any] = [{"role": "user", "content": goal}]
        for _ in range(AGENT_STEPS):
            answer = client.messages.create(
                model="claude-sonnet-4-6",
                max_tokens=2000,
                system=HANDBOOK,
                tools=tools,
                messages=messages,
                thinking={"type": "enabled", "budget_tokens": 1024},
                cache_control={"type": "ephemeral"},
            )
            if answer.stop_reason != "tool_use":
                return
            messages.append({"role": "assistant", "content": answer.to_dict()["content"]})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": looked_up(json.dumps(block.input), True)}
                for block in answer.content
                if block.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})


def looked_up(arguments: str, finds: bool) -> str:
    """What a tool returns."""
    query = json.loads(arguments).get("query", "")
    if not finds:
        return f"No results for {query!r}. Refine the query and try again."
    return json.dumps({"query": query, "hits": [{"number": "NW-20817", "status": "packed", "items": ["LD-4", "FC-7"]}]})


# --- all of it --------------------------------------------------------------------------------------------------------


async def main() -> None:
    """A minute of business, in a few seconds."""
    chance = random.Random(11)  # noqa: S311 - no secret
    chat, claude = openai.AsyncOpenAI(), anthropic.AsyncAnthropic()
    with openai.OpenAI() as sync, openai.OpenAI(max_retries=0) as bare, anthropic.Anthropic() as sync_claude:
        # The first requests fill the providers' caches; what comes later together finds them there.
        await support_chat(chat, "acme", TICKETS[0], "v14")
        await concierge(claude, "acme", TICKETS[0])
        work = [support_chat(chat, tenant, ticket, "v14") for tenant in TENANTS[:2] for ticket in TICKETS[1:6]]
        work += [support_chat(chat, "initech", ticket, "v13") for ticket in TICKETS[:5]]
        work += [concierge(claude, tenant, chance.choice(TICKETS)) for tenant in ("acme", "initech") for _ in range(3)]
        work += [closed_tab(chat, tenant, chance.choice(TICKETS)) for tenant in TENANTS]
        work += [triage(claude, "globex", TICKETS), triage_small(chat, "acme", TICKETS)]
        work.append(asyncio.to_thread(index_documents, sync, "acme", 2))
        work += [asyncio.to_thread(answer_question, sync, "globex", question, 50) for question in QUESTIONS * 2]
        work += [asyncio.to_thread(answer_question, sync, "acme", question, 5) for question in QUESTIONS * 2]
        work += [asyncio.to_thread(extract, bare, tenant, ticket) for tenant in TENANTS[:2] for ticket in TICKETS[:4]]
        work += [
            asyncio.to_thread(orders_agent, sync, "acme", "Find the order with the doorbell.", finds=True),
            asyncio.to_thread(orders_agent, sync, "globex", "Find the order of last Easter.", finds=False),
            asyncio.to_thread(stock_agent, sync_claude, "initech", "Can NW-20817 leave today?"),
        ]
        await asyncio.gather(*work)
    await chat.close()
    await claude.close()


if __name__ == "__main__":
    asyncio.run(main())
