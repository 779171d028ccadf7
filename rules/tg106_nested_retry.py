"""A retry around a client that also retries.

The SDKs of OpenAI, Anthropic and others send a failed request up to two more times themselves. A decorator with three
attempts around that makes nine requests for one answer, just when the provider is down. Let one of the two retry: set
`max_retries=0` on the client, or drop the decorator.

A retry for what the SDK does not retry (`ValidationError`, `JSONDecodeError`) multiplies nothing, and is left alone; so
is one whose condition cannot be read. A block of attempts (`for attempt in Retrying(...)`), attempts that are called
(`Retrying(...)(ask, messages)`) and a decorator of your own around a library's are the same as a decorator. The
request may be in a function that the decorated one calls, or be handed to it (`patient(client.responses.create, ...)`).
A client is known through the function, property or other module that makes it.

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
from collections.abc import Iterable, Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import RETRIES, Retry, makers, retries, retry_decorators, retry_loops
from tokenguard.lint.rulebook import File, Report, called
from tokenguard.lint.surface import CALL_WORDS, CLIENTS, EMBEDDINGS, matcher, surface_of, words_of
from tokenguard.lint.syntax import Function, Scope, parameters_of, walk

SEVERITY = "warning"
_DEPTH = 4
_MAKERS = ("Retrying", "AsyncRetrying", "retry", "retry_context")
_CLIENTS = frozenset(CLIENTS) - {"mistralai.Mistral"}  # that one sends once, unless it is given a `retry_config`
_OWN = lazy(r"openai\.(?:beta\.)?(?:chat\.completions|responses|embeddings)\.\w+")  # the package's own client
_RUNS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch", "complete", "acomplete", "chat", "achat")
_EMBEDDINGS = tuple(path for path in EMBEDDINGS if path.startswith("*.") and path.endswith(".create"))
_EMBEDS = matcher(_EMBEDDINGS)
WORDS = tuple(
    (library, *CALL_WORDS, *words_of(_EMBEDDINGS), *(f".{run}(" for run in _RUNS))
    for library in dict.fromkeys(RETRIES.values())
)
_WRAPS = frozenset({"bind", "bind_tools", "with_structured_output", "with_config"})
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
    """Report retries around requests, there or in functions, of a client that is known to keep its own retries."""
    seen: set[ast.expr] = set()
    for retry, place, clients in _retried(file):
        if retry.node in seen or not clients or _swallowed(file, place):
            continue
        if any(_retries_off(*client) for client in clients):
            continue
        seen.add(retry.node)
        if _overlaps(retry):
            yield Report(
                retry.node,
                f"{retry.library} retries what {_name(clients[0])} already retries by itself: attempts multiply. Set "
                f"max_retries=0 on the client, or drop this.",
            )


_Made = tuple[File, ast.Call | None]
"""What makes a client, with the facts of its file; None is the one that `openai.responses.create` goes through."""
_Retried = tuple[Retry, ast.Call, list[_Made]]
"""A retry, the call that it repeats, and the clients that this goes through."""


def _retried(file: File) -> Iterator[_Retried]:
    """The retries around what asks a client: in their function, in one that this calls, or in what it is given."""
    decorated = [f for f in _functions(file) if f.decorator_list and retries(file, f.decorator_list)]
    made = [c for c in file.module.calls_of(_MAKERS) if file.names.path(c.func) in RETRIES]
    if not decorated and not made:
        return
    requests = list(_requests(file))
    for request in requests:
        yield from _around(file, request, request, 0)
    for call in file.module.calls if decorated else ():
        if isinstance(call.func, ast.Name) and (function := file.module.function_of(call)) in decorated:
            for clients in _asked_by(file, _passed(file, call.func), requests):
                yield from ((retry, call, clients) for retry in retries(file, function.decorator_list))
    for maker in made:
        for call in _uses(file, maker):
            for clients in _asked_by(file, call.args[:1], requests):
                yield from ((retry, call, clients) for retry in retries(file, [maker]))


def _functions(file: File) -> Iterator[Function]:
    return (f for f in file.module.all(ast.FunctionDef, ast.AsyncFunctionDef) if isinstance(f, Function))


def _names(file: File, node: ast.expr, function: Function) -> bool:
    """Whether an expression names a function of this file."""
    return file.names.definition(file.names.path(node)) is function


def _requests(file: File) -> Iterator[ast.Call]:
    yield from (call for call, _ in file.generations)
    yield from (call for call in file.module.calls_of(_RUNS) if isinstance(call.func, ast.Attribute))
    yield from (call for call in file.module.calls_of(("create",)) if _EMBEDS.fullmatch(file.names.path(call.func)))


def _around(file: File, request: ast.Call, place: ast.Call, depth: int) -> Iterator[_Retried]:
    """The retries around a place that sends a request; where there are none, those around its function's calls."""
    around = (*retry_decorators(file, place), *retry_loops(file, place))
    if around:
        options = _clients_of(file, called(request), 0)
        yield from ((retry, place, clients) for retry in around for clients in options)
    function = file.module.function_of(place)
    if not around and function is not None and depth < _DEPTH and not _swallowed(file, place):
        for call in _calls(file, function):
            yield from _around(file, request, call, depth + 1)


