"""A generation call or model constructor sets no output cap.

Output tokens cost three to eight times what input tokens cost, and without a cap one runaway answer is as long as the
model can write: 16,000 to 128,000 tokens. A cap also makes the worst case of a call known before it is sent, which is
what a budget needs. Set it where the model is made, or on the call.

Only calls that certainly set none are reported: a cap that may arrive through `**kwargs` or from a module that cannot
be read is left alone. Where a `[[limit]]` of the policy is known to clamp the call at run time, the finding is only a
note. The fix (unsafe: it may cut answers short) inserts the policy's number, or `default_cap`.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def answer(question):
        return client.chat.completions.create(  # TG101
            model="gpt-4.1-mini",
            messages=[{"role": "user", "content": question}],
        )

Good:

    from openai import OpenAI

    client = OpenAI()

    def answer(question):
        return client.chat.completions.create(  # TG101
            model="gpt-4.1-mini",
            messages=[{"role": "user", "content": question}],
            max_completion_tokens=1024,
        )

Bad:

    from langchain_openai import ChatOpenAI as Chat

    llm = Chat(model="gpt-4.1-mini", temperature=0)  # TG101

Good:

    from langchain_openai import ChatOpenAI as Chat

    llm = Chat(model="gpt-4.1-mini", temperature=0, max_tokens=1024)  # TG101

Bad:

    from google import genai
    from google.genai import types

    client = genai.Client()
    config = types.GenerateContentConfig(temperature=0)
    reply = client.models.generate_content(model="gemini-2.5-flash", contents="Hi", config=config)  # TG101
    tiny = client.models.generate_content(model="gemini-pro", contents="?")  # TG101

Good:

    from google import genai
    from google.genai import types

    client = genai.Client()
    config = types.GenerateContentConfig(temperature=0, max_output_tokens=1024)
    reply = client.models.generate_content(model="gemini-2.5-flash", contents="Hi", config=config)  # TG101
    tiny = client.models.generate_content(model="gemini-pro", contents="?", config={"max_output_tokens": 1024})  # TG101
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS, MODEL_WORDS, OPENAI_CAPS, Surface

SEVERITY = "warning"
WORDS = (*CALL_WORDS, *MODEL_WORDS)
OPTIONS = {"default_cap": 1024}

# Not text: images, speech, embeddings. Their prices are per piece, or their output has a fixed size.
_OTHER_MEDIA = re.compile(r"image|imagen|dall-e|tts|whisper|speech|audio|embed|veo|sora|moderation", re.IGNORECASE)
_MODEL_KEYS = ("model", "model_name", "modelId", "model_id", "id", "deployment_name")
_LATER = frozenset(
    {"bind", "with_config", "configurable_fields", "configurable_alternatives", "model_copy", "bind_tools"}
)

_RUNS = ("invoke", "ainvoke", "stream", "astream", "batch", "complete", "acomplete", "chat", "achat", "run")


def check(file: File) -> Iterator[Report]:
    """Report the surfaces whose caps are all certainly absent."""
    for call, surface in file.surfaces:
        if not surface.caps or file.any_of(call, surface.caps).presence is not Presence.ABSENT:
            continue
        if _not_text(file, call) or _capped_elsewhere(file, call, surface):
            continue
        limit = file.limit_at(call)
        cap = _name_of_cap(file, call, surface)
        what = {"call": "This call", "model": "This model", "settings": "These settings"}[surface.kind]
        message = (
            f"{what} set{'' if surface.kind == 'settings' else 's'} no output cap: one answer may be as "
            f"long as the model allows. Set {cap}."
        )
        if limit is not None:
            message += f" The policy's limit {limit.name!r} allows {limit.max_output_tokens}."
        number = limit.max_output_tokens if limit is not None else file.options["default_cap"]
        yield Report(
            call,
            message,
            "info" if limit is not None and limit.clamps else None,
            _fix(file, call, surface, cap, number),
        )


def _not_text(file: File, call: ast.Call) -> bool:
    known = file.arguments(call).known
    if "mock_response" in known:  # litellm answers itself
        return True
    for key in _MODEL_KEYS:
        if key in known:
            value = file.constant(known[key])
            if _OTHER_MEDIA.search(value if isinstance(value, str) else ast.unparse(known[key])):
                return True
    config = known.get("config")
    parts = [known, file.view(config).known] if config is not None else [known]
    return any(re.search(r"image|audio", ast.unparse(p[k]), re.IGNORECASE)
               for p in parts for k in ("modalities", "response_modalities") if k in p)  # fmt: skip


def _capped_elsewhere(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether a cap may come from where the receiver was made, from `.bind(...)`, or from a later assignment."""
    if surface.kind == "call":
        return _receiver_may_cap(file, call, surface)
    parent = file.module.parents.get(call)
    if surface.kind == "settings" and not _used_as_settings(file, call):
        return True
    if isinstance(parent, ast.Attribute) and parent.attr in _LATER:
        return _call_may_cap(file, file.module.parents.get(parent), surface)
    names = _assigned_names(file, call)
    if not names:
        return False
    for other in file.module.calls_of((*_LATER, *_RUNS)):
        func = other.func
        if not isinstance(func, ast.Attribute) or ast.unparse(func.value) not in names:
            continue
        if func.attr in _LATER and _call_may_cap(file, other, surface):
            return True
        if func.attr in _RUNS and file.any_of(other, surface.caps).presence is Presence.PRESENT:
            return True
    caps = {cap.rpartition(".")[2] for cap in surface.caps}
    targets = (t for node in file.module.all(ast.Assign) for t in node.targets)  # type: ignore[attr-defined]
    return any(isinstance(t, ast.Attribute) and t.attr in caps and ast.unparse(t.value) in names for t in targets)


