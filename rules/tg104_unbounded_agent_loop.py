"""A loop around a generation call can run for ever.

`while True` around a model call ends when the model decides to. When a tool keeps failing, or the model keeps asking
for one more step, nothing else ends it: each turn sends the whole, growing conversation again, so the cost grows with
the square of the turns. Count the turns, or watch a budget or a deadline.

A loop that asks again until the answer is valid is one, too, and so are rounds in which a helper, also of another
module, sends a conversation that grows.

A loop with a counter, a budget, a deadline, a person in it (`input()`, a microphone, a helper that asks), or one that
waits for a queue is not reported, and neither is one over what is left to do; a person who is only asked between the
rounds of tools does not bound those. A limit that limits nothing (`max_turns=float("inf")`, `itertools.count()`) is the
same as none, and so is Anthropic's tool runner without `max_iterations`.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def run(messages, tools):
        while True:  # TG104
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.extend(call_tools(message))

    def run_claude(client, messages, tools):
        reply = client.messages.create(model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900)
        while reply.stop_reason == "tool_use":  # TG104
            messages += call_tools(reply)
            reply = client.messages.create(model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900)
        return reply

Good:

    from openai import OpenAI

    client = OpenAI()

    def run(messages, tools):
        for _ in range(12):
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.extend(call_tools(message))
        raise RuntimeError("no answer in 12 turns")

    def chat(messages):
        while True:
            messages.append({"role": "user", "content": input("> ")})
            print(client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=900))

    def run_with_counter(messages, tools):
        turns = 0
        while True:
            turns += 1
            if turns > 12:
                raise RuntimeError("no answer in 12 turns")
            reply = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools, max_tokens=900)
            if reply.choices[0].finish_reason == "stop":
                return reply

Bad:

    import itertools

    from agents import Runner

    async def run(agent, question):
        return await Runner.run(agent, question, max_turns=float("inf"))  # TG104

    def converse(client, messages, tools):
        for _ in itertools.count():  # TG104
            reply = client.beta.messages.create(model="claude-opus-4-5", messages=messages, tools=tools, max_tokens=900)
            if reply.stop_reason != "tool_use":
                return reply
            messages += call_tools(reply)

    def research(client, messages, tools):
        runner = client.beta.messages.tool_runner(  # TG104
            model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900
        )
        return runner.until_done()

Good:

    from agents import Runner

    async def run(agent, question):
        return await Runner.run(agent, question, max_turns=12)

    def research(client, messages, tools):
        runner = client.beta.messages.tool_runner(
            model="claude-sonnet-4-5", messages=messages, tools=tools, max_tokens=900, max_iterations=12
        )
        return runner.until_done()
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import Loop, innermost_loop, own_nodes, through_helpers
from tokenguard.lint.people import waits
from tokenguard.lint.prefilter import Entry
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.sending import runs_agent, sends
from tokenguard.lint.surface import CALL_WORDS
from tokenguard.lint.syntax import Function, names_in, spelling, walk

SEVERITY = "warning"
TESTS = False
_LIMITS = ("max_turns", "max_steps", "max_iterations", "max_iters", "recursion_limit", "request_limit",
           "max_tool_calls", "max_rounds")  # fmt: skip
_ROUNDS = (
    "tool_call",
    "stop_reason",
    "finish_reason",
    "tool_use",
    "function_call",
)  # what a loop of tool rounds reads
_SUBMITS = ("submit_tool_outputs", "submit_tool_outputs_and_poll", "submit_tool_outputs_stream")
_FRAMEWORKS = ("Runner.run", "pydantic_ai", "create_agent(", "create_react_agent(")
_AGENT_RUNS = ("run", "run_sync", "run_streamed", "invoke", "ainvoke")
# Limits that None takes away, by the last name of what is called.
_TAKEN_AWAY = {"max_turns": ("Runner.run", "Runner.run_sync", "Runner.run_streamed"), "request_limit": ("UsageLimits",),
               "max_iterations": ("AgentExecutor", "initialize_agent")}  # fmt: skip
_ENDLESSLY = 100_000  # turns; so many are no limit
_NONE = lazy(rb"\d{6}|\d_\d{3}|\d\s*\*\*|\d[eE]\+?\d|\b(?i:inf)(?i:inity)?\b")  # how such a number is written
_NO_LIMIT = ("maxsize", "Runner", "UsageLimits", "AgentExecutor", "initialize_agent", _NONE)


def _given(name: str) -> Entry:
    """A limit that is given, and not as a small number."""
    return name, lazy(name.encode() + rb"\s*=\s*(?!\d{1,5}\s*[,)]|=)")


def _longer(method: str) -> Entry:
    """A conversation that gets longer by a method."""
    call = rf"\.{method}\("
    lists = (rf"(?<={name}{call})" for name in ("messages", "history", "conversation"))
    return f".{method}(", lazy(f"{call}(?:{'|'.join(lists)})".encode())


# What a file has where an endless loop may ask a model by the functions of another.
_CONVERSED = (_longer("append"), _longer("extend"), ("llm.", lazy(rb"llm\.(?<!\wllm\.)\w+\(")))
WORDS: tuple[Entry, ...] = (
    *CALL_WORDS, *((_given(name), *_NO_LIMIT) for name in _LIMITS),
    *((name, "while ", "count()") for name in (*_ROUNDS, *_FRAMEWORKS)), (".resume(", "mirascope"),
    ("submit_tool_outputs", "while "), ("while True", *_CONVERSED),
)  # fmt: skip

# What bounds a loop from outside, or makes it a person's or a queue's loop.
_BOUNDED = lazy(
    r"budget|deadline|timeout|time_left|max_|_max$|limit|remaining|attempt|retries|n_steps|num_steps|is_last_step|elapsed|monotonic|perf_counter"
    r"|should_stop|cancel(?!$)|shutdown|stop_event|is_set|running$|closed|has_next|next_page|page_token|cursor|poll|after$"
    r"|^(?:time|now|utcnow|(?:start|end|begin)_?time)$",
    re.IGNORECASE,
)
_OF_ONE_CALL = lazy(r"think|reason|_tokens$|image|max_len|max_retries", re.IGNORECASE)  # no bound of a loop
_ANYONES = frozenset({"max_steps", "max_iterations", "max_iters", "max_rounds"})  # of any computation, too
_OF_MODELS = lazy(rb"agent|llm|openai|anthropic|langchain|langgraph|gemini|prompt", re.IGNORECASE)
_RUNS = lazy(r"agent|run|chat|loop|graph|crew|invoke|stream|executor|(?<!re)solve|converse|limits", re.IGNORECASE)
_ENDS = lazy(r"exit|stop|finish|abort|cancel|end|fail", re.IGNORECASE)
_ENDLESS = lazy(r"stop_reason|finish_reason|tool_call|function_call|tool_use|status\b")


def check(file: File) -> Iterator[Report]:
    """Report the loops around generation calls that only the model can end, and the limits that are none."""
    runs = (c for c in file.module.calls_of(_AGENT_RUNS) if runs_agent(file, c))
    direct = [*(call for call, _ in file.generations), *runs, *_resumed(file)]
    helped = [call for call, _ in through_helpers(file, direct)]  # `reply = self.ask(messages)`
    loops: dict[Loop, ast.Call] = {}
    for call in (*direct, *helped, *_followed(file)):
        loop = _round_of(file, call)
        if loop is None:
            continue
        if call in direct or _goes_on_by_reply(file, loop, call):
            loops.setdefault(loop, call)
    for loop in loops:
        if (
            _model_decides(file, loop) or _by_flag(file, loop, loops[loop]) or _by_answer(loop, {*direct, *helped})
        ) and not _bounded(file, loop, {*direct, *helped}):
            message = (
                "Only the model ends this loop of requests, and each turn is paid for. "
                "Count the turns, or set a deadline or budget."
            )
            yield Report(loop.test if isinstance(loop, ast.While) else loop.iter, message)
    yield from _runners(file)
    yield from _limits_that_are_none(file)


def _resumed(file: File) -> Iterator[ast.Call]:
    """The next round where a server keeps the conversation: OpenAI's runs, Mirascope's `response.resume(outputs)`."""
    if b"mirascope" in file.module.source:
        yield from file.module.calls_of(("resume",))
    yield from file.module.calls_of(_SUBMITS)


def _goes_on_by_reply(file: File, loop: Loop, call: ast.Call) -> bool:
    """Whether a loop looks into the reply of a helper, or sends a conversation that gets longer in it."""
    if _ENDLESS.search(ast.unparse(loop)) or _by_answer(loop, {call}):
        return True
    return _model_decides(file, loop) and _by_reply(loop, call)


def _by_reply(loop: Loop, call: ast.Call) -> bool:
    """Whether a loop sends a list that it makes longer, or leaves where the reply is as it should be."""
    return _grows(loop, call) or _leaves_by(loop, call)


def _leaves_by(loop: Loop, call: ast.Call) -> bool:
    """Whether a branch of a loop that leaves it reads the reply, or what is made of it: `if valid(reply): return`."""
    nodes = list(own_nodes(loop))
    leaving = [node.test for node in nodes if isinstance(node, ast.If) and _left_in(node)]
    if not leaving:
        return False
    made = [(node, set(walk(node.value)), names_in(node.value)) for node in nodes if isinstance(node, ast.Assign)]
    read: set[str] = set()
    for _ in range(3):  # names of names
        for node, parts, names in made:
            if call in parts or read & names:
                read.update(*map(names_in, node.targets))
    return any(read & names_in(test) for test in leaving)


def _left_in(node: ast.If) -> bool:
    """Whether a branch is left for good, in its own statements; not where nothing is left to do: `if not rows`."""
    body = () if _nothing_left(node.test) else node.body
    return any(isinstance(statement, ast.Break | ast.Return) for statement in (*body, *node.orelse))


def _nothing_left(test: ast.expr) -> bool:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name() | ast.Attribute()):
            return True
        case ast.Compare(ops=[ast.Eq() | ast.Is() | ast.LtE()], comparators=[ast.Constant(value=0 | None)]):
            return True
    return False


def _grows(loop: Loop, call: ast.Call) -> bool:
    """Whether a call is given a list that the loop makes longer: `ask(messages)`, `messages.append(...)`."""
    given = (*call.args, *(keyword.value for keyword in call.keywords))
    sent = {spelling(value) for value in given} - {None}
    return bool(sent) and any(_adds(node) and _added_to(node) in sent for node in own_nodes(loop))


def _round_of(file: File, call: ast.Call) -> Loop | None:
    """The loop that a request is one round of; one that only tries again does not count, the one around it may."""
    inner: ast.Call | Loop = call
    for _ in range(2):
        loop = innermost_loop(file, inner)
        if loop is None or not _leaves_after(file, inner, loop):
            return loop
        inner = loop
    return None


def _followed(file: File) -> Iterator[ast.Call]:
    """The calls in endless loops of rounds that make a request in another module, or say that they ask a model."""
    if not any(name.encode() in file.module.source for name in _ROUNDS) and b"while True" not in file.module.source:
        return
    rounds: dict[Loop, bool | None] = {}  # whether a loop reads what rounds of tools have; None if it ends otherwise
    for call in file.module.calls:
        loop = innermost_loop(file, call)
        if loop is None:
            continue
        if loop not in rounds:
            rounds[loop] = bool(_ENDLESS.search(ast.unparse(loop))) if _model_decides(file, loop) else None
        if rounds[loop] is not None and (rounds[loop] or _by_reply(loop, call)) and sends(file, call):
            yield call


def _runners(file: File) -> Iterator[Report]:
    for call, surface in file.generations:
        if (
            not surface.path.endswith(".tool_runner")
            or file.look(call, "max_iterations").presence is not Presence.ABSENT
        ):
            continue
        loop = next((a for a in file.module.ancestors(call) if isinstance(a, ast.For | ast.AsyncFor)), None)
        if loop is not None and call in walk(loop.iter) and any(isinstance(n, ast.Break) for n in own_nodes(loop)):
            continue
        yield Report(call, "Only the model ends this tool runner. Set max_iterations.")


def _limits_that_are_none(file: File) -> Iterator[Report]:
    """Agents and runs whose limit is infinite, or is taken away."""
    for call in file.module.calls:
        for keyword in call.keywords:
            if keyword.arg not in _LIMITS:
                continue
            if keyword.arg in _ANYONES and not _OF_MODELS.search(file.module.source):
                continue
            path = file.names.path(call.func)
            taken = file.is_none(keyword.value) and path.endswith(_TAKEN_AWAY.get(keyword.arg, ("\0",)))
            if taken or (_infinite(file, keyword.value) and _RUNS.search(path)):
                yield Report(
                    call, f"{keyword.arg} is no limit here: only the model ends this run. Set a number of turns."
                )


def _infinite(file: File, node: ast.expr) -> bool:
    """Whether a limit is infinity, or as good as: `float("inf")`, `math.inf`, `sys.maxsize`, a default that is one."""
    number = file.constant(node)
    if isinstance(number, int | float) and not isinstance(number, bool):
        return number >= _ENDLESSLY
    node = file.written(node)
    if isinstance(node, ast.Call):
        return ast.unparse(node).lower() in ("float('inf')", "float('infinity')", "decimal('inf')")
    if file.names.path(node) in ("math.inf", "numpy.inf", "sys.maxsize"):
        return True
    found = file.module.scope_at(node).lookup(node.id) if isinstance(node, ast.Name) else None
    if not found or not isinstance(found[0].node, Function) or len(found[1]) != 1 or found[1][0].kind != "param":
        return False
    default = found[1][0].value
    return default is not None and not isinstance(default, ast.Name) and _infinite(file, default)


def _leaves_after(file: File, call: ast.AST, loop: Loop) -> bool:
    """Whether the loop ends once the call has succeeded: it retries, rather than converses."""
    inner: ast.AST = call
    for node in file.module.ancestors(call):
        if isinstance(node, ast.Return):
            return True
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and inner in block:
                after = [*block[block.index(inner) + 1 :], *(node.orelse if isinstance(node, ast.Try) else ())]
                leaving = [at for at, s in enumerate(after) if _always_leaves(s) or _sets_flag(s, loop)]
                if leaving and not any(map(_another_round, after[: leaving[0]])):
                    return True
        if node is loop:
            return False
        inner = node
    return False


def _always_leaves(statement: ast.stmt) -> bool:
    """Whether a statement leaves the loop, in either branch."""
    if isinstance(statement, ast.If):
        branches = (statement.body, statement.orelse)
        return all(branch and _always_leaves(branch[-1]) for branch in branches)
    return isinstance(statement, ast.Return | ast.Break)


def _sets_flag(statement: ast.stmt, loop: Loop) -> bool:
    """Whether a statement ends a `while not done` at its next test: `done = True`."""
    match statement, loop:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=True)),
            ast.While(test=ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=flag))),
        ):
            return name == flag
    return False


def _another_round(statement: ast.stmt) -> bool:
    """Whether a statement goes on with the loop where the model has called tools."""
    goes_on = any(isinstance(node, ast.Continue) for node in walk(statement))
    return goes_on and bool(_ENDLESS.search(ast.unparse(statement)))


def _model_decides(file: File, loop: Loop) -> bool:
    """Whether a loop goes on as long as it is not left, or as the model's answer says."""
    if not isinstance(loop, ast.While):
        return _endless(file, loop.iter)
    if isinstance(loop.test, ast.Constant):
        return bool(loop.test.value)
    if isinstance(loop.test, ast.Compare) and any(_infinite(file, side) for side in loop.test.comparators):
        return True
    text = ast.unparse(loop.test)
    return bool(_ENDLESS.search(text)) and not _bounds(loop.test, set())


