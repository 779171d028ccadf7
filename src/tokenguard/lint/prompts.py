"""Where prompts begin: the expressions that become a system prompt, instructions, tools, or an early message."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Literal

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.rulebook import File
from tokenguard.lint.surface import CALL_WORDS, RUNS, Surface, matcher
from tokenguard.lint.syntax import Function, last_name, parameters_of, reads_of, spelling

Part = Literal["text", "tools", "message"]
_RUN_PATHS = matcher(RUNS)
_RUN_NAMES = tuple(path.rpartition(".")[2] for path in RUNS)
_SYSTEM_ROLES = frozenset({"system", "developer"})
_SYSTEM_NAME = lazy(
    r"(?:^|_)(system_?(prompt|message|instructions?|content|text)s?|sys_?prompt)(_template|_text|_str|_content)?$"
)
_KEYWORDS = (
    "system",
    "system_prompt",
    "system_message",
    "system_instruction",
    "instructions",
    "system_instructions",
    "sys_prompt",
    "messages_modifier",
    "state_modifier",
)
_GIVEN = frozenset(_KEYWORDS)
_AGENTS = frozenset({"create_react_agent", "create_agent", "create_deep_agent"})  # whose `prompt` is the system's
_SYSTEM_CLASSES = lazy(
    r".*\b(SystemMessage|SystemPromptPart|SystemMessagePromptTemplate|ChatSystemMessage)(\.from_template|\.from_system)?$"
)
_SYSTEM_ROLE = lazy(r"\b(system|developer)('|\"|$|_message_role)", re.IGNORECASE)
_DECORATORS = lazy(r".*\.(system_prompt|instructions)(\(\))?$")
_SYSTEM_FUNCTION = lazy(
    r"(?!(?:set|update|validate|check|log|print|is|has|add|append|save|load|parse|extract|test|strip|remove|hash|merge|split"
    r"|find|count|convert)_)(?:\w+_)?(system_?prompt|system_?message|system_?instructions?|system_?context)s?"
    r"|(?:(?:get|build|make|agent|dynamic|create|generate)_)?instructions",
)
# `instructions=` and `system=` mean something else to these
_OTHERS = lazy(
    r"(?:.*[.@?])?(\w+(?:Result|Response|Record|Report|Event|Error|Exception|Output)|platform|subprocess|argparse|ArgumentParser|Path|logging|logger|log|print|Popen|run_command|Form|Field)\b.*"
)
_HOLDERS = lazy(rf"^(?:from_template|from_system|{'|'.join(sorted(_AGENTS))})$|System|Message$")
PROMPT_WORDS = (
    "system_prompt", "systemprompt", "system_message", "systemmessage", "system_instruction", "systeminstruction",
    "system_content", "systemcontent", "system_context",
    "system_text", "systemtext", "sys_prompt", "sysprompt", "SystemMessage",
    "SystemPrompt",
    "_modifier", "create_react_agent", "create_agent", "create_deep_agent",
    '"system"', "'system'", '"developer"', "'developer'", "system=", "system =", "instructions=", "instructions =",
    "instructions(", ".instructions", "MessageRole.", *CALL_WORDS,
)  # fmt: skip
_MESSAGE = lazy(  # no `getMessage(`; a pattern that starts with a fixed text is searched for ten times as fast
    rb"Message\((?:(?<=\WMessage\()|(?<=SystemMessage\()|(?<=HumanMessage\()|(?<=AIMessage\()|(?<=UserMessage\()"
    rb"|(?<=ChatMessage\()|(?<=DeveloperMessage\()|(?<=ToolMessage\()|(?<=BaseMessage\())"
)
TEXT_WORDS: tuple[Entry, ...] = (  # a file with any text of a prompt has one
    *PROMPT_WORDS, '"role"', "'role'", ("role=", lazy(rb"role=[\"'a-z]")), ("Message(", _MESSAGE),
)  # fmt: skip


class Prefix(NamedTuple):
    """A prompt's beginning: the expression, the node that holds it; system text, tools, or an early message."""

    value: ast.expr
    holder: ast.AST
    part: Part
    calls: bool  # it stands in the generation call itself, not in an object made beforehand


