"""Whose call it is: `attribution(...)`, `task(...)` and `meter()`, carried in one context variable.

A `Scope` is immutable and complete, so a call reads it once, at its start, and whatever happens to it later (a stream
read in another thread, a scope that ends first) is still charged where it was made. Threads and tasks that copy their
context (`asyncio.create_task`, `asyncio.to_thread`, `contextvars.copy_context().run`) inherit the scope.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.process.native import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self, TypeVar

    from tokenguard.call.task_span import TaskSpan
    from tokenguard.facts.record import AttributeValue, CallRecord, TaskRecord

    F = TypeVar("F", bound=Callable[..., Any])
    Stepped = Generator[Any, Any, Any]
    AsyncStepped = AsyncGenerator[Any, Any]
else:
    Stepped, AsyncStepped = Generator, AsyncGenerator


class Scope(NamedTuple):
    """What the calls made here have in common."""

    attribution: Mapping[str, str] = {}
    attributes: Mapping[str, AttributeValue] = {}
    """`attribution`, and the task's name, as span attributes."""
    meters: tuple[Measurement, ...] = ()

    @property
    def run(self) -> str:
        """The run of the innermost task; empty outside of any."""
        return str(self.attributes.get(names.TASK_RUN, ""))

    def attributed(self, keys: Mapping[str, object]) -> Scope:
        """This scope with more attribution: a value of `None` takes the key away."""
        merged = {k: str(v) for k, v in {**self.attribution, **keys}.items() if v is not None}
        attributes: dict[str, AttributeValue] = {names.attribution_attribute(k): v for k, v in merged.items()}
        attributes |= {name: self.attributes[name] for name in (names.TASK, names.TASK_RUN) if name in self.attributes}
        return self._replace(attribution=merged, attributes=attributes)


_scope: ContextVar[Scope] = ContextVar("tokenguard_scope", default=Scope())  # noqa: B039 - it is immutable
current: Callable[[], Scope] = _scope.get


class Hooks:
    """Who hears of what happens in this process. One object, which all share; `None` where nobody wants to know."""

    __slots__ = ("on_call", "on_run_end", "on_task_end")

    def __init__(self) -> None:
        self.on_call: Callable[[Any, Any, Any], Any] | None = None
        """Sees every call begin: the `Call`, the `Settling` that will end it, its `Guard` or `None`. Run in the call's
        context, it may add a measurement to its scope, and returns the guard to ask. The pytest plugin sets it."""
        self.on_task_end: Callable[[TaskRecord], None] | None = None
        """Receives finished tasks; `install()` sets it."""
        self.on_run_end: Callable[[str], None] | None = None
        """Hears which run of a task has ended, by its `task.run`; never raises. `install()` sets it."""


hooks: Final = Hooks()


