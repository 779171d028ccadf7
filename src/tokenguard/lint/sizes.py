"""How many items a list has: surely few, surely as many as the data, or nobody knows."""

from __future__ import annotations

import ast
import re

from tokenguard.facts.patterns import lazy
from tokenguard.lint.loops import goes_over
from tokenguard.lint.pools import as_many_as_items
from tokenguard.lint.reach import given
from tokenguard.lint.rulebook import File
from tokenguard.lint.sending import sends
from tokenguard.lint.syntax import Binding, Function, Scope, defaults_of, last_name, spelling, walk

_DEPTH = 20  # names of names
_CALLERS = 5  # callers of callers
_WRITTEN = 20  # items of a list that is written out, from which on they are many, whatever a rule's option says
_PLAN = lazy(
    r"(?:^|_)(?:sub_?)?(?:tasks|plans?|steps|queries|subquestions|perspectives|roles|layers|targets|datasets"
    r"|states|thoughts|candidates|hypotheses|branches|ideas|hits|matches|sections|topics|recommendations|suggestions)$"
    r"|^(?:retrieved|relevant|search|top)_",
    re.IGNORECASE,
)
# What a text is cut into, and what a table or a file has many of, wherever it is held.
_PIECES = lazy(
    r"(?:^|_)(?:chunks|splits|segments|paragraphs|sentences|passages|pages|rows|records|lines|transcripts|articles|essays)$",
    re.IGNORECASE,
)
_SECTIONS = lazy(r"(?:^|_)sections$")
_READS = lazy(r"(?:^|_)(?:annotate|classify|extract|label|parse|tag|translate|vectori[sz]e)(?:_|$)")
_FINDS = lazy(r"(?:^|_)(?:search|retrieve|relevant_documents)(?:_|$)")  # what is found is as few as was asked for
# What is read for one question was retrieved: few pieces.
_QUESTION = lazy(r"(?:^|_)(?:question|query)$")
_RETRIEVED = lazy(r"(?:^|_)(?:doc|context|passage|chunk|result|source|snippet|node|evidence|url|link)s?(?:_|$)")
_QUESTIONS = lazy(
    r"(?:^|_)(?:prompts|questions|queries|fields|attributes|entities|keywords|key_?phrases|terms|concepts)$"
)
_TEXT = lazy(r"(?:^|_)(?:text|document|content|article|page|transcript|paper|topic)$")
_ANSWER = lazy(r"\bchoices\b|\.(?:content|output_text|completion)\b|\['content'\]")
_TABLE = lazy(r"(?:^|_)(?:df|data_?frame)(?:_|$)", re.IGNORECASE)
_ROUTE = lazy(r"(?:^|\.)(?:get|post|put|patch|delete|route|websocket|api_route|endpoint)$")

_BATCHED = lazy(r"batch|chunk|group|slice|window|islice|range\([^()]*,[^()]*,", re.IGNORECASE)
_BATCH = lazy(r"(?:^|_)batch$|^batch_\w+s$")
# What is few, however it came to be: a list of those who are asked, or of the sides from which one text is looked at.
_TEAM = lazy(
    r"(?:^|[._])(?:agents?|modes|(?:[a-z]+_)?dbs|databases|collections|indexes|knowledge_bases|models|llms|clients|metrics|judges|providers|personas|retrievers|variants|chains|types|aspects"
    r"|categories|criteria|filters|dimensions|perspectives|strategies|styles|languages|searches|experts|researchers|reviewers"
    r"|evaluators|\w*(?:model|agent|llm|provider|metric|client|persona|role)_(?:list|keys|names|ids|configs)"
    r"|(?:sub|search|expanded|rewritten|refined|generated)_?(?:queries|questions))$",
    re.IGNORECASE,
)
_ONE_OF_A_TEAM = lazy(
    r"(?:^|_)(?:role|agent|model|llm|persona|provider|judge|language|criteria|criterion|dimension|aspect|metric|mode|db)"
    r"(?:_(?:name|id|key))?$"
)
_PLANNED = lazy(r"(?:^|_)(?:sub_?(?:tasks|questions|queries)|plans?|steps)$")  # whatever they are read from
_OUTLINE = lazy(r"(?:^|_)(?:outline|plan|storyboard|script)$")
_WORKERS = lazy(r"(?:^|_)(?:threads|workers|jobs|cores|cpus|processes|parallel(?:ism)?)$")
# What makes as many parts of a list as it is told.
_PARTS = frozenset({"array_split", "distribute", "divide", "random_split"})
_SOME = lazy(r"islice|sample|nlargest|^head$")
_SAME = frozenset({"enumerate", "zip", "list", "tuple", "sorted", "reversed", "set", "tqdm", "iter", "filter"})


