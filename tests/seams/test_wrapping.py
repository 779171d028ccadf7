"""An SDK's function keeps its identity and runs something of ours, until that is undone."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
import sys
import types

import pytest

from tokenguard.seams.common.wrapping import Put, Restore, Swap, replace

SOURCE = '''
import contextlib, functools

class Base:
    def hello(self):
        return "hello"

class Client(Base):
    def send(self, request, *, retries: int = 2):
        """Send it."""
        return (request, retries)

    async def asend(self, request, retries=2):
        return (request, retries)

    def hello(self):
        return super().hello() + " you"

    @contextlib.contextmanager
    def stream(self, request):
        yield request

    def each(self, request):
        yield request

    async def aeach(self, request):
        yield request

    @staticmethod
    def fixed(request):
        return request

def retry_args(options):
    return {"options": options}

def loud(original):
    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        return original(*args, **kwargs)
    return wrapper

class Decorated:
    @loud
    def send(self, request):
        return request
'''


@pytest.fixture
def sdk():
    """A fresh SDK of one module."""
    module = types.ModuleType("an_sdk")
    sys.modules["an_sdk"] = module
    exec(SOURCE, module.__dict__)
    yield module
    del sys.modules["an_sdk"]


def noting(seen):
    """What to run instead: the same, and a note in `seen`."""

    def make(original):
        def run(*args, **kwargs):
            seen.append(original.__name__)
            return original(*args, **kwargs)

        return run

    return make


@pytest.fixture
def seen():
    return []


@pytest.fixture
def restore(sdk, seen):
    restore = Restore()
    for path in ("send", "asend", "hello", "stream"):
        replace(restore, sdk, f"Client.{path}", noting(seen))
    replace(restore, sdk, "retry_args", noting(seen))
    replace(restore, sdk, "Decorated.send", noting(seen))
    return restore


def test_who_holds_the_function_comes_through(sdk, seen):
    """A wrapper on a subclass, one on a client and an imported name were there first: all run what is ours."""
    kept = sdk.Client.send

    class Sub(sdk.Client):
        def send(self, *args, **kwargs):
            return ("wrapped", kept(self, *args, **kwargs))

    client = sdk.Client()
    client.send = functools.partial(sdk.Client.send, client)
    imported = sdk.retry_args
    restore = Restore()
    replace(restore, sdk, "Client.send", noting(seen))
    replace(restore, sdk, "retry_args", noting(seen))
    assert Sub().send("a", retries=3) == ("wrapped", ("a", 3))
    assert client.send("b") == ("b", 2)
    assert imported(1) == {"options": 1}
    assert seen == ["send", "send", "retry_args"]
    assert sdk.Client.send is kept


def test_everything_still_works(sdk, restore, seen):
    """Coroutines, `super()`, context managers and decorated functions do what they did."""
    assert not restore.missing
    assert not restore.hidden
    assert all(isinstance(each, Swap) for each in restore.placed)
    client = sdk.Client()
    assert client.send("a") == ("a", 2)
    assert asyncio.run(client.asend("b", retries=5)) == ("b", 5)
    assert client.hello() == "hello you"
    with client.stream("c") as got:
        assert got == "c"
    assert sdk.Decorated().send("d") == "d"
    assert seen == ["send", "asend", "hello", "stream", "send"]


def test_looks_as_before(sdk, restore):
    """Signature, name, doc, defaults in keywords, coroutine-ness, pickling and copying are the SDK's own."""
    fresh = types.ModuleType("fresh")
    exec(SOURCE, fresh.__dict__)
    for name in ("send", "asend", "hello", "stream"):
        ours, bare = getattr(sdk.Client, name), getattr(fresh.Client, name)
        assert inspect.signature(ours) == inspect.signature(bare)
        assert (ours.__name__, ours.__qualname__, ours.__doc__) == (bare.__name__, bare.__qualname__, bare.__doc__)
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(bare)
        assert ours.__code__.co_name == bare.__code__.co_name
    assert inspect.iscoroutinefunction(sdk.Client.asend)
    assert pickle.loads(pickle.dumps(sdk.retry_args)) is sdk.retry_args
    assert copy.deepcopy(sdk.Client.send) is sdk.Client.send


