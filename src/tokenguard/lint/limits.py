"""The policy's output limits, as far as a linter can know that they hold for a call.

A `[[limit]]` holds where every key of its `when` is visible in the source: the model and operation in the call, tenant,
feature or route in an enclosing `with tokenguard.attribution(...)` or its decorator form. A key that cannot be seen
makes the limit not hold.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tokenguard.lint.config import OutputCap

if TYPE_CHECKING:
    from tokenguard.lint.facts import Facts

_ROOTS = {"openai": "openai", "anthropic": "anthropic", "groq": "groq", "google": "gcp.gemini",
          "mistralai": "mistral_ai", "cohere": "cohere", "boto3": "aws.bedrock"}  # fmt: skip


def limit_for(facts: Facts, call: ast.Call, limits: tuple[OutputCap, ...]) -> OutputCap | None:
    """The tightest of `limits` known to hold for `call`."""
    seen = _visible(facts, call)
    holding = [limit for limit in limits if all(_matches(seen.get(k), globs) for k, globs in limit.when.items())]
    return min(holding, key=lambda limit: limit.max_output_tokens, default=None)


def _matches(value: str | None, globs: tuple[str, ...]) -> bool:
    return globs == ("*",) or (value is not None and any(fnmatchcase(value, glob) for glob in globs))


def _visible(facts: Facts, call: ast.Call) -> dict[str, str]:
    seen: dict[str, str] = {}
    arguments = facts.arguments(call).known
    for name in ("model", "modelId", "model_name", "id"):
        model = facts.constant(arguments.get(name))
        if isinstance(model, str):
            seen.setdefault("model", model)
    root = facts.names.path(call.func).partition(".")[0]
    if root in _ROOTS:
        seen["provider"] = _ROOTS[root]
    for node in facts.module.ancestors(call):
        places: list[ast.expr] = []
        if isinstance(node, ast.With | ast.AsyncWith):
            places = [item.context_expr for item in node.items]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            places = node.decorator_list
        for place in places:
            if isinstance(place, ast.Call) and facts.names.path(place.func) == "tokenguard.attribution":
                for keyword in place.keywords:
                    value = facts.constant(keyword.value)
                    if keyword.arg and isinstance(value, str):
                        seen.setdefault(keyword.arg, value)
    return seen
