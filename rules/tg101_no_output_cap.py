"""A generation call or model constructor sets no output cap.

Output tokens cost three to eight times what input tokens cost, and without a cap one runaway answer is as long as the
model can write: 16,000 to 128,000 tokens. A cap also makes the worst case of a call known before it is sent, which is
what a budget needs. Set it where the model is made, or on the call.

Only calls that certainly set none are reported: a cap that may arrive through `**kwargs` or from a module that cannot
be read is left alone. Where a `[[limit]]` of the policy is known to clamp the call at run time, the finding is only a
note. The fix (unsafe: it may cut answers short) inserts the policy's number, or `default_cap`; for a model that is
known to think first it is `reasoning_cap`, since thinking counts against the cap.

The same holds for agents (pydantic-ai, OpenAI Agents, Google ADK, LiveKit) that are given no settings at all. Not
reported: what only counts tokens (`token_counter=`, the model of a memory buffer), and mocks.

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
    config = types.GenerateContentConfig(temperature=0, max_output_tokens=25000)
    reply = client.models.generate_content(model="gemini-2.5-flash", contents="Hi", config=config)  # TG101
    tiny = client.models.generate_content(model="gemini-pro", contents="?", config={"max_output_tokens": 1024})  # TG101

Bad:

    from functools import partial

    from openai import OpenAI
    from pydantic_ai import Agent

    local = OpenAI(base_url="http://localhost:11434/v1")
    ask = partial(local.chat.completions.create, model="qwen3")  # TG101
    helper = Agent("openai:gpt-4.1-mini", instructions="Help.")  # TG101

Good:

    from functools import partial

    from openai import OpenAI
    from pydantic_ai import Agent

    local = OpenAI(base_url="http://localhost:11434/v1")
    ask = partial(local.chat.completions.create, model="qwen3", max_tokens=1024)  # TG101
    helper = Agent("openai:gpt-4.1-mini", instructions="Help.", model_settings={"max_tokens": 1024})  # TG101
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.loops import makers
from tokenguard.lint.rulebook import File, Report, called
from tokenguard.lint.surface import CALL_WORDS, MODEL_WORDS, OPENAI_CAPS, Surface
from tokenguard.lint.uses import chain, names_of, uses

SEVERITY = "warning"
WORDS = (*CALL_WORDS, *MODEL_WORDS)
OPTIONS = {"default_cap": 1024, "reasoning_cap": 25_000}

# Not text: images, speech, embeddings. Their prices are per piece, or their output has a fixed size.
_OTHER_MEDIA = lazy(r"image|imagen|dall-e|tts|whisper|speech|audio|embed|veo|sora|moderation", re.IGNORECASE)
_MODEL_KEYS = ("model", "model_name", "modelId", "model_id", "id", "deployment_name", "llm")
# Models whose cap counts their thinking, too; OpenAI recommends to leave 25,000 tokens for both
# (https://platform.openai.com/docs/guides/reasoning).
_REASONING = lazy(
    r"(?:^|[/:.'\"])(?:o[1-9]|gpt-(?:5|6|oss)|gemini-(?:2\.5|[3-9])|qwq|grok-[4-9]|magistral|kimi-k2-thinking)"
    r"|reason|think|deepseek-r|-r1\b",
    re.IGNORECASE,
)
_THINKS = (*(holder + name for holder in ("", "extra_body.", "model_kwargs.", "additionalModelRequestFields.")
             for name in ("reasoning", "reasoning_effort", "reasoning_config", "thinking")),
           "thinking_config", "config.thinking_config", "generation_config.thinking_config")  # fmt: skip
_LATER = frozenset({"bind", "with_config", "configurable_fields", "configurable_alternatives", "model_copy",
                    "bind_tools", "clone", "override"})  # fmt: skip
_TAKES_CONFIG = frozenset({"with_config", "model_copy"})  # as the first argument
_RUNS = frozenset({"invoke", "ainvoke", "stream", "astream", "batch", "complete", "acomplete", "chat", "achat", "run",
                   "run_sync", "run_stream", "iter", "send_message", "send_message_stream"})  # fmt: skip
_WHAT = {"call": "This call", "model": "This model", "settings": "These settings", "agent": "This agent"}
# Who asks a model for the number of tokens in a text, and for nothing else.
_COUNTERS = lazy(r".*\b(ChatMemoryBuffer|(?:Conversation)?TokenBufferMemory)\b.*")
_COUNTS = frozenset({"get_num_tokens", "get_num_tokens_from_messages", "get_token_ids"})
# Models that answer from a script, and those whose adapters send a cap of their own.
_CAPPED_MODELS = lazy(r"^test$|^anthropic[:/]|claude|\b(?:TestModel|FunctionModel|Anthropic\w*)\(", re.IGNORECASE)


def check(file: File) -> Iterator[Report]:
    """Report the surfaces whose caps are all certainly absent."""
    for call, surface in file.surfaces:
        if not surface.caps or _given(file, call, surface.caps) is not Presence.ABSENT:
            continue
        if _not_text(file, call) or _capped_elsewhere(file, call, surface):
            continue
        limit = file.limit_at(call)
        cap = _name_of_cap(file, call, surface)
        message = (
            f"{_WHAT[surface.kind]} set{'' if surface.kind == 'settings' else 's'} no output cap: one answer may be as "
            f"long as the model allows. Set {cap}."
        )
        if limit is not None:
            message += f" The policy's limit {limit.name!r} allows {limit.max_output_tokens}."
        number = limit.max_output_tokens if limit is not None else file.options[_default(file, call)]
        yield Report(
            call,
            message,
            "info" if limit is not None and limit.clamps else None,
            _fix(file, call, surface, cap, number),
        )


def _given(file: File, call: ast.Call, caps: tuple[str, ...]) -> Presence:
    return file.any_of(call, caps).presence


def _default(file: File, call: ast.Call) -> str:
    """The option that says how much a fix allows: more for a model that thinks before it answers."""
    return "reasoning_cap" if file.shows(call, _THINKS) or _REASONING.search(_model(file, call)) else "default_cap"


def _model(file: File, call: ast.Call) -> str:
    """The model a call names, as far as it is written there."""
    known = file.arguments(call).known
    given = [known[key] for key in _MODEL_KEYS if key in known] or call.args[:1]
    texts = ((file.constant(value), _default_of(file, value)) for value in given)
    return " ".join(value if isinstance(value, str) else ast.unparse(node) for value, node in texts)


def _default_of(file: File, node: ast.expr) -> ast.expr:
    """What a parameter is where a caller does not say; else what a name stands for."""
    found = file.module.scope_at(node).lookup(node.id) if isinstance(node, ast.Name) else None
    if found and len(found[1]) == 1 and found[1][0].kind == "param" and found[1][0].value is not None:
        return found[1][0].value
    return file.written(node)


def _not_text(file: File, call: ast.Call) -> bool:
    known = file.arguments(call).known
    if "mock_response" in known:  # litellm answers itself
        return True
    if any(key in known for key in _MODEL_KEYS) and _OTHER_MEDIA.search(_model(file, call)):
        return True
    config = known.get("config")
    parts = [known, file.view(config).known] if config is not None else [known]
    return any(re.search(r"image|audio", ast.unparse(p[k]), re.IGNORECASE)
               for p in parts for k in ("modalities", "response_modalities") if k in p)  # fmt: skip


# -- where else a cap may come from --------------------------------------------------------------------------------


def _capped_elsewhere(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether a cap may come from the class, the receiver, `.bind(...)`, a later assignment, or where it runs."""
    if _class_may_cap(file, call, surface):
        return True
    if surface.kind == "agent" and _agent_may_cap(file, call, surface):
        return True
    if surface.kind == "settings" and not _used_as_settings(file, call):
        return True
    if surface.kind == "call" and not _is_partial(call):
        return "GenerativeModel" in surface.path and _receiver_may_cap(file, call, surface)
    if _configurable(file, call, surface) or _only_counts(file, call):
        return True
    if any(_may_cap(file, later, surface) for later in chain(file, call)):
        return True
    names = names_of(file, call)
    for node in uses(file, call) if names else ():
        parent = file.module.parents.get(node)
        if isinstance(parent, ast.Call) and parent.func is node and _may_cap(file, parent, surface):  # of a partial
            return True
        if any(_may_cap(file, later, surface) for later in chain(file, node)):
            return True
    caps = {cap.rpartition(".")[2] for cap in surface.caps}
    targets = (t for node in file.module.all(ast.Assign) for t in node.targets)  # type: ignore[attr-defined]
    return any(isinstance(t, ast.Attribute) and t.attr in caps and ast.unparse(t.value) in names for t in targets)


