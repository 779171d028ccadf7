"""The demo's second part: the same kind of product under a policy. Nothing in here knows of limits or budgets.

An agent that would never end, a question that sets no output cap, and a customer who asks all day: `guarded.toml` stops
the first, caps the second and ends the third, and the application meets it as an exception like any other.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

import tokenguard
from tokenguard.demo.documents import HANDBOOK, QUESTIONS
from tokenguard.demo.workload import LOOK_UP

SEARCH: Any = {
    "type": "function",
    "function": {"name": "search_stock", "description": "Search the stock by part number.", "parameters": LOOK_UP},
}


def agent(client: openai.OpenAI) -> None:
    """Look for a part until it is found, which it never is."""
    messages: list[Any] = [{"role": "user", "content": "Find part 4711 in any warehouse."}]
    with tokenguard.attribution(tenant="initech", feature="stock_agent"), tokenguard.task("find_part"):
        while True:
            answer = client.chat.completions.create(
                model="gpt-4.1-mini", messages=messages, tools=[SEARCH], max_completion_tokens=200
            )
            said = answer.choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            if not said.tool_calls:
                return
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"error": "not found, try again"})}
                for call in said.tool_calls
            ]


def questions(client: openai.OpenAI) -> None:
    """Answer questions, without a word on how long the answer may be."""
    with tokenguard.attribution(tenant="globex", feature="faq"), tokenguard.task("answer_question"):
        for question in QUESTIONS[:3]:
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": question}])


def chatty_customer(client: openai.OpenAI) -> None:
    """Serve a customer for as long as there is something left of the day's budget."""
    with tokenguard.attribution(tenant="acme", feature="support_bot"):
        for n in range(40):
            client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[
                    {"role": "system", "content": HANDBOOK},
                    {"role": "user", "content": f"{QUESTIONS[n % len(QUESTIONS)]} ({n})"},
                ],
                max_completion_tokens=500,
            )


def main() -> None:
    """Run all three, and say how each was stopped."""
    client = openai.OpenAI()
    for part in (agent, questions, chatty_customer):
        try:
            part(client)
        except tokenguard.GuardrailViolation as refusal:
            sys.stdout.write(f"{type(refusal).__name__}: {refusal}\n")


if __name__ == "__main__":
    main()