def few(file: File, source: ast.expr, most: int) -> bool:
    """Whether there are surely at most `most` items, or one batch of them."""
    known: dict[tuple[ast.expr, int], bool] = file.memory.setdefault("few", {})
    if (source, most) not in known:
        known[source, most] = False  # a circle adds nothing
        known[source, most] = _few(file, source, most)
    return known[source, most]


def _few(file: File, source: ast.expr, most: int) -> bool:
    listed = file.written(source)
    if isinstance(listed, ast.Name | ast.Attribute) and (found := file.elsewhere(file.names.path(listed))):
        listed = found[1] if isinstance(found[1], ast.expr) else listed
    named = file.module.scope_at(source).lookup(source.id) if isinstance(source, ast.Name) else None
    if isinstance(source, ast.Name) and named and (grown := _grown(file, source.id, *named)):
        return _kept_short(file, source, most) or all(
            sources and any(few(file, each, most) for each in sources) for sources in grown
        )
    if _TEAM.search(ast.unparse(source)) or _of_a_team(file, source) or _tested_short(file, source, most):
        return True  # written out somewhere, and short
    if isinstance(source, ast.Name) and _of_batch(file, source):
        return True
    match listed:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) | ast.Dict(values=items):
            return len(items) <= most
        case ast.Call(func=ast.Name(id="range"), args=args):
            if len(args) == 3:
                return _steps_over(file, args, most)
            if any(as_many_as_items(file, arg) for arg in args):
                return False
            start, stop = [0, *map(file.constant, args)][-2:]
            count = stop - start if isinstance(stop, int) and isinstance(start, int) else 0
            return count <= most
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[_, *_] as args) if name in _SAME:
            return any(few(file, arg, most) for arg in args)
        case ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values")):
            return few(file, value, most)
        case ast.Call(func=ast.Attribute(value=ast.Name() | ast.Subscript() as value), args=[]) if _of_batch(
            file, value
        ):
            return True  # batch["text"].tolist()
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _PARTS:
            return True
        case ast.Call():
            return _cut_to_size(file, listed) or any(_WORKERS.search(last_name(arg)) for arg in listed.args[1:])
        case ast.Subscript(slice=ast.Slice(upper=ast.expr())):
            return True
        case ast.Subscript(slice=ast.Constant(value=str())):
            return _of_batch(file, listed)
        case ast.Starred(value=value):
            return few(file, value, most)
        case ast.IfExp(body=body, orelse=orelse):  # a sample, or all where there are fewer
            return few(file, body, most) or few(file, orelse, most)
        case (
            ast.ListComp(generators=generators)
            | ast.GeneratorExp(generators=generators)
            | ast.SetComp(generators=generators)
            | ast.DictComp(generators=generators)
        ):
            return all(few(file, generator.iter, most) for generator in generators)
        case ast.Name(id=name):
            found_name = file.module.scope_at(listed).lookup(name)
            bindings = found_name[1] if found_name else []
            return any(_is_batch(file, name, b) or _one_for_each_agent(b) for b in bindings) or _given_few(
                file, listed, most
            )
    return False