def _used_as_settings(file: File, call: ast.Call) -> bool:
    """Whether settings go straight to an agent or a run; others may be merged with more."""
    parent = file.module.parents.get(call)
    if isinstance(parent, ast.keyword):
        return parent.arg in ("model_settings", "settings")
    names = _assigned_names(file, call)
    keywords = (k for other in file.module.calls for k in other.keywords if k.arg == "model_settings")
    return any(ast.unparse(k.value) in names for k in keywords)


def _call_may_cap(file: File, call: ast.AST | None, surface: Surface) -> bool:
    if not isinstance(call, ast.Call):
        return False
    caps = (*surface.caps, *(f"config.{c}" for c in surface.caps), *(f"config.configurable.{c}" for c in surface.caps))
    caps += tuple(f"update.{c}" for c in surface.caps)
    return file.any_of(call, caps).presence is not Presence.ABSENT


def _receiver_may_cap(file: File, call: ast.Call, surface: Surface) -> bool:
    func = call.func
    if not (isinstance(func, ast.Attribute) and "GenerativeModel" in surface.path):
        return False
    return any(file.look(func.value, cap, nested=True).presence is not Presence.ABSENT for cap in surface.caps)


def _assigned_names(file: File, call: ast.Call) -> set[str]:
    for node in file.module.ancestors(call):
        if isinstance(node, ast.Assign):
            return {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.AnnAssign | ast.NamedExpr):
            return {ast.unparse(node.target)}
        if isinstance(node, ast.stmt):
            return set()
    return set()


def _name_of_cap(file: File, call: ast.Call, surface: Surface) -> str:
    """The spelling to recommend: OpenAI's newer name where OpenAI surely answers, else the one all servers know."""
    if surface.caps != OPENAI_CAPS:
        return surface.caps[0]
    model = file.constant(file.arguments(call).known.get("model"))
    if isinstance(model, str):
        theirs = model.startswith(("gpt-", "o1", "o3", "o4", "chatgpt"))
    else:
        theirs = file.names.path(call.func).startswith(
            ("openai.OpenAI()", "openai.AsyncOpenAI()", "openai.AzureOpenAI()")
        )
    return "max_completion_tokens" if theirs else "max_tokens"


def _fix(file: File, call: ast.Call, surface: Surface, cap: str, number: int) -> Fix | None:
    """Set `cap` on the call, or in the dict or config object that holds it."""
    holder, _, name = cap.rpartition(".")
    if not holder:
        return _set(call, name, str(number), cap, number)
    value = file.arguments(call).known.get(holder)
    if value is None or file.is_none(value):
        return _set(call, holder, surface.nested.format(number), cap, number)
    place = file.written(value)
    return _set(place, name, str(number), cap, number) if isinstance(place, ast.Dict | ast.Call) else None


def _set(place: ast.Call | ast.Dict, name: str, value: str, cap: str, number: int) -> Fix:
    return Fix(f"Set {cap} to {number}", (Edit("set", Span.of(place), name, value),))
