"""A chat sends its whole history with every question, and nothing ever shortens it.

Each turn pays for all turns before it: a chat of 40 turns of 500 tokens sends 410,000 input tokens, the last turn alone
20,000. Keep the system prompt and the last turns, or replace what is old by a summary. To cut in larger steps, say 40
messages to 20, keeps the prompt cache working in between.

Reported are loops that read a person's next question, conversations that an object or a session keeps from call to
call, and LangChain's `ConversationBufferMemory` where it lasts longer than one run. Whatever may keep the history
short counts: a slice, `pop`, a look at its length, `deque(maxlen=...)`, a name such as `trim_messages`. The tool rounds
of one task are not reported.

pydantic-ai's `result.all_messages()` holds the history that was sent, too. Where it is added to that history, the
history doubles with every turn: that is an error.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def chat():
        messages = [{"role": "system", "content": "Be brief."}]
        while True:
            messages.append({"role": "user", "content": input("> ")})
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)  # TG119
            messages.append({"role": "assistant", "content": reply.choices[0].message.content})

Bad:

    from pydantic_ai import Agent

    agent = Agent("openai:gpt-4.1", model_settings={"max_tokens": 500})

    def chat():
        history = []
        while True:
            result = agent.run_sync(input("> "), message_history=history)  # TG119
            history.extend(result.all_messages())

Good:

    from openai import OpenAI

    client = OpenAI()

    def chat():
        messages = [{"role": "system", "content": "Be brief."}]
        while True:
            messages.append({"role": "user", "content": input("> ")})
            recent = [messages[0], *messages[1:][-20:]]
            reply = client.chat.completions.create(model="gpt-4.1", messages=recent, max_tokens=500)
            messages.append({"role": "assistant", "content": reply.choices[0].message.content})

    def tools(messages):
        for _ in range(12):
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)
            messages.append(reply.choices[0].message)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.history import KEEPERS, OWN_GROWTH, additions, asks_a_person, cut_down, histories
from tokenguard.lint.loops import Loop
from tokenguard.lint.memories import outlives
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.sizes import few
from tokenguard.lint.surface import CALL_WORDS

SEVERITY = "warning"
_FEW = 10  # turns
_MEMORY = "ConversationBufferMemory"
_GROWTH = (".append(", ".extend(", "+=")
_RUN = lazy(rb"\.run(?<!subprocess\.run)(?<!asyncio\.run)(?<!uvicorn\.run)(?:_sync|_streamed|_stream)?\(")
_SENDS = (*CALL_WORDS, ".invoke(", ".ainvoke(", "message_history", "stream(", _RUN)
WORDS = (
    *(((keeper, *_GROWTH), *_SENDS) for keeper in KEEPERS),
    *(((growth, *_SENDS), OWN_GROWTH) for growth in _GROWTH),
    _MEMORY,
)


def check(file: File) -> Iterator[Report]:
    """Report requests of chats whose history nothing shortens, and memories that keep everything."""
    for history in histories(file):
        if isinstance(history.place, Loop) and not (asks_a_person(history.place) and _is_long(file, history.place)):
            continue
        if any(_holds_all(added) for added in additions(history.place, history.name)):
            yield Report(
                history.call,
                f"{history.name} doubles with every turn: all_messages() holds the earlier turns, too. Add "
                "new_messages(), or replace the history.",
                "error",
            )
        elif not cut_down(file, history):
            yield Report(
                history.call,
                f"Every turn sends all of {history.name}, which only grows. Keep the last turns, or a summary of the "
                "older ones.",
            )
    for call in file.module.calls_of((_MEMORY,)):
        if file.names.path(call.func).startswith("langchain") and outlives(file, call):
            yield Report(
                call,
                f"{_MEMORY} sends every earlier turn again. Use a memory with a window, a token limit or a summary.",
            )


def _is_long(file: File, loop: Loop) -> bool:
    """Whether a loop goes round more than a few times."""
    return isinstance(loop, ast.While) or not few(file, loop.iter, _FEW)


def _holds_all(added: ast.expr) -> bool:
    """Whether what is added is pydantic-ai's `result.all_messages()`."""
    return isinstance(added, ast.Call) and isinstance(added.func, ast.Attribute) and added.func.attr == "all_messages"