def _cut_to_size(file: File, made: ast.expr) -> bool:
    """Whether what a chain of calls begins with is cut to a size: `rows.head(n)["text"].fillna("").tolist()`."""
    while isinstance(made, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(made, ast.Call) and _SOME.search(last_name(made.func)):
            return True
        inner = made.func if isinstance(made, ast.Call) else made.value
        if isinstance(inner, ast.Name) and isinstance(made, ast.Attribute | ast.Subscript):
            table = file.written(inner)
            return table is not inner and isinstance(table, ast.Call) and _cut_to_size(file, table)
        made = inner
    return False


def _steps_over(file: File, args: list[ast.expr], most: int) -> bool:
    """Whether `range(0, len(text), 4_000)` takes few steps: `text = text[:20_000]` has cut it down before."""
    step = file.constant(args[2])
    match args[1]:
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name) as text]) if isinstance(step, int) and step > 0:
            found = file.module.scope_at(text).lookup(name)
            cuts = [b.value.slice.upper for b in (found[1] if found else ()) if _cut(b.value)]  # type: ignore[union-attr]
            sizes = [size for size in map(file.constant, cuts) if isinstance(size, int)]
            return bool(sizes) and -(-max(sizes) // step) <= most
    return False


def _cut(value: ast.expr | None) -> bool:
    return (
        isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice) and not (value.slice.lower)
        and value.slice.upper is not None
    )  # fmt: skip


def _of_batch(file: File, node: ast.expr) -> bool:
    """Whether `batch` or `batch["text"]` is a part of the items."""
    held = node.value if isinstance(node, ast.Subscript) else node
    found = file.module.scope_at(held).lookup(held.id) if isinstance(held, ast.Name) else None
    return found is not None and any(_is_batch(file, held.id, b) for b in found[1])  # type: ignore[attr-defined]


def _given_few(file: File, name: ast.Name, most: int) -> bool:
    """Whether a parameter is few items, or one batch of them, in every call of its function in this file."""
    found = file.module.scope_at(name).lookup(name.id)
    if found is None or found[1][0].kind != "param" or not isinstance(found[0].node, Function):
        return False
    known = [v for v in _callers_give(file, found[0].node, name.id) if file.module.scope_at(v) is not found[0]]
    return bool(known) and all(few(file, value, most) for value in known)


def _callers_give(file: File, function: Function, name: str) -> list[ast.expr]:
    """What the calls of a function give for a parameter, but for a few items that are written out to try it."""
    return [value for value in given(file, function, name) if not _is_try(file, value)]


def _is_try(file: File, value: ast.expr) -> bool:
    """Whether a value is a list that is written out where a file is run by itself, to try a function of it."""
    if not isinstance(file.written(value), ast.List | ast.Tuple) or file.module.function_of(value) is not None:
        return False
    return any(isinstance(a, ast.If) and "__main__" in ast.unparse(a.test) for a in file.module.ancestors(value))


def _is_batch(file: File, name: str, binding: Binding) -> bool:
    """Whether a name stands for a part of the items: set by a loop over batches, a slice, a parameter `batch`."""
    if binding.kind == "loop" and binding.value is not None and _BATCHED.search(ast.unparse(binding.value)):
        return True
    if binding.kind == "assign":
        if _is_optional_cut(file, name, binding):
            return False
        parts = binding.value.elts if isinstance(binding.value, ast.Tuple) else [binding.value]
        if all(isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Slice) for part in parts):
            return True
    return binding.kind in ("assign", "loop", "param") and bool(_BATCH.search(name))


def _is_optional_cut(file: File, name: str, binding: Binding) -> bool:
    """Whether a list is cut only where somebody wants it: `if limit: rows = rows[:limit]`; not if it is too long."""
    match binding.value:
        case ast.Subscript(value=ast.Name(id=cut), slice=ast.Slice(lower=None)) if cut == name:
            around = file.module.parents.get(binding.node)
            return isinstance(around, ast.If) and f"len({name})" not in ast.unparse(around.test)
    return False


def _one_for_each_agent(binding: Binding) -> bool:
    """Whether a parameter is a list of agents, or of what each has said: `responses: list[AgentResponse]`."""
    note = getattr(binding.node, "annotation", None) if binding.kind == "param" else None
    return note is not None and "Agent" in ast.unparse(note)


def _kept_short(file: File, name: ast.Name, most: int) -> bool:
    """Whether a list gets its items under a test of its length: `if len(kept) < 3`, `if len(kept) == 3: break`."""
    place = file.module.function_of(name) or file.module.tree
    length = f"len({name.id})"
    for node in walk(place):
        if isinstance(node, ast.If | ast.While):
            for test in walk(node.test):
                if isinstance(test, ast.Compare) and ast.unparse(test.left) == length:
                    number = file.constant(test.comparators[0])
                    if isinstance(number, int) and 0 < number <= most:
                        return True
    return False