def test_undone(sdk, seen):
    """Taken back, each function is what it was: body, defaults, signature, attributes."""
    functions = [sdk.Client.send, sdk.Client.asend, sdk.Client.stream, sdk.Decorated.send]
    before = [(f.__code__, f.__kwdefaults__, dict(f.__dict__)) for f in functions]
    restore = Restore()
    for path in ("Client.send", "Client.asend", "Client.stream", "Decorated.send"):
        replace(restore, sdk, path, noting(seen))
    assert not restore.problems()
    restore.undo()
    assert [(f.__code__, f.__kwdefaults__, dict(f.__dict__)) for f in functions] == before
    assert sdk.Client().send("a") == ("a", 2)
    assert seen == []


def test_undone_below_another_body(sdk, seen):
    """A tool that rewrites functions' code came after us: undone, its body stays, and ours runs no more."""
    restore = Restore()
    replace(restore, sdk, "Client.send", noting(seen))
    function = sdk.Client.send
    inner = types.FunctionType(function.__code__, function.__globals__, "inner", None, function.__closure__)
    inner.__kwdefaults__ = function.__kwdefaults__
    sdk.inner = inner
    function.__code__ = compile_call()
    assert sdk.Client().send("a") == ("rewritten", ("a", 2))
    assert seen == ["send"]
    restore.undo()
    assert sdk.Client().send("a") == ("rewritten", ("a", 2))
    assert seen == ["send"]


def compile_call():
    """The body of a rewritten function that calls `inner` of its module."""

    def body(*args, **kwargs):
        kwargs.pop("_tokenguard_run", None)
        return ("rewritten", inner(*args, **kwargs))  # noqa: F821 - of the module that it is put into

    return body.__code__


def test_twice(sdk, seen):
    """Two seams on one function: each runs once, and either order of taking back leaves the SDK's own."""
    first, second = Restore(), Restore()
    replace(first, sdk, "Client.send", noting(seen))
    replace(second, sdk, "Client.send", noting(seen))
    sdk.Client().send("a")
    assert seen == ["send", "send"]
    first.undo()
    sdk.Client().send("a")
    assert seen == ["send"] * 3
    second.undo()
    sdk.Client().send("a")
    assert seen == ["send"] * 3


@pytest.mark.parametrize("path", ["Client.send", "Decorated.send", "retry_args", "Client.hello"])
@pytest.mark.parametrize("swaps", [True, False])
def test_one_of_ours_around_another(path, swaps, sdk, seen, monkeypatch):
    """What we have put around our own is all in place, until somebody else's stands there."""
    if not swaps:
        monkeypatch.setattr("tokenguard.seams.common.wrapping._can_swap", lambda function: False)
    first, second = Restore(), Restore()
    for restore in (first, first, second):
        replace(restore, sdk, path, noting(seen))
    assert (first.problems(), second.problems()) == ([], [])
    second.undo()
    assert first.problems() == []
    *way, name = path.split(".")
    owner = getattr(sdk, way[0]) if way else sdk
    if not swaps:
        setattr(owner, name, lambda *args: args)
        assert first.problems() == ["what TokenGuard put there has been replaced"]
    first.undo()


def test_frames_of_ours_can_be_looked_into(sdk, restore):
    """A debugger, or an error reporter that keeps locals, may look into every frame of ours."""

    def look(original):
        def run(*args, **kwargs):
            frame = inspect.currentframe()
            while frame is not None:
                dict(frame.f_locals)
                frame = frame.f_back
            return original(*args, **kwargs)

        return run

    replace(restore, sdk, "Client.hello", look)
    assert sdk.Client().hello() == "hello you"


