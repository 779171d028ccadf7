"""Conversations that are sent again with every turn: the list that holds one, where it grows, and what cuts it down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.loops import Loop, own_nodes, through_helpers
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.rulebook import File
from tokenguard.lint.surface import Surface
from tokenguard.lint.syntax import Function, parameters_of, walk

_TAKE_MESSAGES = frozenset({"invoke", "ainvoke", "stream", "astream", "run", "run_sync", "run_streamed"})
_RUNS = (*_TAKE_MESSAGES, "run_stream", "iter")
_SENT = ("messages", "input", "contents")
_GROWS = frozenset({"append", "extend", "insert"})
_SHRINKS = frozenset({"pop", "popleft", "clear", "remove"})
# A name that says that something keeps conversations short.
_CUTS = lazy(
    r"trim|compact|summar|truncat|prun|shorten|condens|compress|window|(?:count|num|n|max|total)_?tokens?(?!_?to)"
    r"|token_?(?:count|limit|budget)|(?:max|limit)_?(?:history|turns|messages|length|context)|(?:history|message|context)_?(?:limit|length|size)"
    r"|forget|evict|maxlen",
    re.IGNORECASE,
)
_OUTPUT_CAPS = lazy(r"max_(?:completion_|output_|new_)?tokens$|maxTokens$|max_output_tokens")
_SESSION = lazy(r"(?:st|streamlit|cl|chainlit|gr)\.(?:session_state|user_session)\b")


class History(NamedTuple):
    """A conversation that is sent whole with each request.

    `place` is the loop that makes it longer and sends it; or the class or module that keeps it from call to call.
    """

    call: ast.Call
    surface: Surface | None
    name: str
    place: ast.AST
    at: ast.Call  # the call within `place`: `call` itself, or that of the helper that makes it


def histories(file: File) -> Iterator[History]:
    """The conversations of a file's requests that get longer from request to request, each request once.

    Requests of frameworks, such as `agent.run(text, message_history=messages)`, have no surface.
    """
    requests = [*_requests(file)]
    handed = through_helpers(file, [call for call, _, _ in requests])
    for call, surface, sent in requests:
        for name in _names(file, sent):
            found = _grown(file, call, name) or next(
                (h for at, function in handed for h in _in_caller(file, call, name, at, function)), None
            )
            if found is not None:
                yield History(call, surface, *found)
                break


def _requests(file: File) -> Iterator[tuple[ast.Call, Surface | None, ast.expr]]:
    """The requests of a file that send a conversation, with the expression that gives it."""
    for call, surface in file.generations:
        known = file.arguments(call).known
        sent = next((known[name] for name in _SENT if name in known), None)
        if sent is not None:
            yield call, surface, sent
    for call in file.module.calls_of(_RUNS):
        sent = next((k.value for k in call.keywords if k.arg in ("message_history", "messages")), None)
        if sent is None and _last(call.func) in _TAKE_MESSAGES and call.args:
            runner = file.names.path(call.func).startswith("agents.")
            sent = call.args[1] if runner and len(call.args) > 1 else call.args[0]
            if isinstance(sent, ast.Dict):
                sent = file.view(sent).known.get("messages")
        if sent is not None and call not in dict(file.generations):
            yield call, None, sent


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _names(file: File, sent: ast.expr, depth: int = 0) -> Iterator[str]:
    """What a conversation is kept in, as written; nothing for one that is cut, or written out for each request."""
    match sent:
        case ast.Name():
            yield sent.id
            found = file.module.scope_at(sent).lookup(sent.id)
            for binding in found[1] if found and depth < 2 else ():
                if binding.kind == "assign" and binding.value is not None:
                    yield from _names(file, binding.value, depth + 1)
        case ast.Attribute() | ast.Subscript(slice=ast.Constant()):
            yield ast.unparse(sent)
        case ast.List(elts=items):
            for item in items:
                if isinstance(item, ast.Starred):
                    yield from _names(file, item.value, depth)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            yield from _names(file, left, depth)
            yield from _names(file, right, depth)
        case ast.ListComp(generators=[ast.comprehension(iter=source, ifs=[])]):
            yield from _names(file, source, depth)
        case ast.Call(func=ast.Name(id="list" | "deepcopy"), args=[source]):
            yield from _names(file, source, depth)
        case ast.Call(func=ast.Attribute(value=source, attr="copy"), args=[]):
            yield from _names(file, source, depth)


def _grown(file: File, call: ast.Call, name: str) -> tuple[str, ast.AST, ast.Call] | None:
    """Where the conversation `name` grows around `call`."""
    for node in file.module.ancestors(call):
        if isinstance(node, Function | ast.Lambda):
            break
        if isinstance(node, Loop) and grows(node, name) and not _anew(node, name):
            return name, node, call
    if name.startswith("self."):
        owner = file.module.class_of(call)
        return (name, owner, call) if owner is not None and grows(owner, name) else None
    if _SESSION.match(name) and grows(file.module.tree, name):
        return name, file.module.tree, call
    return None


def _in_caller(
    file: File, call: ast.Call, name: str, at: ast.Call, function: Function
) -> Iterator[tuple[str, ast.AST, ast.Call]]:
    """The same where a function that makes the request is called: what it is given for its parameter `name`."""
    if file.module.function_of(call) is not function:
        return
    parameters = parameters_of(function)
    given = dict(zip(parameters, at.args, strict=False)) | {k.arg: k.value for k in at.keywords if k.arg}
    value = given.get(name)
    if isinstance(value, ast.Name | ast.Attribute) and (found := _grown(file, at, ast.unparse(value))):
        yield found


def grows(place: ast.AST, name: str) -> bool:
    """Whether `place` makes the list `name` longer."""
    return next(additions(place, name), None) is not None


def additions(place: ast.AST, name: str) -> Iterator[ast.expr]:
    """What `place` adds to the list `name`."""
    for node in _inside(place):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=[*_, added]) if method in _GROWS:
                if ast.unparse(value) == name:
                    yield added
            case ast.AugAssign(target=target, op=ast.Add(), value=added) if ast.unparse(target) == name:
                yield added
            case ast.Assign(targets=[target], value=ast.BinOp(op=ast.Add(), left=left, right=added)):
                if ast.unparse(target) == name == ast.unparse(left):
                    yield added


def _inside(place: ast.AST) -> Iterator[ast.AST]:
    return own_nodes(place) if isinstance(place, Loop) else walk(place)


def _anew(loop: Loop, name: str) -> bool:
    """Whether a loop begins its conversation again in every turn."""
    return any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and name in map(ast.unparse, node.targets if isinstance(node, ast.Assign) else [node.target])
        and not (node.value is not None and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", ast.unparse(node.value)))
        for node in own_nodes(loop)
    )


def cut_down(file: File, history: History) -> bool:
    """Whether anything around a conversation may keep it short: a slice, a `pop`, a length that is looked at.

    What has a name like `trim_messages` or `count_tokens` counts, wherever it stands in the same function, class or
    script; a cap on the answer does not.
    """
    place: ast.AST = history.place
    if isinstance(place, Loop):
        place = file.module.class_of(place) or file.module.function_of(place) or file.module.tree
    own = file.module.function_of(history.call)
    parts = [place] if own is None or own is place else [place, own]
    return any(_cuts(node, history.name) for part in parts for node in walk(part))


def _cuts(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Subscript(value=value, slice=ast.Slice()):
            return ast.unparse(value) == name
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _SHRINKS:
            return ast.unparse(value) == name
        case ast.Call(func=ast.Name(id="len"), args=[value]):
            return ast.unparse(value) == name
        case ast.Delete(targets=targets):
            return any(ast.unparse(target).startswith(name) for target in targets)
        case ast.Assign(targets=[target], value=ast.Call() | ast.ListComp() | ast.Subscript()):
            return ast.unparse(target) == name
    word = (
        node.id if isinstance(node, ast.Name)
        else node.attr if isinstance(node, ast.Attribute)
        else node.arg if isinstance(node, ast.keyword | ast.arg)
        else node.name if isinstance(node, Function)
        else None
    )  # fmt: skip
    return bool(word and _CUTS.search(word) and not _OUTPUT_CAPS.search(word))


_PEOPLE = frozenset({"input", "raw_input", "prompt", "ask", "receive", "receive_text", "receive_json", "recv",
                     "read_line", "readline", "get_input", "get_user_input", "user_input", "chat_input", "Prompt",
                     "prompt_async", "listen", "wait_for_message", "get_message"})  # fmt: skip


# Where a chat's history is kept, as bytes show it: a loop that asks a person, a session, an attribute that grows.
KEEPERS: tuple[Entry, ...] = (
    *((f"{name}(", lazy(rf"{name}\((?<!\w{name}\()".encode())) for name in sorted(_PEOPLE)),  # no `create_task(`
    "session_state", "user_session",
)  # fmt: skip
OWN_GROWTH = lazy(  # a list of the object's own that grows
    rb"self\s*\.[\w\s.\[\]'\"]*(?:\.\s*(?:append|extend|insert)\s*\(|\+=|=\s*\(?\s*self\b[^\n]*\+)"
)


def asks_a_person(loop: Loop) -> bool:
    """Whether a loop reads what a person says next."""
    return any(isinstance(node, ast.Call) and _last(node.func) in _PEOPLE for node in own_nodes(loop))