def _of_a_team(file: File, source: ast.expr) -> bool:
    """Whether the loop over a list calls its items roles, models, or the like: `for role, text in prompts.items()`."""
    loop = file.module.parents.get(source)
    if not isinstance(loop, ast.comprehension | ast.For | ast.AsyncFor) or loop.iter is not source:
        return False
    names = [node.id for node in walk(loop.target) if isinstance(node, ast.Name)]
    of_tasks = names[:1] == ["task"] and isinstance(source, ast.Call) and last_name(source.func) == "items"
    return of_tasks or any(map(_ONE_OF_A_TEAM.search, names))


def _tested_short(file: File, source: ast.expr, most: int) -> bool:
    """Whether this place is reached only where the list is short: `if len(texts) <= 3:`."""
    length = f"len({ast.unparse(source)})"
    inner: ast.AST = source
    for outer in file.module.ancestors(source):
        if isinstance(outer, ast.If) and inner in outer.body and isinstance(outer.test, ast.Compare):
            number = file.constant(outer.test.comparators[0])
            upper = isinstance(outer.test.ops[0], ast.Lt | ast.LtE | ast.Eq)
            if upper and ast.unparse(outer.test.left) == length and isinstance(number, int) and number <= most:
                return True
        inner = outer
    return False


def _grown(file: File, name: str, scope: Scope, bindings: list[Binding]) -> list[tuple[ast.expr, ...]]:
    """What the loops go over that give a list or dict more items after it was written out.

    By `.append(x)` and `found[key] = x`, in no loop, too; by `found += [x]` in loops only.
    """
    made = [binding.node for binding in bindings if binding.kind != "augment"]
    added = (goes_over(file, binding.node, made) for binding in bindings if binding.kind == "augment")
    parts = (part for part in scope.names.get(f"{name}[]", ()) if not _in_place(part))
    return [*(goes_over(file, part.node, made) for part in parts), *filter(None, added)]


def about_one_text(task: ast.expr, sources: tuple[ast.expr, ...]) -> bool:
    """Whether a task is one of several questions about the same text or topic: `ask(p, text) for p in prompts`."""
    given = (*task.args, *(k.value for k in task.keywords)) if isinstance(task, ast.Call) else ()
    return any(_QUESTIONS.search(last_name(s)) for s in sources) and any(_TEXT.search(last_name(a)) for a in given)


def reads_pieces(file: File, task: ast.expr, sources: tuple[ast.expr, ...]) -> bool:
    """Whether a task reads each section that a caller has: `extract(s) for s in sections`; nobody plans these."""
    name = last_name(task.func if isinstance(task, ast.Call) else task)
    return bool(_READS.search(name)) and any(
        isinstance(source, ast.Name) and _SECTIONS.search(source.id) and _is_given(file, source) for source in sources
    )


def _is_given(file: File, name: ast.Name) -> bool:
    """Whether a name is a parameter of which no call in this file is known."""
    found = file.module.scope_at(name).lookup(name.id)
    if found is None or found[1][0].kind != "param" or not isinstance(found[0].node, Function):
        return False
    return not given(file, found[0].node, name.id)


def many(file: File, source: ast.expr, depth: int = 0) -> bool:
    """Whether a list has as many items as the data has: not what an object holds, or what a model has made up.

    A plan's steps and a question's search terms are few, whatever they are called; nobody writes down how few.
    """
    known: dict[ast.expr, bool] = file.memory.setdefault("many", {})
    if source not in known:
        known[source] = False  # a circle adds nothing
        known[source] = depth <= _DEPTH and _many(file, source, depth)
    return known[source]