@pytest.mark.parametrize("wraps", [True, False], ids=["with wraps", "without"])
def test_a_neighbour_in_the_very_place(wraps, sdk, seen):
    """Somebody replaced the SDK's function itself: found within, said or only closed over."""
    kept = sdk.Client.send

    def theirs(self, *args, **kwargs):
        return kept(self, *args, **kwargs)

    sdk.Client.send = functools.wraps(kept)(theirs) if wraps else theirs
    restore = Restore()
    replace(restore, sdk, "Client.send", noting(seen))
    assert isinstance(restore.placed[0], Swap)
    assert restore.placed[0].function is kept
    sdk.Client().send("a")
    assert seen == ["send"]
    restore.undo()
    assert sdk.Client.send is not kept


def test_a_neighbour_that_hides_it(sdk, seen):
    """Where the SDK's own function is not found, what stands there is wrapped, and that is said."""
    kept = [sdk.Client.send]
    sdk.Client.send = eval("lambda *args, **kwargs: kept[0](*args, **kwargs)", {"kept": kept, "__name__": "rival"})
    restore = Restore()
    replace(restore, sdk, "Client.send", noting(seen))
    assert restore.problems() == ["Client.send is wrapped by rival, and the SDK's own function was not found below it"]
    sdk.Client().send("a")
    assert seen == ["<lambda>"]


@pytest.mark.parametrize("path", ["Client.gone", "Gone.send", "gone"])
def test_missing(path, sdk):
    """A method that is not there is said, unless it is optional; nothing is changed."""
    restore = Restore()
    replace(restore, sdk, path, noting([]))
    assert restore.problems() == [f"{path} is not there, or takes other arguments"]
    optional = Restore()
    replace(optional, sdk, path, noting([]), optional=True)
    assert not optional.problems()


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ("self, request, *args, **kwargs", True),
        ("self, request, *, retries=2", True),
        ("self, options, *args, **kwargs", False),
        ("self, *args, **kwargs", True),
        ("self", False),
    ],
)
def test_changed_arguments(arguments, fits, sdk):
    """A method that takes other arguments than the seam knows is left alone, and said: a call must not break on us."""
    given = ", ".join(name for name in ("request",) if name in arguments)
    run = {}
    exec(f"def run({arguments}): return ('ours', {given})", run)
    restore = Restore()
    replace(restore, sdk, "Client.send", lambda original: run["run"])
    assert bool(restore.missing) is not fits
    if not fits:
        assert sdk.Client().send("a") == ("a", 2)


def test_a_generator_function_stays_one(sdk, restore):
    """It is the same function, and of the same kind by its flags: Python 3.13 warns of code of another kind."""
    kinds = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
    for name in ("each", "aeach"):
        found = vars(sdk.Client)[name]
        kind = found.__code__.co_flags & kinds
        replace(restore, sdk.Client, name, lambda original: lambda *args: original(*args))
        assert vars(sdk.Client)[name] is found
        assert found.__code__.co_flags & kinds == kind != 0
    assert not restore.missing
    assert list(sdk.Client().each("hi")) == ["hi"]
    restore.undo()
    assert list(sdk.Client().each("hi")) == ["hi"]


def test_inherited_is_not_everybodys(sdk, seen):
    """Of a method that a class inherits, its base's other children are left alone."""

    class Watched(sdk.Client):
        pass

    restore = Restore()
    replace(restore, Watched, "send", noting(seen))
    sdk.Client().send("a")
    assert seen == []
    Watched().send("a")
    assert seen == ["send"]
    restore.undo()
    assert "send" not in vars(Watched)


def test_put_and_taken_back(sdk):
    """A value in an attribute's place goes as it came, also where there was none."""
    put = Put(sdk, "fresh", 1)
    assert put.in_place()
    sdk.fresh = 2
    assert not put.in_place()
    put.undo()
    assert not hasattr(sdk, "fresh")
    with contextlib.suppress(AttributeError):
        put.undo()