class _Scoped:
    """Something that calls can be made in: with `with`, with `async with`, or as a decorator of any function."""

    _stack: tuple[tuple[Scope, Scope], ...] = ()

    def _extend(self, outer: Scope) -> Scope:
        """The scope inside, given the one outside."""
        raise NotImplementedError

    def _fresh(self) -> Self:
        """A new one like this, for one call of a decorated function."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Called once, before the scope is entered."""

    def _end(self, error: BaseException | None) -> None:
        """Called once, when all is over."""

    def _push(self) -> None:
        outer = _scope.get()
        inner = self._extend(outer)
        self._stack = (*self._stack, (outer, inner))
        _scope.set(inner)

    def _pop(self) -> None:
        *rest, (outer, inner) = self._stack
        self._stack = tuple(rest)
        # Not `ContextVar.reset`: a generator may be closed from another context, where the token is an error. There
        # the scope is not ours to restore.
        if _scope.get() is inner:
            _scope.set(outer)

    def __enter__(self) -> Self:
        self._begin()
        self._push()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._pop()
        self._end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Run every call of `function` in this scope; a generator is in it only while its own code runs."""
        import inspect

        fresh = self._fresh
        wrapper: Callable[..., Any]
        if inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with fresh():
                    return await function(*args, **kwargs)

        elif inspect.isasyncgenfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return _AsyncSteps(function(*args, **kwargs), fresh())

        elif inspect.isgeneratorfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return (yield from _Steps(function(*args, **kwargs), fresh()))

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with fresh():
                    return function(*args, **kwargs)

        wrapped: Any = functools.wraps(function)(wrapper)
        scoped: F = wrapped
        return scoped


class _Steps(Stepped):
    """A generator whose every step runs in a scope, while its consumer stays outside."""

    def __init__(self, inner: Generator[Any, Any, Any], scoped: _Scoped) -> None:
        self._inner = inner
        self._scoped = scoped
        scoped._begin()

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        self._scoped._push()
        try:
            return step(*args)
        except BaseException as error:
            self._scoped._end(None if isinstance(error, StopIteration | GeneratorExit) else error)
            raise
        finally:
            self._scoped._pop()

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)


class _AsyncSteps(AsyncStepped):
    """`_Steps` for asynchronous generators."""

    def __init__(self, inner: AsyncGenerator[Any, Any], scoped: _Scoped) -> None:
        self._inner = inner
        self._scoped = scoped
        scoped._begin()

    async def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        self._scoped._push()
        try:
            return await step(*args)
        except BaseException as error:
            self._scoped._end(None if isinstance(error, StopAsyncIteration | GeneratorExit) else error)
            raise
        finally:
            self._scoped._pop()

    async def asend(self, value: Any) -> Any:
        return await self._step(self._inner.asend, value)

    async def athrow(self, *error: Any) -> Any:
        return await self._step(self._inner.athrow, *error)


class attribution(_Scoped):  # noqa: N801 - used as a function
    """Charge the calls made inside to a tenant, a feature, a route, a prompt version, a team, a user, or any other key.

    Context manager and decorator, sync and async; nests, the inner value wins; `None` takes an outer key away. Values
    become strings. In a generator function, use it as the decorator: a `with` around a `yield` is visible to the
    consumer between the steps, as context variables are (PEP 568).

    >>> with attribution(tenant="t1", feature="support"):
    ...     ...
    """

    def __init__(self, **keys: object) -> None:
        self._keys = keys

    def _extend(self, outer: Scope) -> Scope:
        return outer.attributed(self._keys)

    def _fresh(self) -> attribution:
        return attribution(**self._keys)


class Measurement(_Scoped):
    """What the calls made inside amounted to, in this context and those copied from it. Made by `meter()`.

    Sums over the calls finished so far; a stream counts when it has ended. Unknown counts and costs add nothing:
    `unpriced` says how many calls have no known cost.
    """

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        """The finished calls, in the order they finished."""
        self._lock = RLock()  # the collector may end a stream while its own thread holds it
        self._usage = Usage()
        self.cost_usd: float = 0.0
        self.retries: int = 0
        """Requests that were sent again, by the SDK or by the application."""
        self.tool_steps: int = 0
        """Tool rounds: calls that carried tool results back to the model."""
        self.unpriced: int = 0

    def _extend(self, outer: Scope) -> Scope:
        return outer._replace(meters=(*outer.meters, self))

    def _fresh(self) -> Measurement:
        return Measurement()

    def add(self, record: CallRecord) -> None:
        """Count a finished call."""
        attributes = record.attributes
        with self._lock:
            self.records.append(record)
            while record.usage is not None:
                before = self._usage
                after = before.plus(record.usage)
                if self._usage is before:  # else the collector has ended a stream meanwhile
                    self._usage = after
                    break
            if record.cost_usd is not None:
                self.cost_usd += record.cost_usd
            elif record.outcome != names.BLOCKED and record.usage is not None:
                self.unpriced += 1
            resends = attributes.get(names.RESEND_COUNT, 0)
            self.retries += (resends if isinstance(resends, int) else 0) + (names.RETRY_ATTEMPT in attributes)
            self.tool_steps += names.TOOL_STEPS in attributes

    @property
    def calls(self) -> int:
        """How many calls have finished."""
        return len(self.records)

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached ones included."""
        return self._usage.input or 0

    @property
    def output_tokens(self) -> int:
        """All output tokens, reasoning included."""
        return self._usage.output or 0

    @property
    def cache_read_tokens(self) -> int:
        """Input tokens that were read from the prompt cache."""
        return self._usage.cache_read or 0

    @property
    def cache_write_tokens(self) -> int:
        """Input tokens that were written to the prompt cache."""
        return self._usage.cache_write or 0


