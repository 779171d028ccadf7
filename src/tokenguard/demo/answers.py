"""The simulated model: what it answers, so that the same question always gets the same plausible answer.

It reads just enough of a request to behave like a model in a program's eyes. It calls tools for some rounds and then
answers, and goes on calling them as long as the results are failures, which is how agents run away. It fills in JSON
schemas, picks one of the labels it is offered, thinks where it is told to, and stops at the output cap.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.tokens.text import O200K, count_text, encoding, encoding_name

SENTENCES = tuple(
    """\
Thanks for getting in touch; I have looked at the details you gave.
The order left our warehouse on Tuesday and should arrive within two working days.
You can change the delivery address until the parcel has been handed to the carrier.
Refunds go back to the card that was charged and take up to five working days to appear.
According to the handbook, requests above the limit need the approval of a team lead.
The setting is under Account, then Billing, then Payment methods.
I could not find an invoice with that number, so please check the last four digits.
Your plan includes ten seats, and each further seat is billed by the month.
The document says that the warranty covers parts and labour for two years.
If the light keeps blinking, hold the button for ten seconds and wait for the tone.
The two figures differ because one of them includes tax.
This was fixed in the release of last month, so updating should be enough.
I have added a note to your ticket so that the next colleague sees it.
The export runs every night at two, and a failed run is repeated in the morning.
None of the sources mentions a later date, so I would rely on the first one.
The policy changed in March; earlier bookings keep their old terms.
Both regions are served from the same stock, which explains the delay.
Please send a photo of the label, and we will replace the part free of charge.
The report groups the amounts by department and month.
In short, nothing else needs to be done on your side.
""".splitlines()
)

FAILED_RESULT = re.compile(r"\b(no results|not found|try again|timed? ?out|error)\b", re.IGNORECASE)
"""Tool results after which the model tries once more, however often it has."""
CHOICE = re.compile(r"\bone of:?\s+([\w-]+(?:(?:,\s*|\s+or\s+|\s*\|\s*)[\w-]+)+)", re.IGNORECASE)
"""An instruction to answer with one of several labels."""

TOOL_CALL_TOKENS = 6
"""What the format of a tool call adds to its name and arguments."""


class Tool(NamedTuple):
    """A tool that a request offers."""

    name: str
    schema: Mapping[str, Any]


class Question(NamedTuple):
    """A request, as far as the answer depends on it; the wire formats fill it in."""

    model: str
    said: str
    """The last thing the user said."""
    instructions: str = ""
    tools: Sequence[Tool] = ()
    choice: str = "auto"
    """`auto`, `none`, `required`, or the name of the tool that must be called."""
    rounds: int = 0
    """Rounds of tool calls since the user said it."""
    result: str = ""
    """What the last tool call returned."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema the answer must have; `{}` for any JSON object."""
    cap: int | None = None
    """The most output tokens."""
    stop: Sequence[str] = ()
    thinks: bool = False
    number: int = 0
    """Which of several answers to the same question this is."""


class Call(NamedTuple):
    """A tool call; the arguments are JSON text, cut off where the cap was reached."""

    name: str
    arguments: str


class Answer(NamedTuple):
    """What the model generated."""

    text: str = ""
    calls: Sequence[Call] = ()
    thoughts: str = ""
    finish: str = "stop"
    """`stop`, `length`, `tool_calls` or `stop_sequence`."""
    stopped_at: str | None = None
    output_tokens: int = 0
    """All that was generated, thoughts included."""
    thought_tokens: int = 0


