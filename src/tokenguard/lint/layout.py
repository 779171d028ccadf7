"""The order of a text's parts: what is always the same, what changes with every call, and what may be anything.

A clock at the head of a prompt that goes on with fixed text spoils the cache for all of it; the same clock behind the
question costs nothing. `head` tells them apart.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.changing import Taint
from tokenguard.lint.facts import Facts
from tokenguard.lint.flow import Flow
from tokenguard.lint.syntax import Binding, Function, parameters_of, spelling

_DEPTH = 8
_SAME = frozenset({"strip", "lstrip", "rstrip", "dedent", "cleandoc", "str", "encode", "HumanMessage", "from_template"})
_FILLS = frozenset({"format", "substitute", "safe_substitute"})
_READS = frozenset({"read", "read_text"})
_FILE = 1000  # characters that a prompt in a file of its own has at least
_PLACES = lazy(r"%(?:\((\w+)\))?[-#0 +]*\d*(?:\.\d+)?[sdrif]")


class Piece(NamedTuple):
    """A part of a text: `fixed` characters of it are always the same; otherwise it is `changing`, or not known."""

    node: ast.expr
    fixed: int | None = None
    changing: Taint | None = None


Given = Mapping[str, list[Piece]]


def head(flow: Flow, text: ast.expr) -> tuple[Taint, int] | None:
    """What changes in a text before anything unknown, and the fixed characters behind it."""
    parts = Layout(flow).pieces(text)
    for part in parts:
        if part.changing is not None:
            return part.changing._replace(node=part.node), sum(behind.fixed or 0 for behind in parts)
        if part.fixed is None:
            return None
    return None


class Layout:
    """Lays out the texts of one module; `flow` says what changes in them."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.facts = flow.facts

    def pieces(self, node: ast.expr, given: Given | None = None, depth: int = 0) -> Iterator[Piece]:
        """The parts of the text that `node` makes, in order; `given` are those of the parameters around it.

        A part is looked at when it is asked for: of most texts, the first is enough.
        """
        return self._pieces(node, given or {}, depth + 1) if depth <= _DEPTH else iter((Piece(node),))

    def _pieces(self, node: ast.expr, given: Given, depth: int) -> Iterator[Piece]:
        match node:
            case ast.Constant(value=value):
                yield Piece(node, len(value) if isinstance(value, str) else 1)
            case ast.JoinedStr(values=values):
                for value in values:
                    yield from self.pieces(value, given, depth)
            case ast.FormattedValue(value=value, format_spec=None):
                yield from self.pieces(value, given, depth)
            case ast.BinOp(left=left, right=right, op=ast.Add()):
                yield from self.pieces(left, given, depth)
                yield from self.pieces(right, given, depth)
            case ast.BinOp(left=left, right=right, op=ast.Mod()) if isinstance(self.facts.constant(left), str):
                yield from self._percent(node, str(self.facts.constant(left)), right, given, depth)
            case ast.IfExp(body=body):
                yield from self.pieces(body, given, depth)
            case ast.Name(id=name):
                yield from self._name(node, name, given, depth)
            case ast.Call():
                yield from self._call(node, given, depth)
            case _:
                yield self._leaf(node)

    def _leaf(self, node: ast.expr) -> Piece:
        found = [
            t for t in self.flow.taints(node) if t.kind == "value" and "random" not in t.source
        ]  # a sample is data
        return Piece(node, None, max(found, key=lambda t: t.grain)) if found else Piece(node)

    def _name(self, node: ast.Name, name: str, given: Given, depth: int) -> Iterable[Piece]:
        if name in given:
            return given[name]
        text = self.facts.constant(node)
        if isinstance(text, str):
            return [Piece(node, len(text))]
        found = self.facts.module.scope_at(node).lookup(name)
        if found is None:
            return [Piece(node)]
        scope, bindings = found
        if scope is self.facts.module.top and self.facts.module.function_of(node) is not None:
            return [Piece(node, _length(self.facts, node))]  # made once, when the module is loaded
        values = self._bound(node, bindings)
        if values is None:
            return [self._leaf(node)]
        parts = (part for value in values for part in self.pieces(value, given, depth))
        first = list(islice(parts, 2))
        if len(first) == 1 and first[0].changing and not _is_text(first[0]):
            return [first[0]._replace(node=node)]
        return chain(first, parts)

    def _bound(self, node: ast.Name, bindings: list[Binding]) -> list[ast.expr] | None:
        """What makes a local text: its one assignment, and what is added to it before its use."""
        before = [b for b in bindings if getattr(b.node, "lineno", 0) <= node.lineno]
        if not before:
            return None
        first, *more = self.flow.live(before, node)
        if first.kind != "assign" or first.value is None or first.value is node:
            return None
        if any(b.kind != "augment" or b.value is None for b in more):
            return None
        return [first.value, *(b.value for b in more if b.value is not None)]

    # -- calls -----------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, given: Given, depth: int) -> Iterator[Piece]:
        path = self.facts.names.path(node.func)
        last = path.rpartition(".")[2].lstrip("?@")
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        definition = self.facts.names.definition(path)
        if isinstance(definition, Function):
            yield from self._returned(node, definition, given, depth)
        elif last in _FILLS and receiver is not None and (text := self._template(receiver)) is not None:
            yield from self._filled(node, text, given, depth)
        elif last == "join" and receiver is not None and len(node.args) == 1:
            yield from self._joined(node, node.args[0], given, depth)
        elif last in _SAME and (inner := node.args[0] if node.args else receiver) is not None:
            yield from self.pieces(inner, given, depth)
        else:
            yield self._leaf(node)

    def _returned(self, node: ast.Call, function: Function, given: Given, depth: int) -> Iterator[Piece]:
        """The text that a function of this file returns, with the arguments it is given here."""
        results = self.facts.module.results(function)
        names = parameters_of(function)
        arguments = [*zip(names, node.args, strict=False), *((k.arg, k.value) for k in node.keywords if k.arg)]
        inner = {name: list(self.pieces(value, given, depth)) for name, value in arguments}
        if len(results) == 1:
            yield from self.pieces(results[0], {**{name: [Piece(node)] for name in names}, **inner}, depth)
        else:
            yield self._leaf(node)

    def _template(self, node: ast.expr) -> str | None:
        """The text of a template: a literal, a name for one, `Template(text)`, `PromptTemplate(template=text)`."""
        text = self.facts.constant(node)
        written = self.facts.written(node)
        if text is None and isinstance(written, ast.Call):
            known = self.facts.arguments(written).known
            inner = known.get("template") or (written.args[0] if written.args else None)
            text = self.facts.constant(inner)
        return text if isinstance(text, str) else None

    def _filled(self, node: ast.Call, text: str, given: Given, depth: int) -> Iterator[Piece]:
        """The parts of `text.format(...)`, and of a `$`-template."""
        known = self.facts.arguments(node).known
        try:
            from string import Formatter  # its own patterns take a while to be compiled

            fields = list(Formatter().parse(re.sub(r"\$\{?(\w+)\}?", r"{\1}", text) if "$" in text else text))
        except ValueError:
            fields = [(text, None, None, None)]
        for number, (fixed, name, _, _) in enumerate(fields):
            if fixed:
                yield Piece(node, len(fixed))
            if name is not None:
                key = re.split(r"[.\[]", name)[0]
                value = known.get(key)
                if value is None and (not key or key.isdigit()):
                    index = int(key) if key else number
                    value = node.args[index] if index < len(node.args) else None
                yield from self.pieces(value, given, depth) if value is not None else [Piece(node)]

    def _percent(self, node: ast.expr, text: str, right: ast.expr, given: Given, depth: int) -> Iterator[Piece]:
        values = iter(right.elts if isinstance(right, ast.Tuple) else [right])
        named = self.facts.view(right).known if isinstance(right, ast.Dict) else {}
        at = 0
        for place in _PLACES.finditer(text):
            yield Piece(node, place.start() - at)
            at = place.end()
            value = named.get(place[1]) if place[1] else next(values, None)
            yield from self.pieces(value, given, depth) if value is not None else [Piece(node)]
        yield Piece(node, len(text) - at)

    def _joined(self, node: ast.expr, listed: ast.expr, given: Given, depth: int) -> Iterator[Piece]:
        """The parts of a list that is joined: written out, or put together by `append`."""
        written = self.facts.written(listed)
        if not isinstance(written, ast.List | ast.Tuple):
            yield self._leaf(node)
            return
        items = list(written.elts)
        if isinstance(listed, ast.Name) and (found := self.facts.module.scope_at(listed).lookup(listed.id)):
            items += [b.value for b in found[0].names.get(f"{listed.id}[]", ()) if b.kind == "append" and b.value]
        for item in items:
            yield from self.pieces(item, given, depth)


