"""Which parts of a text change from call to call, and where.

`Flow.taints(expr)` follows a value into a text: f-strings, `+`, `%`, `.format`, `join`, templates, locals, appended
parts, helpers of this file and of imported modules. A value made once per process (at module level) does not change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from tokenguard.lint.facts import Facts
from tokenguard.lint.syntax import Binding, Function

_DEPTH = 10


class Grain(IntEnum):
    """How often a value changes."""

    DAY = 1
    HOUR = 2
    CALL = 3


class Taint(NamedTuple):
    """A changing value: the expression where it enters the text, what makes it change, and how often."""

    node: ast.expr
    source: str
    grain: Grain
    kind: str  # "value", "order" (of a set or listing) or "padding" (pretty-printed)
    origin: ast.expr  # the expression that makes it
    placed: bool = False  # it has entered a text, where it is to be reported


_CLOCKS: dict[str, Grain] = {
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.now",
                     "datetime.utcnow", "time.time", "time.time_ns", "time.monotonic", "time.perf_counter",
                     "time.ctime",
                     "time.asctime", "time.localtime", "time.gmtime", "pendulum.now", "arrow.now", "arrow.utcnow",
                     "django.utils.timezone.now", "pandas.Timestamp.now", "pandas.Timestamp.utcnow"), Grain.CALL),
    **dict.fromkeys(("datetime.date.today", "pendulum.today", "django.utils.timezone.localdate"), Grain.DAY),
}  # fmt: skip
_RANDOM = re.compile(
    r"uuid\.uuid[1-8]|uuid\.UUID\(\).*|random\.(?!seed|Random$)\w+|numpy\.random\.\w+|secrets\.\w+|os\.urandom|os\.getpid|shortuuid\.uuid"
    r"|random\.Random\(\)\.\w+|nanoid\.generate|ulid\.(new|ULID)|time\.strftime"
)
_IDS = re.compile(r"(?:^|_)(request|trace|correlation|span|message|invocation|call)_?id$", re.IGNORECASE)
_FINE = re.compile(r"%[-#]?[MSfXcsTrpI]|%-?[MSIT]|\b(mm|ss)\b")
_PARTS = {"year": None, "month": None, "day": Grain.DAY, "weekday": Grain.DAY, "isoweekday": Grain.DAY,
          "date": Grain.DAY, "toordinal": Grain.DAY, "hour": Grain.HOUR, "tzinfo": None, "tzname": None,
          "utcoffset": None}  # fmt: skip
_THROUGH = frozenset(
    [
        "strip",
        "lstrip",
        "rstrip",
        "upper",
        "lower",
        "title",
        "format_map",
        "encode",
        "decode",
        "isoformat",
        "timestamp",
        "hex",
        "timetuple",
        "replace",
        "astimezone",
        "splitlines",
        "expandtabs",
        "center",
        "ljust",
        "rjust",
        "zfill",
        "removeprefix",
        "removesuffix",
        "partition",
        "copy",
        "text",
        "content",
        "dedent",
        "items",
        "render",
        "substitute",
        "safe_substitute",
        "format",
        "format_messages",
        "format_prompt",
        "partial",
        "join",
        "timestamp_ms",
        "ctime",
        "get",
    ]
)
_FILLS = frozenset({"format", "render", "substitute", "safe_substitute", "partial", "format_messages", "format_prompt"})
_COPIES = frozenset(
    [
        "str",
        "repr",
        "dedent",
        "Template",
        "int",
        "float",
        "round",
        "list",
        "tuple",
        "sorted",
        "dumps",
        "format",
        "fill",
        "indent",
        "cleandoc",
        "TextBlock",
        "from_template",
        "escape",
        "cast",
        "ascii",
        "enumerate",
        "reversed",
    ]
)
_COUNTERS = ("?range", "?enumerate", "itertools.count")
_LISTINGS = re.compile(r"(?:.*\.)?(glob|iglob|rglob|listdir|scandir|iterdir)$")


class Flow:
    """Follows values through one module's texts, and into its neighbours' helpers."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.loops: frozenset[ast.AST] = frozenset()  # those around the prompt in question: their counters change it
        self._busy: set[ast.AST] = set()

    def taints(
        self, node: ast.expr | None, given: Mapping[str, list[Taint]] | None = None, depth: int = 0
    ) -> list[Taint]:
        """What changes in the text or list that `node` makes; `given` holds the taints of the parameters around it."""
        if node is None or depth > _DEPTH or node in self._busy:
            return []
        self._busy.add(node)
        try:
            return self._taints(node, given or {}, depth + 1)
        finally:
            self._busy.discard(node)

    def _all(self, nodes: Iterable[ast.expr | None], given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        return [t for node in nodes for t in self.taints(node, given, depth)]

    def _at(self, node: ast.expr, taints: list[Taint], *, placed: bool = False) -> list[Taint]:
        """The taints as they pass `node`: reported there, unless they entered a text before."""
        return [t if t.placed else t._replace(node=node, placed=placed) for t in taints]

    def _taints(self, node: ast.expr, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        match node:
            case ast.JoinedStr(values=values):
                return self._all(values, given, depth)
            case ast.FormattedValue(value=value, format_spec=spec):
                found = self._at(value, self.taints(value, given, depth), placed=True)
                text = _plain(spec)
                return [t for f in found if (t := _regrain(f, text)) is not None] if text and "%" in text else found
            case ast.BinOp(left=left, right=right):
                if isinstance(node.op, ast.Mod):
                    return self.taints(left, given, depth) + self._at(
                        right, self.taints(right, given, depth), placed=True
                    )
                return self._all((left, right), given, depth)
            case ast.BoolOp(values=values):
                return self._all(values, given, depth)
            case ast.IfExp(body=body, orelse=orelse):
                return self._all((body, orelse), given, depth)
            case (
                ast.Await(value=value)
                | ast.NamedExpr(value=value)
                | ast.Starred(value=value)
                | ast.UnaryOp(operand=value)
            ):
                return self.taints(value, given, depth)
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                return self._all(elts, given, depth)
            case ast.Set(elts=elts):
                return self._order(node, "a set's order") if len(elts) > 1 or isinstance(elts[0], ast.Starred) else []
            case ast.SetComp():
                return self._order(node, "a set's order")
            case ast.Dict(values=values):
                return self._all(values, given, depth)
            case ast.ListComp(elt=elt, generators=generators) | ast.GeneratorExp(elt=elt, generators=generators):
                orders = [t for g in generators for t in self.taints(g.iter, given, depth) if t.kind == "order"]
                return self.taints(elt, given, depth) + orders
            case ast.DictComp(value=value, generators=generators):
                orders = [t for g in generators for t in self.taints(g.iter, given, depth) if t.kind == "order"]
                return self.taints(value, given, depth) + orders
            case ast.Subscript(value=value, slice=key):
                return self._item(node, value, key, given, depth)
            case ast.Lambda(body=body):
                return self.taints(body, given, depth)
            case ast.Name(id=name):
                return self._name(node, name, given, depth)
            case ast.Attribute():
                return self._attribute(node, given, depth)
            case ast.Call():
                return self._call(node, given, depth)
        return []

    def _order(self, node: ast.expr, source: str) -> list[Taint]:
        return [Taint(node, source, Grain.CALL, "order", node)]

    def _item(
        self, node: ast.Subscript, value: ast.expr, key: ast.expr, given: Mapping[str, list[Taint]], depth: int
    ) -> list[Taint]:
        text = self.facts.constant(key)
        if isinstance(text, str) and isinstance(value, ast.Name | ast.Attribute):
            found = self.facts.view(value).known.get(text)
            if found is not None:
                return self._at(node, self.taints(found, given, depth))
            return [Taint(node, f"{text!r}", Grain.CALL, "value", node)] if _IDS.search(text) else []
        return [t for t in self.taints(value, given, depth) if t.kind == "value" or not isinstance(key, ast.Slice)]

    def _name(self, node: ast.Name, name: str, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        if name in given:
            return self._at(node, given[name])
        found = self.facts.module.scope_at(node).lookup(name)
        if found is None:
            return []
        scope, bindings = found
        if scope is self.facts.module.top and self.facts.module.function_of(node) is not None:
            bindings = [b for b in bindings if b.kind == "import"]  # made once, when the module is loaded
        taints: list[Taint] = []
        before = [b for b in bindings if getattr(b.node, "lineno", 0) <= node.lineno] or bindings
        for binding in self._live(before, node):
            taints += self._binding(node, name, binding, given, depth)
        if scope is not self.facts.module.top or not self.facts.module.function_of(node):
            for part in scope.names.get(f"{name}[]", ()):
                if part.kind == "append":
                    taints += self.taints(part.value, given, depth)
        return taints

    def _live(self, bindings: list[Binding], use: ast.expr) -> list[Binding]:
        """Without those that a later plain assignment in an enclosing block surely replaces."""
        blocks = {id(self.facts.module.parents.get(use)), *(id(a) for a in self.facts.module.ancestors(use))}
        for index in range(len(bindings) - 1, 0, -1):
            binding = bindings[index]
            if binding.kind == "assign" and id(self.facts.module.parents.get(binding.node)) in blocks:
                same = [b for b in bindings if b.kind == "assign"]
                if all(getattr(b.node, "lineno", 0) <= getattr(binding.node, "lineno", 0) for b in same):
                    return bindings[index:]
        return bindings

    def _binding(
        self, node: ast.Name, name: str, binding: Binding, given: Mapping[str, list[Taint]], depth: int
    ) -> list[Taint]:
        match binding.kind:
            case "assign" | "augment" | "with":
                if binding.value is node:
                    return []
                found = self.taints(binding.value, given, depth)
                return found if _is_text(binding.value) else self._at(node, found)
            case "param":
                if _IDS.search(name):
                    return [Taint(node, f"the parameter {name}", Grain.CALL, "value", node)]
            case "loop":
                orders = [t for t in self.taints(binding.value, given, depth) if t.kind == "value"]
                if orders:
                    return orders
                if binding.node in self.loops and self._is_counter(binding, name):
                    return [Taint(node, f"the counter {name}", Grain.CALL, "value", node)]
            case "def" if isinstance(binding.node, Function):  # instructions=make_instructions
                return self._results(self.facts, binding.node, {}, depth)
            case "import":
                return self._elsewhere(node, binding.target, [], {}, given, depth)
        return []

    def _is_counter(self, binding: Binding, name: str) -> bool:
        """Whether `name` is the number of an enumeration, rather than its item."""
        counting = isinstance(binding.value, ast.Call) and self.facts.names.path(binding.value.func) in _COUNTERS
        target = getattr(binding.node, "target", None)
        first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
        return counting and isinstance(first, ast.Name) and first.id == name

    def _attribute(self, node: ast.Attribute, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            owner = self.facts.module.class_of(node)
            bindings = self.facts.module.attributes(owner).get(node.attr, []) if owner else []
            taints: list[Taint] = []
            for binding in bindings:
                if isinstance(binding.node, Function) and _is_property(binding.node):
                    taints += self._results(self.facts, binding.node, {}, depth)
                elif binding.kind in ("assign", "augment") and self.facts.module.function_of(binding.node) is not None:
                    taints += self.taints(binding.value, {}, depth)
            if taints or bindings:
                return self._at(node, taints)
        base = self.taints(node.value, given, depth)
        if base and node.attr in _PARTS:
            grain = _PARTS[node.attr]
            return [t._replace(node=node, grain=grain) for t in base] if grain else []
        if not base and _IDS.search(node.attr):
            return [Taint(node, ast.unparse(node), Grain.CALL, "value", node)]
        return (
            self._at(node, base)
            if node.attr in ("hex", "int", "microsecond", "second", "minute", "template", "text", "content")
            else []
        )

    def _call(self, node: ast.Call, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        path = self.facts.names.path(node.func)
        last = path.rpartition(".")[2].lstrip("?@")
        arguments = [*node.args, *(k.value for k in node.keywords)]
        clock = _clock(path)
        if clock is not None and not (last in ("ctime", "localtime", "gmtime", "asctime") and node.args):
            return [Taint(node, ast.unparse(node.func) + "()", clock, "value", node)]
        if path == "time.strftime":
            taint = Taint(node, "time.strftime()", Grain.CALL, "value", node)
            timed = len(node.args) < 2 or bool(self.taints(node.args[1], given, depth))
            return [t] if timed and (t := _regrain(taint, self._format(node))) else []
        if path == "?next" or _RANDOM.fullmatch(path):
            if path == "?next" and "count" not in self.facts.names.path(node.args[0] if node.args else None):
                return []
            return [Taint(node, ast.unparse(node.func) + "()", Grain.CALL, "value", node)]
        if (last in ("dumps", "model_dump_json") and self._indented(node)) or path == "pprint.pformat":
            return [
                Taint(node, ast.unparse(node.func) + "(indent)" * (last != "pformat"), Grain.CALL, "padding", node),
                *self._all(arguments, given, depth),
            ]
        if path in ("?set", "?frozenset"):
            return self._order(node, "a set's order") if node.args else []
        if _LISTINGS.fullmatch(path) and (path[0] != "?" or last in ("glob", "rglob", "iterdir", "iglob", "listdir")):
            return self._order(node, "the order of a directory listing")
        if path == "?sorted" or last in ("sorted", "natsorted"):
            return [t for t in self._all(arguments, given, depth) if t.kind != "order"]
        if path.startswith("@") and "." not in path.removeprefix("@self."):
            return self._local(node, path, given, depth)
        if isinstance(node.func, ast.Attribute):
            found = self._method(node, node.func, arguments, given, depth)
            if found is not None:
                return found
        if last in _COPIES:
            return self._all(arguments, given, depth)
        return self._elsewhere(node, path, node.args, {k.arg: k.value for k in node.keywords if k.arg}, given, depth)

    def _method(
        self,
        node: ast.Call,
        func: ast.Attribute,
        arguments: list[ast.expr],
        given: Mapping[str, list[Taint]],
        depth: int,
    ) -> list[Taint] | None:
        receiver = self.taints(func.value, given, depth)
        if func.attr == "strftime":
            return [t for r in self._at(node, receiver) if (t := _regrain(r, self._format(node))) is not None]
        if func.attr == "isoformat" and _plain(node.args[0] if node.args else None) == "hours":
            return [t._replace(grain=Grain.HOUR) for t in receiver]
        if func.attr in _PARTS and receiver and all(t.kind == "value" for t in receiver):
            grain = _PARTS[func.attr]
            return [t._replace(node=node, grain=min(t.grain, grain)) for t in receiver] if grain else []
        if func.attr == "replace" and any(k.arg == "hour" for k in node.keywords):
            return [t._replace(node=node, grain=Grain.DAY) for t in receiver]
        if func.attr == "get" and node.args and (receiver or not self._known_dict(func.value)):
            return receiver
        if func.attr == "join":
            return receiver + self._all(arguments, given, depth)
        if func.attr in _THROUGH:
            fills = func.attr in _FILLS or (func.attr == "replace" and len(arguments) == 2)  # .replace("{now}", now)
            found = [
                t
                for a in arguments
                for t in self._at(a, self.taints(a, given, depth), placed=fills)
                if t.kind != "order" or fills
            ]
            return receiver + found
        return None

    def _indented(self, node: ast.Call) -> bool:
        indent = next((k.value for k in node.keywords if k.arg == "indent"), None)
        return indent is not None and self.facts.constant(indent) not in (None, 0)

    def _known_dict(self, node: ast.expr) -> bool:
        return bool(self.facts.view(node).known)

    def _format(self, call: ast.Call) -> str | None:
        text = self.facts.constant(call.args[0]) if call.args else None
        if isinstance(text, str):
            return text
        return (
            "%Y-%m-%d" if call.args and re.search(r"date(?!_?time)", ast.unparse(call.args[0]), re.IGNORECASE) else None
        )

    def _local(self, node: ast.Call, path: str, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        definition = self.facts.names.definition(path)
        if not isinstance(definition, Function):
            return []
        method = path.startswith("@self.")
        inner = self._parameters(
            definition, node.args, {k.arg: k.value for k in node.keywords if k.arg}, given, depth, skip=method
        )
        return self._at(node, self._results(self.facts, definition, inner, depth))

    def _elsewhere(
        self,
        node: ast.expr,
        path: str,
        args: list[ast.expr],
        keywords: Mapping[str, ast.expr],
        given: Mapping[str, list[Taint]],
        depth: int,
    ) -> list[Taint]:
        project = self.facts.project
        if project is None or path[:1] in "?@" or "(" in path or path == ".":
            return []
        found = project.find(self.facts.module, path)
        if found is None:
            return []
        other, definition = found
        if isinstance(definition, Function) and isinstance(node, ast.Call):
            inner = self._parameters(definition, args, keywords, given, depth)
            # A text made there is shown at this call; a bare value where it enters a text here.
            return [t._replace(node=node) for t in self._results(other, definition, inner, depth)]
        return []

    def _parameters(
        self,
        function: Function,
        args: list[ast.expr],
        keywords: Mapping[str, ast.expr],
        given: Mapping[str, list[Taint]],
        depth: int,
        *,
        skip: bool = False,
    ) -> dict[str, list[Taint]]:
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if skip and names[:1] in (["self"], ["cls"]):
            names = names[1:]
        inner = {name: self.taints(arg, given, depth) for name, arg in zip(names, args, strict=False)}
        inner.update({name: self.taints(value, given, depth) for name, value in keywords.items()})
        return {name: taints for name, taints in inner.items() if taints}

    def _results(self, facts: Facts, function: Function, given: Mapping[str, list[Taint]], depth: int) -> list[Taint]:
        flow = self if facts is self.facts else Flow(facts)
        return flow._all(facts.module.results(function), given, depth + 1)

    def returns(self, function: Function) -> list[Taint]:
        """What changes in the text that `function` returns."""
        return self._results(self.facts, function, {}, 0)


def _clock(path: str) -> Grain | None:
    grain = _CLOCKS.get(path)
    if grain is None and path.endswith((".datetime.now", ".datetime.utcnow", ".datetime.today", "timezone.now")):
        return Grain.CALL
    return grain


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


def _regrain(taint: Taint, pattern: str | None) -> Taint | None:
    """The taint of a time printed by a strftime pattern; None when the pattern shows nothing below a month."""
    if pattern is None or "%" not in pattern:
        return taint
    if re.search(r"%-?[MSfXcTsrR]", pattern):
        return taint
    if re.search(r"%-?[HIpk]", pattern):
        return taint._replace(grain=min(taint.grain, Grain.HOUR))
    if re.search(r"%-?[daAjwuexDFUWV]", pattern):
        return taint._replace(grain=Grain.DAY)
    return None