def prefixes(file: File) -> list[Prefix]:
    """Every prompt beginning in the file; the same expression may come twice."""
    if "prefixes" not in file.memory:
        file.memory["prefixes"] = list(_prefixes(file))
    found: list[Prefix] = file.memory["prefixes"]
    return found


def _prefixes(file: File) -> Iterator[Prefix]:
    surfaces = dict(file.surfaces)
    for call in _holding(file, surfaces):
        yield from _of_call(file, call, surfaces)
    for node, keys in _dicts(file):
        if file.constant(keys.get("role")) in _SYSTEM_ROLES and keys.get("content") is not None:
            if _remembered(file, node):
                continue
            yield Prefix(keys["content"], node, "text", _in_call(file, node, surfaces))
        elif "system" in keys and ("messages" in keys or "model" in keys):
            yield Prefix(keys["system"], node, "text", _in_call(file, node, surfaces))
    for pair in _pairs(file, _SYSTEM_ROLES):
        yield Prefix(pair.elts[1], pair, "text", False)
    yield from _by_name(file)


_MEMORY = frozenset({"user_id", "agent_id", "run_id"})  # whose memory a message is kept in


def _remembered(file: File, message: ast.Dict) -> bool:
    """Whether a message is only put into a memory: `memory.add(messages, user_id=...)`."""
    place: ast.AST | None = file.module.parents.get(message)
    if isinstance(place, ast.List):
        holder = file.module.parents.get(place)
        if isinstance(holder, ast.Assign) and isinstance(holder.targets[0], ast.Name):
            name = holder.targets[0].id
            around = file.module.function_of(message) or file.module.tree
            reads = reads_of(around, name)
            return bool(reads) and all(_kept_by(file, read) for read in reads)
        return _kept_by(file, place)
    return False


def _kept_by(file: File, messages: ast.expr) -> bool:
    outer = file.module.parents.get(messages)
    call = file.module.parents.get(outer) if isinstance(outer, ast.keyword) else outer
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "add"
        and any(keyword.arg in _MEMORY for keyword in call.keywords)
    )


def _dicts(file: File) -> list[tuple[ast.Dict, dict[object, ast.expr]]]:
    """Every dict that is written out, with what it has under constant keys."""
    if "dicts" not in file.memory:
        nodes = (node for node in file.module.all(ast.Dict) if isinstance(node, ast.Dict))
        file.memory["dicts"] = [
            (n, {k.value: v for k, v in zip(n.keys, n.values, strict=True) if isinstance(k, ast.Constant)})
            for n in nodes
        ]
    found: list[tuple[ast.Dict, dict[object, ast.expr]]] = file.memory["dicts"]
    return found


def _holding(file: File, surfaces: Container[ast.Call]) -> list[ast.Call]:
    """The calls that may hold a prompt's beginning, by what they are or are given."""
    named = {call for name, calls in file.module.called.items() if _HOLDERS.search(name) for call in calls}
    return [
        call
        for call in file.module.calls
        if call in named
        or call in surfaces
        or (call.keywords and not _GIVEN.isdisjoint([k.arg for k in call.keywords]))
    ]