def _by_flag(file: File, loop: Loop, request: ast.Call) -> bool:
    """Whether a conversation, or a row of agents, goes on until a flag is set in the loop: `while not done`."""
    test = loop.test if isinstance(loop, ast.While) else None
    flag = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else test
    if not isinstance(flag, ast.Name):
        return False
    nodes = list(own_nodes(loop))
    targets = [t for node in nodes if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in nodes if isinstance(node, ast.NamedExpr)]
    is_set = any(isinstance(t, ast.Name) and t.id == flag.id for t in targets)
    return is_set and (any(map(_adds, nodes)) or runs_agent(file, request))


def _by_answer(loop: Loop, requests: set[ast.Call]) -> bool:
    """Whether a conversation goes on until the answer says so: `while "[DONE]" not in reply`."""
    if not isinstance(loop, ast.While) or _bounds(loop.test, set()):
        return False
    read = names_in(loop.test)
    nodes = list(own_nodes(loop))
    answers = {
        name.id
        for node in nodes
        if isinstance(node, ast.Assign) and any(part in requests for part in walk(node.value))
        for target in node.targets
        for name in walk(target)
        if isinstance(name, ast.Name)
    }
    return bool(read & answers) and any(map(_adds, nodes))


def _adds(node: ast.AST) -> bool:
    """Whether a node makes a list longer."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Add) and not isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Call) and _name(node.func) in ("append", "extend")


def _added_to(node: ast.AST) -> str | None:
    """The list that a node makes longer, as it is spelled: `messages` of `messages.append(x)` or `messages += [x]`."""
    match node:
        case ast.AugAssign(target=held) | ast.Call(func=ast.Attribute(value=held)):
            return spelling(held)
    return None


def _endless(file: File, source: ast.expr) -> bool:
    """Whether a `for` loop goes over something without an end."""
    if not isinstance(source, ast.Call):
        return False
    path = file.names.path(source.func)
    if path in ("itertools.count", "itertools.repeat"):
        return len(source.args) < 2 or path == "itertools.count"
    return path == "?range" and bool(source.args) and _infinite(file, source.args[-1])


def _bounded(file: File, loop: Loop, requests: set[ast.Call]) -> bool:
    nodes = list(own_nodes(loop))
    counted = set(filter(None, map(_counts, nodes)))
    for node in nodes:
        if isinstance(node, ast.If):
            if _leaves(node) and _bounds(node.test, counted) and not _compares_with_infinity(file, node.test):
                return True
            if _too_long(file, node):
                return True
        elif isinstance(node, ast.Compare | ast.BoolOp) and not _is_test(file, node, loop):
            if _bounds(node, counted) and not _compares_with_infinity(file, node):
                return True
        elif isinstance(node, ast.Assert):
            if _bounds(node.test, counted):
                return True
        elif isinstance(node, ast.Call) and node not in requests:
            if waits(file, node, loop) and not _tries_again(file, node) and not _between_rounds(file, node, loop):
                return True
            if _BOUNDED.search(_name(node.func)) and isinstance(file.module.parents.get(node), ast.Expr | ast.Await):
                return True  # budget.charge(...), check_limits(...)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            return True  # the caller pulls, and may stop
    return False


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _counts(node: ast.AST) -> str:
    """The last name of what a node counts up: `turns += 1`, `turns = turns + 1`."""
    match node:
        case ast.AugAssign(target=target):
            return _name(target)
        case ast.Assign(targets=[target], value=ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=int()))):
            return _name(target) if ast.unparse(left) == ast.unparse(target) else ""
    return ""


def _too_long(file: File, node: ast.If) -> bool:
    """Whether a branch leaves the loop when a list that grows has too many items: `if len(thoughts) > 3: return`."""
    if not any(isinstance(part, ast.Break | ast.Return | ast.Raise) for part in node.body):
        return False
    for test in walk(node.test):
        match test:
            case ast.Compare(left=ast.Call(func=ast.Name(id="len"), args=[counted]), ops=[ast.Gt() | ast.GtE()]):
                if f"{ast.unparse(counted)}.append(".encode() in file.module.source:
                    return True
    return False


def _bounds(test: ast.expr, counted: set[str]) -> bool:
    """Whether a test looks at a counter, a budget or a clock; a budget of tokens to think with is none."""
    names = {_name(part) for part in walk(test)} - {""}
    return any(name in counted or (_BOUNDED.search(name) and not _OF_ONE_CALL.search(name)) for name in names)


def _compares_with_infinity(file: File, test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and any(_infinite(file, side) for side in test.comparators)


def _is_test(file: File, node: ast.AST, loop: Loop) -> bool:
    """Whether a comparison is (part of) the test of an `if`, which is looked at with its body, or of a loop inside."""
    parent = file.module.parents.get(node)
    while isinstance(parent, ast.BoolOp | ast.UnaryOp):
        node, parent = parent, file.module.parents.get(parent)
    return isinstance(parent, ast.If | ast.IfExp | ast.While) and parent.test is node and parent is not loop


def _leaves(node: ast.If) -> bool:
    """Whether a branch leaves the loop, or sets what may end it."""
    inside = [part for statement in (*node.body, *node.orelse) for part in walk(statement)]
    if any(isinstance(part, ast.Break | ast.Return | ast.Raise | ast.Assign) for part in inside):
        return True
    return any(isinstance(part, ast.Call) and _ENDS.search(_name(part.func)) for part in inside)


def _tries_again(file: File, call: ast.Call) -> bool:
    """Whether a pause is one after an error."""
    return _name(call.func) == "sleep" and any(isinstance(a, ast.ExceptHandler) for a in file.module.ancestors(call))


def _between_rounds(file: File, call: ast.Call, loop: Loop) -> bool:
    """Whether a loop of tool rounds waits only in some of them: in one branch, or behind a `continue` of the others."""
    if not _ENDLESS.search(ast.unparse(loop)):
        return False
    inner: ast.AST = call
    for outer in file.module.ancestors(call):
        if isinstance(outer, ast.If) and inner is not outer.test:
            other = outer.orelse if inner in outer.body else outer.body
            if not any(isinstance(n, ast.Call) and waits(file, n, loop) for part in other for n in walk(part)):
                return not _leaves_else(other)
        if outer is loop:
            break
        inner = outer
    before = loop.body[: loop.body.index(inner)] if isinstance(inner, ast.stmt) and inner in loop.body else []
    rounds = (s for s in before if isinstance(s, ast.If) and _ENDLESS.search(ast.unparse(s.test)))
    return any(isinstance(n, ast.Continue) for statement in rounds for n in walk(statement))


def _leaves_else(branch: list[ast.stmt]) -> bool:
    return any(isinstance(n, ast.Break | ast.Return | ast.Raise) for statement in branch for n in walk(statement))
