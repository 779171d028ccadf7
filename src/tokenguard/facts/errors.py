"""What TokenGuard raises. Only these, and only on purpose: measuring never raises.

```text
TokenGuardError
├── PolicyError              the policy file is wrong: file, line, key and the fix
├── BatchError               a whole batch failed: the provider could not read its input
└── GuardrailViolation       a call was refused before it was sent
    ├── LimitExceeded        a [[limit]]: one call, or one run of an agent, would be too much
    ├── BudgetExceeded       a [[budget]]: the window's money or tokens are spent or reserved
    └── CircuitOpen          the breaker of this provider and model is open
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class TokenGuardError(Exception):
    """The root: catch this to catch everything TokenGuard raises."""


class PolicyError(TokenGuardError):
    """A policy that cannot be used. The message names the file, the line, the key and the fix."""


class BatchError(TokenGuardError):
    """A batch that the provider failed as a whole; `id` is the batch's. What came of single lines is in the results."""

    def __init__(self, message: str, id: str = "") -> None:  # noqa: A002 - the provider's word
        super().__init__(message)
        self.id = id


class GuardrailViolation(TokenGuardError):
    """A call that the policy refused. Nothing was sent.

    `rule` is the limit's or budget's name, `limit` its value and `observed` what the call would have made of it, in
    the unit the rule is written in (tokens, USD, steps or retries); `attribution` is whose call it was. Of a budget,
    `remaining` is what it has left in that unit, and `resets_at` when its window ends (UTC); `None` where that is not
    known, or never.
    """

    def __init__(
        self,
        message: str,
        *,
        rule: str,
        limit: float | None = None,
        observed: float | None = None,
        attribution: Mapping[str, str] | None = None,
        remaining: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.rule: str = rule
        self.limit: float | None = limit
        self.observed: float | None = observed
        self.attribution: dict[str, str] = dict(attribution or {})
        self.remaining: float | None = remaining
        self.resets_at: datetime | None = resets_at

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not survive the default pickling
        return (_rebuild, (type(self), self.args, self.__dict__))


class LimitExceeded(GuardrailViolation):
    """One call, or one agent run, would pass a `[[limit]]`."""


class BudgetExceeded(GuardrailViolation):
    """The call's worst case does not fit into what a `[[budget]]` has left."""


class CircuitOpen(GuardrailViolation):
    """The provider and model failed too often of late; calls are refused until a probe succeeds."""


def _rebuild(cls: type[GuardrailViolation], args: tuple[object, ...], state: dict[str, object]) -> GuardrailViolation:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


for _public in (
    *(TokenGuardError, PolicyError, BatchError),
    *(GuardrailViolation, LimitExceeded, BudgetExceeded, CircuitOpen),
):
    _public.__module__ = "tokenguard"  # as it is imported: tracebacks and `error.type` say what a user writes
