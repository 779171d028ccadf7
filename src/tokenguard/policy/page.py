"""The policy for people: the effective policy as TOML, and the reference page. Both are derived from the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, Final

from tokenguard.policy.grammar import Key, When, rows
from tokenguard.policy.layers import label
from tokenguard.policy.model import Policy
from tokenguard.prices.overrides import OVERRIDE_KEYS

HEAD: Final = """# The policy file

`tokenguard.toml`, or the same tables under `[tool.tokenguard]` in `pyproject.toml`. TokenGuard uses the
nearest one, from the working directory upwards. If the platform sets a floor (below), the two are combined.
`tokenguard policy check` validates the policy. `tokenguard policy show` prints it with every default, and where each
value comes from. Unknown keys are errors.

A glob (`*`, `?`, `[abc]`) matches the whole value and is case-sensitive. `when` and `per` may name `provider`, `model`,
`operation` (OpenTelemetry's values, such as `openai`, `gpt-4o`, `chat`), `tenant`, `feature`, `route`,
`prompt_version`, `team`, `user`, and the keys that `[attribution]` names. A value that a call lacks is the empty text:
`*` matches it, `?*` requires a value.

Every rule that matches a call applies, in the order of the file.
"""

BUDGETS: Final = """## How a budget is kept

Before a call is sent, TokenGuard reserves its worst case (input plus output cap, at the model's rates) in all budgets
that apply. This is one atomic step: either all budgets have room, or the call is refused. Afterwards the real cost is
charged and the rest is released. So `spent + reserved` never exceeds a limit, however many threads, tasks, processes or
machines share the ledger, as long as no call costs more than its worst case. If one does, its real cost is recorded.

- The worst case includes every answer that is billed: `n`, `best_of`, each of several prompts. Without an output
  cap, TokenGuard reserves 4,096 tokens for each answer; a longer answer can exceed the budget, so set a cap. If a
  provider bills reasoning beyond the cap, the next calls of that model reserve it too.
- A call without reported usage is not free. If the provider does not report the output, it is estimated from the
  answer's text. If there is no text (a read time-out, a cancelled call, a stream closed unread, an answer that cannot
  be parsed), the reservation is charged. The record is `estimated`, with a basis. An attempt that timed out may be
  billed, so it is charged in addition to its retry. A request that the provider refuses, with any 4xx or 5xx, costs
  nothing.
- Before the SDK retries after such an attempt, the worst case is reserved again. If it does not fit, nothing is sent,
  and the call raises `BudgetExceeded`. This holds for every SDK whose retries TokenGuard sees: openai, anthropic and
  similar SDKs, boto3, google-genai, mistralai, cohere. What gRPC sends again inside xai-sdk, or a proxy on its own, is
  not seen: only what they report is charged.
- A call is charged to the window in which it was reserved.
- If a process dies, its reservations stay until the lease ends. Then they are charged in full and reported as
  `orphaned`, a part of `spent`. If the call is settled later, its real cost replaces that.
- With `slice = 0.01` a process leases a hundredth of a limit at a time, and spends it without asking the ledger for
  every call. A slice counts as reserved until it is returned: when it is used up, after `slice_idle` without use, after
  `slice_lease`, or at the end of the process. So alerts come later, and near the limit one process may be refused
  while another still has a slice.
- `limit_calls` counts every request before it is sent, including the SDK's retries and requests that the provider
  refuses. A retry past the limit is not sent, and the call raises `BudgetExceeded`.
  Calls that a rule refuses are not counted. To limit money as well, write another `[[budget]]`.
- `per = ["task_run"]` gives each run of a `tokenguard.task(...)` its own account; with nested tasks, the innermost run
  counts. The account is removed when the task ends, or after a week if the end is never seen (`kill -9`). It has no
  series in the metrics.
- `tokenguard.remaining()` and `tokenguard.spent()` return what is left and what is spent in the budgets that apply at
  this point of the program, so that it can stop by itself. The unit is USD, or `unit="tokens"`, `unit="calls"`. Of
  several budgets the tightest one counts, unless you name one.
- `memory:` counts in each process separately. A forked worker starts with what was spent before the fork.
- `on_loss = "allow"`: while the ledger cannot be reached, each process counts separately, against the same limits and
  from the last balance that it saw. All processes together can then exceed a limit. Their spend is charged when
  the ledger is back. A thread tries to reach it, after a second at first, then at growing intervals of up to 30 s.
  `"block"` refuses the calls to which a budget with `then = "block"` or `"downgrade"` applies.
- TokenGuard detects a ledger file that is deleted or replaced while it is in use, and continues with the current file.
  Redis needs `appendonly yes` and `maxmemory-policy noeviction`; a Redis that comes back without its data is detected,
  too. `rediss://` is TLS. All keys are in one slot: in a cluster, name the node that has it. Redirects to other nodes,
  and Sentinel, are not followed. If a server cannot do what is needed, or may evict keys, the log says so, and so does
  `tokenguard doctor`.
- An alert is sent once per threshold and window, by the process that crosses it, and once for the first call that
  is refused. A webhook is retried after 1, 5 and 25 s. With `TOKENGUARD_WEBHOOK_SECRET` in the environment it has
  the signature headers of [Standard Webhooks](https://www.standardwebhooks.com). After a reset
  (`tokenguard budgets --reset NAME`), thresholds alert again.
"""

LAYERS: Final = """## A floor, and what a nearer file may say

`/etc/tokenguard/tokenguard.toml`, and the file that the environment variable `TOKENGUARD_POLICY` names, are a floor. A
nearer file (upwards from the working directory, or given to `tokenguard.install`) can tighten it and never loosen it.

- Its limits, budgets and breakers are added to the floor's. Every rule that matches a call applies, so additional rules
  can only tighten. A rule with the name of a floor's rule is ignored.
- `[[cache]]`, `[[route]]` and `[[share]]` can only be set by the floor, because they keep answers, give one call
  another call's answer, or send it to another model. `may_override = ["cache"]` lets a nearer file set its own.
- `mode`, `on_internal_error` and `unpriced` are used if they are stricter.
- Only the floor can set `[prices]`, `[hosts]` and what names code (`[alerts] callback`). The same holds for `[ledger]`
  if the floor has budgets or names one, and for `[answers]` if it has a cache or names it.
- For all other keys, the floor's value overrides the nearer file's. If the floor sets none, the nearer file's is used.
  Lists and tables of the two are merged. `[lint]` and `[whatif]` are the nearer file's.
- `may_override = ["prices", "ledger.*", "alerts.callback", "tenant per day"]` in the floor names keys and rules that a
  nearer file may override.

Ignored settings are in the log. `tokenguard policy check` and `show` print them with file and line. Without a floor,
the nearest file is the whole policy. A ledger's relative path starts at the file that names it. So a floor should use
an absolute path (`sqlite:////var/lib/tokenguard/ledger.db`) that its programs can write to.
"""

EXAMPLE: Final = """## An example

```toml
mode = "enforce"

[[limit]]
name = "support answers"
when = { feature = "support_*", model = ["gpt-4o*", "claude-*"] }
max_output_tokens = 800
then = "clamp"

[[budget]]
name = "tenant per day"
per = ["tenant"]
window = "day"
timezone = "Europe/Berlin"
limit_usd = 20.0
alert_at = [0.5, 0.8, 1.0]

[[budget]]
name = "calls per minute"
per = ["tenant"]
window = "minute"
limit_calls = 60

[[budget]]
name = "one agent run"
per = ["task_run"]
when = { feature = "agent_*" }
limit_usd = 0.50

[[breaker]]
name = "provider down"
failures = 5
cooldown = "30s"

[[share]]
name = "same question at once"
when = { feature = "faq", operation = "chat" }

[alerts]
webhook = "https://hooks.example.com/budget"

[ledger]
url = "redis://localhost:6379/0"
slice = 0.01

[prices]
"azure/my-gpt4o-prod" = "openai/gpt-4o"
"openai/ft:gpt-4.1:*" = { input = 3.0, output = 12.0, cache_read = 0.75 }
```
"""


def render(policy: Policy, *, origins: bool = False) -> str:
    """The effective policy as TOML, defaults included. Read back, it is the same policy, but for masked secrets.

    With `origins`, a comment says where each value is from that a file states.
    """
    places = policy.origins if origins else {}

    def from_(line: str, key: str) -> str:
        return f"{line}  # {places[key]}" if key in places else line

    top, tables = [], []
    for row in rows(Policy):
        value = getattr(policy, row.field)
        if row.many:
            tables += [
                "\n".join([from_(f"[[{row.toml}]]", label(row, rule)), *_pairs(rule).values()]) for rule in value
            ]
        elif row.table is not None and row.kind is None:
            pairs = [from_(line, f"{row.toml}.{key}") for key, line in _pairs(value).items()]
            tables.append("\n".join([f"[{row.toml}]", *pairs]))
        elif isinstance(value, Mapping):
            pairs = [f"{_key(key)} = {_toml(item)}" for key, item in value.items()]
            tables += ["\n".join([from_(f"[{row.toml}]", row.toml), *pairs])] if pairs else []
        else:
            top.append(from_(f"{row.toml} = {_toml(value)}", row.toml))
    return "\n\n".join(["\n".join(top), *tables]) + "\n"


def _pairs(table: Any) -> dict[str, str]:
    """The lines of a table by key."""
    out = {}
    for row in rows(type(table)):
        value = getattr(table, row.field)
        if value is not None:
            masked = row.kind.mask(value) if row.kind and isinstance(value, str) else value
            out[row.toml] = f"{row.toml} = {_toml(masked)}"
    return out


def _toml(value: Any) -> str:
    """A value as TOML. JSON's strings, numbers and booleans are TOML's too."""
    if isinstance(value, When):
        value = {key: globs[0] if len(globs) == 1 else list(globs) for key, globs in value.patterns}
    elif hasattr(type(value), "__dataclass_fields__"):
        value = {row.toml: getattr(value, row.field) for row in rows(type(value))}
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool | str | int):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return str(value).lower() if isinstance(value, float) else str(value)  # floats, and the dates that [lint] may hold


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


FEES = """\
Searches are in USD per million searches: `"google/gemini-*" = { web_searches = 14000 }` is $0.014 each. A table with
only searches is added to the price that applies otherwise. With it, costs with searches are `exact`. Without it,
Google's are `estimated`, as if the free quota were used up.

A `factor` multiplies the price that applies otherwise, but for searches: `"azure/eu-*" = { factor = 1.1 }` is for
Azure's deployments that keep to a data zone or a region. Which do, Azure's answers do not say: costs are those of
Global deployments, `estimated` as `assumed_global`, until a factor is given. `"azure/*" = { factor = 1 }` says that all
are Global.
"""


def reference() -> str:
    """The page `docs/policy.md`."""
    top = [row for row in rows(Policy) if row.table is None or row.kind is not None]
    parts = [HEAD, "## Top of the file\n", _rows_table(top)]
    for row in rows(Policy):
        if row.table is None:
            continue
        head = f"[[{row.toml}]]" if row.many else f"{row.toml} = {{ ... }}" if row.kind else f"[{row.toml}]"
        says = (row.table.__doc__ or "").strip()
        parts += [f"## `{head}`\n", says + "\n", _rows_table(rows(row.table))]
    rates = ", ".join(f"`{rate}`" for rate in OVERRIDE_KEYS)
    parts += [f"Rates under `[prices]`, in USD per million tokens: {rates}.\n", FEES, BUDGETS, LAYERS, EXAMPLE]
    return "\n".join(parts)


def _rows_table(grammar: list[Key] | tuple[Key, ...]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in grammar:
        kind = row.kind.words if row.kind else "table"
        default = "required" if row.default is MISSING else "" if row.default is None else f"`{_toml(row.default)}`"
        lines.append(f"| `{row.toml}` | {kind} | {default} | {row.says} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - how docs/policy.md is written