def _of_call(file: File, call: ast.Call, surfaces: Mapping[ast.Call, Surface]) -> Iterator[Prefix]:
    path = file.names.path(call.func)
    known = file.arguments(call).known
    is_request = call in surfaces and surfaces[call].kind == "call"
    if _SYSTEM_CLASSES.match(path):
        value = (
            known.get("content")
            or known.get("template")
            or known.get("prompt")
            or (call.args[0] if call.args else None)
        )
        if value is not None:
            yield Prefix(value, call, "text", _in_call(file, call, surfaces))
        return
    if path.endswith("Message"):
        role, content = known.get("role"), known.get("content")
        if role is not None and content is not None and _SYSTEM_ROLE.search(ast.unparse(role)):
            yield Prefix(content, call, "text", False)
    if not _OTHERS.match(path):
        for name in _KEYWORDS:
            if name in known and not (
                name == "system" and not is_request and "messages" not in known and "prompt" not in known
            ):
                yield Prefix(known[name], call, "text", is_request)
        if path.rpartition(".")[2] in _AGENTS and "prompt" in known:
            yield Prefix(known["prompt"], call, "text", False)
        config = known.get("config")
        if is_request and config is not None:
            inner = file.view(config).known.get("system_instruction")
            if inner is not None:
                yield Prefix(inner, call, "text", True)
    if is_request:
        for name in ("tools", "functions"):
            if name in known:
                yield Prefix(known[name], call, "tools", True)
        yield from _early(file, call, known.get("messages") or known.get("input") or known.get("contents"))


def loops_around(file: File, holder: ast.AST) -> frozenset[ast.AST]:
    """The `for` loops that make both a prompt and a request in every turn."""
    if "sending" not in file.memory:
        file.memory["sending"] = {a for call, _ in file.generations for a in file.module.ancestors(call)}
    sending: set[ast.AST] = file.memory["sending"]
    return frozenset(a for a in file.module.ancestors(holder) if isinstance(a, ast.For | ast.AsyncFor) and a in sending)


def _early(file: File, call: ast.Call, messages: ast.expr | None) -> Iterator[Prefix]:
    """The messages of a written-out list that others follow: all but the last."""
    if isinstance(messages, ast.List):
        for message in messages.elts[:-1]:
            if isinstance(message, ast.Dict):
                content = file.view(message).known.get("content")
                if content is not None:
                    yield Prefix(content, call, "message", True)


def _in_call(file: File, node: ast.AST, surfaces: Mapping[ast.Call, Surface]) -> bool:
    """Whether a generation call is around `node`, or takes the list it stands in."""
    return any(
        isinstance(a, ast.Call) and a in surfaces and surfaces[a].kind == "call" for a in file.module.ancestors(node)
    )


