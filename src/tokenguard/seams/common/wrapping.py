"""Having an SDK's function run something of ours: so that no other wrapper goes round it, and it can be taken back.

An instrumentation that came first has its wrapper on a subclass of the client, or on one client, and calls down to the
function object that it found. So that object stays where it is and gets another body: whoever holds it, and whenever
they got it, comes through here.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

Make = Callable[[Any], Any]
"""From what the SDK does to what is done instead."""

RUN = "_tokenguard_run"
"""The keyword whose default is what a swapped function runs."""
DECORATORS = ("contextlib",)
"""Modules whose decorators SDKs use on what is wrapped: what they made is the SDK's own."""
MAX_LAYERS = 64
"""Objects that are looked at for the SDK's own function, at the most."""


class Swap:
    """A function that keeps its identity, and runs another body until it is taken back."""

    __slots__ = ("_before", "_body", "_run", "function")

    def __init__(self, function: types.FunctionType, own: types.FunctionType, made: Any) -> None:
        self.function = function
        self._before = (function.__code__, function.__kwdefaults__, function.__dict__.get("__wrapped__"))
        self._run = [made, own]
        self._body = _body(function.__code__)
        # The old code runs with these as well: another thread may be calling meanwhile.
        function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), RUN: self._run}
        function.__dict__["__wrapped__"] = own  # its signature and its source
        function.__code__ = self._body

    def in_place(self) -> bool:
        """Whether the function runs what we gave it, itself or within what we have put around that since.

        A tool that rewrites code may have it somewhere inside.
        """
        run = (self.function.__kwdefaults__ or {}).get(RUN)
        while run is not None and run is not self._run:
            run = (run[-1].__kwdefaults__ or {}).get(RUN)
        return run is self._run and len(self._run) == 2

    def undo(self) -> None:
        """Have the function do what it did. Where somebody has given it another body since, that one stays."""
        code, defaults, wrapped = self._before
        self._run[:] = self._run[1:]
        if self.function.__code__ is not self._body:
            return
        self.function.__code__ = code
        self.function.__kwdefaults__ = defaults
        if wrapped is None:
            del self.function.__dict__["__wrapped__"]
        else:
            self.function.__dict__["__wrapped__"] = wrapped


class Put:
    """A value that stands in an owner's attribute in the place of another, until it is taken back."""

    __slots__ = ("_before", "_name", "_owner", "_value")

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self._owner, self._name, self._value = owner, name, value
        self._before = vars(owner).get(name, self)
        setattr(owner, name, value)

    def in_place(self) -> bool:
        """Whether it stands there, itself or within what wraps it."""
        found = vars(self._owner).get(self._name)
        while found is not self._value and (inner := getattr(found, "__wrapped__", None)) is not None:
            found = inner
        return found is self._value

    def undo(self) -> None:
        """Put back what was there."""
        if self._before is not self:
            setattr(self._owner, self._name, self._before)
        elif self._name in vars(self._owner):
            delattr(self._owner, self._name)


class Restore:
    """What a seam has put into an SDK, and what it looked for there in vain."""

    def __init__(self) -> None:
        self.placed: list[Swap | Put] = []
        self.missing: list[str] = []
        """What the SDK does not have, or has in another shape; without it calls are not seen."""
        self.hidden: list[str] = []
        """What others have wrapped, where the SDK's own function was not found within: who holds that goes round us."""

    def undo(self) -> None:
        """Take it all back, the last first."""
        for each in reversed(self.placed):
            each.undo()
        self.placed.clear()

    def problems(self) -> list[str]:
        """Why calls may not be seen; empty when all is in place."""
        said = [f"{path} is not there, or takes other arguments" for path in self.missing]
        said += [f"{path}, and the SDK's own function was not found below it" for path in self.hidden]
        if not all(each.in_place() for each in self.placed):
            said.append("what TokenGuard put there has been replaced")
        return said


def replace(restore: Restore, owner: Any, path: str, make: Make, *, optional: bool = False) -> None:
    """Have `owner.path` run `make(original)`, and note that in `restore`.

    `path` may lead through other attributes (`Client.send`). A version of the SDK that lacks it, or has it with other
    arguments, is left alone: that is noted as missing, unless it is `optional`.
    """
    *way, name = path.split(".")
    homes = {_home_of(owner)}
    for step in way:
        owner = getattr(owner, step, None)
    found = getattr(owner, name, None)
    if found is None:
        if not optional:
            restore.missing.append(path)
        return
    # A class's function that it has from another is others' too; a module may fetch its own from elsewhere when asked.
    inherited = isinstance(owner, type) and name not in vars(owner)
    own = found if inherited else _own(found, homes | {_home_of(owner)}, name)
    if type(own) is not types.FunctionType or inherited or not _can_swap(own):
        if own is None:
            restore.hidden.append(f"{path} is wrapped by {_home(found) or type(found).__name__}")
        restore.placed.append(Put(owner, name, functools.wraps(found)(make(found))))
        return
    twin = _twin(own)
    made = make(twin)
    if _fits(made, own):
        restore.placed.append(Swap(own, twin, made))
    elif not optional:
        restore.missing.append(path)


