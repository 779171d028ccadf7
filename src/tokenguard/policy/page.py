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
from tokenguard.prices import OVERRIDE_KEYS

HEAD: Final = """# The policy file

`tokenguard.toml`, or the same tables under `[tool.tokenguard]` in `pyproject.toml`. Found upwards from the working
directory, and laid on the floor of the platform, if there is one (below). `tokenguard policy check` validates it,
`tokenguard policy show` prints it with every default filled in, and where each value is from. Unknown keys are errors.

A glob (`*`, `?`, `[abc]`) matches the whole value, and case counts. `when` and `per` may name `provider`, `model`,
`operation` (OpenTelemetry's values, such as `openai`, `gpt-4o`, `chat`), `tenant`, `feature`, `route`,
`prompt_version`, `team`, `user`, and what `[attribution]` names. A value that a call lacks is the empty text: `*`
matches it, `?*` demands one.

Every rule that matches a call applies, in the order of the file.
"""

BUDGETS: Final = """## How a budget is kept

Before a call is sent, its worst case (input plus output cap, at the model's rates) is reserved in all budgets that
apply, in one atomic step: in all of them, or in none, and then the call is refused. Afterwards what it really cost is
charged and the rest given back. So `spent + reserved` never passes a limit, however many threads, tasks, processes or
machines share the ledger, as long as no call costs more than its worst case; if one does, it is recorded as it was.

- The worst case is of every answer that is billed: of `n`, of `best_of`, of each of several prompts. Without an output
  cap, 4,096 tokens are reserved for each: only a cap makes the promise a promise. Where a provider is seen to bill
  reasoning beside the cap, the next calls of that model reserve it too.
- What brings no usage is not free. Output that the provider does not report is estimated by the text of its answer;
  where there is none (a read time-out, a cancelled call, a stream closed unread, an answer that cannot be read), what
  was reserved is charged. The record says so: `estimated`, with a basis. An attempt that timed out, and may be billed,
  is charged beside the one that repeated it. What the provider refuses, with any 4xx or 5xx, is charged nothing.
- Before the SDK sends again after such an attempt, the worst case is reserved once more. Where there is no room for it,
  nothing is sent: the call raises `BudgetExceeded`, from the time-out. So it is with openai, anthropic and their kin,
  and with boto3. Other SDKs send again after a time-out only if a program sets it; their attempts are charged when the
  call has ended, and a limit can be passed by one worst case for each.
- A call is charged to the window in which it was reserved.
- If a process dies, what it had reserved stays so until the lease ends. Then it is charged in full and stated as
  `orphaned`, a part of `spent`. If the call is settled after all, the real cost replaces that.
- `slice = 0.01` lets a process lease a hundredth of a limit at a time and spend it without asking the ledger for every
  call. A slice counts as reserved until it is returned: used up, idle for `slice_idle`, after `slice_lease`, or at the
  end of the process. So alerts come later, and near the limit one process may be refused what another has leased.
- `limit_calls` counts every request that goes out, the SDK's own resends and what the provider refuses included; what a
  rule refuses is not counted. It is a budget of its own: write another `[[budget]]` beside it for money.
- `per = ["task_run"]` gives each run of a `tokenguard.task(...)` an account of its own, of the innermost one where they
  nest. It is forgotten when the task ends, or after a week where that is never seen (`kill -9`), and has no series in
  the metrics.
- `tokenguard.remaining()` and `tokenguard.spent()` tell a program what the budgets leave that apply where it asks, so
  that it can stop by itself: in USD, or `unit="tokens"`, `unit="calls"`; of all budgets the tightest, or the named one.
- `memory:` counts in each process on its own; a forked worker starts with what was spent before the fork.
- `on_loss = "allow"`: while the ledger cannot be reached, each process counts on its own, against the same limits and
  from the last balance that it has seen, so that all of them together can pass a limit; what they spent is charged when
  the ledger is back. A thread looks for it, after a second at first and ever more seldom, up to every 30 s.
  `"block"` refuses the calls that a budget with `then = "block"` or `"downgrade"` applies to.
- A ledger file that is deleted or replaced while it is in use is noticed; budgets go on with the file that is there.
  Redis needs `appendonly yes` and `maxmemory-policy noeviction`; one that comes back without its data is noticed too.
  `rediss://` is TLS. All its keys are in one slot: of a cluster, name the node that has it; other nodes, and Sentinel,
  are not followed. What a server cannot do, or would evict, is in the log, and `tokenguard doctor` says it.
- An alert goes out once per threshold and window, from whichever process crosses it, and once for the first call that
  is refused. A webhook is tried again after 1, 5 and 25 s; with `TOKENGUARD_WEBHOOK_SECRET` in the environment it is
  signed by the headers of [Standard Webhooks](https://www.standardwebhooks.com). After a reset
  (`tokenguard budgets --reset NAME`) thresholds are news again.
"""

LAYERS: Final = """## A floor, and what a nearer file may say

`/etc/tokenguard/tokenguard.toml`, and the file that the environment variable `TOKENGUARD_POLICY` names, are a floor: a
nearer file (upwards from the working directory, or given to `tokenguard.install`) may tighten it and never loosen it.

- Its limits, budgets and breakers are added to the floor's. Each that matches a call applies, so more of them only
  tighten. One with the name of a rule of the floor is not taken.
- `[[cache]]`, `[[route]]` and `[[share]]` are the floor's alone: they keep answers, give one call another's, or send
  it to another model. `may_override = ["cache"]` allows a nearer file its own.
- `mode`, `on_internal_error` and `unpriced` are taken where they are stricter.
- `[prices]`, `[hosts]`, what names code (`[alerts] callback`), `[ledger]` where the floor has budgets or names one, and
  `[answers]` where it has a cache or names it, are the floor's alone.
- Of all else, the floor's word goes before, and where it says nothing the nearer file's counts. Lists and tables of the
  two are put together. `[lint]` and `[whatif]` are the nearer file's.
- `may_override = ["prices", "ledger.*", "alerts.callback", "tenant per day"]` in the floor names keys and rules that a
  nearer file may say otherwise.

What is not taken is in the log, and `tokenguard policy check` and `show` say it with file and line. Without a floor the
nearest file is the policy, whole. A ledger's relative path starts at the file that names it: a floor should name it by
an absolute one (`sqlite:////var/lib/tokenguard/ledger.db`) that its programs may write.
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
Searches are in USD per million of them: `"google/gemini-*" = { web_searches = 14000 }` is $0.014 each. A table of
searches alone is laid over the price that holds otherwise; with one, costs with searches are `exact`, and without one
Google's are `estimated`, as if the free quota were used up.
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