def _by_name(file: File) -> Iterator[Prefix]:
    """System prompts known by their name: a local `system_prompt = ...`, a function `get_system_prompt`."""
    for node in file.module.all(ast.Assign, ast.AnnAssign, ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]
        value = node.value  # type: ignore[attr-defined]
        name = last_name(target)
        if value is not None and _SYSTEM_NAME.search(name) and file.module.function_of(node) is not None:
            yield Prefix(value, node, "text", False)
    for function in file.module.all(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(function, Function)
        decorated = any(_DECORATORS.match(file.names.path(d)) for d in function.decorator_list)
        if decorated or _SYSTEM_FUNCTION.fullmatch(function.name.strip("_")):
            for result in file.module.results(function):
                yield Prefix(result, function, "text", False)


_MESSAGES = frozenset(
    {"SystemMessage", "HumanMessage", "AIMessage", "ChatMessage", "Message", "UserMessage", "ToolMessage"}
)
_TEXTS = ("prompt", "system", "input", "contents", "instructions", "system_instruction", "content")


def contents(file: File) -> Iterator[ast.expr]:
    """Every expression that becomes text of a prompt: messages of any role, and the texts of requests."""
    for prefix in prefixes(file):
        yield prefix.value
    for _, keys in _dicts(file):
        if ("role" in keys and "content" in keys) or keys.keys() >= {"tool_use_id", "content"}:
            yield keys["content"]
        elif keys.keys() >= {"call_id", "output"}:
            yield keys["output"]
    for call, _ in file.generations:
        known = file.arguments(call).known
        yield from (known[name] for name in _TEXTS if name in known)
    for function in file.module.all(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(function, Function)
        if is_tool(file, function):
            yield from file.module.results(function)
    yield from (handler for handler in _handlers(file) if isinstance(handler, ast.Lambda))
    yield from _prompts_by_name(file)
    yield from (pair.elts[1] for pair in _pairs(file, _ROLES))
    yield from _handed_over(file)
    for run, given in _runs(file):
        if not isinstance(file.written(given), ast.Dict) or _is_chain(file, run.value):
            yield given
    yield from _contents_of(file, _MESSAGES)


_USER = frozenset({"user", "human"})
_ROLES = frozenset({*_USER, *_SYSTEM_ROLES, "assistant", "ai"})
_PROMPT_NAME = lazy(r"(?:^|_)(?:prompt|instructions?|user_message|user_content|query_text)$|^prompt_", re.IGNORECASE)
_PROMPT_FUNCTION = lazy(r"(?:^|_)prompts?$|(?:^|_)(?:build|make|create|get|format|render)_\w*prompt\w*$")


def lasts(file: File) -> Iterator[ast.expr]:
    """Every text that is a whole message of a user, or a whole prompt: what changes at its end costs nothing."""
    for _, keys in _dicts(file):
        if file.constant(keys.get("role")) in _USER and "content" in keys:
            yield keys["content"]
    yield from (pair.elts[1] for pair in _pairs(file, _USER))
    for call, _ in file.generations:
        known = file.arguments(call).known
        yield from (known[name] for name in ("input", "contents", "prompt") if name in known)
    yield from _contents_of(file, ("HumanMessage", "UserMessage"))
    yield from (given for _, given in _runs(file))
    yield from _prompts_by_name(file)


def _prompts_by_name(file: File) -> Iterator[ast.expr]:
    """Texts that are called prompts: a local `prompt = ...`, the result of a function `build_prompt`."""
    for node in file.module.all(ast.Assign):
        assert isinstance(node, ast.Assign)
        target = node.targets[0]
        name = last_name(target)
        place = file.module.function_of(node) if _PROMPT_NAME.search(name) else None
        if place is not None and not (_only_kept(file, place, name) or _for_a_person(file, place, name)):
            yield node.value
    for function in file.module.all(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(function, Function)
        if _PROMPT_FUNCTION.search(function.name):
            yield from file.module.results(function)


def _pairs(file: File, roles: frozenset[str]) -> Iterator[ast.Tuple]:
    """Messages that are written as pairs: `("human", text)`."""
    for node in file.module.all(ast.Tuple):
        assert isinstance(node, ast.Tuple)
        if len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant) and node.elts[0].value in roles:
            yield node


def _contents_of(file: File, classes: Iterable[str]) -> Iterator[ast.expr]:
    """The texts of messages that are made of these classes: `HumanMessage(text)`."""
    for call in file.module.calls_of(classes):
        content = file.arguments(call).known.get("content") or (call.args[0] if call.args else None)
        if content is not None:
            yield content


def _runs(file: File) -> Iterator[tuple[ast.Attribute, ast.expr]]:
    """The methods that run a model or a chain, and what each is given: `chain.invoke(text)`."""
    for call in file.module.calls_of(_RUN_NAMES):
        if call.args and isinstance(call.func, ast.Attribute) and _RUN_PATHS.fullmatch(file.names.path(call.func)):
            yield call.func, call.args[0]


def _handed_over(file: File) -> Iterator[ast.expr]:
    """What is given to a function as its prompt: by keyword, or in the place of such a parameter of this file."""
    for call in file.module.calls:
        name = last_name(call.func)
        if name in _PERSON or name[:1].isupper():
            continue
        yield from (k.value for k in call.keywords if k.arg and _PROMPT_NAME.search(k.arg))
        if any(not isinstance(arg, ast.Name | ast.Constant) for arg in call.args):
            function = file.names.definition(file.names.path(call.func))
            if isinstance(function, Function):
                given = zip(parameters_of(function), call.args, strict=False)
                yield from (value for parameter, value in given if _PROMPT_NAME.search(parameter))


def _is_chain(file: File, node: ast.expr) -> bool:
    """Whether what is invoked is a pipeline of LangChain, which writes all it is given into its prompt."""
    spelled = (spelling(node) or "").rpartition(".")[2]
    return "chain" in spelled.lower() or isinstance(file.written(node), ast.BinOp)


_PERSON = frozenset({"input", "print", "confirm", "getpass", "echo", "secho", "markdown"})


def _for_a_person(file: File, place: Function, name: str) -> bool:
    """Whether a prompt is only shown to who sits before the program: `input(prompt)`."""
    shown = [c for c in file.module.calls_of(_PERSON) if c.args and spelling(c.args[0]) == name]
    if not any(file.module.function_of(call) is place for call in shown):
        return False
    return all(any(read is call.args[0] for call in shown) for read in reads_of(place, name))


_APPENDS = frozenset({"append", "add_message", "add_user_message", "add_ai_message", "add_messages"})


def _only_kept(file: File, place: Function, name: str) -> bool:
    """Whether a text is only put at the end of a history that an object keeps, where it stays as it is."""
    if place not in _growing(file):
        return False
    uses = (file.module.ancestors(use) for use in reads_of(place, name))
    statements = [next((a for a in around if isinstance(a, ast.stmt)), None) for around in uses]
    return bool(statements) and all(map(_grows_history, statements))


def _growing(file: File) -> set[ast.AST]:
    """The functions in which a history grows; most have none, and need not be walked."""
    known: set[ast.AST] | None = file.memory.get("growing")
    if known is None:
        appends = file.module.calls_of(tuple(_APPENDS))
        statements = (*file.module.all(ast.AugAssign, ast.Assign), *map(file.module.parents.get, appends))
        grown = [node for node in statements if isinstance(node, ast.stmt) and _grows_history(node)]
        known = file.memory["growing"] = {a for node in grown for a in file.module.ancestors(node)}
    return known


def _grows_history(statement: ast.stmt | None) -> bool:
    match statement:
        case ast.AugAssign(target=ast.Attribute(), op=ast.Add()):
            return True
        case ast.Assign(targets=[ast.Attribute() as target], value=ast.BinOp(op=ast.Add()) as value):
            return ast.unparse(value).startswith(ast.unparse(target))
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute(), attr=attr))):
            return attr in _APPENDS
    return False