def _own(found: Any, homes: set[str], name: str) -> Any:
    """The SDK's own function, within whatever others have put around it; `None` where it is not found.

    `homes` are the packages whose own it is: the module's that was looked into, and the one that its class names, which
    is another where an SDK carries a copy of another one.
    """
    waiting, seen = [found], 0
    while waiting and seen < MAX_LAYERS:
        layer = waiting.pop(0)
        seen += 1
        if type(layer) is types.FunctionType and layer.__name__ == name:
            made_by = str(layer.__globals__.get("__name__"))
            if _top(made_by) in homes or (made_by in DECORATORS and _top(layer.__module__) in homes):
                return layer
        waiting += _below(layer)
    return None


def _below(layer: Any) -> Iterator[Any]:
    """What a wrapper may call."""
    for name in ("__wrapped__", "__func__", "func"):
        if callable(inner := getattr(layer, name, None)):
            yield inner
    if type(layer) is types.FunctionType:
        for cell in layer.__closure__ or ():
            try:
                inner = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if callable(inner):
                yield inner


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _home_of(owner: Any) -> str:
    """The package of a module or a class."""
    return _top(owner.__name__ if isinstance(owner, types.ModuleType) else getattr(owner, "__module__", None))


def _home(found: Any) -> str:
    """The package whose code a wrapper is."""
    made_by = getattr(found, "__globals__", {}).get("__name__") if type(found) is types.FunctionType else None
    return _top(made_by or type(found).__module__)


# --- one body for another ---------------------------------------------------------------------------------------------


def _can_swap(function: types.FunctionType) -> bool:
    return all(name.isidentifier() for name in function.__code__.co_freevars)


def _fits(made: Any, original: types.FunctionType) -> bool:
    """Whether what is to run instead takes what the SDK's function takes: the same leading names, or anything."""
    ours, theirs = made.__code__, original.__code__
    anything = bool(theirs.co_flags & inspect.CO_VARARGS)  # a decorator's wrapper: what is below is not told
    leading = ours.co_varnames[: ours.co_argcount]
    known = theirs.co_varnames[: theirs.co_argcount]
    if ours.co_flags & inspect.CO_VARARGS:
        return anything or known[: len(leading)] == leading
    return anything or known == leading


def _twin(function: types.FunctionType) -> types.FunctionType:
    """A function that does what this one does now."""
    twin = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(twin, function)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.clear()
    twin.__dict__.update(function.__dict__)
    return twin


def _body(code: types.CodeType) -> types.CodeType:
    """Code in the place of `code` that runs what the function's `RUN` says.

    A coroutine function stays one. A generator function is still called one, by its flags, but what it returns is made
    by what it runs: from 3.13 on, Python warns of code of another kind, and only the flags tell the kind.
    """
    new = _running(code.co_freevars, bool(code.co_flags & inspect.CO_COROUTINE))
    kind = code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
    return new.replace(co_name=code.co_name, co_qualname=code.co_qualname, co_flags=new.co_flags | kind)


@functools.cache
def _running(names: tuple[str, ...], waits: bool) -> types.CodeType:
    """The code of a function that has these free variables, and runs what its `RUN` says."""
    free = ", ".join(names)
    source = (
        f"def make({free}):\n"
        f" {'async ' * waits}def body(*args, {RUN}, **kwargs):\n"
        f"  return {'await ' * waits}{RUN}[0](*args, **kwargs)\n"
        f"  {free}\n"  # never reached: a function's code must have as many free variables as its closure
        " return body\n"
    )
    made: dict[str, Any] = {}
    exec(compile(source, "<tokenguard>", "exec"), made)  # noqa: S102 - the names are identifiers of the SDK's code
    code: types.CodeType = made["make"](*names).__code__
    return code


class Meanwhile:
    """Sets a context variable to true while a block runs; no generator, which an interrupt would leave suspended."""

    __slots__ = ("_token", "_variable")

    def __init__(self, variable: ContextVar[bool]) -> None:
        self._variable = variable

    def __enter__(self) -> None:
        self._token = self._variable.set(True)

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)
