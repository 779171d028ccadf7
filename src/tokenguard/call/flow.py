"""The flow of a call: a generator that yields what must happen outside of it, and the two drivers that run it.

Written once, it serves synchronous and asynchronous callers; httpx's `auth_flow` is the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol, Union

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.threads import Pool, in_event_loop, landed

if TYPE_CHECKING:
    from concurrent.futures import Future

SEND: Final = "send"
"""What the flow yields where the SDK's own send belongs."""


class Runs(Protocol):
    """Who runs an operation of its own without blocking an event loop: a ledger, a store of answers."""

    async def run(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """What comes of the operation."""
        ...


Step = Union[str, "tuple[Runs | None, Callable[..., Any], tuple[Any, ...]]", "Future[Any]"]
"""What a flow yields: `SEND`, somebody's operation with its arguments (nobody's: other long work), or an answer that
somebody else is getting."""

_long_work: Final = Pool("tokenguard-work", 1)


class Answer(NamedTuple):
    """What came of a step that the flow asked for."""

    value: Any = None
    error: BaseException | None = None

    def copied(self) -> Answer:
        """The same answer for another caller: nothing that one of them changes is the other's."""
        import copy

        error = self.error
        if error is None:
            return Answer(copy.deepcopy(self.value))
        # Not by `copy`: the exceptions of many SDKs cannot be made from their own `args` alone.
        twin = type(error).__new__(type(error), *error.args)
        twin.args = error.args
        twin.__dict__.update(error.__dict__)
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        return Answer(error=twin.with_traceback(error.__traceback__))


Flow = Generator[Step, Answer, Answer]
_new: Final = tuple.__new__


def drive(flow: Flow, send: Callable[[], Any]) -> Any:
    """Run a flow around a synchronous send; returns its value or raises its error."""
    try:
        step = next(flow)
        while True:
            try:
                answer = _new(Answer, (send() if step is SEND else _done(step), None))
            except BaseException as error:
                answer = Answer(error=error)
            try:
                step = flow.send(answer)
            except StopIteration as end:
                answer = end.value
                break
    except BaseException as error:
        flow.throw(error)  # a signal handler raised it here: the flow is to know. One that has ended raises it, too
        raise
    if answer.error is None:
        return answer.value
    try:
        raise answer.error
    finally:
        del answer  # or the error's traceback would keep this frame, and this frame the error


async def drive_async(flow: Flow, send: Callable[[], Awaitable[Any]]) -> Any:
    """`drive` for a coroutine."""
    try:
        step = next(flow)
        while True:
            try:
                answer = _new(Answer, (await (send() if step is SEND else _done_async(step)), None))
            except BaseException as error:
                answer = Answer(error=error)
            try:
                step = flow.send(answer)
            except StopIteration as end:
                answer = end.value
                break
    except BaseException as error:
        flow.throw(error)
        raise
    if answer.error is None:
        return answer.value
    try:
        raise answer.error
    finally:
        del answer


def _done(step: Any) -> Any:
    if type(step) is tuple:
        _, operation, arguments = step
        return operation(*arguments)
    if in_event_loop():
        return None  # who leads may need this very thread to go on: then each goes by itself
    return step.result()


async def _done_async(step: Any) -> Any:
    if type(step) is tuple:
        owner, operation, arguments = step
        if owner is not None:
            return await owner.run(operation, *arguments)
        step = _long_work.submit(operation, *arguments)
    return await landed(step, shared=True)  # a follower that is cancelled must not cancel the answer of the others