def _many(file: File, source: ast.expr, depth: int) -> bool:
    match source:
        case ast.Name():
            return _named_many(file, source, depth)
        case ast.Await(value=value) | ast.Starred(value=value) | ast.Subscript(value=value, slice=ast.Slice()):
            return many(file, value, depth + 1)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Call(func=ast.Name(id="len"), args=[counted])]):
            return many(file, counted, depth + 1)
        case ast.Call(func=ast.Name(id="range"), args=args):
            return any(as_many_as_items(file, arg) for arg in args)
        case ast.Call(func=ast.Name(id="zip"), args=args):
            return all(many(file, arg, depth + 1) for arg in args)
        case ast.Call(func=ast.Name(id="filter" | "map"), args=[_, arg, *_]):
            return many(file, arg, depth + 1)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[arg, *_]) if name in _SAME:
            return many(file, arg, depth + 1)
        case ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values" | "copy")):
            return many(file, value, depth + 1)
        case ast.Call(func=ast.Attribute(value=value, attr="get")):
            return _held_many(file, value)
        case ast.Call(func=ast.Attribute(attr="gather"), args=[ast.Starred(value=value), *_]):
            return many(file, value, depth + 1)  # one answer for each
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="split" | "splitlines" as way)):
            return _pieces_of(file, text, way, source.args) > _WRITTEN
        case ast.Call(func=ast.Attribute(value=text, attr="split" | "splitlines")) if _is_answer(file, text):
            return False  # what a model has written down
        case ast.Call():
            return not (_FINDS.search(last_name(source.func)) or _for_one_question(source) or sends(file, source))
        case ast.Attribute(attr=attr) if (spelled := spelling(source) or "").startswith("self."):
            owner = file.module.class_of(source)
            given_once = file.module.attributes(owner).get(spelled[5:], []) if owner is not None else []
            given_by = given_once[0].value if len(given_once) == 1 else None  # self.documents = documents
            if isinstance(given_by, ast.Call):  # self.rows = read(path)
                return bool(_PIECES.search(attr)) or _held_many(file, given_by)
            return bool(_PIECES.search(attr)) or (isinstance(given_by, ast.Name) and many(file, given_by, depth + 1))
        case ast.Attribute(value=value, attr=name) | ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
            if _OUTLINE.search(last_name(value)):
                return False  # outline.segments: a model has planned them
            return bool(_PIECES.search(name)) or _held_many(file, value)
        case ast.Subscript(value=value):
            return _held_many(file, value)
        case (
            ast.ListComp(generators=generators)
            | ast.GeneratorExp(generators=generators)
            | ast.SetComp(generators=generators)
            | ast.DictComp(generators=generators)
        ):
            return all(many(file, generator.iter, depth + 1) for generator in generators)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) | ast.Dict(values=items):
            return len(items) > _WRITTEN
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(body=first):
            return many(file, first, depth + 1)
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            return as_many_as_items(file, left) or as_many_as_items(file, right)
        case ast.BinOp(left=left, right=right):
            return many(file, left, depth + 1) or many(file, right, depth + 1)
    return False


def _pieces_of(file: File, text: str, way: str, args: list[ast.expr]) -> int:
    """How many pieces a text has that is written out and split."""
    if way == "splitlines":
        return len(text.splitlines())
    separator = file.constant(args[0]) if args else None
    return len(text.split(separator if isinstance(separator, str) and separator else None))


def _for_one_question(call: ast.Call) -> bool:
    """Whether a call makes its items for one question that it is given: `prompts_for(user_query, examples)`."""
    given = (*call.args, *(keyword.value for keyword in call.keywords))
    return any(isinstance(value, ast.Name) and _QUESTION.search(value.id) for value in given)


def _named_many(file: File, name: ast.Name, depth: int) -> bool:
    found = file.module.scope_at(name).lookup(name.id)
    if found is None:
        return False
    scope, bindings = found
    if _PLANNED.search(name.id):
        return False
    items = [part for part in scope.names.get(f"{name.id}[]", ()) if part.kind == "item" and not _in_place(part)]
    if items and not any(_is_room(binding.value) for binding in bindings):
        return False  # groups
    if grown := _grown(file, name.id, scope, bindings):
        return any(many(file, source, depth + 1) for sources in grown for source in sources)
    if bindings[0].kind == "param":
        if not isinstance(scope.node, Function) or _is_set(bindings[0]):
            return False
        known = _callers_give(file, scope.node, name.id)
        if _RETRIEVED.search(name.id) and any(_QUESTION.search(arg.arg) for arg, _ in defaults_of(scope.node.args)):
            return False
        if not known or _PIECES.search(name.id):
            return not _PLAN.search(name.id)
        return any(many(file, value, depth + 1) for value in known)
    if bindings[0].kind == "loop" and len(bindings) == 1 and bindings[0].value is not None:
        return _of_groups(file, bindings[0].value, depth)
    values = [b.value for b in bindings if b.kind in ("assign", "with", "opaque") and b.value is not None]
    values = [v for v in values if not _mentions(v, name.id)]  # texts = [t for t in texts if t]
    if (
        values
        and _PIECES.search(name.id)
        and all(
            isinstance(b.value, ast.Subscript | ast.Attribute) or b.kind == "opaque"
            for b in bindings
            if b.value in values
        )
    ):
        return True
    values = [b.value for b in bindings if b.kind != "opaque" and b.value in values]
    made = [v for v in values if not isinstance(v, ast.List) or not v.elts]  # a few that are written out are for a try
    return bool(values) and all(many(file, value, depth + 1) for value in made or values)


