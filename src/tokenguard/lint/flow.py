"""Which parts of a text change from call to call, and where.

`Flow.taints(expr)` follows a value into a text: f-strings, `+`, `%`, `.format`, `join`, templates, locals, appended
parts, helpers of this file and of imported modules. A value made once per process (at module level) does not change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.changing import COUNTERS, IDS, LISTINGS, PARTS, RANDOM, Grain, Taint, clock, regrain
from tokenguard.lint.facts import Facts
from tokenguard.lint.syntax import Binding, Function, parameters_of

_DEPTH = 10
_THROUGH = frozenset({
    "strip", "lstrip", "rstrip", "upper", "lower", "title", "format_map", "encode", "decode",
    "isoformat", "timestamp", "hex", "timetuple", "replace", "astimezone", "splitlines",
    "expandtabs", "center", "ljust", "rjust", "zfill", "removeprefix", "removesuffix", "partition",
    "copy", "text", "content", "dedent", "items", "render", "substitute", "safe_substitute",
    "format", "format_messages", "format_prompt", "partial", "join", "timestamp_ms", "ctime", "get",
})  # fmt: skip
_FILLS = frozenset({"format", "render", "substitute", "safe_substitute", "partial", "format_messages", "format_prompt"})
_COPIES = frozenset({
    "str", "repr", "dedent", "Template", "int", "float", "round", "list", "tuple", "sorted",
    "dumps", "format", "fill", "indent", "cleandoc", "TextBlock", "TextContent", "CallToolResult", "ToolResult",
    "ToolReturn", "from_template", "escape", "cast",
    "ascii", "enumerate", "reversed",
})  # fmt: skip
_SHOWN = frozenset({"hex", "int", "microsecond", "second", "minute", "template", "text", "content"})  # attributes
_CONVERTERS = frozenset({"ctime", "localtime", "gmtime", "asctime"})  # of the time they are given, else of now
_DIRECTORIES = frozenset({"glob", "rglob", "iterdir", "iglob", "listdir"})


class Frame(NamedTuple):
    """Where a walk is: the taints of the parameters around it, and how deep it has gone."""

    given: Mapping[str, list[Taint]]
    depth: int


class Called(NamedTuple):
    """A call that a walk has come to: the path of its function, that path's last name, and all it is given."""

    node: ast.Call
    path: str
    last: str
    arguments: list[ast.expr]


