"""An answer as it came over HTTP, and what a call knows of those that are kept: for the room that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from tokenguard.facts.usage import Usage
    from tokenguard.providers import Reading


class HttpAnswer(NamedTuple):
    """An answer with status 200, as the provider sent it."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    """Encoded as `content-encoding` says, if the headers name one."""


class LookUp(Protocol):
    """What became of looking for a kept answer to a call."""

    answer: HttpAnswer | None
    """The kept answer, to be given in place of the provider's; `None` where the request is sent."""
    listens: bool
    """Whether the provider's answer is wanted, to be kept."""
    served: bool
    """Whether the SDK has got the kept answer."""

    merges: bool
    """Whether only a part of the request is sent, and its answer is to be completed by `merge`."""
    kept_usage: Usage | None
    """What was not used because of that."""

    def merge(self, body: bytes) -> bytes:
        """The whole answer, from the provider's answer to the part that was sent. Raises for what is none."""
        ...

    def begins(
        self, headers: Iterable[tuple[str, str]], *, decoded: bool, over: Callable[[], bool] | None = None
    ) -> None:
        """An answer with status 200 has begun to come in; what came of an earlier attempt is forgotten.

        `decoded` says that its parts are no longer encoded as the headers say, `over` whether all of it was read; where
        nobody can be asked that, `ends` is called.
        """
        ...

    def part(self, data: bytes) -> None:
        """A part of its body."""
        ...

    def ends(self) -> None:
        """That was all of it."""
        ...

    def settle(self, call: Any, reading: Reading, outcome: str) -> None:
        """The call has ended: keep its answer, or put away the one that it was given and could not use."""
        ...

    def forget(self) -> None:
        """The SDK could not use the kept answer: delete it, and have the request sent."""
        ...