def _length(facts: Facts, node: ast.expr, depth: int = 0) -> int:
    """The characters of a text that is made once, as far as they can be counted; of a file that is read, `_FILE`."""
    text = facts.constant(node)
    if isinstance(text, str):
        return len(text)
    if depth > _DEPTH:
        return 0
    match node:
        case ast.Name() | ast.Attribute():
            written = facts.written(node)
            if written is not node:
                return _length(facts, written, depth + 1)
            found = facts.elsewhere(facts.names.path(node))
            return _length(found[0], found[1], depth + 1) if found and isinstance(found[1], ast.expr) else 0
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            times = facts.constant(right)
            return _length(facts, left, depth + 1) * (times if isinstance(times, int) else 1)
        case ast.BinOp(left=left, right=right):
            return _length(facts, left, depth + 1) + _length(facts, right, depth + 1)
        case ast.JoinedStr(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            return sum(_length(facts, part, depth + 1) for part in parts)
        case ast.FormattedValue(value=value) | ast.Call(func=ast.Attribute(value=value), args=[]):
            read = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _READS
            return _FILE if read else _length(facts, value, depth + 1)
        case ast.Call(func=func, args=[first, *_]):
            return _FILE if (spelling(func) or "").rpartition(".")[2] in _READS else _length(facts, first, depth + 1)
    return 0


def _is_text(piece: Piece) -> bool:
    return isinstance(piece.node, ast.JoinedStr | ast.BinOp)