class Flow:
    """Follows values through one module's texts, and into its neighbours' helpers."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.loops: frozenset[ast.AST] = frozenset()  # those around the prompt in question: their counters change it
        self._busy: set[ast.AST] = set()
        self._cuts = 0  # how often a walk has come back to where it was, or gone too deep
        self._known: dict[ast.AST, list[Taint]] = {}

    def taints(self, node: ast.expr | None, frame: Frame = Frame({}, 0)) -> list[Taint]:  # noqa: B008 - a value
        """What changes in the text or list that `node` makes."""
        if node is None or node.__class__ is ast.Constant:
            return []
        anywhere = not (frame.given or self.loops)  # what is found holds wherever this node is met
        if anywhere and node in self._known:
            return self._known[node]
        if frame.depth > _DEPTH or node in self._busy:
            self._cuts += 1
            return []
        before = self._cuts
        self._busy.add(node)
        try:
            found = self._taints(node, Frame(frame.given, frame.depth + 1))
        finally:
            self._busy.discard(node)
        if anywhere and self._cuts == before:
            self._known[node] = found
        return found

    def returns(self, function: Function) -> list[Taint]:
        """What changes in the text that `function` returns."""
        return self._results(self.facts, function, Frame({}, 0))

    def _all(self, nodes: Iterable[ast.expr | None], frame: Frame) -> list[Taint]:
        return [t for node in nodes for t in self.taints(node, frame)]

    def _at(self, node: ast.expr, taints: list[Taint], *, placed: bool = False) -> list[Taint]:
        """The taints as they pass `node`: reported there, unless they entered a text before."""
        return [t if t.placed else t._replace(node=node, placed=placed) for t in taints]

    def _taints(self, node: ast.expr, frame: Frame) -> list[Taint]:
        match node:  # what is met most comes first
            case ast.Name(id=name):
                return self._name(node, name, frame)
            case ast.Attribute():
                return self._attribute(node, frame)
            case ast.Call():
                return self._call(node, frame)
            case ast.FormattedValue(value=value, format_spec=spec):
                found = self._at(value, self.taints(value, frame), placed=True)
                text = _plain(spec)
                return [t for f in found if (t := regrain(f, text)) is not None] if text and "%" in text else found
            case ast.BinOp(left=left, right=right, op=ast.Mod()):
                return self.taints(left, frame) + self._at(right, self.taints(right, frame), placed=True)
            case ast.BinOp(left=left, right=right) | ast.IfExp(body=left, orelse=right):
                return self._all((left, right), frame)
            case ast.JoinedStr(values=parts) | ast.BoolOp(values=parts) | ast.Dict(values=parts):
                return self._all(parts, frame)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return self._all(parts, frame)
            case (
                ast.Await(value=value)
                | ast.NamedExpr(value=value)
                | ast.Starred(value=value)
                | ast.UnaryOp(operand=value)
                | ast.Lambda(body=value)
            ):
                return self.taints(value, frame)
            case ast.Set(elts=parts):
                return self._order(node, "a set's order") if len(parts) > 1 or isinstance(parts[0], ast.Starred) else []
            case ast.SetComp():
                return self._order(node, "a set's order")
            case (
                ast.ListComp(elt=value, generators=generators)
                | ast.GeneratorExp(elt=value, generators=generators)
                | ast.DictComp(value=value, generators=generators)
            ):
                orders = [t for g in generators for t in self.taints(g.iter, frame) if t.kind == "order"]
                return self.taints(value, frame) + orders
            case ast.Subscript(value=value, slice=key):
                return self._item(node, value, key, frame)
        return []

    def _order(self, node: ast.expr, source: str) -> list[Taint]:
        return [Taint(node, source, Grain.CALL, "order", node)]

    def _item(self, node: ast.Subscript, value: ast.expr, key: ast.expr, frame: Frame) -> list[Taint]:
        text = self.facts.constant(key)
        if isinstance(text, str) and isinstance(value, ast.Name | ast.Attribute):
            found = self.facts.view(value).known.get(text)
            if found is not None:
                return self._at(node, self.taints(found, frame))
            return [Taint(node, f"{text!r}", Grain.CALL, "value", node)] if IDS.search(text) else []
        return [t for t in self.taints(value, frame) if t.kind == "value" or not isinstance(key, ast.Slice)]

    # -- names -----------------------------------------------------------------------------------------------------

    def _name(self, node: ast.Name, name: str, frame: Frame) -> list[Taint]:
        if name in frame.given:
            return self._at(node, frame.given[name])
        found = self.facts.module.scope_at(node).lookup(name)
        if found is None:
            return []
        scope, bindings = found
        if scope is self.facts.module.top and self.facts.module.function_of(node) is not None:
            return []  # made once, when the module is loaded
        taints: list[Taint] = []
        before = [b for b in bindings if getattr(b.node, "lineno", 0) <= node.lineno] or bindings
        for binding in self.live(before, node):
            taints += self._binding(node, name, binding, frame)
        for part in scope.names.get(f"{name}[]", ()):
            if part.kind == "append":
                taints += self.taints(part.value, frame)
        return taints

    def live(self, bindings: list[Binding], use: ast.expr) -> list[Binding]:
        """Without those that a later plain assignment in an enclosing block surely replaces."""
        if len(bindings) < 2:
            return bindings
        blocks = {id(self.facts.module.parents.get(use)), *(id(a) for a in self.facts.module.ancestors(use))}
        for index in range(len(bindings) - 1, 0, -1):
            binding = bindings[index]
            if binding.kind == "assign" and id(self.facts.module.parents.get(binding.node)) in blocks:
                same = [b for b in bindings if b.kind == "assign"]
                if all(getattr(b.node, "lineno", 0) <= getattr(binding.node, "lineno", 0) for b in same):
                    return bindings[index:]
        return bindings

    def _binding(self, node: ast.Name, name: str, binding: Binding, frame: Frame) -> list[Taint]:
        match binding.kind:
            case "assign" | "augment" | "with":
                if binding.value is node:
                    return []
                found = self.taints(binding.value, frame)
                return found if _is_text(binding.value) else self._at(node, found)
            case "param" if IDS.search(name):
                return [Taint(node, f"the parameter {name}", Grain.CALL, "value", node)]
            case "loop":
                values = [t for t in self.taints(binding.value, frame) if t.kind == "value"]
                if not values and binding.node in self.loops and self._is_counter(binding, name):
                    return [Taint(node, f"the counter {name}", Grain.CALL, "value", node)]
                return values
            case "def" if isinstance(binding.node, Function):  # instructions=make_instructions
                return self._results(self.facts, binding.node, Frame({}, frame.depth))
        return []

    def _is_counter(self, binding: Binding, name: str) -> bool:
        """Whether `name` is the number of an enumeration, rather than its item."""
        counting = isinstance(binding.value, ast.Call) and self.facts.names.path(binding.value.func) in COUNTERS
        target = getattr(binding.node, "target", None)
        first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
        return counting and isinstance(first, ast.Name) and first.id == name

    def _attribute(self, node: ast.Attribute, frame: Frame) -> list[Taint]:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            owner = self.facts.module.class_of(node)
            bindings = self.facts.module.attributes(owner).get(node.attr, []) if owner else []
            taints: list[Taint] = []
            for binding in bindings:
                if isinstance(binding.node, Function) and _is_property(binding.node):
                    taints += self._results(self.facts, binding.node, Frame({}, frame.depth))
                elif binding.kind in ("assign", "augment") and self.facts.module.function_of(binding.node) is not None:
                    taints += self.taints(binding.value, Frame({}, frame.depth))
            if taints or bindings:
                return self._at(node, taints)
        base = self.taints(node.value, frame)
        if base and node.attr in PARTS:
            grain = PARTS[node.attr]
            return [t._replace(node=node, grain=grain) for t in base] if grain else []
        if not base and IDS.search(node.attr):
            return [Taint(node, ast.unparse(node), Grain.CALL, "value", node)]
        return self._at(node, base) if node.attr in _SHOWN else []

    # -- calls: the first kind that knows a call answers ---------------------------------------------------------------

    def _call(self, node: ast.Call, frame: Frame) -> list[Taint]:
        path = self.facts.names.path(node.func)
        arguments = [*node.args, *(k.value for k in node.keywords)]
        call = Called(node, path, path.rpartition(".")[2].lstrip("?@"), arguments)
        for kind in self._KINDS:
            found = kind(self, call, frame)
            if found is not None:
                return found
        return []

    def _time(self, call: Called, frame: Frame) -> list[Taint] | None:
        """A clock, or `time.strftime` of one."""
        grain = clock(call.path)
        if grain is not None and not (call.last in _CONVERTERS and call.node.args):
            return [_made(call.node, "()", grain)]
        if call.path != "time.strftime":
            return None
        timed = len(call.node.args) < 2 or bool(self.taints(call.node.args[1], frame))
        taint = regrain(_made(call.node, "()"), self._format(call.node)) if timed else None
        return [] if taint is None else [taint]

    def _random(self, call: Called, frame: Frame) -> list[Taint] | None:
        """A random number, a uuid, the next number of a count."""
        if call.path == "?next":
            first = call.node.args[0] if call.node.args else None
            return [_made(call.node, "()")] if "count" in self.facts.names.path(first) else []
        if not RANDOM.fullmatch(call.path):
            return None
        drawn = self.facts.written(call.node.args[0]) if call.last == "choice" and call.node.args else None
        return (
            [] if isinstance(drawn, ast.List | ast.Tuple) else [_made(call.node, "()")]
        )  # a few texts: each is cached

    def _padding(self, call: Called, frame: Frame) -> list[Taint] | None:
        """Pretty-printing, which pads, and what changes in what is printed."""
        if call.path == "pprint.pformat":
            padded = _made(call.node, "", kind="padding")
        elif call.last in ("dumps", "model_dump_json") and self._indented(call.node):
            padded = _made(call.node, "(indent)", kind="padding")
        else:
            return None
        return [padded, *self._all(call.arguments, frame)]

    def _unordered(self, call: Called, frame: Frame) -> list[Taint] | None:
        """A set, or a directory listing."""
        if call.path in ("?set", "?frozenset"):
            return self._order(call.node, "a set's order") if call.node.args else []
        if LISTINGS.fullmatch(call.path) and (call.path[0] != "?" or call.last in _DIRECTORIES):
            return self._order(call.node, "the order of a directory listing")
        return None

    def _sorted(self, call: Called, frame: Frame) -> list[Taint] | None:
        if call.last not in ("sorted", "natsorted"):
            return None
        return [t for t in self._all(call.arguments, frame) if t.kind != "order"]

    def _local(self, call: Called, frame: Frame) -> list[Taint] | None:
        """A function of this file, or a method of one of its classes."""
        if not call.path.startswith("@"):
            return None
        definition = self.facts.names.definition(call.path)
        if not isinstance(definition, Function):
            return None if "." in call.path.removeprefix("@self.") else []
        inner = self._parameters(definition, call.node.args, _keywords(call.node), frame)
        return self._at(call.node, self._results(self.facts, definition, Frame(inner, frame.depth)))

    def _method(self, call: Called, frame: Frame) -> list[Taint] | None:
        """A method that keeps what is in its object, a part of it, or fills it in."""
        node, func = call.node, call.node.func
        if not isinstance(func, ast.Attribute):
            return None
        receiver = self.taints(func.value, frame)
        if func.attr == "strftime":
            return [t for r in self._at(node, receiver) if (t := regrain(r, self._format(node))) is not None]
        if func.attr == "isoformat" and _plain(node.args[0] if node.args else None) == "hours":
            return [t._replace(grain=Grain.HOUR) for t in receiver]
        if func.attr in PARTS and receiver and all(t.kind == "value" for t in receiver):
            grain = PARTS[func.attr]
            return [t._replace(node=node, grain=min(t.grain, grain)) for t in receiver] if grain else []
        if func.attr == "replace" and any(k.arg == "hour" for k in node.keywords):
            return [t._replace(node=node, grain=Grain.DAY) for t in receiver]
        if func.attr == "get" and node.args and (receiver or not self.facts.view(func.value).known):
            return receiver
        if func.attr == "join":
            return receiver + self._all(call.arguments, frame)
        return receiver + self._filled(call, func.attr, frame) if func.attr in _THROUGH else None

    def _filled(self, call: Called, method: str, frame: Frame) -> list[Taint]:
        """What the arguments of a method bring into its text; `.replace("{now}", now)` fills a template, too."""
        fills = method in _FILLS or (method == "replace" and len(call.arguments) == 2)
        taints = [t for a in call.arguments for t in self._at(a, self.taints(a, frame), placed=fills)]
        return [t for t in taints if t.kind != "order" or fills]

    def _copied(self, call: Called, frame: Frame) -> list[Taint] | None:
        return self._all(call.arguments, frame) if call.last in _COPIES else None

    def _imported(self, call: Called, frame: Frame) -> list[Taint] | None:
        """What a function of another module returns: a text made there is shown at this call."""
        found = self.facts.elsewhere(call.path)
        if found is None or not isinstance(found[1], Function):
            return None
        inner = self._parameters(found[1], call.node.args, _keywords(call.node), frame)
        return [t._replace(node=call.node) for t in self._results(found[0], found[1], Frame(inner, frame.depth))]

    _KINDS = (_time, _random, _padding, _unordered, _sorted, _local, _method, _copied, _imported)

    def _parameters(
        self, function: Function, args: list[ast.expr], keywords: Mapping[str, ast.expr], frame: Frame
    ) -> dict[str, list[Taint]]:
        """The taints of a function's parameters, of those that have any."""
        inner = {name: self.taints(arg, frame) for name, arg in zip(parameters_of(function), args, strict=False)}
        inner.update({name: self.taints(value, frame) for name, value in keywords.items()})
        return {name: taints for name, taints in inner.items() if taints}

    def _results(self, facts: Facts, function: Function, frame: Frame) -> list[Taint]:
        flow = self if facts is self.facts else Flow(facts)
        return flow._all(facts.module.results(function), Frame(frame.given, frame.depth + 1))

    def _indented(self, node: ast.Call) -> bool:
        indent = next((k.value for k in node.keywords if k.arg == "indent"), None)
        return indent is not None and self.facts.constant(indent) not in (None, 0)

    def _format(self, call: ast.Call) -> str | None:
        """The strftime pattern a call is given; a name with `date` in it is taken for one of a date."""
        text = self.facts.constant(call.args[0]) if call.args else None
        if isinstance(text, str):
            return text
        dated = call.args and re.search(r"date(?!_?time)", ast.unparse(call.args[0]), re.IGNORECASE)
        return "%Y-%m-%d" if dated else None


def _made(node: ast.Call, suffix: str, grain: Grain = Grain.CALL, kind: str = "value") -> Taint:
    return Taint(node, ast.unparse(node.func) + suffix, grain, kind, node)


def _keywords(node: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in node.keywords if k.arg}


def _is_text(node: ast.expr | None) -> bool:
    """Whether an expression is itself a text under construction, so that a taint is shown inside it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _FILLS or node.func.attr in ("join", "strip")
    return isinstance(node, ast.JoinedStr | ast.BinOp | ast.List | ast.Dict | ast.IfExp)


def _is_property(function: Function) -> bool:
    return any("property" in ast.unparse(d) for d in function.decorator_list)


def _plain(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value for v in node.values if isinstance(v, ast.Constant) and isinstance(v.value, str))
    return ""
