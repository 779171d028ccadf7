"""A retry around a client that also retries.

The SDKs of OpenAI, Anthropic and others send a failed request up to two more times themselves. A decorator with three
attempts around that makes nine requests for one answer, just when the provider is down. Let one of the two retry: set
`max_retries=0` on the client, or drop the decorator.

A retry for what the SDK does not retry (`ValidationError`, `JSONDecodeError`) multiplies nothing, and is left alone; so
is one whose condition cannot be read. A block of attempts (`for attempt in Retrying(...)`) is the same as a decorator,
and a client is known through the function that makes it, of another module, too.

Bad:

    from openai import OpenAI
    from tenacity import retry, stop_after_attempt

    client = OpenAI()

    @retry(stop=stop_after_attempt(3))  # TG106
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

Good:

    import json

    from openai import OpenAI
    from tenacity import retry, retry_if_exception_type, stop_after_attempt

    client = OpenAI(max_retries=0)

    @retry(stop=stop_after_attempt(3))
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    @retry(stop=stop_after_attempt(3), retry=retry_if_exception_type(ValueError))
    def ask_for_json(messages):
        return json.loads(OpenAI().responses.create(model="gpt-4.1", input=messages, max_output_tokens=500).output_text)

    def make(settings):
        patient = OpenAI(**settings)

        @retry(stop=stop_after_attempt(3))
        def ask(messages):
            return patient.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

        return ask
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import RETRIES, makers, retry_decorators, retry_loops
from tokenguard.lint.rulebook import File, Report, called
from tokenguard.lint.surface import CALL_WORDS, CLIENTS, EMBEDDINGS, matcher, words_of
from tokenguard.lint.syntax import Function, walk

SEVERITY = "warning"
_DEPTH = 4
_RUNS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch", "complete", "acomplete", "chat", "achat")
_EMBEDDINGS = tuple(path for path in EMBEDDINGS if path.startswith("*.") and path.endswith(".create"))
_EMBEDS = matcher(_EMBEDDINGS)
WORDS = tuple(
    (library, *CALL_WORDS, *words_of(_EMBEDDINGS), *(f".{run}(" for run in _RUNS))
    for library in dict.fromkeys(RETRIES.values())
)
_WRAPS = frozenset({"bind", "bind_tools", "with_structured_output", "with_config", "with_options"})
# Framework models that keep the retries of their SDK, or have some of their own.
_MODELS = matcher(tuple(f"{package}.{name}" for package, names in (
    ("langchain*", ("ChatOpenAI", "AzureChatOpenAI", "ChatAnthropic", "ChatGroq", "ChatMistralAI", "ChatFireworks",
                    "ChatGoogleGenerativeAI", "ChatVertexAI", "ChatDeepSeek", "ChatXAI", "ChatTogether")),
    ("llama_index.*", ("OpenAI", "AzureOpenAI", "Anthropic", "OpenAILike", "Groq")),
    ("agno.models.*", ("OpenAIChat", "Claude", "Groq"))) for name in names))  # fmt: skip

# What the SDKs retry: broken connections, timeouts, and the answers 408, 409, 429 and 500 upwards; with their bases.
_RETRIED = frozenset({"Exception", "BaseException", "OSError", "ConnectionError", "TimeoutError", "HTTPError",
                      "OpenAIError", "AnthropicError", "APIError", "APIStatusError", "APIConnectionError",
                      "APITimeoutError", "RateLimitError", "InternalServerError", "ConflictError", "Timeout",
                      "ApiError", "HTTPStatusError", "TransportError", "RequestError"})  # fmt: skip


def check(file: File) -> Iterator[Report]:
    """Report retries around calls of a client that is known to keep its own retries."""
    seen: set[ast.expr] = set()
    runs = [call for call in file.module.calls_of(_RUNS) if isinstance(call.func, ast.Attribute)]
    embeds = [call for call in file.module.calls_of(("create",)) if _EMBEDS.fullmatch(file.names.path(call.func))]
    for call in (*(call for call, _ in file.generations), *runs, *embeds):
        around = (*retry_decorators(file, call), *retry_loops(file, call))
        decorators = [retry for retry in around if retry[0] not in seen]
        if not decorators:
            continue
        clients = _clients(file, called(call), 0)
        if not clients or _swallowed(file, call) or any(_retries_off(call, *client) for client in clients):
            continue
        for decorator, library in decorators:
            seen.add(decorator)
            if not _overlaps(file, decorator, library):
                continue
            other, made = clients[0]
            name = (other.names.base(path := other.names.path(made.func)) or path).rpartition(".")[2]
            yield Report(
                decorator,
                f"{library} retries what {name} already retries by itself: attempts multiply. Set max_retries=0 on "
                f"the client, or drop this.",
            )


_Made = tuple[File, ast.Call]
"""What makes a client, with the facts of its file."""


def _clients(file: File, node: ast.expr, depth: int) -> list[_Made]:
    """The clients or models that `node` surely asks, whichever branch made them; none where one is not known.

    A model may be part of a pipeline (`prompt | model | parser`), or wrapped (`model.bind_tools(...)`).
    """
    if isinstance(node, ast.BinOp) and depth < _DEPTH:
        return _clients(file, node.left, depth + 1) or _clients(file, node.right, depth + 1)
    found: list[_Made] = []
    for made in makers(file, node):
        path = file.names.path(made.func)
        if (file.names.base(path) or path) in CLIENTS or _MODELS.fullmatch(path):
            found.append((file, made))
        elif depth < _DEPTH and (results := _made_elsewhere(file, path, depth)):
            found += results
        elif isinstance(made.func, ast.Attribute) and made.func.attr in _WRAPS and depth < _DEPTH:
            found += _clients(file, made.func.value, depth + 1)
        else:
            return []
    if not found and isinstance(node, ast.Attribute | ast.Name) and depth < _DEPTH:
        value = file.written(node.value if isinstance(node, ast.Attribute) else node)
        return _clients(file, value, depth + 1) if isinstance(value, ast.BinOp) else []
    return found


def _made_elsewhere(file: File, path: str, depth: int) -> list[_Made]:
    """The clients that a function of another module makes; none where one is not known."""
    other, function = file.elsewhere(path) or (file, None)
    if not isinstance(function, Function):
        return []
    made = [_clients(other, result, depth + 1) for result in other.module.results(function)]
    return [client for clients in made for client in clients] if all(made) else []


def _swallowed(file: File, call: ast.Call) -> bool:
    """Whether the function around a request keeps every error of it to itself, so that its decorator sees none."""
    inner: ast.AST = call
    for outer in file.module.ancestors(call):
        if isinstance(outer, Function):
            return False
        if isinstance(outer, ast.Try) and inner in outer.body:
            for handler in outer.handlers:
                caught = "BaseException" if handler.type is None else ast.unparse(handler.type)
                if re.search(r"\b(?:Base)?Exception\b", caught):
                    return not any(isinstance(node, ast.Raise) for node in walk(handler))
        inner = outer
    return False


def _retries_off(call: ast.Call, file: File, client: ast.Call) -> bool:
    fact = file.look(client, "max_retries")
    if fact.presence is Presence.UNKNOWN or (
        fact.presence is Presence.PRESENT and file.constant(fact.value) in (0, None)
    ):
        return True
    return "with_options" in ast.unparse(call.func)


def _overlaps(file: File, decorator: ast.expr, library: str) -> bool:
    """Whether a decorator surely retries something that the SDK retries, too: everything, or an error named here."""
    if not isinstance(decorator, ast.Call):
        return True
    names = {"tenacity": "retry", "backoff": "exception", "retry": "exceptions", "stamina": "on"}
    condition = file.arguments(decorator).known.get(names.get(library, ""))
    if library == "backoff" and len(decorator.args) > 1:
        condition = decorator.args[1]
    elif library == "retry" and decorator.args:
        condition = decorator.args[0]
    if condition is None:
        return library != "retrying" or not any(k.arg and k.arg.startswith("retry_on") for k in decorator.keywords)
    return _meets(file, condition, library)


def _meets(file: File, condition: ast.expr, library: str) -> bool:
    """Whether a condition names an error that the SDK retries; of `this | that` one of them, of `this & that` both."""
    if isinstance(condition, ast.BinOp):
        both = (_meets(file, side, library) for side in (condition.left, condition.right))
        return any(both) if isinstance(condition.op, ast.BitOr) else all(both)
    if "not_exception" in ast.unparse(condition):
        return True
    errors = condition.args if library == "tenacity" and isinstance(condition, ast.Call) else [condition]
    listed = [e for error in errors for e in (error.elts if isinstance(error, ast.Tuple | ast.List) else [error])]
    return any(file.names.path(error).rpartition(".")[2].lstrip("?") in _RETRIED for error in listed)