def _calls(file: File, function: Function) -> list[ast.Call]:
    """The calls that surely are of a function of this file."""
    owner = file.module.class_of(function)
    return [
        call
        for call in file.module.called.get(function.name, ())
        if _names(file, call.func, function)
        and (owner is None or not _of_self(call) or file.module.class_of(call) is owner)
    ]


def _of_self(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)


def _asked_by(file: File, given: Iterable[ast.expr | Function], requests: list[ast.Call]) -> Iterator[list[_Made]]:
    """The clients that are asked when each of `given` is called: their own methods, functions, or lambdas."""
    for function in given:
        body: ast.AST | None = function
        if not isinstance(function, ast.Lambda | Function):
            surface = surface_of(path := file.names.path(function))
            if (surface is not None and surface.kind == "call") or _EMBEDS.fullmatch(path):
                yield _clients(file, function, 0)
                continue
            body = file.names.definition(path)
        if isinstance(body, ast.Lambda | Function):
            within = [r for r in requests if body in file.module.ancestors(r) and not _swallowed(file, r)]
            found = [_clients(file, called(request), 0) for request in within]
            yield from found if all(found) else ()  # of several providers, who knows which


def _passed(file: File, name: ast.Name) -> list[ast.expr | Function]:
    """What is given for a parameter of the function around a name, or of one further out: by calls, as a decorator."""
    found = file.module.scope_at(name).lookup(name.id)
    if found is None or found[1][0].kind != "param" or not isinstance(found[0].node, Function):
        return []
    function = found[0].node
    parameters = parameters_of(function)
    given: list[ast.expr | Function] = []
    if parameters[:1] == [name.id]:
        given += [f for f in _functions(file) for d in f.decorator_list if _names(file, d, function)]
    for call in _calls(file, function):
        by_place = zip(parameters, call.args, strict=False)
        given += [value for parameter, value in by_place if parameter == name.id]
        given += [keyword.value for keyword in call.keywords if keyword.arg == name.id]
    return given


def _uses(file: File, maker: ast.Call) -> list[ast.Call]:
    """The calls of what `Retrying(...)` makes: there, or of the name it is given."""
    match file.module.parents.get(maker):
        case ast.Call(func=func) as call if func is maker:
            return [call]
        case ast.Assign(targets=[ast.Name(id=name)]):
            scope = file.module.scope_at(maker)
            return [c for c in file.module.called.get(name, ()) if _same(file, c, name, scope)]
    return []


def _same(file: File, call: ast.Call, name: str, scope: Scope) -> bool:
    found = file.module.scope_at(call).lookup(name)
    return found is not None and found[0] is scope and isinstance(call.func, ast.Name)


def _name(client: _Made) -> str:
    other, made = client
    path = other.names.path(made.func) if made is not None else "openai"
    return (other.names.base(path) or path).rpartition(".")[2]


def _clients_of(file: File, node: ast.expr, depth: int) -> list[list[_Made]]:
    """The clients that `node` surely asks; for a parameter those of each call that gives one."""
    if clients := _clients(file, node, depth):
        return [clients]
    while isinstance(node, ast.Attribute):
        node = node.value
    if not isinstance(node, ast.Name) or depth > 1:
        return []
    given = (value for value in _passed(file, node) if isinstance(value, ast.expr))
    return [clients for value in given for clients in _clients_of(file, value, depth + 1)]


