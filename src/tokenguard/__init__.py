"""TokenGuard: know what every LLM call costs, and stop the ones that cost too much.

```python
import tokenguard

tokenguard.install()  # or no code at all: `tokenguard-instrument python app.py`

with tokenguard.attribution(tenant="t1", feature="support"), tokenguard.meter() as m:
    ...  # calls through openai, anthropic, groq, together or cerebras
print(m.cost_usd, m.input_tokens, m.cache_read_tokens)
```

What is named here is the API; everything else may change.
"""

from __future__ import annotations

from tokenguard.errors import (
    BudgetExceeded,
    CircuitOpen,
    GuardrailViolation,
    LimitExceeded,
    PolicyError,
    TokenGuardError,
)
from tokenguard.runtime import install, uninstall
from tokenguard.scope import attribution, meter, task

__all__ = [
    "BudgetExceeded",
    "CircuitOpen",
    "GuardrailViolation",
    "LimitExceeded",
    "PolicyError",
    "TokenGuardError",
    "attribution",
    "install",
    "meter",
    "task",
    "uninstall",
]
__version__ = "0.1.0"