def _is_room(value: ast.expr | None) -> bool:
    """Whether a value is a list with room for all, `[None] * len(texts)`: what is set in it is no group."""
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) and isinstance(value.left, ast.List)


def _of_groups(file: File, looped: ast.expr, depth: int) -> bool:
    """Whether a loop goes over groups that have all items between them: `for day, texts in by_day.items()`."""
    match looped:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name) as groups, attr="items" | "values"), args=[]):
            found = file.module.scope_at(groups).lookup(name)
            parts = found[0].names.get(f"{name}[]", []) if found else []
            made = [binding.node for binding in found[1]] if found else []
            sources = (source for part in parts for source in goes_over(file, part.node, made))
            return any(many(file, source, depth + 1) for source in sources)
    return False


def _in_place(part: Binding) -> bool:
    """Whether a list's item is put back changed: `images[i] = read(images[i])`."""
    if part.kind != "item" or part.value is None:
        return False
    old = ast.unparse(part.node)
    return any(isinstance(n, ast.Subscript) and ast.unparse(n) == old for n in walk(part.value))


def _is_set(parameter: Binding) -> bool:
    """Whether a parameter is noted to be a set: of names, that is, not of texts."""
    note = getattr(parameter.node, "annotation", None)
    return note is not None and ast.unparse(note).startswith(("set[", "Set[", "frozenset[", "FrozenSet["))


def _held_many(file: File, holder: ast.expr, depth: int = 0) -> bool:
    """Whether what is in an object is data: the body of a web request, or what a file or a table was read into.

    Of a parameter, what the calls of its function in this file give.
    """
    while isinstance(holder, ast.Subscript | ast.Attribute):
        holder = holder.value
    written = file.written(holder)
    if isinstance(written, ast.Await):
        written = written.value
    if isinstance(written, ast.Call):
        read = (last_name(c.func) for c in (written, *written.args[:1]) if isinstance(c, ast.Call))
        return any(name.startswith(("load", "read", "fetch")) for name in read) and not sends(file, written)
    found = file.module.scope_at(holder).lookup(holder.id) if isinstance(holder, ast.Name) else None
    if found and _is_table(holder, found[1][0]):
        return True
    function = found[0].node if found and found[1][0].kind == "param" else None
    if not isinstance(function, Function):
        return False
    decorators = (d for d in function.decorator_list if isinstance(d, ast.Call))
    known = given(file, function, holder.id) if isinstance(holder, ast.Name) and depth < _CALLERS else []
    return any(_ROUTE.search(ast.unparse(d.func)) for d in decorators) or (
        bool(known) and all(_held_many(file, value, depth + 1) for value in known)
    )


def _is_table(name: ast.expr, binding: Binding) -> bool:
    """Whether a name stands for a table, by what it is called or noted to be: `df`, `data: pd.DataFrame`."""
    note = getattr(binding.node, "annotation", None) if binding.kind == "param" else None
    return bool(_TABLE.search(last_name(name))) or (note is not None and "DataFrame" in ast.unparse(note))


def _mentions(value: ast.expr, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in walk(value))


def _is_answer(file: File, text: ast.expr) -> bool:
    """Whether a text is what a model has answered: of a name, what it was set to."""
    found = file.module.scope_at(text).lookup(text.id) if isinstance(text, ast.Name) else None
    values = [b.value for b in found[1] if b.kind == "assign" and b.value is not None] if found else [text]
    return any(_ANSWER.search(ast.unparse(value)) or sends(file, value) for value in values)