def _may_cap(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether a later call on the object may set its cap: surely not known of one that changes it, given in a run."""
    func = call.func
    method = func.attr if isinstance(func, ast.Attribute) else ""
    holders = ("", "config.", "config.configurable.", "configurable.", "update.", "generation_config.")
    caps = tuple(f"{holder}{cap}" for holder in holders for cap in surface.caps)
    if method in _LATER:
        inside = call.args[:1] if method in _TAKES_CONFIG else []
        positional = (file.look(arg, cap, nested=True).presence for arg in inside for cap in caps)
        return _given(file, call, caps) is not Presence.ABSENT or any(p is not Presence.ABSENT for p in positional)
    return (method in _RUNS or not method) and _given(file, call, caps) is Presence.PRESENT


def _is_partial(call: ast.Call) -> bool:
    """Whether arguments may follow later: `ask = partial(client.chat.completions.create, model="m")`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name == "partial"


def _class_may_cap(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether the class of this file that a model is made by may set a cap itself."""
    definition = file.names.definition(file.names.path(called(call)))
    if not isinstance(definition, ast.ClassDef):
        return False
    text = ast.unparse(definition)
    return any(cap.rpartition(".")[2] in text for cap in surface.caps) or ".__init__(**self" in text


def _agent_may_cap(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether an agent's settings are reported, or set, in another place; or its model never needs any."""
    known = file.arguments(call).known
    holder = surface.caps[0].partition(".")[0]
    given = known.get(holder)
    if holder == "llm":  # livekit: a model written as a text takes no settings
        return not isinstance(given, ast.Constant)
    if holder == "model":  # strands: neither does one of Bedrock's, which is the default
        return given is not None and not isinstance(file.constant(given), str)
    if given is not None and any(file.written(given) is other for other, _ in file.surfaces):
        return True  # settings that are made in this file are reported there
    model = known.get("model") or (call.args[0] if call.args and "pydantic" in surface.path else None)
    if model is not None:
        if isinstance(file.constant(model), str) and _CAPPED_MODELS.search(str(file.constant(model))):
            return True
        made = file.written(model)
        if _CAPPED_MODELS.search(ast.unparse(made)) and not isinstance(made, ast.Constant):
            return True
        if isinstance(made, ast.Call) and file.look(made, "settings").presence is Presence.PRESENT:
            return True
    if file.arguments(call).open or ("before_model_callback" in known and b"max_output_tokens" in file.module.source):
        return True
    return any(k.arg == holder for name in ("RunConfig", "override") for c in file.module.calls_of((name,))
               for k in c.keywords)  # fmt: skip


def _used_as_settings(file: File, call: ast.Call) -> bool:
    """Whether settings go straight to an agent or a run; others may be merged with more."""
    parent = file.module.parents.get(call)
    if isinstance(parent, ast.keyword):
        return parent.arg in ("model_settings", "settings")
    names = names_of(file, call)
    keywords = (k for other in file.module.calls for k in other.keywords if k.arg == "model_settings")
    return any(ast.unparse(k.value) in names for k in keywords)


def _receiver_may_cap(file: File, call: ast.Call, surface: Surface) -> bool:
    func = call.func
    if not isinstance(func, ast.Attribute):
        return False
    return any(file.look(func.value, cap, nested=True).presence is not Presence.ABSENT for cap in surface.caps)


def _configurable(file: File, call: ast.Call, surface: Surface) -> bool:
    """Whether the cap is among the fields that a run may set: `init_chat_model(configurable_fields=...)`."""
    fields = file.arguments(call).known.get("configurable_fields")
    if fields is None or file.is_none(fields):
        return False
    listed = file.written(fields)
    if not isinstance(listed, ast.Tuple | ast.List | ast.Set):
        return True  # "any", or not known
    return any(file.constant(item) in surface.caps for item in listed.elts)


def _only_counts(file: File, call: ast.Call) -> bool:
    """Whether a model only counts tokens: for a memory buffer, as `token_counter=`, by `get_num_tokens`."""
    places = uses(file, call)
    return bool(places) and all(_is_counter(file, place) for place in places)


def _is_counter(file: File, node: ast.expr) -> bool:
    parent = file.module.parents.get(node)
    if isinstance(parent, ast.Attribute):
        return parent.attr in _COUNTS
    if isinstance(parent, ast.keyword):
        if parent.arg in ("token_counter", "tokenizer"):
            return True
        parent = file.module.parents.get(parent)
    return isinstance(parent, ast.Call) and _COUNTERS.fullmatch(file.names.path(parent.func)) is not None


# -- the fix -------------------------------------------------------------------------------------------------------


def _name_of_cap(file: File, call: ast.Call, surface: Surface) -> str:
    """The spelling to recommend: OpenAI's newer name where OpenAI surely answers, else the one all servers know."""
    if surface.caps != OPENAI_CAPS:
        return surface.caps[0]
    clients = makers(file, called(call))
    if any(file.look(client, "base_url").presence is not Presence.ABSENT for client in clients):
        urls = [file.constant(file.look(client, "base_url").value) for client in clients]
        return "max_completion_tokens" if all("api.openai.com" in str(url) for url in urls) else "max_tokens"
    model = file.constant(file.arguments(call).known.get("model"))
    if isinstance(model, str):
        theirs = re.match(r"gpt-\d|o[1-9]|chatgpt", model) is not None
    else:
        theirs = file.names.path(called(call)).startswith(
            ("openai.OpenAI()", "openai.AsyncOpenAI()", "openai.AzureOpenAI()", "openai.AsyncAzureOpenAI()")
        )
    return "max_completion_tokens" if theirs else "max_tokens"


def _fix(file: File, call: ast.Call, surface: Surface, cap: str, number: int) -> Fix | None:
    """Set `cap` on the call, or in the dict or config object that holds it."""
    holder, _, name = cap.rpartition(".")
    if not holder:
        return _set(call, name, str(number), cap, number)
    value = file.arguments(call).known.get(holder)
    if value is None or file.is_none(value):
        needed = surface.nested.partition("(")[0] if "(" in surface.nested else ""  # a class that must be imported
        if not surface.nested or (needed and file.module.top.lookup(needed) is None):
            return None
        return _set(call, holder, surface.nested.format(number), cap, number)
    place = file.written(value)
    return _set(place, name, str(number), cap, number) if isinstance(place, ast.Dict | ast.Call) else None


def _set(place: ast.Call | ast.Dict, name: str, value: str, cap: str, number: int) -> Fix:
    return Fix(f"Set {cap} to {number}", (Edit("set", Span.of(place), name, value),))
