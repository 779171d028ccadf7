r"""A model that a cheaper and better one has replaced, or a top model for a simple task.

Model names stay in code for years while their prices stay what they were: `gpt-4` costs fifteen times what `gpt-4.1`
costs. Where the same maker offers a successor that is cheaper for input and output alike, use it; where a prompt only
classifies, extracts or says yes or no, a small model does, and little effort. Pinned evaluations are the exception:
exclude them.

The table below is checked against the price book by a test.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def label(text):
        return client.chat.completions.create(model="gpt-4-turbo", max_tokens=5, messages=[{"role": "user", "content": text}])  # TG112

Good:

    from openai import OpenAI

    client = OpenAI()

    def label(text):
        return client.chat.completions.create(model="gpt-4.1", max_tokens=5, messages=[{"role": "user", "content": text}])

Bad:

    import anthropic

    client = anthropic.Anthropic()

    def spam(text):
        return client.messages.create(  # TG112
            model="claude-opus-4-1",
            max_tokens=5,
            messages=[{"role": "user", "content": f"Is this spam? Answer yes or no.\n{text}"}],
        )

Good:

    import anthropic

    client = anthropic.Anthropic()

    def spam(text):
        return client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=5,
            messages=[{"role": "user", "content": f"Is this spam? Answer yes or no.\n{text}"}],
        )
"""  # noqa: E501 - an example line

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tokenguard.facts.patterns import lazy
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS, MODEL_WORDS
from tokenguard.lint.syntax import walk

SEVERITY = "info"
_NAMES = ("effort", "gpt-3", "gpt-4", "gpt-5", "o1", "o3-pro", "claude-2", "claude-3-opus", "claude-opus")
WORDS = tuple((name, *CALL_WORDS, *MODEL_WORDS) for name in _NAMES)

# Superseded model, as a pattern, and the same maker's cheaper successor. Prices: the book of genai-prices.
SUPERSEDED = {
    r"gpt-3\.5-turbo(-\d{4}|-16k(-\d{4})?|-instruct)?": "gpt-4o-mini",
    r"gpt-4(-0314|-0613|-32k(-\d{4})?)?": "gpt-4.1",
    r"gpt-4-(turbo(-preview|-\d{4}-\d\d-\d\d)?|1106-preview|0125-preview|vision-preview)": "gpt-4.1",
    r"gpt-4o-2024-05-13": "gpt-4.1",
    r"gpt-4\.5-preview.*": "gpt-4.1",
    r"o1-preview.*|o1(-2024-12-17)?": "o3",
    r"claude-3-opus-(20240229|latest)": "claude-sonnet-4-5",
    r"claude-2(\.[01])?": "claude-sonnet-4-5",
}
_STALE = [(re.split(r"\W", p.replace("-", "_"))[0].replace("_", "-"), lazy(p), new) for p, new in SUPERSEDED.items()]
_TOP = lazy(
    r"(?:openai/|anthropic/)?(?:gpt-5(?:\.\d)?-pro|o1-pro|o3-pro|gpt-4\.5|claude-opus-4|claude-3-opus|gpt-4-turbo|gpt-4-32k).*"
)
_SIMPLE = lazy(
    r"\bclassif(?:y|ies|ication)\b|\byes or no\b|\bextract the\b|\bcategori[sz]e\b|\btrue or false\b|\bsentiment\b"
    r"|\b(?:answer|respond|reply) with only\b",
    re.IGNORECASE,
)


def check(file: File) -> Iterator[Report]:
    """Report model literals of requests and model constructors."""
    for call, _ in file.surfaces:
        known = file.arguments(call).known
        value = next(
            (known[n] for n in ("model", "model_name", "modelId", "id") if n in known),
            call.args[0] if call.args else None,
        )
        effort = _effort(file, known)
        if effort and _SIMPLE.search(_prompt(call)):
            yield Report(
                call,
                f"Effort {effort} for something simple: the model thinks at length, and thinking is paid as output. "
                f"Ask for low.",
            )
            continue
        model = file.constant(value)
        if not isinstance(model, str):
            continue
        name = model.removeprefix("openai/").removeprefix("anthropic/")
        successor = next((new for start, p, new in _STALE if name.startswith(start) and p.fullmatch(name)), None)
        if successor is not None:
            yield Report(
                call,
                f"{model} is superseded: {successor} costs less for input and output and does better. Change the "
                f"name, or pin it on purpose.",
            )
        elif _TOP.fullmatch(model) and _SIMPLE.search(_prompt(call)):
            yield Report(
                call,
                f"{model} is a top model, and this prompt asks for something simple. A small model of the same "
                f"maker costs a fraction.",
            )


def _effort(file: File, known: Mapping[str, ast.expr]) -> str:
    """The effort that a request asks for, if it is a high one."""
    given = known.get("reasoning_effort")
    if given is None and "reasoning" in known:
        given = file.view(known["reasoning"]).known.get("effort")
    effort = file.constant(given)
    return effort if effort in ("high", "xhigh") else ""


def _prompt(call: ast.Call) -> str:
    return " ".join(n.value for n in walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str))