class Model:
    """Answers questions; deterministic in the question and the seed."""

    def __init__(self, seed: int = 0, tool_rounds: int | None = 2) -> None:
        self.seed = seed
        self.tool_rounds = tool_rounds
        """After how many rounds of tools it answers; `None` is never: an agent without a limit of its own runs away."""
        self.script: list[str] = []
        """Texts to answer next, in order, instead of its own."""

    def answer(self, question: Question) -> Answer:
        """The answer, cut at the cap and at stop sequences, with its tokens."""
        key = f"{self.seed}|{question.model}|{question.said}|{question.rounds}|{question.number}"
        chance = random.Random(hashlib.sha256(key.encode("utf-8", "replace")).digest())  # noqa: S311 - no secret
        thoughts = _prose(chance, 2, 6) if question.thinks else ""
        if self.script:
            return _cut(question, thoughts, self.script.pop(0), ())
        if (tool := self._tool(question)) is not None:
            arguments = json.dumps(_sample(tool.schema, chance, question.said, question.rounds))
            return _cut(question, thoughts, "", (Call(tool.name, arguments),))
        return _cut(question, thoughts, self._text(question, chance), ())

    def _tool(self, question: Question) -> Tool | None:
        tools = {tool.name: tool for tool in question.tools}
        if not tools or question.choice == "none":
            return None
        if question.choice in tools:
            return tools[question.choice]
        unsatisfied = self.tool_rounds is None or question.rounds < self.tool_rounds
        if unsatisfied or question.choice == "required" or FAILED_RESULT.search(question.result):
            return question.tools[question.rounds % len(question.tools)]
        return None

    def _text(self, question: Question, chance: random.Random) -> str:
        if question.schema is not None:
            schema = question.schema or {"type": "object", "properties": {"answer": {"type": "string"}}}
            return json.dumps(_sample(schema, chance, question.said, 0))
        if labels := CHOICE.search(f"{question.instructions}\n{question.said}"):
            return chance.choice(re.split(r",\s*|\s+or\s+|\s*\|\s*", labels[1]))
        return _prose(chance, 1, 5)


def words(text: str) -> list[str]:
    """A text as the pieces in which it is streamed."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) if text.strip() else [text] if text else []


def _prose(chance: random.Random, least: int, most: int) -> str:
    return " ".join(chance.sample(SENTENCES, chance.randint(least, most)))


def _cut(question: Question, thoughts: str, text: str, calls: Sequence[Call]) -> Answer:
    """The answer as far as stop sequences and the cap let it come."""
    stopped_at = None
    for stop in question.stop:
        if stop and stop in text:
            text, stopped_at = text[: text.index(stop)], stop
    room = question.cap
    thoughts, room, _ = _within(room, thoughts, question.model)
    text, room, complete = _within(room, text, question.model)
    kept = []
    for call in calls:
        room = None if room is None else room - TOOL_CALL_TOKENS - count_text(call.name, question.model)
        if room is not None and room < 0:
            complete = False
            break
        arguments, room, complete = _within(room, call.arguments, question.model)
        kept.append(call._replace(arguments=arguments))
    thought_tokens = count_text(thoughts, question.model)
    made = thought_tokens + count_text(text, question.model)
    made += sum(
        TOOL_CALL_TOKENS + count_text(c.name, question.model) + count_text(c.arguments, question.model) for c in kept
    )
    finish = "length" if not complete else "tool_calls" if kept else "stop_sequence" if stopped_at else "stop"
    if question.cap is not None:
        made = min(made, question.cap)
    return Answer(text, tuple(kept), thoughts, finish, stopped_at, max(made, 1), thought_tokens)


def _within(room: int | None, text: str, model: str) -> tuple[str, int | None, bool]:
    """As much of `text` as `room` tokens hold, the room left, and whether it is all."""
    if room is None or not text:
        return text, room, True
    tokenizer = encoding(encoding_name(model) or O200K)
    tokens = tokenizer.encode_ordinary(text)
    if len(tokens) <= room:
        return text, room - len(tokens), True
    return tokenizer.decode(tokens[: max(room, 0)], errors="ignore"), 0, False


def _sample(schema: Mapping[str, Any], chance: random.Random, said: str, round_: int) -> Any:
    """A value that a JSON schema allows."""
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return chance.choice(choices)
    if variants := schema.get("anyOf") or schema.get("oneOf"):
        return _sample(variants[0], chance, said, round_)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    match kind:
        case "object" | None:
            properties = schema.get("properties") or {}
            return {name: _sample(below, chance, said, round_) for name, below in properties.items()}
        case "array":
            return [_sample(schema.get("items") or {"type": "string"}, chance, said, round_)]
        case "integer":
            return chance.randint(int(schema.get("minimum", 1)), int(schema.get("maximum", 100)))
        case "number":
            return round(chance.uniform(float(schema.get("minimum", 0)), float(schema.get("maximum", 1))), 2)
        case "boolean":
            return chance.random() < 0.5
        case "null":
            return None
        case _:
            topic = " ".join(said.split()[:8])
            return topic if round_ == 0 else f"{topic} (attempt {round_ + 1})"