# -- tools -------------------------------------------------------------------------------------------------------------

TOOL_WORDS = ("tool", "Tool", "TOOL", "available_functions", "kernel_function", "ai_function", "ai_callable")
_TOOL_MARKS = lazy(
    r"(?:.*[.?@])?(tool|tool_plain|function_tool|kernel_function|ai_function|ai_callable|beta_tool|call_tool"
    r"|register_for_llm|register_for_execution)(\(\))?"
)
_TOOL_PARTS = ("func", "fn", "function", "coroutine")
_TOOL_MAKERS = frozenset({"Tool", "FunctionTool", "StructuredTool", "function_tool", "from_function", "from_defaults",
                          "tool", "beta_tool", "add_tool", "register_tool", "register_function"})  # fmt: skip
_HANDLERS = lazy(
    r"(?:^|_)tools?_?(?:handlers?|functions?|funcs?|map(?:ping)?|registry|dispatch(?:er)?|by_name|table|impls?"
    r"|implementations?|executors?|calls?)$|^_?available_(?:tools|functions)$",
    re.IGNORECASE,
)
"""A dict of what is run for a model, by the names that the model says."""
_BY_CALL = lazy(  # what is looked up by the name in a model's call: `handlers[call.function.name]`
    rb"(\w+)(?:\[|\.get\()\s*(?:\w+\.)*(?:function\.name|(?:tool|function|func|fn)_name"
    rb"|(?:tool|call|tool_call|tool_use|function_call|block)\.name)\b"
)
_TOOL_BASES = lazy(r".*\b\w*Tool$")


