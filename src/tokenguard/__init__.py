"""TokenGuard: know what every LLM call costs, and stop the ones that cost too much.

```python
import tokenguard

tokenguard.install()  # or no code at all: `tokenguard-instrument python app.py`

with tokenguard.attribution(tenant="t1", feature="support"), tokenguard.meter() as m:
    ...  # calls through openai, anthropic, google-genai, boto3 or any other SDK in docs/providers.md
print(m.cost_usd, m.input_tokens, m.cache_read_tokens)
```

What is named here is the API; everything else may change. The names are imported when they are used: pytest imports
this package at every start, for its plugin. PYTEST_DONT_REWRITE: there is nothing here to assert.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tokenguard.batches.helper import batch
    from tokenguard.call.scope import attribution, meter, task
    from tokenguard.facts.errors import (
        BatchError,
        BudgetExceeded,
        CircuitOpen,
        GuardrailViolation,
        LimitExceeded,
        PolicyError,
        TokenGuardError,
    )
    from tokenguard.installation.runtime import install, uninstall
    from tokenguard.installation.standing import remaining, spent

__all__ = [
    "BatchError",
    "BudgetExceeded",
    "CircuitOpen",
    "GuardrailViolation",
    "LimitExceeded",
    "PolicyError",
    "TokenGuardError",
    "attribution",
    "batch",
    "install",
    "meter",
    "remaining",
    "spent",
    "task",
    "uninstall",
]
__version__ = "0.2.0"

_MODULES = {
    **dict.fromkeys(("install", "uninstall"), "installation.runtime"),
    **dict.fromkeys(("remaining", "spent"), "installation.standing"),
    **dict.fromkeys(("attribution", "meter", "task"), "call.scope"),
    "batch": "batches.helper",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'facts.errors')}"), name)
    return value