def meter() -> Measurement:
    """Measure the calls made inside: `with tokenguard.meter() as m: ...`, then `m.cost_usd`, `m.calls` and the rest."""
    return Measurement()


class task(_Scoped):  # noqa: N801 - used as a function
    """One unit of business work, so that its cost per success is known.

    An exception makes it a failure; `fail()` and `succeed()` say so by hand. Where TokenGuard is installed it is also a
    span, above those of its calls, with what they came to (`tokenguard.task.*`).

    >>> with task("resolve_ticket") as t:
    ...     ...
    """

    def __init__(self, name: str, **keys: object) -> None:
        self.name: str = name
        self._keys = keys
        self.meter: Measurement = Measurement()
        """What its calls amounted to."""
        self.outcome: str | None = None
        self.run: str = ""
        """Tells this run from all others: 16 hex digits."""
        self._span: TaskSpan | None = None

    def succeed(self) -> None:
        """Call it a success, whatever exception follows."""
        self.outcome = names.OK

    def fail(self) -> None:
        """Call it a failure, though nothing was raised."""
        self.outcome = names.ERROR

    def _fresh(self) -> task:
        return task(self.name, **self._keys)

    def _begin(self) -> None:
        self._start_ns = time.time_ns()
        self._scope = Scope()
        self.run = os.urandom(8).hex()
        if hooks.on_task_end is not None:
            from tokenguard.call.task_span import TaskSpan

            self._span = TaskSpan(self.name, self._start_ns)

    def _push(self) -> None:
        super()._push()
        if self._span is not None:
            self._span.enter()

    def _pop(self) -> None:
        if self._span is not None:
            self._span.leave(ours=_scope.get() is self._stack[-1][1])
        super()._pop()

    def _extend(self, outer: Scope) -> Scope:
        inner = outer.attributed(self._keys)
        self._scope = inner._replace(
            attributes={**inner.attributes, names.TASK: self.name, names.TASK_RUN: self.run},
            meters=(*inner.meters, self.meter),
        )
        return self._scope

    def _end(self, error: BaseException | None) -> None:
        outcome = self.outcome or (names.OK if error is None else names.ERROR)
        if self._span is not None:
            self._span.end(outcome, {**self._scope.attributes, **self._sums()})
        if hooks.on_run_end is not None:
            hooks.on_run_end(self.run)
        if hooks.on_task_end is not None:
            from tokenguard.facts.record import TaskRecord

            hooks.on_task_end(
                TaskRecord(
                    name=self.name,
                    start_ns=self._start_ns,
                    duration_ns=time.time_ns() - self._start_ns,
                    outcome=outcome,
                    cost_usd=self.meter.cost_usd,
                    calls=self.meter.calls,
                    attribution=self._scope.attribution,
                )
            )

    def _sums(self) -> dict[str, AttributeValue]:
        return {
            names.TASK: self.name,
            names.TASK_RUN: self.run,
            names.TASK_COST: self.meter.cost_usd,
            names.TASK_CALLS: self.meter.calls,
            names.TASK_INPUT_TOKENS: self.meter.input_tokens,
            names.TASK_OUTPUT_TOKENS: self.meter.output_tokens,
        }