def _clients(file: File, node: ast.expr, depth: int) -> list[_Made]:
    """The clients or models that `node` surely asks, whichever branch made them; none where one is not known.

    A model may be part of a pipeline (`prompt | model | parser`), or wrapped (`model.bind_tools(...)`).
    """
    if isinstance(node, ast.BinOp) and depth < _DEPTH:
        return _clients(file, node.left, depth + 1) or _clients(file, node.right, depth + 1)
    if _OWN.match(file.names.path(node)) and b"openai.max_retries" not in file.module.source:
        return [(file, None)]
    found: list[_Made] = []
    for made in makers(file, node):
        path = file.names.path(made.func)
        if (file.names.base(path) or path) in _CLIENTS or _MODELS.fullmatch(path):
            found.append((file, made))
        elif depth < _DEPTH and (results := _made_elsewhere(file, path, depth)):
            found += results
        elif isinstance(made.func, ast.Attribute) and _wraps(file, made) and depth < _DEPTH:
            found += _clients(file, made.func.value, depth + 1)
        else:
            return []
    if not found and isinstance(node, ast.Attribute | ast.Name) and depth < _DEPTH:
        value = file.written(node.value if isinstance(node, ast.Attribute) else node)
        if isinstance(value, ast.BinOp):
            return _clients(file, value, depth + 1)
        return _kept_elsewhere(file, node, depth)
    return found


def _wraps(file: File, made: ast.Call) -> bool:
    """Whether a call gives the client or model that it is a method of, with its retries as they were."""
    name = made.func.attr if isinstance(made.func, ast.Attribute) else ""
    return name in _WRAPS or (name == "with_options" and file.look(made, "max_retries").presence is Presence.ABSENT)


def _kept_elsewhere(file: File, node: ast.expr, depth: int) -> list[_Made]:
    """The client that another module keeps under a name: `client.responses`, `clients.client.responses`."""
    roots = [node]
    while isinstance(roots[-1], ast.Attribute):
        roots.append(roots[-1].value)
    for root in roots[:-3:-1]:  # the last two: a name, and a name of a module
        other, value = file.elsewhere(file.names.path(root)) or (file, None)
        if isinstance(value, ast.expr):
            return _clients(other, value, depth + 1)
    return []


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


def _retries_off(file: File, made: ast.Call | None) -> bool:
    """Whether a client is made without retries, or with a number that cannot be read."""
    if made is None:
        return False
    fact = file.look(made, "max_retries")
    return fact.presence is Presence.UNKNOWN or (
        fact.presence is Presence.PRESENT and file.constant(fact.value) in (0, None)
    )


def _overlaps(retry: Retry) -> bool:
    """Whether a retry surely repeats something that the SDK retries, too: everything, or an error named here."""
    file, library, made = retry.file, retry.library, retry.made
    if not isinstance(made, ast.Call):
        return True
    names = {"tenacity": "retry", "backoff": "exception", "retry": "exceptions", "stamina": "on"}
    condition = file.arguments(made).known.get(names.get(library, ""))
    if library == "backoff" and len(made.args) > 1:
        condition = made.args[1]
    elif library == "retry" and made.args:
        condition = made.args[0]
    if condition is None:
        return library != "retrying" or not any(k.arg and k.arg.startswith("retry_on") for k in made.keywords)
    return _meets(file, file.written(condition), library)


def _meets(file: File, condition: ast.expr, library: str) -> bool:
    """Whether a condition names an error that the SDK retries; of `this | that` one of them, of `this & that` both."""
    if isinstance(condition, ast.BinOp):
        both = (_meets(file, side, library) for side in (condition.left, condition.right))
        return any(both) if isinstance(condition.op, ast.BitOr) else all(both)
    if "not_exception" in ast.unparse(condition):
        return True
    errors = condition.args if library == "tenacity" and isinstance(condition, ast.Call) else [condition]
    written = [file.written(error) for error in errors]
    listed = [e for error in written for e in (error.elts if isinstance(error, ast.Tuple | ast.List) else [error])]
    return any(file.names.path(error).rpartition(".")[2].lstrip("?") in _RETRIED for error in listed)