def is_tool(file: File, function: Function) -> bool:
    """Whether a model calls `function`, so that what it returns goes into the next prompt."""
    if any(_TOOL_MARKS.fullmatch(file.names.path(d)) for d in function.decorator_list):
        return True
    owner = file.module.parents.get(function)
    if isinstance(owner, ast.ClassDef) and function.name in ("_run", "_arun", "forward", "run", "execute"):
        return any(_TOOL_BASES.fullmatch(file.names.path(base)) for base in owner.bases)
    return function.name in _given_as_tools(file)


def _given_as_tools(file: File) -> set[str]:
    """The functions that are named in a list of tools or a schema, or wrapped by `Tool(...)` and its kin."""
    if "tools" not in file.memory:
        given: list[ast.expr] = []
        for listed in _tool_lists(file):
            given += listed.elts if isinstance(listed, ast.List | ast.Tuple) else []
        for call in file.module.calls_of(_TOOL_MAKERS):
            given += [*call.args[:3], *(k.value for k in call.keywords if k.arg in _TOOL_PARTS)]
        given += _handlers(file)
        named = {(spelling(node) or "").rpartition(".")[2] for node in given}
        file.memory["tools"] = (named | set(_schemas(file))) - {""}
    found: set[str] = file.memory["tools"]
    return found


_TOOL_LIST = lazy(r"(?:^|_)tools$", re.IGNORECASE)
_TAKE_TOOLS = frozenset({"bind_tools", "create_react_agent", "create_agent", "create_tool_calling_agent", "ToolNode",
                         "create_openai_tools_agent", "create_openai_functions_agent", "ToolExecutor"})  # fmt: skip
_SCHEMA = frozenset({"parameters", "input_schema", "inputSchema"})


def _tool_lists(file: File) -> Iterator[ast.expr]:
    """What is given as `tools`, or to `bind_tools` and its kin, and what a name such as `all_tools` is set to."""
    for call in file.module.calls:
        yield from (file.written(k.value) for k in call.keywords if k.arg == "tools")
    for call in file.module.calls_of(_TAKE_TOOLS):
        yield from map(file.written, call.args[:2])
    for node in file.module.all(ast.Assign):
        assert isinstance(node, ast.Assign)
        if _TOOL_LIST.search((spelling(node.targets[0]) or "").rpartition(".")[2]):
            yield node.value


def _schemas(file: File) -> Iterator[str]:
    """The names of tools that a schema describes: `{"name": "orders", "description": ..., "parameters": {...}}`."""
    for _, keys in _dicts(file):
        if "name" in keys and "description" in keys and not _SCHEMA.isdisjoint(keys):
            name = file.constant(keys["name"])
            yield name if isinstance(name, str) else ""


def _handlers(file: File) -> list[ast.expr]:
    """What a dict such as `TOOL_HANDLERS` has for each name: functions, and lambdas."""
    if "handlers" not in file.memory:
        by_call = {name.decode() for name in _BY_CALL.findall(file.module.source)}
        named = (
            (n.targets[0] if isinstance(n, ast.Assign) else n.target, n.value)
            for n in file.module.all(ast.Assign, ast.AnnAssign)
            if isinstance(n, ast.Assign | ast.AnnAssign) and isinstance(n.value, ast.Dict)
        )
        file.memory["handlers"] = [
            value
            for target, made in named
            if isinstance(made, ast.Dict)
            and ((name := (spelling(target) or "").rpartition(".")[2]) in by_call or _HANDLERS.search(name))
            for value in made.values
            if isinstance(value, ast.Lambda | ast.Name | ast.Attribute)
        ]
    found: list[ast.expr] = file.memory["handlers"]
    return found
